"""`quaymaster run confirm` and `discard`, and how runs of several phases are shown, against the API in memory."""

from dataclasses import replace
from datetime import timedelta

import pytest
from quaymaster.domain.messages import LogDigest, Packed
from quaymaster.domain.phases import Phase
from quaymaster.domain.run import Run, unconfirmed
from quaymaster.domain.states import RunState
from quaymaster.ports import Replace

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import FINISHED, add_run, begin, complete

PHASES = (
    Phase(name="plan", command=("terraform", "plan"), retryable=True, read_only=True),
    Phase(name="apply", command=("terraform", "apply"), needs_confirmation=True),
)


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    return cli


def waiting(cli: Cli, request: str = "one") -> Run:
    """A run whose plan has finished, and whose apply nobody has confirmed."""
    api = cli.api
    run = begin(api, add_run(api, request=request))
    spec = api.store.specs([run.id])[run.id]
    run = replace(run, phases=2, leg_end=1)
    complete(api, run, ["planned"], FINISHED)
    left = Packed(sha256="a" * 64, bytes=4711)
    after = unconfirmed(run, left, LogDigest(lines=1), api.clock(), "worker", api.clock() + timedelta(days=7))
    api.store.commit(Replace(after), Replace(replace(spec, version=2, command=(), phases=PHASES)))
    return after


def test_show_tells_the_phases_apart(cli: Cli) -> None:
    run = waiting(cli)
    shown = cli("run", "show", run.id)
    assert "PHASE\tSTATE\tATTEMPT\tEXIT CODE\tBEGAN\tTOOK\tSAYS" in shown.out
    rows = [line.split("\t") for line in shown.out.splitlines() if line.startswith(("plan\t", "apply\t"))]
    assert [row[:4] for row in rows] == [["plan", "FINISHED", "1", "0"], ["apply", "PENDING", "-", "-"]]
    assert [row[-1] for row in rows] == ["read-only, retryable", "needs confirmation"]
    assert "4711 bytes, sha256 " + "a" * 64 in shown.out
    found = cli("run", "show", run.id, "--json").json
    assert [phase["state"] for phase in found["phases"]] == ["FINISHED", "PENDING"]
    assert cli("run", "list", "--state", "unconfirmed").rows[1][0] == run.id
    why = cli("run", "why", run.id).out
    assert f"`quaymaster run confirm {run.id}` lets it go on" in why


def test_confirmed_it_is_ready_with_what_was_said(cli: Cli) -> None:
    run = waiting(cli)
    ended = cli("run", "confirm", "one", "--note", "reviewed", "-m", "TICKET=OPS-17")
    assert (ended.code, ended.out) == (0, f"{run.id} READY\n")
    assert cli("run", "confirm", "one").out == f"{run.id} READY\n"
    assert cli.api.store.specs([run.id])[run.id].metadata == {"TICKET": "OPS-17"}
    found = cli("run", "show", "one", "--json").json
    assert (found["history"][-1]["note"], found["history"][-1]["by"]) == ("confirm: reviewed", "ci")


def test_several_are_discarded_at_once_and_refusals_keep_no_other_back(cli: Cli) -> None:
    one, two = waiting(cli, "one"), waiting(cli, "two")
    three = add_run(cli.api, request="three")
    ended = cli("run", "discard", "one", "three", "two", "--note", "not today")
    assert ended.code == 1
    assert ended.out.splitlines() == [f"{one.id} DISCARDED", f"{two.id} DISCARDED"]
    assert (
        f"three: run {three.id}: found READY; a run that waits for confirmation (UNCONFIRMED), to discard it"
        in ended.err
    )


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (["TICKET"], "--metadata: write it as NAME=VALUE, each name once"),
        (["A=1", "A=2"], "--metadata: write it as NAME=VALUE, each name once"),
        (["A-B=1"], "metadata"),
    ],
)
def test_metadata_that_is_none_is_a_usage_error(cli: Cli, metadata: list[str], said: str) -> None:
    run = waiting(cli)
    ended = cli("run", "confirm", run.id, *(word for pair in metadata for word in ("-m", pair)))
    assert ended.code == 2
    assert said in ended.err
    found = cli.api.store.run(run.id)
    assert found
    assert found.state is RunState.UNCONFIRMED


def test_logs_show_one_phase_of_the_attempt_that_it_ran_in(cli: Cli) -> None:
    run = waiting(cli)
    # The helper's lines are of a phase of that name.
    assert cli("run", "logs", run.id).out == "planned\n"
    assert cli("run", "logs", run.id, "--phase", "plan").out == ""
    ended = cli("run", "logs", run.id, "--phase", "apply")
    assert (ended.out, ended.err) == ("", "phase apply has not begun\n")
    ended = cli("run", "logs", run.id, "--phase", "nonsense")
    assert (ended.code, ended.err) == (2, f"quaymaster: --phase: run {run.id} has phases plan, apply\n")
    assert cli("run", "logs", run.id, "--phase", "plan", "--follow").code == 2


def test_a_followed_run_that_waits_for_confirmation_has_gone_well_so_far(cli: Cli) -> None:
    run = waiting(cli)
    ended = cli("run", "logs", run.id, "--follow")
    assert (ended.code, ended.out) == (0, "planned\n")
