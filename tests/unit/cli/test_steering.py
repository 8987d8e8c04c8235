"""`quaymaster run cancel`, `stop`, `kill`, `extend`, `retry`, against the API in memory."""

import pytest
from quaymaster.domain.pool import ticket_for
from quaymaster.domain.requests import RunType
from quaymaster.domain.run import Run
from quaymaster.domain.states import RunState

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import FINISHED, add_run, begin, end


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    return cli


def state_of(cli: Cli, run: Run) -> RunState:
    found = cli.api.store.run(run.id)
    assert found
    return found.state


def test_cancel_says_what_became_of_each_and_refusals_keep_no_other_back(cli: Cli) -> None:
    one, two = add_run(cli.api, request="one"), begin(cli.api, add_run(cli.api, request="two"))
    three = add_run(cli.api, request="three")
    ended = cli("run", "cancel", "one", two.id, three.id[:8], "nobody", "--note", "not needed")
    assert ended.code == 1
    assert ended.out.splitlines() == [f"{one.id} CANCELED", f"{three.id} CANCELED"]
    assert f"{two.id}: run {two.id}: found RUNNING; a run that has not begun: stop this one" in ended.err
    assert "nobody: no run 'nobody'" in ended.err
    shown = cli("run", "show", "one", "--json").json
    assert (shown["state"], shown["reason"], shown["note"]) == ("CANCELED", "by_user", "not needed")
    assert shown["history"][-1]["by"] == "ci"


def test_canceled_twice_the_answer_is_the_same(cli: Cli) -> None:
    run = add_run(cli.api)
    first, second = (cli("run", "cancel", run.id, "--json") for _ in range(2))
    assert first.code == second.code == 0
    assert first.json == second.json


def test_of_a_pools_runs_those_of_a_type_and_state_are_canceled_after_asking(cli: Cli) -> None:
    kept = add_run(cli.api, request="tracked", type=RunType.TRACKED)
    meant = [add_run(cli.api, request=f"p{number}", type=RunType.PROPOSED) for number in range(3)]
    running = begin(cli.api, add_run(cli.api, request="running", type=RunType.PROPOSED))
    asked = cli("run", "cancel", "--pool", "red", "--type", "proposed", "--state", "ready")
    assert (asked.code, asked.err) == (2, "quaymaster: this cancels 3 runs: say --yes where nobody can be asked\n")
    done = cli("run", "cancel", "--pool", "red", "--type", "proposed", "--state", "ready", "--yes", "--json")
    assert done.code == 0
    assert {one["run"] for one in done.json["runs"]} == {run.id for run in meant}
    assert [state_of(cli, run) for run in (kept, running, *meant)] == [
        RunState.READY, RunState.RUNNING, *[RunState.CANCELED] * 3,
    ]  # fmt: skip
    none = cli("run", "cancel", "--pool", "red", "--type", "proposed", "--yes")
    assert (none.code, none.err) == (1, "quaymaster: no such run has not begun\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name runs, or say --pool with --type or --state"),
        (["--pool", "red"], "name runs, or say --pool with --type or --state"),
        (["one", "--type", "drift"], "--type and --state choose among a pool's runs"),
        (["--type", "drift"], "name runs, or say --pool"),
        (["--pool", "red", "--state", "RUNNING"], "--state"),
    ],
)
def test_which_runs_are_meant_must_be_said(cli: Cli, words: list[str], said: str) -> None:
    add_run(cli.api)
    ended = cli("run", "cancel", *words)
    assert ended.code == 2
    assert said in ended.err


def test_stop_and_kill_show_the_run_as_it_is_being_ended(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api))
    assert cli("run", "stop", "one", "--note", "too long").out == f"{run.id} RUNNING, being ended as by_user\n"
    shown = cli("run", "show", "one")
    assert "by_user by ci, until" in shown.out
    assert "too long" in shown.out
    assert cli("run", "kill", "one").code == 0
    assert [type(sent.message).__name__ for sent in cli.api.messenger.sent] == ["Stop", "Kill"]
    assert "it is being ended as by_user by ci" in cli("run", "why", "one").out


def test_stop_of_one_that_has_not_begun_says_what_to_do(cli: Cli) -> None:
    add_run(cli.api)
    ended = cli("run", "stop", "one")
    assert ended.code == 1
    assert "found READY; a run that has begun: cancel this one" in ended.err


def test_extend_by_and_to(cli: Cli) -> None:
    begin(cli.api, add_run(cli.api))
    assert cli("run", "extend", "one", "--by", "30m", "--json").json["run_timeout"] == "1h40m"
    assert cli("run", "extend", "one", "--run-timeout", "2h", "--log-timeout", "10m", "--json").json["log_timeout"] == (
        "10m"
    )
    notes = [sent.message.model_dump()["note"] for sent in cli.api.messenger.sent]
    assert notes == ["run timeout 1h10m to 1h40m, by ci", "log timeout 7m to 10m; run timeout 1h40m to 2h, by ci"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "say --by, --run-timeout or --log-timeout"),
        (["--by", "1m", "--run-timeout", "2h"], 2, "say one"),
        (["--by", "soon"], 2, "a duration is written like"),
        (["--run-timeout", "soon"], 2, "a duration is written like"),
        (["--run-timeout", "25h"], 2, "run_timeout: found 25h; pool red allows at most 24h"),
        (["--run-timeout", "1m"], 2, "at least 1h10m, which the run has"),
    ],
)
def test_what_cannot_be_extended_is_refused_by_name(cli: Cli, words: list[str], code: int, said: str) -> None:
    begin(cli.api, add_run(cli.api))
    ended = cli("run", "extend", "one", *words)
    assert ended.code == code
    assert said in ended.err


def test_retry_prints_the_new_run(cli: Cli) -> None:
    run = end(cli.api, begin(cli.api, add_run(cli.api)), FINISHED)
    first, second = cli("run", "retry", "one"), cli("run", "retry", run.id)
    assert first.code == 0
    assert first.out == second.out
    assert first.out.strip() != run.id


def test_nothing_is_left_of_a_canceled_runs_ticket(cli: Cli) -> None:
    run = add_run(cli.api)
    cli("run", "cancel", run.id)
    assert ticket_for(run) not in cli.api.store.tickets(run.pool_id, 10)
