"""The metrics of a run: one row each, which tables, figures and guardrails all read.

A metric is a ratio of sums over some rows of a timeline, or over the time between two checks. The
sums are the counts of `record.Count`, by their names in small letters, and those of `SUMS`. A
metric without a numerator is no ratio: a quantile or a level that stands among the sums under the
metric's own name.

A metric of sums that exist already is a new row here and nothing else: the summary, the table over
time, guardrails, the history of rollouts and figures take it from `MEASURES`. A new count needs its
member of `record.Count` too, and the place that counts it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.protocol import SOCKET_TRANSPORTS, TOLD_TRANSPORTS, TRANSPORT_NAMES
from simlib.core.record import Wait

Table = Literal["summary", "over_time", "check"]

SUMS = (
    "width_s",
    "present_s",
    "fallback_s",
    "connected_s",
    "latency_sum_s",
    "poll_response_sum_s",
    "connection_wait_sum_s",
    "busy_s",
    "worker_s",
)
"""Sums beside the counts: the time itself, client-seconds of presence, those of clients that polled
although they were to be pushed to, seconds of open connections, seconds from publish to apply over
the delivered, seconds that clients waited for answers to polls and for their WebSockets to open,
seconds that workers were busy, and seconds that they were there."""

OF_CHECKS = ("requests",)
"""The sums that the checks of a rollout have beside those: polls, and attempts to connect."""


class Measure(NamedTuple):
    """A metric.

    Attributes
    ----------
    name : str
        The column in tables, with the unit at its end.
    label, unit : str
        For titles and axes.
    numerator : tuple of str
        Sums that are added; empty: the metric stands among the sums itself.
    denominator : str
        The sum that they are divided by.
    per : float
        How many of the denominator's units the metric counts by: 3600 of a rate per hour.
    quantile : float, optional
        Of a quantile: which one, in (0, 1).
    wait : Wait, optional
        Of a quantile: of which waits; None: of the latency.
    scope : {"cohort", "server"}
        Whether each cohort of a rollout has its own, or the server has one for all.
    sample : {"deliveries", "seconds"}
        What its observations are: delivered changes, which the ledger counts over the whole run, or
        client-seconds of presence, which count after the warm-up.
    worse : {"higher", "lower", "neither"}
        Which way it gets worse.
    sequential : {"observations", "events"}, optional
        How a sequential test can judge it: as the mean of single observations, or as the rate of
        events in time. None: it cannot.
    needs_socket, needs_push : bool
        Whether it has a meaning only for transports whose clients keep a WebSocket open, or only
        for those whose clients are told of changes, by one or by a request that is held.
    is_guide : bool
        Whether it is one of the six metrics that the migration guide watches during its rollout.
    tables : tuple of str
        Where it is shown: in the summary, over time, and at the checks of a rollout.
    """

    name: str
    label: str
    unit: str
    numerator: tuple[str, ...] = ()
    denominator: str = ""
    per: float = 1.0
    quantile: float | None = None
    wait: Wait | None = None
    scope: Literal["cohort", "server"] = "cohort"
    sample: Literal["deliveries", "seconds"] = "seconds"
    worse: Literal["higher", "lower", "neither"] = "higher"
    sequential: Literal["observations", "events"] | None = None
    needs_socket: bool = False
    needs_push: bool = False
    is_guide: bool = False
    tables: tuple[Table, ...] = ("summary", "over_time", "check")

    @property
    def transports(self) -> tuple[str, ...]:
        """The names of the transports for which it has a meaning."""
        if self.needs_socket:
            return SOCKET_TRANSPORTS
        return TOLD_TRANSPORTS if self.needs_push else TRANSPORT_NAMES

    @property
    def is_share(self) -> bool:
        """Whether it is a part of a whole: between 0 and 1."""
        return self.unit.startswith(("share of", "part of"))


_ROWS = (
    Measure(
        name="connection_count",
        label="connectionCount",
        unit="mean number",
        numerator=("connected_s",),
        denominator="width_s",
        worse="neither",
        is_guide=True,
    ),
    Measure(
        name="average_latency_s",
        label="averageLatency",
        unit="s",
        numerator=("latency_sum_s",),
        denominator="delivered",
        sample="deliveries",
        sequential="observations",
        is_guide=True,
    ),
    Measure(
        name="reconnection_rate_per_h",
        label="reconnectionRate",
        unit="per client-hour",
        numerator=("reconnects",),
        denominator="present_s",
        per=3600.0,
        sequential="events",
        is_guide=True,
    ),
    Measure(
        name="message_rate_per_s",
        label="messageRate",
        unit="1/s",
        numerator=("polls", "messages"),
        denominator="width_s",
        worse="neither",
        is_guide=True,
    ),
    Measure(
        name="error_rate_per_h",
        label="errorRate",
        unit="per client-hour",
        numerator=("errors",),
        denominator="present_s",
        per=3600.0,
        sequential="events",
        is_guide=True,
    ),
    Measure(
        name="errors_per_request",
        label="errors of requests",
        unit="for each request",
        numerator=("errors",),
        denominator="requests",
        tables=("check",),
    ),
    Measure(
        name="fallback_to_polling_frac",
        label="fallbackToPollingRate",
        unit="share of clients",
        numerator=("fallback_s",),
        denominator="present_s",
        needs_push=True,
        is_guide=True,
    ),
    Measure(
        name="latency_p50_s",
        label="latency, median",
        unit="s",
        quantile=0.5,
        sample="deliveries",
        tables=("summary", "check"),
    ),
    Measure(
        name="latency_p95_s",
        label="latency, 95 %",
        unit="s",
        quantile=0.95,
        sample="deliveries",
        tables=("summary", "check"),
    ),
    Measure(
        name="latency_p99_s",
        label="latency, 99 %",
        unit="s",
        quantile=0.99,
        sample="deliveries",
        tables=("summary", "check"),
    ),
    Measure(
        name="latency_max_s",
        label="latency, slowest",
        unit="s",
        sample="deliveries",
        tables=("summary",),
    ),
    Measure(
        name="poll_response_s",
        label="response time of polls",
        unit="s",
        numerator=("poll_response_sum_s",),
        denominator="answers",
    ),
    Measure(
        name="poll_response_p95_s",
        label="response time of polls, 95 %",
        unit="s",
        quantile=0.95,
        wait=Wait.POLL,
        tables=("summary", "check"),
    ),
    Measure(
        name="connection_wait_s",
        label="wait for a WebSocket",
        unit="s",
        numerator=("connection_wait_sum_s",),
        denominator="opened",
        needs_socket=True,
    ),
    Measure(
        name="connection_wait_p95_s",
        label="wait for a WebSocket, 95 %",
        unit="s",
        quantile=0.95,
        wait=Wait.CONNECTION,
        needs_socket=True,
        tables=("summary", "check"),
    ),
    Measure(
        name="up_bytes_per_h",
        label="IP bytes up",
        unit="B per client-hour",
        numerator=("up_bytes",),
        denominator="present_s",
        per=3600.0,
        tables=("summary", "check"),
    ),
    Measure(
        name="down_bytes_per_h",
        label="IP bytes down",
        unit="B per client-hour",
        numerator=("down_bytes",),
        denominator="present_s",
        per=3600.0,
        tables=("summary", "check"),
    ),
    Measure(
        name="payload_up_bytes_per_h",
        label="payload bytes up",
        unit="B per client-hour",
        numerator=("payload_up_bytes",),
        denominator="present_s",
        per=3600.0,
        tables=("summary",),
    ),
    Measure(
        name="payload_down_bytes_per_h",
        label="payload bytes down",
        unit="B per client-hour",
        numerator=("payload_down_bytes",),
        denominator="present_s",
        per=3600.0,
        tables=("summary",),
    ),
    Measure(
        name="up_bytes_per_s",
        label="IP bytes up",
        unit="B/s per client",
        numerator=("up_bytes",),
        denominator="present_s",
        tables=("over_time",),
    ),
    Measure(
        name="down_bytes_per_s",
        label="IP bytes down",
        unit="B/s per client",
        numerator=("down_bytes",),
        denominator="present_s",
        tables=("over_time",),
    ),
    Measure(
        name="heartbeat_rate_per_s",
        label="heartbeats",
        unit="pings/s",
        numerator=("heartbeats",),
        denominator="width_s",
        worse="neither",
        tables=("summary", "over_time"),
    ),
    Measure(
        name="utilisation",
        label="utilisation",
        unit="part of the workers' time",
        numerator=("busy_s",),
        denominator="worker_s",
        scope="server",
    ),
    Measure(
        name="busiest_utilisation",
        label="utilisation of the busiest node",
        unit="part of its workers' time",
        scope="server",
        tables=("summary", "check"),
    ),
    Measure(
        name="memory_bytes",
        label="memory of connections",
        unit="B",
        scope="server",
        tables=("check",),
    ),
)

MEASURES = {row.name: row for row in _ROWS}
GUIDE_METRICS = tuple(row.name for row in _ROWS if row.is_guide)
METRICS = tuple(row.name for row in _ROWS if "check" in row.tables)
"""What a guardrail can watch."""
_WITH_QUANTILE = [(row, row.quantile) for row in _ROWS if row.quantile is not None]
QUANTILES = {row.name: level for row, level in _WITH_QUANTILE if row.wait is None}
"""The quantiles of the latency."""
WAIT_QUANTILES = {
    row.name: (row.wait, level) for row, level in _WITH_QUANTILE if row.wait is not None
}
"""The quantiles of waits: of which, and which one."""


def evaluate(measure: Measure, sums: Any) -> NDArray[np.float64]:
    """Return what a metric is, given the sums; NaN where there is nothing to divide by.

    Parameters
    ----------
    measure : Measure
    sums : mapping of str to number or array, or a table
        The sums that it names.

    Returns
    -------
    ndarray of float64
        Of the shape of the sums.

    Examples
    --------
    >>> evaluate(MEASURES["error_rate_per_h"], {"errors": 6, "present_s": 1800.0}).tolist()
    12.0
    >>> sums = {"polls": [4, 1], "messages": [0, 2], "width_s": np.array([2.0, 0.0])}
    >>> evaluate(MEASURES["message_rate_per_s"], {k: np.array(v) for k, v in sums.items()}).tolist()
    [2.0, nan]
    """
    if not measure.numerator:
        return np.asarray(sums[measure.name], dtype=np.float64)
    above = sum(sums[name] for name in measure.numerator)
    return ratio(above, sums[measure.denominator] / measure.per)


def ratio(above: Any, below: Any) -> NDArray[np.float64]:
    """Return one divided by the other, element by element; NaN where the divisor is not above 0.

    Examples
    --------
    >>> ratio([1.0, 1.0], [4.0, 0.0]).tolist()
    [0.25, nan]
    """
    if isinstance(below, float):  # one number, as at the checks of a rollout: no array is needed
        return np.asarray(float(above) / float(below) if below > 0.0 else np.nan)
    dividend, divisor = np.asarray(above, np.float64), np.asarray(below, np.float64)
    result = np.full(divisor.shape, np.nan)
    with np.errstate(all="ignore"):
        np.divide(dividend, divisor, out=result, where=divisor > 0.0)
    return result
