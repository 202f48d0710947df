"""Functions that draw tables and runs as plotly figures; they show numbers and compute none.

All figures have one look, which `style` defines.
"""

from simlib.figures.audits import audit
from simlib.figures.outages import delays, reconnections, recovery, restarts, slow_consumers
from simlib.figures.rollouts import (
    enrolment,
    guardrail_panels,
    operating_characteristic,
    outcomes,
    rollback_time,
    rollout,
)
from simlib.figures.runs import (
    agreement,
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
from simlib.figures.sweeps import capacity, sensitivity
from simlib.figures.timelines import rollout_timeline
from simlib.figures.verdicts import break_even, sobol, tornado, verdict
from simlib.renamed import renamed

__all__ = [
    "COLOURS",
    "THEORY",
    "agreement",
    "audit",
    "bandwidth",
    "break_even",
    "bytes_per_client",
    "capacity",
    "connections",
    "crossover",
    "delays",
    "engine_costs",
    "enrolment",
    "guardrail_panels",
    "latency",
    "operating_characteristic",
    "outcomes",
    "reconnections",
    "recovery",
    "restarts",
    "rollback_time",
    "rollout",
    "rollout_timeline",
    "sensitivity",
    "six_metrics",
    "slow_consumers",
    "sobol",
    "tornado",
    "utilisation",
    "verdict",
]


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(
    globals(),
    {
        "along": "sensitivity",
        "comeback": "reconnections",
        "operating": "operating_characteristic",
        "watched": "guardrail_panels",
        "way_back": "rollback_time",
    },
)
