"""`quaymaster worker`: see a pool's workers."""

from typing import Annotated

import typer

from quaymaster_cli.session import Session, command

app = typer.Typer(help="Workers of a pool.", no_args_is_help=True)


@app.callback()
def worker() -> None:
    """Workers of a pool."""


@command(app, "list")
def list_workers(
    session: Session,
    pool: Annotated[str, typer.Option(help="The pool's name or id.")],
    everything: Annotated[bool, typer.Option("--all", help="Also those that are gone.")] = False,
) -> None:
    """List a pool's workers: what they do, and what their agents said of themselves."""
    from quaymaster.domain.api import WorkerList
    from quaymaster.domain.worker import WorkerState

    shown = [one for one in session.api.workers(pool) if everything or one.state is not WorkerState.GONE]
    shown += session.api.workers(pool, gone=True) if everything else []
    if session.output.json:
        session.output.show_json(WorkerList(workers=shown))
        return
    rows = [
        (
            one.id.rpartition(".")[2],
            one.state,
            one.run,
            one.runs_done,
            one.seen_at,
            " ".join(f"{name}={value}" for name, value in sorted(one.metadata.items())) or None,
            one.note,
        )
        for one in shown
    ]
    session.output.table(
        ("WORKER", "STATE", "RUN", "DONE", "SEEN", "METADATA", "NOTE"),
        rows,
        spare=("METADATA", "DONE", "NOTE", "SEEN", "RUN"),
    )
