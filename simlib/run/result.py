"""One run's result: its tables with their provenance, in memory and as files.

Simulated and measured runs are the same kind of thing: both are made from a `core.record.Record`,
so they have the same tables, columns and units.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.core.record import Count, Record, check
from simlib.errors import RunFileError, ScenarioError
from simlib.renamed import warn
from simlib.run import files
from simlib.run.summary import Rows, metrics_of, summary_of, totals
from simlib.run.tables import (
    ALWAYS,
    COHORTS,
    NODES,
    ON_REQUEST,
    TABLES,
    Columns,
    Ledger,
    empty_tables,
    latency_quantiles,
    ledger_of,
    nodes_of,
    tables_of,
)
from simlib.run.warnings import Facts, RunWarning, kinds, warnings_of
from simlib.scenario import Scenario
from simlib.scenario.display import page, table_html, warnings_html

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_RENAMED = {"stays": "exposures"}
COUNTED_LATER = tuple(what.name.lower() for what in Count if what >= Count.FAILED_UPDATES)
"""Counts that runs saved before lack: there was no way in which these things could happen."""


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
        self, scenario: Scenario, provenance: dict[str, Any], tables: Mapping[str, Columns]
    ) -> None:
        self.scenario = scenario
        self.provenance = provenance
        self._tables = tables

    def __repr__(self) -> str:
        warned = f"; warnings: {kinds(self.warnings)}" if self.warnings else ""
        return f"<Run {self.title}{warned}>"

    def _repr_html_(self) -> str:
        table = table_html(self.summary().drop(index="warnings", errors="ignore"))
        return page(self.title, warnings_html(self.warnings), table)

    @property
    def title(self) -> str:
        """The run in a line: scenario, transport, who made it, seed and replication."""
        return (
            f"{self.scenario.name} {self.scenario.transport} by {self.provenance['engine']}, "
            f"seed {self.provenance['seed']}, replication {self.provenance['replication']}"
        )

    @property
    def warnings(self) -> tuple[RunWarning, ...]:
        """What a reader has to know before any figure of this run.

        Each has a ``kind`` and a ``sentence``, and prints as its sentence: see `RunWarning`, and
        `run.warnings.CHECKS` for the kinds. Without any, the figures mean what they say.

        Examples
        --------
        >>> from simlib.engines import simulate
        >>> board = Scenario(updates={"rate_per_s": 1}, clients=5, polling={"interval_s": 30000})
        >>> run = simulate(board, progress=False)
        >>> [warning.kind for warning in run.warnings]
        ['unseen', 'pending', 'interval']
        >>> print(run.warnings[2].brief)
        polling.interval_s is 30,000 s (8.3 h); if milliseconds were meant, 30 s
        """
        return warnings_of(Facts(self.scenario, self.provenance, self._tables))

    def frame(self, name: str) -> pd.DataFrame:
        """Return one table.

        Parameters
        ----------
        name : str
            ``timeline``: a row per time bin and cohort: ``t_s`` (start), ``width_s``, counts of
            what happened in the bin (polls, messages, up_bytes and so on: the members of
            `core.record.Count` in small letters), ``latency_sum_s`` (over the delivered),
            ``poll_response_sum_s`` (over the ``answers``), ``connection_wait_sum_s`` (over the
            ``opened``),
            ``connection_count``, ``present_count``, ``fallback_count`` (clients that poll although
            they are to be pushed to; all three are means over the bin) and ``utilisation`` (busy
            fraction of the workers of all nodes).

            ``clients``: a row per client: its ``user``, ``start_s``, ``end_s``, ``rtt_s``, its
            ledger, the same counts, and ``buffered_bytes``, the most that the server's memory held
            for it. If the browser has a limit, ``queued_s``: how long its requests have waited for
            that in all, until the end if they still do.

            ``latency``: a row per cohort and latency bucket that holds something: ``low_s``,
            ``high_s``, ``count``; publish to apply.

            ``waits``: the same of what clients wait for (``waits_for``, see `core.record.Wait`):
            ``poll``, from the wish to fetch until the whole answer is there, and ``connection``,
            from the start of a session or the loss of a WebSocket until the next one is open;
            after a fallback, from the return to push, without the time of polling before it. Those
            that ended in time bins after the warm-up.

            ``connections``: a row per connection: ``client``, ``opened_s``, ``closed_s``,
            ``cause``, ``transport``, the ``cohort`` in which it was opened, and its ``node``, a
            number from 0 on.

            ``nodes``: a row per time bin and node: ``t_s``, ``width_s``, ``node``,
            ``connection_count`` (mean over the bin), ``memory_bytes``, which is as many times
            ``server.connection_bytes``, and ``utilisation`` (busy fraction of the node's workers).
            What waits in the server's memory for slow consumers is not in it.

            ``exposures`` (of a rollout): a row for each time that a client belonged to a cohort:
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
        if isinstance(name, str) and name == NODES:
            return nodes_of(self.scenario, self._tables)
        if not isinstance(name, str) or name not in self._tables:
            known = ", ".join([*self._tables, NODES])
            rule = f"must be one of {known}"
            if name in ON_REQUEST:
                rule = f'must be asked for when the run is made: keep=("{name}",)'
            raise ScenarioError("frame", name, rule)
        return self._tables[name]

    @property
    def ledger(self) -> Ledger:
        """The whole run's ledger."""
        return ledger_of(self._tables["clients"])

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its horizon; an interrupted run keeps what it had."""
        return bool(self.provenance["complete"])

    def sockets(self) -> pd.DataFrame:
        """Return the rows of ``frame("connections")`` that are WebSockets.

        Examples
        --------
        >>> from simlib.engines import simulate
        >>> board = Scenario(transport="notify", updates={"rate_per_s": 0.1}, clients=3)
        >>> len(simulate(board).sockets())
        3
        """
        connections = self.frame("connections")
        return connections[connections["transport"].isin(SOCKET_TRANSPORTS)]

    @property
    def has_cohorts(self) -> bool:
        """Whether clients belonged to cohorts, of a rollout."""
        return "exposures" in self._tables

    @property
    def transports(self) -> dict[str, str]:
        """The transport of each cohort: of ``"all"``, or of the two cohorts of a rollout."""
        timeline = self._tables["timeline"]
        return dict(zip(timeline["cohort"], timeline["transport"], strict=True))

    def ledger_of(self, cohort: str) -> Ledger:
        """The ledger of those who belonged to a cohort when they were last seen."""
        return ledger_of(self._tables["clients"], cohort)

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
        return latency_quantiles(self._tables["latency"], levels, cohort)

    def summary(self) -> pd.DataFrame:
        """Return the table to read first: figures in rows, with units, numbers as texts.

        `metrics.summary` sets several runs side by side; `metrics` has the numbers for programs.

        Returns
        -------
        pandas.DataFrame
            A column per cohort. If the run has warnings, their kinds are the last row, and their
            sentences are in ``attrs["warnings"]``.
        """
        rows = self.totals()
        table = summary_of(
            rows,
            [self.labels(row) for row in rows],
            [row["warnings"] for row in rows],
        )
        table.attrs["warnings"] = [str(warning) for warning in self.warnings]
        return table

    def labels(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what a row of `totals` could be called beside those of other runs."""
        is_live = self.provenance["engine"] == "live"
        return {
            "scenario": self.scenario.name,
            "transport": row["transport"],
            "cohort": row["cohort"],
            "source": "measured" if is_live else "simulated",
            "clients": f"{self.scenario.clients:,}",
            "replication": f"seed {self.provenance['seed']}, {self.provenance['replication']}",
        }

    def metrics(self) -> pd.DataFrame:
        """Return the figures for programs: a row per transport and cohort, see `metrics.table`."""
        return metrics_of(self.totals())

    def totals(self) -> Rows:
        """Return what the summary is made of, in a millisecond: what a sweep keeps of a run.

        Returns
        -------
        list of dict
            A row per transport and cohort; `metrics_of` makes a table of those of any number of
            runs.

        Examples
        --------
        >>> from simlib.engines import simulate
        >>> run = simulate(Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=60))
        >>> [row["clients"] for row in run.totals()]
        [5]
        """
        source, warm_up_s = self.provenance["engine"], self.scenario.warm_up_s
        rows = totals(self._tables, source=source, warm_up_s=warm_up_s)
        warned = kinds(self.warnings)
        return [{**row, "warnings": warned} for row in rows]

    def save(self, path: str | Path) -> Path:
        """Write the run as a folder of Parquet files, each with the provenance and digests inside.

        Parameters
        ----------
        path : str or Path
            The folder. Missing folders above it are made. An older saved run there is replaced
            without a question, once the new one is complete; anything else there is an error.

        Returns
        -------
        Path

        Raises
        ------
        RunFileError
            Something else than a saved run is there, or the files cannot be written: then an older
            run is still there, and nothing is left of the new one.
        """
        import pyarrow as pa

        path = files.as_path(path)
        trace = self.scenario.read_trace() if self.scenario.updates.trace else None
        tables = {name: _arrow(columns) for name, columns in self._tables.items()}
        about = {
            "scenario": self.scenario.dump(),
            "trace": trace,
            "provenance": self.provenance,
            "digests": {name: files.digest(table) for name, table in tables.items()},
        }
        try:
            _refuse_to_replace(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".simlib-") as scratch:
                fresh, old = Path(scratch) / "run", Path(scratch) / "old"
                fresh.mkdir()
                for name, table in tables.items():
                    files.write(table, fresh / f"{name}.parquet", about)
                if path.exists():
                    path.rename(old)
                try:
                    fresh.rename(path)
                except OSError:
                    if old.exists():
                        old.rename(path)
                    raise
        except (OSError, pa.ArrowException) as error:
            raise RunFileError(f"{path}: cannot be written ({error})") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise RunFileError(f"{path}: its provenance cannot be written ({error})") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run that `save` wrote.

        Returns
        -------
        Run
            Equal to the one that was saved: every table is compared with its digest.

        Raises
        ------
        RunFileError
            The folder is missing or incomplete; or a file of it was not written by simlib, was
            damaged or altered, or belongs to another run. Runs that a simlib without digests has
            saved are refused too.
        """
        path = files.as_path(path)
        try:
            arrow, about = _read_tables(path)
        except OSError as error:
            raise RunFileError(f"{path}: cannot be read ({error})") from None
        try:
            scenario = Scenario.parse(about["scenario"], trace=about["trace"])
            tables = {name: _columns(table) for name, table in arrow.items()}
            _count_nothing(tables["timeline"])
            run = cls(scenario, dict(about["provenance"]), tables)
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise RunFileError(f"{path}: not written by simlib ({error})") from None
        _check_loaded(path, run, tables)
        return run


def _count_nothing(timeline: Columns) -> None:
    """Add the counts of what could not happen yet when a run was saved."""
    rows = max(map(len, timeline.values()), default=0)
    for name in COUNTED_LATER:
        timeline.setdefault(name, np.zeros(rows, np.int64))


def _read_tables(path: Path) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Return a saved run's tables as they were written, and what its files say about it."""
    if not path.exists():
        raise RunFileError(f"{path}: there is no saved run of that name")
    if not path.is_dir():
        raise RunFileError(f"{path}: must be the folder that save wrote, but is a file")
    tables: dict[str, pa.Table] = {}
    about: dict[str, Any] = {}
    for name in TABLES:
        file = path / f"{name}.parquet"
        if not file.exists():
            if name in ALWAYS:
                raise RunFileError(f"{path}: no {file.name}: not a complete saved run")
            continue
        tables[name], said = files.read(file)
        about = about or said
        if json.dumps(said) != json.dumps(about):  # as texts: NaN differs from itself
            raise RunFileError(f"{path}: holds tables of different runs")
    digests = about.get("digests")
    if not isinstance(digests, dict) or digests.keys() != tables.keys():
        raise RunFileError(f"{path}: not a complete saved run: its tables are not those saved")
    for name, table in tables.items():
        if files.digest(table) != digests[name]:
            raise RunFileError(f"{path}: {name}.parquet is not as simlib wrote it: damaged")
    return tables, about


def _arrow(columns: Columns) -> pa.Table:
    """A table's columns for a file; text is text, though there be no row to tell."""
    import pyarrow as pa

    return pa.table(
        {
            name: pa.array(values, pa.string() if values.dtype.kind == "O" else None)
            for name, values in columns.items()
        }
    )


def _columns(table: pa.Table) -> Columns:
    return {name: table[name].to_numpy() for name in table.column_names}


def _refuse_to_replace(path: Path) -> None:
    """Raise `RunFileError` if something is there that is not a saved run, and nothing else."""
    if not path.exists():
        return
    if not (path / f"{ALWAYS[0]}.parquet").exists():
        raise RunFileError(f"{path}: is there already and is not a saved run")
    ours = {f"{name}.parquet" for name in TABLES}
    if any(file.name not in ours for file in path.iterdir()):
        raise RunFileError(f"{path}: holds more than a saved run, which would be lost")


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
    tables = tables_of(
        scenario,
        record,
        start_s=start_s,
        end_s=end_s,
        rtt_s=rtt_s,
        end_of_run_s=end_of_run_s,
    )
    return Run(scenario, {**_versions(), "scenario_hash": scenario.hash, **provenance}, tables)


def _check_loaded(path: Path, run: Run, tables: Mapping[str, Columns]) -> None:
    """Raise `RunFileError` unless a loaded run has what every run has.

    A file with the right digests may still be of another version, with other columns.
    """
    for key in ("engine", "seed", "replication", "complete", "scenario_hash"):
        if key not in run.provenance:
            raise RunFileError(f"{path}: its provenance lacks {key}")
    for name, expected in empty_tables(run.scenario, tables).items():
        if name not in tables:
            raise RunFileError(f"{path}: no {name}.parquet: not a complete saved run")
        missing = [column for column in expected if column not in tables[name]]
        if missing:
            raise RunFileError(f"{path}: {name}.parquet lacks {', '.join(missing)}")
        for column, values in expected.items():
            if tables[name][column].dtype.kind != values.dtype.kind:
                raise RunFileError(f"{path}: {name}.parquet has another type of {column}")
    clients = tables["clients"]
    outcomes = clients["delivered"] + clients["lost"] + clients["pending"]
    if (outcomes != clients["eligible"]).any():
        raise RunFileError(f"{path}: its ledger does not balance")


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
