"""What people do to runs in a history."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.dispatcher.steering.extend import extend_run
from quaymaster.dispatcher.steering.stop import stop_run
from quaymaster.errors import NotFound, Refused
from quaymaster.ports import Ports

type Act = Callable[[Ports, str], object]

MINUTES, HOURS = timedelta(minutes=5), timedelta(hours=2)


def told(act: Act) -> Act:
    """What comes too early or too late is refused, which is as it should be."""

    def tried(ports: Ports, run: str) -> None:
        with suppress(Refused, NotFound):
            act(ports, run)

    return tried


CANCEL = told(lambda ports, run: cancel_run(ports, run, "user"))
EXTEND = told(lambda ports, run: extend_run(ports, run, "user", "", MINUTES, HOURS))
ACTS: tuple[tuple[str, Act], ...] = (
    ("cancel", CANCEL),
    ("cancel", CANCEL),
    ("stop", told(lambda ports, run: stop_run(ports, run, "user"))),
    ("kill", told(lambda ports, run: stop_run(ports, run, "user", at_once=True))),
    *[("extend", EXTEND)] * 4,
)
"""Each as often as it is likely."""
