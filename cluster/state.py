"""What a run leaves on disk: its folders, its lock, and the record by which other programs find it.

`state_dir` holds data/ (Redis and MongoDB), logs/, and run/ with state.json, the lock and Ray's token. Only the
user may enter it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A process as the record knows it; when it was started tells it from a later one with the same id.

    Counted from the machine's start: the time of day jumps, by NTP or after a suspension, and everything would be dead.
    """

    pid: int
    started_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now, if there is one; a zombie is none."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        state, *others = stat.rpartition(b")")[2].split()  # before them, in brackets, any name
        return None if state in (b"Z", b"X") else cls(pid, int(others[18]), _BOOT_ID.read_text().strip())

    def lives(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self


@dataclass
class Record:
    """A running service's addresses and processes. `mongodb_uri` leads to the server itself, past the witness."""

    run_id: str
    owner: Process
    state: str = "starting"
    http_url: str = ""
    direct_url: str | None = None
    dashboard_url: str | None = None
    ray_address: str | None = None
    ray_token_file: str | None = None
    ray_temp_dir: str | None = None
    redis_url: str = ""
    mongodb_uri: str = ""
    service_mongodb_uri: str = ""
    witness_record: str | None = None
    parts: dict[str, Process] = field(default_factory=dict)
    stop_s: float = 150.0
    """Longest the run takes to stop, drain included, unless something hangs."""

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """The opposite of `to_json`. Raises `TypeError` or `KeyError` for a record of another version."""
        known = dict(values)
        known["owner"] = Process(**known["owner"])
        known["parts"] = {name: Process(**part) for name, part in known["parts"].items()}
        return cls(**known)


class StateFolder:
    """The folder of one service; two services on a machine have two of them."""

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        self.path = path if path.is_absolute() else PROJECT_ROOT / path
        self.data = self.path / "data"
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        self.record_file = self.run / "state.json"
        self.token_file = self.run / "ray-token"
        self._left_file = self.data / "left"

    @property
    def sockets(self) -> Path:
        """A short path for sockets, closed to other users. Not in `path`, nor below TMPDIR: a socket's path may have
        107 bytes, HAProxy allows itself 97, and of these the names of Ray and HAProxy take some 70."""
        name = hashlib.sha256(str(self.path).encode()).hexdigest()[:8]
        return Path("/tmp") / f"spw-{os.getuid()}-{name}"  # noqa: S108 (made with mode 0700)

    @property
    def ray_temp_dir(self) -> Path:
        """Ray's folder, with its sockets and logs. Ray opens it to everybody; the folder around it stays closed."""
        return self.sockets / "r"

    def create(self) -> None:
        """Makes the folders, closed to other users. Raises `OSError`."""
        for folder in (self.path, self.data, self.logs, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)  # refuses a folder that somebody else made first
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        found = self.sockets.lstat()  # its name can be guessed: not what somebody else, or a link of theirs, put there
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "not a folder of yours; have it removed", str(self.sockets))
        self.sockets.chmod(0o700)

    def data_of(self, part: str) -> Path:
        """The data folder of one part, made when it is missing."""
        folder = self.data / part
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def token(self) -> Path:
        """The file with Ray's token, mode 0600; the token is made once and kept. Raises `OSError`."""
        if not self.token_file.exists():
            _replace(self.token_file, secrets.token_hex(32))
        return self.token_file

    def lock(self) -> IO[str] | None:
        """The right to run here, held while the answer stays open; None when another process has it.

        The kernel drops it with its holder, so a killed one never blocks the next. Raises `OSError`.
        """
        file = (self.run / "lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Meanwhile systemd-tmpfiles spares `sockets`. It deletes what was not touched in /tmp for 10 days or so, open
        files too, and passes over a folder that is locked."""
        folder = os.open(self.sockets, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_SH)
            yield
        finally:
            os.close(folder)

    def is_locked(self) -> bool:
        """Whether somebody runs here, whatever the record says. Raises `OSError` when this user may not know."""
        try:
            lock = self.lock()
        except FileNotFoundError:
            return False
        if lock is not None:
            lock.close()
        return lock is None

    def save(self, record: Record) -> None:
        """Replaces the record; it may hold passwords: mode 0600. Raises `OSError`."""
        _replace(self.record_file, json.dumps(record.to_json(), indent=2))

    def load(self) -> Record | None:
        """The record of the last run, living or not; None when there is none that this version can read."""
        try:
            return Record.from_json(json.loads(self.record_file.read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def forget(self) -> None:
        """Removes the record; logs and data stay."""
        self.record_file.unlink(missing_ok=True)

    def note_left(self, writes: int | None, log: str = "") -> None:
        """Keeps for `left` how many accepted writes a run has left in the log, None when nobody knows; and for
        `left_in` which log that is.

        Raises `OSError`; nobody knows then.
        """
        self._left_file.write_text(f"{writes}\n{log}\n")

    def left(self) -> int | None:
        """Accepted writes in the log, as the last run noted it; 0 when none has run here yet."""
        try:
            return int(self._left_file.read_text().partition("\n")[0])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError):
            return None

    def left_in(self) -> str:
        """The log that `left` is about; empty when nobody knows, or when none has run here yet."""
        try:
            return self._left_file.read_text().partition("\n")[2].strip()
        except (OSError, ValueError):
            return ""


def _replace(path: Path, text: str) -> None:
    """In one step and with mode 0600: a reader sees the old or the new text, and on a full disk the old one stays."""
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
