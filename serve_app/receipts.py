"""What became of an accepted write."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from actors.core.intake import Intake, State
from actors.core.receipt import Receipt, decode_receipt
from serve_app.answers import Answer, json_answer
from serve_app.errors import Problem
from serve_app.parameters import query


def accepted(receipt: Receipt, state: State | None = None) -> dict[str, Any]:
    """The answer to one accepted write."""
    return {"id": receipt.id, "receipt": receipt.encode(), "state": "logged" if state is None else state.name}


def location(receipt: str) -> tuple[bytes, bytes]:
    return (b"location", f"/v1/receipts/{receipt}".encode())


class Receipts:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def get(self, request: Request) -> Answer:
        """GET /v1/receipts/{receipt}"""
        query(request)
        text = request.path_params["receipt"]
        try:
            receipt = decode_receipt(text)
        except ValueError:
            raise Problem("no-such-receipt", "It is not a receipt of this service.", "receipt") from None
        state = await self._intake.state(receipt)
        if state.name == "unknown":
            raise Problem("no-such-receipt", "This service gave out no such receipt.", "receipt")
        answer = {"receipt": text, "id": receipt.id, "namespace": receipt.namespace, "state": state.name}
        return json_answer(200, answer | ({"reason": state.reason} if state.reason else {}))
