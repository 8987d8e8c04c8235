"""`quaymaster run`: start runs, see them, read their logs."""

import textwrap
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quaymaster_cli.session import Session, command

if TYPE_CHECKING:
    from quaymaster.domain.api import AcceptedRun, RunView
    from quaymaster.domain.requests import RunRequest

    from quaymaster_cli.logs.persisting import Persistence
    from quaymaster_cli.runs.document import Document
    from quaymaster_cli.workspace import Wish

app = typer.Typer(help="Runs and their logs.", no_args_is_help=True)

Run = Annotated[str, typer.Argument(help="A run's id or its beginning, or its request's id.")]
OfPool = Annotated[str | None, typer.Option("--pool", help="The pool that the run is in.")]


LINE = 100
"""Characters of a command in the line that says that a run was started."""


class Type(StrEnum):
    """What a run is for, as typer offers it."""

    TRACKED = "tracked"
    DESTROY = "destroy"
    TASK = "task"
    PROPOSED = "proposed"
    DRIFT = "drift"


class State(StrEnum):
    """The states of a run, as typer offers them."""

    QUEUED = "QUEUED"
    READY = "READY"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    UNCONFIRMED = "UNCONFIRMED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELED = "CANCELED"
    DISCARDED = "DISCARDED"
    SKIPPED = "SKIPPED"


class Tool(StrEnum):
    """What a run's commands are of, as typer offers it."""

    TERRAFORM = "terraform"
    OPENTOFU = "opentofu"
    ANSIBLE = "ansible"
    OTHER = "other"


class OnInterrupt(StrEnum):
    """What Ctrl-C does to a run that is followed, as typer offers it."""

    STOP = "stop"
    LEAVE = "leave"


@command(app, "start")
def start(
    session: Session,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="The pool's name or id.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A document with the request's fields, in YAML or JSON; - reads it."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image of its containers, or of a Fargate task of its own.")] = None,
    tool: Annotated[
        Tool | None, typer.Option(help="What its commands are of; decides which image its host gives it.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="A folder: the command runs in a copy, without what git or .quaymasterignore ignores."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --dir: also what is ignored.")] = False,
    with_git: Annotated[bool, typer.Option("--with-git", help="With --dir: also its .git.")] = False,
    with_key: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="With --dir: also a private key in it that is no pool's.")
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", "-e", metavar="NAME=VALUE", help="A variable; may be repeated."),
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", hidden=True, help="The same.")] = None,
    log_timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="End it when silent for so long.")] = None,
    logs_timeout: Annotated[str | None, typer.Option(hidden=True, help="The same, as others spell it.")] = None,
    run_timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="End it when it takes longer.")] = None,
    run_type: Annotated[
        Type | None, typer.Option("--type", help="What it is for; decides its class in the queue (default: task).")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="The stack that it belongs to.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--id", help="The request's id; the same id is the same run.")
    ] = None,
    retryable: Annotated[bool, typer.Option("--retryable", help="Start it again if its worker is lost.")] = False,
    auto_confirm: Annotated[
        bool, typer.Option("--auto-confirm", help="None of its phases needs confirmation.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Print its log; exit as it exits.")] = False,
    on_interrupt: Annotated[
        OnInterrupt | None, typer.Option(help="With --follow: what Ctrl-C does to the run, without asking.")
    ] = None,
) -> None:
    """Start a run; prints its id, or with --follow its log."""
    from quaymaster_cli.errors import Usage
    from quaymaster_cli.runs.starting import make_request, read_environment, start_run

    document = _document(file)
    if not words and not (document and {"command", "phases"} & document.fields.keys()):
        raise Usage("COMMAND is missing: write it behind --, or name a document that has one with --file")
    if not pool and not (document and "pool" in document.fields):
        raise Usage("--pool is missing: the pool's name or id")
    if words and len(words) == 1 and " " in words[0].strip():
        session.output.note(f"no shell reads the command: it is looked up as {words[0]!r}; write -- sh -c {words[0]!r}")
    options = {
        "pool": pool,
        "command": words,
        "environment": read_environment([*(environment or []), *(env or [])]),
        "id": request_id,
        "image": image,
        "tool": tool.value if tool else None,
        "log_timeout": log_timeout or logs_timeout,
        "run_timeout": run_timeout,
        "type": run_type.value if run_type else None,
        "stack": stack,
        "retryable": retryable,
        "auto_confirm": auto_confirm,
    }
    request = make_request(options, document)
    wish = _wish(folder, everything, with_git, with_key or [])
    accepted = start_run(session.api, request, wish, session.output.note)
    if follow:
        _follow_started(session, accepted, request, on_interrupt)
    elif session.output.json:
        session.output.show_json(accepted)
    else:
        session.output.say(accepted.run)


def _document(file: Path | None) -> "Document | None":
    if file is None:
        return None
    from quaymaster_cli.runs.document import read_document

    return read_document(file)


def _wish(folder: Path | None, everything: bool, with_git: bool, keys: list[Path]) -> "Wish | None":
    from quaymaster_cli.errors import Usage
    from quaymaster_cli.workspace import Wish

    if folder:
        return Wish(folder=folder, everything=everything, git=with_git, keys=tuple(keys))
    if everything or with_git or keys:
        raise Usage("--all, --with-git and --with-key say what is packed of a folder: --dir names it")
    return None


def _follow_started(
    session: Session, accepted: "AcceptedRun", request: "RunRequest", on_interrupt: OnInterrupt | None
) -> None:
    from quaymaster_cli.errors import CliError, Interrupted, Unfollowed
    from quaymaster_cli.runs.exit_codes import exit_code_of
    from quaymaster_cli.runs.following import RunFollower
    from quaymaster_cli.runs.interrupts import Interrupts, is_terminal

    what = " ".join(request.command) or f"phases {', '.join(phase.name for phase in request.phases)}"
    command = textwrap.shorten(what, LINE, placeholder="…")
    choice = on_interrupt.value if on_interrupt else "ask" if is_terminal() else "leave"
    try:
        with Interrupts(session.api, accepted.run, session.output, choice) as interrupts:
            session.output.note(f"run {accepted.run} (request {accepted.request_id}) on {request.pool}: {command}")
            persist = _persistence(session, accepted.run, reached=True)
            persist.sleep = interrupts.sleep
            follower = RunFollower(session.api, session.output, persist, interrupts.sleep, look=interrupts.check)
            follower.appear(accepted)
            ended = follower.finish(accepted.run)
    except (Interrupted, Unfollowed):
        raise
    except CliError as error:
        # The exit codes of other errors may be the command's own.
        raise Unfollowed(str(error)) from None
    code = exit_code_of(ended.state, ended.reason, ended.exit_code)
    reason = f" ({ended.reason})" if ended.reason else ""
    session.output.note(f"run {ended.run} is {ended.state}{reason}" + (f": {ended.note}" if ended.note else ""))
    raise typer.Exit(code)


def _persistence(session: Session, run: str, *, reached: bool) -> "Persistence":
    from quaymaster_cli.logs.persisting import Persistence

    left = f"the run goes on: `quaymaster run logs {run} --follow` follows it again"
    return Persistence(session.output.note, left, reached=reached)


@command(app, "list")
def list_runs(
    session: Session,
    pool: Annotated[str | None, typer.Option(help="The pool's name or id; without it, all pools.")] = None,
    state: Annotated[State | None, typer.Option(help="Only runs in this state.", case_sensitive=False)] = None,
    stack: Annotated[str | None, typer.Option(help="Only runs of this stack.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most runs to show.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where the list before ended.")] = None,
) -> None:
    """List runs, newest first."""
    from quaymaster.domain.states import RunState

    from quaymaster_cli.errors import Usage
    from quaymaster_cli.runs.listing import Filter, list_all, list_one, show_list

    wanted = Filter(state=RunState(state.value) if state else None, stack=stack)
    if cursor and not pool:
        raise Usage("--cursor goes on in one pool's list: say --pool")
    found = list_one(session.api, pool, wanted, limit, cursor) if pool else list_all(session.api, wanted, limit)
    if session.output.json:
        session.output.show_json(found)
        return
    show_list(session.output, found)


@command(app, "show")
def show(session: Session, run: Run, pool: OfPool = None) -> None:
    """Show a run: its state and history, and where its log lies."""
    from quaymaster_cli.runs.finding import find_run
    from quaymaster_cli.runs.showing import show_run

    show_run(session.output, find_run(session.api, run, pool))


@command(app, "why")
def why(session: Session, run: Run, pool: OfPool = None) -> None:
    """Say in one line why a run is where it is."""
    from quaymaster_cli.runs.finding import find_run

    found = session.api.why(find_run(session.api, run, pool).run)
    if session.output.json:
        session.output.show_json(found)
    else:
        session.output.say(f"{found.state}: {found.why}")


@command(app, "outputs")
def outputs(
    session: Session,
    run: Run,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one, as it is.")] = None,
    pool: OfPool = None,
) -> None:
    """Show what a run has left for others in $QUAYMASTER_OUTPUTS, but for what is sensitive."""
    import json

    from quaymaster_cli.errors import Unknown
    from quaymaster_cli.runs.finding import find_run

    found = session.api.outputs(find_run(session.api, run, pool).run)
    if name is not None and name not in found.outputs:
        raise Unknown(f"output {name!r} is sensitive" if name in found.sensitive else f"no output {name!r}", 404)
    if name is not None:
        value = found.outputs[name]
        session.output.say(value if isinstance(value, str) and not session.output.json else json.dumps(value))
    elif session.output.json:
        session.output.show_json(found)
    else:
        shown = [(key, json.dumps(value)) for key, value in found.outputs.items()]
        session.output.table(("NAME", "VALUE"), [*shown, *((key, "(sensitive)") for key in found.sensitive)])


def _print_phase(session: Session, run: "RunView", name: str, persist: "Persistence") -> None:
    """A phase's lines, of the attempt that it ran in."""
    from quaymaster_cli.errors import Usage
    from quaymaster_cli.logs.follower import LogFollower
    from quaymaster_cli.logs.printing import print_lines

    phase = next((one for one in run.phases if one.name == name), None)
    if not phase:
        names = ", ".join(one.name for one in run.phases)
        raise Usage(f"--phase: run {run.run} has {f'phases {names}' if names else 'no phases'}")
    if phase.attempt is None:
        session.output.note(f"phase {name} has not begun")
        return
    follower = LogFollower(session.api, run.run, session.output.note, persist, attempt=phase.attempt)
    print_lines((line for line in follower.now() if line.phase == name), session.output)


@command(app, "logs")
def logs(
    session: Session,
    run: Run,
    pool: OfPool = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the log ends.")] = False,
    phase: Annotated[str | None, typer.Option(help="Only this phase's lines.")] = None,
) -> None:
    """Print a run's log; with --json, each line as it lies in the log."""
    from quaymaster_cli.errors import Usage
    from quaymaster_cli.logs.follower import BEFORE_OUTPUT, LogFollower
    from quaymaster_cli.logs.printing import print_lines
    from quaymaster_cli.runs.finding import find_run
    from quaymaster_cli.runs.following import RunFollower

    run_id = find_run(session.api, run, pool).run
    persist = _persistence(session, run_id, reached=False)
    if phase and follow:
        raise Usage("--phase shows what there is of a phase's log; --follow goes on to the run's end: say one")
    if phase:
        _print_phase(session, session.api.run(run_id), phase, persist)
        return
    if follow:
        RunFollower(session.api, session.output, persist).print_log(run_id)
        return
    follower = LogFollower(session.api, run_id, session.output.note, persist)
    print_lines(follower.now(), session.output)
    if follower.state in BEFORE_OUTPUT:
        session.output.note(f"{follower.state}: {session.api.why(run_id).why}")
