"""Broadcasts: one event each, in which subscribers that nothing disturbs are served at once.

What is counted for them is booked for their cohorts at the time of the broadcast: whom the flag
tells something before its message arrives is not among them.
"""

from __future__ import annotations

from typing import Any

from simlib.core import broadcasts
from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.backpressure import Overflow
from simlib.core.client_state import NEVER_S
from simlib.core.connection import GIVES_UP, Sent, is_first_held, is_held
from simlib.core.record import Count, Record, value_of
from simlib.core.server import Law
from simlib.core.streams import sent_as
from simlib.core.websocket import hear
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.faults import has_path_limits, one_way_s, plan_send
from simlib.engines.compiled.held import answer, reply_data
from simlib.engines.compiled.numba_support import called, inlined, seldom
from simlib.engines.compiled.proxied import is_held_back
from simlib.engines.compiled.state import (
    BLOCK,
    BLOCK_BITS,
    BROADCASTS,
    MIXED,
    NOBODYS,
    ClientArrays,
    Kind,
    catch_up,
    leave_undisturbed,
    load_of,
    loop_of,
    release_up_to,
)
from simlib.engines.compiled.turn import GENERAL, World, rules_of


@inlined
def subscribe(arrays: ClientArrays, record: Record, number: int, exchange: int) -> None:
    """Put a subscriber at the end of the list, or leave it where it is."""
    row, state = arrays.rows[number], arrays.state[0]
    if row.subscribed < 0:
        if state.slots == len(arrays.order):
            _close_ranks(arrays, record)
        _take_place(arrays, int(state.slots), number, -NEVER_S)
        state.slots += 1
        state.subscribers += 1
    row.subscribed = exchange
    leave_undisturbed(arrays, int(row.slot), -NEVER_S)


@inlined
def _take_place(arrays: ClientArrays, slot: int, number: int, until_s: float) -> None:
    """Give a subscriber a place at the end of the list, undisturbed before `until_s`."""
    block = arrays.blocks[slot >> BLOCK_BITS]
    if slot & (BLOCK - 1) == 0:
        block.listeners = 0
        block.least_s = NEVER_S
        block.exposed_s = 0.0
        block.cohort = NOBODYS if GENERAL else 0
    arrays.order[slot] = number
    arrays.rows[number].slot = slot
    block.listeners += 1
    leave_undisturbed(arrays, slot, until_s)


@inlined
def belong(arrays: ClientArrays, record: Record, number: int) -> None:
    """A subscriber that may be served at once belongs to a cohort: its block is of no other one."""
    block = arrays.blocks[arrays.rows[number].slot >> BLOCK_BITS]
    cohort = int(recording.cohort_of(record.cohort, number) + 0)
    if len(record.bins) > 1:
        block.exposed_s = max(block.exposed_s, record.cohort_s[number])
    if block.cohort == NOBODYS:
        block.cohort = cohort
    elif block.cohort != cohort:
        block.cohort = MIXED


@inlined
def _close_ranks(arrays: ClientArrays, record: Record) -> None:
    """Move the subscribers up into the places of those that have left."""
    kept, slots = 0, int(arrays.state[0].slots)
    for slot in range(slots):
        number = arrays.order[slot] + 0
        if number >= 0:
            until_s = arrays.undisturbed_until_s[slot] + 0.0
            _take_place(arrays, kept, number, until_s)
            if GENERAL and until_s > -NEVER_S:
                belong(arrays, record, number)
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
    _begin(world, now, version)
    if may_serve_at_once and _sends_evenly(world):
        served = _send_evenly(world, now, version, until_s)
    else:
        served = _send_each(world, now, version, until_s, may_serve_at_once)
    _end(world)
    return served


@inlined
def _send_each(
    world: World, now: float, version: int, until_s: float, may_serve_at_once: bool
) -> int:
    """Send to one subscriber after the other, whatever the law and the paths are."""
    arrays, record, rule = world.arrays, world.record, world.server_rules.loop
    published_s = record.publish_s[version - 1]
    counted = record.first < version <= record.until
    served = 0  # of the bin and the cohort in hand
    ticks = 0
    index = 0
    cohort = 0
    all_served = 0
    longest_s = 0.0
    for slot in range(arrays.state[0].slots):
        number = arrays.order[slot] + 0
        if number < 0:
            continue
        # Whom nothing disturbs has an open socket, and no broadcast ends early where that counts.
        is_plain = may_serve_at_once and arrays.undisturbed_until_s[slot] > -NEVER_S
        if GENERAL and not is_plain:
            if is_held(arrays.rows[number]):
                _answer_held(world, now, number, version)
                continue
            if _has_ended(world, now, slot, number, version):
                continue
        t = _sent_s(world, number, version)
        if GENERAL and not is_plain:
            may_wait = has_path_limits(arrays) or broadcasts.may_end(rule)
            if may_wait or is_held_back(arrays, number):
                _send(world, now, slot, number, version, t)
                continue
        t += value_of(arrays.half_s, number)
        is_served = t < arrays.undisturbed_until_s[slot] and t < until_s and may_serve_at_once
        if is_served and _belonged(record, number, published_s):
            place = recording.bin_of(record, t)
            its_cohort = int(recording.cohort_of(record.cohort, number) + 0)
            if place != index or its_cohort != cohort:
                _fill_bin(world, cohort, index, served, ticks, counted)
                index, cohort, served, ticks = place, its_cohort, 0, 0
            served += 1
            all_served += 1
            if GENERAL:
                rules = rules_of(world, its_cohort)
                if rules.any_message:
                    hear(arrays.rows[number], rules, t)
            if counted:
                latency_s = t - published_s
                ticks += recording.ticks_of(latency_s)
                record.histogram[cohort, recording.bucket_of(latency_s)] += 1
                longest_s = max(longest_s, latency_s)
        else:
            _schedule(world, slot, number, version, t, Kind.PUSH + 0, version)
    _fill_bin(world, cohort, index, served, ticks, counted)
    record.latency_max_s[0] = max(record.latency_max_s[0], longest_s)
    return all_served


@inlined
def _belonged(record: Record, number: int, published_s: float) -> bool:
    """Say whether a client belonged to its cohort already when a change was published.

    If not, its latency is due to the other cohort, and the client gets its message by an event.
    """
    return not (GENERAL and len(record.bins) > 1 and published_s < record.cohort_s[number])


@inlined
def _sends_evenly(world: World) -> bool:
    """Say whether the messages of a broadcast arrive at even distances: see `_send_evenly`."""
    arrays = world.arrays
    is_even = world.server_rules.law == Law.CONSTANT and len(arrays.half_s) == 1
    if GENERAL:
        is_even = is_even and len(arrays.sends) == 1
        is_even = is_even and not world.rules.any_message and not world.treatment_rules.any_message
    return is_even


@inlined
def _send_evenly(world: World, now: float, version: int, until_s: float) -> int:
    """Send to all subscribers where one worker takes as long for each, and paths are alike.

    When a message arrives depends on its number alone then, and never falls as that grows. So if
    the last message of a block arrives before anything disturbs any of the block, all of its
    subscribers are served at once, wherever places in it are empty. Those that are served one after
    the other are a stretch: it is counted by the bins and buckets that the times of its messages
    pass through, each of which is a run of numbers. In other blocks each subscriber is looked at.
    """
    arrays, record, part = world.arrays, world.record, world.arrays.sends[0]
    published_s, slots = record.publish_s[version - 1], int(arrays.state[0].slots)
    all_served, in_blocks, stretch, cohort = 0, 0, 0, 0
    for index in range((slots + BLOCK - 1) >> BLOCK_BITS):
        block, first = arrays.blocks[index], index << BLOCK_BITS
        if block.listeners == 0:
            continue
        last_s = _arrives_s(world, part.start_s + 0.0, part.sends + block.listeners)
        if _is_alike(block, published_s) and last_s < until_s:
            if block.least_s <= last_s:
                _look_over(arrays, index, min(first + BLOCK, slots))
            if last_s < block.least_s:
                if block.cohort != cohort:
                    all_served += _count_stretch(world, cohort, version, stretch)
                    stretch, cohort = 0, int(block.cohort + 0)
                stretch += block.listeners
                in_blocks += block.listeners
                part.sends += block.listeners
                continue
        for slot in range(first, min(first + BLOCK, slots)):
            number = arrays.order[slot] + 0
            if number < 0:
                continue
            t = _arrives_s(world, part.start_s + 0.0, part.sends + 1)
            its_cohort = int(recording.cohort_of(record.cohort, number) + 0)
            is_served = t < arrays.undisturbed_until_s[slot] and t < until_s
            is_served = is_served and _belonged(record, number, published_s)
            if its_cohort != cohort or not is_served:
                all_served += _count_stretch(world, cohort, version, stretch)
                stretch, cohort = 0, its_cohort
            if is_served:
                stretch += 1
                part.sends += 1
            else:
                _send_to(world, now, slot, number, version)
    all_served += _count_stretch(world, cohort, version, stretch)
    arrays.state[0].in_blocks += in_blocks
    part.sent_s = servers.evenly_sent_s(world.server_rules, part.start_s, part.sends)
    return all_served


@inlined
def _arrives_s(world: World, start_s: float, position: int) -> float:
    """Return when the message of a number, from 1, arrives: as `_sent_s` and the path have it."""
    t = servers.evenly_sent_s(world.server_rules, start_s, position)
    return t + world.arrays.half_s[0]


@inlined
def _is_alike(block: Any, published_s: float) -> bool:
    """Say whether the latencies of a change, in a block, are all due to one cohort."""
    return not GENERAL or (block.cohort >= 0 and block.exposed_s <= published_s)


@inlined
def _look_over(arrays: ClientArrays, index: int, end: int) -> None:
    """Find anew from when on something disturbs a block: it may be later by now."""
    least_s = NEVER_S
    for slot in range(index << BLOCK_BITS, end):
        least_s = min(least_s, arrays.undisturbed_until_s[slot])
    arrays.blocks[index].least_s = least_s


@seldom
def _send_to(world: World, now: float, slot: int, number: int, version: int) -> None:
    """Send to a subscriber whose message gets an event, or answer its request that is held."""
    arrays = world.arrays
    if GENERAL:
        if is_held(arrays.rows[number]):
            _answer_held(world, now, number, version)
            return
    t = _sent_s(world, number, version)
    if GENERAL:
        if is_held_back(arrays, number):
            _send(world, now, slot, number, version, t)
            return
    t += arrays.half_s[0]
    _schedule(world, slot, number, version, t, Kind.PUSH + 0, version)


@called
def _count_stretch(world: World, cohort: int, version: int, n: int) -> int:
    """Count the latest `n` messages of a broadcast as those that have arrived; return `n`."""
    record, part = world.record, world.arrays.sends[0]
    start_s, published_s = part.start_s + 0.0, record.publish_s[version - 1]
    counted = record.first < version <= record.until
    position, last = part.sends - n + 1, part.sends + 0
    alike = 1
    while position <= last:
        t = _arrives_s(world, start_s, position)
        index, bucket = recording.bin_of(record, t), recording.bucket_of(t - published_s)
        alike = _alike(world, start_s, published_s, position, last, index, bucket, counted, alike)
        ticks = 0
        if counted:
            for each in range(position, position + alike):
                ticks += recording.ticks_of(_arrives_s(world, start_s, each) - published_s)
            record.histogram[cohort, bucket] += alike
        _fill_bin(world, cohort, index, alike, ticks, counted)
        position += alike
    if counted and n > 0:
        longest_s = _arrives_s(world, start_s, last) - published_s
        record.latency_max_s[0] = max(record.latency_max_s[0], longest_s)
    return n


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
        leave_undisturbed(arrays, slot, -NEVER_S)


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


@called
def _alike(
    world: World,
    start_s: float,
    published_s: float,
    position: int,
    last: int,
    index: int,
    bucket: int,
    counted: bool,
    guess: int,
) -> int:
    """Return how many messages from a number on, up to the last, come in its bin and bucket.

    Both never fall with the number, so those alike come first. About as many as in the run before
    is a good guess; from there the end is found by steps that double, and then by halving.
    """
    run = (start_s, published_s, position - 1, index, bucket, counted)
    low, high, step = 1, last - position + 2, 1  # so many are alike, and so many are not
    guess = min(guess, high - 1)
    if _is_in_run(world, *run, guess):
        low = guess
        while low + step < high:
            if _is_in_run(world, *run, low + step):
                low += step
                step *= 2
            else:
                high = low + step
    else:
        high = guess
        while high - step > low:
            if _is_in_run(world, *run, high - step):
                low = high - step
            else:
                high -= step
                step *= 2
    while high - low > 1:
        middle = (low + high) >> 1
        if _is_in_run(world, *run, middle):
            low = middle
        else:
            high = middle
    return low


@inlined
def _is_in_run(
    world: World,
    start_s: float,
    published_s: float,
    before: int,
    index: int,
    bucket: int,
    counted: bool,
    n: int,
) -> bool:
    """Say whether the message `n` after another one comes in a bin, and if counted in a bucket."""
    t = _arrives_s(world, start_s, before + n)
    is_in_bin = recording.bin_of(world.record, t) == index
    return is_in_bin and (not counted or recording.bucket_of(t - published_s) == bucket)


@inlined
def _fill_bin(
    world: World, cohort: int, index: int, served: int, ticks: int, counted: bool
) -> None:
    record, transport = world.record, world.rules.transport + 0
    if GENERAL and world.rules.has_flag:
        transport = world.rules.transports[cohort] + 0
    message = sent_as(transport, Message.PUSH)
    record.bins[cohort, index, Count.MESSAGES] += served
    record.messages[cohort, index, message] += served
    if counted:
        record.bins[cohort, index, Count.DELIVERED] += served
        record.latency_ticks[cohort, index] += ticks
