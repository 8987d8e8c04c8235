"""Commands of `quaymaster run` that change runs; they belong to the app that starts and shows them."""

from enum import StrEnum
from typing import Annotated

import typer

from quaymaster_cli.runs.commands import OfPool, Type, app
from quaymaster_cli.session import Session, command

Runs = Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, by id, its beginning, or request's id.")]
Note = Annotated[str, typer.Option(help="Why; it is kept in the run's history.")]


__all__ = ["app"]


class Waiting(StrEnum):
    """The states of a run that has not begun, as typer offers them."""

    QUEUED = "QUEUED"
    READY = "READY"
    PREPARING = "PREPARING"


@command(app, "cancel")
def cancel(
    session: Session,
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs, by id, its beginning, or request's id.")
    ] = None,
    pool: OfPool = None,
    note: Note = "",
    run_type: Annotated[
        Type | None, typer.Option("--type", help="Of the pool's runs, only those of this type.")
    ] = None,
    state: Annotated[
        Waiting | None,
        typer.Option(help="Of the pool's runs, only those in this state.", case_sensitive=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End runs that have not begun: those that are named, or a pool's, after asking."""
    from quaymaster.domain.api import Steer

    from quaymaster_cli.errors import Usage
    from quaymaster_cli.steering.many import Choice, chosen, steer

    names = runs or []
    if names and (run_type or state):
        raise Usage("--type and --state choose among a pool's runs: name runs, or say --pool with these")
    if not names and not (pool and (run_type or state)):
        raise Usage("name runs, or say --pool with --type or --state, or both")
    if not names:
        names = chosen(session, Choice(pool=pool or "", type=run_type, state=state))
        _ask(names, yes)
        pool = None
    steer(session, names, pool, lambda run: session.api.steer_run(run, "cancel", Steer(note=note)))


def _ask(names: list[str], yes: bool) -> None:
    import sys

    from quaymaster_cli.errors import CliError, Usage

    if not names:
        raise CliError("no such run has not begun")
    if yes:
        return
    what = f"{len(names)} run" + ("s" if len(names) > 1 else "")
    if not sys.stdin.isatty():
        raise Usage(f"this cancels {what}: say --yes where nobody can be asked")
    if not typer.confirm(f"cancel {what}?", err=True):
        raise typer.Exit(1)


@command(app, "stop")
def stop(session: Session, runs: Runs, pool: OfPool = None, note: Note = "") -> None:
    """Have commands end: SIGTERM to all that they started, the pool's grace, SIGKILL."""
    from quaymaster.domain.api import Steer

    from quaymaster_cli.steering.many import steer

    steer(session, runs, pool, lambda run: session.api.steer_run(run, "stop", Steer(note=note)))


@command(app, "kill")
def kill(session: Session, runs: Runs, pool: OfPool = None, note: Note = "") -> None:
    """End commands at once, with SIGKILL."""
    from quaymaster.domain.api import Steer

    from quaymaster_cli.steering.many import steer

    steer(session, runs, pool, lambda run: session.api.steer_run(run, "kill", Steer(note=note)))


@command(app, "confirm")
def confirm(
    session: Session,
    runs: Runs,
    pool: OfPool = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", "-m", metavar="NAME=VALUE", help="Something for what follows; may be repeated."),
    ] = None,
    note: Note = "",
) -> None:
    """Let runs go on that wait for confirmation."""
    from quaymaster_cli.steering.many import confirmation, steer

    wanted = confirmation(metadata or [], note)
    steer(session, runs, pool, lambda run: session.api.confirm_run(run, wanted(session.api.run(run))))


@command(app, "discard")
def discard(session: Session, runs: Runs, pool: OfPool = None, note: Note = "") -> None:
    """End runs that wait for confirmation."""
    from quaymaster.domain.api import Steer

    from quaymaster_cli.steering.many import steer

    steer(session, runs, pool, lambda run: session.api.steer_run(run, "discard", Steer(note=note)))


@command(app, "extend")
def extend(
    session: Session,
    runs: Runs,
    pool: OfPool = None,
    by: Annotated[str | None, typer.Option(metavar="DURATION", help="So much longer than its run timeout is.")] = None,
    run_timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Its run timeout, from its beginning on.")
    ] = None,
    log_timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Its log timeout.")] = None,
    note: Note = "",
) -> None:
    """Give runs that have begun longer timeouts, within the pool's maximum."""
    from quaymaster_cli.steering.many import longer, steer

    wanted = longer(by, run_timeout, log_timeout, note)
    steer(session, runs, pool, lambda run: session.api.extend_run(run, wanted(session.api.run(run))))


@command(app, "retry")
def retry(session: Session, runs: Runs, pool: OfPool = None, note: Note = "") -> None:
    """Request ended runs once more; asked twice, it is the same new run. Prints the ids of the new ones."""
    from quaymaster.domain.api import Steer

    from quaymaster_cli.steering.many import steer

    steer(session, runs, pool, lambda run: session.api.retry_run(run, Steer(note=note)))
