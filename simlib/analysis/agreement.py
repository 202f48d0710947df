"""How far a prediction lies from its measurement, and whether that is within the allowed error."""

from __future__ import annotations

import numpy as np
import pandas as pd

from simlib.core.measures import ratio
from simlib.core.protocol import TOLD_TRANSPORTS
from simlib.errors import ScenarioError
from simlib.run import Run, check_runs

_TOLERANCE_FRAC = {
    False: {"latency_p50_s": 0.03, "latency_p95_s": 0.02, "latency_p99_s": 0.01},
    True: {"latency_p50_s": 0.3, "latency_p95_s": 0.3, "latency_p99_s": 0.3},
}
_TOLERANCE_S = {False: 0.0, True: 0.5e-3}
"""By whether the clients keep a socket open: latencies of milliseconds are harder to predict."""
_COMPARED = (
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "average_latency_s",
    "delivered",
    "up_bytes_per_h",
    "down_bytes_per_h",
    "payload_up_bytes_per_h",
    "payload_down_bytes_per_h",
    "message_rate_per_s",
    "utilisation",
)


def compare(predicted: Run, measured: Run) -> pd.DataFrame:
    """Return predicted beside measured, the error of the prediction and a verdict.

    Parameters
    ----------
    predicted, measured : Run
        Two runs of the same scenario and seed; `measured` comes from `measure`.

    Returns
    -------
    pandas.DataFrame
        A row per quantity: ``quantity``, ``predicted``, ``measured``, ``error`` (predicted -
        measured), ``error_frac`` (relative to measured), ``allowed`` (the largest absolute error,
        for quantities that have a limit) and ``verdict``: ``within`` or ``outside`` the limit, or
        ``inconclusive`` if it is outside but other programs kept the machine busy.
        ``attrs["warnings"]`` has those of both runs.

    Raises
    ------
    ScenarioError
        The first was not simulated or the second not measured, or they are not of one scenario and
        seed.
    """
    check_runs([predicted, measured])
    for name, run, makes in (
        ("predicted", predicted, "simulate"),
        ("measured", measured, "measure"),
    ):
        if (run.provenance["engine"] == "live") != (makes == "measure"):
            rule = f"must be what {makes}(...) returns: compare(predicted, measured)"
            raise ScenarioError(name, run.title, rule)
    for name in ("scenario_hash", "seed", "replication"):
        both = [run.provenance[name] for run in (predicted, measured)]
        if both[0] != both[1]:
            rule = f"must have the same {name}: simulate(measured.scenario, seed=...)"
            raise ScenarioError("predicted, measured", both, rule)
    left, right = predicted.metrics().iloc[0], measured.metrics().iloc[0]
    table = pd.DataFrame(
        {
            "quantity": list(_COMPARED),
            "predicted": [float(left[name]) for name in _COMPARED],
            "measured": [float(right[name]) for name in _COMPARED],
        }
    )
    table["error"] = table["predicted"] - table["measured"]
    table["error_frac"] = ratio(table["error"], table["measured"])
    is_told = measured.scenario.transport in TOLD_TRANSPORTS
    scale = float(measured.provenance.get("time_scale", 1.0))
    relative = table["quantity"].map(_TOLERANCE_FRAC[is_told]) * table["measured"]
    table["allowed"] = relative.clip(lower=_TOLERANCE_S[is_told] * scale)
    outside = "outside" if measured.provenance.get("quiet", True) else "inconclusive"
    verdict = np.where(table["error"].abs() <= table["allowed"], "within", outside)
    table["verdict"] = np.where(table["allowed"].isna(), "", verdict)
    runs = {"predicted": predicted, "measured": measured}
    table.attrs["warnings"] = [
        f"{name}: {warning}" for name, run in runs.items() for warning in run.warnings
    ]
    return table
