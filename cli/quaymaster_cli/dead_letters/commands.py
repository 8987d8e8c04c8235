"""`quaymaster dead-letters`: input that nothing came of."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from quaymaster_cli.session import Session, command

if TYPE_CHECKING:
    from quaymaster.domain.api import DeadLetterChoice

    from quaymaster_cli.errors import CliError

app = typer.Typer(help="Input that nothing came of, and why.", no_args_is_help=True)

Letters = Annotated[list[str] | None, typer.Argument(metavar="[LETTER]...", help="Ids of letters.")]
All = Annotated[bool, typer.Option("--all", help="All that lie there now.")]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="DURATION", help="All that are older than this.")
]


@app.callback()
def dead_letters() -> None:
    """Input that nothing came of, and why."""


@command(app, "list")
def list_dead_letters(session: Session) -> None:
    """List what lies in the dead-letter queue, with the reason and the age."""
    from quaymaster_cli.showing.output import tell_span

    found = session.api.dead_letters()
    if session.output.json:
        session.output.show_json(found)
        return
    rows = [
        (one.id, tell_span(one.age_seconds), one.source, one.request_id, one.reason, one.body)
        for one in found.dead_letters
    ]
    session.output.table(
        ("LETTER", "AGE", "FROM", "REQUEST", "REASON", "BODY"), rows, spare=("BODY", "FROM", "REQUEST", "AGE")
    )


@command(app, "show")
def show(session: Session, letter: Annotated[str, typer.Argument(metavar="LETTER", help="A letter's id.")]) -> None:
    """Show a dead letter in full, and where redriving would send it."""
    from quaymaster_cli.dead_letters.content import kind_of, show_content
    from quaymaster_cli.showing.output import tell_span

    found = session.api.dead_letter(letter)
    if session.output.json:
        session.output.show_json(found)
        return
    session.output.fields(
        [
            ("letter", found.id),
            ("at", found.at),
            ("age", tell_span(found.age_seconds)),
            ("from", found.source),
            ("reason", found.reason),
            ("request", found.request_id),
            ("pool", found.pool),
            ("redrive", f"to {found.goes_to}" if found.goes_to else f"keeps it: {found.kept_because}"),
            *((f"attribute {name}", value) for name, value in sorted(found.attributes.items())),
            ("content", kind_of(found.content)),
        ]
    )
    show_content(session.output, found.content)


@command(app, "redrive")
def redrive(session: Session, letters: Letters = None, everything: All = False, older_than: OlderThan = None) -> None:
    """Send dead letters again to where they were going; doing it twice changes nothing."""
    from quaymaster.domain.api import Redriven

    from quaymaster_cli.dead_letters.choice import choose

    done = Redriven(redriven=[], kept=[], missing=[], more=False)
    for choice in choose(session.api, letters or [], everything, older_than):
        while True:
            found = session.api.redrive(choice)
            known = {one.id for one in done.kept}
            done = Redriven(
                redriven=done.redriven + found.redriven,
                kept=done.kept + [one for one in found.kept if one.id not in known],
                missing=done.missing + found.missing,
                more=found.more,
            )
            if not (_goes_on(choice, more=found.more) and found.redriven):
                break
    if session.output.json:
        session.output.show_json(done)
    elif done.redriven:
        session.output.table(("LETTER", "TO", "RUN"), [(one.id, one.to, one.run) for one in done.redriven])
    for one in done.kept:
        session.output.note(f"kept {one.id}: {one.reason}")
    _tell_missing(session, done.missing)
    if not (done.redriven or done.kept or done.missing):
        raise _nothing_there(older_than)
    if done.kept or not done.redriven:
        raise typer.Exit(1)


@command(app, "purge")
def purge(
    session: Session,
    letters: Letters = None,
    everything: All = False,
    older_than: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Throw dead letters away, after asking."""
    from quaymaster.domain.api import Purged

    from quaymaster_cli.dead_letters.choice import choose

    choices = choose(session.api, letters or [], everything, older_than)
    _ask(_amount(session, letters, older_than), yes)
    done = Purged(purged=[], missing=[], more=False)
    for choice in choices:
        while True:
            found = session.api.purge(choice)
            done = Purged(purged=done.purged + found.purged, missing=done.missing + found.missing, more=found.more)
            if not (_goes_on(choice, more=found.more) and found.purged):
                break
    if session.output.json:
        session.output.show_json(done)
    else:
        for one in done.purged:
            session.output.say(one)
        session.output.note(f"threw {len(done.purged)} away")
    _tell_missing(session, done.missing)
    if not (done.purged or done.missing):
        raise _nothing_there(older_than)
    if not done.purged:
        raise typer.Exit(1)


def _amount(session: Session, letters: list[str] | None, older_than: str | None) -> str:
    """How many letters are meant, as far as one look tells: what lies in a long queue is not all seen at once."""
    if letters:
        return f"the {len(letters)} letters named"
    from quaymaster.domain.durations import parse_duration

    found = session.api.dead_letters().dead_letters
    least = parse_duration(older_than).total_seconds() if older_than else 0
    meant = sum(one.age_seconds >= least for one in found)
    if not meant:
        raise _nothing_there(older_than)
    return f"{meant} letters" + (f" older than {older_than}" if older_than else "")


def _nothing_there(older_than: str | None) -> "CliError":
    from quaymaster_cli.errors import CliError

    return CliError("there are no dead letters" + (f" older than {older_than}" if older_than else ""))


def _goes_on(choice: "DeadLetterChoice", *, more: bool) -> bool:
    """One call looks at a part of a long queue."""
    return choice.before is not None and more


def _ask(what: str, yes: bool) -> None:
    from quaymaster_cli.errors import CliError, Usage

    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage("nobody brings a purged letter back: say --yes")
    if not typer.confirm(f"Throw {what} away?", err=True):
        raise CliError("nothing was thrown away")


def _tell_missing(session: Session, missing: list[str]) -> None:
    for name in missing:
        session.output.note(f"no dead letter {name!r}; it may have been redriven or purged already")
