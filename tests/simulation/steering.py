"""What people do to runs in a history."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from quaymaster.dispatcher.steering.cancel import cancel_run
from quaymaster.dispatcher.steering.confirm import confirm_run, discard_run
from quaymaster.dispatcher.steering.extend import extend_run
from quaymaster.dispatcher.steering.stop import stop_run
from quaymaster.domain.api import ConfirmRun
from quaymaster.errors import NotFound, Refused
from quaymaster.ports import Ports

type Act = Callable[[Ports, str], object]

CONFIRMATION = ConfirmRun(phase="apply", metadata={"TICKET": "1"})
MINUTES, HOURS = timedelta(minutes=5), timedelta(hours=2)


def told(act: Act) -> Act:
    """What comes too early or too late is refused, which is as it should be."""

    def tried(ports: Ports, run: str) -> None:
        with suppress(Refused, NotFound):
            act(ports, run)

    return tried


CANCEL = told(lambda ports, run: cancel_run(ports, run, "user"))
CONFIRM = told(lambda ports, run: confirm_run(ports, run, "user", CONFIRMATION))
EXTEND = told(lambda ports, run: extend_run(ports, run, "user", "", MINUTES, HOURS))
LONGER = told(lambda ports, run: extend_run(ports, run, "user", "", None, HOURS))
DISCARD = told(lambda ports, run: discard_run(ports, run, "user"))
ABOUT_UNCONFIRMED: tuple[tuple[str, Act], ...] = (("discard", DISCARD), *[("confirm", CONFIRM)] * 4)
ACTS: tuple[tuple[str, Act], ...] = (
    ("cancel", CANCEL),
    ("cancel", CANCEL),
    ("stop", told(lambda ports, run: stop_run(ports, run, "user"))),
    ("kill", told(lambda ports, run: stop_run(ports, run, "user", at_once=True))),
    *[("extend", EXTEND), ("extend", LONGER)] * 2,
    ("discard", DISCARD),
    ("confirm", CONFIRM),
)
"""Each as often as it is likely."""
