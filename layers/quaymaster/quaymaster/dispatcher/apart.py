"""Many things in one turn, of which none takes the others along."""

from collections.abc import Callable, Iterable
from datetime import datetime

from quaymaster.ports import Ports


def apart[T](
    ports: Ports,
    until: datetime,
    items: Iterable[T],
    act: Callable[[T], object],
    failed: Callable[[T], tuple[str, dict[str, str]]],
) -> int:
    """Act on each item that can be begun in time; how many were.

    Whatever one raises, a mistake of ours included, is logged as `failed` names it, and the others have their turn:
    what is not done is found again by the next sweep.
    """
    begun = 0
    for item in items:
        if ports.clock() >= until:
            break
        begun += 1
        try:
            act(item)
        except Exception as error:
            event, fields = failed(item)
            ports.log(event, {**fields, "note": f"{type(error).__name__}: {error}"[:200]})
    return begun
