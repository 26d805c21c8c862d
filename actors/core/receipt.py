"""Receipt: where an accepted write stands. It holds all that is needed to find out later, so it costs no storage."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from actors.core.position import order

_SEPARATOR = "\x1f"
_MAX_CHARACTERS = 2_048


class Receipt(NamedTuple):
    """Place of one write: the `offset`-th of the entry at `position` of `stream`."""

    stream: str
    position: str
    offset: int
    namespace: str
    id: str

    def encode(self) -> str:
        """Opaque text, safe in a URL."""
        text = _SEPARATOR.join((self.stream, self.position, str(self.offset), self.namespace, self.id))
        return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_receipt(text: str) -> Receipt:
    """The inverse of `Receipt.encode`. Raises `ValueError` for anything else."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError("too long for a receipt")
    try:
        raw = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
        stream, position, offset, namespace, id_ = raw.split(_SEPARATOR)
        receipt = Receipt(stream, position, int(offset), namespace, id_)
        order(position)
    except (ValueError, UnicodeError) as error:
        raise ValueError("not a receipt of this service") from error
    if receipt.offset < 0 or receipt.encode() != text:
        raise ValueError("not a receipt of this service")
    return receipt
