"""Tables of runs with a rollout: how many tabs each cohort has, and how long a rollback takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.errors import ScenarioError, shown
from simlib.renamed import renamed
from simlib.run import Run, check_runs

__all__ = [
    "compare",
    "enrolled",
    "leads_to_push",
    "left",
    "remaining",
    "rollback_time",
    "shares",
    "switches",
]

_SHARES = {"t50_s": 0.5, "t90_s": 0.9, "t99_s": 0.99, "t100_s": 1.0}


def enrolled(run: Run) -> pd.DataFrame:
    """Return how many tabs belong to the treatment cohort over time.

    Parameters
    ----------
    run : Run
        Of a rollout.

    Returns
    -------
    pandas.DataFrame
        A row per moment at which it changed: ``t_s``, ``present`` (tabs that are open),
        ``treatment`` (those whose flag says so), and ``share``, their part of the open tabs.

    Raises
    ------
    ScenarioError
        Not a run, or one without a rollout.
    """
    return _steps(_exposures(run), [], []).drop(columns=["sockets", "pushed"])


def shares(run: Run) -> pd.DataFrame:
    """Return how many tabs are pushed to over time.

    Parameters
    ----------
    run : Run
        Of a rollout from polling to push.

    Returns
    -------
    pandas.DataFrame
        A row per time at which a number changes: ``t_s``, ``present`` (open tabs), ``treatment``
        (open tabs in the treatment cohort), ``sockets`` (open push connections), and ``share`` and
        ``pushed``: the latter two as fractions of the open tabs.

    Raises
    ------
    ScenarioError
        The argument is not a run with a rollout, or the rollout is between other transports.
    """
    _check_leads_to_push(run)
    sockets = run.sockets()
    return _steps(_exposures(run), sockets["opened_s"], sockets["closed_s"])


def _steps(exposures: pd.DataFrame, opened_s: Any, closed_s: Any) -> pd.DataFrame:
    """The table of `shares`: what exposures and sockets change, and when."""
    tabs, sockets = len(exposures), len(opened_s)
    in_treatment = (exposures["cohort"] == "treatment").astype(int)
    steps = pd.DataFrame(
        {
            "t_s": [*exposures["from_s"], *exposures["to_s"], *opened_s, *closed_s],
            "present": np.repeat([1, -1, 0], [tabs, tabs, 2 * sockets]),
            "treatment": [*in_treatment, *-in_treatment, *[0] * (2 * sockets)],
            "sockets": np.repeat([0, 1, -1], [2 * tabs, sockets, sockets]),
        }
    )
    table = steps.groupby("t_s").sum().cumsum().reset_index()
    present = table["present"].where(table["present"] > 0)
    return table.assign(
        share=(table["treatment"] / present).fillna(0.0),
        pushed=(table["sockets"] / present).fillna(0.0),
    )


def rollback_time(run: Run, since_s: float) -> dict[str, Any]:
    """Return how long it takes after `since_s` until no tab has the treatment's variant any more.

    In a rollout from polling to push, until no tab is pushed to any more.

    Parameters
    ----------
    run : Run
        Of a rollout that is rolled back at `since_s`.
    since_s : float
        Seconds from the start of the run.

    Returns
    -------
    dict
        ``tabs``, the number of tabs that had it at `since_s`, and ``t50_s``, ``t90_s``,
        ``t99_s``, ``t100_s``: seconds from then until this number has fallen by that many percent
        and stays there; NaN if that does not happen before the run ends.

    Raises
    ------
    ScenarioError
        The argument is not a run with a rollout, the time is outside the run, or no tab had it at
        that time.
    """
    exposures = _exposures(run)
    end_s = run.provenance["end_of_run_s"]
    is_number = isinstance(since_s, int | float) and not isinstance(since_s, bool)
    if not is_number or not 0.0 <= since_s < end_s:
        raise ScenarioError("since_s", since_s, f"must be in [0, {end_s:g})")
    exposures = exposures[exposures["cohort"] == "treatment"]
    from_s, to_s = (
        np.sort(exposures["from_s"]),
        np.sort(exposures["to_s"][exposures["to_s"] < end_s]),
    )
    tabs = _count(from_s, since_s) - _count(to_s, since_s)
    if tabs == 0:
        had = "is pushed to" if leads_to_push(run) else "is enrolled"
        raise ScenarioError("since_s", since_s, f"must be a time at which somebody {had}")
    times = np.unique(np.concatenate([[since_s], from_s, to_s]))
    times = times[times >= since_s]
    left = _count(from_s, times) - _count(to_s, times)
    row: dict[str, Any] = {"tabs": int(tabs)}
    for name, share in _SHARES.items():
        too_many = np.flatnonzero(left > (1.0 - share) * tabs + 1e-9)
        is_back = too_many[-1] + 1 < len(times)
        row[name] = float(times[too_many[-1] + 1] - since_s) if is_back else np.nan
    return row


def left(run: Run, since_s: float, times_s: ArrayLike) -> NDArray[np.float64]:
    """Return the number of tabs that are enrolled some time after `since_s`, relative to then.

    Parameters
    ----------
    run : Run
        Of a rollout that is rolled back at `since_s`.
    since_s : float
        Seconds from the start of the run.
    times_s : array_like of float
        Seconds from then on, >= 0.

    Returns
    -------
    ndarray of float64, shape of `times_s`
        Tabs that are enrolled after these times, divided by those at `since_s`. They need not be
        the same tabs. `rollback_time` uses the same numbers.

    Raises
    ------
    ScenarioError
        As `rollback_time`, or a time is out of range.
    """
    tabs = rollback_time(run, since_s)["tabs"]
    end_s = run.provenance["end_of_run_s"]
    times = np.asarray(times_s, dtype=float)
    if not bool(((times >= 0.0) & (since_s + times <= end_s)).all()):
        raise ScenarioError("times_s", times.tolist(), f"must be in [0, {end_s - since_s:g}]")
    exposures = run.frame("exposures").query("cohort == 'treatment'")
    from_s, to_s = np.sort(exposures["from_s"]), np.sort(exposures["to_s"])
    count = _count(from_s, since_s + times) - _count(to_s, since_s + times)
    return np.asarray(count / tabs)


def remaining(
    runs: Mapping[str, Run],
    since_s: float,
    times_s: ArrayLike,
    exact: Mapping[str, ArrayLike] | None = None,
) -> pd.DataFrame:
    """Return the fraction of tabs that are still enrolled after a rollback, for several plans.

    Parameters
    ----------
    runs : mapping of str to Run
        Runs of rollouts that are rolled back at `since_s`, by the name of the kind of rollback.
    since_s : float
        Seconds from the start of the runs.
    times_s : array_like of float, shape (n,)
        Seconds from then on, >= 0.
    exact : mapping of str to array_like of float, shape (n,), optional
        Fractions by a closed form such as `theory.left_frac`, for some of the names.

    Returns
    -------
    pandas.DataFrame
        A row per way and time: ``way``, ``t_s``, ``left_frac`` (see `left`), ``exact_frac`` (NaN
        where there is no closed form). `figures.rollback_time` draws it.

    Raises
    ------
    ScenarioError
        As `left`; or there are no runs, or a closed form has an unknown name or another length.
    """
    if not isinstance(runs, Mapping) or not runs:
        raise ScenarioError("runs", runs, "must be a mapping of names to at least one run")
    times, exact = np.atleast_1d(np.asarray(times_s, dtype=float)), exact or {}
    for way, values in exact.items():
        if way not in runs:
            raise ScenarioError("exact", way, f"must be one of {', '.join(runs)}")
        if np.shape(values) != times.shape:
            rule = f"must be {len(times)} values, one for each time"
            raise ScenarioError(f"exact[{shown(way)}]", values, rule)
    tables = [
        pd.DataFrame(
            {
                "way": way,
                "t_s": times,
                "left_frac": left(run, since_s, times),
                "exact_frac": np.asarray(exact.get(way, np.full(len(times), np.nan)), dtype=float),
            }
        )
        for way, run in runs.items()
    ]
    return pd.concat(tables, ignore_index=True)


def switches(run: Run) -> pd.DataFrame:
    """Return which tabs had to change their transport, and how long that took.

    Parameters
    ----------
    run : Run
        Of a rollout.

    Returns
    -------
    pandas.DataFrame
        A row per change of an open tab's flag: ``client``, ``to`` (the new transport), ``told_s``
        (when the tab learnt of it), and ``took_s``, the time from then until a connection of that
        transport was open; NaN if there was none before the next change or the end of the session.

    Raises
    ------
    ScenarioError
        The argument is not a run with a rollout, or the rollout is between other transports.
    """
    _check_leads_to_push(run)
    exposures = _exposures(run).sort_values(["client", "from_s"], kind="stable")
    before_s = exposures.groupby("client")["to_s"].shift()
    told = exposures[exposures["from_s"] == before_s].sort_values("from_s", kind="stable")
    told = told.assign(to=told["cohort"].map(run.transports))
    opened = run.frame("connections")[["client", "transport", "opened_s"]]
    table = pd.merge_asof(
        told.rename(columns={"from_s": "told_s"}),
        opened.sort_values("opened_s", kind="stable").assign(first_s=opened["opened_s"]),
        left_on="told_s",
        right_on="first_s",
        left_by=["client", "to"],
        right_by=["client", "transport"],
        direction="forward",
    )
    took_s = (table["opened_s"] - table["told_s"]).where(table["opened_s"] <= table["to_s"])
    return table[["client", "to", "told_s"]].assign(took_s=took_s)


def compare(
    predicted: Run, measured: Run, at_s: Sequence[float], *, back_s: float | None = None
) -> pd.DataFrame:
    """Return a rollout's prediction beside its measurement.

    Parameters
    ----------
    predicted, measured : Run
        Runs of one rollout, such as a simulated one and one of the live lab.
    at_s : sequence of float
        Times at which connections or tabs are counted, seconds from the start of the run.
    back_s : float, optional
        Time of the rollback, seconds from the start of the run.

    Returns
    -------
    pandas.DataFrame
        A row per figure: ``figure``, ``predicted``, ``measured`` and ``difference`` (measured minus
        predicted). The figures are: push connections at each of the times; the share of
        the treatment's clients that poll instead of push; seconds that a change to either transport
        takes (median and 95th percentile); seconds until 50 to 100 % fewer tabs are enrolled;
        changes lost. A rollout that does not lead from polling to push has tabs that are enrolled
        in place of push connections, and no changes of transport.

    Raises
    ------
    ScenarioError
        The arguments are not runs of rollouts, or a time is not a number.
    """
    pairs = [_figures(run, at_s, back_s) for run in (predicted, measured)]
    table = pd.DataFrame(pairs, index=["predicted", "measured"]).T.rename_axis("figure")
    return table.assign(difference=table["measured"] - table["predicted"]).reset_index()


def _figures(run: Run, at_s: Sequence[float], back_s: float | None) -> dict[str, float]:
    exposures, is_to_push = _exposures(run), leads_to_push(run)
    word, spans = "tabs enrolled", exposures.query("cohort == 'treatment'")[["from_s", "to_s"]]
    if is_to_push:
        word, spans = "push connections", run.sockets()[["opened_s", "closed_s"]]
    from_s, to_s = spans.to_numpy().T
    found: dict[str, float] = {}
    for t in at_s:
        if isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t):
            raise ScenarioError("at_s", t, "must be finite numbers")
        found[f"{word} at {t:g} s"] = float(((from_s <= t) & (to_s > t)).sum())
    summary = run.metrics().set_index("cohort")
    falls = summary.loc["treatment", "fallback_to_polling_frac"]
    found["share on polling instead of push"] = float(str(falls))
    if is_to_push:
        found |= _switching_times(run)
    if back_s is not None:
        back = rollback_time(run, back_s)
        found |= {f"{share:.0%} back within (s)": back[name] for name, share in _SHARES.items()}
    return found | {"changes lost": float(run.ledger.lost)}


def _switching_times(run: Run) -> dict[str, float]:
    took = switches(run)
    found = {}
    for to in (run.transports["treatment"], "polling"):
        of_it = took.loc[took["to"] == to, "took_s"].dropna()
        for share in (0.5, 0.95):
            name = f"switch to {to}, {share:.0%} within (s)"
            found[name] = float(of_it.quantile(share)) if len(of_it) else math.nan
    return found


def _count(sorted_s: NDArray[np.float64], t: Any) -> Any:
    return np.searchsorted(sorted_s, t, "right")


def _exposures(run: Run) -> pd.DataFrame:
    check_runs([run])
    if not run.has_cohorts:
        raise ScenarioError("run", run, "must be of a rollout")
    return run.frame("exposures")


def leads_to_push(run: Run) -> bool:
    """Say whether a rollout leads from polling to a transport whose clients keep a socket open."""
    transports = run.transports
    return transports["control"] == "polling" and transports["treatment"] in SOCKET_TRANSPORTS


def _check_leads_to_push(run: Run) -> None:
    _exposures(run)
    if not leads_to_push(run):
        rule = "must be of a rollout from polling to push: what is counted here is who is pushed to"
        raise ScenarioError("run", run.transports, rule)


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(globals(), {"way_back": "rollback_time"})
