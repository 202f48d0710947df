"""Tables to plotly figures; nothing is computed here, numbers come from tables and runs.

One look everywhere: see `style`.
"""

from simlib.figures.outages import comeback, delays, recovery, restarts, slow_consumers
from simlib.figures.rollouts import (
    enrolment,
    operating,
    outcomes,
    rollout,
    watched,
    way_back,
)
from simlib.figures.runs import (
    agreement,
    along,
    bandwidth,
    bytes_per_client,
    connections,
    crossover,
    engine_costs,
    latency,
    six_metrics,
    utilisation,
)
from simlib.figures.style import COLOURS, THEORY

__all__ = [
    "COLOURS",
    "THEORY",
    "agreement",
    "along",
    "bandwidth",
    "bytes_per_client",
    "comeback",
    "connections",
    "crossover",
    "delays",
    "engine_costs",
    "enrolment",
    "latency",
    "operating",
    "outcomes",
    "recovery",
    "restarts",
    "rollout",
    "six_metrics",
    "slow_consumers",
    "utilisation",
    "watched",
    "way_back",
]
