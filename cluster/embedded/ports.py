"""Ports of this machine: is one free, who holds it, which one instead."""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
_EVERY_INTERFACE = ("", "0.0.0.0", "::")  # noqa: S104 (recognised here, not bound)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_EPHEMERAL = 32_768
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
    return f"is held by {held}", f"end that program, or choose another port: SPILLWAY_HTTP_PORT={port + 1} make up"


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

    Nothing holds the port between this answer and its use: a server that loses it fails at start and says so. So that
    it rarely does, it is none of those from which the kernel takes the near end of a connection, of which Ray makes
    hundreds while it starts.
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
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
            continue
        if connection.laddr.port != port:
            continue
        try:
            return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except psutil.NoSuchProcess:
            return f"pid {connection.pid}"
    return None


def reachable(host: str) -> str:
    """The address a client on this machine uses for a server that listens on `host`."""
    return LOOPBACK if host in _EVERY_INTERFACE else host
