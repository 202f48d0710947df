"""Metrics: functions from the tables of runs to tables for readers. No function knows an engine.

The six metrics that a migration watches, each with its unit and denominator:

=============================== ====================================================
``connection_count``            open connections, mean over time
``average_latency_s``           publish to apply, mean over delivered changes, s
``reconnection_rate_per_h``     connections made again, per client-hour of presence
``message_rate_per_s``          polls and pushed messages, per second
``error_rate_per_h``            failed polls and lost or refused connections, per
                                client-hour of presence
``fallback_to_polling_frac``    share of clients that poll although they are to be pushed to
=============================== ====================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from simlib import theory
from simlib.analysis.agreement import compare as compare
from simlib.analysis.engine_costs import capacity as capacity
from simlib.analysis.traffic import bytes_by_rate as bytes_by_rate
from simlib.core.measures import GUIDE_METRICS, MEASURES, Measure, evaluate
from simlib.errors import ScenarioError
from simlib.renamed import renamed
from simlib.run import QUANTITIES as QUANTITIES
from simlib.run import (
    Run,
    check_runs,
    check_table,
    kinds,
    kinds_of,
    metrics_of,
    refuse_rollout,
    summary_of,
    three_digits,
)
from simlib.run.summary import figure_names, sums_of

__all__ = [
    "GUIDE_METRICS",
    "MEASURES",
    "QUANTITIES",
    "by_node",
    "bytes_by_rate",
    "capacity",
    "compare",
    "ecdf",
    "guide_metrics",
    "headline",
    "intervals",
    "over_time",
    "summary",
    "table",
    "tail",
]

_KEYS = ["transport", "cohort"]
_ROW_S = 10.0
_GUIDE = [MEASURES[name] for name in GUIDE_METRICS]
_OVER_TIME = [measure for measure in MEASURES.values() if "over_time" in measure.tables]
_SUMS = tuple(dict.fromkeys(name for row in _GUIDE for name in (*row.numerator, row.denominator)))


def guide_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Return the six metrics of rows of a timeline, or of groups of them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of ``run.frame("timeline")``, or sums of such rows, with the counts,
        ``latency_sum_s``, ``width_s``, ``present_s``, ``connected_s`` and ``fallback_s``
        (client-seconds of polling instead of push).

    Returns
    -------
    pandas.DataFrame
        The six metrics as columns, a row for each row given.

    Raises
    ------
    ScenarioError
        A column is missing, or does not hold what it should in every row.
    """
    check_table("table", table, texts=("transport",), numbers=_SUMS)
    return _evaluated(_GUIDE, table)


def _evaluated(measures: Sequence[Measure], sums: pd.DataFrame) -> pd.DataFrame:
    """Return a column per metric, with NaN for transports for which the metric has no meaning."""
    columns = {}
    for measure in measures:
        is_meant = sums["transport"].isin(measure.transports)
        columns[measure.name] = np.where(is_meant, evaluate(measure, sums), np.nan)
    return pd.DataFrame(columns, index=sums.index)


def over_time(run: Run, *, width_s: float | None = None) -> pd.DataFrame:
    """Return the six metrics and others, such as bandwidth and utilisation, over time.

    Parameters
    ----------
    run : Run
    width_s : float, optional
        Width of the rows, a whole number of the run's bins; default: the one nearest to 10 s.

    Raises
    ------
    ScenarioError
        The width is not a whole number of bins.

    Returns
    -------
    pandas.DataFrame
        ``t_s``, ``transport``, ``cohort``, the six metrics, and the others that
        `core.measures.MEASURES` shows over time.
    """
    check_runs([run])
    bin_s = run.scenario.bin_s
    per_row = max(1, round(_ROW_S / bin_s)) if width_s is None else _per_row(width_s, bin_s)
    table = run.frame("timeline")
    table = table.assign(**sums_of(table))
    row = table.groupby("cohort").cumcount() // per_row
    rows = table.groupby([row, *_KEYS], sort=False)
    sums = rows.sum(numeric_only=True).reset_index(_KEYS).reset_index(drop=True)
    columns = sums[_KEYS].join(_evaluated(_OVER_TIME, sums))
    columns.insert(0, "t_s", rows["t_s"].first().to_numpy())
    return columns


def _per_row(width_s: Any, bin_s: float) -> int:
    is_number = isinstance(width_s, int | float) and not isinstance(width_s, bool)
    bins = width_s / bin_s if is_number else np.nan
    if not (1 <= bins < np.inf and abs(bins - round(bins)) < 1e-6):
        raise ScenarioError(
            "width_s", width_s, f"must be a multiple of the run's bin_s ({bin_s:g})"
        )
    return round(bins)


def summary(*runs: Run) -> pd.DataFrame:
    """Return the table to read first: figures in rows, runs in columns, for people.

    Parameters
    ----------
    *runs : Run
        Simulated or measured; of rollouts, each cohort has a column.

    Returns
    -------
    pandas.DataFrame
        Of texts. A row per figure, named with its unit; figures that no run has are left out, and
        one that a run does not have is a dash. Columns are labelled by the transport and by
        whatever else tells the runs apart (scenario, cohort, source, clients, replication). If a
        run has warnings, the last row has their kinds; ``attrs["warnings"]`` has their sentences.
        `table` has the numbers for programs.

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(updates={"rate_per_s": 0.5}, clients=20, cool_down_s=60)
    >>> pushed = sl.simulate(board.replace(transport="websocket"))
    >>> summary(sl.simulate(board), pushed).loc["half of the changes seen within (s)"].to_dict()
    {'polling': '15.3', 'websocket': '0.0202'}
    """
    check_runs(runs)
    rows = [(run, row) for run in runs for row in run.totals()]
    found = summary_of(
        [row for _, row in rows],
        [run.labels(row) for run, row in rows],
        [row["warnings"] for _, row in rows],
    )
    found.attrs["warnings"] = _warnings(runs)
    return found


def _warnings(runs: Sequence[Run]) -> list[str]:
    """Return the sentences of the runs' warnings, each once."""
    return list(dict.fromkeys(str(warning) for run in runs for warning in run.warnings))


def table(*runs: Run) -> pd.DataFrame:
    """Return the figures of each run for programs: one number a cell, in base units.

    Parameters
    ----------
    *runs : Run
        Simulated or measured.

    Returns
    -------
    pandas.DataFrame
        A row per run, transport and cohort: ``source`` (engine or live), ``clients``, the six
        metrics, latency quantiles and maximum in seconds, the ledger, and the others that
        `core.measures.MEASURES` shows in the summary, such as ``up_bytes_per_h``. Rates are those
        after the warm-up. In a rollout, ``clients`` and the ledger count the clients that were in
        the cohort at the end. ``attrs["warnings"]`` has the sentences of the runs' warnings.
    """
    check_runs(runs)
    found = metrics_of([row for run in runs for row in run.totals()])
    found.attrs["warnings"] = _warnings(runs)
    return found


def by_node(run: Run) -> pd.DataFrame:
    """Return how connections are distributed over the server's nodes, on average and at the end.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        A row per node: ``node``, ``connection_count`` and ``memory_bytes`` (means after the
        warm-up), ``utilisation`` (busy part of its workers' time after the warm-up),
        ``share`` (fraction of all connections after the warm-up),
        ``end_connection_count`` (open at the end of the run), ``end_memory_bytes`` and
        ``end_share``; shares are NaN if there are no connections. ``run.frame("nodes")`` has the
        same over time, and defines the memory.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(transport="websocket", updates={"rate_per_s": 0.1}, clients=30)
    >>> table = by_node(sl.simulate(board.replace({"server.nodes": 3, "horizon_s": 60})))
    >>> table["node"].tolist(), int(table["end_connection_count"].sum())
    ([0, 1, 2], 30)
    """
    check_runs([run])
    table, log = run.frame("nodes"), run.frame("connections")
    counted = table[table["t_s"] >= min(run.scenario.warm_up_s, table["t_s"].iloc[-1])]
    width_s, node = counted["width_s"], counted["node"]
    total_s = width_s.groupby(node).sum()
    mean = (counted["connection_count"] * width_s).groupby(node).sum() / total_s
    busy_s = (counted["utilisation"] * width_s).groupby(node).sum(min_count=1)
    open_at_end = log.loc[log["cause"] == "open_at_end", "node"].value_counts()
    end = open_at_end.reindex(mean.index, fill_value=0)
    connection_bytes = run.scenario.server.connection_bytes
    columns = {
        "connection_count": mean,
        "memory_bytes": mean * connection_bytes,
        "utilisation": busy_s / total_s,
        "share": mean / mean.sum(),
        "end_connection_count": end,
        "end_memory_bytes": end * connection_bytes,
        "end_share": end / end.sum(),
    }
    return pd.DataFrame(columns).reset_index()


def ecdf(run: Run, cohort: str = "all") -> pd.DataFrame:
    """Return the distribution of latency: ``latency_s`` ascending and ``share`` delivered by then.

    Parameters
    ----------
    run : Run
    cohort : str, optional
        Of a rollout's run: ``"control"`` or ``"treatment"`` alone.

    Returns
    -------
    pandas.DataFrame
        A row per latency bucket that is not empty.
    """
    check_runs([run])
    table = run.frame("latency")
    if cohort != "all":
        table = table[table["cohort"] == cohort]
    counts = table.groupby("high_s")["count"].sum()
    share = counts.cumsum() / max(1, counts.sum())
    return pd.DataFrame({"latency_s": counts.index.to_numpy(), "share": share.to_numpy()})


_TAIL = (0.5, 0.99, 0.9999, 0.999999)


def tail(*runs: Run) -> pd.DataFrame:
    """Return the upper quantiles of latency, up to the slowest change in a million.

    Parameters
    ----------
    *runs : Run

    Returns
    -------
    pandas.DataFrame
        A row per run: ``clients``, ``delivered``, and a column per quantile, seconds; NaN if fewer
        than ten deliveries lie beyond the quantile, which is too few for an estimate.

    Examples
    --------
    >>> import simlib as sl
    >>> run = sl.simulate(sl.Scenario(updates={"rate_per_s": 0.5}, clients=5, horizon_s=300))
    >>> tail(run).isna().to_numpy().tolist()
    [[False, False, False, True, True, True]]
    """
    check_runs(runs)
    rows = []
    for run in runs:
        delivered = run.ledger.delivered
        beyond = delivered * (1.0 - np.array(_TAIL))
        latency_s = np.where(beyond >= 10.0, run.latency_quantiles(list(_TAIL)), np.nan)
        rows.append((len(run.columns("clients")["start_s"]), delivered, *latency_s))
    return pd.DataFrame(
        rows, columns=["clients", "delivered", *(f"p{q * 100:.8g}_s" for q in _TAIL)]
    )


def intervals(runs: Sequence[Run], *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the figures of replications: means with confidence intervals.

    Parameters
    ----------
    runs : sequence of Run
        Independent replications, of one or more transports.
    confidence : float, optional
        Confidence of the intervals, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        A row per transport and quantity: ``transport``, ``quantity``, ``mean``, ``low``,
        ``high`` (Student t over the replications), ``replications``, and ``warnings``: their kinds,
        as in `Run.warnings`. Of rollouts, a row per cohort and quantity, with a column ``cohort``.

    Raises
    ------
    ScenarioError
        There are fewer than two replications of a transport, they are of different scenarios or
        sources, or one is given twice.
    """
    check_runs(runs)
    _check_replications(runs)
    for transport in dict.fromkeys(run.scenario.transport for run in runs):
        given = sum(run.scenario.transport == transport for run in runs)
        if given < 2:
            rule = f"must be at least 2 replications of {transport}, as replicate returns them"
            raise ScenarioError("runs", given, rule)
    return _intervals(runs, confidence)


def _intervals(runs: Sequence[Run], confidence: float = 0.95) -> pd.DataFrame:
    """Return the table of `intervals`; one replication has a mean and no interval."""
    found = table(*runs)
    found["warned"] = [kinds(run.warnings) for run in runs for _ in run.totals()]
    keys = _KEYS if any(run.has_cohorts for run in runs) else ["transport"]
    rows = []
    for names, group in found.groupby(keys, sort=False):
        warned = kinds_of(group["warned"])
        for name in group.select_dtypes("number").columns.drop("clients"):
            values = group[name].to_numpy(dtype=float)
            interval: tuple[float, ...] = (np.nan, np.nan, np.nan)  # no meaning for this transport
            if np.isfinite(values).all():
                one = (values[0], np.nan, np.nan)
                interval = theory.mean_interval(values, confidence) if len(values) > 1 else one
            rows.append((*names, name, *interval, len(values), warned))
    columns = [*keys, "quantity", "mean", "low", "high", "replications", "warnings"]
    result = pd.DataFrame(rows, columns=columns)
    result.attrs["warnings"] = found.attrs["warnings"]
    return result


def _check_replications(runs: Sequence[Run]) -> None:
    """Raise unless each transport has replications of one scenario and source, none twice."""
    origins: dict[str, tuple[str, str]] = {}
    seen = set()
    for run in runs:
        transport, about = run.scenario.transport, run.provenance
        origin = (about["scenario_hash"], about["engine"])
        if origins.setdefault(transport, origin) != origin:
            raise ScenarioError("runs", run, "must be of one scenario and source per transport")
        if (transport, about["seed"], about["replication"]) in seen:
            raise ScenarioError("runs", run, "must be independent: this replication came before")
        seen.add((transport, about["seed"], about["replication"]))


_HEADLINE = (
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "latency_max_s",
    "down_bytes_per_h",
    "payload_down_bytes_per_h",
    "up_bytes_per_h",
    "payload_up_bytes_per_h",
    "utilisation",
    "lost",
)


def headline(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the most important metrics, rounded, with intervals, one column per transport.

    Parameters
    ----------
    runs : sequence of Run
        Replications of one or more transports, or one run of each, which has no interval; of
        rollouts, see `intervals`.

    Returns
    -------
    pandas.DataFrame
        A row per metric, named in words with its unit; cells such as ``"14.1 [13.9, 14.3]"``, or
        ``"14.1"`` of one run. If there are warnings, the last row has their kinds, and
        ``attrs["warnings"]`` their sentences.

    Raises
    ------
    ScenarioError
        There is no run, or a run is of a rollout; or the runs of a transport are of different
        scenarios or sources, or one is given twice.
    """
    check_runs(runs)
    for run in runs:
        refuse_rollout(run)
    _check_replications(runs)
    measured = _intervals(runs).set_index(["transport", "quantity"])
    transports = list(dict.fromkeys(run.scenario.transport for run in runs))
    lines = {name: figure_names()[name] for name in _HEADLINE}
    cells = {
        transport: [
            _cell(measured.loc[[(transport, name)]], line.factor) for name, line in lines.items()
        ]
        for transport in transports
    }
    names = [line.alone or line.name for line in lines.values()]
    found = pd.DataFrame(cells, index=pd.Index(names, name="figure"))
    warned = measured.groupby("transport")["warnings"].first()
    if warned.any():
        found.loc["warnings"] = [warned[transport] for transport in transports]
    found.attrs["warnings"] = _warnings(runs)
    return found


def _cell(row: pd.DataFrame, factor: float) -> str:
    mean, low, high = (
        three_digits(float(row[name].iloc[0]) * factor) for name in ("mean", "low", "high")
    )
    return mean if low == high else f"{mean} [{low}, {high}]"


def __dir__() -> list[str]:
    return sorted(__all__)


__getattr__ = renamed(
    globals(), {"six": "guide_metrics", "SIX": "GUIDE_METRICS", "reach": "capacity"}
)
