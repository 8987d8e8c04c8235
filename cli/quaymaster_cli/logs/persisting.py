"""Going on while a network, or the API behind it, does not answer: following a run takes hours, an outage minutes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from quaymaster_cli.errors import ApiRefused, CliError, Disconnected, Unfollowed
from quaymaster_cli.showing.output import tell_span

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
GIVE_UP_SECONDS = 900.0
TELL_SECONDS = 60.0
_SERVER_ERROR, _TOO_MANY = 500, 429


@dataclass
class Persistence:
    """Pauses after what failed, ever longer, until it works or has failed for too long.

    What has never worked is not tried again, unless it is `reached`. `left` says in an error how to go on by hand.
    """

    note: Callable[[str], None]
    left: str
    reached: bool = False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    random: Random = field(default_factory=Random)
    _since: float | None = None
    _told_at: float | None = None
    _pause: float = FIRST_PAUSE

    def __call__[T](self, call: Callable[[], T]) -> T:
        """What the call returns, as soon as it works. Raises what `failed` raises."""
        while True:
            try:
                found = call()
            except (Disconnected, ApiRefused) as error:
                self.failed(error)
            else:
                self.worked()
                return found

    def failed(self, error: CliError) -> None:
        """Pause before the next try. Raises the error if it will not pass, Unfollowed if it has not for so long."""
        if not self.reached or not _may_pass(error):
            raise error
        now = self.clock()
        self._since = now if self._since is None else self._since
        left = self._since + GIVE_UP_SECONDS - now
        if left <= 0:
            raise Unfollowed(f"{error}; {self.left}") from None
        if self._told_at is None or now - self._told_at >= TELL_SECONDS:
            self.note(f"{error}; trying again for {tell_span(round(left))}")
            self._told_at = now
        self.sleep(self._pause * self.random.uniform(0.5, 1))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def worked(self) -> None:
        """What failed before works again."""
        self.reached = True
        if self._since is not None:
            self.note("it answers again")
            self._since, self._told_at, self._pause = None, None, FIRST_PAUSE


def _may_pass(error: CliError) -> bool:
    if isinstance(error, ApiRefused):
        return error.status >= _SERVER_ERROR or error.status == _TOO_MANY
    return isinstance(error, Disconnected)
