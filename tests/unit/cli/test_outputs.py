"""`quaymaster run outputs`, against the API in memory."""

import pytest
from quaymaster.domain.objects import outputs_key
from quaymaster.domain.run import Run

from tests.shared.memory.cli_calls import Cli
from tests.shared.memory.run_records import add_run, begin

LEFT = b'{"schema": 1, "outputs": {"url": "https://x", "list": [1, 2]}, "sensitive": ["token"]}'


@pytest.fixture
def cli() -> Cli:
    cli = Cli()
    cli.api.pool("red")
    return cli


@pytest.fixture
def run(cli: Cli) -> Run:
    """A run that has left outputs."""
    run = begin(cli.api, add_run(cli.api))
    cli.api.blobs.write(outputs_key(run.pool_id, run.id, 1), LEFT)
    return run


def test_outputs_are_shown_with_the_names_of_what_is_sensitive(cli: Cli, run: Run) -> None:
    assert cli("run", "outputs", run.id).rows == [
        ["NAME", "VALUE"], ["url", '"https://x"'], ["list", "[1, 2]"], ["token", "(sensitive)"],
    ]  # fmt: skip
    shown = cli("run", "outputs", "one", "--json").json
    assert (shown["run"], shown["attempt"], shown["outputs"]["list"]) == (run.id, 1, [1, 2])


def test_one_of_them_is_printed_as_it_is(cli: Cli, run: Run) -> None:
    assert cli("run", "outputs", run.id, "url").out == "https://x\n"
    assert cli("run", "outputs", run.id, "url", "--json").out == '"https://x"\n'
    assert cli("run", "outputs", run.id, "list").out == "[1, 2]\n"


@pytest.mark.parametrize(("name", "said"), [("token", "output 'token' is sensitive"), ("other", "no output 'other'")])
def test_one_that_is_not_there(cli: Cli, run: Run, name: str, said: str) -> None:
    ended = cli("run", "outputs", run.id, name)
    assert (ended.code, ended.err) == (1, f"quaymaster: {said}\n")


def test_a_run_that_has_left_none(cli: Cli) -> None:
    waits, runs = add_run(cli.api, request="waits"), begin(cli.api, add_run(cli.api, request="runs"))
    for run in (waits, runs):
        ended = cli("run", "outputs", run.id)
        assert (ended.code, ended.err) == (1, f"quaymaster: no outputs of run '{run.id}'\n")


def test_what_a_worker_has_written_wrongly_is_not_shown(cli: Cli, run: Run) -> None:
    for body in (b"nonsense", b'{"schema": 1, "outputs": 3}', b"[" * 300_000):
        cli.api.blobs.write(outputs_key(run.pool_id, run.id, 1), body)
        ended = cli("run", "outputs", run.id)
        assert (ended.code, ended.err) == (1, f"quaymaster: no outputs that can be read of run '{run.id}'\n")
