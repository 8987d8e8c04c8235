"""What counts as the broker refusing this worker, and when that is final."""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false

from awscrt import mqtt5

FEWEST_REFUSALS = 3
SHORT_LIFE = 10.0
"""A connection that ends within these seconds, without a message on it, was refused by its policy."""

_CODES = frozenset(
    {
        mqtt5.ConnectReasonCode.NOT_AUTHORIZED,
        mqtt5.ConnectReasonCode.BAD_USERNAME_OR_PASSWORD,
        mqtt5.ConnectReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        mqtt5.ConnectReasonCode.BANNED,
    }
)
_ERRORS = frozenset(
    {
        "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE",
        "AWS_IO_TLS_ALERT_NOT_GRACEFUL",
        "AWS_ERROR_MQTT_UNEXPECTED_HANGUP",
        "AWS_IO_SOCKET_CLOSED",
        "AWS_IO_TLS_CLOSED_BEFORE_ALERT",
    }
)


def is_refusal(code: mqtt5.ConnectReasonCode | None, error_name: str) -> bool:
    """Whether a failed attempt to connect was refused, by the broker's answer or, if there is none, by TLS."""
    return code in _CODES if code is not None else error_name in _ERRORS


class Refusals:
    """The refusals since the last message; final when they are several and have lasted long enough."""

    def __init__(self, give_up_after_seconds: float) -> None:
        self._give_up_after = give_up_after_seconds
        self._connected_at: float | None = None
        self._heard = False
        self._since: float | None = None
        self._number = 0

    def connected(self, now: float) -> None:
        """A connection is up; whether it may be used is still to be seen."""
        self._connected_at, self._heard = now, False

    def heard(self) -> None:
        """A message came: nothing is refused."""
        self._heard, self._since, self._number = True, None, 0

    def ended_at_once(self, now: float) -> bool:
        """Whether a connection that ends now has lived too short and silent a life."""
        return not self._heard and self._connected_at is not None and now - self._connected_at < SHORT_LIFE

    def count(self, now: float) -> bool:
        """One more; says whether that is final."""
        self._number += 1
        self._since = now if self._since is None else self._since
        return self._number >= FEWEST_REFUSALS and now - self._since >= self._give_up_after
