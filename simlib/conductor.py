"""Who conducts a rollout: looks at the run, checks the guardrails, and says the next percentage.

A `Conductor` stands between a plan and an engine. It sees what a team's monitoring would: counts
since it looked last, clients and connections of that moment, latencies as a histogram; each for
the control cohort (whose flag says polling) and the treatment (whose flag says push).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib import cohorts
from simlib.core.record import TICK_S, Count, Glance, bucket_edges_s
from simlib.run import quantiles_of
from simlib.scenario import Plan, Scenario
from simlib.scenario.plan import METRICS

CONTROL, TREATMENT = 0, 1
_QUANTILES = {"latency_p50_s": 0.5, "latency_p95_s": 0.95, "latency_p99_s": 0.99}


class Reading(NamedTuple):
    """What one cohort's metrics were between two looks, and on how much they rest.

    Attributes
    ----------
    values : dict of str to float
        By the names of `plan.METRICS`; NaN where there is nothing to divide by.
    samples : dict of str to int
        Deliveries for latencies, whole seconds of presence else.
    """

    values: dict[str, float]
    samples: dict[str, int]


def read(before: Glance, now: Glance, cohort: int, scenario: Scenario) -> Reading:
    """Return a cohort's metrics between two looks.

    Parameters
    ----------
    before, now : Glance
    cohort : int
        `CONTROL` or `TREATMENT`.
    scenario : Scenario
        For the workers and the memory of a connection.
    """
    length_s = now.t - before.t
    counts = dict(zip(Count, now.counts[cohort] - before.counts[cohort], strict=True))
    # Presence moves little between two looks, but for those who join: the mean of both ends.
    present_h = (before.present[cohort] + now.present[cohort]) / 2.0 * length_s / 3600.0
    latency_s = (now.latency_ticks[cohort] - before.latency_ticks[cohort]) * TICK_S
    delivered = int(counts[Count.DELIVERED])
    histogram = now.histogram[cohort] - before.histogram[cohort]
    edges_s = bucket_edges_s()
    levels = np.array(list(_QUANTILES.values()))
    quantiles = quantiles_of(edges_s[:-1], edges_s[1:], histogram, levels)
    busy_frac = _ratio(now.busy_s - before.busy_s, length_s * scenario.server.workers)
    sockets = int(now.connected[TREATMENT])
    values = {
        "connection_count": float(now.connected[cohort]),
        "average_latency_s": _ratio(latency_s, delivered),
        "reconnection_rate_per_h": _ratio(counts[Count.RECONNECTS], present_h),
        "message_rate_per_s": _ratio(counts[Count.POLLS] + counts[Count.MESSAGES], length_s),
        "error_rate_per_h": _ratio(counts[Count.ERRORS], present_h),
        "fallback_to_polling_frac": _ratio(counts[Count.FALLBACKS], now.present[cohort]),
        **dict(zip(_QUANTILES, quantiles.tolist(), strict=True)),
        "up_bytes_per_h": _ratio(counts[Count.UP_BYTES], present_h),
        "down_bytes_per_h": _ratio(counts[Count.DOWN_BYTES], present_h),
        "utilisation": busy_frac,
        "memory_bytes": sockets * scenario.server.connection_bytes + now.buffered_bytes,
    }
    seconds = int(present_h * 3600.0)
    samples = {name: delivered if "latency" in name else seconds for name in METRICS}
    return Reading(values, samples)


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else math.nan


def places_of(plan: Plan, clients: int, seed: int, replication: int) -> NDArray[np.float64]:
    """Return the places of a run's clients under a plan's deciders, shape (clients,).

    Parameters
    ----------
    plan : Plan
    clients : int
    seed, replication : int
    """
    bucketing = plan.bucketing
    ids = cohorts.user_ids(bucketing.ids, clients, seed=seed, replication=replication)
    ramp = cohorts.places(bucketing.rule, ids, flag=bucketing.flag)
    if bucketing.deciders == "ramp":
        return ramp
    assert bucketing.experiment_percent is not None
    experiment = cohorts.places("growthbook_experiment", ids, flag=f"{bucketing.flag}-experiment")
    chosen = cohorts.settled(experiment, bucketing.experiment_percent)
    return cohorts.combine(bucketing.deciders, ramp, chosen)
