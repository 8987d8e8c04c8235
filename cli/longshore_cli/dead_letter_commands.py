"""`longshore dead-letters`: input that nothing came of."""

import typer

from longshore_cli.session import Session, command

app = typer.Typer(help="Input that nothing came of, and why.", no_args_is_help=True)


@app.callback()
def dead_letters() -> None:
    """Input that nothing came of, and why."""


@command(app, "list")
def list_dead_letters(session: Session) -> None:
    """List what lies in the dead-letter queue, with the reason."""
    found = session.api.dead_letters()
    if session.output.json:
        session.output.show_json(found)
        return
    rows = [(one.at, one.source, one.request_id, one.reason, one.body) for one in found.dead_letters]
    session.output.table(("AT", "FROM", "REQUEST", "REASON", "BODY"), rows)
