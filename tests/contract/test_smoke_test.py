"""What k8s/setup.sh asks a new service at the end, word for word, of the HTTP edge on a socket."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from serve_app.api import make_app
from serve_app.limits import EdgeLimits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit"))
from fake_intake import FakeIntake  # noqa: E402


@pytest.fixture
def port() -> Iterator[int]:
    config = uvicorn.Config(make_app(FakeIntake(), EdgeLimits()), port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    serving = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    serving.start()
    yield int(listener.getsockname()[1])
    server.should_exit = True
    serving.join(20)


def test_every_question_of_the_smoke_test_is_answered(port: int) -> None:
    script = [str(ROOT / "k8s/setup.sh"), "--dry-run", "--port", str(port)]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    asked = [shlex.split(line.removeprefix("  + ")) for line in shown.splitlines() if line.startswith("  + curl")]
    answers = []
    for command in asked:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        answers.append(done.stdout)
    assert len(asked) == 5
    assert '"text":"setup"' in answers[2].replace(" ", "")  # the document that was put, read again
