"""Requests that the server holds: what becomes of one that is answered.

The rules are those of `core.connection`; broadcasts, the check of a request and the end of its time
all answer by the same steps.
"""

from __future__ import annotations

from simlib.core.connection import further_changes
from simlib.core.wire import Message
from simlib.engines.compiled.balancing import keep_alive
from simlib.engines.compiled.faults import carried_by
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.state import HELD_BITS, IS_EMPTY, Kind
from simlib.engines.compiled.turn import World


@inlined
def reply_data(version: int, first: int) -> int:
    """Return the data of an answer with what is new up to a version."""
    return (int(version + 0) << HELD_BITS) | first


@inlined
def reply_of_held(data: int) -> int:
    """Return as which `Message` an answer goes out, by its data."""
    if data & IS_EMPTY:
        return Message.HELD_EMPTY - (data & 1)
    return Message.HELD_REPLY - (data & 1)


@inlined
def further_in(world: World, number: int, data: int) -> int:
    """Return how many changes an answer has beside the first, by its data."""
    version, row = data >> HELD_BITS, world.arrays.rows[number]
    return further_changes(world.rules.push_is_snapshot, row.seen + 0, version)


@seldom
def answer(
    world: World, number: int, exchange: int, t: float, data: int, half_s: float
) -> tuple[int, float]:
    """Answer a request at `t`; return the kind of the event that follows, and its time."""
    keep_alive_s = world.server_rules.keep_alive_s
    keep_alive(world.arrays, world.q, keep_alive_s, number, exchange, t)
    if len(world.arrays.shared) > 0:
        return Kind.HELD_SENT + 0, t
    return Kind.HELD_DONE + 0, carried_s(world, number, exchange, t, data) + half_s


@inlined
def carried_s(world: World, number: int, exchange: int, t: float, data: int) -> float:
    """Return when the links on the client's path have carried an answer that is sent at `t`."""
    sizes = world.arrays.sizes
    n_bytes = sizes[reply_of_held(data), 1] + 0
    n_bytes += further_in(world, number, data) * sizes[Message.HELD_CHANGE, 1]
    return carried_by(world.arrays, world.rules, number, exchange, t, float(n_bytes))
