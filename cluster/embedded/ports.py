"""Ports of this machine: is one free, who holds it, which one instead."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
_EVERY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 (recognised here, not bound)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_EPHEMERAL = 32_768
_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING = "0A"  # in those
_ABOVE_RAYS = 20_000
_TRIES = 100


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on host:port now; a port in TIME_WAIT counts as free, as it does for servers."""
    return _refusal(port, host) is None


def obstacle(port: int, host: str) -> tuple[str, str]:
    """Why the service could not listen on host:port now, and what to do; both are empty when it could."""
    correct = "correct SPILLWAY_HTTP_HOST, or SPILLWAY_HTTP_PORT"
    if ":" in host:
        return f"cannot be had at {host}: Serve's front door reaches its replicas by IPv4 alone", correct
    error = _refusal(port, host)
    if error is None:
        return "", ""
    if error.errno != errno.EADDRINUSE:  # no address of this machine, no name of one, no right to the port
        return f"cannot be had at {host}: {error.strerror}", correct
    held = holder(port) or "another user's program"
    return f"is held by {held}", f"end that program, or {other_public_port(port)}"


def other_public_port(port: int) -> str:
    """What a person types who cannot have the service on `port`."""
    return f"choose another port: SPILLWAY_HTTP_PORT={port + 1} make up"


def _refusal(port: int, host: str) -> OSError | None:
    """What the kernel, or the resolver, says to a server that would listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def free_port(preferred: int, host: str = LOOPBACK, taken: Iterable[int] = ()) -> int:
    """`preferred` when it is free, else (and for 0) any other; never one of `taken`.

    Nothing holds the port between this answer and its use: who starts a server on it asks for an `intruder`. So that
    there rarely is one, it is none of those from which the kernel takes the near end of a connection, of which Ray
    makes hundreds while it starts.
    """
    avoid = set(taken)
    if preferred and preferred not in avoid and is_free(preferred, host):
        return preferred
    for _ in range(_TRIES):
        port = secrets.choice(_quiet_ports())
        if port not in avoid and is_free(port, host):
            return port
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port


def _quiet_ports() -> range:
    """Above what Ray gives its workers, below what the kernel gives connections."""
    try:
        lowest = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = _USUAL_EPHEMERAL
    return range(_ABOVE_RAYS, lowest if lowest > _ABOVE_RAYS + _TRIES else _USUAL_EPHEMERAL)


def holder(port: int) -> str | None:
    """Who listens on `port`, as `name (pid N)`; None when nobody does, or when the owner is hidden from this user."""
    return next((_named(pid) for _, pid in _listeners(port) if pid is not None), None)


def intruder(port: int, host: str, session: int) -> str | None:
    """Who else listens on host:port, which is for the processes of `session`; None when nobody does.

    What answers there may be another program: a server that has lost its port lives for a moment, or reads its log
    first, and HAProxy and the replicas share theirs with any program of this user that wants to share it.
    """
    # Looked at twice: of a server that has begun to listen during a look nobody knows yet whose it is.
    return _intruder(port, host, session) and _intruder(port, host, session)


def _intruder(port: int, host: str, session: int) -> str | None:
    ours, others = set[str](), dict[str, int | None]()
    listeners, me = _listeners(port), os.geteuid()
    users = _users(port) if any(pid is None for _, pid in listeners) else {}
    for address, pid in listeners:
        # Hidden, but of this user: a part of our own may be (one with file capabilities is), and nobody can tell.
        if users.get(address, me) == me if pid is None else _session(pid) == session:
            ours.add(address)
        elif host in _EVERY_INTERFACE or address in (_address(host), *_EVERY_INTERFACE):
            others[address] = pid
    # Beside ours another address is no matter: that of IPv6, as a rule.
    in_the_way = [pid for address, pid in others.items() if not ours or address in ours]
    if not in_the_way:
        return None
    return "another user's program" if in_the_way[0] is None else _named(in_the_way[0])


def _listeners(port: int) -> list[tuple[str, int | None]]:
    """Address and process id of each, None where it is hidden from this user. Empty where the kernel's list is."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):  # psutil passes on what opening /proc/net/tcp raises
        return []
    listening = [(found.laddr, found.pid) for found in connections if found.status == psutil.CONN_LISTEN]
    return [(address.ip, pid) for address, pid in listening if address and address.port == port]


def _users(port: int) -> dict[str, int]:
    """Whose the socket is that listens on `port` at each address, which the kernel tells of hidden processes as well.

    It lets none but one user's sockets share an address.
    """
    found = dict[str, int]()
    for table in _SOCKETS:
        try:
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
        except OSError:  # no IPv6, or not for this user
            continue
        for _, local, _, state, _, _, _, user, *_ in rows:
            address, _, listens_on = local.partition(":")
            if state == _LISTENING and int(listens_on, 16) == port:
                found[_readable(address)] = int(user)
    return found


def _readable(address: str) -> str:
    """An address of the kernel's lists: words of 32 bits in hexadecimal digits, each in this machine's order."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:  # the resolver is away
        return host


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended just now
        return None


def _named(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (pid {pid})"
    except psutil.NoSuchProcess:
        return f"pid {pid}"


def reachable(host: str) -> str:
    """The address a client on this machine uses for a server that listens on `host`."""
    return LOOPBACK if host in _EVERY_INTERFACE else host
