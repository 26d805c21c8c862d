"""The real HAProxy with the configuration that our wrapper mends."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster.embedded import ports
from cluster.front_door import haproxy_wrapper, write_error_pages
from cluster.parts import _bundled_haproxy

CONFIG = """defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    errorfile 502 /somewhere/500.http
    errorfile 503 /somewhere/500.http
    errorfile 504 /somewhere/500.http
frontend http_frontend
    bind *:PORT
    default_backend nobody
backend nobody
"""


@pytest.mark.parametrize("name", ["plain", """a 'b' & "c" | $d \\1 #e"""])
def test_haproxy_answers_with_our_page_whatever_the_name_of_the_projects_folder(tmp_path: Path, name: str) -> None:
    folder, port = tmp_path / name, ports.free_port(0)
    folder.mkdir()
    write_error_pages(folder)
    binary, wrapper, config = folder / "real", folder / "haproxy", tmp_path / "haproxy.cfg"
    binary.symlink_to(_bundled_haproxy())
    wrapper.write_text(haproxy_wrapper(str(binary), folder))
    wrapper.chmod(0o700)
    config.write_text(CONFIG.replace("PORT", str(port)))
    with subprocess.Popen([wrapper, "-db", "-f", config]) as haproxy:
        try:
            while ports.is_free(port):
                assert haproxy.poll() is None, "it has ended"
                time.sleep(0.05)
            with pytest.raises(urllib.error.HTTPError) as answer:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/")
            assert answer.value.code == 503
            assert b"/problems/not-ready" in answer.value.read()
        finally:
            haproxy.kill()
