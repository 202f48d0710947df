"""The effect of an outage on a fleet: when clients reconnect, at what rate, and what they lose.

As in `metrics`, the functions take runs, here runs with faults, and return tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib.core.faults import FAULTS, is_affected
from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.core.reconnect import (
    POLICIES,
    ReconnectRules,
    drawn_delay_s,
    longest_delay_s,
    retries_at_once,
)
from simlib.core.record import occupancy_s
from simlib.errors import ScenarioError
from simlib.renamed import renamed
from simlib.run import Run, check_runs, refuse_rollout
from simlib.scenario import Scenario
from simlib.scenario.presets import LIBRARIES, library
from simlib.scenario.workload import reconnection

__all__ = [
    "delays",
    "peak_per_s",
    "reconnected_over_time",
    "reconnection_curve",
    "reconnections",
    "recovery",
    "slow_consumers",
]

_WINDOW_S = 1.0
_DRAWS = 1000
_BACK_FRAC = 0.95
_BUSY_FRAC = 0.9


def delays(
    names: Sequence[str] | None = None, *, attempts: int = 8, clients: int = _DRAWS
) -> pd.DataFrame:
    """Return how long client libraries wait before each attempt.

    Parameters
    ----------
    names : sequence of str, optional
        Presets of `scenario.presets`; default: all that retry.
    attempts : int, optional
        Number of attempts to show, >= 1.
    clients : int, optional
        Number of clients, each of which draws its own delays, >= 1.

    Returns
    -------
    pandas.DataFrame
        A row per library and attempt: ``library``, ``attempt`` (from 1), ``mean_s``, ``p5_s`` and
        ``p95_s`` of the wait before it, and ``since_loss_s``, the mean time since the connection
        was lost if attempts take no time. Attempts that are never made have no row.

    Notes
    -----
    The delays of ActionCable's one timer go on while there is a connection, and a loss falls within
    one of them: of the first, a row has the whole. Its first attempt comes later, 10.4 s after the
    loss on average, since the timer must find the connection lost for 6 s.

    Raises
    ------
    ScenarioError
        A preset is unknown, or a count is out of range.

    Examples
    --------
    >>> delays(["signalr"])["mean_s"].tolist()
    [0.0, 2.0, 10.0, 30.0]
    """
    for name, count in (("attempts", attempts), ("clients", clients)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ScenarioError(name, count, "must be a whole number >= 1")
    if isinstance(names, str) or not isinstance(names, Iterable | None):
        raise ScenarioError("names", names, "must be a list of presets")
    board = Scenario(transport="websocket", updates={"rate_per_s": 1.0})
    rows = []
    for name in LIBRARIES if names is None else names:
        settings = board.replace(library(name)).reconnect
        if not POLICIES[settings.policy].retries:
            continue
        rule = reconnection(settings)
        since_s = 0.0
        for k in range(min(attempts, rule.attempts)):
            waits_s = _waits_s(rule, k, clients)
            # The mean of equal waits may differ from them in its last bit.
            mean_s = float(np.clip(waits_s.mean(), waits_s.min(), waits_s.max()))
            since_s += mean_s
            rows.append((name, k + 1, mean_s, *np.quantile(waits_s, [0.05, 0.95]), since_s))
    columns = ["library", "attempt", "mean_s", "p5_s", "p95_s", "since_loss_s"]
    return pd.DataFrame(rows, columns=columns)


def _waits_s(rule: ReconnectRules, k: int, clients: int) -> NDArray[np.float64]:
    if retries_at_once(rule.policy):
        if k == 0:
            return np.zeros(clients)
        k -= 1
    return np.array([drawn_delay_s(rule, k, 1, 0, client, k) for client in range(clients)])


def reconnections(*runs: Run) -> pd.DataFrame:
    """Return how fleets reconnected after their first fault.

    Parameters
    ----------
    *runs : Run
        Simulated or measured, each with a fault.

    Returns
    -------
    pandas.DataFrame
        A row per run: ``name``, ``source``, ``replication``; ``cut``, the number of clients whose
        connection was open at the fault's start and ended later (if clients are pushed to, only
        WebSockets count); ``back_frac``, the fraction of the cut clients that have a new connection
        by the end of the run; ``t50_s``, ``t95_s``, ``t100_s``, the time from the fault's start
        until 50, 95 and 100 % of them have one (NaN if they never do); ``peak_per_s``, the most new
        connections within a second; ``attempts`` and ``lost`` (changes) per cut client from the
        fault's start on; and ``stranded``, the number of cut clients without a new connection at
        the end of the run.

    Notes
    -----
    Attempts and lost changes are those of all clients in the timeline, from the bin on in which the
    fault starts. A change counts as lost at the time when this becomes certain: when the client is
    connected again, or gives up.

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run or has no fault.

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
    >>> row = reconnections(simulate(board)).iloc[0]
    >>> int(row["cut"]), float(row["back_frac"]), bool(row["t100_s"] > 5.0)
    (20, 1.0, True)
    """
    rows = []
    for run in _with_faults(runs):
        table = _cut(run)
        back_s = np.sort(table["back_s"].dropna().to_numpy(dtype=float))
        since = _since_fault(run)
        rows.append(
            {
                **_whose(run),
                "cut": len(table),
                "back_frac": len(back_s) / len(table) if len(table) else np.nan,
                **{f"t{share}_s": _nth(back_s, len(table), share) for share in (50, 95, 100)},
                "peak_per_s": peak_per_s(back_s),
                "attempts": since["attempts"].sum() / len(table) if len(table) else np.nan,
                "lost": since["lost"].sum() / len(table) if len(table) else np.nan,
                "stranded": len(table) - len(back_s),
            }
        )
    return pd.DataFrame(rows)


def reconnection_curve(run: Run) -> pd.DataFrame:
    """Return which fraction of the cut clients have reconnected, by time since the first fault.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        ``t_s`` (seconds since the fault's start, ascending) and ``back_frac``, the fraction from
        then on.

    Raises
    ------
    ScenarioError
        The argument is not a run, or has no fault.
    """
    (run,) = _with_faults((run,))
    table = _cut(run)
    t_s = np.sort(table["back_s"].dropna().to_numpy(dtype=float))
    share = np.arange(1, len(t_s) + 1) / max(1, len(table))
    return pd.DataFrame({"t_s": np.concatenate(([0.0], t_s)), "back_frac": [0.0, *share]})


def recovery(*runs: Run) -> pd.DataFrame:
    """Return whether fleets recover by themselves once the last fault is over, and if not, why.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs of clients with a socket or a stream, each with a fault and with
        at least four time bins after the end of the last fault.

    Returns
    -------
    pandas.DataFrame
        A row per run: ``name``, ``source``, ``replication``, ``verdict``, ``recovered_s`` (seconds
        from the end of the last fault to the time bin from which on the fleet stays connected; NaN
        if it does not), and the evidence. ``start_s`` and ``end_s``: the start of the first fault
        and the end of the last. ``watched_s``: the time from then to the end of the run.
        ``before_frac`` and ``connected_frac``: connected clients as a fraction of those present,
        before the first fault and in the last quarter of the time watched. ``rise_frac``: the
        increase of that fraction over the quarter before. Over the last half of the time watched:
        ``utilisation``; ``attempts_per_s``; ``success_frac``, the fraction of attempts, and of
        polls by clients that fell back, that are not errors (an error is a failed attempt, a failed
        poll, or a connection that was lost again; safety polls do not count); ``busy_frac``, the
        fraction of errors that happened while the server was busy. ``given_up``: the clients that
        from the first fault on have given up for good because of an answer of HTTP, or of the
        proper end of their stream.

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run, has no fault or polling clients, or ends too
        early after its last fault.

    Notes
    -----
    The verdict is the first of these that holds:

    ``down before``
        Before the first fault, fewer than half of the present clients were connected (mean over the
        later half of that time; if it has no whole bin, all are taken to be connected). The end of
        a fault does not repair what was broken before.
    ``recovered``
        In the last quarter, at least 95 % of the fraction connected before the fault is connected
        again, as for ``t95_s`` of `reconnections`. The limit leaves room for clients that are
        between two connections.
    ``recovering``
        From the third quarter to the last, more than 5 % of the missing clients have reconnected.
        At that rate the others need at most five times the time watched.
    ``on polling``
        The clients without a connection have fallen back: answered polls serve at least half of
        them.
    ``too early``
        Half of the time watched is shorter than the time for which a client may be silent: its
        longest attempt (``websocket.open_timeout_s``) plus the longest wait of its reconnect
        policy. Make the run longer. But where at least half of them have given up because of an
        answer of HTTP (``given_up``), they are ``stranded``, however short the run is.
    ``stranded``
        The clients without a connection no longer try: there are fewer errors than if half of them
        tried once in that time. They gave up.
    ``metastable``
        They try and fail, and at least half of their errors happen while the server is busy (for
        90 % of the time bin, or of the bin before, in which the attempt waited). The server works
        on attempts that time out, so others time out too, although the fault is over. The criterion
        uses errors and not the mean utilisation, because a fleet that retries in synchrony leaves
        the server idle between two waves.
    ``shut out``
        They try and fail, and the server is not busy: it refuses them, for example because it is
        full.

    The verdict describes this run only. Near the boundary, one replication may recover after
    minutes and another one never, so simulate several replications, and longer runs.

    References
    ----------
    Bronson, Aghayev, Charapko and Zhu (2021), Metastable failures in distributed systems, HotOS.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> storm = Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 0.1},
    ...     clients=100,
    ...     horizon_s=150,
    ...     websocket={"open_timeout_s": 5.0},
    ...     server={"handshake_s": 0.08},
    ...     reconnect={"policy": "fixed", "base_s": 1.0},
    ...     faults=[{"kind": "restart", "start_s": 50, "length_s": 1}],
    ... )
    >>> patient = storm.replace({"websocket.open_timeout_s": 20.0})
    >>> recovery(simulate(storm), simulate(patient))["verdict"].tolist()
    ['metastable', 'recovered']
    """
    return pd.DataFrame([{**_whose(run), **_outlook(run)} for run in _with_faults(runs)])


def reconnected_over_time(run: Run) -> pd.DataFrame:
    """Return a fleet's connections and its server's load over time.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        A row per time bin: ``t_s`` and ``width_s``, ``present_count`` (mean clients present),
        ``connected_frac`` (fraction of them connected by WebSocket; 1 if no client is present),
        ``utilisation``, and the counts ``attempts``, ``polls`` and ``errors``, without those of
        safety polls. Bins that an interrupted run did not reach are left out.

    Raises
    ------
    ScenarioError
        The argument is not a run.

    Examples
    --------
    >>> from simlib.engines import simulate
    >>> board = Scenario(transport="websocket", updates={"rate_per_s": 0.1}, horizon_s=60)
    >>> float(reconnected_over_time(simulate(board))["connected_frac"].iloc[-1])
    1.0
    """
    check_runs([run])
    refuse_rollout(run)
    timeline = run.frame("timeline")
    sockets = run.sockets()
    opened_s, closed_s = (sockets[name].to_numpy() for name in ("opened_s", "closed_s"))
    connected_s = occupancy_s(opened_s, closed_s, run.scenario.bin_s, len(timeline))
    present_s = timeline["present_count"] * timeline["width_s"]
    share = pd.Series(connected_s, timeline.index) / present_s
    timeline = timeline.assign(
        connected_frac=share.where(present_s > 0.0, 1.0),
        polls=timeline["polls"] - timeline["safety_polls"],
        errors=timeline["errors"] - timeline["safety_errors"],
    )
    columns = ["t_s", "width_s", "present_count", "connected_frac", "utilisation"]
    columns += ["attempts", "polls", "errors"]
    return timeline.loc[timeline["width_s"] > 0.0, columns]


def _outlook(run: Run) -> dict[str, Any]:
    """Return the verdict on a run and the evidence; `recovery` explains the thresholds."""
    if run.scenario.transport not in SOCKET_TRANSPORTS:
        rule = "must be of clients with a socket or a stream: polls hold no connection"
        raise ScenarioError("runs", run, rule)
    table, start_s, end_s = reconnected_over_time(run), _start_s(run), _end_s(run)
    # An attempt that fails early in a bin waited in the bin before.
    is_busy = table["utilisation"].rolling(2, min_periods=1).max() >= _BUSY_FRAC
    table = table.assign(busy_errors=table["errors"].where(is_busy, 0))
    ahead = table[table["t_s"].between(start_s / 2.0, start_s - table["width_s"])]
    before = float(ahead["connected_frac"].mean()) if len(ahead) else 1.0
    after = table[table["t_s"] >= end_s]
    if len(after) < 4:
        rule = f"must go on for four time bins after their last fault's end ({end_s:g} s)"
        raise ScenarioError("runs", run, rule)

    connected, quarter = after["connected_frac"], len(after) // 4
    onwards = connected[::-1].expanding().mean()[::-1]  # from each bin to the end
    last = float(onwards.iloc[-quarter])
    rise = last - float(connected.iloc[-2 * quarter : -quarter].mean())
    half = after.iloc[-2 * quarter :]
    sums = half.sum()
    tries, half_s = sums["attempts"] + sums["polls"], sums["width_s"]
    away = (1.0 - half["connected_frac"]).clip(lower=0.0) * half["present_count"]
    away_s, served = (away * half["width_s"]).sum(), sums["polls"] - sums["errors"]
    evidence = {
        "start_s": start_s,
        "end_s": end_s,
        "watched_s": float(table["t_s"].iloc[-1] + table["width_s"].iloc[-1]) - end_s,
        "before_frac": before,
        "connected_frac": last,
        "rise_frac": rise,
        "utilisation": (half["utilisation"] * half["width_s"]).sum() / half_s,
        "attempts_per_s": sums["attempts"] / half_s,
        "success_frac": max(0.0, 1.0 - sums["errors"] / tries) if tries else np.nan,
        "busy_frac": sums["busy_errors"] / sums["errors"] if sums["errors"] else np.nan,
        "given_up": int(_since_fault(run)[["given_up", "given_up_at_end"]].to_numpy().sum()),
    }

    enough, recovered_s = _BACK_FRAC * before - 1e-9, np.nan  # means have rounding errors
    silent_s = _silent_s(run.scenario)
    if before < 0.5:
        verdict = "down before"
    elif last >= enough:
        verdict = "recovered"
        is_back = (connected >= enough) & (onwards >= enough)
        recovered_s = float(after.loc[is_back, "t_s"].iloc[0]) - end_s
    elif rise > (1.0 - _BACK_FRAC) * (before - (last - rise)):
        verdict = "recovering"
    elif served * run.scenario.polling.interval_s >= away_s / 2.0:
        verdict = "on polling"
    elif evidence["given_up"] * half_s >= away_s / 2.0:
        verdict = "stranded"
    elif half_s < silent_s:
        verdict = "too early"
    elif sums["errors"] * silent_s < away_s / 2.0:
        verdict = "stranded"
    else:
        verdict = "metastable" if evidence["busy_frac"] >= 0.5 else "shut out"
    return {"verdict": verdict, "recovered_s": recovered_s, **evidence}


def _silent_s(scenario: Scenario) -> float:
    """Return for how long a client that goes on trying may be silent, seconds."""
    longest_s = longest_delay_s(reconnection(scenario.reconnect))
    return scenario.websocket.open_timeout_s + longest_s


def peak_per_s(t_s: NDArray[np.float64]) -> float:
    """Return the most events within any window of a second.

    Parameters
    ----------
    t_s : ndarray of float64, shape (n,)
        Times of the events, ascending, seconds.

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
        refuse_rollout(run)
        if not run.scenario.faults:
            raise ScenarioError("runs", run, "must have a fault in their scenario")
    return runs


def _start_s(run: Run) -> float:
    return min(fault.start_s for fault in run.scenario.faults)


def _end_s(run: Run) -> float:
    nodes = run.scenario.server.nodes
    return max(fault.end_s(nodes) for fault in run.scenario.faults_by_number().values())


def _cut(run: Run) -> pd.DataFrame:
    """Return when the clients reconnected whose connection was open at the fault and ended."""
    start_s = _start_s(run)
    connections = (
        run.sockets() if run.scenario.transport in SOCKET_TRANSPORTS else run.frame("connections")
    )
    stood = connections[connections["opened_s"].le(start_s) & connections["closed_s"].ge(start_s)]
    stood = stood[stood["cause"] != "open_at_end"]
    stood = stood[stood["cause"] != "session_ended"]
    later = connections[connections["opened_s"] > start_s]
    back_s = later.groupby("client")["opened_s"].min() - start_s
    return pd.DataFrame(
        {"client": stood["client"].to_numpy(), "back_s": stood["client"].map(back_s).to_numpy()}
    )


def _since_fault(run: Run) -> pd.DataFrame:
    timeline = run.frame("timeline")
    return timeline[timeline["t_s"] + timeline["width_s"] > _start_s(run)]


def _whose(run: Run) -> dict[str, Any]:
    return {
        "name": run.scenario.name,
        "source": run.provenance["engine"],
        "replication": run.provenance["replication"],
    }


def _nth(back_s: NDArray[np.float64], cut: int, percent: int) -> float:
    place = int(np.ceil(cut * percent / 100.0))
    return float(back_s[place - 1]) if 0 < place <= len(back_s) else np.nan


def slow_consumers(*runs: Run) -> pd.DataFrame:
    """Return the effect of slow clients on themselves, on other clients and on the server's memory.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, each with a ``bandwidth`` fault and its deliveries
        (``keep=("deliveries",)``).

    Returns
    -------
    pandas.DataFrame
        A row per run: ``policy`` (``server.slow_consumers``), ``source``, ``replication``,
        ``slow`` (clients that a ``bandwidth`` fault affected), ``buffered_bytes`` (the most bytes
        in the server's send buffer of one of them), ``slow_p99_s`` and ``others_p99_s`` (latency of
        changes that were published during such a fault), ``reconnects`` and ``lost`` per slow
        client.

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run, has no such fault or no deliveries.

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
    """Return which clients a bandwidth fault affects at some time, and when these faults last."""
    faults = [
        (number, fault)
        for number, fault in run.scenario.faults_by_number().items()
        if FAULTS[fault.kind].amount == "bytes_per_s"
    ]
    if not faults:
        raise ScenarioError("runs", run, "must have a fault of bandwidth in their scenario")
    address = run.provenance["seed"], run.provenance["replication"]
    is_slow = [
        any(is_affected(*address, client, number, 0.0, fault.share) for number, fault in faults)
        for client in run.columns("clients")["client"].tolist()
    ]
    spans = [(fault.start_s, fault.start_s + (fault.length_s or 0.0)) for _, fault in faults]
    return np.array(is_slow, dtype=bool), spans


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(
    globals(),
    {
        "comeback": "reconnections",
        "course": "reconnected_over_time",
        "back": "reconnection_curve",
    },
)
