"""What an outage does to a fleet: who comes back when, how hard, and what is lost meanwhile.

Tables in, tables out, like `metrics`, of runs with faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib.core.faults import is_hit
from simlib.core.reconnect import Policy, Reconnection, drawn_delay_s
from simlib.errors import ScenarioError
from simlib.run import Run, check_runs
from simlib.scenario import Scenario
from simlib.scenario.presets import LIBRARIES, library
from simlib.scenario.workload import reconnection

_WINDOW_S = 1.0
_DRAWS = 1000
_BACK = 0.95
_BUSY = 0.9


def delays(
    names: Sequence[str] | None = None, *, attempts: int = 8, clients: int = _DRAWS
) -> pd.DataFrame:
    """Return how long client libraries wait before each attempt.

    Parameters
    ----------
    names : sequence of str, optional
        Presets of `scenario.presets`; default: all that try again.
    attempts : int, optional
        How many to show, >= 1.
    clients : int, optional
        Draws, one for each client, >= 1.

    Returns
    -------
    pandas.DataFrame
        A row per library and attempt: ``library``, ``attempt`` (from 1), ``mean_s``, ``p5_s`` and
        ``p95_s`` of the wait before it, and ``since_loss_s``, the mean time since the connection
        was lost if attempts take no time. No rows for attempts that are never made.

    Raises
    ------
    ScenarioError
        An unknown preset, or a count out of range.

    Examples
    --------
    >>> delays(["signalr"])["mean_s"].tolist()
    [0.0, 2.0, 10.0, 30.0]
    """
    for name, count in (("attempts", attempts), ("clients", clients)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ScenarioError(name, count, "must be a whole number >= 1")
    board = Scenario(transport="websocket", updates={"rate_per_s": 1.0})
    rows = []
    for name in list(LIBRARIES) if names is None else names:
        rule = reconnection(board.replace(library(name)).reconnect)
        if rule.policy == Policy.NONE:
            continue
        since_s = 0.0
        for k in range(min(attempts, rule.attempts)):
            waits_s = _waits_s(rule, k, clients)
            # Of equal waits the mean may be off in its last bit.
            mean_s = float(np.clip(waits_s.mean(), waits_s.min(), waits_s.max()))
            since_s += mean_s
            rows.append((name, k + 1, mean_s, *np.quantile(waits_s, [0.05, 0.95]), since_s))
    columns = ["library", "attempt", "mean_s", "p5_s", "p95_s", "since_loss_s"]
    return pd.DataFrame(rows, columns=columns)


def _waits_s(rule: Reconnection, k: int, clients: int) -> NDArray[np.float64]:
    if rule.policy == Policy.WEBSOCKETS:  # a lost connection is tried at once, then it counts
        if k == 0:
            return np.zeros(clients)
        k -= 1
    return np.array([drawn_delay_s(rule, k, 1, 0, client, k) for client in range(clients)])


def comeback(*runs: Run) -> pd.DataFrame:
    """Return how the fleets of some runs came back after their first fault.

    Parameters
    ----------
    *runs : Run
        Simulated or measured, each with a fault.

    Returns
    -------
    pandas.DataFrame
        A row per run: ``name``, ``source``, ``replication``, ``cut`` (connections that stood at
        the fault's start and ended later), ``back_frac`` of them with a new one by the end of the
        run, ``t50_s``, ``t95_s``, ``t100_s`` (time since the fault's start until so many of the
        cut have one; NaN if they never have), ``peak_per_s`` (new connections in the busiest
        window of a second), ``attempts`` per cut client after the fault, ``lost`` changes per cut
        client in the whole run, its beginning included, ``stranded``: how many of the cut have
        no new connection by the end of the run.

    Raises
    ------
    ScenarioError
        No run, something that is not a run, or a run without a fault.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> board = Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 0.1},
    ...     clients=20,
    ...     horizon_s=200,
    ...     faults=[{"kind": "restart", "start_s": 100, "length_s": 5}],
    ... )
    >>> row = comeback(simulate(board)).iloc[0]
    >>> int(row["cut"]), float(row["back_frac"]), bool(row["t100_s"] > 5.0)
    (20, 1.0, True)
    """
    rows = []
    for run in _with_faults(runs):
        table = _cut(run)
        back_s = np.sort(table["back_s"].dropna().to_numpy(dtype=float))
        clients = run.frame("clients")
        lost = clients.loc[clients["client"].isin(table["client"]), "lost"].sum()
        rows.append(
            {
                "name": run.scenario.name,
                "source": run.provenance["engine"],
                "replication": run.provenance["replication"],
                "cut": len(table),
                "back_frac": len(back_s) / len(table) if len(table) else np.nan,
                **{f"t{share}_s": _nth(back_s, len(table), share) for share in (50, 95, 100)},
                "peak_per_s": peak_per_s(back_s),
                "attempts": _attempts_after(run) / len(table) if len(table) else np.nan,
                "lost": lost / len(table) if len(table) else np.nan,
                "stranded": len(table) - len(back_s),
            }
        )
    return pd.DataFrame(rows)


def back(run: Run) -> pd.DataFrame:
    """Return the share of the cut that are back, against the time since the first fault.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        ``t_s`` (seconds since the fault's start, ascending) and ``back_frac``; a step at each.

    Raises
    ------
    ScenarioError
        Not a run, or without a fault.
    """
    (run,) = _with_faults((run,))
    table = _cut(run)
    t_s = np.sort(table["back_s"].dropna().to_numpy(dtype=float))
    share = np.arange(1, len(t_s) + 1) / max(1, len(table))
    return pd.DataFrame({"t_s": np.concatenate(([0.0], t_s)), "back_frac": [0.0, *share]})


def recovery(*runs: Run) -> pd.DataFrame:
    """Return whether fleets that are pushed to got over their faults by themselves.

    An overload may outlive its cause: attempts that time out come again while the server still
    works on those given up, and pings that come late cost it connections that stood. Then it does
    nothing but work that comes to nothing, although its capacity is above the normal load.

    Parameters
    ----------
    *runs : Run
        Simulated or measured, each with a fault that ends before its horizon.

    Returns
    -------
    pandas.DataFrame
        A row per run: ``name``, ``source``, ``replication``, ``verdict``, ``recovered_s`` (seconds
        from the end of the last fault until 95 % of those connected before the first were again,
        for good; NaN if never; who polls instead is connected too), and what was seen over the
        last quarter of the time after the faults: ``connected_frac`` of those before,
        ``utilisation``, ``attempts_per_s``, and ``success_frac``, the attempts that led to a
        connection. The verdict is

        * ``recovered``: `connected_frac` is at least 95 %;
        * ``recovering``: not yet, but what it gained from the quarter before to the last would,
          four times over, be enough: as long again, and it is back;
        * ``stranded``: nobody tries any more (less than one attempt per 1,000 clients a minute);
        * ``metastable``: the cause is gone, the workers are busy (90 % or more), and fewer than
          half of the attempts come to anything;
        * ``shut out``: they try, the server has time, and yet they do not get in.

    Raises
    ------
    ScenarioError
        No run, something that is not a run, or a run without a fault, whose faults last until its
        horizon, or that is not pushed to.

    References
    ----------
    Bronson, Aghayev, Charapko and Zhu 2021, "Metastable failures in distributed systems", HotOS.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> board = Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 0.1},
    ...     clients=20,
    ...     horizon_s=200,
    ...     faults=[{"kind": "restart", "start_s": 100, "length_s": 5}],
    ... )
    >>> recovery(simulate(board))["verdict"].tolist()
    ['recovered']
    """
    rows = []
    for run in _with_faults(runs):
        if run.scenario.transport != "websocket":
            raise ScenarioError("runs", run, "must be pushed to (transport websocket)")
        start_s, end_s, horizon_s = _start_s(run), _last_end_s(run), run.provenance["end_of_run_s"]
        if end_s >= horizon_s:
            rule = f"must end after the last fault, here at {end_s:g} s"
            raise ScenarioError("runs", run, rule)
        timeline = run.frame("timeline")
        t_s = timeline["t_s"]
        before = timeline[t_s + timeline["width_s"] <= start_s]["connection_count"]
        usual = before.iloc[-max(1, len(before) // 4) :].mean() if len(before) else 0.0
        if usual <= 0.0:
            rule = "must have a time bin with connections before its first fault"
            raise ScenarioError("runs", run, rule)
        connected = timeline["connection_count"] / usual
        quarter_s = (horizon_s - end_s) / 4.0
        last = t_s >= horizon_s - quarter_s - 1e-9
        if not last.any():
            last = t_s == t_s.iloc[-1]
        third = (t_s >= horizon_s - 2.0 * quarter_s - 1e-9) & ~last
        evidence = {
            "connected_frac": connected[last].mean(),
            "utilisation": timeline.loc[last, "utilisation"].mean(),
            "attempts_per_s": timeline.loc[last, "attempts"].sum()
            / timeline.loc[last, "width_s"].sum(),
            "success_frac": timeline.loc[last, "connections"].sum()
            / max(1, timeline.loc[last, "attempts"].sum()),
        }
        gained = evidence["connected_frac"] - connected[third].mean()
        rows.append(
            {
                "name": run.scenario.name,
                "source": run.provenance["engine"],
                "replication": run.provenance["replication"],
                "verdict": _verdict(evidence, gained, run.scenario.clients),
                "recovered_s": _recovered_s(t_s - end_s, connected),
                **evidence,
            }
        )
    return pd.DataFrame(rows)


def _verdict(seen: dict[str, float], gained: float, clients: int) -> str:
    if seen["connected_frac"] >= _BACK:
        return "recovered"
    if seen["connected_frac"] + 4.0 * gained >= _BACK:
        return "recovering"
    if seen["attempts_per_s"] * 60.0 < clients / 1000.0:
        return "stranded"
    if seen["utilisation"] >= _BUSY and seen["success_frac"] < 0.5:
        return "metastable"
    return "shut out"


def _recovered_s(since_s: pd.Series, connected: pd.Series) -> float:
    """From when on the fleet stays connected, seconds after the faults; NaN if it does not."""
    below = (since_s >= 0.0) & (connected < _BACK)
    if not below.any():
        return 0.0
    after = since_s[since_s > since_s[below].max()]
    return float(after.iloc[0]) if len(after) else np.nan


def _last_end_s(run: Run) -> float:
    ends = []
    for fault in run.scenario.faults:
        end_s = fault.start_s + (fault.length_s or 0.0)
        if fault.kind == "rolling_deploy":
            end_s += (run.scenario.server.nodes - 1) * (fault.every_s or 0.0)
        ends.append(end_s)
    return max(ends)


def peak_per_s(t_s: NDArray[np.float64]) -> float:
    """Return the most events within any window of a second.

    Parameters
    ----------
    t_s : ndarray of float64, shape (n,)
        Ascending, seconds.

    Examples
    --------
    >>> peak_per_s(np.array([0.0, 0.9, 1.7, 1.8, 5.0]))
    3.0
    """
    if len(t_s) == 0:
        return 0.0
    within = np.searchsorted(t_s, t_s + _WINDOW_S, "left") - np.arange(len(t_s))
    return float(within.max()) / _WINDOW_S


def _with_faults(runs: tuple[Any, ...]) -> tuple[Run, ...]:
    check_runs(runs)
    for run in runs:
        if not run.scenario.faults:
            raise ScenarioError("runs", run, "must have a fault in their scenario")
    return runs


def _start_s(run: Run) -> float:
    return min(fault.start_s for fault in run.scenario.faults)


def _cut(run: Run) -> pd.DataFrame:
    """A row per client whose connection stood at the fault and ended: when it had the next."""
    start_s = _start_s(run)
    connections = run.frame("connections")
    stood = connections[connections["opened_s"].le(start_s) & connections["closed_s"].ge(start_s)]
    stood = stood[stood["cause"] != "open_at_end"]
    stood = stood[stood["cause"] != "session_ended"]
    later = connections[connections["opened_s"] > start_s]
    back_s = later.groupby("client")["opened_s"].min() - start_s
    return pd.DataFrame(
        {"client": stood["client"].to_numpy(), "back_s": stood["client"].map(back_s).to_numpy()}
    )


def _attempts_after(run: Run) -> float:
    timeline = run.frame("timeline")
    return float(timeline.loc[timeline["t_s"] >= _start_s(run), "attempts"].sum())


def _nth(back_s: NDArray[np.float64], cut: int, percent: int) -> float:
    place = int(np.ceil(cut * percent / 100.0))
    return float(back_s[place - 1]) if 0 < place <= len(back_s) else np.nan


def slow_consumers(*runs: Run) -> pd.DataFrame:
    """Return what clients with a narrow path cost themselves, the others and the server's memory.

    Parameters
    ----------
    *runs : Run
        Simulated or measured, each with a fault of ``bandwidth`` and its deliveries
        (``keep=("deliveries",)``).

    Returns
    -------
    pandas.DataFrame
        A row per run: ``policy`` (``server.slow_consumers``), ``source``, ``replication``,
        ``slow`` (clients that a ``bandwidth`` fault concerned), ``buffered_bytes`` (the most that
        the server's memory held for one of them), ``slow_p99_s`` and ``others_p99_s`` (latency of
        changes published while such a fault lasted), ``reconnects`` and ``lost`` per slow client.

    Raises
    ------
    ScenarioError
        No run, something that is not a run, or a run without such a fault or without deliveries.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> thin = {"kind": "bandwidth", "start_s": 20, "length_s": 20, "bytes_per_s": 9, "share": 0.2}
    >>> board = Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 1.0},
    ...     clients=20,
    ...     horizon_s=60,
    ...     server={"slow_consumers": "coalesce", "socket_bytes": 200},
    ...     faults=[thin],
    ... )
    >>> row = slow_consumers(simulate(board, keep=("deliveries",))).iloc[0]
    >>> bool(row["slow_p99_s"] > 100 * row["others_p99_s"]), float(row["lost"])
    (True, 0.0)
    """
    rows = []
    for run in _with_faults(runs):
        is_slow, spans = _narrow(run)
        table = run.frame("deliveries")
        during = [table["published_s"].between(*span, inclusive="left") for span in spans]
        table = table[np.any(during, axis=0)]
        of_slow = is_slow[table["client"].to_numpy()]
        clients = run.frame("clients")[is_slow]
        rows.append(
            {
                "policy": run.scenario.server.slow_consumers,
                "source": run.provenance["engine"],
                "replication": run.provenance["replication"],
                "slow": len(clients),
                "buffered_bytes": int(clients["buffered_bytes"].max()) if len(clients) else 0,
                "slow_p99_s": table["latency_s"][of_slow].quantile(0.99),
                "others_p99_s": table["latency_s"][~of_slow].quantile(0.99),
                "reconnects": clients["reconnects"].mean(),
                "lost": clients["lost"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _narrow(run: Run) -> tuple[NDArray[np.bool_], list[tuple[float, float]]]:
    """Which clients a narrow path concerns at some time, and from when to when there are any."""
    faults = [
        (number, fault)
        for number, fault in enumerate(run.scenario.faults)
        if fault.kind == "bandwidth"
    ]
    if not faults:
        raise ScenarioError("runs", run, "must have a fault of bandwidth in their scenario")
    address = run.provenance["seed"], run.provenance["replication"]
    is_slow = [
        any(is_hit(*address, client, number, 0.0, fault.share) for number, fault in faults)
        for client in run.columns("clients")["client"].tolist()
    ]
    spans = [(fault.start_s, fault.start_s + (fault.length_s or 0.0)) for _, fault in faults]
    return np.array(is_slow, dtype=bool), spans
