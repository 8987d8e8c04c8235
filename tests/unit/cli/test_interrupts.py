"""Ctrl-C while a run is followed: real signals, in this process."""

import os
import signal
from collections.abc import Callable

import pytest
from quaymaster.domain.ids import run_id
from quaymaster.domain.states import RunState
from quaymaster_cli.errors import Interrupted
from quaymaster_cli.runs.interrupts import Interrupts
from quaymaster_cli.showing.output import Output

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import add_run, begin


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    return cli


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def never(question: str) -> bool:
    raise AssertionError(question)


def interrupts(cli: Cli, run: str, choice: str = "ask", ask: Callable[[str], bool] = never) -> Interrupts:
    return Interrupts(cli.client(), run, Output(json=False), choice, ask)


def state_of(cli: Cli, run: str) -> tuple[RunState, bool]:
    found = cli.api.store.run(run)
    assert found
    return found.state, found.ending is not None


def test_somebody_who_only_stops_following_leaves_the_run_alone(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api)).id
    with interrupts(cli, run, ask=lambda question: False) as found:
        press()
        with pytest.raises(Interrupted):
            found.sleep(5)
    assert state_of(cli, run) == (RunState.RUNNING, False)


@pytest.mark.parametrize("choice", ["ask", "stop"])
def test_somebody_who_stops_the_run_goes_on_following(cli: Cli, choice: str) -> None:
    run = begin(cli.api, add_run(cli.api)).id
    with interrupts(cli, run, choice, ask=lambda question: True) as found:
        press()
        found.sleep(0)
        assert state_of(cli, run) == (RunState.RUNNING, True)
        with pytest.raises(KeyboardInterrupt):
            press()


def test_a_run_that_waits_is_canceled(cli: Cli) -> None:
    run = add_run(cli.api).id
    with interrupts(cli, run, "stop") as found:
        press()
        found.check()
    assert state_of(cli, run) == (RunState.CANCELED, False)


def test_a_request_on_its_way_is_stopped_as_it_arrives(cli: Cli) -> None:
    pool = cli("pool", "show", "red", "--json").json["id"]
    run = run_id(pool, "one")
    asked: list[str] = []
    with interrupts(cli, run, ask=lambda question: not asked.append(question)) as found:
        press()
        found.check()
        add_run(cli.api)
        found.check()
        found.check()
    assert state_of(cli, run) == (RunState.CANCELED, False)
    assert len(asked) == 1


def test_pressed_twice_it_leaves_at_once(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api)).id
    with interrupts(cli, run):
        press()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert state_of(cli, run) == (RunState.RUNNING, False)


def test_where_nobody_can_be_asked_it_leaves_at_once(cli: Cli) -> None:
    run = begin(cli.api, add_run(cli.api)).id
    with interrupts(cli, run, "leave"), pytest.raises(KeyboardInterrupt):
        press()
    assert state_of(cli, run) == (RunState.RUNNING, False)


def test_what_ctrl_c_did_before_it_does_again(cli: Cli) -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts(cli, "R"):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
