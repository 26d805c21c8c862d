"""The real HAProxy with the configuration that our wrapper mends."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.embedded import ports
from cluster.front_door import haproxy_wrapper, write_error_pages
from cluster.parts import _bundled_haproxy

CONFIG = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 200ms
    errorfile 502 /somewhere/500.http
    errorfile 503 /somewhere/500.http
    errorfile 504 /somewhere/500.http
frontend http_frontend
    bind *:PORT
    default_backend replicas
backend replicas
"""


@contextmanager
def front_door(folder: Path, config: Path, *servers: str) -> Iterator[str]:
    """Its URL; `folder` is where its pages are."""
    port = ports.free_port(0)
    folder.mkdir(exist_ok=True)
    write_error_pages(folder)
    binary, wrapper = folder / "real", folder / "haproxy"
    binary.symlink_to(_bundled_haproxy())
    wrapper.write_text(haproxy_wrapper(str(binary), folder))
    wrapper.chmod(0o700)
    config.write_text(CONFIG.replace("PORT", str(port)) + "".join(f"    server {server}\n" for server in servers))
    with subprocess.Popen([wrapper, "-db", "-f", config]) as haproxy:
        try:
            while ports.is_free(port):
                assert haproxy.poll() is None, "it has ended"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/"
        finally:
            haproxy.kill()


@pytest.mark.parametrize("name", ["plain", """a 'b' & "c" | $d \\1 #e"""])
def test_haproxy_answers_with_our_page_whatever_the_name_of_the_projects_folder(tmp_path: Path, name: str) -> None:
    with front_door(tmp_path / name, tmp_path / "haproxy.cfg") as url:
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(url)
        assert answer.value.code == 503
        assert b"/problems/not-ready" in answer.value.read()


def test_haproxy_says_of_a_silent_replica_that_the_outcome_is_unknown(tmp_path: Path) -> None:
    """Stopped, or in a loop that never ends: its kernel takes what is sent, and nobody answers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        front_door(tmp_path, tmp_path / "haproxy.cfg", f"one 127.0.0.1:{silent.getsockname()[1]}") as url,
    ):
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(url, data=b"{}")
        assert answer.value.code == 504
        assert json.load(answer.value)["code"] == "outcome-unknown"
