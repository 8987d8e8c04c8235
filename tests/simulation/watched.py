"""The ports of a world with every call watched: each may crash, fail, lose its answer, or stand still for a while."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from quaymaster.ports import Ports

from tests.simulation.callsites import PRESIGNED

type Call = Callable[[], object]
type Watch = Callable[[str, Call, tuple[Any, ...]], object]
"""Makes a call (or does not) and gives its answer: the method's name, the call, and its arguments."""


class Watched:
    """Stands before a port and hands each of its calls to the watch."""

    def __init__(self, port: object, name: str, watch: Watch) -> None:
        self._port = port
        self._name = name
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        method: Any = getattr(self._port, name)
        if not callable(method) or name in PRESIGNED:
            return method
        watch, full = self._watch, f"{self._name}.{name}"

        def watched(*arguments: Any, **named: Any) -> object:
            return watch(full, lambda: method(*arguments, **named), arguments)

        # The next look-up finds it without coming here.
        self.__dict__[name] = watched
        return watched


def watched(ports: Ports, table: object, watch: Watch, random: Callable[[int], bytes]) -> Ports:
    """The same ports over this table, with every call of the store and of the cloud watched."""

    def before(port: object, name: str) -> Any:
        return cast("Any", Watched(port, name, watch))

    return replace(
        ports,
        store=before(table, "store"),
        messenger=before(ports.messenger, "messenger"),
        queue=before(ports.queue, "queue"),
        tasks=before(ports.tasks, "tasks"),
        blobs=before(ports.blobs, "blobs"),
        random=random,
    )
