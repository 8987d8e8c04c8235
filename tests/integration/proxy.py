"""A TCP proxy in front of a broker or a store: the network as it may be."""

import socket
import ssl
import struct
import threading
from contextlib import suppress
from enum import Enum, auto

NOTHING_LINGERS = struct.pack("ii", 1, 0)
"""SO_LINGER that makes `close` send a reset."""


class Mode(Enum):
    """What becomes of a connection."""

    PASS = auto()
    CLOSE = auto()
    RESET = auto()
    STALL = auto()
    EARLY = auto()
    """TLS by somebody whose certificate is not valid yet."""


class Proxy:
    """Passes connections on to a port, or what its mode says; cut, it refuses new ones and drops the old.

    `early` is the server's side of the TLS that is not valid yet.
    """

    def __init__(self, target: int, early: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._early = early
        self._mode = Mode.PASS
        self._held: list[socket.socket] = []
        self.met: dict[Mode, int] = dict.fromkeys(Mode, 0)
        """So many connections has each mode met."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def become(self, mode: Mode) -> None:
        """Drop what there is, and treat all that comes so."""
        self._mode = mode
        self._drop()

    def cut(self) -> None:
        """The network is gone."""
        _end(self._listener)
        self._drop()

    def mend(self) -> None:
        """The network is back."""
        self._mode = Mode.PASS
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _drop(self) -> None:
        held, self._held = self._held, []
        for connection in held:
            _end(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.met[self._mode] += 1
            match self._mode:
                case Mode.PASS:
                    self._pass_on(near)
                case Mode.CLOSE:
                    near.close()
                case Mode.RESET:
                    _reset(near)
                case Mode.STALL:
                    self._held.append(near)
                case Mode.EARLY:
                    self._greet(near)

    def _pass_on(self, near: socket.socket) -> None:
        far = socket.create_connection(("127.0.0.1", self._target))
        self._held += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def _greet(self, near: socket.socket) -> None:
        assert self._early
        near.settimeout(5)
        with near, suppress(OSError), self._early.wrap_socket(near, server_side=True) as secured:
            secured.recv(1)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOTHING_LINGERS)
    connection.close()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
