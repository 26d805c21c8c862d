"""Hello world as bare ASGI, and the same in a Serve deployment: what any service pays before it does anything.

`uvicorn loadtests.baselines.hello:app`; for Serve the import path `loadtests.baselines.hello:deployed`.
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
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """200 for every request."""
    if scope["type"] == "lifespan":
        while (event := (await receive())["type"]) != "lifespan.shutdown":
            await send({"type": f"{event}.complete"})
        await send({"type": f"{event}.complete"})
        return
    await send(dict(_START))
    await send(dict(_BODY))


def built() -> Any:
    """Serve takes a function for one that makes the app."""
    return app


deployed = serve.deployment(serve.ingress(built)(), name="Hello", max_ongoing_requests=20_000).bind()  # type: ignore[attr-defined]
