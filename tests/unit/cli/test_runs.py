"""`quaymaster run` and `quaymaster dead-letters`, against the API in memory."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import pytest
from quaymaster.domain.messages import Outcome
from quaymaster.domain.objects import INPUT_ENVIRONMENT
from quaymaster.domain.requests import RunRequest, check_request
from quaymaster.domain.run import begun
from quaymaster.domain.states import Reason
from quaymaster.ports import Replace
from quaymaster_cli.errors import ApiRefused, Disconnected, Unfollowed
from quaymaster_cli.logs.persisting import Persistence

from tests.shared.memory.cli_calls import Cli, Ended
from tests.shared.memory.run_records import FINISHED, add_run, begin, complete, end, prepare, ship


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    return cli


def sent(cli: Cli) -> RunRequest:
    """The one request that was queued."""
    (queued,) = cli.api.queue.take()
    return check_request(json.loads(queued)["request"])


def test_start_queues_the_request_and_prints_the_runs_id(cli: Cli) -> None:
    ended = cli("run", "start", "--pool", "red", "--id", "mine", "--env", "A=b=c", "--env", "EMPTY=",
                "--log-timeout", "90s", "--run-timeout", "1h10m", "--type", "proposed", "--stack", "net",
                "--retryable", "--", "sh", "-c", "echo $A", "--pool", "x")  # fmt: skip
    assert ended.code == 0, ended.err
    request = sent(cli)
    assert request.command == ("sh", "-c", "echo $A", "--pool", "x")
    assert request.environment == {"A": "b=c", "EMPTY": ""}
    assert (request.type, request.stack, request.retryable) == ("proposed", "net", True)
    assert request.log_timeout
    assert request.run_timeout
    assert (request.log_timeout.total_seconds(), request.run_timeout.total_seconds()) == (90, 4200)
    add_run(cli.api, request="mine")
    assert cli("run", "show", ended.out.strip(), "--json").json["request_id"] == "mine"


def test_an_image_that_no_worker_of_the_pool_runs_is_refused_by_name(cli: Cli) -> None:
    ended = cli("run", "start", "--pool", "red", "--image", "alpine:3", "--", "true")
    assert ended.code == 2
    assert ended.err.startswith("quaymaster: image: found text of 8 characters; none: workers of pool red run commands")
    assert not cli.api.queue.take()


def test_each_start_without_an_id_is_another_request(cli: Cli) -> None:
    runs = {cli("run", "start", "--pool", "red", "--json", "--", "true").json["run"] for _ in range(3)}
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "true"], 2, "--pool"),
        (["--pool", "red"], 2, "COMMAND"),
        (["--pool", "nope", "--", "true"], 1, "no pool 'nope'"),
        (["--pool", "red", "--", ""], 2, "first word is empty"),
        (["--pool", "red", "--run-timeout", "7", "--", "true"], 2, "a duration is written like"),
        (["--pool", "red", "--log-timeout", "3h", "--", "true"], 2, "log_timeout"),
        (["--pool", "red", "--logs-timeout", "3h", "--", "true"], 2, "log_timeout"),
        (["--pool", "red", "--env", "hunter2", "--", "true"], 2, "--env: write it as NAME=VALUE"),
        (["--pool", "red", "--env", "A=hunter2", "--env", "A=c", "--", "true"], 2, "--env: A is there twice"),
        (["--pool", "red", "--env", "A-B=hunter2", "--", "true"], 2, "environment"),
        (["--pool", "red", "--dir", "nowhere", "--", "true"], 2, "--dir: nowhere is not a folder"),
        (["--pool", "red", "--id", "with space", "--", "true"], 2, "id"),
        (["--pool", "red", "--type", "holiday", "--", "true"], 2, "holiday"),
        (["--pool", "red", "--", "sh", *["x" * 70_000] * 3], 2, "--dir"),
        (["--pool", "red", "--env", f"BIG={'x' * 131_072}", "--", "true"], 2, "environment.BIG: found 131076 bytes"),
        (["--pool", "red", "--", "sh", "x" * 131_072], 2, "command.1: found 131072 bytes"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_a_line_and_nothing_is_sent(
    cli: Cli, words: list[str], code: int, said: str
) -> None:
    ended = cli("run", "start", *words)
    assert ended.code == code, ended.err
    assert said in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err
    assert cli.api.queue.take() == []


def test_a_command_that_was_meant_for_a_shell_gets_a_hint(cli: Cli) -> None:
    ended = cli("run", "start", "--pool", "red", "--id", "mine", "--", "echo hi")
    assert (ended.code, sent(cli).command) == (0, ("echo hi",))
    assert ended.err == "no shell reads the command: it is looked up as 'echo hi'; write -- sh -c 'echo hi'\n"
    assert cli("run", "start", "--pool", "red", "--", "echo", "hi there").err == ""


def test_a_folder_is_packed_put_into_the_bucket_and_named_with_its_digest(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").write_text("echo hi")
    (tmp_path / "sub" / "run.sh").chmod(0o755)
    (tmp_path / ".hidden").write_text("kept")
    (tmp_path / "link").symlink_to("sub/run.sh")
    assert cli("run", "start", "--pool", "red", "--dir", str(tmp_path), "--", "true").code == 0
    workspace = sent(cli).workspace
    assert workspace
    packed = cli.api.blobs.objects[workspace.key].body
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert list(members) == [".hidden", "link", "sub", "sub/run.sh"]
    assert members["sub/run.sh"].mode & 0o111
    assert members["link"].linkname == "sub/run.sh"
    assert {member.uid for member in members.values()} == {0}
    assert {name: member.mtime for name, member in members.items()} == {
        name: (tmp_path / name).lstat().st_mtime for name in members
    }
    first = workspace.sha256
    cli("run", "start", "--pool", "red", "--dir", str(tmp_path), "--", "true")
    again = sent(cli).workspace
    assert again
    assert (again.sha256, again.key == workspace.key) == (first, False)


def test_what_no_workspace_can_hold_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    ended = cli("run", "start", "--pool", "red", "--dir", str(tmp_path), "--", "true")
    assert (ended.code, ended.err) == (2, "quaymaster: --dir: 'link' links to '/etc', an absolute path\n")
    ended = cli("run", "start", "--pool", "red", "--all", "--", "true")
    assert (ended.code, "--dir names it" in ended.err) == (2, True)
    assert cli.api.blobs.objects == {}
    (tmp_path / "link").unlink()
    (tmp_path / INPUT_ENVIRONMENT).write_text("{}")
    ended = cli("run", "start", "--pool", "red", "--dir", str(tmp_path), "--", "true")
    assert (ended.code, INPUT_ENVIRONMENT in ended.err) == (2, True)


def test_an_environment_over_192_kib_travels_in_the_workspace(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    large = [word for number in range(7) for word in ("--env", f"N{number}={'v' * 30_000}")]
    ended = cli("run", "start", "--pool", "red", "--dir", str(tmp_path), *large, "--", "true")
    assert ended.code == 0, ended.err
    request = sent(cli)
    assert request.environment == {}
    assert request.workspace
    with tarfile.open(fileobj=io.BytesIO(cli.api.blobs.objects[request.workspace.key].body)) as tar:
        assert tar.getnames() == [INPUT_ENVIRONMENT, "file"]
        inside = tar.extractfile(INPUT_ENVIRONMENT)
        assert inside
        assert json.load(inside) == {f"N{number}": "v" * 30_000 for number in range(7)}


class Story:
    """What happens to a run that a command has started, one step with each request that the command makes."""

    def __init__(self, cli: Cli, steps: Iterator[None]) -> None:
        self._steps = steps
        cli.before = self._step

    def _step(self, request: httpx.Request) -> None:
        if request.method == "GET":
            next(self._steps, None)


def follow(cli: Cli, outcome: Outcome, *words: str) -> Ended:
    """Start a run and follow it through a life of two chunks to this outcome."""

    def life() -> Iterator[None]:
        yield
        run = add_run(cli.api, request="mine")
        yield
        run = begin(cli.api, run)
        yield
        ship(cli.api, run, 0, ["worker speaks"], stream="agent")
        ship(cli.api, run, 1, ["one", "two"])
        yield
        complete(cli.api, run, ["worker speaks", "one", "two", "three"], outcome)
        yield
        end(cli.api, run, outcome)

    Story(cli, life())
    return cli("run", "start", "--pool", "red", "--id", "mine", "--follow", *words, "--", "true")


def test_follow_prints_the_log_as_it_comes_each_line_once_and_exits_with_zero(cli: Cli) -> None:
    ended = follow(cli, FINISHED)
    assert ended.code == 0, ended.err
    assert ended.out == "one\ntwo\nthree\n"
    assert "worker speaks" in ended.err.splitlines()
    assert ended.err.splitlines()[-1].endswith("is FINISHED")
    said = ended.err.splitlines()
    assert re.fullmatch(r"run [0-9A-Z]{26} \(request mine\) on red: true", said[0])
    (running,) = (number for number, line in enumerate(said) if line.endswith("is RUNNING"))
    assert running < said.index("worker speaks")


def test_a_command_that_was_over_before_anyone_looked_has_run_before_its_output_as_well(cli: Cli) -> None:
    def life() -> Iterator[None]:
        yield
        run = prepare(cli.api, add_run(cli.api, request="mine"))
        yield
        yield
        run = begun(run, cli.api.clock())
        cli.api.store.commit(Replace(run))
        complete(cli.api, run, ["one"], FINISHED)
        end(cli.api, run, FINISHED)
        yield

    Story(cli, life())
    ended = cli("run", "start", "--pool", "red", "--id", "mine", "--follow", "--", "true")
    assert ended.out == "one\n"
    states = [line.rpartition(" ")[2] for line in ended.err.splitlines()[1:]]
    assert states == ["PREPARING", "RUNNING", "FINISHED"]


def test_follow_with_json_prints_the_lines_as_they_lie_in_the_log(cli: Cli) -> None:
    ended = follow(cli, FINISHED, "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["stream"], line["msg"]) for line in lines][:2] == [("agent", "worker speaks"), ("output", "one")]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome(end="FAILED", reason=Reason.EXIT_CODE, exit_code=7), 7),
        (Outcome(end="FAILED", reason=Reason.LOG_TIMEOUT, exit_code=143), 124),
        (Outcome(end="FAILED", reason=Reason.RUN_TIMEOUT), 124),
        (Outcome(end="FAILED", reason=Reason.WORKER_LOST), 125),
        (Outcome(end="FAILED", reason=Reason.OUT_OF_MEMORY, exit_code=137), 137),
        (Outcome(end="STOPPED", reason=Reason.BY_USER, exit_code=0), 125),
    ],
)
def test_follow_exits_as_the_run_did_or_with_what_stands_for_its_end(cli: Cli, outcome: Outcome, code: int) -> None:
    ended = follow(cli, outcome)
    assert ended.code == code
    assert str(outcome.reason) in ended.err.splitlines()[-1]


def test_follow_says_why_a_request_never_became_a_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quaymaster_cli.runs.following.APPEARS_SECONDS", 0)
    cli.api.queue.refuse(json.dumps({"id": "mine", "command": [], "pool": "red"}), "stack: no such stack", "sqs")
    ended = cli("run", "start", "--pool", "red", "--id", "mine", "--follow", "--", "true")
    assert (ended.code, "request mine was refused: stack: no such stack" in ended.err) == (125, True)


def test_ctrl_c_leaves_the_run_alone_and_exits_with_130(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))

    def press(_request: httpx.Request) -> None:
        raise KeyboardInterrupt

    cli.before = press
    ended = cli("run", "logs", "-f", run.id)
    assert (ended.code, ended.err) == (130, "quaymaster: interrupted; what was started goes on\n")
    assert cli.api.store.run(run.id) == run


def test_logs_prints_what_there_is_and_the_whole_once_it_is_there(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    ship(cli.api, run, 0, ["one"])
    ship(cli.api, run, 1, ["two"])
    assert cli("run", "logs", run.id).out == "one\ntwo\n"
    complete(cli.api, run, ["one", "two", "three"], FINISHED)
    end(cli.api, run, FINISHED)
    assert cli("run", "logs", run.id).out == "one\ntwo\nthree\n"
    assert cli("run", "logs", "--pool", "red", "one").out == "one\ntwo\nthree\n"
    assert cli("run", "logs", "-f", run.id).out == "one\ntwo\nthree\n"


def test_logs_says_that_a_log_is_incomplete_and_why(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    outcome = Outcome(end="FAILED", reason=Reason.WORKER_LOST, note="its worker was lost")
    complete(cli.api, run, ["one"], outcome, whole=False)
    end(cli.api, run, outcome)
    ended = cli("run", "logs", "-f", run.id)
    assert (ended.code, ended.out) == (0, "one\n")
    assert "the log is incomplete: its worker was lost" in ended.err


def test_logs_of_a_run_that_never_began_end_at_once(cli: Cli) -> None:
    run = prepare(cli.api, add_run(cli.api))
    end(cli.api, run, Outcome(end="FAILED", reason=Reason.IMAGE_PULL))
    ended = cli("run", "logs", "-f", run.id)
    assert (ended.code, ended.out) == (0, "")
    assert "the command never began" in ended.err


def test_a_chunk_that_is_gone_is_told_and_the_rest_is_shown(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    gone = ship(cli.api, run, 0, ["one"])
    ship(cli.api, run, 1, ["two"])

    def expire(_request: httpx.Request) -> None:
        if len(cli.requests) == 2:
            complete(cli.api, run, ["one", "two"], FINISHED)
            end(cli.api, run, FINISHED)

    cli.before = expire
    cli.api.blobs.objects[gone] = type(cli.api.blobs.objects[gone])(b"not gzip", cli.api.clock())
    ended = cli("run", "logs", "-f", run.id)
    assert ended.out == "two\n"
    assert "is not a gzip stream" in ended.err
    assert f"`quaymaster run logs {run.id}` shows the whole log" in ended.err


def test_a_final_log_of_several_gzip_members_is_read_to_its_end(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    complete(cli.api, run, ["one"], FINISHED)
    end(cli.api, run, FINISHED)
    key = next(key for key in cli.api.blobs.objects if key.endswith("log.ndjson.gz"))
    member = gzip.compress(b'{"msg": "more", "stream": "output"}\nplain words\n')
    cli.api.blobs.write(key, cli.api.blobs.objects[key].body + member)
    assert cli("run", "logs", run.id).out == "one\nmore\nplain words\n"
    cli.api.blobs.write(key, member[:-12])
    ended = cli("run", "logs", run.id)
    assert (ended.code, "ends too early" in ended.err) == (1, True)


def test_runs_are_listed_shown_and_explained(cli: Cli) -> None:
    ended = end(
        cli.api, begin(cli.api, add_run(cli.api, request="a")), Outcome(end="FAILED", reason=Reason.LOG_TIMEOUT)
    )
    cli.api.clock.forward(seconds=1)
    waiting = add_run(cli.api, request="b", stack="net")
    header, *rows = cli("run", "list", "--pool", "red").rows
    listed = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(one["RUN"], one["STATE"], one["REASON"]) for one in listed] == [
        (waiting.id, "READY", "-"),
        (ended.id, "FAILED", "log_timeout"),
    ]
    assert [row[0] for row in cli("run", "list", "--pool", "red", "--state", "FAILED").rows[1:]] == [ended.id]
    page = cli("run", "list", "--pool", "red", "--limit", "1")
    cursor = page.err.split("--cursor ")[1].strip()
    assert cli("run", "list", "--pool", "red", "--cursor", cursor).rows[1][0] == ended.id
    shown = cli("run", "show", ended.id).out
    assert f"s3://bucket/logs/{ended.pool_id}/{ended.id}/000001/log.ndjson.gz" in shown
    assert "hunter2" not in shown
    why = cli("run", "why", "--pool", "red", "b")
    assert why.out.startswith("READY: it is number 1 in the queue: no worker of pool red is connected")
    assert len(why.out.splitlines()) == 1


def test_a_run_that_nobody_knows_is_said_in_a_line(cli: Cli) -> None:
    for words in (("show", "nope"), ("why", "nope"), ("logs", "nope"), ("logs", "-f", "nope")):
        ended = cli("run", *words)
        assert (ended.code, ended.err) == (1, "quaymaster: no run 'nope'\n")
    assert cli("run", "show", "--pool", "red", "odd/id %?#").code == 1


def test_dead_letters_are_listed_with_their_reason(cli: Cli) -> None:
    cli.api.queue.refuse('{"id": "mine", "pool": "red", "command": []}', "command: found []", "sqs")
    header, row = cli("dead-letters", "list").rows
    letter = dict(zip(header, row, strict=True))
    assert (letter["REQUEST"], letter["REASON"], letter["FROM"]) == ("mine", "command: found []", "sqs")
    assert cli("dead-letters", "list", "--json").json["dead_letters"][0]["request_id"] == "mine"


def test_a_busy_api_is_asked_again_and_then_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quaymaster_cli.deployment.client.PAUSES", (0.0, 0.0, 0.0))
    cli.api.queue.down = "no answer"
    ended = cli("dead-letters", "list")
    assert (ended.code, "no answer" in ended.err, len(cli.requests)) == (1, True, 4)


def test_a_run_that_waits_says_in_its_log_why(cli: Cli) -> None:
    run = add_run(cli.api)
    ended = cli("run", "logs", run.id)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("READY: ")


def test_pieces_of_a_line_are_printed_as_the_command_wrote_them(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    rows = [("half a li", True), ("ne\r", False), ("", False), ("question? ", True)]
    lines = [json.dumps({"stream": "output", "msg": text} | ({"partial": True} if part else {})) for text, part in rows]
    key = ship(cli.api, run, 0, [])
    cli.api.blobs.write(key, gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    assert cli("run", "logs", run.id).out == "half a line\r\n\nquestion? "
    assert cli("run", "logs", run.id, "--json").out.splitlines() == lines


def break_network(cli: Cli, path: str, times: int) -> None:
    """Have so many requests whose path ends so fail, from the third on."""
    before, seen = cli.before, 0

    def refuse(request: httpx.Request) -> None:
        nonlocal seen
        seen += request.url.path.endswith(path)
        if request.url.path.endswith(path) and 2 < seen <= 2 + times:
            raise httpx.ConnectError("no route")
        before(request)

    cli.before = refuse


def test_a_network_that_fails_while_following_is_waited_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quaymaster_cli.deployment.client.PAUSES", (0.0, 0.0, 0.0))
    original = Story.__init__

    def broken(self: Story, cli: Cli, steps: Iterator[None]) -> None:
        original(self, cli, steps)
        break_network(cli, "/logs", times=5)

    monkeypatch.setattr(Story, "__init__", broken)
    ended = follow(cli, FINISHED)
    assert (ended.code, ended.out) == (0, "one\ntwo\nthree\n"), ended.err
    assert "cannot reach api.test: no route; trying again for 15m" in ended.err
    assert "it answers again" in ended.err


def test_what_was_never_reached_is_not_waited_for(cli: Cli) -> None:
    def refuse(_request: httpx.Request) -> None:
        raise httpx.ConnectError("no route")

    cli.before = refuse
    ended = cli("run", "logs", "-f", "01KDYAK3485WB9Z6TED8828X92")
    assert (ended.code, ended.err) == (1, "quaymaster: cannot reach api.test: no route\n")


def test_persistence_gives_up_in_the_end_and_says_how_to_go_on() -> None:
    now, slept, said = 0.0, list[float](), list[str]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    def fail() -> None:
        raise Disconnected("no route")

    persist = Persistence(said.append, "go on so", reached=True, sleep=sleep, clock=lambda: now, random=Random(1))
    with pytest.raises(Unfollowed, match=r"^no route; go on so$") as gave_up:
        persist(fail)
    assert gave_up.value.exit_code == 125
    assert 900 <= now < 931
    assert slept[0] <= 1
    assert max(slept) <= 30
    assert len(slept) < 50
    assert len(said) <= 16, "once a minute"


def test_a_refusal_is_told_at_once() -> None:
    def refuse() -> None:
        raise ApiRefused("no", 403)

    persist = Persistence(lambda _text: None, "", reached=True, sleep=lambda _seconds: pytest.fail("waited"))
    with pytest.raises(ApiRefused):
        persist(refuse)


def test_a_run_is_found_by_whatever_people_have_of_it(cli: Cli) -> None:
    cli.api.pool("blue")
    run = add_run(cli.api, request="deploy-1842")
    for name in (run.id, run.id.lower(), run.id[:8], run.id[:5].lower(), "deploy-1842"):
        for pool in ([], ["--pool", "red"], ["--pool", run.pool_id]):
            shown = cli("run", "show", name, *pool, "--json")
            assert (shown.code, shown.json["run"]) == (0, run.id), (name, pool, shown.err)
        assert cli("run", "why", name).out.startswith("READY: ")
        assert cli("run", "logs", name).code == 0
    shown = cli("run", "show", "deploy-1842", "--json").json
    assert (shown["pool_name"], shown["request_id"]) == ("red", "deploy-1842")


@pytest.mark.parametrize(
    "words", [["nope"], ["nope", "--pool", "red"], ["7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "--pool", "red"]]
)
def test_what_was_typed_is_named_when_it_is_not_found(cli: Cli, words: list[str]) -> None:
    where = " in pool 'red'" if "--pool" in words else ""
    ended = cli("run", "logs", *words)
    assert (ended.code, ended.err) == (1, f"quaymaster: no run {words[0]!r}{where}\n")


def test_a_run_of_another_pool_is_not_found_in_this_one(cli: Cli) -> None:
    cli.api.pool("blue")
    run = add_run(cli.api, request="mine")
    for name in (run.id, "mine", run.id[:6]):
        assert cli("run", "show", name, "--pool", "blue").err == f"quaymaster: no run {name!r} in pool 'blue'\n"
    assert cli("run", "show", "mine", "--pool", "green").err == "quaymaster: no pool 'green'\n"


def test_runs_of_all_pools_are_listed_with_what_people_know_them_by(cli: Cli) -> None:
    cli.api.pool("blue")
    older = add_run(cli.api, request="a", stack="net")
    cli.api.clock.forward(seconds=1)
    newer = add_run(cli.api, request="b", pool="blue")
    header, *rows = cli("run", "list").rows
    listed = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(one["RUN"], one["POOL"], one["REQUEST"]) for one in listed] == [
        (newer.id, "blue", "b"),
        (older.id, "red", "a"),
    ]
    assert all(one["COMMAND"] for one in listed)
    assert [run["run"] for run in cli("run", "list", "--stack", "net", "--json").json["runs"]] == [older.id]
    assert len(cli("run", "list", "--state", "ready").rows) == 3
    assert len(cli("run", "list", "--limit", "1").rows) == 2
    assert cli("run", "list", "--cursor", "x").code == 2
