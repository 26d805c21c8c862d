"""The API described for people: pages made here, so that they need no network and no script."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
from starlette.requests import Request

from serve_app.answers import Answer
from serve_app.errors import FAULTS, Problem
from serve_app.parameters import query

HTML = b"text/html; charset=utf-8"
TEXT = b"text/plain; charset=utf-8"
_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin:2.5rem 0 .5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:6px;margin:.5rem 0}summary{padding:.5rem .8rem;cursor:pointer}
details>div{padding:0 .8rem .8rem;overflow-x:auto}
code,pre{font:13px ui-monospace,monospace}pre{background:var(--soft);padding:.6rem}
b.m{display:inline-block;width:4.2rem;font:bold 12px ui-monospace,monospace}
.GET{color:#2a7de1}.POST{color:#1a9c5b}.PUT{color:#c77700}.PATCH{color:#8a5cd6}.DELETE{color:#d13438}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-top:1px solid var(--line)}
"""


class DocsPage:
    """Serves one OpenAPI document, which never changes, as JSON and as a page."""

    def __init__(self, openapi: dict[str, Any]) -> None:
        self._json = orjson.dumps(openapi)
        self._html = _page(openapi).encode()

    async def openapi(self, request: Request) -> Answer:
        query(request)
        return Answer(200, self._json)

    async def docs(self, request: Request) -> Answer:
        query(request)
        return Answer(200, self._html, HTML, [_POLICY])

    async def problem(self, request: Request) -> Answer:
        """GET /problems/{code}: what a problem document's `type` points to."""
        query(request)
        code = request.path_params["code"]
        fault = FAULTS.get(code)
        if fault is None:
            raise Problem("not-found", "There is no such problem.", "code")
        return Answer(200, f"{code} (HTTP {fault.status})\n\n{fault.title}.\n\n{fault.advice}\n".encode(), TEXT)


def _page(openapi: dict[str, Any]) -> str:
    info = openapi["info"]
    groups: dict[str, list[str]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in groups.items())
    schemas = "".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<div><pre>{_indented(schema)}</pre></div></details>"
        for name, schema in sorted(openapi["components"]["schemas"].items())
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        f'<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI {escape(openapi["openapi"])}).</p>'
        f"{sections}<h2>Schemas</h2>{schemas}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}</td>"
        f"<td>{escape(p['description'])}</td></tr>"
        for p in operation.get("parameters", ())
    )
    bodies = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>body</td><td>{_link(content['schema'])}</td></tr>"
        for name, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(answer['description'])}</td><td>"
        f"{' '.join(_link(content.get('schema', {})) for content in answer.get('content', {}).values())}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    takes = f"<h4>Takes</h4><table>{parameters}{bodies}</table>" if parameters or bodies else ""
    return (
        f'<details><summary><b class="m {method}">{method}</b><code>{escape(path)}</code> &nbsp; '
        f"{escape(operation['summary'])}</summary><div><p>{escape(operation.get('description', ''))}</p>"
        f"{takes}<h4>Answers</h4><table>{answers}</table></div></details>"
    )


def _link(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "items" in schema:
        return f"list of {_link(schema['items'])}"
    return escape(str(schema.get("type", "")))


def _indented(schema: dict[str, Any]) -> str:
    return escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
