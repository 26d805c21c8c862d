"""What a scenario needs of the machine, and the exact command for what is missing. Checked before k6 starts."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from loadtests.scenario import Plan

SPARE_FILES = 256  # beside one socket a user: k6's own files, the runtime's pollers, sockets not yet closed
TIME_WAIT_S = 60  # how long the kernel keeps the port of a closed connection
LOOPBACK_ADDRESSES = 8
LOCAL_IPS = "127.0.0.1-127.0.0.8"
FEW_USERS = 500  # with more k6 collects its garbage near its memory limit only; with 1,000 there was nothing in it
# Estimates, on the safe side: what a user takes in k6 without garbage; five ids and their places in two dictionaries
# of the judge.
USER_BYTES = 256 * 1024
JUDGED_REQUEST_BYTES = 1_500
RECORDED_REQUEST_BYTES = 600
STORED_REQUEST_BYTES = 5 * 900  # five documents in a MongoDB on this machine
BUSIEST_PER_S = 3_000  # requests/s assumed where users do not think
RESERVE_BYTES = 512 * 1024 * 1024
MIB = 1024 * 1024
_GROUP = Path("/sys/fs/cgroup")  # of this container, control group v2
_QUOTA = _GROUP / "cpu.max"
# Records of runs, and data of the services that experiments started.
_LARGE = r"\( -name answers.log -o -name 'state-*' -o -name 'run-*' \)"


@dataclass(frozen=True, slots=True)
class Need:
    """What a plan asks of the machine; `stored_bytes` of its disk only where MongoDB is here too."""

    users: int
    files: int
    kept_connections: int  # at once, which stay open between requests
    ports: int
    memory_bytes: int
    disk_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine has to give. `listeners`: file limits of the processes that are asked, by process id; `proxies`:
    those of them that are HAProxy."""

    hard_files: int  # -1: no limit
    first_port: int
    last_port: int
    memory_bytes: int
    disk_bytes: int
    loopback: bool
    listeners: Mapping[int, int] = field(default_factory=dict)
    proxies: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is too small, and the command that mends it."""

    what: str
    command: str


def k6_limit_bytes(users: int) -> int:
    """The memory k6 may take (GOMEMLIMIT): half of the machine's, and no more than is available but for a reserve.

    Less than its users need would be no limit: it would collect garbage all the time.
    """
    total, available = memory_bytes()
    return max(min(total // 2, available - RESERVE_BYTES), users * USER_BYTES)


def need_of(plan: Plan, k6_limit_bytes: int) -> Need:
    """The needs of a plan, from above: no user asks more often than its think time lets it.

    Of memory either k6's or the judge's, which begins when k6 has ended. Many users take all that k6 may have, within
    minutes: 10,000 had 3.6 GiB after one, 11.0 of the 11 they were allowed after eight.
    """
    rate = sum(step.rate or 0 for step in plan.steps[-1:]) or BUSIEST_PER_S
    if plan.fewest_seconds_between:
        rate = min(rate, plan.users / plan.fewest_seconds_between)
    requests = rate * plan.seconds
    most_bytes = RESERVE_BYTES + max(plan.users * USER_BYTES, requests * JUDGED_REQUEST_BYTES)
    if plan.users > FEW_USERS:
        most_bytes = max(most_bytes, k6_limit_bytes)
    return Need(
        users=plan.users,
        files=plan.users + SPARE_FILES,
        kept_connections=0 if plan.fresh_connections else plan.users,
        ports=plan.users + (int(rate * min(TIME_WAIT_S, plan.seconds)) if plan.fresh_connections else 0),
        memory_bytes=int(most_bytes),
        disk_bytes=int(requests * RECORDED_REQUEST_BYTES + RESERVE_BYTES),
        stored_bytes=int(requests * STORED_REQUEST_BYTES),
    )


def local_ips(need: Need, machine: Machine) -> str | None:
    """The addresses k6 calls from, when the ports of one are too few and the service is on loopback; else None."""
    ports = machine.last_port - machine.first_port + 1
    return LOCAL_IPS if machine.loopback and need.ports > ports else None


def lacks(need: Need, machine: Machine) -> list[Lack]:
    """What the machine has too little of; empty when the run may begin."""
    found = []
    if 0 <= machine.hard_files < need.files:
        found.append(
            Lack(
                f"{need.users} users need {need.files} open files, this shell may have {machine.hard_files}",
                f"sudo prlimit --pid $$ --nofile={need.files}:{need.files}",
            )
        )
    for pid, files in machine.listeners.items():
        if 0 <= files < need.files:
            found.append(
                Lack(
                    f"process {pid} of the service may have {files} open files; {need.users} users need {need.files}",
                    f"sudo prlimit --pid {pid} --nofile={need.files}:{need.files}",
                )
            )
        elif pid in machine.proxies and 0 <= files < (most := _proxy_files(need.kept_connections)):
            found.append(
                Lack(
                    f"HAProxy may have {files} open files; {need.kept_connections} connections at once need {most}",
                    f"sudo prlimit --pid $$ --nofile={most}:{most}  # then start the service again in this shell",
                )
            )
    ports = (machine.last_port - machine.first_port + 1) * (LOOPBACK_ADDRESSES if machine.loopback else 1)
    if need.ports > ports:
        found.append(
            Lack(
                f"connections need {need.ports} local ports, there are {ports}",
                "sudo sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
            )
        )
    if need.memory_bytes > machine.memory_bytes:
        short = (need.memory_bytes - machine.memory_bytes) // MIB + 1
        found.append(
            Lack(
                f"k6 and the judge may need {need.memory_bytes // MIB} MiB, {machine.memory_bytes // MIB} MiB are free",
                f"sudo sh -c 'fallocate -l {short}M /swapfile && chmod 600 /swapfile && mkswap /swapfile "
                "&& swapon /swapfile'",
            )
        )
    disk_bytes = need.disk_bytes + (need.stored_bytes if machine.loopback else 0)
    if disk_bytes > machine.disk_bytes:
        what = "the record and the documents" if machine.loopback else "the record"
        found.append(
            Lack(
                f"{what} may need {disk_bytes // MIB} MiB, the disk has {machine.disk_bytes // MIB} MiB free",
                f"find .spillway/loadtests {_LARGE} -prune -exec rm -r {{}} +  # of older runs; or --out elsewhere",
            )
        )
    return found


def _proxy_files(connections: int) -> int:
    """HAProxy takes no more connections than it has files for at its start: two and a half for each, and some 60."""
    return connections * 5 // 2 + 60


def survey(base_url: str, out: Path, listeners: Mapping[int, int], proxies: Collection[int] = ()) -> Machine:
    """The machine as it is now. Raises OSError."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    memory = memory_bytes()[1] + _swap_bytes()
    return Machine(
        hard_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        first_port=int(first),
        last_port=int(last),
        memory_bytes=memory,
        disk_bytes=shutil.disk_usage(out).free,
        loopback=is_here(base_url),
        listeners=listeners,
        proxies=proxies,
    )


def is_here(base_url: str) -> bool:
    """Whether an address is on loopback, so that who is asked takes of this machine what k6 does not."""
    return (urlsplit(base_url).hostname or "").startswith("127.")


def file_limits(pids: Sequence[int], base_url: str) -> dict[int, int]:
    """The soft limit of open files of each process that listens where `base_url` asks, and lets itself be looked at."""
    limits, port = {}, urlsplit(base_url).port
    for pid in pids:
        try:
            process = psutil.Process(pid)
            sockets = process.net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                limits[pid] = process.rlimit(psutil.RLIMIT_NOFILE)[0]
        except (psutil.Error, OSError):
            continue
    return limits


def allow_files(files: int) -> None:
    """Raise this process' limit of open files, which k6 inherits. Call it after `lacks` found none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def cores() -> float:
    """Cores this process may use: those it may run on, or fewer where its container has a quota (control group v2)."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else min(allowed, int(quota) / int(period))


def memory_bytes() -> tuple[int, int]:
    """The machine's memory, or its container's where that has a limit, and what is available of it."""
    machine = psutil.virtual_memory()
    try:
        limit, used = (int((_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        cached = int((_GROUP / "memory.stat").read_text().partition("inactive_file ")[2].split()[0])
    except (OSError, ValueError, IndexError):  # `max` is no number
        return machine.total, machine.available
    return min(machine.total, limit), min(machine.available, limit - used + cached)


def _swap_bytes() -> int:
    """What is free of the machine's swap, or of what its container may have of it: in Kubernetes mostly nothing."""
    free = psutil.swap_memory().free
    try:
        limit, used = (int((_GROUP / f"memory.swap.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):
        return free
    return min(free, max(0, limit - used))
