"""Ports that are promised to a run, from their choice until it ends, whoever listens there meanwhile.

A port is bound long after it was found free, the front door's by half a minute, and a part that starts again leaves
its own for a moment. And HAProxy and the replicas let any program of their user listen beside them (`SO_REUSEPORT`):
two services that find one port free would share its callers without a word.
"""

from __future__ import annotations

import errno
import os
import socket

import psutil

from cluster.embedded import ports


class Claims:
    """Those of one run. Runs of one user do not get each other's; other users' servers exclude each other anyway.

    A claim is a name in the kernel's own list of sockets (abstract, see unix(7)): it goes with its process, leaves no
    file in a /tmp that others share, and counts where the port does, in this network namespace.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self, port: int) -> bool:
        """Claims it until `release`; False when it is claimed already."""
        claim = socket.socket(socket.AF_UNIX)
        self._held.append(claim)
        try:
            claim.bind(f"\0{_name(port)}")
        except OSError as error:  # where no such names are allowed there are no claims, and intruders are told later
            return error.errno != errno.EADDRINUSE
        return True

    def release(self) -> None:
        """For a process that goes on after its run."""
        for claim in self._held:
            claim.close()
        self._held.clear()


def claimant(port: int) -> str | None:
    """Whose run has claimed `port`, as `the Spillway of FOLDER (pid N)`; None when nobody has, or another user."""
    try:
        sockets = psutil.net_connections("unix")
    except (psutil.Error, OSError):  # psutil passes on what opening /proc/net/unix raises
        return None
    for found in sockets:
        if str(found.laddr) == f"@{_name(port)}" and found.pid is not None:
            try:
                return f"the Spillway of {psutil.Process(found.pid).cwd()} (pid {found.pid})"
            except psutil.Error:  # it has ended just now
                return None
    return None


def obstacle(port: int, host: str) -> tuple[str, str]:
    """Why this run could not have host:port now, and what to do; both are empty when it could.

    Another Spillway is named as what it is: of what listens there the kernel knows HAProxy, or a replica.
    """
    why, remedy = ports.obstacle(port, host)
    if why and ports.holder(port) is None:  # the address is at fault, or another user's program
        return why, remedy
    run = claimant(port)
    if run is None:
        return why, remedy
    why = f"is held by {run}" if why else f"is promised to {run} that starts or stops just now"
    return why, f"stop that one (make down there), or {ports.other_public_port(port)}"


def _name(port: int) -> str:
    return f"spillway-{os.getuid()}-{port}"
