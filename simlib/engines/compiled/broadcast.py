"""Broadcasts: one event each, in which subscribers that nothing disturbs are served at once."""

from __future__ import annotations

from typing import Any

from simlib.core import broadcasts
from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.backpressure import Overflow
from simlib.core.client_state import NEVER_S
from simlib.core.connection import GIVES_UP, Sent, is_first_held, is_held
from simlib.core.record import Count, Record, value_of
from simlib.core.streams import sent_as
from simlib.core.websocket import hear
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.faults import has_path_limits, one_way_s, plan_send
from simlib.engines.compiled.held import answer, reply_data
from simlib.engines.compiled.numba_support import inlined
from simlib.engines.compiled.proxied import is_held_back
from simlib.engines.compiled.state import (
    BROADCASTS,
    ClientArrays,
    Kind,
    catch_up,
    load_of,
    loop_of,
    release_up_to,
)
from simlib.engines.compiled.turn import GENERAL, World


@inlined
def subscribe(arrays: ClientArrays, number: int, exchange: int) -> None:
    """Put a subscriber at the end of the list, or leave it where it is."""
    row, state = arrays.rows[number], arrays.state[0]
    if row.subscribed < 0:
        if state.slots == len(arrays.order):
            _close_ranks(arrays)
        row.slot = state.slots
        arrays.order[state.slots] = number
        state.slots += 1
        state.subscribers += 1
    row.subscribed = exchange
    arrays.undisturbed_until_s[row.slot] = -NEVER_S


@inlined
def _close_ranks(arrays: ClientArrays) -> None:
    """Move the subscribers up into the places of those that have left."""
    kept = 0
    for slot in range(arrays.state[0].slots):
        number = arrays.order[slot]
        if number >= 0:
            arrays.order[kept] = number
            arrays.undisturbed_until_s[kept] = arrays.undisturbed_until_s[slot]
            arrays.rows[number].slot = kept
            kept += 1
    arrays.state[0].slots = kept


@inlined
def broadcast(
    world: World, now: float, version: int, until_s: float, may_serve_at_once: bool
) -> int:
    """Each worker sends to one of its subscribers after the other; each message then travels.

    Return how many were served at once: nothing can disturb them before their message arrives, nor
    does it arrive after `until_s`. Their rows are brought up to date when they are next looked at.
    """
    arrays, record, rule = world.arrays, world.record, world.server_rules.loop
    published_s = record.publish_s[version - 1]
    counted = record.first < version <= record.until
    _begin(world, now, version)
    served = 0  # of the bin in hand
    ticks = 0
    index = 0
    all_served = 0
    longest_s = 0.0
    # Where any are served at once, all have one transport.
    message = sent_as(world.rules.transport, Message.PUSH)
    for slot in range(arrays.state[0].slots):
        number = arrays.order[slot] + 0
        if number < 0:
            continue
        if GENERAL:
            if is_held(arrays.rows[number]):
                _answer_held(world, now, number, version)
                continue
            if _has_ended(world, now, slot, number, version):
                continue
        t = _sent_s(world, number, version)
        if GENERAL:
            may_wait = has_path_limits(arrays) or broadcasts.may_end(rule)
            if may_wait or is_held_back(arrays, number):
                _send(world, now, slot, number, version, t)
                continue
        t += value_of(arrays.half_s, number)
        if t < arrays.undisturbed_until_s[slot] and t < until_s and may_serve_at_once:
            place = recording.bin_of(record, t)
            if place != index:
                _fill_bin(record, index, served, ticks, counted, message)
                index, served, ticks = place, 0, 0
            served += 1
            all_served += 1
            if GENERAL and world.rules.any_message:
                hear(arrays.rows[number], world.rules, t)
            if counted:
                latency_s = t - published_s
                ticks += recording.ticks_of(latency_s)
                record.histogram[0, recording.bucket_of(latency_s)] += 1
                longest_s = max(longest_s, latency_s)
        else:
            _schedule(world, slot, number, version, t, Kind.PUSH + 0, version)
    _end(world)
    _fill_bin(record, index, served, ticks, counted, message)
    record.latency_max_s[0] = max(record.latency_max_s[0], longest_s)
    return all_served


@inlined
def _answer_held(world: World, now: float, number: int, version: int) -> None:
    """Answer a request that is held, unless it names what is new by now, or is forgotten."""
    arrays, row = world.arrays, world.arrays.rows[number]
    if version <= row.seen or _has_forgotten(arrays, row):
        return
    exchange, data = int(row.subscribed), reply_data(version, int(is_first_held(row)))
    t, half_s = _sent_s(world, number, version), one_way_s(arrays, world.rules, number, now)
    release_up_to(arrays, row, exchange)
    kind, t = answer(world, number, exchange, t, data, half_s)
    event_list.schedule(world.q, BROADCASTS, t, number, load_of(exchange, kind, data))


@inlined
def _schedule(
    world: World, slot: int, number: int, version: int, t: float, kind: int, data: int
) -> None:
    """Schedule what comes to a client, whose row has to be up to date until then."""
    _disturb(world, slot, number, version)
    load = load_of(world.arrays.rows[number].subscribed, kind, data)
    event_list.schedule_seldom(world.q, BROADCASTS, t, number, load)


@inlined
def _disturb(world: World, slot: int, number: int, version: int) -> None:
    """Bring a client's row up to date before a change that it is not served at once."""
    arrays = world.arrays
    if arrays.undisturbed_until_s[slot] > -NEVER_S:
        catch_up(arrays, world.record, number, version - 1)
        arrays.undisturbed_until_s[slot] = -NEVER_S


@inlined
def _has_forgotten(arrays: ClientArrays, row: Any) -> bool:
    """Say whether the node of a subscriber has forgotten whom it has to send to."""
    node = 0
    if len(arrays.servers.state) > 1:
        node += row.socket_worker // arrays.servers.free_s.shape[1]
    return bool(arrays.servers.state[node].has_forgotten)


@inlined
def _has_ended(world: World, now: float, slot: int, number: int, version: int) -> bool:
    """Say whether nothing is sent to the next subscriber, as the broadcast has ended before."""
    arrays = world.arrays
    part = loop_of(arrays, arrays.rows[number])
    has_ended = bool(part.has_ended)
    if _has_forgotten(arrays, arrays.rows[number]):
        _disturb(world, slot, number, version)
        return True
    if 0 <= part.fails_after <= part.sends and not has_ended:
        if world.server_rules.loop.meeting_closes:
            _schedule(world, slot, number, version, part.closes_s + 0.0, Kind.SEND + 0, GIVES_UP)
        has_ended = True
        part.has_ended = True
    if has_ended:
        _disturb(world, slot, number, version)
        recording.leave_out(world.record, number, version, now)
    return has_ended


@inlined
def _send(world: World, now: float, slot: int, number: int, version: int, t: float) -> None:
    """Schedule a message whose turn is at `t`, or end the broadcast if it has to wait too long."""
    arrays = world.arrays
    outcome = Sent.SENT + 0
    if not is_held_back(arrays, number):
        outcome, t = plan_send(arrays, world.rules, world.server_rules.sending, number, t)
    if outcome == Sent.SENT:
        _schedule(world, slot, number, version, t, Kind.SEND + 0, version)
        return
    loop_of(arrays, arrays.rows[number]).has_ended = True
    recording.leave_out(world.record, number, version, now)
    _disturb(world, slot, number, version)
    if outcome == Sent.CLOSES:
        _schedule(world, slot, number, version, t, Kind.SEND + 0, GIVES_UP)


@inlined
def _begin(world: World, now: float, version: int) -> None:
    """Every worker is about to start its part of a broadcast."""
    rules, sends, free_s = world.rules, world.arrays.sends, world.arrays.servers.free_s
    for worker in range(len(sends)):
        node, place = divmod(worker, free_s.shape[1])
        start_s = max(now, free_s[node, place])
        sends[worker].sends = 0
        sends[worker].start_s = start_s
        sends[worker].sent_s = servers.begun_s(
            world.server_rules, start_s, rules.seed, rules.replication, worker, version
        )
        if GENERAL:
            if world.server_rules.sending.overflow == Overflow.ABORT:
                world.arrays.servers.blocked_s[node, place] = 0.0  # it waits for no other broadcast
            _begin_to_fail(world, worker, now, version)


@inlined
def _begin_to_fail(world: World, worker: int, now: float, version: int) -> None:
    """Settle after how many sends a broadcast fails, if it meets another one."""
    arrays, rules = world.arrays, world.rules
    part = arrays.sends[worker]
    part.has_ended = False
    part.fails_after = -1
    rule, address = world.server_rules.loop, (rules.seed, rules.replication)
    share = broadcasts.fails_at(rule, part, *address, worker, version, now)
    if share < 1.0:
        part.closes_s = broadcasts.closes_s(part, share, now)
        mine = 0
        for slot in range(arrays.state[0].slots):
            number = arrays.order[slot] + 0
            if number >= 0 and arrays.rows[number].socket_worker == worker:
                mine += 1
        part.fails_after = int(share * mine)


@inlined
def _sent_s(world: World, number: int, version: int) -> float:
    """Return when the next subscriber of a worker has been sent to, and count it."""
    arrays, rules = world.arrays, world.rules
    worker = 0
    if GENERAL and len(arrays.sends) > 1:
        worker += arrays.rows[number].socket_worker
    part = arrays.sends[worker]
    part.sends += 1
    part.sent_s = servers.sent_s(
        world.server_rules,
        part.start_s,
        part.sent_s,
        part.sends,
        rules.seed,
        rules.replication,
        number,
        version,
    )
    return part.sent_s + 0.0


@inlined
def _end(world: World) -> None:
    """The workers that had somebody to send to were busy until the last of their sends."""
    sends, free_s = world.arrays.sends, world.arrays.servers.free_s
    for worker in range(len(sends)):
        if sends[worker].sends > 0 or (GENERAL and sends[worker].has_ended):
            node, place = divmod(worker, free_s.shape[1])
            recording.add_busy(world.record, node, sends[worker].start_s, sends[worker].sent_s)
            free_s[node, place] = sends[worker].sent_s
            sends[worker].ends_s = sends[worker].sent_s


@inlined
def _fill_bin(
    record: Record, index: int, served: int, ticks: int, counted: bool, message: int
) -> None:
    record.bins[0, index, Count.MESSAGES] += served
    record.messages[0, index, message] += served
    if counted:
        record.bins[0, index, Count.DELIVERED] += served
        record.latency_ticks[0, index] += ticks
