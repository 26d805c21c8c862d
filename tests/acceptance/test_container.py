"""The image's command without an engine: its files, read-only; its variables; no privilege; Redis and MongoDB given."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pymongo import MongoClient

from cluster.embedded.ports import free_port
from cluster.state import StateFolder
from tests import image
from tests.acceptance.service import BAD_LUCK

START_S = 240.0
STOP_S = 120.0
# Root without capabilities may no more than anybody else: read-only files stay as they are.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.getuid() == 0 else []


class Container:
    """One process tree that sees of this project only what the image holds."""

    def __init__(self, folder: Path, redis_url: str, mongodb_uri: str) -> None:
        self.srv, self.state, home = folder / "srv", folder / "state", folder / "home"
        image.assemble(self.srv)
        for path in (self.srv, *self.srv.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        self.before = self.files()
        self.state.mkdir(mode=0o700)
        home.mkdir(mode=0o500)  # read-only too, as all of the image is in compose.yaml
        self.port = free_port(0)
        self.environment = {
            **image.environment(),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(self.srv),
            "HOME": str(home),
            "SPILLWAY_STATE_DIR": str(self.state),
            "SPILLWAY_HTTP_HOST": "127.0.0.1",  # the one liberty: this machine may have neighbours
            "SPILLWAY_HTTP_PORT": str(self.port),
            "SPILLWAY_DIRECT_PORT": str(free_port(0)),
            "SPILLWAY_REDIS_URL": redis_url,
            "SPILLWAY_MONGODB_URI": mongodb_uri,
            "SPILLWAY_MAX_QUEUE_BYTES": str(64 * 1024 * 1024),  # the Redis of the tests is a small one
            "SPILLWAY_CACHE_MAX_ENTRIES": "1000",
            "SPILLWAY_KEY_PREFIX": f"c{uuid.uuid4().hex[:8]}",
        }
        self.output = folder / "output"

    def start(self, tries: int = 3) -> None:
        """Returns when it is healthy. As with `Service`, Ray's own patience is not the image's fault."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*UNPRIVILEGED, *self._command("CMD")],
                cwd=self.srv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.healthy():
                return
            time.sleep(1.0)
        self.kill()
        self.process.wait(STOP_S)
        said = self.output.read_text()
        assert tries > 1, said
        assert BAD_LUCK.search(said), said
        self.start(tries - 1)

    def kill(self) -> None:
        for process in self.processes():
            process.kill()

    def healthy(self) -> bool:
        """What the image's own health check says."""
        done = subprocess.run(
            self._command("HEALTHCHECK"), cwd=self.srv, env=self.environment, capture_output=True, timeout=30
        )
        return done.returncode == 0

    def post(self, path: str, body: object) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            told: dict[str, object] = json.loads(answer.read())
            return told

    def smoke_test(self) -> None:
        """What k8s/setup.sh asks a new service, word for word."""
        script = [str(image.ROOT / "k8s/setup.sh"), "--dry-run", "--port", str(self.port)]
        shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
        asked = [shlex.split(line.removeprefix("  + ")) for line in shown.splitlines() if line.startswith("  + curl")]
        assert len(asked) == 5
        for command in asked:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}: {done.stderr}"

    def files(self) -> list[str]:
        return sorted(str(path) for path in self.srv.rglob("*"))

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SPILLWAY_STATE_DIR") == str(self.state):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def _command(self, name: str) -> list[str]:
        _, *arguments = image.named(name)[0].command
        return [sys.executable, *arguments]


@pytest.fixture
def container(alone: None, redis_url: str, mongodb_uri: str, tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path, redis_url, mongodb_uri)
    yield made
    made.kill()
    shutil.rmtree(StateFolder(made.state).sockets, ignore_errors=True)


def test_it_starts_by_itself_gets_healthy_drains_at_sigterm_and_leaves_nothing(
    container: Container, mongodb_uri: str
) -> None:
    container.start()
    container.smoke_test()
    database = f"image{uuid.uuid4().hex[:8]}"
    items = [{"number": number} for number in range(200)]
    answers = [container.post(f"/v1/{database}/notes/batch", items) for _ in range(5)]
    container.process.send_signal(signal.SIGTERM)
    assert container.process.wait(STOP_S) == 0, container.output.read_text()

    said = container.output.read_text()
    assert "Drained" in said
    with MongoClient[dict[str, object]](mongodb_uri) as client:
        numbers = sorted(document["number"] for document in client[database]["notes"].find())
    assert [answer["accepted"] for answer in answers] == [200] * 5
    assert numbers == sorted(list(range(200)) * 5)
    assert container.processes() == []
    assert container.files() == container.before
