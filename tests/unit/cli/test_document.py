"""`quaymaster run start -f run.yaml`: the request as a document, and a line for each complaint."""

import io
import json
from pathlib import Path

import pytest
from quaymaster.domain.requests import RunRequest, check_request

from tests.shared.memory.cli_calls import Cli

WHOLE = """\
# A deployment.
schema: 1
id: deploy-1842
pool: red
type: tracked
stack: network
command: [sh, -c, "echo $GREETING"]
environment:
  GREETING: hello
  SWITCH: "on"
log_timeout: 90s
run_timeout: 1h10m
retryable: true
reply_to: quaymaster/replies/ci
reply_on: both
"""


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    cli.api.pool("blue")
    return cli


def sent(cli: Cli) -> RunRequest:
    (queued,) = cli.api.queue.take()
    return check_request(json.loads(queued)["request"])


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    return str(file)


def test_a_document_is_the_same_request_as_over_sqs(cli: Cli, tmp_path: Path) -> None:
    ended = cli("run", "start", "-f", written(tmp_path, WHOLE))
    assert ended.code == 0, ended.err
    request = sent(cli)
    assert (request.id, request.type, request.stack, request.retryable) == ("deploy-1842", "tracked", "network", True)
    assert request.command == ("sh", "-c", "echo $GREETING")
    assert request.environment == {"GREETING": "hello", "SWITCH": "on"}
    assert (request.reply_to, request.reply_on) == ("quaymaster/replies/ci", "both")


def test_json_is_a_document_too_and_may_come_from_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"pool": "red", "command": ["true"], "environment": {"A": "1"}})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body.encode())))
    assert cli("run", "start", "--file", "-").code == 0
    assert sent(cli).environment == {"A": "1"}


PHASED = """\
pool: red
phases:
  - name: plan
    command: [terraform, plan]
    before: [[terraform, init]]
    run_timeout: 10m
    retryable: true
  - name: apply
    command: [terraform, apply]
    needs_confirmation: true
on_end: [[./notify]]
"""


def test_a_document_may_have_phases_in_place_of_a_command(cli: Cli, tmp_path: Path) -> None:
    ended = cli("run", "start", "-f", written(tmp_path, PHASED), "--auto-confirm")
    assert ended.code == 0, ended.err
    request = sent(cli)
    assert [(one.name, one.command, one.needs_confirmation) for one in request.phases] == [
        ("plan", ("terraform", "plan"), False),
        ("apply", ("terraform", "apply"), True),
    ]
    assert (request.on_end, request.auto_confirm, request.command) == ((("./notify",),), True, ())
    both = cli("run", "start", "-f", written(tmp_path, PHASED), "--", "make")
    assert (both.code, both.err) == (2, "quaymaster: command: found a command beside phases; one of the two\n")
    longer = written(tmp_path, PHASED.replace("10m", "100h"))
    assert "phases.0.run_timeout: found 100h" in cli("run", "start", "-f", longer).err


def test_an_option_goes_before_a_field_and_variables_are_put_together(cli: Cli, tmp_path: Path) -> None:
    file = written(tmp_path, WHOLE)
    ended = cli("run", "start", "-f", file, "--pool", "blue", "--id", "other", "-e", "GREETING=hi", "-e", "MORE=1",
                "--run-timeout", "2h", "--", "make", "deploy")  # fmt: skip
    assert ended.code == 0, ended.err
    request = sent(cli)
    assert (request.id, request.command) == ("other", ("make", "deploy"))
    assert request.environment == {"GREETING": "hi", "SWITCH": "on", "MORE": "1"}
    assert request.run_timeout
    assert request.run_timeout.total_seconds() == 7200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "pool: red\ncommand: []\n",
            "run.yaml:2: command: found nothing; it is required, unless there are phases",
        ),
        ("pool: red\ncommand:\n  - 'true'\nrun_timeout: 7\n", "run.yaml:4: run_timeout: found"),
        ("pool: red\ncommand: ['true']\nenvironment:\n  A: 1\n", "run.yaml:4: environment.A: found a number; a text"),
        (
            "pool: red\ncommand: ['true']\nenvironment:\n  A: yes\n  A-B: x\n",
            "run.yaml:3: environment: found text of 3",
        ),
        ("pool: red\ncommand: ['true']\ntimeout: 7m\n", "run.yaml:3: timeout: found a field that a request does not"),
        ("pool: red\n\npool: blue\ncommand: ['true']\n", "run.yaml:3: pool is there twice"),
        ("pool: red\ncommand: ['true'\n", "run.yaml:3: expected ',' or ']'"),
        ("pool: red\ncommand: &a ['true']\nstack: *a\n", "run.yaml:2: an alias is not read here"),
        ("- pool\n", "run.yaml: a request's fields are expected"),
        ("", "run.yaml: a request's fields are expected"),
        ("pool: red\n? [a]\n: b\n", "run.yaml:2: a field's name is text"),
        ("pool: red\n", "COMMAND is missing"),
        ("command: ['true']\n", "--pool is missing"),
        ("pool: red\ncommand: ['true']\nreply_on: ended\n", "reply_on: found ended; a topic in reply_to"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    ended = cli("run", "start", "-f", written(tmp_path, text))
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not cli.api.queue.take()


def test_a_value_is_never_repeated(cli: Cli, tmp_path: Path) -> None:
    text = "pool: red\ncommand: ['true']\nenvironment:\n  TOKEN: [hunter2]\n"
    ended = cli("run", "start", "-f", written(tmp_path, text))
    assert "run.yaml:4: environment.TOKEN" in ended.err
    assert "hunter2" not in ended.err


def test_a_file_that_is_not_there_and_one_that_is_too_large(cli: Cli, tmp_path: Path) -> None:
    ended = cli("run", "start", "-f", str(tmp_path / "none.yaml"))
    assert (ended.code, "No such file or directory" in ended.err) == (2, True)
    large = written(tmp_path, "pool: red\ncommand: ['true']\nstack: " + "x" * 300_000)
    ended = cli("run", "start", "-f", large)
    assert (ended.code, "send large inputs with --dir" in ended.err) == (2, True)


def test_a_document_that_is_nested_without_end_is_refused(cli: Cli, tmp_path: Path) -> None:
    ended = cli("run", "start", "-f", written(tmp_path, "pool: red\ncommand: " + "[" * 20_000))
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
