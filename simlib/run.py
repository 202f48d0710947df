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

from simlib.core.protocol import Action, Event, State, action_names
from simlib.core.record import (
    CONNECTION,
    DELIVERY,
    EVENT,
    TICK_S,
    Cause,
    Count,
    Record,
    bucket_edges_s,
    check,
    occupancy_s,
)
from simlib.errors import RunFileError, ScenarioError
from simlib.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, NDArray[Any]]

ALWAYS = ("timeline", "clients", "latency", "connections")
ON_REQUEST = ("deliveries", "events")
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
            reconnects, errors, fallbacks, delivered, lost, superseded, up_bytes, down_bytes), and
            ``latency_sum_s`` (over the delivered), ``connection_count`` and ``present_count``
            (means over the bin) and ``utilisation`` (busy fraction of the workers).

            ``clients``: a row per client: ``start_s``, ``end_s``, ``rtt_s``, its ledger, the same
            counts, and ``buffered_bytes``, the most that the server's memory held for it.

            ``latency``: a row per latency bucket that holds something: ``low_s``, ``high_s``,
            ``count``; publish to apply.

            ``connections``: a row per connection: ``client``, ``opened_s``, ``closed_s``,
            ``cause``.

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

    def latency_quantiles(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return quantiles of the publish-to-apply latency.

        Parameters
        ----------
        q : float or array of float
            Each in [0, 1].

        Returns
        -------
        ndarray of float64
            Seconds, of the shape of `q`; linear within a bucket, so within 0.8 % of the exact
            order statistic. NaN if nothing was delivered.

        Raises
        ------
        ScenarioError
            A quantile outside [0, 1].
        """
        try:
            levels = np.asarray(q, dtype=np.float64)
        except (TypeError, ValueError):
            raise ScenarioError("q", q, "must be numbers in [0, 1]") from None
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ScenarioError("q", q, "must be in [0, 1]")
        table = self._tables["latency"]
        total = int(table["count"].sum())
        if total == 0:
            return np.full(levels.shape, np.nan)
        reached = np.cumsum(table["count"])
        bucket = np.minimum(np.searchsorted(reached, levels * total, "left"), len(reached) - 1)
        inside = (levels * total - (reached - table["count"])[bucket]) / table["count"][bucket]
        low, high = table["low_s"][bucket], table["high_s"][bucket]
        return np.asarray(low + (high - low) * inside)

    def summary(self) -> pd.DataFrame:
        """Return the table to read first: a row per transport and cohort, see `metrics.summary`."""
        from simlib import metrics

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
        ours = {f"{name}.parquet" for name in (*ALWAYS, *ON_REQUEST)}
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
        for name in (*ALWAYS, *ON_REQUEST):
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
    expected: dict[str, Columns] = {
        "timeline": _timeline(
            scenario, empty, {"opened_s": none, "closed_s": none}, none, none, 1.0
        ),
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
    tables: dict[str, Columns] = {
        "timeline": _timeline(scenario, record, connections, start_s, end_s, end_of_run_s),
        "clients": _clients(scenario, record, start_s, end_s, rtt_s),
        "latency": _latency(record),
        "connections": {**connections, "cause": _labels(connections["cause"], _names(Cause))},
    }
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


def _cohorts(scenario: Scenario, rows: int) -> Columns:
    return {
        "cohort": np.broadcast_to(np.array("all", dtype=object), rows),
        "transport": np.broadcast_to(np.array(scenario.transport, dtype=object), rows),
    }


def _timeline(
    scenario: Scenario,
    record: Record,
    connections: Columns,
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    end_of_run_s: float,
) -> Columns:
    bins, bin_s = len(record.bins), record.bin_s
    t_s = np.arange(bins) * bin_s
    width_s = np.clip(end_of_run_s - t_s, 0.0, bin_s)
    width_s[-1] = max(0.0, end_of_run_s - t_s[-1])
    connected_s = occupancy_s(connections["opened_s"], connections["closed_s"], bin_s, bins)
    present_s = occupancy_s(start_s, np.minimum(end_s, end_of_run_s), bin_s, bins)
    busy_s = record.busy_s
    if end_of_run_s < record.horizon_s:
        # A worker that waited for its broadcast gave back more than it had been booked.
        busy_s = np.clip(busy_s, 0.0, scenario.server.workers * width_s)
    return {
        "t_s": t_s,
        "width_s": width_s,
        **_cohorts(scenario, bins),
        **{what.name.lower(): record.bins[:, what] for what in Count},
        "latency_sum_s": record.latency_ticks * TICK_S,
        "connection_count": _mean(connected_s, width_s),
        "present_count": _mean(present_s, width_s),
        "utilisation": _mean(busy_s, width_s) / scenario.server.workers,
    }


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
    return {
        "client": np.arange(clients, dtype=np.int32),
        **_cohorts(scenario, clients),
        "start_s": start_s,
        "end_s": end_s,
        "rtt_s": rtt_s,
        "eligible": record.eligible,
        "pending": record.pending,
        **{what.name.lower(): record.clients[:, what] for what in Count if what < Count.RECONNECTS},
        "reconnects": np.maximum(record.clients[:, Count.CONNECTIONS] - 1, 0),
        "up_bytes": record.traffic[:, 0],
        "down_bytes": record.traffic[:, 1],
        "buffered_bytes": _buffered(record, clients),
    }


def _buffered(record: Record, clients: int) -> NDArray[np.int64]:
    if len(record.buffered) == 0:
        return np.broadcast_to(np.int64(0), clients)
    return np.ceil(record.buffered.round(3)).astype(np.int64)


def _latency(record: Record) -> Columns:
    edges_s = bucket_edges_s()
    held = np.flatnonzero(record.histogram)
    high_s = edges_s[held + 1]
    if len(held):
        high_s[-1] = min(high_s[-1], max(record.latency_max_s[0], edges_s[held[-1]]))
    return {"low_s": edges_s[held], "high_s": high_s, "count": record.histogram[held]}


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
