"""From a run's tables to its figures, from the rows of `MEASURES`: for programs and for readers.

`totals` are the rows for programs, of which `metrics_of` makes a table: a row per cohort, a column
per metric, in base units. `summary_of` makes the table for readers: a row per figure, a column per
run, with the units in the rows' names and numbers of three digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.measures import MEASURES, QUANTILES, WAIT_QUANTILES, Measure, evaluate
from simlib.core.record import Count
from simlib.run.tables import (
    Columns,
    Ledger,
    is_one,
    latency_quantiles,
    ledger_of,
    node_utilisations,
    rows_of,
    wait_quantile,
)
from simlib.run.warnings import unseen_frac

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]

_SHOWN = [measure for measure in MEASURES.values() if "summary" in measure.tables]
_TERMS = {
    sample: {
        name
        for measure in _SHOWN
        if measure.sample == sample
        for name in (*measure.numerator, measure.denominator)
    }
    for sample in ("deliveries", "seconds")
}


def _stands_above(measure: Measure) -> bool:
    return measure.is_guide or measure.sample == "deliveries"


QUANTITIES = (
    *(measure.name for measure in _SHOWN if _stands_above(measure)),
    *Ledger._fields,
    *(measure.name for measure in _SHOWN if not _stands_above(measure)),
)
"""The figures of a summary, in its order."""


def sums_of(timeline: Any) -> dict[str, Any]:
    """Return what metrics add up, in each row of a timeline: counts and seconds.

    Parameters
    ----------
    timeline : dict of str to ndarray, or pandas.DataFrame
        As `Run.columns` or `Run.frame` returns it.
    """
    width_s = timeline["width_s"]
    return {
        **{what.name.lower(): timeline[what.name.lower()] for what in Count},
        "latency_sum_s": timeline["latency_sum_s"],
        "poll_response_sum_s": timeline["poll_response_sum_s"],
        "connection_wait_sum_s": timeline["connection_wait_sum_s"],
        "width_s": width_s,
        "connected_s": timeline["connection_count"] * width_s,
        "present_s": timeline["present_count"] * width_s,
        "fallback_s": timeline["fallback_count"] * width_s,
        # A timeline knows the part of the workers that is busy: seconds of one worker on average.
        "busy_s": timeline["utilisation"] * width_s,
        "worker_s": width_s,
    }


def totals(tables: Mapping[str, Columns], *, source: str, warm_up_s: float) -> Rows:
    """Return a row of figures per transport and cohort, see `Run.totals`.

    Parameters
    ----------
    tables : dict of str to dict of str to ndarray
        Of a run.
    source : str
        Who made it: an engine, or live.
    warm_up_s : float
        Rates count from then on, seconds. Deliveries are of the whole run: the ledger leaves the
        warm-up out itself.
    """
    timeline, latency = tables["timeline"], tables["latency"]
    t_s, sums = timeline["t_s"], sums_of(timeline)
    # A single wide bin may hold the warm-up and all the rest: then it is all there is.
    is_counted = t_s >= min(warm_up_s, t_s[-1])
    rows = []
    for transport, cohort in _labels_of(timeline):
        of_cohort = np.ones(len(t_s), np.bool_)
        for name, label in (("transport", transport), ("cohort", cohort)):
            if not is_one(timeline[name]):
                of_cohort &= timeline[name] == label
        clients = tables["clients"]
        mine = rows_of(clients, cohort)
        ledger = ledger_of(clients, cohort)
        high_s = latency["high_s"][rows_of(latency, cohort)]
        quantiles = latency_quantiles(latency, np.array(list(QUANTILES.values())), cohort)
        levels = {
            **dict(zip(QUANTILES, quantiles, strict=True)),
            **{
                name: wait_quantile(tables["waits"], what, level, cohort)
                for name, (what, level) in WAIT_QUANTILES.items()
            },
            "latency_max_s": high_s.max() if len(high_s) else np.nan,
            "busiest_utilisation": node_utilisations(tables, warm_up_s).max(),
        }
        added = {
            sample: {name: sums[name][rows].sum() for name in _TERMS[sample] & sums.keys()} | levels
            for sample, rows in (
                ("deliveries", _chosen(of_cohort)),
                ("seconds", _chosen(is_counted & of_cohort)),
            )
        }
        rows.append(
            {
                "source": source,
                "transport": transport,
                "cohort": cohort,
                "clients": len(clients["client"][mine]),
                "users": _users_of(clients, cohort),
                **{
                    measure.name: float(evaluate(measure, added[measure.sample]))
                    if transport in measure.transports
                    else np.nan
                    for measure in _SHOWN
                },
                "ledger": ledger,
                "unseen_frac": unseen_frac(clients, mine),
            }
        )
    return rows


def _chosen(rows: NDArray[np.bool_]) -> Any:
    """Return what chooses some rows of a column; all of them need not be copied."""
    return slice(None) if rows.all() else rows


def _labels_of(timeline: Columns) -> list[tuple[str, str]]:
    """Return the transport and the cohort of each row that a summary has, in order."""
    columns = timeline["transport"], timeline["cohort"]
    if all(map(is_one, columns)):
        columns = columns[0][:1], columns[1][:1]
    return list(dict.fromkeys(zip(*columns, strict=True)))


def _users_of(clients: Columns, cohort: str) -> float:
    """Return how many users the clients of a cohort are; NaN if each client is a user."""
    users = clients["user"]
    has_tabs = len(users) > 0 and users[-1] + 1 < len(users)
    return float(len(np.unique(users[rows_of(clients, cohort)]))) if has_tabs else np.nan


def metrics_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the metrics of what `Run.totals` returned of any number of runs.

    Parameters
    ----------
    rows : sequence of dict

    Returns
    -------
    pandas.DataFrame
        See `metrics.table`.
    """
    import pandas as pd

    ledgers = pd.DataFrame([Ledger(*row["ledger"]) for row in rows])
    table = pd.concat([pd.DataFrame(list(rows)), ledgers], axis=1)
    return table[["source", "transport", "cohort", "clients", *QUANTITIES]]


# -- for readers -----------------------------------------------------------------------------------


class Line(NamedTuple):
    """How readers see a figure.

    Attributes
    ----------
    name : str
        What a line of the summary is called, with the unit.
    factor : float
        What the figure's numbers are multiplied by.
    alone : str
        What it is called where the lines around it are missing; empty: as in the summary.
    """

    name: str
    factor: float = 1.0
    alone: str = ""


_LINES = {
    "clients": Line("clients"),
    "users": Line("users, each with several of the clients"),
    "latency_p50_s": Line("half of the changes seen within (s)"),
    "latency_p95_s": Line("95 % seen within (s)"),
    "latency_p99_s": Line("99 % seen within (s)"),
    "latency_max_s": Line("slowest change (s)", alone="slowest (s)"),
    "average_latency_s": Line("publish to apply, mean (s)"),
    "poll_response_s": Line("answer to a poll, mean (s)"),
    "poll_response_p95_s": Line("95 % of polls answered within (s)"),
    "connection_wait_s": Line("wait for an open WebSocket, mean (s)"),
    "connection_wait_p95_s": Line("95 % open within (s)"),
    "unseen_frac": Line("clients that saw no change (%)", 100.0),
    "eligible": Line("changes due, all clients together"),
    "delivered": Line("... seen"),
    "pending": Line("... not yet seen at the end"),
    "lost": Line("... lost", alone="changes lost"),
    "superseded": Line("... seen, though hidden by a later one"),
    "down_bytes_per_h": Line("IP packets down, a client (kB/h)", 1e-3),
    "payload_down_bytes_per_h": Line(
        "... payload in them (kB/h)", 1e-3, "payload down, a client (kB/h)"
    ),
    "up_bytes_per_h": Line("IP packets up, a client (kB/h)", 1e-3),
    "payload_up_bytes_per_h": Line(
        "... payload in those (kB/h)", 1e-3, "payload up, a client (kB/h)"
    ),
    "message_rate_per_s": Line("polls and pushed messages (1/s)"),
    "heartbeat_rate_per_s": Line("pings (1/s)"),
    "connection_count": Line("open connections, mean"),
    "reconnection_rate_per_h": Line("reconnections, a client (1/h)"),
    "error_rate_per_h": Line("errors, a client (1/h)"),
    "utilisation": Line("server busy (%)", 100.0),
    "busiest_utilisation": Line("its busiest node (%)", 100.0),
}
"""The lines of a summary. Metrics that are not named here follow, with their labels and units."""
_SAYS_NO_MORE = {"busiest_utilisation": "utilisation"}
"""Lines that are left out where they are the same as another, as where there is one node."""
_NO_VALUE = "–"


def figure_names() -> dict[str, Line]:
    """Return the lines of a summary: those of `_LINES`, then every other metric that is shown."""
    others = {
        measure.name: Line(f"{measure.label} ({measure.unit})")
        for measure in _SHOWN
        if measure.name not in _LINES
    }
    return {**_LINES, **others}


def summary_of(
    rows: Sequence[dict[str, Any]],
    labels: Sequence[Mapping[str, Any]],
    warnings: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the table for readers, of what `Run.totals` returned of any number of runs.

    Parameters
    ----------
    rows : sequence of dict
    labels : sequence of mapping of str to object
        What each row could be called, most telling first: those levels in which the rows differ
        become the columns' labels, and the transport always does.
    warnings : sequence of str, optional
        The kinds of warnings of each row's run.

    Returns
    -------
    pandas.DataFrame
        See `metrics.summary`.
    """
    import pandas as pd

    lines = figure_names()
    values: list[dict[str, Any]] = [{**row, **Ledger(*row["ledger"])._asdict()} for row in rows]
    cells = {}
    for name, line in lines.items():
        numbers = [float(row.get(name, np.nan)) * line.factor for row in values]
        same = _SAYS_NO_MORE.get(name)
        if same is not None and all(row.get(name, row[same]) == row[same] for row in values):
            continue
        if np.isfinite(numbers).any():
            cells[line.name] = [three_digits(number) for number in numbers]
    if any(warnings):
        cells["warnings"] = [words or _NO_VALUE for words in warnings]
    table = pd.DataFrame.from_dict(cells, orient="index", columns=_columns(labels))
    return table.rename_axis(index=None)


def _columns(labels: Sequence[Mapping[str, Any]]) -> pd.Index:
    """Return labels of columns: the transport, and whatever else tells the columns apart."""
    import pandas as pd

    def differs(level: str) -> bool:
        return len({str(label[level]) for label in labels}) > 1

    levels = [level for level in labels[0] if level == "transport" or differs(level)]
    rows = [tuple(str(label[level]) for level in levels) for label in labels]
    if len(set(rows)) < len(rows):
        levels.append("run")
        rows = [(*row, str(number)) for number, row in enumerate(rows, start=1)]
    if len(levels) == 1:
        return pd.Index([row[0] for row in rows], name=levels[0])
    return pd.MultiIndex.from_tuples(rows, names=levels)


def three_digits(value: float) -> str:
    """Return a number for a reader: three digits, or all of a whole number.

    Examples
    --------
    >>> [three_digits(value) for value in (714637, 714637.4, 14.237, 0.02345, 0.0, 3e-9)]
    ['714,637', '715,000', '14.2', '0.0234', '0', '3.00e-09']
    """
    if not np.isfinite(value):
        return _NO_VALUE
    if value == 0.0 or value == round(value):
        return f"{value:,.0f}"
    digits = 2 - int(np.floor(np.log10(abs(value))))
    return f"{value:.2e}" if digits > 6 else f"{round(value, digits):,.{max(0, digits)}f}"
