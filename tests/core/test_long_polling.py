"""The rules of a client whose requests the server holds."""

from __future__ import annotations

import pytest

from simlib.core.client import is_recoverable, step
from simlib.core.client_state import NEVER_S, Client, is_fallen
from simlib.core.fallback import FallbackRules
from simlib.core.protocol import Action, Event, State, Transport
from simlib.core.reconnect import Policy, Reset
from simlib.errors import ProtocolError
from simlib.scenario import Scenario, compile_workload

BASE = compile_workload(Scenario(transport="long_polling", updates={"rate_per_s": 1.0}), 1, 0).rules
HELD = BASE._replace(
    hold_s=25.0,
    answer_timeout_s=35.0,
    reconnect=BASE.reconnect._replace(policy=Policy.FIXED + 0, base_s=2.0, cap_s=2.0),
)


def asking(rules=HELD, seen=0):
    client = Client(0)
    assert step(client, rules, Event.START, 0.0, seen) == (Action.FETCH, 35.0)
    return client


def test_the_next_request_follows_an_answer_at_once_and_has_a_time_out_of_its_own():
    client = asking(seen=3)
    assert step(client, HELD, Event.FETCHED, 10.0, 5) == (Action.FETCH, 35.0)
    assert (client.state, client.seen, client.beat_s) == (State.FETCHING, 5, 45.0)
    assert step(client, HELD, Event.UNCHANGED, 20.0)[0] == Action.FETCH
    assert (client.seen, client.exchange) == (5, 3)
    # The timer of the first request fires, and goes on as that of the third.
    assert step(client, HELD, Event.DEADLINE, 35.0) == (Action.NONE, 55.0)
    assert client.state == State.FETCHING


def test_a_pause_is_a_timer_after_which_the_client_asks():
    rules = HELD._replace(ask_pause_s=1.5)
    client = asking(rules)
    assert step(client, rules, Event.FETCHED, 10.0, 1) == (Action.NONE, 11.5)
    assert client.state == State.IDLE
    assert step(client, rules, Event.DEADLINE, 11.5) == (Action.FETCH, 46.5)


def test_a_request_without_an_answer_is_given_up_after_the_hold_and_its_grace():
    client = asking()
    exchange = client.exchange
    assert step(client, HELD, Event.DEADLINE, 35.0) == (Action.CLOSE, 37.0)
    assert (client.state, client.exchange) == (State.WAITING, exchange + 1)
    assert step(client, HELD, Event.DEADLINE, 37.0) == (Action.FETCH, 72.0)


def test_a_failure_keeps_the_connection_and_waits_as_the_reconnect_policy_says():
    grows = HELD._replace(
        reconnect=HELD.reconnect._replace(
            policy=Policy.EXPONENTIAL + 0, base_s=1.0, factor=2.0, cap_s=60.0
        )
    )
    client, waits_s, t = asking(grows), [], 1.0
    for _ in range(3):
        actions, until_s = step(client, grows, Event.CLOSED, t)
        assert actions == Action.NONE
        waits_s.append(until_s - t)
        t = until_s
        assert step(client, grows, Event.DEADLINE, t)[0] == Action.FETCH
    assert waits_s == [1.0, 2.0, 4.0]
    step(client, grows, Event.UNCHANGED, t + 25.0)
    assert step(client, grows, Event.CLOSED, t + 26.0)[1] == t + 27.0  # the count began anew


@pytest.mark.parametrize(("reset", "failures"), [(Reset.READY, 0), (Reset.NEVER, 1)])
def test_an_answer_resets_the_count_of_failures_unless_nothing_does(reset, failures):
    rules = HELD._replace(reconnect=HELD.reconnect._replace(reset=reset + 0))
    client = asking(rules)
    step(client, rules, Event.CLOSED, 1.0)
    step(client, rules, Event.DEADLINE, 3.0)
    step(client, rules, Event.UNCHANGED, 28.0)
    assert (client.failures, client.has_opened) == (failures, True)


def test_a_policy_that_retries_at_once_does_so_after_an_answer_alone():
    rule = HELD.reconnect._replace(policy=Policy.WEBSOCKETS + 0, base_s=4.0, jitter_s=5.0)
    rules = HELD._replace(reconnect=rule)
    client = asking(rules)
    assert step(client, rules, Event.CLOSED, 1.0)[1] > 1.0
    step(client, rules, Event.DEADLINE, client.deadline_s)
    step(client, rules, Event.UNCHANGED, 99.0)
    assert step(client, rules, Event.CLOSED, 100.0)[1] == 100.0


def test_it_strands_or_falls_back_when_the_policy_gives_up():
    none = HELD._replace(reconnect=HELD.reconnect._replace(policy=Policy.NONE + 0))
    client = asking(none)
    assert step(client, none, Event.CLOSED, 1.0) == (Action.CLOSE, NEVER_S)
    assert client.state == State.STRANDED
    assert not is_recoverable(client, none)
    falls = none._replace(fallback=FallbackRules(True, 9, 1e9, 60.0, 2.0, 60.0))
    client = asking(falls)
    assert step(client, falls, Event.CLOSED, 1.0)[0] == Action.CLOSE | Action.FETCH
    assert (client.transport, client.state) == (Transport.POLLING, State.FETCHING)
    assert is_fallen(client, falls)
    step(client, falls, Event.FETCHED, 61.0, 1)
    actions, _ = step(client, falls, Event.DEADLINE, client.deadline_s)
    assert (actions, client.transport) == (Action.CLOSE | Action.FETCH, Transport.LONG_POLLING)
    assert not is_fallen(client, falls)


def test_neither_drags_nor_hidden_tabs_stop_the_requests_but_a_retry_may_wait():
    rules = HELD._replace(reconnect=HELD.reconnect._replace(while_hidden=False))
    client = asking(rules)
    for event in (Event.DRAG_START, Event.HIDE):
        assert step(client, rules, event, 1.0)[0] == Action.NONE
    assert step(client, rules, Event.FETCHED, 2.0, 1)[0] == Action.FETCH
    step(client, rules, Event.CLOSED, 3.0)
    assert step(client, rules, Event.DEADLINE, 5.0) == (Action.NONE, NEVER_S)
    assert step(client, rules, Event.SHOW, 9.0)[1] == 9.0
    assert step(client, rules, Event.DEADLINE, 9.0)[0] == Action.FETCH


def test_a_poll_s_failure_is_not_for_it():
    client = asking()
    with pytest.raises(ProtocolError, match="client 0: event FAILED is illegal"):
        step(client, HELD, Event.FAILED, 1.0)


def test_a_time_out_of_before_does_not_outlive_a_change_of_transport():
    both = HELD._replace(has_flag=True, transports=(Transport.LONG_POLLING, Transport.WEBSOCKET))
    client = asking(both)
    actions, _ = step(client, both, Event.ASSIGNED, 5.0, 1)
    assert actions == Action.CLOSE | Action.CONNECT
    assert (client.beat_s, client.transport) == (NEVER_S, Transport.WEBSOCKET)
    actions, deadline_s = step(client, both, Event.ASSIGNED, 6.0, 0)
    assert actions == Action.CLOSE | Action.FETCH
    assert deadline_s <= client.beat_s == 41.0
