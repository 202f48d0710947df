"""What a run leaves behind: accumulators that every driver fills in the same way.

**The ledger.** For each client and each change published while it was present, exactly one
outcome: delivered, lost (its policy will never show it) or pending (not yet shown when the client
was last seen: at the end of its session or of the run). Delivered and lost are counted as they
happen; pending is what the client's own view says at the end; eligible comes from the publish
times alone. So delivered + lost + pending = eligible can fail, and `check` raises if it does.

**Latency** goes into log-linear buckets (128 to the octave, at most 0.8 % wide), **counts** into
time bins and client rows. Memory grows with clients + bins + connections made, not with events;
single deliveries and events are kept only when asked for.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simlib.core.protocol import Event
from simlib.errors import LedgerError

_BUCKETS_PER_OCTAVE = 128
_FIRST_OCTAVE = -20
_OCTAVES = 44


class Count(IntEnum):
    """Whole numbers, kept per time bin and per client."""

    POLLS = 0
    UNCHANGED = 1
    MESSAGES = 2
    ATTEMPTS = 3
    CONNECTIONS = 4
    RECONNECTS = 5
    ERRORS = 6
    FALLBACKS = 7
    DELIVERED = 8
    LOST = 9
    SUPERSEDED = 10
    UP_BYTES = 11
    DOWN_BYTES = 12


class Amount(IntEnum):
    """Durations, kept per time bin: sums of seconds."""

    LATENCY_S = 0
    CONNECTED_S = 1
    PRESENT_S = 2
    BUSY_S = 3


class Cause(IntEnum):
    """Why a connection ended."""

    OPEN_AT_END = 0
    SESSION_ENDED = 1
    IDLE = 2
    CLOSED_BY_SERVER = 3
    TIMED_OUT = 4


def bucket_of(latency_s: float) -> int:
    """Return the latency bucket that holds `latency_s`.

    Examples
    --------
    >>> low, high = bucket_edges_s()[bucket_of(0.1)], bucket_edges_s()[bucket_of(0.1) + 1]
    >>> bool(low <= 0.1 < high), bool(high / low < 1.01)
    (True, True)
    """
    if latency_s <= 0.0:
        return 0
    mantissa, exponent = math.frexp(latency_s)
    octave = exponent - 1 - _FIRST_OCTAVE
    if octave < 0:
        return 0
    if octave >= _OCTAVES:
        return 1 + _OCTAVES * _BUCKETS_PER_OCTAVE - 1
    return 1 + octave * _BUCKETS_PER_OCTAVE + int((mantissa * 2.0 - 1.0) * _BUCKETS_PER_OCTAVE)


def bucket_edges_s() -> NDArray[np.float64]:
    """Return the edges of the latency buckets, seconds, ascending from 0.

    Returns
    -------
    ndarray of float64, shape (buckets + 1,)
        Bucket 0 is everything below 2**-20 s (about 1 microsecond).
    """
    octaves = np.repeat(
        2.0 ** np.arange(_FIRST_OCTAVE, _FIRST_OCTAVE + _OCTAVES), _BUCKETS_PER_OCTAVE
    )
    steps = np.tile(1.0 + np.arange(_BUCKETS_PER_OCTAVE) / _BUCKETS_PER_OCTAVE, _OCTAVES)
    last = 2.0 ** (_FIRST_OCTAVE + _OCTAVES)
    return np.concatenate(([0.0], octaves * steps, [last]))


class Record:
    """The accumulators of one run.

    Parameters
    ----------
    publish_s : ndarray of float64, shape (changes,)
        Intended publish times, ascending, seconds.
    start_s, end_s : ndarray of float64, shape (clients,)
        When each client's session starts and ends (at the horizon at the latest).
    warm_up_s, cool_down_s, horizon_s, bin_s : float
        Changes published before `warm_up_s`, or within `cool_down_s` of the horizon, are not in
        the ledger.
    keep_deliveries, keep_events : bool
        Whether single deliveries and events are kept.

    Attributes
    ----------
    bins : ndarray of int64, shape (bins, len(Count))
    amounts : ndarray of float64, shape (bins, len(Amount))
    clients : ndarray of int64, shape (clients, len(Count))
    pending : ndarray of int64, shape (clients,)
    histogram : ndarray of int64, shape (buckets,)
    latency_max_s : float
    connections : list of tuple
        (client, opened_s, closed_s, Cause).
    deliveries, events : list of tuple
        (client, version, published_s, applied_s) and (t, client, event, state, actions).
    """

    def __init__(
        self,
        publish_s: NDArray[np.float64],
        start_s: NDArray[np.float64],
        end_s: NDArray[np.float64],
        *,
        warm_up_s: float,
        cool_down_s: float,
        horizon_s: float,
        bin_s: float,
        keep_deliveries: bool = False,
        keep_events: bool = False,
    ) -> None:
        clients = len(start_s)
        bins = max(1, math.ceil(horizon_s / bin_s - 1e-9))
        self.publish_s: list[float] = publish_s.tolist()
        counted_from_s = np.maximum(start_s, warm_up_s)
        self.first: list[int] = np.searchsorted(publish_s, counted_from_s, "left").tolist()
        counted_to_s = np.minimum(end_s, horizon_s - cool_down_s)
        self.last: list[int] = np.searchsorted(publish_s, counted_to_s, "left").tolist()
        self.bin_s = bin_s
        self.horizon_s = horizon_s
        self.bins = np.zeros((bins, len(Count)), dtype=np.int64)
        self.amounts = np.zeros((bins, len(Amount)), dtype=np.float64)
        self.clients = np.zeros((clients, len(Count)), dtype=np.int64)
        self.pending = np.zeros(clients, dtype=np.int64)
        self.histogram = np.zeros(1 + _OCTAVES * _BUCKETS_PER_OCTAVE, dtype=np.int64)
        self.latency_max_s = 0.0
        self.keep_deliveries = keep_deliveries
        self.keep_events = keep_events
        self.connections: list[tuple[int, float, float, int]] = []
        self.deliveries: list[tuple[int, int, float, float]] = []
        self.events: list[tuple[float, int, int, int, int]] = []

    def end_at(self, t: float) -> None:
        """Let the books end at `t` instead of the horizon, seconds: an interrupted run."""
        if t < self.horizon_s:
            published = np.searchsorted(self.publish_s, t, "right")
            self.last = np.minimum(self.last, published).tolist()

    @property
    def eligible(self) -> NDArray[np.int64]:
        """Changes published while each client was present, shape (clients,)."""
        return np.maximum(np.subtract(self.last, self.first), 0)


def bin_of(record: Record, t: float) -> int:
    """Return the time bin of `t`; what happens at the horizon belongs to the last."""
    return min(int(t / record.bin_s), len(record.bins) - 1)


def count(record: Record, what: Count, client: int, t: float, n: int = 1) -> None:
    """Add `n` to a count of a client and of the time bin of `t`."""
    record.bins[bin_of(record, t), what] += n
    record.clients[client, what] += n


def add_bytes(record: Record, client: int, t: float, up: int, down: int) -> None:
    """Book the bytes of one message."""
    count(record, Count.UP_BYTES, client, t, up)
    count(record, Count.DOWN_BYTES, client, t, down)


def spread(record: Record, what: Amount, start_s: float, end_s: float, sign: float = 1.0) -> None:
    """Share the seconds from `start_s` to `end_s` out over the time bins, up to the horizon.

    With `sign` -1, take them back.
    """
    end_s = min(end_s, record.horizon_s)
    index = bin_of(record, start_s)
    last = len(record.bins) - 1
    while start_s < end_s:
        stop_s = end_s if index == last else min((index + 1) * record.bin_s, end_s)
        if stop_s > start_s:
            record.amounts[index, what] += sign * (stop_s - start_s)
            start_s = stop_s
        index += 1


def resolve(
    record: Record, client: int, before: int, applied_from: int, view: int, now: float
) -> None:
    """Book the changes that a step resolved: lost up to `applied_from`, delivered up to `view`.

    Changes outside the client's eligible range (published before its session or the warm-up, or
    at the very end of its session) are seen but not counted.
    """
    first, last = record.first[client], record.last[client]
    lost = min(applied_from, last) - max(before, first)
    if lost > 0:
        count(record, Count.LOST, client, now, lost)
    delivered = range(max(applied_from, first), min(view, last))
    if not delivered:
        return
    count(record, Count.DELIVERED, client, now, len(delivered))
    if len(delivered) > 1:
        count(record, Count.SUPERSEDED, client, now, len(delivered) - 1)
    total_s = 0.0
    for index in delivered:
        latency_s = now - record.publish_s[index]
        total_s += latency_s
        record.histogram[bucket_of(latency_s)] += 1
        if latency_s > record.latency_max_s:
            record.latency_max_s = latency_s
        if record.keep_deliveries:
            record.deliveries.append((client, index + 1, record.publish_s[index], now))
    record.amounts[bin_of(record, now), Amount.LATENCY_S] += total_s


def settle(record: Record, client: int, view: int, recoverable: bool, now: float) -> None:
    """Book what a client has not resolved when it is last seen: pending, or lost for good."""
    outstanding = record.last[client] - max(view, record.first[client])
    if outstanding > 0:
        if recoverable:
            record.pending[client] += outstanding
        else:
            count(record, Count.LOST, client, now, outstanding)


def log_event(
    record: Record, t: float, client: int, event: Event, state: int, actions: int
) -> None:
    """Keep one step of one client, if events were asked for."""
    if record.keep_events:
        record.events.append((t, client, int(event), int(state), int(actions)))


def close_connection(
    record: Record, client: int, opened_s: float, closed_s: float, cause: Cause
) -> None:
    """Book a connection that ends, and the time it was open."""
    record.connections.append((client, opened_s, closed_s, int(cause)))
    spread(record, Amount.CONNECTED_S, opened_s, closed_s)


def check(record: Record) -> None:
    """Raise `LedgerError` unless every eligible change of every client has one outcome."""
    delivered = record.clients[:, Count.DELIVERED]
    lost = record.clients[:, Count.LOST]
    off = delivered + lost + record.pending - record.eligible
    if off.any():
        client = int(np.flatnonzero(off)[0])
        raise LedgerError(
            f"client {client}: eligible {record.eligible[client]} but delivered "
            f"{delivered[client]} + lost {lost[client]} + pending {record.pending[client]} "
            f"({np.count_nonzero(off)} clients are off)"
        )
