"""A policy: its `deny` rules name what speaks against a run; no message, no objection.

    package quaymaster
    deny contains "production only from the registry" if {
        input.run.type == "tracked"
        not startswith(input.image, "registry.example/")
    }

What cannot be decided is refused: a policy that does not compile as a whole does not begin to decide, and a run about
which an evaluation fails is denied.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from quaymaster_policy.engine import UNDEFINED, Query, is_function
from quaymaster_policy.errors import PolicyRefused
from quaymaster_policy.scanning import (
    KEYWORDS,
    Rule,
    Token,
    calls_in,
    imported,
    package_of,
    rules_in,
    tokens_of,
    variables_in,
)

DENY = "deny"
FIELDS = ("run", "image", "image_from", "stack", "environment", "worker", "metadata")
"""What an input has, at its first level; an image and a stack only where the run has them."""
OUTSIDE = frozenset({"http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module"})
"""Functions that reach for what the engine does not have: it takes some of them, and answers nothing."""
V1 = " import rego.v1"
MOST_BYTES = 1 << 20
MOST_MESSAGES = 20
LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class Policy:
    """One that compiles, and whose every part has been looked at."""

    file: str
    _query: Query

    def objections(self, document: Mapping[str, Any]) -> list[str]:
        """What speaks against a run; nothing if it may begin. What cannot be decided speaks against it."""
        try:
            return _messages(self.file, self._query.answer(document))
        except PolicyRefused as error:
            return [f"the policy cannot be evaluated: {error}"[:LONGEST_MESSAGE]]


def read_policy(path: Path) -> Policy:
    """Read a policy and check it as a whole. Raises PolicyRefused, OSError."""
    body = path.read_bytes()
    name = str(path)
    if len(body) > MOST_BYTES:
        raise PolicyRefused(name, f"{len(body)} bytes; allowed: at most {MOST_BYTES}")
    try:
        return check_policy(body.decode(), name)
    except UnicodeDecodeError:
        raise PolicyRefused(name, "no text in UTF-8") from None


def check_policy(text: str, file: str) -> Policy:
    """The policy of this text. Raises PolicyRefused with the place of the first thing that is wrong."""
    tokens = tokens_of(text)
    package = package_of(tokens)
    if package is None:
        Query(text, "data", file)
        raise PolicyRefused(file, "found no plain package name; allowed: a first line like `package quaymaster`", 1, 1)
    query, text = _compiled(text, tokens, package, file)
    rules = rules_in(tokens)
    _check_calls(tokens, rules, file)
    _check_references(tokens, package, file)
    _check_heads(rules, imported(tokens), file)
    _check_functions(text, package, rules, file)
    if not any(rule.name.text == DENY and rule.parameters is None for rule in rules):
        raise PolicyRefused(file, "found no rule `deny`; allowed: one or more, each with its message")
    for document in samples():
        _messages(file, query.answer(document))
    return Policy(file, query)


def _compiled(text: str, tokens: Sequence[Token], package: str, file: str) -> tuple[Query, str]:
    """The policy, and its text as the engine is given it: newer Rego with the import that it does without."""
    query = f"data.{package}.{DENY}"
    if not _is_newer(tokens):
        return Query(text, query, file), text
    name = [token for token in tokens if token.kind != "line"][1]
    lines = text.split("\n")
    line, end = lines[name.line - 1], name.column + len(name.text) - 1
    # On the same line, so that all others keep their numbers.
    lines[name.line - 1] = line[:end] + V1 + line[end:]
    newer = "\n".join(lines)
    return Query(newer, query, file), newer


def _is_newer(tokens: Sequence[Token]) -> bool:
    """Whether it has words that older Rego knows only by an import, and no such import."""
    names = imported(tokens)
    if names & {"v1", "keywords", "if", "contains"}:
        return False
    pairs = pairwise(tokens)
    return any(token.text == "if" or (token.text == "contains" and after.text != "(") for token, after in pairs)


def _check_calls(tokens: Sequence[Token], rules: Sequence[Rule], file: str) -> None:
    own = {rule.name.text: rule.parameters for rule in rules if rule.parameters is not None}
    for call in calls_in(tokens):
        name = call.name.text
        plain = name.rpartition(".")[2] if name.startswith("data.") else name
        if name in OUTSIDE:
            raise _at(file, call.name, f"{name} is not there: policies know only their input")
        if plain in own:
            known, wanted = True, own[plain]
        else:
            known, wanted = is_function(name)
        if not known:
            raise _at(file, call.name, f"could not find function {name}")
        if wanted is not None and call.arguments not in (wanted, wanted + 1):
            raise _at(file, call.name, f"`{name}` expects {wanted} arguments, and is given {call.arguments}")


def _check_references(tokens: Sequence[Token], package: str, file: str) -> None:
    """There is no data beside the policy, and an input has no other fields."""
    for token in tokens:
        if token.kind != "name":
            continue
        root, _, rest = token.text.partition(".")
        if root == "data" and rest and not f"{token.text}.".startswith(f"data.{package}."):
            raise _at(file, token, f"{token.text} is not there: a policy is one file, with no data beside it")
        field = rest.partition(".")[0]
        if root == "input" and field and field not in FIELDS:
            raise _at(file, token, f"input has no {field}; it has {', '.join(FIELDS)}")


def _check_heads(rules: Sequence[Rule], known: set[str], file: str) -> None:
    """A variable of a head that nothing in its body names can have no value: the engine finds out where it matters."""
    names = {rule.name.text for rule in rules}
    for rule in rules:
        held = {token.text for token in variables_in(rule.body)} | known | names | KEYWORDS
        count = rule.parameters
        head = list(rule.head[1:])
        if count is not None:
            end = _closing(head)
            held |= {token.text for token in variables_in(head[:end])}
            head = head[end:]
        for token in variables_in(head):
            if token.text not in held:
                raise _at(file, token, f"var {token.text} is unsafe")


def _check_functions(text: str, package: str, rules: Sequence[Rule], file: str) -> None:
    """The engine looks at a function as it is called: each is called, with nothing, for what it then says."""
    for rule in rules:
        if rule.parameters is None:
            continue
        nothing = ", ".join(["null"] * rule.parameters)
        probe = f"{text}\nquaymaster_probe := [x | x := {rule.name.text}({nothing})]\n"
        try:
            Query(probe, f"data.{package}.quaymaster_probe", file).answer(samples()[0])
        except PolicyRefused as error:
            if "unsafe" in error.what or "could not find function" in error.what or "before definition" in error.what:
                raise


def _messages(file: str, answer: Any) -> list[str]:
    if not isinstance(answer, list):
        found = "nothing" if answer == UNDEFINED else f"{type(answer).__name__}"
        raise PolicyRefused(file, f"deny is {found}; allowed: a set of messages, `deny contains MESSAGE if {{ ... }}`")
    answers = cast("list[Any]", answer)
    messages = [one if isinstance(one, str) else json.dumps(one) for one in answers]
    return [one[:LONGEST_MESSAGE] for one in messages[:MOST_MESSAGES]]


def _closing(tokens: Sequence[Token]) -> int:
    """Behind the bracket that closes the first one."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in "([{" and token.kind == "other") - (token.text in ")]}" and token.kind == "other")
        if depth == 0:
            return at + 1
    return len(tokens)


def _at(file: str, token: Token, what: str) -> PolicyRefused:
    return PolicyRefused(file, what, token.line, token.column)


def samples() -> list[dict[str, Any]]:
    """Inputs of every kind, by which a policy is tried before it decides."""
    made: list[dict[str, Any]] = []
    for kind in ("tracked", "destroy", "task", "proposed", "drift"):
        run = {
            "id": "0VT8RTWS526GQWQWXCA430BPSZ",
            "attempt": 1,
            "type": kind,
            "tool": "terraform",
            "read_only": kind in ("proposed", "drift"),
            "phases": [{"name": "plan", "command": ["terraform", "plan"], "read_only": True}],
        }
        worker = {"id": "quaymaster.P.W", "version": "0.1.0", "executor": "docker", "metadata": {"zone": "a"}}
        least = {"run": run, "environment": ["TF_LOG"], "worker": worker, "metadata": {"ticket": "OPS-1"}}
        most = least | {"image": "registry.example/tool:1", "image_from": "request", "stack": "network"}
        made += [most, least]
    return made
