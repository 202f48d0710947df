"""From a run's tables to its summary: the figures of each cohort, from the rows of `MEASURES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simlib.core.measures import MEASURES, QUANTILES, Measure, evaluate
from simlib.core.protocol import SOCKET_TRANSPORTS
from simlib.core.record import Count
from simlib.run.tables import Columns, Ledger, latency_quantiles, ledger_of, rows_of

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
        "width_s": width_s,
        "connected_s": timeline["connection_count"] * width_s,
        "present_s": timeline["present_count"] * width_s,
        "fallback_s": timeline["fallback_count"] * width_s,
        # A timeline knows the part of the workers that is busy: seconds of one worker on average.
        "busy_s": timeline["utilisation"] * width_s,
        "worker_s": width_s,
    }


def totals(tables: dict[str, Columns], *, source: str, warm_up_s: float) -> Rows:
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
    for transport, cohort in dict.fromkeys(
        zip(timeline["transport"], timeline["cohort"], strict=True)
    ):
        of_cohort = (timeline["transport"] == transport) & (timeline["cohort"] == cohort)
        high_s = latency["high_s"][rows_of(latency, cohort)]
        quantiles = latency_quantiles(latency, np.array(list(QUANTILES.values())), cohort)
        levels = {
            **dict(zip(QUANTILES, quantiles, strict=True)),
            "latency_max_s": high_s.max() if len(high_s) else np.nan,
        }
        added = {
            sample: {name: sums[name][mine].sum() for name in _TERMS[sample] & sums.keys()} | levels
            for sample, mine in (("deliveries", of_cohort), ("seconds", is_counted & of_cohort))
        }
        rows.append(
            {
                "source": source,
                "transport": transport,
                "cohort": cohort,
                "clients": int((tables["clients"]["cohort"] == cohort).sum()),
                **{
                    measure.name: float(evaluate(measure, added[measure.sample]))
                    if transport in SOCKET_TRANSPORTS or not measure.needs_socket
                    else np.nan
                    for measure in _SHOWN
                },
                "ledger": ledger_of(tables["clients"], cohort),
            }
        )
    return rows


def summary_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the summary of what `Run.totals` returned of any number of runs.

    Parameters
    ----------
    rows : sequence of dict

    Returns
    -------
    pandas.DataFrame
        See `metrics.summary`.
    """
    import pandas as pd

    ledgers = pd.DataFrame([Ledger(*row["ledger"]) for row in rows])
    table = pd.concat([pd.DataFrame(list(rows)), ledgers], axis=1)
    return table[["source", "transport", "cohort", "clients", *QUANTITIES]]
