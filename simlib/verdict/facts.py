"""What is judged of a run, and what the measures of a candidate make of it.

A new measure is computed here: in `calm_facts`, `rough_facts` or `rollout_facts` from one run, or
in `values_of` from those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simlib.analysis.rollouts import rollback_time
from simlib.core.assignment import user_of
from simlib.core.faults import FAULTS, FaultEffect
from simlib.core.protocol import SOCKET_TRANSPORTS, TOLD_TRANSPORTS
from simlib.run import Rows, Run
from simlib.run.tables import Columns
from simlib.scenario import Scenario
from simlib.scenario.workload import events_of_fault
from simlib.verdict.measures import JUDGED
from simlib.verdict.needs import Needs, Prices

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]

_BACK_FRAC = 0.99
_ROUNDING = 1e-9
_NOT_CUT = ("open_at_end", "session_ended")
_SATURATED_FRAC = 0.95
"""Above this, a server's load does not say how many servers would carry it."""


def calm_facts(run: Run) -> dict[str, float]:
    """Return what is judged of a run without a restart.

    A change that was due and is not seen by the end of the run counts as later than all others.
    """
    rows = run.totals()
    timeline = run.columns("timeline")
    cohorts = [timeline["cohort"] == row["cohort"] for row in rows]
    counted = timeline["t_s"] >= min(run.scenario.warm_up_s, timeline["t_s"][-1])
    presences = [_integral(timeline, "present_count", counted & mine) for mine in cohorts]
    is_bin = counted[cohorts[0]]
    width_s = timeline["width_s"][cohorts[0]][is_bin]
    held = _held(run)[is_bin]
    mean_held = float((held.sum(axis=1) * width_s).sum() / width_s.sum())
    ledger = run.ledger
    latest_s = np.nanmax([row["latency_max_s"] for row in rows]) if ledger.delivered else math.nan
    return {
        "latency_p50_s": _seen_within_s(run, 0.5),
        "latency_p95_s": _seen_within_s(run, 0.95),
        "latency_max_s": float(latest_s) if ledger.delivered == ledger.eligible else math.inf,
        "up_bytes_per_h": _of_all(rows, "up_bytes_per_h", presences),
        "down_bytes_per_h": _of_all(rows, "down_bytes_per_h", presences),
        "utilisation": rows[0]["busiest_utilisation"],
        "node_memory_bytes": float(held.max()),
        "memory_bytes": mean_held,
        "present": sum(presences) / float(width_s.sum()),
        "eligible": float(ledger.eligible),
    }


def _held(run: Run) -> Values:
    """Return the memory of clients that are pushed to or held, a row a bin, a column a node.

    Where others poll beside them, each node's is shared out by connections: by how many there are
    of either kind on all nodes.
    """
    held = run.columns("nodes")["memory_bytes"].reshape(-1, run.scenario.server.nodes)
    told = [name for name, way in run.transports.items() if way in TOLD_TRANSPORTS]
    if len(told) in (0, len(run.transports)):
        return held * float(len(told) > 0)
    timeline = run.columns("timeline")
    of_told, of_others = (
        np.where(np.isin(timeline["cohort"], told) == is_told, timeline["connection_count"], 0.0)
        for is_told in (True, False)
    )
    both = [np.bincount(_bins(timeline), weights=each) for each in (of_told, of_others)]
    share = both[0] / np.maximum(both[0] + both[1], np.finfo(float).tiny)
    return np.asarray(held * share[:, np.newaxis])


def _bins(timeline: Columns) -> Any:
    """Return the number of the bin that each row of a timeline is of."""
    return np.unique(timeline["t_s"], return_inverse=True)[1]


def _integral(timeline: Columns, name: str, rows: Any) -> float:
    """Return a level over time, summed over some rows of a timeline."""
    return float((timeline[name][rows] * timeline["width_s"][rows]).sum())


def _of_all(rows: Rows, name: str, presences: list[float]) -> float:
    """Return a rate of a client, of the clients of all cohorts together."""
    if len(rows) == 1:
        return float(rows[0][name])
    present = [(row[name], weight) for row, weight in zip(rows, presences, strict=True) if weight]
    if not present:
        return math.nan
    return sum(value * weight for value, weight in present) / sum(presences)


def _seen_within_s(run: Run, share: float) -> float:
    """Return the time within which a share of the changes that were due is seen."""
    ledger = run.ledger
    if ledger.eligible == 0:
        return math.nan
    level = share * ledger.eligible / max(1, ledger.delivered)
    if ledger.delivered == 0 or level > 1.0:
        return math.inf
    return float(run.latency_quantiles([level])[0])


def rough_facts(run: Run, restart_s: float) -> dict[str, float]:
    """Return what is judged of a run with a restart, or a deploy node by node.

    Parameters
    ----------
    run : Run
    restart_s : float
        When it begins, seconds.
    """
    ledger = run.ledger
    missed = ledger.lost + ledger.pending
    is_pushed = any(way in SOCKET_TRANSPORTS for way in run.transports.values())
    cuts = _cuts(run.scenario, restart_s)
    streams = _ways_back(run, _connections(run, SOCKET_TRANSPORTS), cuts) if is_pushed else None
    return {
        "without_push_frac": _without_stream_frac(run),
        "missed_frac": missed / ledger.eligible if ledger.eligible else math.nan,
        "back_s": _back_s(run, _ways_back(run, run.columns("connections"), cuts)),
        "fell_back_frac": 0.0 if streams is None else _fell_back_frac(run, streams),
        "pushed_again_s": 0.0 if streams is None else _back_s(run, streams),
    }


def _cuts(scenario: Scenario, restart_s: float) -> list[tuple[float, int | None]]:
    """Return when which node cuts its clients off; None: all nodes do."""
    turns: list[tuple[float, int | None]] = [
        (event.t, event.node)
        for fault in scenario.faults
        if FAULTS[fault.kind].stops_servers and fault.start_s == restart_s
        for event in events_of_fault(0, fault, scenario.server.nodes)
        if event.effect == FaultEffect.NODE_DOWN
    ]
    return turns or [(restart_s, None)]


NO_ROLLOUT = {"harmed_frac": 0.0, "roll_back_s": 0.0}
"""What is judged of a rollout where nothing changes."""


def rollout_facts(run: Run, kill_s: float) -> dict[str, float]:
    """Return what is judged of a run in which the candidate is rolled out, and back.

    Parameters
    ----------
    run : Run
    kill_s : float
        When it is rolled back, seconds.
    """
    clients, exposures = run.columns("clients"), run.columns("exposures")
    is_treated = exposures["cohort"] == "treatment"
    enrolled = np.unique(exposures["client"][is_treated])
    if len(enrolled) == 0:
        return dict.fromkeys(NO_ROLLOUT, math.nan)
    is_harmed = (clients["errors"] > 0) | (clients["lost"] > 0)
    users = user_of(enrolled, run.scenario.tabs_per_user)
    harmed = np.unique(users[is_harmed[enrolled]])
    at_kill = (exposures["from_s"] <= kill_s) & (exposures["to_s"] > kill_s)
    back_s = math.nan
    if (at_kill & is_treated).any():
        back_s = rollback_time(run, kill_s)["t99_s"]
        back_s = math.inf if math.isnan(back_s) else back_s
    return {"harmed_frac": len(harmed) / len(np.unique(users)), "roll_back_s": back_s}


def _without_stream_frac(run: Run) -> float:
    """Return the share of the clients present at the end that have no stream, but should."""
    streams = [name for name, way in run.transports.items() if way in SOCKET_TRANSPORTS]
    if not streams:
        return 0.0
    clients, sockets = run.columns("clients"), _connections(run, SOCKET_TRANSPORTS)
    is_present = clients["end_s"] >= run.scenario.horizon_s
    if not is_present.any():
        return math.nan
    open_at_end = sockets["client"][sockets["cause"] == "open_at_end"]
    is_well = np.isin(clients["client"], open_at_end) | ~np.isin(clients["cohort"], streams)
    return float(1.0 - is_well[is_present].mean())


def _connections(run: Run, transports: Sequence[str]) -> Columns:
    """Return the rows of the table of connections that are of some transports."""
    log = run.columns("connections")
    rows = np.isin(log["transport"], transports)
    return {name: values[rows] for name, values in log.items()}


def _next_opened_s(run: Run, log: Columns, after_s: float) -> NDArray[np.float64]:
    """Return when each client opens its next connection after a time; infinite: never."""
    opened_s = np.full(len(run.columns("clients")["client"]), math.inf)
    later = log["opened_s"] > after_s
    np.minimum.at(opened_s, log["client"][later], log["opened_s"][later])
    return opened_s


def _ways_back(run: Run, log: Columns, cuts: list[tuple[float, int | None]]) -> pd.DataFrame:
    """Return a row for each client that each node cuts off: when, and when it opens the next.

    ``client``, ``cut_s`` and ``opened_s``; infinite: never. In a deploy node by node the balancer
    may give a client to a node that has yet to go: it then has more than one row.
    """
    import pandas as pd

    found = []
    for cut_s, node in cuts:
        is_cut = (log["opened_s"] <= cut_s) & (log["closed_s"] >= cut_s)
        is_cut &= ~np.isin(log["cause"], _NOT_CUT)
        if node is not None:
            is_cut &= log["node"] == node
        cut = np.unique(log["client"][is_cut])
        opened_s = _next_opened_s(run, log, cut_s)[cut]
        found.append(pd.DataFrame({"client": cut, "cut_s": cut_s, "opened_s": opened_s}))
    return pd.concat(found, ignore_index=True)


def _fell_back_frac(run: Run, ways_back: pd.DataFrame) -> float:
    """Return the share of the clients whose stream was cut that poll before the next."""
    if run.scenario.fallback is None or ways_back.empty:
        return 0.0 if len(ways_back) else math.nan
    polls, fell = _connections(run, ["polling"]), np.zeros(len(ways_back), dtype=bool)
    for cut_s in np.unique(ways_back["cut_s"]).tolist():
        rows = ways_back[ways_back["cut_s"] == cut_s]
        polled_s = _next_opened_s(run, polls, cut_s)[rows["client"]]
        fell[rows.index] = polled_s < rows["opened_s"].to_numpy()
    return float(ways_back.assign(fell=fell).groupby("client")["fell"].any().mean())


def _back_s(run: Run, ways_back: pd.DataFrame) -> float:
    """Return the time until 99 % of the clients that were cut off have a connection again.

    Of all connections, a client that polls instead is back too, once its first poll has one. A
    session that ends while its client is away says that it takes longer than that, and no more
    (Kaplan, E. L. and Meier, P. (1958). Journal of the American Statistical Association 53,
    457-481). Of a client that was cut off more than once, the longest time counts.
    """
    rows = ways_back.assign(away_s=ways_back["opened_s"] - ways_back["cut_s"])
    longest = rows.sort_values("away_s", kind="stable").drop_duplicates("client", keep="last")
    cut, away_s = longest["client"].to_numpy(), longest["away_s"].to_numpy()
    ends_s = run.columns("clients")["end_s"][cut]
    stays_s = ends_s - longest["cut_s"].to_numpy()
    order = np.lexsort((np.isinf(away_s), np.minimum(away_s, stays_s)))
    is_back = np.isfinite(away_s[order])
    away_frac = np.cumprod(1.0 - is_back / np.arange(len(cut), 0, -1))
    enough = np.flatnonzero(away_frac <= 1.0 - _BACK_FRAC + _ROUNDING)
    if len(enough):
        return float(away_s[order][enough[0]])
    still_away = np.isinf(away_s) & (ends_s >= run.scenario.horizon_s)
    return math.inf if still_away.any() else math.nan


def values_of(
    facts: Mapping[str, Values], scenario: Scenario, needs: Needs, *, is_today: bool = False
) -> dict[str, Values]:
    """Return the measures of a candidate, each with a value a replication.

    Parameters
    ----------
    facts : mapping of str to ndarray
        What `calm_facts`, `rough_facts` and `rollout_facts` returned, a value a replication.
    scenario : Scenario
        The candidate's.
    needs : Needs
    is_today : bool, optional
        Whether its servers are paid for, though it may need fewer.

    Returns
    -------
    dict of str to ndarray
        By the names of `JUDGED`; without money where there are no prices. NaN: of a run that was
        left out.
    """
    none = np.full(len(facts["utilisation"]), math.nan)
    others = [name for name in needs.conditions if name != "calm"]
    found = {name: none for name, row in JUDGED.items() if row.run in others}
    found |= {name: facts[name] for name in JUDGED if name in facts}
    found["memory_bytes"] = facts["node_memory_bytes"]
    found["bytes_per_h"] = facts["up_bytes_per_h"] + facts["down_bytes_per_h"]
    found["nodes"] = _nodes(facts, scenario.server.nodes, needs)
    if needs.prices is not None:
        paid = np.maximum(found["nodes"], float(scenario.server.nodes) if is_today else 0.0)
        traffic, servers = _money(facts, paid, needs.prices)
        found["traffic_money_per_month"], found["servers_money_per_month"] = traffic, servers
        found["money_per_month"] = traffic + servers
    return {name: found[name] for name in JUDGED if name in found}


def _nodes(facts: Mapping[str, Values], nodes: int, needs: Needs) -> Values:
    """Return how many nodes keep the needs of one, from what as many as there are carry."""
    least = float(needs.least_nodes)
    if needs.nodes is None:
        return np.full(len(facts["utilisation"]), max(least, float(nodes)))
    loads = [np.zeros(len(facts["utilisation"]))]
    if needs.utilisation is not None:
        busy = facts["utilisation"]
        loads.append(np.where(busy > _SATURATED_FRAC, math.inf, busy / needs.utilisation))
    if needs.memory_bytes is not None:
        loads.append(facts["node_memory_bytes"] / needs.memory_bytes)
    # Rounding errors make no node of their own.
    return np.maximum(least, np.ceil(np.round(nodes * np.max(loads, axis=0), 9)))


def _money(facts: Mapping[str, Values], nodes: Values, prices: Prices) -> tuple[Values, Values]:
    """Return what a month costs for traffic, and for servers with the memory of their sockets."""
    per_month = facts["present"] * prices.open_hours / 1e9
    traffic = facts["down_bytes_per_h"] * per_month * (prices.per_gb_down or 0.0)
    traffic = traffic + facts["up_bytes_per_h"] * per_month * (prices.per_gb_up or 0.0)
    servers = np.zeros(len(nodes))
    if prices.per_server_hour:  # there may be no number of nodes that would do
        servers = nodes * prices.server_hours * prices.per_server_hour
    memory_gb = facts["memory_bytes"] / 1e9
    return traffic, servers + memory_gb * prices.open_hours * (prices.per_memory_gb_hour or 0.0)
