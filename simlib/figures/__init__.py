"""Tables to plotly figures; nothing is computed here, numbers come from tables and runs.

One look everywhere: see `style`.
"""

from simlib.figures.outages import comeback, delays, recovery, restarts
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
    "latency",
    "recovery",
    "restarts",
    "six_metrics",
    "utilisation",
]
