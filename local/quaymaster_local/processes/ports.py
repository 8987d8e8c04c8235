"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import contextlib
import socket

from quaymaster_local.settings import LOOPBACK


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on now.

    Another process may still take one before it is used: whoever starts a server on one must check that it came up.
    """
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def answers(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex((LOOPBACK, port)) == 0
