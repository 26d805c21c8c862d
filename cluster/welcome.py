"""What a person reads when the service runs: where everything is, and three lines to try."""

from __future__ import annotations

import re
from shlex import quote

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from cluster.state import Record, StateFolder

_PASSWORD = re.compile(r"(?<=://)([^:/?#@]*):.*@")  # to the last @: one that was not escaped is hidden as a whole
_SECRET = re.compile(r"([^?&]*(?:password|token|properties)[^=&]*)=[^&]*", re.IGNORECASE)


def welcome(console: Console, record: Record, folder: StateFolder) -> None:
    """Prints the addresses of a running service; passwords in them are hidden."""
    rows = [
        ("service", record.http_url),
        ("direct port", record.direct_url),
        ("API", f"{record.http_url}/docs"),
        ("Ray dashboard", record.dashboard_url),
        ("its token", f"cat {quote(str(record.ray_token_file))}"),
        ("MongoDB", record.mongodb_uri),
        ("Redis", record.redis_url),
        ("state, logs", str(folder.path)),
    ]
    text = "\n".join(f"{name:<15}{without_password(value)}" for name, value in rows if value)
    console.print(Panel.fit(escape(text), title="Spillway runs", border_style="green"))
    body = "-H 'Content-Type: application/json' -d '{\"text\": \"hello\"}'"
    for line in ("/api/data", f"/v1/demo/notes {body}", "/v1/status"):
        console.print(f"  curl -s {record.http_url}{line}", soft_wrap=True, highlight=False, markup=False)
    console.print("Ctrl-C drains and stops everything.")


def without_password(url: str) -> str:
    """The URL with its password starred out, and whatever else in it may hold one."""
    return _SECRET.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", url))
