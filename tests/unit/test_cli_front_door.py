"""What stands before Serve: HAProxy's configuration is mended, and its own errors are of the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from cluster.embedded.steps import Steps
from cluster.front_door import error_page, haproxy_wrapper, write_error_pages
from cluster.parts import Parts
from cluster.settings import load
from cluster.state import Process, Record, StateFolder
from serve_app.errors import FAULTS

TEMPLATE = """defaults
    errorfile 502 /somewhere/500.http
    errorfile 503 /somewhere/500.http
    errorfile 504 /somewhere/500.http
frontend prometheus
    bind :9101
frontend http_frontend
    bind *:8000
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
listen stats
  bind *:8404
"""


def test_the_wrapper_mends_the_configuration_and_becomes_haproxy(tmp_path: Path) -> None:
    wrapper, config = tmp_path / "haproxy", tmp_path / "haproxy.cfg"
    wrapper.write_text(haproxy_wrapper("/bin/echo", tmp_path / "pages"))
    config.write_text(TEMPLATE)
    said = subprocess.run(
        ["/bin/sh", str(wrapper), "-db", "-f", str(config)], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"-db -f {config}\n"
    lines = [line.strip() for line in config.read_text().splitlines()]
    assert "http-request return status 503 default-errorfiles" in lines
    assert "bind 127.0.0.1:9101" in lines
    assert "bind 127.0.0.1:8404" in lines
    subprocess.run(["/bin/sh", str(wrapper), "-db", "-f", str(config)], capture_output=True, check=True)
    again = [line.strip() for line in config.read_text().splitlines()]
    assert again == lines, "a second start on the same file"
    frontend = lines.index("frontend http_frontend")
    assert lines[frontend + 1] == "http-request set-header X-Forwarded-For %[src] # ours"
    assert [line.split()[1] for line in lines[frontend + 2 : frontend + 5]] == ["del-header"] * 3
    for status in (502, 503, 504):
        assert f'errorfile {status} "$PAGES/{status}.http"' in lines


def test_the_wrapper_stands_where_a_program_may_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk for data, which the doctor recommends for a large log, is often mounted noexec."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    parts = Parts(load(), folder, Record("run", Process(1, 1, "boot")), Steps(Console()))
    wrappers = [parts._haproxy_wrapper()]
    noexec = {folder.run: os.ST_NOEXEC}
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_flag=noexec.get(place, 0)))
    wrappers.append(parts._haproxy_wrapper())
    assert wrappers == [folder.run / "haproxy", folder.sockets / "haproxy"]
    assert os.access(wrappers[1], os.X_OK)
    shutil.rmtree(folder.sockets)


@pytest.mark.parametrize(("said", "code"), [(502, "outcome-unknown"), (503, "not-ready"), (504, "outcome-unknown")])
def test_an_error_page_is_a_problem_of_the_contract(tmp_path: Path, said: int, code: str) -> None:
    write_error_pages(tmp_path)
    page = (tmp_path / f"{said}.http").read_bytes().decode()
    assert page == error_page(said)
    head, body = page.split("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    problem, fault = json.loads(body), FAULTS[code]
    assert first.startswith(f"HTTP/1.1 {fault.status} ")
    assert (problem["type"], problem["status"], problem["title"]) == (f"/problems/{code}", fault.status, fault.title)
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body.encode())
    assert headers.get("retry-after") == ("1" if fault.status == 503 else None)
