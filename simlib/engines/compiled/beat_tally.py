"""What heartbeats that go round by themselves leave in the record: busy time, and messages.

Both are summed up in numbers of the loop's own, and written down where a time bin ends: busy time
in the order of jobs, since a sum of floats depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

from simlib.core import record as recording
from simlib.core.client_state import NEVER_S
from simlib.core.record import Count, Record, cohort_of
from simlib.core.wire import Message
from simlib.engines.compiled.numba_support import inlined
from simlib.engines.compiled.turn import World

_ROUNDED = 1.0 - 1e-9


class Worker(NamedTuple):
    """The worker: free from when on, busy for how long in a bin, which lasts until when."""

    free_s: float
    busy_s: float
    place: int
    until_s: float


class Tally(NamedTuple):
    """How many messages of a bin are not written down yet, of them in the treatment cohort.

    The bin lasts until when; `all` were counted in all bins.
    """

    n: int
    treated: int
    place: int
    until_s: float
    all: int


@inlined
def at_work(world: World) -> Worker:
    """Return the worker, of whose busy time nothing is in hand yet."""
    return Worker(world.arrays.servers.free_s[0, 0] + 0.0, 0.0, 0, -NEVER_S)


@inlined
def work(record: Record, worker: Worker, begun_s: float, done_s: float) -> Worker:
    """Add a job to the worker's busy time, in the order of jobs: sums of floats depend on it.

    What ends before the end of the bin, which is rounded down, is one term in that bin.
    """
    if done_s < worker.until_s:
        busy_s = worker.busy_s + (done_s - begun_s)
        return Worker(done_s, busy_s, worker.place, worker.until_s)
    write_work(record, worker)
    recording.add_busy(record, 0, begun_s, done_s)
    index = recording.bin_of(record, begun_s)
    return Worker(done_s, record.busy_s[0, index] + 0.0, index, _until_s(record, index))


@inlined
def write_work(record: Record, worker: Worker) -> None:
    """Write down how long the worker was busy in the bin in hand."""
    if worker.until_s > -NEVER_S:
        record.busy_s[0, worker.place] = worker.busy_s


@inlined
def _until_s(record: Record, index: int) -> float:
    """Return a time before the end of a bin, and of the run, up to which nothing is rounded."""
    return min((index + 1) * record.bin_s * _ROUNDED, record.horizon_s)


@inlined
def one_more(record: Record, tally: Tally, number: int, now: float) -> Tally:
    """Count a message; where a bin ends, what was counted in it must be written down before."""
    cohort = int(cohort_of(record.cohort, number))
    if now < tally.until_s:
        treated = tally.treated + cohort
        return Tally(tally.n + 1, treated, tally.place, tally.until_s, tally.all + 1)
    index = recording.bin_of(record, now)
    return Tally(1, cohort, index, _until_s(record, index), tally.all + 1)


@inlined
def write_pings(record: Record, pings: Tally, is_answered: bool) -> None:
    """Write down pings, and that their answers are sent at once."""
    record.bins[0, pings.place, Count.HEARTBEATS] += pings.n - pings.treated
    if len(record.bins) > 1:
        record.bins[1, pings.place, Count.HEARTBEATS] += pings.treated
    write(record, pings, Message.PING_DOWN if is_answered else Message.PING_UP)
    if is_answered:
        write(record, pings, Message.PONG_UP + 0)


@inlined
def write(record: Record, tally: Tally, message: int) -> None:
    """Write down messages of one kind."""
    record.messages[0, tally.place, message] += tally.n - tally.treated
    if len(record.bins) > 1:
        record.messages[1, tally.place, message] += tally.treated
