from __future__ import annotations

from actors.core.document import Key
from serve_app.near_cache import NearCache

A, B, C = (Key("a.b", name) for name in "abc")


def test_serves_until_the_time_is_up() -> None:
    cache = NearCache(1.0, 10)
    cache.put(A, b"1", now=5.0, mark=cache.mark())
    assert cache.get(A, 5.9) == b"1"
    assert cache.get(A, 6.0) is None
    assert len(cache) == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = NearCache(1.0, 2)
    for key in (A, B):
        cache.put(key, b"1", 0.0, cache.mark())
    cache.get(A, 0.5)
    cache.put(C, b"1", 0.5, cache.mark())
    assert [cache.get(key, 0.6) for key in (A, B, C)] == [b"1", None, b"1"]


def test_it_tells_what_it_lacks_without_making_anything_younger() -> None:
    cache = NearCache(1.0, 2)
    cache.put(A, b"1", 0.0, cache.mark())
    cache.put(B, b"1", 0.5, cache.mark())
    assert cache.lacks("a.b", ["c", "a", "b"], 0.9) == ["c"]
    assert cache.lacks("a.b", ["c", "a", "b"], 1.0) == ["c", "a"]
    assert cache.lacks("a.x", ["b"], 0.9) == ["b"]
    cache.put(C, b"1", 0.9, cache.mark())
    assert cache.lacks("a.b", ["a", "b", "c"], 0.9) == ["a"]


def test_a_read_from_before_a_write_does_not_come_back_after_it() -> None:
    cache = NearCache(1.0, 10)
    mark = cache.mark()
    cache.evict(A)
    cache.put(A, b"old", 0.0, mark)
    cache.put(B, b"fine", 0.0, mark)
    assert cache.get(A, 0.1) is None
    assert cache.get(B, 0.1) == b"fine"
    cache.put(A, b"new", 0.1, cache.mark())
    assert cache.get(A, 0.2) == b"new"


def test_large_documents_are_not_kept() -> None:
    """Bounded by number alone, it would grow to gigabytes."""
    cache = NearCache(1.0, 10)
    cache.put(A, b"1" * 8 * 1024, 0.0, cache.mark())
    cache.put(B, b"1" * (8 * 1024 + 1), 0.0, cache.mark())
    assert cache.get(A, 0.5) is not None
    assert cache.get(B, 0.5) is None


def test_it_can_be_switched_off() -> None:
    for cache in (NearCache(0, 10), NearCache(1.0, 0)):
        cache.put(A, b"1", 0.0, cache.mark())
        assert cache.get(A, 0.0) is None
