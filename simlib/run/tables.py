"""From a record to a run's tables: columns of arrays, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core import record as recording
from simlib.core.assignment import user_of
from simlib.core.protocol import Action, Event, State, Transport, action_names
from simlib.core.record import (
    CONNECTION,
    DELIVERY,
    EVENT,
    EXPOSURE,
    TICK_S,
    Cause,
    Count,
    Kept,
    Record,
    Wait,
    bucket_edges_s,
    occupancy_s,
)
from simlib.scenario import Scenario

Columns = dict[str, NDArray[Any]]

ALWAYS = ("timeline", "clients", "latency", "waits", "connections")
COHORTS = ("control", "treatment")
"""Who is not enrolled, and who is, in a rollout; without one all are ``"all"``."""
ON_REQUEST = ("deliveries", "events")
BUSY = "busy"
"""How busy each node was, where there are several."""
TABLES = (*ALWAYS, "exposures", BUSY, *ON_REQUEST)
_WAITS = tuple(what.name.lower() for what in Wait)
_LEDGER = {what.name.lower(): what for what in (Count.DELIVERED, Count.LOST, Count.SUPERSEDED)}
NODES = "nodes"
"""A table that is made of others whenever it is asked for."""


class Ledger(NamedTuple):
    """What became of every change for every client that was present when it was published.

    ``delivered + lost + pending == eligible`` in every run. `superseded` counts, among the
    delivered, those that a later change in the same snapshot hid from the user's eyes.
    """

    eligible: int
    delivered: int
    lost: int
    pending: int
    superseded: int


def quantiles_of(
    low_s: NDArray[np.float64],
    high_s: NDArray[np.float64],
    count: NDArray[np.int64],
    levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return quantiles of what lies in buckets, linear within each; NaN if they are empty.

    Examples
    --------
    >>> edges_s = np.array([0.0, 1.0, 2.0])
    >>> quantiles_of(edges_s[:-1], edges_s[1:], np.array([1, 3]), np.array([0.25, 1.0])).tolist()
    [1.0, 2.0]
    """
    total = int(count.sum())
    if total == 0:
        return np.full(levels.shape, np.nan)
    held = np.flatnonzero(count)
    order = held[np.argsort(low_s[held], kind="stable")]
    low_s, high_s, count = low_s[order], high_s[order], count[order]
    reached = np.cumsum(count)
    bucket = np.minimum(np.searchsorted(reached, levels * total, "left"), len(reached) - 1)
    inside = (levels * total - (reached - count)[bucket]) / count[bucket]
    return np.asarray(low_s[bucket] + (high_s - low_s)[bucket] * inside)


def rows_of(table: Columns, cohort: str | None) -> Any:
    """Return what chooses a cohort's rows of a table; all where it knows none, or for None."""
    return (
        slice(None) if cohort is None or "cohort" not in table else equal(table, "cohort", cohort)
    )


def equal(table: Columns, name: str, value: str) -> Any:
    """Return what chooses the rows of a table that have a label in one of its columns."""
    if is_one(table[name]) and table[name][0] == value:
        return slice(None)
    return table[name] == value


def is_one(labels: NDArray[Any]) -> bool:
    """Say whether a column has one label, which is repeated by a stride of 0."""
    return len(labels) > 0 and labels.strides == (0,)


def distinct(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels that a column has, in order.

    Examples
    --------
    >>> distinct(np.array(["b", "a", "b"], dtype=object)).tolist()
    ['a', 'b']
    """
    some = labels[:1] if is_one(labels) else labels
    return np.array(sorted(set(some.tolist())), dtype=object)  # quicker than sorting all of them


def latency_quantiles(
    latency: Columns, levels: NDArray[np.float64], cohort: str | None = None
) -> NDArray[np.float64]:
    """Return quantiles of a table of latencies, of one cohort or of all; see `quantiles_of`."""
    rows = rows_of(latency, cohort)
    low_s, high_s, count = (latency[name][rows] for name in ("low_s", "high_s", "count"))
    return quantiles_of(low_s, high_s, count, levels)


def wait_quantile(waits: Columns, what: Wait, level: float, cohort: str | None = None) -> float:
    """Return a quantile of a table of waits, of one cohort or of all; see `quantiles_of`."""
    rows = waits["waits_for"] == _WAITS[what]
    if cohort is not None and "cohort" in waits:
        rows &= waits["cohort"] == cohort
    low_s, high_s, count = (waits[name][rows] for name in ("low_s", "high_s", "count"))
    return float(quantiles_of(low_s, high_s, count, np.array([level]))[0])


def ledger_of(clients: Columns, cohort: str | None = None) -> Ledger:
    """Return the ledger of a table of clients, of one cohort or of all."""
    rows = rows_of(clients, cohort)
    return Ledger(*(int(clients[name][rows].sum()) for name in Ledger._fields))


def tables_of(
    scenario: Scenario,
    record: Record,
    *,
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    rtt_s: NDArray[np.float64],
    end_of_run_s: float,
) -> Tables:
    """Return the tables of a filled record; see `Run.frame` for what they hold.

    Parameters
    ----------
    scenario : Scenario
    record : Record
    start_s, end_s, rtt_s : ndarray of float64, shape (clients,)
    end_of_run_s : float
        The horizon, or when the run was interrupted, seconds.
    """
    connections = _log(record.connections, CONNECTION)
    eligible = record.eligible
    exposures, fallbacks = _log(record.exposures, EXPOSURE), _log(record.fallbacks, EXPOSURE)
    if len(record.bins) == 1:
        exposures = {"from_s": start_s, "to_s": np.minimum(end_s, end_of_run_s)}
    logs = {"connections": connections, "exposures": exposures, "fallbacks": fallbacks}
    names = ["all"] if len(record.bins) == 1 else list(COHORTS)
    made: dict[str, Callable[[], Columns]] = {
        "timeline": lambda: _timeline(scenario, record, logs, end_of_run_s),
        "clients": lambda: _clients(scenario, record, (start_s, end_s, rtt_s), eligible),
        "latency": lambda: _latency(record),
        "waits": lambda: _waits(record),
        "connections": lambda: _connections(scenario, connections, names),
    }
    tables = Tables(made)
    if scenario.server.nodes > 1:
        made[BUSY] = lambda: _busy(scenario, record, tables["timeline"], end_of_run_s)
    if len(record.bins) > 1:
        made["exposures"] = lambda: {**exposures, "cohort": _labels(exposures["cohort"], names)}
    if record.keep_deliveries:
        made["deliveries"] = lambda: _deliveries(record)
    if record.keep_events:
        made["events"] = lambda: _events(record)
    return tables


class Tables(Mapping[str, Columns]):
    """Tables by name, each of which is made when it is first read: a sweep reads few of them.

    Parameters
    ----------
    made : dict of str to callable
        What returns each table.

    Examples
    --------
    >>> tables = Tables({"clients": lambda: {"client": np.arange(2)}})
    >>> tables["clients"] is tables["clients"], len(tables), "events" in tables
    (True, 1, False)
    """

    def __init__(self, made: dict[str, Callable[[], Columns]]) -> None:
        self._made = made
        self._tables: dict[str, Columns] = {}

    def __getitem__(self, name: str) -> Columns:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._made[name]()
        return table

    def __contains__(self, name: object) -> bool:
        return name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _connections(scenario: Scenario, log: Columns, cohorts: list[str]) -> Columns:
    return {
        **log,
        "cause": _labels(log["cause"], _names(Cause)),
        "transport": _labels(log["transport"], _names(Transport)),
        "cohort": _labels(log["cohort"], cohorts),
        "node": _nodes(scenario, log["node"]),
    }


def _deliveries(record: Record) -> Columns:
    table = _log(record.deliveries, DELIVERY)
    return {**table, "latency_s": table["applied_s"] - table["published_s"]}


def _events(record: Record) -> Columns:
    table = _log(record.events, EVENT)
    return {
        **table,
        "event": _labels(table["event"], _names(Event)),
        "state": _labels(table["state"], _names(State)),
        "actions": _action_names()[table["actions"]],
    }


def nodes_of(scenario: Scenario, tables: Mapping[str, Columns]) -> Columns:
    """Return the connections of each node over time: see `Run.frame`.

    Parameters
    ----------
    scenario : Scenario
    tables : dict of str to dict of str to ndarray
        Of its run.
    """
    timeline, log = tables["timeline"], tables["connections"]
    once = equal(timeline, "cohort", timeline["cohort"][0])
    t_s, width_s, nodes = timeline["t_s"][once], timeline["width_s"][once], scenario.server.nodes
    counts = []
    for node in range(nodes):
        opened_s, closed_s = (log[name][log["node"] == node] for name in ("opened_s", "closed_s"))
        connected_s = occupancy_s(opened_s, closed_s, scenario.bin_s, len(t_s))
        counts.append(_mean(connected_s, width_s))
    connection_count = np.stack(counts, axis=1).ravel()
    if BUSY in tables:
        utilisation = tables[BUSY]["utilisation"]
    else:
        utilisation = timeline["utilisation"][once]
    return {
        "t_s": np.repeat(t_s, nodes),
        "width_s": np.repeat(width_s, nodes),
        "node": np.tile(np.arange(nodes, dtype=np.int8), len(t_s)),
        "connection_count": connection_count,
        "memory_bytes": connection_count * scenario.server.connection_bytes,
        "utilisation": utilisation,
    }


def node_utilisations(tables: Mapping[str, Columns], from_s: float) -> NDArray[np.float64]:
    """Return which part of its workers' time each node was busy from a time on, shape (nodes,).

    Parameters
    ----------
    tables : dict of str to dict of str to ndarray
        Of a run.
    from_s : float
        Seconds; the last bin counts in any case.
    """
    timeline = tables["timeline"]
    once = equal(timeline, "cohort", timeline["cohort"][0])
    t_s, width_s = timeline["t_s"][once], timeline["width_s"][once]
    counted = t_s >= min(from_s, t_s[-1])
    total_s = width_s[counted].sum()
    utilisation = tables[BUSY]["utilisation"] if BUSY in tables else timeline["utilisation"][once]
    busy_s = utilisation.reshape(len(t_s), -1) * width_s[:, np.newaxis]
    sums = [of_node[counted].sum() for of_node in busy_s.T]
    return np.array(sums) / total_s if total_s > 0 else np.zeros(len(sums))


def _nodes(scenario: Scenario, codes: NDArray[Any]) -> NDArray[np.int8]:
    """The node in every row; drivers need not say it where there is only one."""
    return np.zeros(len(codes), np.int8) if scenario.server.nodes == 1 else codes


def empty_tables(scenario: Scenario, names: Collection[str]) -> Tables:
    """Return the tables of a run to which nobody came, with the columns that every run's have.

    Parameters
    ----------
    scenario : Scenario
    names : collection of str
        The tables that the run has: it is of a rollout if it has exposures.
    """
    none = np.zeros(0)
    record = Record(
        none,
        none,
        none,
        counted_s=(0.0, 1.0),
        horizon_s=1.0,
        bin_s=1.0,
        transports=(0, 1) if "exposures" in names else (0,),
        nodes=scenario.server.nodes,
        kept=Kept(
            deliveries="deliveries" in names,
            events="events" in names,
            queues=is_limited(scenario),
        ),
    )
    return tables_of(scenario, record, start_s=none, end_s=none, rtt_s=none, end_of_run_s=1.0)


def _cohorts(scenario: Scenario, record: Record, codes: NDArray[Any]) -> Columns:
    """The cohort and its transport in every row."""
    if len(record.bins) == 1:
        return {
            "cohort": np.broadcast_to(np.array("all", dtype=object), len(codes)),
            "transport": np.broadcast_to(np.array(scenario.transport, dtype=object), len(codes)),
        }
    return {
        "cohort": _labels(codes, list(COHORTS)),
        "transport": _labels(codes, [Transport(one).name.lower() for one in record.transports]),
    }


def _timeline(
    scenario: Scenario,
    record: Record,
    logs: dict[str, Columns],
    end_of_run_s: float,
) -> Columns:
    cohorts, bins = record.bins.shape[:2]
    parts = [
        _timeline_of(scenario, record, cohort, logs, end_of_run_s) for cohort in range(cohorts)
    ]
    codes = np.repeat(np.arange(cohorts), bins)
    first = {name: parts[0][name] for name in ("t_s", "width_s")}
    columns = {**first, **_cohorts(scenario, record, codes), **parts[0]}
    if cohorts > 1:
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        columns.update(joined)
    return columns


def _timeline_of(
    scenario: Scenario,
    record: Record,
    cohort: int,
    logs: dict[str, Columns],
    end_of_run_s: float,
) -> Columns:
    counts, bin_s = recording.bins_with_bytes(record)[cohort], record.bin_s
    bins = len(counts)
    t_s = np.arange(bins) * bin_s
    width_s = np.clip(end_of_run_s - t_s, 0.0, bin_s)
    width_s[-1] = max(0.0, end_of_run_s - t_s[-1])
    spans = {
        "connection_count": _of(logs["connections"], cohort, record, "opened_s", "closed_s"),
        "present_count": _of(logs["exposures"], cohort, record, "from_s", "to_s"),
        "fallback_count": _of(logs["fallbacks"], cohort, record, "from_s", "to_s"),
    }
    busy_s = _busy_s(scenario, record, width_s, end_of_run_s).sum(axis=0)
    workers = scenario.server.nodes * scenario.server.workers
    return {
        "t_s": t_s,
        "width_s": width_s,
        **{what.name.lower(): counts[:, what] for what in Count},
        "latency_sum_s": record.latency_ticks[cohort] * TICK_S,
        "poll_response_sum_s": record.wait_ticks[Wait.POLL, cohort] * TICK_S,
        "connection_wait_sum_s": record.wait_ticks[Wait.CONNECTION, cohort] * TICK_S,
        **{
            name: _mean(occupancy_s(from_s, to_s, bin_s, bins), width_s)
            for name, (from_s, to_s) in spans.items()
        },
        "utilisation": _mean(busy_s, width_s) / workers,
    }


def _busy_s(
    scenario: Scenario, record: Record, width_s: NDArray[np.float64], end_of_run_s: float
) -> NDArray[np.float64]:
    """How long the workers of each node were busy in each bin, seconds, shape (nodes, bins)."""
    if end_of_run_s < record.horizon_s:
        # Work after the end was subtracted; a worker that waited for its broadcast lost too much.
        return np.clip(record.busy_s, 0.0, scenario.server.workers * width_s)
    return record.busy_s


def _busy(scenario: Scenario, record: Record, timeline: Columns, end_of_run_s: float) -> Columns:
    """A row per time bin and node."""
    bins, nodes = record.bins.shape[1], scenario.server.nodes
    t_s, width_s = timeline["t_s"][:bins], timeline["width_s"][:bins]
    busy_s = _busy_s(scenario, record, width_s, end_of_run_s)
    shares = [_mean(of_node, width_s) / scenario.server.workers for of_node in busy_s]
    return {
        "t_s": np.repeat(t_s, nodes),
        "width_s": np.repeat(width_s, nodes),
        "node": np.tile(np.arange(nodes, dtype=np.int8), bins),
        "utilisation": np.stack(shares, axis=1).ravel(),
    }


def _of(log: Columns, cohort: int, record: Record, *names: str) -> list[NDArray[Any]]:
    """A log's columns, of one cohort."""
    if len(record.bins) == 1:
        return [log[name] for name in names]
    mine = log["cohort"] == cohort
    return [log[name][mine] for name in names]


def _mean(seconds: NDArray[np.float64], width_s: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(seconds, width_s, out=np.zeros(len(seconds)), where=width_s > 0)


def _clients(
    scenario: Scenario,
    record: Record,
    times_s: tuple[NDArray[np.float64], ...],
    eligible: NDArray[np.int32],
) -> Columns:
    start_s, end_s, rtt_s = times_s
    clients = len(start_s)
    codes = np.broadcast_to(0, clients) if record.cohort is None else record.cohort
    return {
        "client": np.arange(clients, dtype=np.int32),
        "user": user_of(np.arange(clients, dtype=np.int32), scenario.tabs_per_user),
        **_cohorts(scenario, record, codes),
        "start_s": start_s,
        "end_s": end_s,
        "rtt_s": rtt_s,
        "eligible": eligible,
        "pending": record.pending,
        **{what.name.lower(): record.clients[:, what] for what in Count if what < Count.RECONNECTS},
        # These are read several times of each run, and lie far apart in its rows.
        **{name: np.ascontiguousarray(record.clients[:, what]) for name, what in _LEDGER.items()},
        "reconnects": _reconnects(record),
        "up_bytes": record.traffic[:, 0],
        "down_bytes": record.traffic[:, 1],
        "buffered_bytes": _buffered(record, clients),
        **({"queued_s": record.queued_s} if is_limited(scenario) else {}),
    }


def is_limited(scenario: Scenario) -> bool:
    """Say whether the browser limits what the tabs of a user have under way."""
    return scenario.network.connections_per_user is not None


def _reconnects(record: Record) -> NDArray[np.int32]:
    if record.cohort is not None:
        return record.again
    return np.maximum(record.clients[:, Count.CONNECTIONS] - 1, 0)


def _buffered(record: Record, clients: int) -> NDArray[np.int64]:
    if len(record.buffered) == 0:
        return np.broadcast_to(np.int64(0), clients)
    return np.ceil(record.buffered.round(3)).astype(np.int64)


def _latency(record: Record) -> Columns:
    edges_s = bucket_edges_s()
    cohort, held = np.nonzero(record.histogram)
    high_s = edges_s[held + 1]
    if len(held):
        last = held == held.max()
        high_s[last] = min(high_s[last][0], max(record.latency_max_s[0], edges_s[held.max()]))
    columns = {"low_s": edges_s[held], "high_s": high_s, "count": record.histogram[cohort, held]}
    if len(record.bins) > 1:
        columns["cohort"] = _labels(cohort, list(COHORTS))
    return columns


def _waits(record: Record) -> Columns:
    edges_s = bucket_edges_s()
    what, cohort, held = np.nonzero(record.wait_histogram)
    columns = {
        "waits_for": _labels(what, list(_WAITS)),
        "low_s": edges_s[held],
        "high_s": edges_s[held + 1],
        "count": record.wait_histogram[what, cohort, held],
    }
    if len(record.bins) > 1:
        columns["cohort"] = _labels(cohort, list(COHORTS))
    return columns


def _log(rows: Any, columns: dict[str, str]) -> Columns:
    """A log's columns: of a list of tuples, or of an array that has them as fields."""
    table = rows if isinstance(rows, np.ndarray) else np.array(rows, dtype=list(columns.items()))
    return {name: table[name] for name in columns}


def _names(kind: Any) -> list[str]:
    return [member.name.lower() for member in kind]


@cache
def _action_names() -> NDArray[Any]:
    """Return the names of every set of actions, by its bits: there are a thousand."""
    return np.array([action_names(actions) for actions in range(2 * max(Action))], dtype=object)


def _labels(codes: NDArray[Any], names: list[str]) -> NDArray[Any]:
    return np.array(names, dtype=object)[codes]
