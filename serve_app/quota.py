"""How much one caller may write: the generic cell rate algorithm (ITU-T I.371), time being an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import ceil
from typing import NamedTuple, TypeVar

from starlette.requests import Request

from actors.core.pacing import SECOND_NS
from serve_app.answers import Headers
from serve_app.errors import Problem, surely_kept_nothing
from serve_app.limits import EdgeLimits

T = TypeVar("T")


class Charge(NamedTuple):
    """What became of one request."""

    granted: bool
    remaining: int  # writes that would be granted right now
    wait_s: float  # refused: until the same would be granted; granted: until the whole quota is there again
    since: int  # when the caller had paid for what came before


class Quota:
    """Per caller `burst` writes at once and `per_s` in the long run; a refused request costs nothing.

    A caller is one number, the instant at which it will have paid for all it was granted. Whoever has paid is like one
    never seen and need not be remembered. At most `max_callers` are: beyond it the one seen longest ago is forgotten,
    and has its whole burst again.
    """

    def __init__(self, per_s: float, burst: int, max_callers: int) -> None:
        self.burst = burst
        # Whole numbers: of fractions added to an uptime, a whole quota would at times come out as a bit more than one.
        self._interval_ns = ceil(SECOND_NS / per_s)
        self._burst_ns = burst * self._interval_ns
        self._max_callers = max_callers
        self._paid_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paid_at)

    def charge(self, caller: str, writes: int, now: int) -> Charge:
        """Grant `writes` or none of them. More than `burst` are granted only on top of a whole quota, and owed."""
        before = max(self._paid_at.pop(caller, 0), now)
        after = before + writes * self._interval_ns
        most = max(self._burst_ns, writes * self._interval_ns)
        granted = after - now <= most
        paid_at = after if granted else before
        self._paid_at[caller] = paid_at
        while len(self._paid_at) > self._max_callers:
            self._paid_at.popitem(last=False)
        wait_ns = paid_at - now if granted else after - now - most
        return Charge(granted, self._remaining(paid_at, now), wait_ns / SECOND_NS, before)

    def give_back(self, caller: str, writes: int, since: int, now: int) -> Charge:
        """As if `writes`, granted with this `since`, had not been asked for.

        What time has paid of them does not come back: without them it would have been lost, a quota being whole at
        most. Of several that are under way at once some of it may, up to another burst; the rate stays what it is.
        """
        unpaid = max(0, writes * self._interval_ns - max(0, now - since))
        paid_at = max(self._paid_at.get(caller, 0) - unpaid, now)
        if caller in self._paid_at:
            self._paid_at[caller] = paid_at
        return Charge(True, self._remaining(paid_at, now), (paid_at - now) / SECOND_NS, since)

    def _remaining(self, paid_at: int, now: int) -> int:
        return max(0, (self._burst_ns - (paid_at - now)) // self._interval_ns)


class Charged(NamedTuple):
    """What a request was charged, to be given back when nothing of it is kept."""

    headers: Headers  # for its answer
    caller: str = ""
    writes: int = 0
    since: int = 0


_FREE = Charged(())


class Callers:
    """Names callers, charges them, and says so in the fields of draft-ietf-httpapi-ratelimit-headers-11.

    A caller is the address that connected. Only a trusted proxy may name another one, in the header agreed upon: a
    caller that could name itself would have a new name for each request.
    """

    def __init__(self, limits: EdgeLimits, monotonic: Callable[[], float]) -> None:
        """`quota_per_s` 0 switches it off; then nothing is looked at and nothing is remembered."""
        self._quota = (
            Quota(limits.quota_per_s, limits.quota_burst, limits.quota_max_callers) if limits.quota_per_s else None
        )
        self._monotonic = monotonic
        self._header = limits.quota_caller_header.lower().encode()
        self._trusted = networks(limits.trusted_proxies)
        window_s = ceil(limits.quota_burst / limits.quota_per_s) if limits.quota_per_s else 0
        self._policy = (b"ratelimit-policy", b'"writes";q=%d;w=%d' % (limits.quota_burst, window_s))

    def charge(self, request: Request, writes: int) -> Charged:
        """Raises `Problem` quota-exceeded, before anything was kept."""
        if self._quota is None:
            return _FREE
        caller = self._name(request)
        charge = self._quota.charge(caller, writes, self._now())
        if charge.granted:
            return Charged(self._headers(charge.remaining, ceil(charge.wait_s)), caller, writes, charge.since)
        remaining, whole_s = charge.remaining, max(1, ceil(charge.wait_s))
        problem = Problem(
            "quota-exceeded",
            f"{writes} writes are more than this caller's quota holds now: {remaining} of {self._quota.burst}. "
            f"They would be taken in {whole_s} s.",
            retry_after_s=whole_s,
        )
        problem.headers.extend(self._headers(remaining, whole_s))
        raise problem

    async def paid(self, charged: Charged, append: Awaitable[tuple[T, bool]]) -> tuple[T, bool, Headers]:
        """The append's own answer, which ends with whether it was new, and the headers. Where it surely kept nothing,
        or nothing new, what it was charged is given back. Raises as the append does."""
        try:
            kept, fresh = await append
        except Exception as error:
            if surely_kept_nothing(error):
                self._give_back(charged)
            raise
        return kept, fresh, charged.headers if fresh else self._give_back(charged)

    def _give_back(self, charged: Charged) -> Headers:
        if self._quota is None:
            return ()
        charge = self._quota.give_back(charged.caller, charged.writes, charged.since, self._now())
        return self._headers(charge.remaining, ceil(charge.wait_s))

    def _now(self) -> int:
        return int(self._monotonic() * SECOND_NS)

    def _headers(self, remaining: int, whole_s: int) -> Headers:
        return (self._policy, (b"ratelimit", b'"writes";r=%d;t=%d' % (remaining, whole_s)))

    def _name(self, request: Request) -> str:
        client = request.scope.get("client")
        peer: str = client[0] if client else ""
        if self._header and self._is_trusted(peer):
            for name, value in reversed(request.scope["headers"]):  # of several the proxy's own is the last
                if name == self._header:
                    return f"named {value[:200].decode('latin-1').strip()}"
        return peer

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def networks(text: str) -> list[IPv4Network | IPv6Network]:
    """Addresses and networks, separated by commas. Raises `ValueError`."""
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]
