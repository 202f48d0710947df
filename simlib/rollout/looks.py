"""What a rollout's controller saw at its looks: the rows of which `reasons` makes sentences.

A look is a time at which the controller observes the run. It leaves a row for each guardrail that
was checked, and a row for each cohort: what it is now, and what happened since the look before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.measures import MEASURES
from simlib.core.record import TICK_S, Count, MetricsSnapshot
from simlib.rollout.tally import Check, Tally
from simlib.run import COHORTS, Run

if TYPE_CHECKING:
    import pandas as pd

    from simlib.rollout.sections import Guardrail

FOUND = (
    "within",
    "beyond",
    "between",
    "worse",
    "not worse",
    "too little data",
    "no number",
    "not evaluated",
    "suspended",
    "no control",
)
"""What a check finds: the value is within its limit, beyond the one that fails, or between the two;
a judge says that the enrolled users are worse, or not; there is too little data to say; nothing has
happened that makes a number, though there was one before; the condition cannot be evaluated; the
guardrail's delay is not over; nobody is left to compare with."""

CHECKS = (
    *("t_s", "guardrail", "metric", "treatment", "control", "limit", "sample", "found", "result"),
    *("failures", "inconclusive", "without_data"),
)
"""The columns of a rollout's checks."""

_COUNTED = (Count.DELIVERED, Count.LOST, Count.ERRORS, Count.RECONNECTS, Count.FALLBACKS)
_FROM_RUN = ("joined", "opened", "cut")
LOOKS = (
    *("t_s", "since_s", "cohort", "present", "connected"),
    *_FROM_RUN,
    *(what.name.lower() for what in _COUNTED),
    "average_latency_s",
)
"""The columns of a rollout's looks."""

_CUT = ("closed_by_server", "timed_out")


class Finding(NamedTuple):
    """What came of checking one guardrail once.

    Attributes
    ----------
    found : str
        One of `FOUND`.
    check : Check
        What it counts as.
    limit : float
        What the value was compared with; NaN if with nothing.
    sample : float
        The number of observations; NaN if nothing was asked of them.
    """

    found: str
    check: Check
    limit: float = math.nan
    sample: float = math.nan


def check_rows(
    t_s: float,
    guardrails: Sequence[Guardrail],
    findings: Sequence[Finding],
    values: Sequence[tuple[Mapping[str, float], Mapping[str, float]]],
    tally: Tally,
) -> list[dict[str, Any]]:
    """Return the rows of a look's checks.

    Parameters
    ----------
    t_s : float
    guardrails : sequence of Guardrail
    findings : sequence of Finding
        One for each guardrail.
    values : sequence of pair of mapping of str to float
        For each guardrail the metrics of the control and of the treatment cohort.
    tally : Tally
        After this look.
    """
    rows = []
    for number, (guardrail, finding) in enumerate(zip(guardrails, findings, strict=True)):
        if finding.check == Check.NOT_DUE:
            continue
        name, (control, treatment) = guardrail.metric, values[number]
        of_control = math.nan if MEASURES[name].scope == "server" else control[name]
        rows.append(
            {
                "t_s": t_s,
                "guardrail": number,
                "metric": name,
                "treatment": treatment[name],
                "control": of_control,
                "limit": finding.limit,
                "sample": finding.sample,
                "found": finding.found,
                "result": finding.check.name.lower(),
                "failures": tally.failures[number],
                "inconclusive": tally.inconclusive[number],
                "without_data": tally.errors[number],
            }
        )
    return rows


def cohort_rows(before: MetricsSnapshot | None, now: MetricsSnapshot) -> list[dict[str, Any]]:
    """Return the rows of a look's cohorts; without a look before, since the run began."""
    rows = []
    for cohort, name in enumerate(COHORTS):
        counts, ticks = now.counts[cohort], now.latency_ticks[cohort]
        if before is not None:
            counts, ticks = counts - before.counts[cohort], ticks - before.latency_ticks[cohort]
        delivered = int(counts[Count.DELIVERED])
        rows.append(
            {
                "t_s": now.t,
                "since_s": 0.0 if before is None else before.t,
                "cohort": name,
                "present": int(now.present[cohort]),
                "connected": int(now.connected[cohort]),
                **{what.name.lower(): int(counts[what]) for what in _COUNTED},
                "average_latency_s": float(ticks) * TICK_S / delivered if delivered else math.nan,
            }
        )
    return rows


def checks_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the checks of a rollout."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(CHECKS))


def looks_table(rows: list[dict[str, Any]], run: Run) -> pd.DataFrame:
    """Return the looks of a rollout, with what the run's own tables say of the time between them.

    Parameters
    ----------
    rows : list of dict
        Of `cohort_rows`.
    run : Run
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(LOOKS))
    exposures, connections = run.columns("exposures"), run.columns("connections")
    is_cut = np.isin(connections["cause"], _CUT)
    for name in COHORTS:
        at = table["cohort"] == name
        # Who is there at the start of the run has joined when it is first looked at.
        since_s = table.loc[at, "since_s"].replace(0.0, -1.0).to_numpy(float)
        until_s = table.loc[at, "t_s"].to_numpy(float)
        of_it = connections["cohort"] == name
        joined_s = exposures["from_s"][exposures["cohort"] == name]
        opened_s, cut_s = connections["opened_s"][of_it], connections["closed_s"][of_it & is_cut]
        for column, times_s in zip(_FROM_RUN, (joined_s, opened_s, cut_s), strict=True):
            table.loc[at, column] = _between(times_s, since_s, until_s)
    return table.astype(dict.fromkeys(_FROM_RUN, "int64"))


def _between(
    times_s: NDArray[np.float64], since_s: NDArray[np.float64], until_s: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how many of some times lie after each start, up to each end."""
    order = np.sort(times_s)
    counts = np.searchsorted(order, until_s, "right") - np.searchsorted(order, since_s, "right")
    return np.asarray(counts, dtype=np.int64)
