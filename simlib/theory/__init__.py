"""Closed forms that the simulation and the live lab must agree with, each with its limits.

These functions draw no random numbers and know no engine. Tests compare runs with them, and
notebooks show them beside simulated or measured results. Times are seconds, sizes bytes, rates per
second; "share" and ``_frac`` mean 0 to 1.
"""

from simlib.renamed import renamed
from simlib.theory.balancing import after_restart, after_rolling_deploy
from simlib.theory.broadcasts import CutShort, cut_short
from simlib.theory.long_polling import (
    held_empty_frac,
    held_requests_per_s,
    held_staleness_s,
)
from simlib.theory.pauses import PausedPolls
from simlib.theory.polls import (
    AdaptivePolls,
    SharedPoll,
    adaptive_polls,
    hidden_polls_per_s,
    poll_cost_s,
    shared_poll,
)
from simlib.theory.queueing import (
    FanOut,
    Queue,
    fan_out,
    machine_repairman,
    md1,
    mm1,
    mmc,
)
from simlib.theory.reconnecting import (
    Recovery,
    drain_peak_per_s,
    leaked_connections,
    recovery_exponential,
    recovery_full_jitter,
    rolling_deploy_moves,
)
from simlib.theory.replications import (
    mean_interval,
    standard_error,
)
from simlib.theory.rollouts import last_tab_s, left_frac, rollback_time_s
from simlib.theory.staleness import (
    Staleness,
    heartbeat_detection,
    poll_request_rate_per_s,
    restarted_fetch_s,
    staleness_fixed_timer,
    staleness_jittered,
    staleness_rearmed_timer,
    superseded_frac,
)
from simlib.theory.traffic import (
    crossover_rate_per_s,
    polling_bytes_per_s,
    push_bytes_per_s,
)

__all__ = [
    "AdaptivePolls",
    "CutShort",
    "FanOut",
    "PausedPolls",
    "Queue",
    "Recovery",
    "SharedPoll",
    "Staleness",
    "adaptive_polls",
    "after_restart",
    "after_rolling_deploy",
    "crossover_rate_per_s",
    "cut_short",
    "drain_peak_per_s",
    "fan_out",
    "heartbeat_detection",
    "held_empty_frac",
    "held_requests_per_s",
    "held_staleness_s",
    "hidden_polls_per_s",
    "last_tab_s",
    "leaked_connections",
    "left_frac",
    "machine_repairman",
    "md1",
    "mean_interval",
    "mm1",
    "mmc",
    "poll_cost_s",
    "poll_request_rate_per_s",
    "polling_bytes_per_s",
    "push_bytes_per_s",
    "recovery_exponential",
    "recovery_full_jitter",
    "restarted_fetch_s",
    "rollback_time_s",
    "rolling_deploy_moves",
    "shared_poll",
    "staleness_fixed_timer",
    "staleness_jittered",
    "staleness_rearmed_timer",
    "standard_error",
    "superseded_frac",
]


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(globals(), {"way_back_s": "rollback_time_s"})
