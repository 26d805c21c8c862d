"""Autoscaling on both doors: Serve counts the requests of its own, the replicas report those of the direct port.

In a Serve config:  `autoscaling_config: {policy: {policy_function: "serve_app.autoscaling:both_doors"}, ...}`.
It imports nothing of ours and nothing of Serve's: Serve pickles the module by value for its controller.
"""

from __future__ import annotations

from typing import Any

DIRECT_REQUESTS = "direct_requests"


def both_doors(context: Any) -> tuple[float, dict[str, Any]]:
    """As many replicas as give each `target_ongoing_requests`; Serve applies bounds, factors and delays afterwards.

    `context` is an `AutoscalingContext`. Serve's own policy is blind to the direct port: it would take a
    flooded replica for an idle one, and remove it.
    """
    if not context.current_num_replicas:
        return context.target_num_replicas, {}
    direct = (context.aggregated_metrics or {}).get(DIRECT_REQUESTS, {})
    ongoing = context.total_num_requests + sum(direct.values())
    return ongoing / context.config.get_target_ongoing_requests(), {}
