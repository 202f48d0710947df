"""A connection's row: what cuts it, what its path carries, what waits to be sent."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from simlib.core.backpressure import Overflow, SendingRules
from simlib.core.balancing import Balancing, new_balancer
from simlib.core.client_state import NEVER_S, ROW, Client, Rules
from simlib.core.connection import (
    CONNECTION_ROW,
    PLANNED_ROW,
    Connection,
    FaultSchedule,
    Nodes,
    Paths,
    Planned,
    Sent,
    affects,
    blocking_send,
    carried_s,
    drain,
    end_of_kept,
    has_path_limits,
    held_bytes,
    is_cut,
    is_over,
    is_reset,
    is_under,
    is_unheard,
    lose_path,
    node_of,
    one_way_s,
    open_path,
    reset,
    resume_outcome_of,
    set_active,
    set_nodes,
    stop_server,
    stops,
    transmit,
    try_send,
    waiting_message,
    writable_s,
)
from simlib.core.faults import FaultEffect, FaultEvent
from simlib.core.path import Window
from simlib.core.protocol import State, Transport
from simlib.core.record import Cause, Count
from simlib.core.resync import Resume, Resync, ResyncRules
from simlib.core.server import admit, new_server
from simlib.core.wire import Message

ADDRESS = (1, 0)
HALF_S = 0.5
SLOW = Window(10.0, 20.0, 1.0, 2.0, 0.0, 0)  # a second more each way
THIN = Window(0.0, 100.0, 1.0, 100.0, 0.0, 1)  # 100 bytes per second
FREE_PATHS = Paths(*ADDRESS, [HALF_S], [], [])
SLOW_PATHS = Paths(*ADDRESS, [HALF_S], [SLOW], [])
THIN_PATHS = Paths(*ADDRESS, [HALF_S], [], [THIN])
RESETS = {FaultEffect.SERVER_DOWN, FaultEffect.NODE_DOWN, FaultEffect.RESET}
WEBSOCKET_STATES = {
    State.CONNECTING,
    State.SECURING,
    State.UPGRADING,
    State.AUTHENTICATING,
    State.OPEN,
}


def client_in(state, transport=Transport.WEBSOCKET, exchange=3):
    client = Client(0)
    client.state, client.transport, client.exchange = state, transport, exchange
    return client


def link_with(**values):
    link = Connection(0)
    for name, value in values.items():
        setattr(link, name, value)
    return link


def sending(overflow, buffer_bytes=300, socket_bytes=200):
    return SendingRules(overflow, buffer_bytes, socket_bytes)


def memory():
    """A record of what the server's memory held for each client."""
    return SimpleNamespace(buffered=[0.0])


def rules_with(resync=Resync.NONE, push_is_snapshot=False):
    values = dict.fromkeys(Rules._fields, 0)
    kind = ResyncRules(resync, 10, 60.0, False)
    return Rules(**{**values, "resync": kind, "push_is_snapshot": push_is_snapshot})


# -- the row -------------------------------------------------------------------------------------


def test_the_columns_are_the_attributes_but_what_a_clients_row_and_its_events_know():
    assert set(Connection.__slots__) - CONNECTION_ROW.keys() == {"number", "opened_by"}
    assert CONNECTION_ROW.keys() <= set(Connection.__slots__)
    assert not CONNECTION_ROW.keys() & ROW.keys()


def test_the_columns_of_what_is_planned_are_its_attributes():
    assert set(Planned.__slots__) == set(PLANNED_ROW)
    for name, kind in PLANNED_ROW.items():
        value = getattr(Planned(0), name)
        assert np.array(value).astype(kind) == value


@pytest.mark.parametrize("name", CONNECTION_ROW)
def test_a_column_holds_the_value_that_an_attribute_begins_with(name):
    value = getattr(Connection(0), name)
    assert np.array(value).astype(CONNECTION_ROW[name]) == value


# -- ends of connections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "lost", "expected"), [(2, -1, False), (3, -1, True), (0, 2, False), (0, 3, True)]
)
def test_an_exchange_is_cut_once_it_is_closed_or_its_path_is_lost(closed, lost, expected):
    link = link_with(closed_exchange=closed, lost_exchange=lost)
    assert is_cut(link, 3) is expected
    assert is_over(client_in(State.FETCHING, Transport.POLLING), link, 3) is expected


def test_what_was_sent_on_a_socket_before_the_server_ended_it_arrives():
    ended, dead = link_with(closed_exchange=3), link_with(lost_exchange=3)
    assert not is_over(client_in(State.OPEN), ended, 3)
    assert is_over(client_in(State.OPEN), dead, 3)


def test_what_arrives_for_another_exchange_is_over():
    assert is_over(client_in(State.OPEN, exchange=4), Connection(0), 3)


def test_a_client_is_unheard_when_the_server_does_not_list_this_connection():
    assert not is_unheard(link_with(subscribed=3), 3)
    assert is_unheard(link_with(subscribed=2), 3)
    assert is_unheard(link_with(subscribed=3, lost_exchange=3), 3)


def test_a_kept_connection_ends_when_the_server_lets_go_of_it():
    link = link_with(kept_until_s=30.0)
    assert end_of_kept(link, 40.0, Cause.SWITCHED) == (30.0, Cause.IDLE)
    assert end_of_kept(link, 30.0, Cause.SWITCHED) == (30.0, Cause.SWITCHED)
    assert end_of_kept(link_with(kept_until_s=NEVER_S), 5.0, Cause.IDLE) == (5.0, Cause.IDLE)


@pytest.mark.parametrize("state", State)
def test_a_reset_is_heard_by_whoever_has_a_websocket_or_is_about_to(state):
    link = Connection(0)
    assert reset(client_in(state), link, 75.0, 0.0) == (state in WEBSOCKET_STATES)
    assert link.closed_exchange == (3 if state in WEBSOCKET_STATES else 0)


@pytest.mark.parametrize("state", [State.IDLE, State.FETCHING, State.RETRYING])
def test_a_reset_is_heard_by_a_polling_client_if_a_poll_is_under_way(state):
    link = link_with(kept_until_s=NEVER_S)
    expected = state == State.FETCHING
    assert reset(client_in(state, Transport.POLLING), link, 75.0, 5.0) == expected
    assert link.kept_until_s == -NEVER_S


@pytest.mark.parametrize(("now", "fails"), [(4.9, True), (5.0, False), (99.0, False)])
def test_a_poll_that_the_server_has_answered_does_not_fail(now, fails):
    link = link_with(kept_until_s=80.0)  # answered at 5 s, or to be answered then
    client = client_in(State.FETCHING, Transport.POLLING)
    assert reset(client, link, 75.0, now) == fails
    assert (link.closed_exchange == 3) == fails
    assert link.kept_until_s == -NEVER_S


@pytest.mark.parametrize(("now", "kept_until_s"), [(4.9, NEVER_S), (5.0, 80.0)])
def test_what_is_fetched_beside_a_socket_is_answered_before_a_reset_or_never(now, kept_until_s):
    link = link_with(kept_until_s=80.0)
    assert reset(client_in(State.OPEN, Transport.NOTIFY), link, 75.0, now)
    assert link.kept_until_s == kept_until_s


def test_a_second_reset_of_the_same_connection_changes_nothing():
    client, link = client_in(State.OPEN), Connection(0)
    assert [reset(client, link, 75.0, t) for t in (1.0, 1.0)] == [True, False]


def test_a_reset_does_not_come_through_on_a_dead_path():
    polling = link_with(is_link_dead=True, kept_until_s=30.0)
    assert not reset(client_in(State.FETCHING, Transport.POLLING), polling, 75.0, 1.0)
    assert polling.kept_until_s == 30.0
    assert not reset(client_in(State.OPEN), link_with(lost_exchange=3), 75.0, 1.0)
    assert reset(client_in(State.OPEN), link_with(lost_exchange=2), 75.0, 1.0)


@pytest.mark.parametrize("state", State)
def test_a_lost_path_takes_along_the_websockets_that_are_past_tcp(state):
    link = Connection(0)
    assert not lose_path(client_in(state), link)
    is_lost = state in WEBSOCKET_STATES - {State.CONNECTING}
    assert link.lost_exchange == (3 if is_lost else -1)


@pytest.mark.parametrize("state", [State.IDLE, State.FETCHING])
def test_a_lost_path_leaves_a_poll_under_way_unanswered(state):
    client, link = client_in(state, Transport.POLLING), link_with(opened_s=1.0)
    assert lose_path(client, link) == (state == State.FETCHING)
    assert (link.is_link_dead, link.closed_exchange) == (True, 3)
    assert not lose_path(client, link)  # it is dead already


def test_a_lost_path_is_nothing_to_a_polling_client_without_a_connection():
    link = Connection(0)
    assert not lose_path(client_in(State.FETCHING, Transport.POLLING), link)
    assert not link.is_link_dead


# -- faults and nodes ----------------------------------------------------------------------------


def test_three_effects_reset_connections():
    assert {effect for effect in FaultEffect if is_reset(effect)} == RESETS


def test_a_node_that_goes_affects_the_connections_on_it():
    event = FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, node=1)
    assert affects(event, link_with(node=1), *ADDRESS)
    assert not affects(event, link_with(node=0), *ADDRESS)


def test_other_faults_affect_their_share_of_the_clients():
    event = FaultEvent(5.0, FaultEffect.RESET, 0, 0.0, 0.3)
    assert sum(affects(event, Connection(number), *ADDRESS) for number in range(1000)) in range(
        260, 341
    )


def test_an_effect_goes_on_from_its_beginning_to_its_end():
    events = [
        FaultEvent(1.0, FaultEffect.PARTITION, 0, 0.0, 1.0),
        FaultEvent(2.0, FaultEffect.BLOCK, 1, 0.0, 1.0),
        FaultEvent(3.0, FaultEffect.HEAL, 0, 0.0, 1.0),
        FaultEvent(4.0, FaultEffect.UNBLOCK, 1, 0.0, 1.0),
    ]
    schedule, seen = FaultSchedule(events, [False] * 4), []
    for index in range(4):
        set_active(schedule, index)
        effects = (FaultEffect.PARTITION, FaultEffect.BLOCK)
        seen.append([is_under(schedule, effect, Connection(7), *ADDRESS) for effect in effects])
    assert seen == [[True, False], [True, True], [False, True], [False, False]]


def test_a_restart_ends_the_process_of_every_node_and_starts_the_next():
    nodes = Nodes([False, False], [0, 1], [0, 0])
    set_nodes(nodes, FaultEvent(1.0, FaultEffect.SERVER_DOWN, 0, 0.0, 1.0), 20)
    assert nodes == ([True, True], [2, 3], [0, 0])
    set_nodes(nodes, FaultEvent(2.0, FaultEffect.SERVER_UP, 0, 0.0, 1.0), 30)
    assert nodes == ([False, False], [2, 3], [30, 30])


def test_a_node_that_joins_keeps_nothing_of_what_was_published_before():
    nodes = Nodes([False, True], [0, 3], [0, 0])
    set_nodes(nodes, FaultEvent(1.0, FaultEffect.NODE_UP, 0, 0.0, 1.0, node=1), 30)
    assert nodes == ([False, False], [0, 3], [0, 30])


def test_a_node_that_is_replaced_is_another_process_and_up():
    nodes = Nodes([False, False], [0, 1], [0, 0])
    leaves = FaultEvent(1.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1, is_replaced=True)
    set_nodes(nodes, leaves, 30)
    assert nodes == ([False, False], [0, 3], [0, 30])


def test_an_effect_on_paths_leaves_the_nodes_alone():
    nodes = Nodes([False, False], [0, 1], [0, 0])
    set_nodes(nodes, FaultEvent(1.0, FaultEffect.PARTITION, 0, 0.0, 1.0), 30)
    assert nodes == ([False, False], [0, 1], [0, 0])


def test_a_node_that_leaves_is_the_only_one_that_stops():
    leaves = FaultEvent(1.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1)
    assert [stops(leaves, node) for node in range(3)] == [False, True, False]
    restart = FaultEvent(1.0, FaultEffect.SERVER_DOWN, 0, 0.0, 1.0)
    assert all(stops(restart, node) for node in range(3))


def test_the_work_of_a_node_that_stops_is_taken_back():
    server = new_server(workers=2)
    admit(server.free_s, 1.0, 4.0)
    record = SimpleNamespace(
        horizon_s=10.0,
        bin_s=10.0,
        bins=np.zeros((1, 1, len(Count))),
        busy_s=np.array([[4.0], [4.0]]),
    )
    stop_server(server, 1, record, 3.0)
    assert record.busy_s.tolist() == [[4.0], [2.0]]
    assert server.free_s == [3.0, 3.0]


def test_a_single_node_needs_no_draw_and_none_is_found_when_all_are_down():
    one, two = (new_balancer(Balancing.RANDOM, nodes, 0) for nodes in (1, 2))
    assert node_of(Nodes([False], [0], [0]), one, Connection(0), *ADDRESS, 3) == 0
    assert node_of(Nodes([True, True], [0, 1], [0, 0]), two, Connection(0), *ADDRESS, 3) == -1


def test_connections_spread_over_the_nodes_that_are_up():
    nodes = Nodes([False, True, False], [0, 1, 2], [0, 0, 0])
    for rule in (Balancing.RANDOM, Balancing.RANDOM_OF_TWO):
        balancer = new_balancer(rule, 3, 0)
        found = [
            node_of(nodes, balancer, Connection(number), *ADDRESS, 3) for number in range(1000)
        ]
        assert set(found) == {0, 2}
        assert 440 < found.count(0) < 560


def test_the_second_draw_of_two_is_one_of_its_own():
    """Where nothing is counted all nodes are as good, and of two that are drawn the second wins."""
    nodes, balancers = Nodes([False] * 2, [0, 1], [0, 0]), [new_balancer(0, 2, 0)]
    balancers.append(new_balancer(Balancing.RANDOM_OF_TWO, 2, 0))
    pairs = [
        tuple(node_of(nodes, each, Connection(number), *ADDRESS, 3) for each in balancers)
        for number in range(2000)
    ]
    for pair in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert 420 < pairs.count(pair) < 580


@pytest.mark.parametrize(
    ("messages", "served_by", "away_s", "expected"),
    [
        (1, 4, 60.0, Resume.REPLAY),
        (0, 4, 60.0, Resume.LOST),  # it was never sent anything
        (1, 2, 60.0, Resume.LOST),  # another process served it
        (1, 4, 61.0, Resume.LOST),  # it was away for too long
    ],
)
def test_a_session_is_recovered_by_the_process_that_has_served_it(
    messages, served_by, away_s, expected
):
    client, link = client_in(State.AUTHENTICATING), link_with(node=1, served_by=served_by)
    client.seen, client.since_s = 5, 100.0
    record = SimpleNamespace(clients=np.zeros((1, len(Count)), np.int32))
    record.clients[0, Count.MESSAGES] = messages
    rules, nodes = rules_with(Resync.RECOVERY), Nodes([False, False], [0, 4], [0, 0])
    assert resume_outcome_of(client, link, rules, nodes, record, 9, 100.0 + away_s) == expected


@pytest.mark.parametrize(("kept_from", "expected"), [(5, Resume.REPLAY), (6, Resume.LOST)])
def test_a_replay_comes_from_what_the_connections_node_keeps(kept_from, expected):
    client, link = client_in(State.AUTHENTICATING), link_with(node=1)
    client.seen = 5
    record = SimpleNamespace(clients=np.zeros((1, len(Count)), np.int32))
    rules, nodes = rules_with(Resync.REPLAY), Nodes([False, False], [0, 1], [0, kept_from])
    assert resume_outcome_of(client, link, rules, nodes, record, 9, 1.0) == expected


# -- paths ---------------------------------------------------------------------------------------


def test_a_path_has_limits_if_any_window_is_known():
    assert [has_path_limits(paths) for paths in (FREE_PATHS, SLOW_PATHS, THIN_PATHS)] == [
        False,
        True,
        True,
    ]


def test_a_trip_takes_half_a_round_trip_and_what_latency_adds_when_it_sets_out():
    assert [one_way_s(SLOW_PATHS, Connection(0), t) for t in (9.0, 10.0, 20.0)] == [0.5, 1.5, 0.5]


def test_each_client_may_have_a_trip_time_of_its_own():
    paths = Paths(*ADDRESS, [0.5, 0.25], [], [])
    assert [one_way_s(paths, Connection(number), 0.0) for number in (0, 1)] == [0.5, 0.25]


def test_an_idle_path_carries_bytes_at_its_rate():
    assert carried_s(THIN_PATHS, Connection(0), 10.0, 200.0) == 12.0
    assert carried_s(SLOW_PATHS, Connection(0), 10.0, 200.0) == 10.0


def test_a_path_still_holds_what_it_has_not_carried():
    link = link_with(link_s=10.0, link_bytes=300.0)
    assert [held_bytes(THIN_PATHS, link, t) for t in (10.0, 11.0, 13.0, 14.0)] == [
        300.0,
        200.0,
        0.0,
        0.0,
    ]
    assert held_bytes(SLOW_PATHS, link, 10.0) == 0.0


def test_messages_queue_on_a_narrow_path():
    link = Connection(0)
    assert transmit(THIN_PATHS, link, 10.0, 200.0) == 12.5
    assert transmit(THIN_PATHS, link, 11.0, 100.0) == 13.5
    assert (link.link_s, link.link_bytes, link.arrived_s) == (11.0, 200.0, 13.5)


def test_nothing_overtakes_on_a_connection_when_latency_ends():
    link = Connection(0)
    assert transmit(SLOW_PATHS, link, 19.5, 100.0) == 21.0
    assert transmit(SLOW_PATHS, link, 20.25, 100.0) == 21.0


def test_a_path_without_limits_remembers_nothing():
    link = Connection(0)
    assert transmit(FREE_PATHS, link, 10.0, 200.0) == 10.5
    assert link.link_s == 0.0


def test_a_new_connection_begins_with_an_empty_path():
    link = link_with(link_s=10.0, link_bytes=900.0, arrived_s=19.5, waiting=4)
    assert open_path(THIN_PATHS, link, 11.0, 100.0) == 12.5
    assert (link.link_bytes, link.waiting) == (100.0, 0)
    assert open_path(FREE_PATHS, link, 11.0, 100.0) == 11.5


# -- slow consumers ------------------------------------------------------------------------------


def plan(link, blocked_s, worker=0, t=10.0, planned=None):
    """Plan a message of 100 bytes, where 500 bytes fill kernels and buffer."""
    rules = sending(Overflow.BLOCK)
    planned = planned or Planned(0)
    return blocking_send(THIN_PATHS, link, planned, blocked_s, worker, rules, t, 100.0)


def test_a_blocking_send_waits_until_the_message_has_room():
    link, blocked_s = link_with(link_s=10.0, link_bytes=500.0), [0.0, 0.0]
    # 100 of the bytes go first, in a second.
    assert plan(link, blocked_s, worker=1) == 11.0
    assert blocked_s == [0.0, 11.0]
    # The path has the message when it is written, not before.
    assert (link.link_s, link.link_bytes) == (10.0, 500.0)
    assert try_one(link, sending(Overflow.BLOCK), now=11.0) == ((Sent.SENT, 16.5), 300.0)


def test_a_blocking_send_comes_after_the_ones_before_it():
    assert plan(Connection(0), [15.0]) == 15.0


def test_planned_messages_are_behind_each_other_and_what_is_sent_meanwhile_counts():
    link, planned = link_with(link_s=10.0, link_bytes=500.0, subscribed=3), Planned(0)
    assert [plan(link, [0.0], planned=planned) for _ in range(2)] == [11.0, 12.0]
    for now in (11.0, 12.0):
        try_one(link, sending(Overflow.BLOCK), now=now)
    transmit(THIN_PATHS, link, 12.0, 50.0)  # a heartbeat, which nobody has planned
    assert plan(link, [0.0], t=12.0, planned=planned) == 13.5


def test_what_was_planned_on_another_connection_is_forgotten():
    link, planned = link_with(link_s=10.0, link_bytes=500.0, subscribed=3), Planned(0)
    assert [plan(link, [0.0], planned=planned) for _ in range(3)] == [11.0, 12.0, 13.0]
    link.subscribed = 5
    open_path(THIN_PATHS, link, 11.5, 100.0)
    assert plan(link, [0.0], t=11.5, planned=planned) == 11.5


def try_one(link, rules, record=None, now=10.0, version=7):
    record = record or memory()
    return try_send(THIN_PATHS, link, record, rules, version, now, 100, 100), record.buffered[0]


@pytest.mark.parametrize("overflow", [o for o in Overflow if o != Overflow.BLOCK])
def test_a_message_with_room_in_the_kernels_is_sent_under_any_policy(overflow):
    link = link_with(link_s=10.0, link_bytes=100.0)
    assert try_one(link, sending(overflow)) == ((Sent.SENT, 12.5), 0.0)
    assert link.waiting == 0


def test_without_a_bound_a_message_is_sent_whatever_is_held():
    link = link_with(link_s=10.0, link_bytes=900.0)
    assert try_one(link, sending(Overflow.UNBOUNDED)) == ((Sent.SENT, 20.5), 800.0)


def test_a_full_buffer_closes_a_connection_behind_what_the_kernels_hold():
    link = link_with(link_s=10.0, link_bytes=400.0)
    assert try_one(link, sending(Overflow.CLOSE))[0] == (Sent.SENT, 15.5)
    assert try_one(link, sending(Overflow.CLOSE)) == ((Sent.CLOSES, 12.5), 0.0)


def test_the_first_message_that_waits_says_when_the_kernels_take_it():
    link = link_with(link_s=10.0, link_bytes=200.0)
    rules, record = sending(Overflow.DROP_OLDEST), memory()
    assert try_one(link, rules, record, version=7) == ((Sent.WAITS_FIRST, 11.0), 100.0)
    assert try_one(link, rules, record, version=8) == ((Sent.WAITS, 10.0), 200.0)
    assert (link.waiting, link.tail) == (2, 8)


@pytest.mark.parametrize(("overflow", "kept"), [(Overflow.DROP_OLDEST, 3), (Overflow.COALESCE, 1)])
def test_a_bounded_memory_keeps_the_latest_messages(overflow, kept):
    link = link_with(link_s=10.0, link_bytes=200.0)
    for version in range(7, 12):
        try_one(link, sending(overflow), version=version)
    assert (link.waiting, link.tail) == (kept, 11)


def test_what_waits_goes_out_from_the_oldest_on():
    link = link_with(link_s=10.0, link_bytes=100.0, waiting=2, tail=8)
    assert drain(THIN_PATHS, link, 10.0, 100) == (7, 12.5)
    assert drain(THIN_PATHS, link, 10.0, 100) == (8, 13.5)
    assert link.waiting == 0


def test_the_kernels_take_a_message_once_the_rest_leaves_room_for_it():
    link, rules = link_with(link_s=10.0, link_bytes=300.0), sending(Overflow.COALESCE)
    assert writable_s(THIN_PATHS, link, rules, 10.0, 50) == 11.5
    assert writable_s(THIN_PATHS, link, rules, 10.0, 5000) == 13.0  # empty kernels take any
    assert writable_s(THIN_PATHS, link, rules, 13.0, 50) == 13.0


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("push_is_snapshot", [False, True])
def test_only_coalescing_replaces_pushes_by_a_snapshot(overflow, push_is_snapshot):
    message = waiting_message(
        Client(0), rules_with(push_is_snapshot=push_is_snapshot), sending(overflow)
    )
    is_snapshot = overflow == Overflow.COALESCE and not push_is_snapshot
    assert message == (Message.SNAPSHOT if is_snapshot else Message.PUSH)
