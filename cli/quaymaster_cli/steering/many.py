"""Doing something to several runs: each by itself, so that what is refused of one keeps none of the others back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import typer
from pydantic import BaseModel, ValidationError
from quaymaster.domain.api import AcceptedRun, ConfirmRun, ExtendRun, RunView
from quaymaster.domain.durations import parse_duration
from quaymaster.domain.requests import refusal
from quaymaster.domain.states import RunState

from quaymaster_cli.errors import ApiRefused, CliError, Usage
from quaymaster_cli.runs.finding import find_run
from quaymaster_cli.session import Session

type Found = RunView | AcceptedRun

WAITING = (RunState.QUEUED, RunState.READY, RunState.PREPARING)
PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which of a pool's runs are meant, of those that have not begun."""

    pool: str
    type: str | None
    state: str | None


class NotSteered(BaseModel):
    """A run to which it was not done, and why."""

    run: str
    error: str


class Steered(BaseModel):
    """What came of several runs."""

    runs: list[RunView | AcceptedRun]
    refused: list[NotSteered]


def chosen(session: Session, choice: Choice) -> list[str]:
    """The ids of the pool's runs that are meant, as they are now."""
    states = [RunState(choice.state)] if choice.state else WAITING
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = session.api.runs(choice.pool, PAGE, cursor)
        found += [one.run for one in page.runs if one.state in states and choice.type in (None, one.type)]
        cursor = page.cursor
        if not cursor:
            return found


def steer(session: Session, names: Sequence[str], pool: str | None, act: Callable[[str], Found]) -> None:
    """Do it to each, and say what came of it; exits with the code of the first that was refused."""
    done = Steered(runs=[], refused=[])
    failed: CliError | None = None
    for name in dict.fromkeys(names):
        try:
            found = act(find_run(session.api, name, pool).run)
        except (ApiRefused, Usage) as error:
            if len(names) == 1:
                raise
            session.output.note(f"{name}: {error}")
            done.refused.append(NotSteered(run=name, error=str(error)))
            failed = failed or error
            continue
        done.runs.append(found)
        if not session.output.json:
            session.output.say(_told(found))
    if session.output.json:
        session.output.show_json(done.runs[0] if len(names) == 1 else done)
    if failed:
        raise typer.Exit(failed.exit_code)


def _told(found: Found) -> str:
    """One line of what came of it; of a run that is asked for once more, its id."""
    if isinstance(found, AcceptedRun):
        return found.run
    ending = f", being ended as {found.ending.reason}" if found.ending else ""
    return f"{found.run} {found.state}{ending}"


def confirmation(pairs: Sequence[str], note: str) -> Callable[[RunView], ConfirmRun]:
    """What to say with a confirmation of a run's next phase, from the words of the command line. Raises Usage."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or name in metadata:
            raise Usage("--metadata: write it as NAME=VALUE, each name once")
        metadata[name] = value
    try:
        request = ConfirmRun(note=note, metadata=metadata)
    except ValidationError as error:
        raise Usage(str(refusal(error))) from None

    def wanted(run: RunView) -> ConfirmRun:
        # The phase that waits now: a request that is sent again must not confirm the one after it.
        waits = next((one.name for one in run.phases if one.state == "PENDING"), None)
        return request.model_copy(update={"phase": waits if run.state is RunState.UNCONFIRMED else None})

    return wanted


def longer(
    by: str | None, run_timeout: str | None, log_timeout: str | None, note: str
) -> Callable[[RunView], ExtendRun]:
    """What to ask for of a run, from the words of the command line. Raises Usage."""
    if not (by or run_timeout or log_timeout):
        raise Usage("say --by, --run-timeout or --log-timeout")
    if by and run_timeout:
        raise Usage("--by and --run-timeout say the same thing in two ways: say one")
    try:
        more = parse_duration(by) if by else None
    except ValueError:
        raise Usage("--by: a duration is written like '90s', '7m' or '1h10m'") from None

    def wanted(run: RunView) -> ExtendRun:
        whole = run.run_timeout + more if more and run.run_timeout else None
        said = {"run_timeout": whole or run_timeout, "log_timeout": log_timeout, "note": note}
        try:
            return ExtendRun.model_validate(said)
        except ValidationError as error:
            raise Usage(str(refusal(error))) from None

    return wanted
