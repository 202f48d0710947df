"""Runs in which a rollout goes on, as tables: who is where, and how long the way back takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib.errors import ScenarioError
from simlib.run import Run, check_runs

_SHARES = {"t50_s": 0.5, "t90_s": 0.9, "t99_s": 0.99, "t100_s": 1.0}


def shares(run: Run) -> pd.DataFrame:
    """Return how many tabs are pushed to over time.

    Parameters
    ----------
    run : Run
        Of a rollout.

    Returns
    -------
    pandas.DataFrame
        A row per moment at which it changed: ``t_s``, ``present`` (tabs that are open),
        ``treatment`` (those whose flag says push) and ``share``, their part.

    Raises
    ------
    ScenarioError
        Not a run, or one without a rollout.
    """
    stays = _stays(run)
    in_treatment = stays["cohort"] == "treatment"
    steps = pd.DataFrame(
        {
            "t_s": np.concatenate([stays["from_s"], stays["to_s"]]),
            "present": np.repeat([1, -1], len(stays)),
            "treatment": np.concatenate([in_treatment, -in_treatment.astype(int)]),
        }
    )
    table = steps.groupby("t_s").sum().cumsum().reset_index()
    return table.assign(share=(table["treatment"] / table["present"]).fillna(0.0))


def way_back(run: Run, since_s: float) -> dict[str, Any]:
    """Return how long it takes after `since_s` until no tab is pushed to any more.

    Parameters
    ----------
    run : Run
        Of a rollout that is rolled back at `since_s`.
    since_s : float
        Seconds from the start of the run.

    Returns
    -------
    dict
        ``tabs`` (that were pushed to then), and ``t50_s``, ``t90_s``, ``t99_s``, ``t100_s``:
        seconds from then until so many percent fewer are, for good; NaN if that is not so before
        the run ends.

    Raises
    ------
    ScenarioError
        Not a run, one without a rollout, a time outside it, or nobody was pushed to then.
    """
    stays = _stays(run)
    end_s = run.provenance["end_of_run_s"]
    is_number = isinstance(since_s, int | float) and not isinstance(since_s, bool)
    if not is_number or not 0.0 <= since_s < end_s:
        raise ScenarioError("since_s", since_s, f"must be in [0, {end_s:g})")
    stays = stays[stays["cohort"] == "treatment"]
    from_s, to_s = np.sort(stays["from_s"]), np.sort(stays["to_s"][stays["to_s"] < end_s])
    tabs = _count(from_s, since_s) - _count(to_s, since_s)
    if tabs == 0:
        raise ScenarioError("since_s", since_s, "must be a time at which somebody is pushed to")
    times = np.unique(np.concatenate([[since_s], from_s, to_s]))
    times = times[times >= since_s]
    left = _count(from_s, times) - _count(to_s, times)
    row: dict[str, Any] = {"tabs": int(tabs)}
    for name, share in _SHARES.items():
        too_many = np.flatnonzero(left > (1.0 - share) * tabs + 1e-9)
        is_back = too_many[-1] + 1 < len(times)
        row[name] = float(times[too_many[-1] + 1] - since_s) if is_back else np.nan
    return row


def _count(sorted_s: NDArray[np.float64], t: Any) -> Any:
    return np.searchsorted(sorted_s, t, "right")


def _stays(run: Run) -> pd.DataFrame:
    check_runs([run])
    if not run.has_cohorts:
        raise ScenarioError("run", run, "must be of a rollout")
    return run.frame("stays")
