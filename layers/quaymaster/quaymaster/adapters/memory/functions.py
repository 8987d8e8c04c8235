"""Functions in memory."""

from quaymaster.errors import Unavailable
from quaymaster.ports import FunctionName


class MemoryFunctions:
    """Fulfils `ports.Functions`: keeps what they were to handle. While `down` is set, every call fails."""

    def __init__(self) -> None:
        self.down: str | None = None
        self.invoked: list[tuple[FunctionName, str]] = []

    def invoke(self, name: FunctionName, event: str) -> None:
        if self.down:
            raise Unavailable("lambda", self.down)
        self.invoked.append((name, event))
