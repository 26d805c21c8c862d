"""Makes each process believe that the others are on other machines: no channel can be opened, so calls go through Ray.

Python imports a module of this name by itself, from the first folder on PYTHONPATH that has one.
"""

import socket

_connect = socket.socket.connect


def connect(self: socket.socket, address: object) -> None:
    """As ever, but an actor's channel is refused, as the kernel of another machine would refuse it."""
    if isinstance(address, str) and address.startswith("\0spillway-"):
        raise ConnectionRefusedError("this actor is on another machine")
    _connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = connect  # type: ignore[assignment, method-assign]
