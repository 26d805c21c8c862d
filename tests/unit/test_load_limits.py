"""What `limits` makes of its rounds: medians, and ratios of what takes a request and answers it."""

from __future__ import annotations

from loadtests.limits import HELLO_DIRECT, HELLO_SAME, OURS_DIRECT, OURS_SAME, Pace, page_of


def test_a_request_is_what_its_own_listener_and_haproxy_take_for_it() -> None:
    """Not what the other replica takes meanwhile, nor what is behind the listener."""
    rounds = [
        (HELLO_SAME, "Hello world", {"Hello world": 300.0, "HAProxy": 100.0, "Replicas": 50.0}),
        (HELLO_SAME, "Hello world", {"Hello world": 900.0, "HAProxy": 100.0, "Replicas": 50.0}),
        (HELLO_SAME, "Hello world", {"Hello world": 200.0, "HAProxy": 100.0, "Replicas": 50.0}),
        (
            OURS_SAME,
            "Replicas",
            {"Hello world": 40.0, "HAProxy": 110.0, "Replicas": 390.0, "Redis": 20.0, "Buffers": 80.0, "Writer": 9.0},
        ),
        (HELLO_DIRECT, "uvicorn", {"uvicorn": 50.0}),
        (OURS_DIRECT, "Replicas", {"Replicas": 75.0, "FerretDB": 250.0}),
    ]
    paces = [Pace(name, 500.0, cpu_us, listener, k6_cores=0.5) for name, listener, cpu_us in rounds]
    page = page_of(paces, 6.0, {})
    assert page.verdict == (
        f"{OURS_SAME} / {HELLO_SAME}: 1.25 to answer, 1.50 until it is kept; "
        f"{OURS_DIRECT} / {HELLO_DIRECT}: 1.50 to answer, 1.50 until it is kept"
    )
    rows = {name: (per_s, answering, keeping, k6) for name, per_s, answering, keeping, _, k6 in page.tables[0].rows}
    assert rows == {
        HELLO_SAME: ("500", "400", "-", "0.50"),
        OURS_SAME: ("500", "500", "600", "0.50"),
        HELLO_DIRECT: ("500", "50", "-", "0.50"),
        OURS_DIRECT: ("500", "75", "-", "0.50"),
    }
    assert page.warnings == []


def test_a_saturated_generator_is_told() -> None:
    page = page_of([Pace(OURS_SAME, 1.0, {}, "Replicas", 1.0, ["The generator was saturated."])] * 2, 6.0, {})
    assert page.warnings == [f"{OURS_SAME}: The generator was saturated."]
