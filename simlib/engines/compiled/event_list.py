"""The event list of the compiled engine: what happens next, in the order (time, sequence).

Most delays of a run are constant: half a round trip, the poll interval, a heartbeat. Events that
are scheduled with one such delay come due in the order in which they were scheduled, so a first-in
first-out *lane* holds them at the cost of a store and a load. Which events share a lane is only
a guess: an event that would break its lane's order goes to the *wheel* instead (Varghese and Lauck
1987, "Hashed and hierarchical timing wheels"). The wheel's buckets are bags; when the hand reaches
one it is emptied into a small binary heap, which also takes what is scheduled into the open bucket.
What lies beyond one turn of the wheel waits in a bag of its own and is looked through once a turn.
So every guess gives the same order, and a good one only makes it cheaper.

Lanes, buckets and the bag of the far future are lists of chunks of one pool: memory grows with
the events that are pending. An event is 24 bytes: its time; its sequence number and client in one
word, which settles ties; and a load that only the engine reads.

The functions below are compiled without reference counting, so they may not allocate: the caller
looks after `room` and lets the arrays `grow`.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CLIENT_BITS = 27
CLIENT_MASK = (1 << CLIENT_BITS) - 1
LAST_SEQUENCE = 1 << (63 - CLIENT_BITS)

LANES = 7
STARTS = LANES
"""The source after the lanes: sessions in the order of their start, an array and no events."""
WHEEL = LANES + 1
SOURCES = LANES + 2

NEVER_S = math.inf
CHUNK = 16
_PER_BUCKET = 32
_MAPPED_BYTES = 1 << 20

FIRST_BIT = bytes([0, *((k & -k).bit_length() - 1 for k in range(1, 1 << SOURCES))])
"""The place of the lowest bit of a number."""

_ENTRY = np.dtype([("t", "f8"), ("word", "i8"), ("load", "i8")])
_LANE = np.dtype(
    [
        ("tail_t", "f8"),
        ("held", "i8"),
        ("first", "i4"),
        ("read", "i4"),
        ("last", "i4"),
        ("filled", "i4"),
    ]
)
_BAG = np.dtype([("last", "i4"), ("filled", "i4")])
_HAND = np.dtype(
    [
        ("sequence", "i8"),
        ("fresh", "i8"),
        ("free", "i8"),
        ("spare", "i8"),
        ("bucket", "i8"),
        ("next", "i8"),
        ("turned", "i8"),
        ("near", "i8"),
        ("far", "i8"),
        ("open", "i8"),
    ]
)


class EventList(NamedTuple):
    """Arrays and numbers of one event list.

    Attributes
    ----------
    pool, link
        The pool: ``CHUNK`` entries a chunk; `link` chains chunks of a list, and free ones.
    lanes, bags
        The lists; the last bag is the far future's.
    head_t, head_word : ndarray, shape (SOURCES,)
        The next event of each source: its time (infinite: none) and its word.
    heap
        The open bucket.
    hand : ndarray of one row
        ``sequence`` of the next event, ``fresh`` chunks never used, ``free`` chain, ``spare``
        chunks left, ``bucket`` that is open, ``next`` that holds something, bucket at which the
        far future was last looked through (``turned``), events in buckets (``near``), beyond
        a turn (``far``) and in the heap (``open``).
    per_s : float
        Buckets in a second.
    horizon_s : float
        Nothing from here on is scheduled.
    """

    pool: NDArray[Any]
    link: NDArray[np.int32]
    lanes: NDArray[Any]
    bags: NDArray[Any]
    head_t: NDArray[np.float64]
    head_word: NDArray[np.int64]
    heap: NDArray[Any]
    hand: NDArray[Any]
    per_s: float
    horizon_s: float


def new_event_list(pending: int, turn_s: float, horizon_s: float) -> EventList:
    """Return an empty event list.

    Parameters
    ----------
    pending : int
        About how many events will be pending at a time.
    turn_s : float
        The longest delay that is common, seconds: one turn of the wheel.
    horizon_s : float
        Seconds.
    """
    buckets = 1 << max(6, (pending // _PER_BUCKET).bit_length())
    chunks = 2 * (pending // CHUNK) + 4 * buckets + 64
    hand = rows_of(1, _HAND)
    hand[0].free, hand[0].spare = -1, chunks
    bags = rows_of(buckets + 1, _BAG)
    bags["last"] = -1
    return EventList(
        pool=zeros(chunks * CHUNK, (Row, _ENTRY)),
        link=np.zeros(chunks, np.int32),
        lanes=rows_of(LANES, _LANE),
        bags=bags,
        head_t=np.full(SOURCES, NEVER_S),
        head_word=np.zeros(SOURCES, np.int64),
        heap=zeros(chunks * CHUNK + 1, (Row, _ENTRY)),
        hand=hand,
        per_s=buckets / turn_s,
        horizon_s=horizon_s,
    )


def grow(q: EventList, entries: int) -> EventList:
    """Return the list with room for `entries` more."""
    hand, old = q.hand[0], len(q.link)
    more = max(old // 4, entries // CHUNK + 1)
    hand.spare += more
    # What was never used is not copied either: memory is taken when it is written to.
    return q._replace(
        pool=longer(q.pool, more * CHUNK, int(hand.fresh) * CHUNK),
        link=longer(q.link, more),
        heap=longer(q.heap, more * CHUNK, int(hand.open)),
    )


class Row(np.void):  # type: ignore[misc]  # numpy takes subclasses, its stubs do not
    """A row whose fields are attributes in interpreted code, as they are in compiled code.

    What `numpy.record` does too, but in Python: it takes most of the time of interpreted rules.
    """

    __getattr__: Any = np.void.__getitem__
    __setattr__: Any = np.void.__setitem__


def rows_of(n: int | tuple[int, int], columns: Any) -> Any:
    """Return zeros: each row is a `Row`, each column an item of the whole."""
    return np.zeros(n, np.dtype((Row, columns)))


def zeros(n: int, kind: Any) -> NDArray[Any]:
    """Return zeros that take memory when they are written to, and give it back when they go.

    An allocator may use memory again that has been written to, and keep what is given back.
    """
    kind = np.dtype(kind)
    if n * kind.itemsize < _MAPPED_BYTES or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros(n, kind)
    pages = mmap.mmap(-1, n * kind.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8).view(kind)


def longer(array: NDArray[Any], more: int, used: int | None = None) -> NDArray[Any]:
    """Return the array with zeros after it; only what is used of it is copied, if not all is."""
    used = len(array) if used is None else used
    longer = zeros(len(array) + more, array.dtype)
    longer[:used] = array[:used]
    return longer.view(type(array))


def room(q: EventList) -> int:
    """Return how many more events surely find room."""
    hand = q.hand[0]
    chunks = hand.spare - len(q.bags) - LANES
    return min(chunks * CHUNK, len(q.heap) - 1 - hand.open - hand.near - hand.far)


def next_source(q: EventList) -> int:
    """Return which source has the next event: the earliest, of equals the first scheduled."""
    t = q.head_t
    t0, t1, t2, t3, t4, t5, t6, t7 = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]
    t8 = t[8]
    # The earliest without branches, which no processor could predict.
    a, b = t0 if t0 < t1 else t1, t2 if t2 < t3 else t3
    c, d = t4 if t4 < t5 else t5, t6 if t6 < t7 else t7
    a, c = a if a < b else b, c if c < d else d
    a = a if a < c else c
    earliest = a if a < t8 else t8
    ties = (
        (t0 == earliest)
        | (t1 == earliest) << 1
        | (t2 == earliest) << 2
        | (t3 == earliest) << 3
        | (t4 == earliest) << 4
        | (t5 == earliest) << 5
        | (t6 == earliest) << 6
        | (t7 == earliest) << 7
        | (t8 == earliest) << 8
    )
    if ties & (ties - 1) == 0:
        return FIRST_BIT[ties]
    best = -1
    for source in range(SOURCES):
        if (ties >> source) & 1 and (best < 0 or q.head_word[source] < q.head_word[best]):
            best = source
    return best


def schedule(q: EventList, lane: int, t: float, client: int, load: int) -> None:
    """Add an event to a lane, or to the wheel if it is not the lane's last."""
    if t >= q.horizon_s:
        return
    hand = q.hand[0]
    word = (hand.sequence << CLIENT_BITS) | client
    hand.sequence += 1
    if lane == WHEEL:
        _to_wheel(q, t, word, load)
        return
    row = q.lanes[lane]
    if row.held == 0:
        row.first = row.last = _new_chunk(q, -1)
        row.read = row.filled = 0
        q.head_t[lane] = t
        q.head_word[lane] = word
    elif t < row.tail_t:
        _to_wheel(q, t, word, load)
        return
    elif row.filled == CHUNK:
        chunk = _new_chunk(q, -1)
        q.link[row.last] = chunk
        row.last = chunk
        row.filled = 0
    _put(q.pool, row.last * CHUNK + row.filled, t, word, load)
    row.filled += 1
    row.held += 1
    row.tail_t = t


def schedule_seldom(q: EventList, lane: int, t: float, client: int, load: int) -> None:
    """Do what `schedule` does, where that is seldom: compiled code calls this instead of inlining.

    `schedule` is long, and many places schedule an event.
    """
    schedule(q, lane, t, client, load)


def put_back(q: EventList, t: float, word: int, load: int) -> None:
    """Add an event that has got its word, its place among equals, before."""
    if t < q.horizon_s:
        _to_wheel(q, t, word, load)


def take(q: EventList, source: int) -> int:
    """Remove the next event of a lane, or of the wheel's open bucket, and return its load."""
    if source == WHEEL:
        load = q.heap[0].load
        _heap_pop(q)
        show(q)
        return load
    row = q.lanes[source]
    load = q.pool[row.first * CHUNK + row.read].load
    row.read += 1
    row.held -= 1
    if row.held == 0:
        _free_chunk(q, row.first)
        q.head_t[source] = NEVER_S
        return load
    if row.read == CHUNK:
        chunk = row.first
        row.first = q.link[chunk]
        row.read = 0
        _free_chunk(q, chunk)
    entry = q.pool[row.first * CHUNK + row.read]
    q.head_t[source] = entry.t
    q.head_word[source] = entry.word
    return load


def next_load(q: EventList, lane: int) -> int:
    """Return the load of a lane's next event, which there has to be."""
    row = q.lanes[lane]
    return int(q.pool[row.first * CHUNK + row.read].load)


def chunk_ahead(q: EventList, lane: int) -> tuple[int, int]:
    """Return where in the pool a lane's first chunk begins, and how many events it holds."""
    row = q.lanes[lane]
    return row.first * CHUNK, min(row.held, CHUNK)


def later_in(q: EventList, lane: int) -> int:
    """Return where in the pool the event is that a lane has a chunk later; -1 if it has none."""
    row = q.lanes[lane]
    return q.link[row.first] * CHUNK + row.read if row.held > CHUNK else -1


def _new_chunk(q: EventList, link: int) -> int:
    hand = q.hand[0]
    chunk = hand.free
    if chunk >= 0:
        hand.free = q.link[chunk]
    else:
        chunk = hand.fresh
        hand.fresh += 1
    hand.spare -= 1
    q.link[chunk] = link
    return chunk


def _free_chunk(q: EventList, chunk: int) -> None:
    hand = q.hand[0]
    q.link[chunk] = hand.free
    hand.free = chunk
    hand.spare += 1


def _to_wheel(q: EventList, t: float, word: int, load: int) -> None:
    hand = q.hand[0]
    bucket = int(t * q.per_s)
    buckets = len(q.bags) - 1
    if bucket <= hand.bucket:
        _heap_push(q, t, word, load)
    elif bucket < hand.turned + buckets:
        _to_bag(q, bucket & (buckets - 1), t, word, load)
        hand.next = bucket if hand.near == 0 else min(hand.next, bucket)
        hand.near += 1
    else:
        _to_bag(q, buckets, t, word, load)
        hand.far += 1
    show(q)


def _to_bag(q: EventList, bag: int, t: float, word: int, load: int) -> None:
    row = q.bags[bag]
    if row.last < 0 or row.filled == CHUNK:
        row.last = _new_chunk(q, row.last)
        row.filled = 0
    _put(q.pool, row.last * CHUNK + row.filled, t, word, load)
    row.filled += 1


def show(q: EventList) -> None:
    """Show the wheel's next event, or a moment just before the bucket that must be opened first."""
    hand = q.hand[0]
    q.head_word[WHEEL] = 0
    if hand.open > 0:
        q.head_t[WHEEL] = q.heap[0].t
        q.head_word[WHEEL] = q.heap[0].word
    elif hand.near > 0:
        q.head_t[WHEEL] = (hand.next - 0.01) / q.per_s
    elif hand.far > 0:
        q.head_t[WHEEL] = (hand.turned + len(q.bags) - 1.01) / q.per_s
    else:
        q.head_t[WHEEL] = NEVER_S


def turn(q: EventList) -> None:
    """Move the hand on to the next bucket that holds something, and open it."""
    hand = q.hand[0]
    buckets = len(q.bags) - 1
    if hand.near == 0:
        hand.bucket = max(hand.turned, _earliest_far(q) - 2 * buckets + 1) + buckets
        _look_through(q)
    else:
        hand.bucket = hand.next
        if hand.far > 0 and hand.bucket - hand.turned >= buckets // 2:
            _look_through(q)
    _open(q, hand.bucket & (buckets - 1))
    if hand.near > 0:
        bucket = hand.bucket + 1
        while q.bags[bucket & (buckets - 1)].last < 0:
            bucket += 1
        hand.next = bucket
    show(q)


def _open(q: EventList, bag: int) -> None:
    """Empty a bucket into the heap."""
    row, hand = q.bags[bag], q.hand[0]
    chunk, fill = row.last, row.filled
    while chunk >= 0:
        for place in range(chunk * CHUNK, chunk * CHUNK + fill):
            entry = q.pool[place]
            _heap_push(q, entry.t, entry.word, entry.load)
        hand.near -= fill
        before = q.link[chunk]
        _free_chunk(q, chunk)
        chunk, fill = before, CHUNK
    row.last = -1
    row.filled = 0


def _earliest_far(q: EventList) -> int:
    row = q.bags[len(q.bags) - 1]
    chunk, fill, earliest = row.last, row.filled, NEVER_S
    while chunk >= 0:
        for place in range(chunk * CHUNK, chunk * CHUNK + fill):
            earliest = min(earliest, q.pool[place].t)
        chunk, fill = q.link[chunk], CHUNK
    return int(earliest * q.per_s)


def _look_through(q: EventList) -> None:
    """Move what has come within a turn of the hand from the far future to the buckets."""
    hand = q.hand[0]
    buckets = len(q.bags) - 1
    row = q.bags[buckets]
    chunk, fill = row.last, row.filled
    row.last = -1
    row.filled = 0
    hand.turned = hand.bucket
    while chunk >= 0:
        for place in range(chunk * CHUNK, chunk * CHUNK + fill):
            entry = q.pool[place]
            bucket = int(entry.t * q.per_s)
            if bucket < hand.turned + buckets:
                _to_bag(q, bucket & (buckets - 1), entry.t, entry.word, entry.load)
                hand.near += 1
                hand.far -= 1
            else:
                _to_bag(q, buckets, entry.t, entry.word, entry.load)
        before = q.link[chunk]
        _free_chunk(q, chunk)
        chunk, fill = before, CHUNK


def _heap_push(q: EventList, t: float, word: int, load: int) -> None:
    heap, hand = q.heap, q.hand[0]
    place = hand.open
    hand.open += 1
    while place > 0:
        above = (place - 1) >> 1
        parent = heap[above]
        if parent.t < t or (parent.t == t and parent.word < word):
            break
        _put(heap, place, parent.t, parent.word, parent.load)
        place = above
    _put(heap, place, t, word, load)


def _heap_pop(q: EventList) -> None:
    heap, hand = q.heap, q.hand[0]
    hand.open -= 1
    size = hand.open
    last = heap[size]
    t, word, load = last.t, last.word, last.load
    place, below = 0, 1
    while below < size:
        # Which child is earlier is what no processor could predict: no branch asks.
        other, child = heap[below + 1], heap[below]
        is_earlier = (other.t < child.t) | ((other.t == child.t) & (other.word < child.word))
        below += int(is_earlier & (below + 1 < size))
        child = heap[below]
        if t < child.t or (t == child.t and word < child.word):
            break
        _put(heap, place, child.t, child.word, child.load)
        place, below = below, 2 * below + 1
    _put(heap, place, t, word, load)


def _put(entries: NDArray[Any], place: int, t: float, word: int, load: int) -> None:
    row = entries[place]
    row.t = t
    row.word = word
    row.load = load
