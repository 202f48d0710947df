"""One run's result: columns of arrays with their provenance, read as tidy pandas tables.

Simulated and measured runs are the same kind of thing: both are made from a `core.record.Record`,
so they have the same tables, columns and units.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simlib.core.protocol import Action, Event, State, Transport, action_names
from simlib.core.record import (
    CONNECTION,
    DELIVERY,
    EVENT,
    EXPOSURE,
    TICK_S,
    Cause,
    Count,
    Record,
    bucket_edges_s,
    check,
    occupancy_s,
)
from simlib.errors import RunFileError, ScenarioError
from simlib.renamed import warn
from simlib.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, NDArray[Any]]

ALWAYS = ("timeline", "clients", "latency", "connections")
COHORTS = ("control", "treatment")
"""Whose flag says polling, and whose says push, where a rollout goes on; else ``"all"``."""
ON_REQUEST = ("deliveries", "events")
_TABLES = (*ALWAYS, "exposures", *ON_REQUEST)
_RENAMED = {"stays": "exposures"}
MAX_ROWS = 20_000_000
_PROVENANCE = b"simlib.provenance"


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


class Run:
    """The result of one simulated or measured run.

    Parameters
    ----------
    scenario : Scenario
        What was run.
    provenance : dict
        Scenario hash, seed, replication, engine, versions and what else a reader needs to make
        the run again.
    tables : dict of str to dict of str to ndarray
        Columns of each table, see `frame`.

    Attributes
    ----------
    scenario, provenance
        As given.
    """

    def __init__(
        self, scenario: Scenario, provenance: dict[str, Any], tables: dict[str, Columns]
    ) -> None:
        self.scenario = scenario
        self.provenance = provenance
        self._tables = tables

    def __repr__(self) -> str:
        where = self.provenance["engine"]
        return (
            f"<Run {self.scenario.name} {self.scenario.transport} by {where}, "
            f"seed {self.provenance['seed']}, replication {self.provenance['replication']}>"
        )

    def frame(self, name: str) -> pd.DataFrame:
        """Return one table.

        Parameters
        ----------
        name : str
            ``timeline``: a row per time bin and cohort: ``t_s`` (start), ``width_s``, counts of
            what happened in the bin (polls, unchanged, messages pushed, attempts, connections,
            reconnects, errors, fallbacks, delivered, lost, superseded, up_bytes, down_bytes, and
            safety_polls and safety_errors, which are among polls and errors too), and
            ``latency_sum_s`` (over the delivered), ``connection_count`` and ``present_count``
            (means over the bin) and ``utilisation`` (busy fraction of the workers).

            ``clients``: a row per client: ``start_s``, ``end_s``, ``rtt_s``, its ledger, the same
            counts, and ``buffered_bytes``, the most that the server's memory held for it.

            ``latency``: a row per cohort and latency bucket that holds something: ``low_s``,
            ``high_s``, ``count``; publish to apply.

            ``connections``: a row per connection: ``client``, ``opened_s``, ``closed_s``,
            ``cause``, ``transport``, and the ``cohort`` in which it was opened.

            ``stays`` (of a rollout): a row for each time that a client belonged to a cohort:
            ``client``, ``cohort``, ``from_s``, ``to_s``.

            ``deliveries`` (on request): ``client``, ``version``, ``published_s``, ``applied_s``,
            ``latency_s``.

            ``events`` (on request): ``t_s``, ``client``, ``event``, ``state`` (after),
            ``actions``.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ScenarioError
            No such table, or one that was not asked for when the run was made.
        """
        import pandas as pd

        return pd.DataFrame(self.columns(name))

    def columns(self, name: str) -> Columns:
        """Return one table's columns as arrays, as they lie in memory: see `frame`.

        Raises
        ------
        ScenarioError
            As `frame`.
        """
        if isinstance(name, str) and name in _RENAMED:
            warn(f"the table {name}", _RENAMED[name])
            name = _RENAMED[name]
        if not isinstance(name, str) or name not in self._tables:
            known = ", ".join(self._tables)
            rule = f"must be one of {known}"
            if name in ON_REQUEST:
                rule = f'must be asked for when the run is made: keep=("{name}",)'
            raise ScenarioError("frame", name, rule)
        return self._tables[name]

    @property
    def ledger(self) -> Ledger:
        """The whole run's ledger."""
        clients = self._tables["clients"]
        return Ledger(*(int(clients[name].sum()) for name in Ledger._fields))

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its horizon; an interrupted run keeps what it had."""
        return bool(self.provenance["complete"])

    @property
    def has_cohorts(self) -> bool:
        """Whether clients belonged to cohorts, of a rollout."""
        return "exposures" in self._tables

    def ledger_of(self, cohort: str) -> Ledger:
        """The ledger of those who belonged to a cohort when they were last seen."""
        clients = self._tables["clients"]
        mine = clients["cohort"] == cohort
        return Ledger(*(int(clients[name][mine].sum()) for name in Ledger._fields))

    def latency_quantiles(self, q: ArrayLike, *, cohort: str | None = None) -> NDArray[np.float64]:
        """Return quantiles of the publish-to-apply latency.

        Parameters
        ----------
        q : float or array of float
            Each in [0, 1].
        cohort : str, optional
            Of a rollout's run: ``"control"`` or ``"treatment"`` alone.

        Returns
        -------
        ndarray of float64
            Seconds, of the shape of `q`; linear within a bucket, so within 0.8 % of the exact
            order statistic. NaN if nothing was delivered.

        Raises
        ------
        ScenarioError
            A quantile outside [0, 1], or no such cohort.
        """
        cohorts = COHORTS if self.has_cohorts else ("all",)
        if cohort is not None and cohort not in cohorts:
            raise ScenarioError("cohort", cohort, f"must be one of {', '.join(cohorts)}")
        try:
            levels = np.asarray(q, dtype=np.float64)
        except (TypeError, ValueError):
            raise ScenarioError("q", q, "must be numbers in [0, 1]") from None
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ScenarioError("q", q, "must be in [0, 1]")
        table = self._tables["latency"]
        mine = slice(None)
        if cohort is not None and self.has_cohorts:
            mine = table["cohort"] == cohort
        return quantiles_of(
            table["low_s"][mine], table["high_s"][mine], table["count"][mine], levels
        )

    def summary(self) -> pd.DataFrame:
        """Return the table to read first: a row per transport and cohort, see `metrics.summary`."""
        from simlib.analysis import metrics

        return metrics.summary(self)

    def save(self, path: str | Path) -> Path:
        """Write the run as a folder of Parquet files, each with the provenance inside.

        Parameters
        ----------
        path : str or Path
            The folder; an older run there is replaced once the new one is complete.

        Returns
        -------
        Path

        Raises
        ------
        RunFileError
            Something else is there already.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = _as_path(path)
        if path.exists() and not (path / f"{ALWAYS[0]}.parquet").exists():
            raise RunFileError(f"{path}: is there already and is not a saved run")
        ours = {f"{name}.parquet" for name in _TABLES}
        if path.exists() and any(file.name not in ours for file in path.iterdir()):
            raise RunFileError(f"{path}: holds more than a saved run, which would be lost")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFileError(f"{path}: cannot be made ({error})") from None
        trace = self.scenario.read_trace() if self.scenario.updates.trace else None
        head = json.dumps({"scenario": self.scenario.dump(), "trace": trace, **self.provenance})
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".simlib-") as scratch:
            fresh = Path(scratch) / "run"
            fresh.mkdir()
            for name, columns in self._tables.items():
                table = pa.table(columns).replace_schema_metadata({_PROVENANCE: head.encode()})
                parquet.write_table(table, fresh / f"{name}.parquet")
            if path.exists():
                path.rename(Path(scratch) / "old")
            fresh.rename(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run that `save` wrote.

        Raises
        ------
        RunFileError
            The folder is missing or incomplete, or was not written by simlib, or holds tables of
            different runs.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = _as_path(path)
        tables: dict[str, Columns] = {}
        heads: set[str] = set()
        for name in _TABLES:
            file = path / f"{name}.parquet"
            if not file.exists():
                if name in ALWAYS:
                    raise RunFileError(f"{path}: no {file.name}: not a complete saved run")
                continue
            try:
                table = parquet.read_table(file)
                heads.add((table.schema.metadata or {})[_PROVENANCE].decode())
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                raise RunFileError(f"{file}: not written by simlib ({error})") from None
            tables[name] = {column: table[column].to_numpy() for column in table.column_names}
        if len(heads) > 1:
            raise RunFileError(f"{path}: holds tables of different runs")
        try:
            head = json.loads(heads.pop())
            scenario = Scenario.parse(head.pop("scenario"), trace=head.pop("trace"))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunFileError(f"{path}: not written by simlib ({error})") from None
        _check_loaded(path, scenario, head, tables)
        return cls(scenario, head, tables)


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
    order = np.argsort(low_s, kind="stable")
    low_s, high_s, count = low_s[order], high_s[order], count[order]
    reached = np.cumsum(count)
    bucket = np.minimum(np.searchsorted(reached, levels * total, "left"), len(reached) - 1)
    inside = (levels * total - (reached - count)[bucket]) / count[bucket]
    return np.asarray(low_s[bucket] + (high_s - low_s)[bucket] * inside)


def _as_path(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise RunFileError(f"{path!r}: must be a path") from None


def _check_loaded(
    path: Path, scenario: Scenario, head: dict[str, Any], tables: dict[str, Columns]
) -> None:
    """Raise `RunFileError` unless a loaded run has what every run has."""
    for key in ("engine", "seed", "replication", "complete", "scenario_hash"):
        if key not in head:
            raise RunFileError(f"{path}: its provenance lacks {key}")
    none = np.zeros(0)
    empty = Record(none, none, none, warm_up_s=0.0, cool_down_s=0.0, horizon_s=1.0, bin_s=1.0)
    whole = np.zeros(0, np.int8)
    log: Columns = {"opened_s": none, "closed_s": none, "cohort": whole}
    exposures: Columns = {"from_s": none, "to_s": none, "cohort": whole}
    expected: dict[str, Columns] = {
        "timeline": _timeline(scenario, empty, log, exposures, 1.0),
        "clients": _clients(scenario, empty, none, none, none),
        "latency": _latency(empty),
    }
    for name, columns in expected.items():
        missing = [column for column in columns if column not in tables[name]]
        if missing:
            raise RunFileError(f"{path}: {name}.parquet lacks {', '.join(missing)}")


def check_table(
    name: str,
    table: Any,
    columns: Iterable[str] = (),
    *,
    texts: Iterable[str] = (),
    numbers: Iterable[str] = (),
    positive: Iterable[str] = (),
) -> None:
    """Check that something is a table that has rows, and columns of text and of numbers.

    Parameters
    ----------
    name : str
        What the caller calls it.
    table : object
    columns : iterable of str
        Columns that must be there, whatever they hold.
    texts, numbers, positive : iterable of str
        Columns that must hold text, finite numbers, and finite numbers > 0, in every row.

    Raises
    ------
    ScenarioError
        It is no such table: which column, and the label of the first row where it is not so.

    Examples
    --------
    >>> import pandas as pd
    >>> check_table("costs", pd.DataFrame({"cpu_s": [1.0, 0.0]}), positive=["cpu_s"])
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: costs.cpu_s: must be numbers > 0 (see row 1), got 0.0
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise ScenarioError(name, table, "must be a table (pandas.DataFrame)")
    kinds = (("text", texts), ("finite numbers", numbers), ("numbers > 0", positive))
    chosen = [(column, kind) for kind, of_a_kind in kinds for column in of_a_kind]
    for column in (*columns, *(column for column, _ in chosen)):
        if list(table.columns).count(column) != 1:
            raise ScenarioError(name, list(table.columns), f"must have the column {column}, once")
    if len(table) == 0:
        raise ScenarioError(name, table, "must have at least one row")
    for column, kind in chosen:
        values = table[column]
        if kind == "text":
            fits = np.array([isinstance(value, str) for value in values])
        elif values.dtype.kind in "iuf":
            plain = values.to_numpy(dtype=float, na_value=np.nan)
            fits = (
                np.isfinite(plain) if kind == "finite numbers" else (plain > 0) & (plain < np.inf)
            )
        else:
            raise ScenarioError(f"{name}.{column}", values.tolist(), f"must be {kind}")
        if not fits.all():
            first = int(np.argmin(fits))
            rule = f"must be {kind} (see row {values.index[first]})"
            raise ScenarioError(f"{name}.{column}", values.tolist()[first], rule)


def check_runs(runs: Any, *, delivered: bool = False) -> None:
    """Check what a table or a figure is asked to show.

    Raises
    ------
    ScenarioError
        There is no run, something is not a run, or (`delivered`) a run delivered nothing.
    """
    if not isinstance(runs, list | tuple) or not runs:
        raise ScenarioError("runs", runs, "must be at least one run")
    for run in runs:
        if not isinstance(run, Run):
            raise ScenarioError("runs", run, "must be runs, as simulate and measure return them")
        if delivered and run.ledger.delivered == 0:
            raise ScenarioError("runs", run, "must have delivered something")


def refuse_rollout(run: Run) -> None:
    """Raise `ScenarioError` if a run is of a rollout, whose clients change their transport."""
    if run.has_cohorts:
        rule = "must be of clients that use one transport: this one is of a rollout"
        raise ScenarioError("runs", run, rule)


def rows_to_keep(keep: tuple[str, ...], changes: int, clients: int) -> None:
    """Check a `keep` argument before a run: known names, and not more rows than memory bears.

    Raises
    ------
    ScenarioError
    """
    if not isinstance(keep, tuple | list):
        raise ScenarioError("keep", keep, "must be a tuple of names")
    for name in keep:
        if name not in ON_REQUEST:
            raise ScenarioError("keep", name, f"must be among {', '.join(ON_REQUEST)}")
    rows = changes * clients
    if keep and rows > MAX_ROWS:
        raise ScenarioError(
            "keep", keep, f"must be empty for {rows} client-changes (at most {MAX_ROWS})"
        )


def make_run(
    scenario: Scenario,
    record: Record,
    *,
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    rtt_s: NDArray[np.float64],
    end_of_run_s: float,
    provenance: dict[str, Any],
) -> Run:
    """Make a run of a filled record, after its ledger has been checked.

    Parameters
    ----------
    scenario : Scenario
    record : Record
    start_s, end_s, rtt_s : ndarray of float64, shape (clients,)
    end_of_run_s : float
        The horizon, or when the run was interrupted, seconds.
    provenance : dict
        What the driver adds: engine, seed, replication, complete, ...

    Raises
    ------
    LedgerError
        The ledger does not balance.
    """
    check(record)
    connections = _log(record.connections, CONNECTION)
    exposures = _log(record.exposures, EXPOSURE)
    if len(record.bins) == 1:
        exposures = {"from_s": start_s, "to_s": np.minimum(end_s, end_of_run_s)}
    names = ["all"] if len(record.bins) == 1 else list(COHORTS)
    tables: dict[str, Columns] = {
        "timeline": _timeline(scenario, record, connections, exposures, end_of_run_s),
        "clients": _clients(scenario, record, start_s, end_s, rtt_s),
        "latency": _latency(record),
        "connections": {
            **connections,
            "cause": _labels(connections["cause"], _names(Cause)),
            "transport": _labels(connections["transport"], _names(Transport)),
            "cohort": _labels(connections["cohort"], names),
        },
    }
    if len(record.bins) > 1:
        tables["exposures"] = {**exposures, "cohort": _labels(exposures["cohort"], names)}
    if record.keep_deliveries:
        table = _log(record.deliveries, DELIVERY)
        table["latency_s"] = table["applied_s"] - table["published_s"]
        tables["deliveries"] = table
    if record.keep_events:
        table = _log(record.events, EVENT)
        names = [action_names(actions) for actions in range(2 * max(Action))]
        table["event"] = _labels(table["event"], _names(Event))
        table["state"] = _labels(table["state"], _names(State))
        table["actions"] = _labels(table["actions"], names)
        tables["events"] = table
    return Run(scenario, {**_versions(), "scenario_hash": scenario.hash, **provenance}, tables)


def _cohorts(scenario: Scenario, record: Record, codes: NDArray[Any]) -> Columns:
    """The cohort and its transport in every row."""
    if len(record.bins) == 1:
        return {
            "cohort": np.broadcast_to(np.array("all", dtype=object), len(codes)),
            "transport": np.broadcast_to(np.array(scenario.transport, dtype=object), len(codes)),
        }
    return {
        "cohort": _labels(codes, list(COHORTS)),
        "transport": _labels(codes, ["polling", "websocket"]),
    }


def _timeline(
    scenario: Scenario,
    record: Record,
    connections: Columns,
    exposures: Columns,
    end_of_run_s: float,
) -> Columns:
    cohorts, bins = record.bins.shape[:2]
    parts = [
        _timeline_of(scenario, record, cohort, connections, exposures, end_of_run_s)
        for cohort in range(cohorts)
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
    connections: Columns,
    exposures: Columns,
    end_of_run_s: float,
) -> Columns:
    bins, bin_s = record.bins.shape[1], record.bin_s
    t_s = np.arange(bins) * bin_s
    width_s = np.clip(end_of_run_s - t_s, 0.0, bin_s)
    width_s[-1] = max(0.0, end_of_run_s - t_s[-1])
    opened_s, closed_s = _of(connections, cohort, record, "opened_s", "closed_s")
    from_s, to_s = _of(exposures, cohort, record, "from_s", "to_s")
    connected_s = occupancy_s(opened_s, closed_s, bin_s, bins)
    present_s = occupancy_s(from_s, to_s, bin_s, bins)
    busy_s = record.busy_s
    if end_of_run_s < record.horizon_s:
        # A worker that waited for its broadcast gave back more than it had been booked.
        busy_s = np.clip(busy_s, 0.0, scenario.server.workers * width_s)
    return {
        "t_s": t_s,
        "width_s": width_s,
        **{what.name.lower(): record.bins[cohort, :, what] for what in Count},
        "latency_sum_s": record.latency_ticks[cohort] * TICK_S,
        "connection_count": _mean(connected_s, width_s),
        "present_count": _mean(present_s, width_s),
        "utilisation": _mean(busy_s, width_s) / scenario.server.workers,
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
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    rtt_s: NDArray[np.float64],
) -> Columns:
    clients = len(start_s)
    codes = np.broadcast_to(0, clients) if record.cohort is None else record.cohort
    return {
        "client": np.arange(clients, dtype=np.int32),
        **_cohorts(scenario, record, codes),
        "start_s": start_s,
        "end_s": end_s,
        "rtt_s": rtt_s,
        "eligible": record.eligible,
        "pending": record.pending,
        **{what.name.lower(): record.clients[:, what] for what in Count if what < Count.RECONNECTS},
        "reconnects": _reconnects(record),
        "up_bytes": record.traffic[:, 0],
        "down_bytes": record.traffic[:, 1],
        "buffered_bytes": _buffered(record, clients),
    }


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


def _log(rows: Any, columns: dict[str, str]) -> Columns:
    """A log's columns: of a list of tuples, or of an array that has them as fields."""
    table = rows if isinstance(rows, np.ndarray) else np.array(rows, dtype=list(columns.items()))
    return {name: table[name] for name in columns}


def _names(kind: Any) -> list[str]:
    return [member.name.lower() for member in kind]


def _labels(codes: NDArray[Any], names: list[str]) -> NDArray[Any]:
    return np.array(names, dtype=object)[codes]


def _versions() -> dict[str, Any]:
    packages = ("simlib", "simpy", "numba", "numpy", "websockets", "aiohttp")
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in packages},
        },
        "platform": sys.platform,
    }


@cache
def _version(package: str) -> str:
    return version_of(package)
