"""A client that is told of changes: when it fetches, and what it puts off or leaves out."""

from __future__ import annotations

import pytest

from simlib.core.client import is_recoverable, step
from simlib.core.client_state import NEVER_S, Client
from simlib.core.protocol import Action, Event, State, Transport
from simlib.scenario import Scenario, compile_workload

RULES = compile_workload(Scenario(updates={"rate_per_s": 1.0}, network={"tls": False}), 1, 0).rules
TOLD = RULES._replace(transport=Transport.NOTIFY, heartbeat=0)
SPREAD = TOLD._replace(spread_s=10.0)
SAFE = TOLD._replace(safety_poll_s=30.0)


def open_client(rules, *, seen=0, latest=0, now=0.0):
    """A client whose socket has just opened when `latest` changes had been made."""
    client = Client(0)
    for event, value in ((Event.START, seen), (Event.CONNECTED, 0), (Event.UPGRADED, 0)):
        step(client, rules, event, now, value)
    actions, _ = step(client, rules, Event.READY, now, latest)
    return client, actions


def test_a_change_is_fetched_at_once_and_only_the_reply_delivers_it():
    client, _ = open_client(TOLD)
    assert step(client, TOLD, Event.PUSH, 5.0, 1) == (Action.FETCH, NEVER_S)
    assert (client.state, client.seen) == (State.OPEN, 0)
    assert step(client, TOLD, Event.FETCHED, 6.0, 1) == (Action.NONE, NEVER_S)
    assert (client.seen, client.fetched_s) == (1, 6.0)


def test_a_client_that_connects_fetches_what_its_page_does_not_have():
    assert open_client(TOLD, seen=3, latest=3)[1] == Action.NONE
    assert open_client(TOLD, seen=3, latest=4)[1] == Action.FETCH


@pytest.mark.parametrize(("reply", "follows"), [(2, Action.FETCH), (3, Action.NONE)])
def test_what_comes_meanwhile_is_coalesced(reply, follows):
    """Another fetch follows if the reply was read before the latest change."""
    client, _ = open_client(TOLD)
    told = [step(client, TOLD, Event.PUSH, 5.0 + k, k)[0] for k in (1, 2, 3)]
    assert told == [Action.FETCH, Action.NONE, Action.NONE]
    assert step(client, TOLD, Event.FETCHED, 9.0, reply)[0] == follows
    assert client.seen == reply


def test_what_a_fetch_has_brought_already_is_not_fetched_again():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 5.0, 1)
    step(client, TOLD, Event.FETCHED, 6.0, 2)
    assert step(client, TOLD, Event.PUSH, 6.1, 2)[0] == Action.NONE


def test_each_change_has_its_own_wait_within_the_window():
    waits = []
    for version in range(1, 200):
        client, _ = open_client(SPREAD, seen=version - 1, latest=version - 1)
        actions, due_s = step(client, SPREAD, Event.PUSH, 100.0, version)
        assert actions == Action.NONE
        assert step(client, SPREAD, Event.PUSH, 100.0 + 1e-9, version + 1)[1] == due_s
        assert step(client, SPREAD, Event.DEADLINE, due_s)[0] == Action.FETCH
        waits.append(due_s - 100.0)
    assert 0.0 <= min(waits) < max(waits) < 10.0
    assert sum(waits) / len(waits) == pytest.approx(5.0, abs=4 * 10.0 / (12 * len(waits)) ** 0.5)


def test_a_fetch_that_fails_is_tried_again_and_given_up_after_the_last_retry():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 0.0, 1)
    now, waits = 0.0, []
    for _ in range(TOLD.retries):
        actions, due_s = step(client, TOLD, Event.FAILED, now)
        assert actions == Action.NONE
        waits.append(due_s - now)
        now = due_s
        assert step(client, TOLD, Event.DEADLINE, now)[0] == Action.FETCH
    assert waits == [1.0, 2.0, 4.0]
    assert step(client, TOLD, Event.FAILED, now) == (Action.NONE, NEVER_S)
    assert step(client, TOLD, Event.PUSH, now + 1.0, 2)[0] == Action.FETCH


def test_a_safety_poll_counts_from_the_last_fetch():
    client, _ = open_client(SAFE)
    assert client.deadline_s == 30.0
    step(client, SAFE, Event.PUSH, 10.0, 1)
    assert client.deadline_s == NEVER_S
    assert step(client, SAFE, Event.FETCHED, 12.0, 1)[1] == 42.0
    assert step(client, SAFE, Event.DEADLINE, 42.0) == (Action.FETCH, NEVER_S)
    assert step(client, SAFE, Event.UNCHANGED, 43.0)[1] == 73.0
    assert client.fetched_s == 43.0


def test_a_heartbeat_is_due_beside_the_fetches():
    rules = SAFE._replace(heartbeat=2, heartbeat_interval_s=25.0, heartbeat_timeout_s=20.0)
    client, _ = open_client(rules)
    assert client.deadline_s == 25.0
    assert step(client, rules, Event.DEADLINE, 25.0) == (Action.SEND_PING, 30.0)
    assert step(client, rules, Event.PONG, 26.0)[1] == 30.0
    assert step(client, rules, Event.DEADLINE, 30.0) == (Action.FETCH, 51.0)


def test_a_drag_disables_the_query_until_it_ends():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.DRAG_START, 1.0)
    assert step(client, TOLD, Event.PUSH, 2.0, 1)[0] == Action.NONE
    assert step(client, TOLD, Event.DRAG_END, 3.0)[0] == Action.FETCH
    goes_on = TOLD._replace(pause_while_dragging=False)
    client, _ = open_client(goes_on)
    step(client, goes_on, Event.DRAG_START, 1.0)
    assert step(client, goes_on, Event.PUSH, 2.0, 1)[0] == Action.FETCH


def test_a_hidden_tab_fetches_but_holds_its_retry_back():
    rules = TOLD._replace(refetch_on_focus=False)
    client, _ = open_client(rules)
    step(client, rules, Event.HIDE, 1.0)
    assert step(client, rules, Event.PUSH, 2.0, 1)[0] == Action.FETCH
    _, due_s = step(client, rules, Event.FAILED, 3.0)
    assert step(client, rules, Event.DEADLINE, due_s) == (Action.NONE, NEVER_S)
    assert step(client, rules, Event.SHOW, 9.0)[0] == Action.FETCH


def test_a_tab_that_is_shown_fetches_what_is_stale():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 1.0, 1)
    step(client, TOLD, Event.FETCHED, 2.0, 1)
    fresh = TOLD._replace(stale_s=60.0)
    step(client, fresh, Event.HIDE, 3.0)
    assert step(client, fresh, Event.SHOW, 4.0)[0] == Action.NONE
    step(client, TOLD, Event.HIDE, 5.0)
    assert step(client, TOLD, Event.SHOW, 6.0)[0] == Action.FETCH


def test_a_socket_that_is_lost_takes_its_fetch_with_it():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 1.0, 1)
    exchange = client.exchange
    assert step(client, TOLD, Event.CLOSED, 2.0)[0] == Action.CLOSE
    assert client.exchange > exchange
    assert is_recoverable(client, TOLD)
    assert step(client, TOLD, Event.DEADLINE, client.deadline_s)[0] == Action.CONNECT
    for event in (Event.CONNECTED, Event.UPGRADED):
        step(client, TOLD, event, 10.0)
    assert step(client, TOLD, Event.READY, 10.0, 1)[0] == Action.FETCH
