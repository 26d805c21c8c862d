"""The `_id` of a document: its text, as the service knows it, and its BSON value."""

from __future__ import annotations

from typing import Any

from bson import Decimal128, Int64, json_util


def value_of(text: str) -> Any:
    """Extended JSON when it begins with a brace, else the text itself. Raises whatever its parser happens to raise."""
    return json_util.loads(text) if text.startswith("{") else text


def text_of(value: Any) -> str:
    """The one text of a value, as the edge writes it: 5 in 32 bits, in 64, as 5.0 and as a decimal is one `_id` for
    MongoDB."""
    if isinstance(value, Decimal128) and (number := value.to_decimal()).is_finite():
        value = int(number) if abs(number) < 1 << 63 and number == int(number) else value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 63:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = int(value) if -(1 << 31) <= value < 1 << 31 else Int64(value)
    if isinstance(value, str):
        return value
    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS, separators=(",", ":"))
