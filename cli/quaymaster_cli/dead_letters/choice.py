"""Which dead letters a command means."""

from typing import TYPE_CHECKING

from quaymaster.domain.api import DeadLetterChoice
from quaymaster.domain.durations import parse_duration

from quaymaster_cli.errors import Usage

if TYPE_CHECKING:
    from quaymaster_cli.deployment.client import ApiClient

_AT_ONCE = 100
"""What one call takes."""


def choose(api: "ApiClient", letters: list[str], everything: bool, older_than: str | None) -> list[DeadLetterChoice]:
    """The choice as the API takes it, in parts where there are many. Raises Usage when it is none, or two."""
    if [bool(letters), everything, older_than is not None].count(True) != 1:
        raise Usage("name letters, or say --all, or --older-than")
    if letters:
        names = list(dict.fromkeys(letters))
        return [DeadLetterChoice(ids=names[at : at + _AT_ONCE]) for at in range(0, len(names), _AT_ONCE)]
    try:
        age = parse_duration(older_than) if older_than else None
    except ValueError as error:
        raise Usage(f"--older-than: {error}") from None
    # By the deployment's clock: this machine's may be wrong.
    now = api.dead_letters().at
    return [DeadLetterChoice(before=now - age if age else now)]
