"""Hello world as bare ASGI, and the same in a Serve deployment: what any service pays before it does anything.

`uvicorn --lifespan off loadtests.baselines.hello:app`; for Serve the import path `loadtests.baselines.hello:deployed`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ray import serve

TEXT = b"hello"
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}
_BODY = {"type": "http.response.body", "body": TEXT}


async def app(
    _scope: MutableMapping[str, Any],
    _receive: Callable[[], Awaitable[Any]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """200 for everything."""
    await send(dict(_START))
    await send(dict(_BODY))


@serve.deployment(name="Hello", max_ongoing_requests=20_000)
@serve.ingress()
class Hello:
    """The same in a replica, on the path that requests to ours take."""

    def __serve_build_asgi_app__(self) -> Any:
        return app


deployed = Hello.bind()  # type: ignore[attr-defined]
