"""Numbers for Ray: none of them may ever hurt the service that tells them."""

from __future__ import annotations

from actors.adapters.telemetry import RayTelemetry


def test_a_counter_that_stays_where_it_is_is_no_error() -> None:
    telemetry = RayTelemetry("0of1")
    telemetry.count("accepted_writes", 0)  # a second in which nothing came
    telemetry.count("accepted_writes", 5)
    telemetry.gauge("backlog_writes", 0)
    telemetry.observe("flush_seconds", 0.0)
