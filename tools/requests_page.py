"""Write `docs/requests.md` and `docs/schemas/` from the models of the code: `python -m tools.requests_page`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from quaymaster.domain.phases import Phase
from quaymaster.domain.requests import MAX_REQUEST_BYTES, EndReply, Reply, RunRequest, Workspace

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "requests.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Told:
    """What people should know of a field beside its schema; `option` is how the command line says it."""

    meaning: str
    example: Any
    option: str = ""


_PLACE = "inputs/01KDYAK3485WB9Z6TED8828X92/01KDYAK348MPJF01XBRKFY3TRS/workspace.tar.gz"
_PHASE = {"name": "plan", "command": ["terraform", "plan", "-out=plan.out"]}
REQUEST: Mapping[str, Told] = {
    "schema": Told("version of this form", 1),
    "kind": Told("what it asks for", "run"),
    "id": Told("the request's own id; the same in a pool is the same run", "deploy-1842", "--id"),
    "pool": Told("name or id of the pool", "build", "--pool"),
    "type": Told("what the run is for; decides its class in the queue", "task", "--type"),
    "stack": Told("the stack that the run belongs to, a label; 64 bytes", "network", "--stack"),
    "command": Told("the command and its arguments; no shell reads them; required unless there are phases",
                    ["make", "deploy"], "-- COMMAND..."),
    "environment": Told("variables of the command", {"TF_LOG": "info"}, "--environment"),
    "phases": Told("what is run one after the other, in place of the one command", [_PHASE]),
    "on_end": Told("commands that are run when the run ends while a worker has it, whatever happened; they see "
                   "`QUAYMASTER_STATE` and `QUAYMASTER_REASON` and have a minute, or the pool's grace if it was ended",
                   [["./notify"]]),
    "auto_confirm": Told("whether no phase needs confirmation, whatever they say", True),
    "image": Told("image of its containers, or of a Fargate task of its own, as the pool allows it; 512 bytes",
                  "alpine:3", "--image"),
    "tool": Told("what its commands are of; decides which image its worker's host gives it if it names none",
                 "terraform", "--tool"),
    "workspace": Told("a packed folder that was put into the bucket before (`POST /inputs` says where)",
                      {"key": _PLACE}, "--dir"),
    "log_timeout": Told("end it when silent for so long; a Go duration", "7m", "--log-timeout"),
    "run_timeout": Told("end it when it takes longer; a Go duration", "1h10m", "--run-timeout"),
    "retryable": Told("start it again if its worker is lost after it has begun; phases say it for themselves",
                      False, "--retryable"),
    "reply_to": Told("MQTT topic for the reply, below `<namespace>/replies/<the sender's id>`; by MQTT only",
                     "quaymaster/replies/AIDAEXAMPLE/1"),
    "reply_on": Told("what is told there: `accepted`, how the run `ended`, or `both`; a refusal in any case", "both"),
}  # fmt: skip
PHASE: Mapping[str, Told] = {
    "name": Told("its name, which no other phase of the run has", "apply"),
    "command": Told("the command and its arguments", ["terraform", "apply", "plan.out"]),
    "environment": Told("variables of its own, beside those of the request", {"TF_LOG": "info"}),
    "before": Told("commands that are run before it, while its timeouts count; one that fails ends the run as "
                   "`hook_failed`", [["terraform", "init"]]),
    "after": Told("the same, once it has exited with 0", [["terraform", "output"]]),
    "log_timeout": Told("its log timeout; else the request's", "7m"),
    "run_timeout": Told("its run timeout, from its own beginning on; else the request's", "1h10m"),
    "read_only": Told("whether it changes nothing; it sees `QUAYMASTER_READ_ONLY`", False),
    "retryable": Told("whether it may run again if its worker is lost meanwhile; the attempt then begins anew with the "
                      "first phase, or the one that was confirmed", False),
    "needs_confirmation": Told("whether somebody must confirm it before it begins; not the first one", True),
}  # fmt: skip
WORKSPACE: Mapping[str, Told] = {
    "key": Told("where it lies in the bucket", _PLACE),
    "sha256": Told("digest that the worker checks", "0" * 64),
}  # fmt: skip
REPLY: Mapping[str, Told] = {
    "schema": Told("version of this form", 1),
    "kind": Told("what it is", "reply"),
    "id": Told("the request's id, if it could be read", "deploy-1842"),
    "accepted": Told("whether the request is a run now", True),
    "run": Told("the run's id", "0VT8RTWS526GQWQWXCA430BPSZ"),
    "state": Told("the run's state at that moment", "READY"),
    "error": Told("why it was refused", "pool: found nothing; it is required"),
}  # fmt: skip
END_REPLY: Mapping[str, Told] = {
    "schema": Told("version of this form", 1),
    "kind": Told("what it is", "ended"),
    "id": Told("the request's id", "deploy-1842"),
    "run": Told("the run's id", "0VT8RTWS526GQWQWXCA430BPSZ"),
    "state": Told("how the run ended", "FAILED"),
    "reason": Told("why, for programs", "exit_code"),
    "exit_code": Told("its command's exit code", 3),
    "note": Told("why, for people", "exit code 3"),
    "attempt": Told("its latest attempt; 0: no worker ever had it", 1),
    "log": Told("key of that attempt's log in the bucket in the output `BucketName`",
                "logs/01KDYAK3485WB9Z6TED8828X92/0VT8RTWS526GQWQWXCA430BPSZ/000001/log.ndjson.gz"),
}  # fmt: skip
_LIMITS: Mapping[str, str] = {
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minItems": "at least {}",
    "maxItems": "at most {}", "maxProperties": "at most {}",
}  # fmt: skip
MODELS: Mapping[str, tuple[type[BaseModel], Mapping[str, Told]]] = {
    "request": (RunRequest, REQUEST),
    "reply": (Reply, REPLY),
    "end_reply": (EndReply, END_REPLY),
}

HEAD = f"""\
# Requests and replies

<!-- Written by `python -m tools.requests_page` from the models in quaymaster/domain/requests.py. Change those. -->

A request is one JSON object, the same over SQS, MQTT and the API; the command line makes it of its options. At most
it has {MAX_REQUEST_BYTES:,} bytes (over MQTT 131,072), one argument or variable of it 131,071. A field that is not
listed here is refused, and so is text with NUL or half of a surrogate pair. As JSON Schema:
[request](schemas/request.json), [reply](schemas/reply.json), [reply that tells the end](schemas/end_reply.json).

How a run ended is told at least once: a requester may hear it again, and within a minute or two where a function died
before it told it.
"""
WAYS = """\
## By each way

SQS: the message body, to the queue in the output `RequestQueueUrl`. Who asks is what SQS says (`SenderId`).

```json
{request}
```

MQTT: the payload, to `<namespace>/requests/<your id>`. Only here a reply can be asked for.

```json
{mqtt}
```

API: the body of `POST /runs`, signed for `lambda`; answered with 202 and `{{"run": …, "request_id": …, "pool": …}}`.

```json
{request}
```

The command line:

```
{cli}
```

A request that cannot become a run is refused once: by the API with 400 and `{{"error": …, "field": …}}`, else by a dead
letter (`quaymaster dead-letters list`) and, where a reply was asked for, by a reply like this:

```json
{refused}
```

"""


def page() -> str:
    """The page as Markdown."""
    parts = [
        HEAD,
        _table("A request", RunRequest, REQUEST, options=True),
        _table("One of its `phases`", Phase, PHASE),
        _table("Its `workspace`", Workspace, WORKSPACE),
        _table("A reply", Reply, REPLY),
        _table("A reply that tells the end", EndReply, END_REPLY),
        _ways(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def schema(name: str) -> str:
    """A message's JSON Schema, as it lies beside the page."""
    model, told = MODELS[name]
    made = model.model_json_schema(by_alias=True)
    found: dict[str, Any] = {"$schema": DIALECT} | made
    for field, about in told.items():
        found["properties"][field] |= {"description": about.meaning, "examples": [about.example]}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def example(*fields: str, **changes: Any) -> dict[str, Any]:
    """A request of these fields with their examples."""
    return {field: REQUEST[field].example for field in fields} | changes


def _ways() -> str:
    usual = example("schema", "id", "pool", "command", "environment", "log_timeout")
    refused = {"schema": 1, "kind": "reply", "id": "deploy-1842", "accepted": False, "error": REPLY["error"].example}
    return WAYS.format(
        request=json.dumps(usual),
        mqtt=json.dumps(usual | {"reply_to": REQUEST["reply_to"].example}),
        cli="quaymaster run start --id deploy-1842 --pool build -e TF_LOG=info --log-timeout 7m -- make deploy",
        refused=json.dumps(refused),
    )


def _table(title: str, model: type[BaseModel], told: Mapping[str, Told], *, options: bool = False) -> str:
    head = ("field", "what it is", "form", "default", "example", *(["command line"] if options else []))
    rows = [head, ("---",) * len(head), *_rows(model, told, options=options)]
    return "\n".join([f"## {title}", "", *("| " + " | ".join(row) + " |" for row in rows), ""])


def _rows(model: type[BaseModel], told: Mapping[str, Told], *, options: bool) -> Iterator[tuple[str, ...]]:
    found = model.model_json_schema(by_alias=True)
    for name, about in found["properties"].items():
        needed = name in found.get("required", [])
        default = "required" if needed else _code(about.get("default"))
        row = (
            f"`{name}`",
            told[name].meaning,
            _form(about, found.get("$defs", {})),
            default,
            _code(told[name].example),
        )
        yield (*row, f"`{told[name].option}`" if told[name].option else "") if options else row


def _form(about: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A field's schema in a few words."""
    if "$ref" in about:
        return _form(definitions[about["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in about:
        return " or ".join(_form(one, definitions) for one in about["anyOf"] if one.get("type") != "null")
    if "const" in about:
        return _code(about["const"])
    if "enum" in about:
        return ", ".join(map(_code, about["enum"]))
    words = [about.get("type", "object")]
    if "pattern" in about:
        words.append(_code(about["pattern"], quoted=False))
    words += [text.format(about[key]) for key, text in _LIMITS.items() if key in about]
    for pattern, inner in about.get("patternProperties", {}).items():
        words.append(f"names {_code(pattern, quoted=False)}, values {inner['type']}")
    if "items" in about:
        words.append(f"of {_each(about['items'], definitions)}")
    return ", ".join(words)


def _each(items: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What an array holds."""
    if "$ref" in items:
        return f"{definitions[items['$ref'].rpartition('/')[2]]['type']}s, see below"
    if items["type"] == "array":
        return f"arrays of {items['items']['type']}"
    return str(items["type"])


def _code(value: object, *, quoted: bool = True) -> str:
    text = json.dumps(value) if quoted else str(value)
    return "`" + text.replace("|", "\\|") + "`"


def main() -> None:
    """Write everything."""
    PAGE.write_text(page(), encoding="utf-8")
    (DOCS / "schemas").mkdir(exist_ok=True)
    for name in MODELS:
        (DOCS / "schemas" / f"{name}.json").write_text(schema(name), encoding="utf-8")


if __name__ == "__main__":
    main()
