"""The errors of Quaymaster: one base, one class for each thing that a caller can act on.

QuaymasterError
├── Refused        the input is wrong; repeating it will not help
│   └── Conflict       it is right by itself, and contradicts what came before
├── NotFound       what was named does not exist
├── Lost           a conditional write found another state than it expected: read again and decide anew
├── Busy           contention that outlived the retries: let the message come again
└── Unavailable    a service did not answer or refused for now: try later
    ├── Throttled      it was asked too often: whether a repeated call was made before is not known
    └── NoCapacity     it has nothing left to give now: nothing was started
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

from quaymaster.telling import describe_name

if TYPE_CHECKING:
    from quaymaster.domain.keys import Key


class QuaymasterError(Exception):
    """Base of all errors that Quaymaster raises on purpose."""


class Refused(QuaymasterError):
    """Wrong input: names the field, what was found, and what is allowed."""

    def __init__(self, field: str, found: object, allowed: str) -> None:
        shown = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
        super().__init__(_sendable(f"{field}: found {shown}; {allowed}"))
        self.field = _sendable(field)


class Conflict(Refused):
    """Input that would be right if something else did not stand there already."""


class NotFound(QuaymasterError):
    """`what` (a pool, a run, a worker) named `name` does not exist."""

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"no {what} {describe_name(name)}")
        self.what = what
        self.name = name


class Lost(QuaymasterError):
    """A commit changed nothing, because the items at `keys` were not as it expected."""

    def __init__(self, keys: Collection["Key"]) -> None:
        super().__init__(f"lost at {', '.join(f'{key.pk}/{key.sk}' for key in keys)}")
        self.keys = frozenset(keys)


class Busy(QuaymasterError):
    """Others are writing the same items; nothing was changed, and the same commit may succeed later."""


class Unavailable(QuaymasterError):
    """A cloud service failed or throttled; `service` names it."""

    def __init__(self, service: str, detail: str) -> None:
        super().__init__(f"{service}: {detail}")
        self.service = service


class Throttled(Unavailable):
    """A cloud service was asked too often."""


class NoCapacity(Unavailable):
    """A cloud service has no capacity left for now, and has started nothing."""


def _sendable(text: str) -> str:
    """The text with half surrogates, which JSON can bring and nothing can send on, written as escapes."""
    return text.encode(errors="backslashreplace").decode()
