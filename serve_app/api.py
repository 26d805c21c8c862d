"""The service over HTTP: an ASGI callable around FastAPI that takes the short way for documents and /api/data."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from actors.core.intake import Intake
from serve_app import contract
from serve_app.answers import Answer, problem_answer
from serve_app.appends import Appends
from serve_app.bodies import Bodies
from serve_app.data import Data
from serve_app.dead_letters import DeadLetters
from serve_app.docs_page import DocsPage
from serve_app.errors import FAULTS, Problem
from serve_app.health import Health, StatusBoard
from serve_app.hosts import Hosts
from serve_app.ids import RESERVED_ID
from serve_app.limits import EdgeLimits
from serve_app.metrics import Metrics
from serve_app.near_cache import NearCache
from serve_app.parameters import RESERVED_DATABASES, Targets
from serve_app.pool import Pool
from serve_app.quota import Callers
from serve_app.reads import Reader
from serve_app.receipts import Receipts
from serve_app.routes import Handler, Route, routes
from serve_app.turns import MOST, Turns
from serve_app.writes import Writes

logger = logging.getLogger(__name__)

__all__ = ["Edge", "EdgeLimits", "make_app"]

VERSION = "0.1.0"
DESCRIPTION = (
    "A write-behind service in front of MongoDB. A write answered with 2xx is in a durable log and will be stored "
    "exactly once, while MongoDB sees a bounded rate of commands. It is kept before MongoDB is asked, so a write with "
    "a precondition (If-Match and its like) is refused. Errors are RFC 9457 problem documents; times are RFC 3339."
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Segment(Convertor[str]):
    """A part of a path that is text as it stands."""

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Database(_Segment):
    """Not one of our own first segments, so that those keep their methods to themselves."""

    regex = f"(?!(?:{'|'.join(RESERVED_DATABASES)})(?:/|$))[^/]+"


class _Id(_Segment):
    """Slashes and all, but not the path of the batch route."""

    regex = f"(?!{RESERVED_ID}$).+"


class _Letter(_Segment):
    """Not what is done with many letters."""

    regex = "(?!(?:replay|discard)(?:/|$))[^/]+"


register_url_convertor("database", _Database())
register_url_convertor("letter", _Letter())
register_url_convertor("id", _Id())


class Edge:
    """The ASGI application. It has no `routes`, so that Ray Serve does not match every request a second time."""

    def __init__(self, table: list[Route], appends: Appends) -> None:
        self._appends = appends
        self._app = _fastapi(table)
        self._exact = {(r.method, r.path): r.handler for r in table if "{" not in r.path}
        self._documents = {
            (r.method, r.path.count("/"), r.path.endswith("/batch")): r.handler for r in table if "{database" in r.path
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._short_way(scope) if scope["type"] == "http" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        answer = await handler(Request(scope, receive, send))
        await answer(scope, receive, send)

    async def finish(self) -> None:
        """Returns when every append that has begun has ended; for the way down, after the last request was taken."""
        await self._appends.finish()

    def _short_way(self, scope: Scope) -> Handler | None:
        """The handler FastAPI would choose for an exact path or one under /v1/{database}, found by two look-ups."""
        path = scope["path"]
        exact = self._exact.get((scope["method"], path))
        if exact is not None or not path.startswith("/v1/"):
            return exact
        parts = path.split("/", 4)
        if len(parts) < 4 or not all(parts[1:]) or parts[2] in RESERVED_DATABASES:
            return None
        handler = self._documents.get((scope["method"], len(parts) - 1, parts[-1] == "batch" and len(parts) == 5))
        if handler is not None:
            scope["path_params"] = dict(zip(("database", "collection", "id"), parts[2:], strict=False))
        return handler


def make_app(
    intake: Intake, limits: EdgeLimits, monotonic: Callable[[], float] = time.monotonic, at_once: int = MOST
) -> Edge:
    """The whole HTTP contract over `intake`. Needs a running loop only when it is called, not here.

    `at_once`: appends; further requests wait for their turn.
    """
    near = NearCache(limits.near_cache_ttl_s, limits.near_cache_max_entries)
    appends = Appends(intake, near, Turns(limits.request_timeout_s, at_once), limits)
    targets = Targets(limits.databases)
    reader = Reader(intake, near, targets, monotonic, limits.request_timeout_s)
    board = StatusBoard(intake)
    callers = Callers(limits, monotonic)
    bodies = Bodies(limits.max_body_bytes)
    pool = Pool(intake, limits.data_namespace)
    data = Data(appends, reader, pool, board, callers, limits, monotonic)
    table = routes(
        limits,
        data,
        Writes(appends, callers, targets, bodies, limits, monotonic),
        reader,
        Receipts(intake),
        DeadLetters(intake, appends, near),
        Health(board),
        Metrics(board),
    )
    hosts = Hosts(limits.http_host, limits.allowed_hosts)
    return Edge([r._replace(handler=_whole(r, bodies, hosts)) for r in table], appends)


def _whole(route: Route, bodies: Bodies, hosts: Hosts) -> Handler:
    """The handler of a route, for those who may ask it, with its body out of the way if it takes none, and every
    exception answered."""
    answers = route.details["responses"]
    is_for_ours = str(FAULTS["unknown-host"].status) in answers
    takes_body = "requestBody" in route.details

    async def whole(request: Request) -> Response:
        if is_for_ours:
            hosts.refuse_others(request)
        if not takes_body:
            await bodies.drop(request)
        return await route.handler(request)

    return _answering(whole, keeps=str(FAULTS["outcome-unknown"].status) in answers)


def _answering(handler: Handler, keeps: bool = False) -> Handler:
    """`handler` with every exception turned into its problem document, on the short way and through FastAPI alike.

    `keeps`: it may have kept something before it failed.
    """

    @functools.wraps(handler)
    async def answering(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            return Answer(400)  # nobody hears it
        except MemoryError:  # anywhere: before the append, in it or behind it
            code = "outcome-unknown" if keeps else "out-of-memory"
            return problem_answer(Problem(code, "This replica has no memory left."))
        except Exception as error:
            return problem_answer(error)

    return answering


def _fastapi(table: list[Route]) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(HTTPException, _not_routed)
    for r in table:
        app.add_api_route(
            r.path, r.handler, methods=[r.method], tags=[r.tag], summary=r.summary, description=r.description,
            status_code=int(next(iter(r.details["responses"]))), response_class=Response, response_model=None,
            operation_id=f"{r.method} {r.path}", openapi_extra=r.details,
        )  # fmt: skip
    openapi = get_openapi(
        title="Spillway", version=VERSION, description=DESCRIPTION, openapi_version="3.1.0", routes=app.routes
    )
    openapi["components"] = {"schemas": contract.components()}
    page = DocsPage(openapi)
    for path, handler in (("/openapi.json", page.openapi), ("/docs", page.docs), ("/problems/{code}", page.problem)):
        app.add_api_route(path, _answering(handler), include_in_schema=False, response_model=None)
    return app


async def _not_routed(request: Request, error: Exception) -> Response:
    """404 and 405, and whatever else the framework raises, as problem documents."""
    status = cast(HTTPException, error).status_code
    if status == 405:
        methods: set[str] = set()
        for route in request.app.routes:
            if route.matches(request.scope)[0] is not Match.NONE:
                methods |= route.methods
        problem = Problem(
            "method-not-allowed", f"{request.method[:20]} is not possible here; {', '.join(sorted(methods))} is."
        )
        problem.headers.append((b"allow", ", ".join(sorted(methods)).encode()))
        return problem_answer(problem)
    if status == 404:
        return problem_answer(Problem("not-found", "There is nothing at this address; see /docs for what there is."))
    return problem_answer(error)
