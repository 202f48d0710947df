"""What is judged of a run, and what the measures of a candidate make of it.

A new measure is computed here: in `calm_facts` or `rough_facts` from one run, or in `values_of`
from those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simlib.core.protocol import SOCKET_TRANSPORTS, TOLD_TRANSPORTS
from simlib.run import Run
from simlib.scenario import Scenario
from simlib.verdict.measures import JUDGED
from simlib.verdict.needs import Needs, Prices

Values = NDArray[np.float64]

_BACK_FRAC = 0.99
_ROUNDING = 1e-9
_SATURATED_FRAC = 0.95
"""Above this, a server's load does not say how many servers would carry it."""


def calm_facts(run: Run) -> dict[str, float]:
    """Return what is judged of a run without trouble.

    A change that was due and is not seen by the end of the run counts as later than all others.
    """
    row = run.totals()[0]
    nodes = run.columns("nodes")
    timeline = run.columns("timeline")
    counted = timeline["t_s"] >= min(run.scenario.warm_up_s, timeline["t_s"][-1])
    width_s = timeline["width_s"][counted]
    held = nodes["memory_bytes"].reshape(-1, run.scenario.server.nodes)
    mean_held = float((held[counted].sum(axis=1) * width_s).sum() / width_s.sum())
    is_told = run.scenario.transport in TOLD_TRANSPORTS
    ledger = run.ledger
    return {
        "latency_p50_s": _seen_within_s(run, 0.5),
        "latency_p95_s": _seen_within_s(run, 0.95),
        "latency_max_s": row["latency_max_s"] if ledger.delivered == ledger.eligible else math.inf,
        "up_bytes_per_h": row["up_bytes_per_h"],
        "down_bytes_per_h": row["down_bytes_per_h"],
        "utilisation": row["busiest_utilisation"],
        "node_memory_bytes": float(held[counted].max()) if is_told else 0.0,
        "memory_bytes": mean_held if is_told else 0.0,
        "present": float((timeline["present_count"][counted] * width_s).sum() / width_s.sum()),
        "eligible": float(ledger.eligible),
    }


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
    """Return what is judged of a run with trouble.

    Parameters
    ----------
    run : Run
    restart_s : float
        When the restart begins, seconds.
    """
    ledger = run.ledger
    missed = ledger.lost + ledger.pending
    return {
        "without_push_frac": _without_stream_frac(run),
        "missed_frac": missed / ledger.eligible if ledger.eligible else math.nan,
        "back_s": _back_s(run, restart_s),
    }


def _without_stream_frac(run: Run) -> float:
    """Return the share of the clients present at the end that have no stream, but should."""
    if run.scenario.transport not in SOCKET_TRANSPORTS:
        return 0.0
    clients, sockets = run.columns("clients"), run.sockets()
    is_present = clients["end_s"] >= run.scenario.horizon_s
    if not is_present.any():
        return math.nan
    open_at_end = sockets.loc[sockets["cause"] == "open_at_end", "client"].to_numpy()
    has_stream = np.isin(clients["client"][is_present], open_at_end)
    return float(1.0 - has_stream.mean())


def _back_s(run: Run, restart_s: float) -> float:
    """Return the time until 99 % of the clients that the restart cut off have a connection again.

    A client that polls instead is back too, once its first poll has a connection. A session that
    ends while its client is away says that it takes longer than that, and no more (Kaplan, E. L.
    and Meier, P. (1958). Journal of the American Statistical Association 53, 457-481).
    """
    log = run.frame("connections")
    stood = log[log["opened_s"].le(restart_s) & log["closed_s"].ge(restart_s)]
    stood = stood[~stood["cause"].isin(["open_at_end", "session_ended"])]
    cut = np.unique(stood["client"].to_numpy())
    later = log[log["opened_s"] > restart_s].groupby("client")["opened_s"].min()
    opened_s = later.reindex(cut).fillna(math.inf).to_numpy(dtype=float)
    ends_s = run.columns("clients")["end_s"][cut]
    order = np.lexsort((np.isinf(opened_s), np.minimum(opened_s, ends_s)))
    is_back = np.isfinite(opened_s[order])
    away_frac = np.cumprod(1.0 - is_back / np.arange(len(cut), 0, -1))
    enough = np.flatnonzero(away_frac <= 1.0 - _BACK_FRAC + _ROUNDING)
    if len(enough):
        return float(opened_s[order][enough[0]] - restart_s)
    still_away = np.isinf(opened_s) & (ends_s >= run.scenario.horizon_s)
    return math.inf if still_away.any() else math.nan


def values_of(facts: Mapping[str, Values], scenario: Scenario, needs: Needs) -> dict[str, Values]:
    """Return the measures of a candidate, each with a value a replication.

    Parameters
    ----------
    facts : mapping of str to ndarray
        What `calm_facts` and `rough_facts` returned, a value a replication.
    scenario : Scenario
        The candidate's.
    needs : Needs

    Returns
    -------
    dict of str to ndarray
        By the names of `JUDGED`; without money where there are no prices. NaN: of a run that was
        left out.
    """
    none = np.full(len(facts["utilisation"]), math.nan)
    found = {name: none for name, row in JUDGED.items() if row.run != "calm"}
    found |= {name: facts[name] for name in JUDGED if name in facts}
    found["memory_bytes"] = facts["node_memory_bytes"]
    found["bytes_per_h"] = facts["up_bytes_per_h"] + facts["down_bytes_per_h"]
    found["nodes"] = _nodes(facts, scenario.server.nodes, needs)
    if needs.prices is not None:
        found["money_per_month"] = _money(facts, found["nodes"], needs.prices)
    return {name: found[name] for name in JUDGED if name in found}


def _nodes(facts: Mapping[str, Values], nodes: int, needs: Needs) -> Values:
    """Return how many nodes keep the needs of one, from what as many as there are carry."""
    if needs.nodes is None:
        return np.full(len(facts["utilisation"]), float(nodes))
    loads = [np.zeros(len(facts["utilisation"]))]
    if needs.utilisation is not None:
        busy = facts["utilisation"]
        loads.append(np.where(busy > _SATURATED_FRAC, math.inf, busy / needs.utilisation))
    if needs.memory_bytes is not None:
        loads.append(facts["node_memory_bytes"] / needs.memory_bytes)
    # Rounding errors make no node of their own.
    return np.maximum(1.0, np.ceil(np.round(nodes * np.max(loads, axis=0), 9)))


def _money(facts: Mapping[str, Values], nodes: Values, prices: Prices) -> Values:
    per_month = facts["present"] * prices.open_hours / 1e9
    total = facts["down_bytes_per_h"] * per_month * (prices.per_gb_down or 0.0)
    total = total + facts["up_bytes_per_h"] * per_month * (prices.per_gb_up or 0.0)
    total = total + nodes * prices.server_hours * (prices.per_server_hour or 0.0)
    memory_gb = facts["memory_bytes"] / 1e9
    return total + memory_gb * prices.open_hours * (prices.per_memory_gb_hour or 0.0)
