"""What counts as the broker refusing this worker, and when that is final.

Only what the broker itself says: a CONNACK, SUBACK or DISCONNECT that refuses, and a TLS alert about our certificate.
Whatever else keeps a connection from coming about is an outage, however long it lasts.
"""

# awscrt brings no types.
# pyright: reportMissingTypeStubs=false

from awscrt import mqtt5

FEWEST_REFUSALS = 2

_CODES = frozenset(
    {
        mqtt5.ConnectReasonCode.NOT_AUTHORIZED,
        mqtt5.ConnectReasonCode.BAD_USERNAME_OR_PASSWORD,
        mqtt5.ConnectReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        mqtt5.ConnectReasonCode.BANNED,
    }
)
_MAYBE = frozenset(
    {
        "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE",
        "AWS_IO_TLS_ERROR_READ_FAILURE",
        "AWS_IO_TLS_ALERT_NOT_GRACEFUL",
        "AWS_IO_TLS_CLOSED_BEFORE_ALERT",
        "AWS_IO_TLS_CLOSED",
        "AWS_IO_SOCKET_CLOSED",
        "AWS_ERROR_MQTT_UNEXPECTED_HANGUP",
    }
)


def refuses(code: mqtt5.ConnectReasonCode | None) -> bool:
    """Whether a CONNACK of this code says that it will not have us."""
    return code in _CODES


def may_be_about_us(error_name: str) -> bool:
    """Whether a failed attempt may have been ended by an alert about our certificate: awscrt does not say."""
    return error_name in _MAYBE


class Refusals:
    """The refusals since the last message; final when they are several and have lasted long enough."""

    def __init__(self, give_up_after_seconds: float) -> None:
        self._give_up_after = give_up_after_seconds
        self._since: float | None = None
        self._number = 0

    def heard(self) -> None:
        """A message came: nothing is refused."""
        self._since, self._number = None, 0

    def count(self, now: float) -> bool:
        """One more; says whether that is final."""
        self._number += 1
        self._since = now if self._since is None else self._since
        return self._number >= FEWEST_REFUSALS and now - self._since >= self._give_up_after

    def seconds_left(self, now: float) -> float | None:
        """Until one more would be final; None while nothing is refused, and once that time has come."""
        left = 0.0 if self._since is None else self._since + self._give_up_after - now
        return left if left > 0 else None
