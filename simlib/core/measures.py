"""The metrics of a run that tables, figures and guardrails share."""

from __future__ import annotations

GUIDE_METRICS = (
    "connection_count",
    "average_latency_s",
    "reconnection_rate_per_h",
    "message_rate_per_s",
    "error_rate_per_h",
    "fallback_to_polling_frac",
)
OF_A_COHORT = (
    *GUIDE_METRICS,
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "up_bytes_per_h",
    "down_bytes_per_h",
)
OF_THE_SERVER = ("utilisation", "memory_bytes")
METRICS = (*OF_A_COHORT, *OF_THE_SERVER)
"""What a guardrail can watch."""
COUNTED = ("average_latency_s", "error_rate_per_h", "reconnection_rate_per_h")
"""What a sequential test can judge: means of single observations, and rates of events."""
