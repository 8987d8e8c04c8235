"""How often in a row something that is due could not be handled."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Push:
    """The count, and the version of the record that the last push wrote.

    Any other write raises the version further: what has changed since begins anew.
    """

    times: int
    version: int
