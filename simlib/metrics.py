"""Tables of runs to tables of figures that a person reads; nothing here knows an engine.

The six metrics that a migration watches, each with its unit and denominator:

=============================== ====================================================
``connection_count``            open connections, mean over time
``average_latency_s``           publish to apply, mean over delivered changes, s
``reconnection_rate_per_h``     connections made again, per client-hour of presence
``message_rate_per_s``          poll responses and pushed messages, per second
``error_rate_per_h``            failed polls and lost or refused connections, per
                                client-hour of presence
``fallback_to_polling_frac``    clients that fell back to polling, per WebSocket session
=============================== ====================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from simlib.run import Run

_KEYS = ["transport", "cohort"]
_QUANTILES = {"latency_p50_s": 0.5, "latency_p95_s": 0.95, "latency_p99_s": 0.99}


def six(table: pd.DataFrame) -> pd.DataFrame:
    """Return the six metrics of rows of a timeline, or of groups of them.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of ``run.frame("timeline")``, with their columns summed or as they are:
        the counts, ``latency_sum_s``, ``width_s``, ``present_s`` and ``connected_s``.

    Returns
    -------
    pandas.DataFrame
        The six columns, rows as given.
    """
    websocket = table["transport"] == "websocket"
    return pd.DataFrame(
        {
            "connection_count": _ratio(table["connected_s"], table["width_s"]),
            "average_latency_s": _ratio(table["latency_sum_s"], table["delivered"]),
            "reconnection_rate_per_h": _ratio(
                table["reconnects"], table["present_s"] / 3600.0
            ),
            "message_rate_per_s": _ratio(table["polls"] + table["messages"], table["width_s"]),
            "error_rate_per_h": _ratio(table["errors"], table["present_s"] / 3600.0),
            "fallback_to_polling_frac": _ratio(table["fallbacks"], table["sessions"]).where(
                websocket
            ),
        }
    )


def _ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    return (above / below).where(below > 0)


def _with_seconds(run: Run, timeline: pd.DataFrame) -> pd.DataFrame:
    clients = run.frame("clients")
    starts = np.minimum(
        (clients["start_s"] / run.scenario.bin_s).astype(int), len(timeline) - 1
    )
    sessions = starts.value_counts().reindex(timeline.index, fill_value=0)
    return timeline.assign(
        connected_s=timeline["connection_count"] * timeline["width_s"],
        present_s=timeline["present_count"] * timeline["width_s"],
        busy_s=timeline["utilisation"] * timeline["width_s"],
        sessions=sessions,
    )


def over_time(run: Run, *, width_s: float | None = None) -> pd.DataFrame:
    """Return the six metrics, bandwidth and utilisation over time.

    Parameters
    ----------
    run : Run
    width_s : float, optional
        Width of the rows, a whole number of the run's bins; default: the run's own.

    Returns
    -------
    pandas.DataFrame
        ``t_s``, ``transport``, ``cohort``, the six metrics, ``up_bytes_per_s`` and
        ``down_bytes_per_s`` per present client, ``utilisation``.
    """
    table = _with_seconds(run, run.frame("timeline"))
    per_row = max(1, round((width_s or run.scenario.bin_s) / run.scenario.bin_s))
    row = np.arange(len(table)) // per_row
    sums = table.groupby([row, *_KEYS], sort=False).sum(numeric_only=True).reset_index(_KEYS)
    return pd.DataFrame(
        {
            "t_s": table.groupby(row)["t_s"].first(),
            **{key: sums[key] for key in _KEYS},
            **six(sums),
            "up_bytes_per_s": _ratio(sums["up_bytes"], sums["present_s"]),
            "down_bytes_per_s": _ratio(sums["down_bytes"], sums["present_s"]),
            "utilisation": _ratio(sums["busy_s"], sums["width_s"]),
        }
    )


def summary(*runs: Run) -> pd.DataFrame:
    """Return the table to read first.

    Parameters
    ----------
    *runs : Run
        Simulated or measured.

    Returns
    -------
    pandas.DataFrame
        A row per run, transport and cohort: ``source`` (engine or live), ``clients``, the six
        metrics, latency quantiles and maximum in seconds, the ledger, ``up_bytes_per_h`` and
        ``down_bytes_per_h`` per client-hour of presence, ``utilisation``. Rates are taken after
        the warm-up.
    """
    return pd.concat([_summary(run) for run in runs], ignore_index=True)


def _summary(run: Run) -> pd.DataFrame:
    timeline = run.frame("timeline")
    table = _with_seconds(run, timeline)
    table = table[table["t_s"] >= run.scenario.warm_up_s]
    sums = table.groupby(_KEYS, sort=False).sum(numeric_only=True).reset_index()
    sums["sessions"] = len(run.frame("clients"))
    latency = run.frame("latency")
    quantiles = run.latency_quantiles(list(_QUANTILES.values()))
    columns: dict[str, Any] = {
        "source": run.provenance["engine"],
        **{key: sums[key] for key in _KEYS},
        "clients": len(run.frame("clients")),
        **six(sums),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
        "latency_max_s": latency["high_s"].max() if len(latency) else np.nan,
        **run.ledger._asdict(),
        "up_bytes_per_h": _ratio(sums["up_bytes"], sums["present_s"] / 3600.0),
        "down_bytes_per_h": _ratio(sums["down_bytes"], sums["present_s"] / 3600.0),
        "utilisation": _ratio(sums["busy_s"], sums["width_s"]),
    }
    columns["average_latency_s"] = _mean_latency_s(run)
    return pd.DataFrame(columns)


def _mean_latency_s(run: Run) -> float:
    timeline, delivered = run.frame("timeline"), run.ledger.delivered
    return float(timeline["latency_sum_s"].sum()) / delivered if delivered else float("nan")


def ecdf(run: Run) -> pd.DataFrame:
    """Return the distribution of latency: ``latency_s`` ascending and ``share`` delivered by then.

    Parameters
    ----------
    run : Run

    Returns
    -------
    pandas.DataFrame
        A row per latency bucket that holds something.
    """
    table = run.frame("latency")
    return pd.DataFrame(
        {
            "latency_s": table["high_s"],
            "share": table["count"].cumsum() / max(1, table["count"].sum()),
        }
    )


def compare(predicted: Run, measured: Run) -> pd.DataFrame:
    """Return predicted beside measured, with the error of the prediction.

    Parameters
    ----------
    predicted, measured : Run
        Of the same scenario and seed.

    Returns
    -------
    pandas.DataFrame
        A row per quantity: ``quantity``, ``predicted``, ``measured``, ``error``
        (predicted - measured) and ``error_frac`` (relative to measured).
    """
    names = [
        "latency_p50_s",
        "latency_p95_s",
        "latency_p99_s",
        "average_latency_s",
        "delivered",
        "up_bytes_per_h",
        "down_bytes_per_h",
        "message_rate_per_s",
        "utilisation",
    ]
    left, right = summary(predicted).iloc[0], summary(measured).iloc[0]
    table = pd.DataFrame(
        {
            "quantity": names,
            "predicted": [float(left[name]) for name in names],
            "measured": [float(right[name]) for name in names],
        }
    )
    table["error"] = table["predicted"] - table["measured"]
    table["error_frac"] = _ratio(table["error"], table["measured"])
    return table
