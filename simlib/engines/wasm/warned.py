"""What a page asks of a run to warn of it: the numbers of `run.sentences`, of a run that has ended.

Python has them from a run's tables (`run.warnings.Numbers`); a page has no tables. Tests compare
both.
"""

from __future__ import annotations

from typing import Any

from simlib.core.protocol import fetches, has_socket, is_stream
from simlib.core.record import Count, cohort_of, value_of
from simlib.engines.compiled.numba_support import called
from simlib.engines.compiled.references import by_reference
from simlib.engines.compiled.turn import World
from simlib.engines.wasm.kernels import busy_of, published
from simlib.run.sentences import LAST_PART, NUMBERS, QUEUED_FRAC

(
    _BUSY,
    _BUSIEST_FRAC,
    _BUSIEST,
    _LATE_BUSY,
    _LATE_BUSIEST_FRAC,
    _LATE_BUSIEST,
    _CLIENTS,
    _TRIED,
    _WITHOUT,
    _WAITED,
    _NEVER,
    _WAITED_FRAC,
    _DUE,
    _UNSEEN,
    _UNSEEN_FRAC,
    _ELIGIBLE,
    _PENDING,
    _PENDING_FRAC,
    _KEPT_FRAC,
    _STREAMED,
    _PUBLISHED_PER_S,
) = range(len(NUMBERS))
_CONNECTED, _HAD_SOCKET = 1, 2
"""Marks of a client."""
_POLLS, _MESSAGES, _ATTEMPTS = Count.POLLS + 0, Count.MESSAGES + 0, Count.ATTEMPTS + 0
_DELIVERED, _HELD_BACK = Count.DELIVERED + 0, Count.HELD_BACK + 0


def warn(given: World, warm_up_s: float, found: Any, marks: Any) -> int:
    """Find the numbers of a run that has ended, of all of its cohorts together.

    Parameters
    ----------
    given : World
    warm_up_s : float
        Rates count from then on, seconds.
    found : ndarray of float64, shape (len(NUMBERS),)
        Zeros; filled.
    marks : ndarray of int8, shape (clients or more,)
        Zeros, to take notes in.
    """
    return _warn(by_reference(given), warm_up_s, found, marks)


@called
def _warn(world: World, warm_up_s: float, found: Any, marks: Any) -> int:
    record = world.record
    _set_busy(world, warm_up_s, found, _BUSY)
    _set_busy(world, max(LAST_PART * record.horizon_s, warm_up_s), found, _LATE_BUSY)
    for row in range(record.connections[1][0]):
        entry = record.connections[0][row]
        had = _HAD_SOCKET if has_socket(entry.transport) else 0
        marks[entry.client] |= _CONNECTED | had
    _set_clients(world, found, marks)
    held_back = 0
    for cohort in range(record.bins.shape[0]):
        for place in range(record.bins.shape[1]):
            if is_stream(_transport_of(world, cohort)):
                found[_STREAMED] += record.bins[cohort, place, _MESSAGES]
            held_back += record.bins[cohort, place, _HELD_BACK]
    _divide(found, _PENDING_FRAC, found[_PENDING], found[_ELIGIBLE])
    _divide(found, _KEPT_FRAC, held_back, found[_PENDING])
    _divide(found, _UNSEEN_FRAC, found[_UNSEEN], found[_DUE])
    _divide(found, _WAITED_FRAC, found[_WAITED_FRAC], found[_WAITED])
    publish_s, end_s = record.publish_s, record.horizon_s
    counted = published(publish_s, end_s) - published(publish_s, warm_up_s)
    _divide(found, _PUBLISHED_PER_S, max(counted, 0), end_s - warm_up_s)
    return 0


@called
def _transport_of(world: World, cohort: int) -> int:
    """Return what the clients of a cohort use, or all clients where there is one cohort."""
    if world.record.bins.shape[0] > 1:
        return world.rules.transports[cohort] + 0
    return world.rules.transport + 0


@called
def _divide(found: Any, place: int, above: float, below: float) -> int:
    """Set a ratio, which is 0 where there is nothing to divide by: then nothing is said of it."""
    found[place] = above / below if below > 0.0 else 0.0
    return place


@called
def _set_busy(world: World, from_s: float, found: Any, place: int) -> int:
    """Set which part of its workers' time the server worked, and the busiest node, and which."""
    record, nodes, most = world.record, len(world.record.busy_s), -1.0
    from_s = min(from_s, (record.bins.shape[1] - 1) * record.bin_s)
    for node in range(nodes):
        busy = busy_of(world, node, from_s)
        found[place] += busy / nodes
        if busy > most:
            most = busy
            found[place + 1] = busy
            found[place + 2] = node
    return 0


@called
def _set_clients(world: World, found: Any, marks: Any) -> int:
    arrays, record = world.arrays, world.record
    found[_CLIENTS] = len(arrays.start_s)
    for number in range(len(arrays.start_s)):
        counts, mark = record.clients[number], marks[number]
        if counts[_ATTEMPTS] > 0:
            found[_TRIED] += 1
            found[_WITHOUT] += (mark & _HAD_SOCKET) == 0
        entered = max(published(record.publish_s, arrays.start_s[number]), record.first)
        eligible = max(value_of(record.last, number) - entered, 0)
        found[_ELIGIBLE] += eligible
        found[_PENDING] += record.pending[number]
        found[_DUE] += eligible > 0
        found[_UNSEEN] += eligible > 0 and counts[_DELIVERED] == 0
        if len(record.queued_s) > 0:
            _add_wait(world, number, (mark & _CONNECTED) > 0, found)
    return 0


@called
def _add_wait(world: World, number: int, is_connected: bool, found: Any) -> int:
    """Add how long a tab has waited for its browser."""
    arrays, record = world.arrays, world.record
    cohort = cohort_of(record.cohort, number)
    end_s = min(value_of(arrays.end_s, number), record.horizon_s)
    present_s, wait_s = end_s - arrays.start_s[number], record.queued_s[number]
    if wait_s > QUEUED_FRAC * max(present_s, 0.0):
        is_served = is_connected and not fetches(_transport_of(world, cohort))
        found[_WAITED] += 1
        found[_WAITED_FRAC] += wait_s / present_s
        found[_NEVER] += record.clients[number, _POLLS] == 0 and not is_served
    return 0
