"""What an audit reads from a run: one figure each, by name, unit and sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from simlib.analysis import metrics, outages, rollouts
from simlib.guide.defects import FAULT_S, LOOK_S, ROLLBACK_S
from simlib.run import Run
from simlib.scenario import compile_workload


class Quantity(NamedTuple):
    """A figure of a run.

    Attributes
    ----------
    label : str
        What it is, in words that follow its value.
    unit : str
        ``"share"`` of a whole, or the unit.
    of : callable
        Takes a run and returns a number; NaN if the run has no such thing.
    """

    label: str
    unit: str
    of: Callable[[Run], float]


def _unseen_frac(run: Run) -> float:
    ledger = run.ledger
    return (ledger.lost + ledger.pending) / ledger.eligible if ledger.eligible else np.nan


def _blind_frac(run: Run) -> float:
    clients = run.frame("clients")
    clients = clients[clients["eligible"] > 0]
    return float((clients["delivered"] == 0).mean()) if len(clients) else np.nan


def _stranded_frac(run: Run) -> float:
    row = outages.reconnections(run).iloc[0]
    return float(row["stranded"] / row["cut"]) if row["cut"] else np.nan


def _peak_per_s(run: Run) -> float:
    return float(outages.reconnections(run)["peak_per_s"].iloc[0])


def _reconnections_per_h(run: Run) -> float:
    return float(metrics.table(run)["reconnection_rate_per_h"].iloc[0])


def _most_requests_per_s(run: Run) -> float:
    timeline = run.frame("timeline")
    after = timeline[timeline["t_s"] >= ROLLBACK_S]
    return float((after["polls"].groupby(after["t_s"]).sum() / after["width_s"].iloc[0]).max())


def _busiest_frac(run: Run) -> float:
    timeline = run.frame("timeline")
    return float(timeline.loc[timeline["t_s"] >= FAULT_S, "utilisation"].max())


def _failed_frac(run: Run) -> float:
    """Return for which part of all changes of the run the broadcast ended with an error."""
    seed, replication = (run.provenance[name] for name in ("seed", "replication"))
    published = len(compile_workload(run.scenario, seed, replication).publish_s)
    return float(run.frame("timeline")["failed_updates"].sum() / published) if published else np.nan


def _not_enrolled_frac(run: Run) -> float:
    return float((run.frame("clients")["cohort"] == "control").mean())


def _still_pushed_frac(run: Run) -> float:
    return float(rollouts.left(run, ROLLBACK_S, [LOOK_S])[0])


QUANTITIES = {
    "unseen": Quantity("of the changes are never shown", "share", _unseen_frac),
    "blind": Quantity("of the clients see no change at all", "share", _blind_frac),
    "stranded": Quantity("of the clients that were cut never come back", "share", _stranded_frac),
    "peak": Quantity("connections in the busiest second", "1/s", _peak_per_s),
    "reconnections": Quantity("reconnections of a client", "per hour", _reconnections_per_h),
    "failed": Quantity("of the updates end with an error for their author", "share", _failed_frac),
    "busiest": Quantity("of the busiest second the server works", "share", _busiest_frac),
    "not_enrolled": Quantity("of the tabs are not enrolled at 100 %", "share", _not_enrolled_frac),
    "requests": Quantity("requests in the busiest second", "1/s", _most_requests_per_s),
    "still_pushed": Quantity(
        "of the tabs are still pushed to, five minutes after the rollback",
        "share",
        _still_pushed_frac,
    ),
}
"""The figures, by the names that `defects` uses."""
