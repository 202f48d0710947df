"""The record of a run: accumulators that every driver fills in the same way.

**The ledger.** Each change that is published while a client is present has exactly one outcome for
it: delivered, lost (the client will never apply it) or pending (not yet applied at the end of the
client's session or of the run). Delivered and lost changes are counted as they happen; pending ones
are computed at the end from the client's version; eligible ones from the publish times alone. So
delivered + lost + pending = eligible can fail, and `check` raises an error if it does.

A change that a client skips while it applies later ones is lost, unless safety polls are sure to
bring it: then it is kept as a gap. Snapshots received for other reasons, such as a fall-back to
polling, do not repair gaps.

**Cohorts.** During a rollout there are two cohorts: clients that are not enrolled, and clients
that are. An event is counted for the cohort to which the client belongs at that moment,
a delivered change for the cohort at its publish time. Without a rollout there is one cohort.

**Messages** are counted by kind, and bytes follow from the size of each kind: as IP packets, which
is what a provider bills, and as payload of TCP. The live lab counts the bytes of its sockets.

**Latencies** go into log-linear buckets (128 to the octave, at most 0.8 % wide), **counts** into
time bins and client rows. Memory grows with clients + bins + connections made, not with events;
single deliveries and events are kept on request only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.wire.spec import Message
from simlib.errors import LedgerError

BUCKETS_PER_OCTAVE = 128
FIRST_OCTAVE = -20
OCTAVES = 44
TICK_S = 2.0**-20
"""Unit of the sums of latencies, seconds: about 1 microsecond."""
_BLOCK = 1 << 20


class Count(IntEnum):
    """What is counted, in whole numbers per time bin.

    The counts before RECONNECTS, and the bytes of IP packets, are kept per client as well. POLLS
    and ERRORS include safety polls and their failures. UP_BYTES and DOWN_BYTES are those of IP
    packets, the others those that TCP carries. HEARTBEATS are pings, whichever side sends them: a
    client's when it sends one, the server's when one reaches its client. Pongs are not counted.
    REFUSED are upgrades beyond a node's most connections, DROPPED_SYNS those beyond its backlog.
    FAILED_UPDATES are changes whose broadcast ended early, each once: its author gets an error
    after saving. UNSENT are the messages that were therefore not sent, FORGOTTEN the
    sockets let in, and the requests held, by a server that sends to none of them any more.
    ANSWERS are polls whose whole answer has come, fetches beside a socket among them, safety polls
    and refusals not; OPENED are WebSockets that have opened. THROWN_AWAY are changes, or boards,
    that a proxy had of a stream when it was cut, HELD_BACK those that it has for a client at the
    end of the run. GIVEN_UP are clients that never try again because a request was answered with an
    error of HTTP, GIVEN_UP_AT_END because their stream came to its proper end; those that poll
    instead are in neither. BAD_GATEWAYS are answers 502 of a proxy that found no node up.
    """

    POLLS = 0
    UNCHANGED = 1
    MESSAGES = 2
    ATTEMPTS = 3
    CONNECTIONS = 4
    ERRORS = 5
    FALLBACKS = 6
    DELIVERED = 7
    LOST = 8
    SUPERSEDED = 9
    RECONNECTS = 10
    UP_BYTES = 11
    DOWN_BYTES = 12
    SAFETY_POLLS = 13
    SAFETY_ERRORS = 14
    HEARTBEATS = 15
    REFUSED = 16
    DROPPED_SYNS = 17
    PAYLOAD_UP_BYTES = 18
    PAYLOAD_DOWN_BYTES = 19
    ANSWERS = 20
    OPENED = 21
    FAILED_UPDATES = 22
    UNSENT = 23
    FORGOTTEN = 24
    THROWN_AWAY = 25
    HELD_BACK = 26
    GIVEN_UP = 27
    GIVEN_UP_AT_END = 28
    BAD_GATEWAYS = 29


CLIENT_WORDS = (Count.RECONNECTS + 1) // 2 + 2
"""Words of 8 bytes for the counts of one client: two counts a word, and two words of bytes."""


class Wait(IntEnum):
    """What a client waits for.

    POLL: from the moment it wants to fetch until the whole answer is there; connecting included,
    if it has to, but not the tries before this one. CONNECTION: from the start of the session (or
    the return to push), or from when it notices that its WebSocket is lost, until the next one is
    open (READY); failed attempts and the delays between them included. What ends otherwise, as
    by giving up or at the end of the run, is not counted.
    """

    POLL = 0
    CONNECTION = 1


class Cause(IntEnum):
    """Why a connection ended."""

    OPEN_AT_END = 0
    SESSION_ENDED = 1
    IDLE = 2
    CLOSED_BY_SERVER = 3
    TIMED_OUT = 4
    SWITCHED = 5


def bucket_of(latency_s: float) -> int:
    """Return the bucket of a latency, seconds; compiled code shifts its bits instead.

    Examples
    --------
    >>> low, high = bucket_edges_s()[bucket_of(0.1)], bucket_edges_s()[bucket_of(0.1) + 1]
    >>> bool(low <= 0.1 < high), bool(high / low < 1.01)
    (True, True)
    """
    if latency_s <= 0.0:
        return 0
    mantissa, exponent = math.frexp(latency_s)
    octave = exponent - 1 - FIRST_OCTAVE
    if octave < 0:
        return 0
    if octave >= OCTAVES:
        return 1 + OCTAVES * BUCKETS_PER_OCTAVE - 1
    return 1 + octave * BUCKETS_PER_OCTAVE + int((mantissa * 2.0 - 1.0) * BUCKETS_PER_OCTAVE)


def ticks_of(latency_s: float) -> int:
    """Return a latency in whole ticks.

    Examples
    --------
    >>> ticks_of(0.5), ticks_of(1e-7)
    (524288, 0)
    """
    return int(latency_s / TICK_S + 0.5)


@cache
def bucket_edges_s() -> NDArray[np.float64]:
    """Return the edges of the latency buckets, seconds, ascending from 0.

    Returns
    -------
    ndarray of float64, shape (buckets + 1,)
        Bucket 0 is everything below 2**-20 s (about 1 microsecond). It cannot be written to.
    """
    octaves = np.repeat(2.0 ** np.arange(FIRST_OCTAVE, FIRST_OCTAVE + OCTAVES), BUCKETS_PER_OCTAVE)
    steps = np.tile(1.0 + np.arange(BUCKETS_PER_OCTAVE) / BUCKETS_PER_OCTAVE, OCTAVES)
    last = 2.0 ** (FIRST_OCTAVE + OCTAVES)
    edges_s = np.concatenate(([0.0], octaves * steps, [last]))
    edges_s.flags.writeable = False
    return edges_s


CONNECTION = {
    "client": "i4",
    "opened_s": "f8",
    "closed_s": "f8",
    "cause": "i1",
    "transport": "i1",
    "cohort": "i1",
    "node": "i1",
}
EXPOSURE = {"client": "i4", "cohort": "i1", "from_s": "f8", "to_s": "f8"}
DELIVERY = {"client": "i4", "version": "i4", "published_s": "f8", "applied_s": "f8"}
EVENT = {"t_s": "f8", "client": "i4", "event": "i1", "state": "i1", "actions": "i2"}
"""Columns of the logs."""


class Kept(NamedTuple):
    """What a record keeps beside its counts.

    Attributes
    ----------
    deliveries, events : bool
        Single deliveries, and single events.
    buffered : bool
        The most bytes that the server's send buffers held for each client.
    failures : bool
        Which changes have failed: their broadcasts ended early.
    queues : bool
        How long each client's requests wait in the browser.
    gaps : int
        How many gaps of each client are kept at a time; when there are more, the oldest one counts
        as lost.
    """

    deliveries: bool = False
    events: bool = False
    buffered: bool = False
    failures: bool = False
    queues: bool = False
    gaps: int = 0


class Record:
    """The accumulators of one run.

    Sums do not depend on the order of their terms, which are whole numbers; latencies are summed in
    ticks. Only busy seconds are floats, and the server's jobs have one order.

    Parameters
    ----------
    publish_s : ndarray of float64, shape (changes,)
        Intended publish times, ascending, seconds.
    start_s, end_s : ndarray of float64, shape (clients,)
        When each client's session starts and ends (at the horizon at the latest).
    counted_s : tuple of float
        Changes published from the one to before the other are in the ledger, seconds.
    horizon_s, bin_s : float
        Seconds.
    transports : tuple of int
        The transport of each cohort; one, or two in a rollout.
    sizes : ndarray of int64, shape (len(Message), 4), optional
        Of each kind of message: bytes of payload up and down, and of IP packets up and down. The
        live lab, which counts bytes, has none.
    nodes : int
        How many nodes the server has.
    kept : Kept

    Attributes
    ----------
    publish_s : list of float
    first, until : int
        How many changes are published before the ledger begins to count, and before it ends.
    last : ndarray of int32, shape (clients,) or (1,)
        How many changes are published by the end of each client's part of the ledger; one number if
        it is the same for all.
    bins : ndarray of int64, shape (cohorts, bins, len(Count))
        Without the bytes of `messages`: see `bins_with_bytes`.
    messages : ndarray of int64, shape (cohorts, bins, len(Message))
        How many messages of each kind passed the client's end.
    busy_s : ndarray of float64, shape (nodes, bins)
        Time that the workers of each node were busy, seconds.
    latency_ticks : ndarray of int64, shape (cohorts, bins)
        Sum of the latencies of delivered changes, in units of `TICK_S`.
    latency_max_s : ndarray of float64, shape (1,)
    wait_ticks : ndarray of int64, shape (len(Wait), cohorts, bins)
        Sum of the waits that ended in each bin, in units of `TICK_S`.
    wait_histogram : ndarray of int64, shape (len(Wait), cohorts, buckets)
        The same buckets as those of latencies; of the waits that ended in a bin that starts after
        the warm-up.
    first_bin : int
        The first of these bins.
    clients : ndarray of int32, shape (clients, ...)
        The counts before `Count.RECONNECTS`.
    traffic : ndarray of int64, shape (clients, 2)
        Bytes of IP packets up and down; in the same rows of memory as `clients`.
    pending : ndarray of int32, shape (clients,)
    buffered : ndarray of float64, shape (clients,) or (0,)
        The most bytes that the server's memory held for each client; empty unless kept.
    queued_s : ndarray of float64, shape (clients,) or (0,)
        How long each client's requests have waited in the browser, seconds; empty unless kept.
    gaps : ndarray of int32, shape (clients, 2 * kept.gaps) or (0, 0)
        Each client's gaps, the oldest first, as pairs: the change from which on and the change up
        to which it has missed them. (0, 0) stands for no gap. Empty if no gaps are kept.
    failed : ndarray of bool, shape (changes,) or (0,)
        Whether each change's broadcast ended early; empty unless kept.
    histogram : ndarray of int64, shape (cohorts, buckets)
    cohort : ndarray of int8, shape (clients,), or None
        The cohort of each client; None if there is only one.
    cohort_s : ndarray of float64, shape (clients,) or (1,)
        Since when each client belongs to its cohort, seconds.
    opened_in : ndarray of int8, shape (clients,) or (1,)
        The cohort in which each client's latest connection was opened.
    last_s : ndarray of float64, shape (clients,) or (1,)
        When that connection was opened, or taken over into the present exposure, seconds; negative
        if there was none.
    again : ndarray of int32, shape (clients,) or (1,)
        Each client's reconnections: all connections except the first of its session, and the first
        after it switched to its cohort's transport.
    exposed_s, fallen_s : ndarray of float64, shape (cohorts,)
        Client-seconds of the exposures and of the fallbacks that have ended, as the logs have them.
    connections, exposures, fallbacks, deliveries, events : list of tuple
        Rows of `CONNECTION`, `EXPOSURE` (twice), `DELIVERY` and `EVENT`. A fallback is a time in
        which a client polled although its cohort is pushed to.
    """

    def __init__(
        self,
        publish_s: NDArray[np.float64],
        start_s: NDArray[np.float64],
        end_s: NDArray[np.float64],
        *,
        counted_s: tuple[float, float],
        horizon_s: float,
        bin_s: float,
        transports: tuple[int, ...] = (0,),
        sizes: NDArray[np.int64] | None = None,
        nodes: int = 1,
        kept: Kept = Kept(),  # noqa: B008 - a tuple, which nobody can change
    ) -> None:
        clients = len(start_s)
        bins, cohorts = max(1, math.ceil(horizon_s / bin_s - 1e-9)), len(transports)
        self.transports = transports
        self.publish_s: list[float] = publish_s.tolist()
        self.start_s = start_s
        self.first, self.until = (int(n) for n in np.searchsorted(publish_s, counted_s, "left"))
        self.last = np.minimum(_published(publish_s, scalar_or_array(end_s)), np.int32(self.until))
        self.bin_s = bin_s
        self.horizon_s = horizon_s
        self.bins = np.zeros((cohorts, bins, len(Count)), dtype=np.int64)
        self.sizes = np.zeros((len(Message), 4), dtype=np.int64) if sizes is None else sizes
        self.messages = np.zeros((cohorts, bins, len(Message)), dtype=np.int64)
        self.busy_s = np.zeros((nodes, bins))
        self.latency_ticks = np.zeros((cohorts, bins), dtype=np.int64)
        self.latency_max_s = np.zeros(1)
        buckets = 1 + OCTAVES * BUCKETS_PER_OCTAVE
        self.wait_ticks = np.zeros((len(Wait), cohorts, bins), dtype=np.int64)
        self.wait_histogram = np.zeros((len(Wait), cohorts, buckets), dtype=np.int64)
        self.first_bin = first_bin_of(counted_s[0], bin_s, bins)
        rows = np.zeros((clients, CLIENT_WORDS), dtype=np.int64)
        self.clients, self.traffic = counts_in(rows)
        self.pending = np.zeros(clients, dtype=np.int32)
        self.buffered = np.zeros(clients if kept.buffered else 0)
        self.queued_s = np.zeros(clients if kept.queues else 0)
        self.failed = np.zeros(len(publish_s) if kept.failures else 0, dtype=np.bool_)
        self.gaps = np.zeros((clients, 2 * kept.gaps) if kept.gaps else (0, 0), dtype=np.int32)
        self.histogram = np.zeros((cohorts, buckets), dtype=np.int64)
        self.cohort: Any = np.zeros(clients, dtype=np.int8) if cohorts > 1 else None
        self.cohort_s = np.zeros(clients if cohorts > 1 else 1)
        self.opened_in = np.zeros(len(self.cohort_s), dtype=np.int8)
        self.last_s = np.full(len(self.cohort_s), -1.0)
        self.again = np.zeros(len(self.cohort_s), dtype=np.int32)
        self.keep_deliveries = kept.deliveries
        self.keep_events = kept.events
        self.exposed_s, self.fallen_s = np.zeros(cohorts), np.zeros(cohorts)
        self.connections: Any = []
        self.exposures: Any = []
        self.fallbacks: Any = []
        self.deliveries: Any = []
        self.events: Any = []

    def end_at(self, t: float) -> None:
        """End the record at `t`, seconds, before the horizon: for an interrupted run."""
        if t < self.horizon_s:
            published = np.searchsorted(self.publish_s, t, "right")
            self.last = np.minimum(self.last, np.int32(published))

    def clear(self) -> None:
        """Forget all that was counted, for a run that begins anew; logs begin anew with it."""
        given = (self.start_s, self.last, self.sizes)
        for value in vars(self).values():
            if isinstance(value, np.ndarray) and not any(value is each for each in given):
                value.fill(0)
        self.last_s.fill(-1.0)

    @property
    def entered(self) -> NDArray[np.int32]:
        """Changes published before each client's session, shape (clients,): its first version."""
        return _published(np.asarray(self.publish_s), self.start_s)

    @property
    def eligible(self) -> NDArray[np.int32]:
        """Changes published while each client was present, shape (clients,)."""
        entered = np.maximum(self.entered, np.int32(self.first))
        return np.asarray(np.maximum(self.last - entered, 0), dtype=np.int32)


def first_bin_of(warm_up_s: float, bin_s: float, bins: int) -> int:
    """Return the first time bin that counts: it starts after the warm-up, or is the last.

    Examples
    --------
    >>> first_bin_of(0.0, 1.0, 60), first_bin_of(7.5, 1.0, 60), first_bin_of(90.0, 100.0, 1)
    (0, 8, 0)
    """
    starts_s = np.arange(bins) * bin_s
    return min(int(np.searchsorted(starts_s, warm_up_s, "left")), bins - 1)


def _published(publish_s: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.int32]:
    """How many changes are published before each of some times."""
    if len(t) <= len(publish_s) or not (t[:-1] <= t[1:]).all():
        return np.searchsorted(publish_s, t, "left").astype(np.int32)
    # Of many times in ascending order, each change is before all from some place on.
    places = np.searchsorted(t, publish_s, "right")
    many = np.diff(places, prepend=0, append=len(t))
    return np.repeat(np.arange(len(many), dtype=np.int32), many)


def counts_in(rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return a record's `clients` and `traffic`, which share the rows of one array.

    Parameters
    ----------
    rows : ndarray of int64, shape (clients, CLIENT_WORDS)
    """
    return rows.view(np.int32)[:, : Count.RECONNECTS], rows[:, CLIENT_WORDS - 2 :]


def scalar_or_array(values: NDArray[Any]) -> NDArray[Any]:
    """Return only the first value of an array that repeats one value by a stride of 0.

    Examples
    --------
    >>> scalar_or_array(np.broadcast_to(3.0, 1000)).tolist(), len(scalar_or_array(np.zeros(1000)))
    ([3.0], 1000)
    """
    return values[:1].copy() if values.strides == (0,) else values


def value_of(values: Sequence[Any] | NDArray[Any], client: int) -> Any:
    """Return a client's value of an array that `scalar_or_array` returned.

    Examples
    --------
    >>> value_of([7], 5), value_of([7, 8], 1)
    (7, 8)
    """
    return values[client] if len(values) > 1 else values[0]


def cohort_of(cohort: Any, client: int) -> int:
    """Return a client's cohort: 0 if there is only one, which compiled code knows beforehand.

    Examples
    --------
    >>> cohort_of(None, 5), int(cohort_of(np.array([0, 1], np.int8), 1))
    (0, 1)
    """
    if cohort is None:
        return 0
    return value_of(cohort, client)  # type: ignore[no-any-return]


def keep_row(log: Any, row: tuple[Any, ...]) -> None:
    """Add a row to a log; compiled code writes it into an array instead."""
    log.append(row)


def rows_left(log: Any) -> int:
    """Return how many rows a log has room for; a list has room for any number."""
    return 1 << 62 if isinstance(log, list) else len(log[0]) - log[1][0]


def bin_of(record: Record, t: float) -> int:
    """Return the time bin of `t`, seconds; the horizon belongs to the last bin."""
    return min(int(t / record.bin_s), record.bins.shape[1] - 1)


def count(record: Record, what: int, client: int, t: float, n: int = 1) -> None:
    """Add `n` to a count before `Count.RECONNECTS` of a client and of the time bin of `t`."""
    record.bins[cohort_of(record.cohort, client), bin_of(record, t), what] += n
    record.clients[client, what] += n


def count_safety_poll(record: Record, client: int, t: float) -> None:
    """Count a safety poll that is sent."""
    count(record, Count.POLLS, client, t)
    count_in_bin(record, Count.SAFETY_POLLS, client, t)


def count_failed_safety_poll(record: Record, client: int, t: float) -> None:
    """Count a safety poll that fails."""
    count(record, Count.ERRORS, client, t)
    count_in_bin(record, Count.SAFETY_ERRORS, client, t)


def count_in_bin(record: Record, what: int, client: int, t: float, n: int = 1) -> None:
    """Count something that is not kept per client, `n` times."""
    record.bins[cohort_of(record.cohort, client), bin_of(record, t), what] += n


def count_messages(record: Record, client: int, t: float, message: int, n: int = 1) -> None:
    """Count `n` messages of a kind, and their bytes."""
    record.messages[cohort_of(record.cohort, client), bin_of(record, t), message] += n
    record.traffic[client, 0] += n * record.sizes[message, 2]
    record.traffic[client, 1] += n * record.sizes[message, 3]


def end_wait(record: Record, what: int, client: int, wait_s: float, t: float) -> None:
    """Record that a client has waited for something until `t`, seconds; `what` is a `Wait`."""
    cohort, place = cohort_of(record.cohort, client), bin_of(record, t)
    # The counts ANSWERS and OPENED stand in the order of `Wait`.
    record.bins[cohort, place, Count.ANSWERS + what] += 1
    record.wait_ticks[what, cohort, place] += ticks_of(wait_s)
    if place >= record.first_bin:
        record.wait_histogram[what, cohort, bucket_of(wait_s)] += 1


def add_payload(record: Record, client: int, t: float, up: int, down: int) -> None:
    """Count what a socket carried, bytes."""
    place = record.bins[cohort_of(record.cohort, client), bin_of(record, t)]
    place[Count.PAYLOAD_UP_BYTES] += up
    place[Count.PAYLOAD_DOWN_BYTES] += down


def add_packets(record: Record, client: int, t: float, up: int, down: int) -> None:
    """Count IP packets, bytes."""
    place = record.bins[cohort_of(record.cohort, client), bin_of(record, t)]
    place[Count.UP_BYTES] += up
    place[Count.DOWN_BYTES] += down
    record.traffic[client, 0] += up
    record.traffic[client, 1] += down


def bins_with_bytes(record: Record) -> NDArray[np.int64]:
    """Return all counts, with the bytes of the messages that are counted by kind.

    Returns
    -------
    ndarray of int64, shape (cohorts, bins, len(Count))
    """
    return _with_bytes(record.bins.copy(), record.messages, record.sizes)


def _with_bytes(
    counts: NDArray[np.int64], messages: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Add the bytes of messages to counts, and return these."""
    layers = [Count.PAYLOAD_UP_BYTES, Count.PAYLOAD_DOWN_BYTES, Count.UP_BYTES, Count.DOWN_BYTES]
    counts[..., layers] += messages @ sizes
    return counts


def add_busy(record: Record, node: int, start_s: float, end_s: float, sign: float = 1.0) -> None:
    """Add a node's busy time from `start_s` to `end_s`, seconds, to the bins up to the horizon.

    With `sign` -1, subtract it.
    """
    end_s = min(end_s, record.horizon_s)
    index = bin_of(record, start_s)
    last = record.bins.shape[1] - 1
    while start_s < end_s:
        stop_s = end_s if index == last else min((index + 1) * record.bin_s, end_s)
        if stop_s > start_s:
            record.busy_s[node, index] += sign * (stop_s - start_s)
            start_s = stop_s
        index += 1


def resolve(
    record: Record, client: int, before: int, applied_from: int, view: int, now: float
) -> None:
    """Record the changes that a step resolved: lost up to `applied_from`, delivered up to `view`.

    Changes outside the client's eligible range (published before its session or the warm-up, or
    at the very end of its session) are seen but not counted.
    """
    last = value_of(record.last, client)
    if applied_from > before:
        if len(record.gaps) > 0:
            _keep_gap(record, client, before, applied_from, now)
        else:
            _lose(record, client, before, applied_from, now)
    start, stop = max(applied_from, record.first), min(view, last)
    if start >= stop:
        return
    if stop - start > 1:
        count(record, Count.SUPERSEDED, client, now, stop - start - 1)
    cohort, split = cohort_of(record.cohort, client), start
    if len(record.bins) > 1:
        # A latency is due to the cohort that the client belonged to at the publish time.
        while split < stop and record.publish_s[split] < record.cohort_s[client]:
            split += 1
        if split > start:
            _deliver(record, client, _other(cohort), start, split, now)
    if stop > split:
        _deliver(record, client, cohort, split, stop, now)
    longest_s = now - record.publish_s[start]
    if longest_s > record.latency_max_s[0]:
        record.latency_max_s[0] = longest_s
    if record.keep_deliveries:
        for index in range(start, stop):
            keep_row(record.deliveries, (client, index + 1, record.publish_s[index], now))


def _other(cohort: int) -> int:
    """Return the cohort that a client belonged to before, of the two that there are."""
    return 1 - cohort


def _deliver(record: Record, client: int, cohort: int, start: int, stop: int, now: float) -> None:
    """Record the changes from `start` up to `stop` as delivered, for a cohort."""
    place, ticks = bin_of(record, now), 0
    record.bins[cohort, place, Count.DELIVERED] += stop - start
    record.clients[client, Count.DELIVERED] += stop - start
    for index in range(start, stop):
        latency_s = now - record.publish_s[index]
        ticks += ticks_of(latency_s)
        record.histogram[cohort, bucket_of(latency_s)] += 1
    record.latency_ticks[cohort, place] += ticks


def counted(record: Record, client: int, start: int, stop: int) -> int:
    """Return how many of the changes from `start` up to `stop` are in a client's ledger."""
    last: int = value_of(record.last, client)
    return min(stop, last) - max(start, record.first)


def _lose(record: Record, client: int, start: int, stop: int, now: float) -> None:
    lost = counted(record, client, start, stop)
    if lost > 0:
        count(record, Count.LOST, client, now, lost)


def _keep_gap(record: Record, client: int, start: int, stop: int, now: float) -> None:
    """Keep the changes that a client misses until it receives a snapshot."""
    gaps, end = record.gaps, record.gaps.shape[1]
    place = 0
    while place < end and gaps[client, place + 1] > 0:
        place += 2
    if place == end:
        _lose(record, client, gaps[client, 0] + 0, gaps[client, 1] + 0, now)
        for moved in range(end - 2):
            gaps[client, moved] = gaps[client, moved + 2]
        place -= 2
    gaps[client, place] = start
    gaps[client, place + 1] = stop


def has_gaps(record: Record, client: int) -> bool:
    """Return whether a client misses changes that the next snapshot brings."""
    return len(record.gaps) > 0 and record.gaps[client, 1] > 0


def fill_gaps(record: Record, client: int, version: int, now: float) -> None:
    """Record the missed changes that a client gets with a snapshot of the board at `version`."""
    if len(record.gaps) > 0:
        gaps, kept = record.gaps, 0
        for place in range(0, gaps.shape[1], 2):
            start, stop = int(gaps[client, place]) + 0, int(gaps[client, place + 1]) + 0
            gaps[client, place] = gaps[client, place + 1] = 0
            shown = min(stop, version)
            if shown > start:
                resolve(record, client, start, start, shown, now)
                start = shown
            if stop > start:
                gaps[client, kept] = start
                gaps[client, kept + 1] = stop
                kept += 2


def buffer(record: Record, client: int, n_bytes: float) -> None:
    """Record how much the server's memory holds for a client, bytes; the most is kept."""
    record.buffered[client] = max(record.buffered[client], n_bytes)


def end_queue(record: Record, client: int, wait_s: float) -> None:
    """Record how long a client's request has waited in the browser, seconds."""
    record.queued_s[client] += wait_s


def leave_out(record: Record, client: int, version: int, now: float) -> None:
    """Record that a client is not sent a change, because the broadcast has ended before it."""
    count_in_bin(record, Count.UNSENT, client, now)
    if not record.failed[version - 1]:
        record.failed[version - 1] = True
        count_in_bin(record, Count.FAILED_UPDATES, client, now)


def finalise(
    record: Record, client: int, view: int, recoverable: bool, mends_gaps: bool, now: float
) -> None:
    """Record the changes that a client has not resolved at its end: pending, or lost.

    `recoverable` says whether those above its `view` may still come, `mends_gaps` whether those of
    its gaps may.
    """
    outstanding = value_of(record.last, client) - max(view, record.first)
    if outstanding > 0:
        if recoverable:
            record.pending[client] += outstanding
        else:
            count(record, Count.LOST, client, now, outstanding)
    if len(record.gaps) > 0:
        for place in range(0, record.gaps.shape[1], 2):
            start, stop = record.gaps[client, place], record.gaps[client, place + 1]
            if mends_gaps:
                record.pending[client] += max(0, counted(record, client, start, stop))
            else:
                _lose(record, client, start, stop, now)


class MetricsSnapshot(NamedTuple):
    """The figures of a run at `t`, seconds, while it goes on; a row for each cohort.

    Attributes
    ----------
    t : float
    counts : ndarray of int64, shape (cohorts, len(Count))
        Counts so far.
    latency_ticks : ndarray of int64, shape (cohorts,)
    histogram : ndarray of int64, shape (cohorts, buckets)
        Latencies so far.
    wait_ticks : ndarray of int64, shape (len(Wait), cohorts)
    wait_histogram : ndarray of int64, shape (len(Wait), cohorts, buckets)
        Waits so far.
    present, connected : ndarray of int64, shape (cohorts,)
        Clients that are present now, and connections that are open.
    exposed_s, fallen_s : ndarray of float64, shape (cohorts,)
        Client-seconds so far of presence, and of polling although they are to be pushed to.
    busy_s : ndarray of float64, shape (nodes,)
        Time that the workers of each node were busy, seconds, up to the bin of `t`.
    buffered_bytes : float
        The most that the server's memory has held for slow clients.
    """

    t: float
    counts: NDArray[np.int64]
    latency_ticks: NDArray[np.int64]
    histogram: NDArray[np.int64]
    wait_ticks: NDArray[np.int64]
    wait_histogram: NDArray[np.int64]
    present: NDArray[np.int64]
    connected: NDArray[np.int64]
    exposed_s: NDArray[np.float64]
    fallen_s: NDArray[np.float64]
    busy_s: NDArray[np.float64]
    buffered_bytes: float


def snapshot(
    record: Any,
    is_present: NDArray[np.bool_],
    is_fallen: NDArray[np.bool_],
    is_connected: NDArray[np.bool_],
    since_s: NDArray[np.float64],
    now: float,
) -> MetricsSnapshot:
    """Return the figures of a record `now`.

    Parameters
    ----------
    record : Record
        Or an engine's arrays in its place.
    is_present, is_fallen, is_connected : ndarray of bool, shape (clients,)
    since_s : ndarray of float64, shape (clients,)
        Since when those poll that have fallen back, seconds.
    now : float
        Seconds.
    """
    cohorts = len(record.bins)
    has_fallen = is_present & is_fallen

    def client_s(ended_s: Any, goes_on: Any, from_s: Any) -> NDArray[np.float64]:
        """Add the seconds of those for whom it goes on to those for whom it has ended."""
        of_cohort, weights = record.cohort[goes_on], now - from_s[goes_on]
        return np.asarray(ended_s + np.bincount(of_cohort, weights, minlength=cohorts))

    return MetricsSnapshot(
        t=now,
        counts=_with_bytes(record.bins.sum(axis=1), record.messages.sum(axis=1), record.sizes),
        latency_ticks=record.latency_ticks.sum(axis=1),
        histogram=record.histogram.copy(),
        wait_ticks=record.wait_ticks.sum(axis=2),
        wait_histogram=record.wait_histogram.copy(),
        present=np.bincount(record.cohort[is_present], minlength=cohorts),
        connected=np.bincount(record.opened_in[is_connected], minlength=cohorts),
        exposed_s=client_s(record.exposed_s, is_present, record.cohort_s),
        fallen_s=client_s(record.fallen_s, has_fallen, since_s),
        busy_s=record.busy_s[:, : bin_of(record, now)].sum(axis=1),
        buffered_bytes=float(record.buffered.sum()),
    )


def log_event(record: Record, t: float, client: int, event: int, state: int, actions: int) -> None:
    """Keep one step of one client, if events are kept."""
    if record.keep_events:
        keep_row(record.events, (t, client, event, state, actions))


def start_exposure(record: Record, client: int, cohort: int, now: float) -> None:
    """Start a client's exposure to a cohort."""
    if len(record.bins) > 1:
        record.cohort[client] = cohort
        record.cohort_s[client] = now


def end_exposure(record: Record, client: int, now: float) -> None:
    """End a client's exposure to its cohort, and keep it."""
    if len(record.bins) > 1:
        cohort = cohort_of(record.cohort, client)
        keep_row(record.exposures, (client, cohort, record.cohort_s[client], now))
        record.exposed_s[cohort] += now - record.cohort_s[client]


def end_fallback(record: Record, client: int, cohort: int, since_s: float, now: float) -> None:
    """Keep that a client has polled since `since_s` although its cohort was to be pushed to."""
    keep_row(record.fallbacks, (client, cohort, since_s, now))
    record.fallen_s[cohort] += now - since_s


def keep_connection(record: Record, client: int, now: float) -> None:
    """A client stays with its transport in a new cohort: its next connection is a reconnection."""
    if len(record.bins) > 1 and record.last_s[client] >= 0.0:
        record.last_s[client] = now


def open_connection(record: Record, client: int, now: float) -> None:
    """Record that a client's connection opens."""
    is_again = record.clients[client, Count.CONNECTIONS] > 0
    if len(record.bins) > 1:
        # The first connection after a switch to the cohort's transport is not a reconnection.
        is_again = record.last_s[client] >= record.cohort_s[client]
        record.again[client] += is_again
        record.last_s[client] = now
    if is_again:
        record.bins[cohort_of(record.cohort, client), bin_of(record, now), Count.RECONNECTS] += 1
    count(record, Count.CONNECTIONS, client, now)
    if len(record.bins) > 1:
        record.opened_in[client] = cohort_of(record.cohort, client)


def close_connection(
    record: Record,
    client: int,
    opened_s: float,
    closed_s: float,
    cause: int,
    transport: int,
    node: int,
) -> None:
    """Record that a client's connection ends; `node` is read only where there are several."""
    cohort = value_of(record.opened_in, client)
    row = (client, opened_s, closed_s, cause + 0, transport + 0, cohort, node)
    keep_row(record.connections, row)


def occupancy_s(
    start_s: NDArray[np.float64], end_s: NDArray[np.float64], bin_s: float, bins: int
) -> NDArray[np.float64]:
    """Return how many seconds of each time bin a set of intervals covers.

    Parameters
    ----------
    start_s, end_s : ndarray of float64, shape (n,)
        Seconds, >= 0; an interval that ends before it starts covers nothing.
    bin_s : float
        Width of the bins, seconds; times beyond the last bin belong to it.
    bins : int

    Returns
    -------
    ndarray of float64, shape (bins,)

    Examples
    --------
    >>> occupancy_s(np.array([0.5, 1.0]), np.array([2.5, 1.25]), 1.0, 3).tolist()
    [0.5, 1.25, 0.5]
    """
    covered_s = np.zeros(bins)
    for block in range(0, len(start_s), _BLOCK):
        start, end = start_s[block : block + _BLOCK], end_s[block : block + _BLOCK]
        end = np.maximum(start, end)
        first = np.minimum((start / bin_s).astype(np.int64), bins - 1)
        last = np.minimum((end / bin_s).astype(np.int64), bins - 1)
        # Whole bins from `first` up to `last`, minus the time before the start, plus the rest.
        whole = np.cumsum(np.bincount(first, minlength=bins) - np.bincount(last, minlength=bins))
        covered_s += whole * bin_s
        covered_s -= np.bincount(first, weights=start - first * bin_s, minlength=bins)
        covered_s += np.bincount(last, weights=end - last * bin_s, minlength=bins)
    return np.maximum(covered_s, 0.0)


def check(record: Record) -> None:
    """Raise `LedgerError` unless every eligible change of every client has one outcome."""
    delivered = record.clients[:, Count.DELIVERED]
    lost = record.clients[:, Count.LOST]
    eligible = record.eligible
    off = delivered + lost + record.pending - eligible
    if off.any():
        client = int(np.flatnonzero(off)[0])
        raise LedgerError(
            f"client {client}: eligible {eligible[client]} but delivered "
            f"{delivered[client]} + lost {lost[client]} + pending {record.pending[client]} "
            f"({np.count_nonzero(off)} clients are off)"
        )
