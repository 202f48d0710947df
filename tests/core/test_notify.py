"""A client that is told of changes: when it fetches, and what it puts off or leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simlib.core.client import is_recoverable, step
from simlib.core.client_state import NEVER_S, ROW, Client
from simlib.core.notify import FETCHES, OnHint, is_awaited
from simlib.core.protocol import Action, Event, Heartbeat, Pause, State, Transport
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


def test_a_hidden_tab_whose_retry_is_held_back_fetches_the_next_change():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.HIDE, 1.0)
    step(client, TOLD, Event.PUSH, 2.0, 1)
    _, due_s = step(client, TOLD, Event.FAILED, 3.0)
    step(client, TOLD, Event.DEADLINE, due_s)
    assert step(client, TOLD, Event.PUSH, 9.0, 2)[0] == Action.FETCH


def test_a_fetch_that_has_begun_is_tried_again_while_a_card_is_dragged():
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 1.0, 1)
    step(client, TOLD, Event.DRAG_START, 2.0)
    _, due_s = step(client, TOLD, Event.FAILED, 3.0)
    assert step(client, TOLD, Event.DEADLINE, due_s)[0] == Action.FETCH


@pytest.mark.parametrize(
    ("begin", "end"), [(Event.DRAG_START, Event.DRAG_END), (Event.HIDE, Event.SHOW)]
)
def test_what_comes_up_while_a_retry_is_due_joins_it(begin, end):
    client, _ = open_client(TOLD)
    step(client, TOLD, Event.PUSH, 1.0, 1)
    _, due_s = step(client, TOLD, Event.FAILED, 2.0)
    step(client, TOLD, begin, 2.1)
    assert step(client, TOLD, end, 2.2) == (Action.NONE, due_s)


def test_safety_polls_go_on_after_a_drag():
    """A poll that falls due during the drag is skipped, and its time counts anew."""
    rules = SAFE._replace(stale_s=100.0)
    client, _ = open_client(rules)
    step(client, rules, Event.PUSH, 1.0, 1)
    step(client, rules, Event.FETCHED, 2.0, 1)
    step(client, rules, Event.DRAG_START, 30.0)
    assert step(client, rules, Event.DEADLINE, 32.0) == (Action.NONE, NEVER_S)
    assert step(client, rules, Event.DRAG_END, 40.0) == (Action.NONE, 70.0)


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


RULE_SETS = st.builds(
    TOLD._replace,
    spread_s=st.sampled_from([0.0, 3.0]),
    safety_poll_s=st.sampled_from([NEVER_S, 1.0]),
    stale_s=st.sampled_from([0.0, 1000.0]),
    retries=st.sampled_from([0, 1, 3]),
    heartbeat=st.sampled_from([Heartbeat.NONE, Heartbeat.CLIENT]),
    throttles_timers=st.booleans(),
    pause_while_dragging=st.booleans(),
    pause_while_hidden=st.booleans(),
    refetch_on_focus=st.booleans(),
)
GAPS_S = st.sampled_from([0.0, 0.3, 1.0, 5.0, 40.0])
HAPPENINGS = st.sampled_from(["change", "change", "answer", "answer", "failure", "drag", "tab"])


class Board:
    """A client with an open socket, its server, and its user."""

    def __init__(self, rules):
        self.rules, self.now, self.latest, self.fetches = rules, 0.0, 0, 0
        self.read = None  # what the answer to the fetch under way would bring
        self.given_up = 0  # the latest change whose fetch had its last try
        self.client, _ = open_client(rules)

    def feed(self, event, value=0):
        actions, _ = step(self.client, self.rules, event, self.now, value)
        if actions & Action.FETCH:
            assert self.read is None, "one fetch at a time"
            self.read, self.fetches = self.latest, self.fetches + 1
        if actions & Action.SEND_PING:
            self.feed(Event.PONG)

    def wait(self, length_s):
        end_s = self.now + length_s
        while self.client.deadline_s <= end_s:
            assert self.client.deadline_s >= self.now
            self.now = self.client.deadline_s
            self.feed(Event.DEADLINE)
        self.now = end_s

    def change(self):
        self.latest += 1
        self.feed(Event.PUSH, self.latest)

    def answer(self):
        if self.read is not None:
            version, self.read = self.read, None
            is_new = version > self.client.seen
            self.feed(Event.FETCHED if is_new else Event.UNCHANGED, version)

    def failure(self):
        if self.read is not None:
            self.read = None
            if self.client.fetch_failures == self.rules.retries:
                self.given_up = self.latest
            self.feed(Event.FAILED)

    def drag(self):
        is_dragged = self.client.pauses & Pause.DRAGGING
        self.feed(Event.DRAG_END if is_dragged else Event.DRAG_START)

    def tab(self):
        is_hidden = self.client.pauses & Pause.HIDDEN
        self.feed(Event.SHOW if is_hidden else Event.HIDE)

    def calm(self, length_s):
        """Let each fetch be answered after a tenth of a second for so long."""
        for _ in range(int(length_s / 0.1)):
            self.wait(0.1)
            self.answer()


@settings(max_examples=300)
@given(rules=RULE_SETS, happenings=st.lists(st.tuples(GAPS_S, HAPPENINGS), min_size=8, max_size=25))
def test_a_client_whose_socket_stays_open_fetches_what_it_was_told_of(rules, happenings):
    """Unless the last try has failed; its safety polls go on, whatever has happened."""
    board = Board(rules)
    for gap_s, what in happenings:
        board.wait(gap_s)
        getattr(board, what)()
    board.calm(5.0)
    if board.client.pauses & Pause.DRAGGING:
        board.drag()
    if board.client.pauses & Pause.HIDDEN:
        board.tab()
    board.calm(15.0)
    assert board.client.seen == board.latest or board.given_up == board.latest
    if rules.safety_poll_s < NEVER_S:
        before = board.fetches
        board.calm(5.0)
        assert board.fetches - before >= 4
        assert board.client.seen == board.latest
    board.change()
    board.calm(5.0)
    assert board.client.seen == board.latest


RESTART = TOLD._replace(on_hint=OnHint.RESTART)


def test_who_restarts_gives_up_the_fetch_under_way():
    client, _ = open_client(RESTART)
    assert step(client, RESTART, Event.PUSH, 5.0, 1)[0] == Action.FETCH
    given_up = client.fetch_number
    assert step(client, RESTART, Event.PUSH, 5.5, 2)[0] == Action.FETCH | Action.GIVE_UP_FETCH
    assert not is_awaited(client, client.exchange, given_up)
    assert is_awaited(client, client.exchange, client.fetch_number)
    assert step(client, RESTART, Event.FETCHED, 7.0, 2)[0] == Action.NONE
    assert client.seen == 2
    assert not is_awaited(client, client.exchange, -client.fetch_number)


def test_the_numbers_of_fetches_begin_anew():
    client, _ = open_client(RESTART)
    client.fetch_number = 1 - FETCHES
    numbers = []
    for change in range(1, 4):
        step(client, RESTART, Event.PUSH, 5.0 + change, change)
        numbers.append(client.fetch_number)
    assert numbers == [FETCHES, 1, 2]
    assert np.iinfo(ROW["fetch_number"]).max == FETCHES


def test_who_restarts_after_a_wait_shows_what_comes_meanwhile():
    rules = RESTART._replace(spread_s=10.0)
    client, _ = open_client(rules)
    due_s = step(client, rules, Event.PUSH, 5.0, 1)[1]
    assert step(client, rules, Event.DEADLINE, due_s, 0)[0] == Action.FETCH
    again_s = step(client, rules, Event.PUSH, due_s + 0.1, 2)[1]
    assert due_s < again_s < NEVER_S
    assert step(client, rules, Event.PUSH, due_s + 0.1, 3) == (Action.NONE, again_s)  # joins it
    assert step(client, rules, Event.FETCHED, due_s + 0.1, 1) == (Action.NONE, again_s)
    assert client.seen == 1
    assert step(client, rules, Event.DEADLINE, again_s, 0)[0] == Action.FETCH
    step(client, rules, Event.FETCHED, again_s + 1.0, 3)
    assert client.seen == 3


@pytest.mark.parametrize(("retries", "base_s"), [(0, 1.0), (3, 60.0), (3, 0.01)])
def test_a_failure_during_the_wait_for_a_restart_loses_and_delays_nothing(retries, base_s):
    rules = RESTART._replace(spread_s=10.0, retries=retries, retry_base_s=base_s, retry_cap_s=60.0)
    client, _ = open_client(rules)
    due_s = step(client, rules, Event.PUSH, 5.0, 1)[1]
    step(client, rules, Event.DEADLINE, due_s, 0)
    again_s = step(client, rules, Event.PUSH, due_s + 0.1, 2)[1]
    expected_s = min(again_s, due_s + 0.2 + base_s) if retries else again_s
    assert step(client, rules, Event.FAILED, due_s + 0.2, 0) == (Action.NONE, expected_s)
    assert step(client, rules, Event.DEADLINE, expected_s, 0)[0] == Action.FETCH


@pytest.mark.parametrize("base_s", [0.01, 60.0])
def test_a_hidden_tab_does_not_lose_the_wait_for_a_restart(base_s):
    rules = RESTART._replace(spread_s=10.0, retries=3, retry_base_s=base_s, retry_cap_s=60.0)
    client, _ = open_client(rules)
    due_s = step(client, rules, Event.PUSH, 5.0, 1)[1]
    step(client, rules, Event.DEADLINE, due_s, 0)
    step(client, rules, Event.HIDE, due_s, 0)
    again_s = step(client, rules, Event.PUSH, due_s + 0.1, 2)[1]
    assert step(client, rules, Event.FAILED, due_s + 0.2, 0) == (Action.NONE, again_s)
    assert step(client, rules, Event.DEADLINE, again_s, 0)[0] == Action.FETCH


def test_a_wait_does_not_put_off_a_retry():
    rules = RESTART._replace(spread_s=10.0, retries=3, retry_base_s=1.0, retry_cap_s=30.0)
    client, _ = open_client(rules)
    due_s = step(client, rules, Event.PUSH, 5.0, 1)[1]
    step(client, rules, Event.DEADLINE, due_s, 0)
    retry_s = step(client, rules, Event.FAILED, due_s + 0.1, 0)[1]
    assert retry_s == due_s + 1.1
    assert step(client, rules, Event.PUSH, due_s + 0.2, 2) == (Action.NONE, retry_s)


def test_a_reply_that_has_it_all_ends_the_wait_for_a_restart():
    rules = RESTART._replace(spread_s=10.0)
    client, _ = open_client(rules)
    due_s = step(client, rules, Event.PUSH, 5.0, 1)[1]
    step(client, rules, Event.DEADLINE, due_s, 0)
    step(client, rules, Event.PUSH, due_s + 0.1, 2)
    assert step(client, rules, Event.FETCHED, due_s + 0.1, 2) == (Action.NONE, NEVER_S)


def test_who_restarts_does_not_wait_for_a_retry():
    rules = RESTART._replace(retries=3, retry_base_s=1.0, retry_cap_s=30.0)
    client, _ = open_client(rules)
    step(client, rules, Event.PUSH, 5.0, 1)
    assert step(client, rules, Event.FAILED, 6.0, 0) == (Action.NONE, 7.0)
    assert step(client, rules, Event.PUSH, 6.5, 2)[0] == Action.FETCH
    queued, _ = open_client(rules._replace(on_hint=OnHint.QUEUE_ONE))
    queue_one = rules._replace(on_hint=OnHint.QUEUE_ONE)
    step(queued, queue_one, Event.PUSH, 5.0, 1)
    step(queued, queue_one, Event.FAILED, 6.0, 0)
    assert step(queued, queue_one, Event.PUSH, 6.5, 2) == (Action.NONE, 7.0)


def test_a_drag_holds_a_restart_back_and_the_fetch_goes_on():
    rules = RESTART._replace(pause_while_dragging=True)
    client, _ = open_client(rules)
    step(client, rules, Event.PUSH, 5.0, 1)
    step(client, rules, Event.DRAG_START, 5.2, 0)
    assert step(client, rules, Event.PUSH, 5.5, 2)[0] == Action.NONE
    still = Client(0)
    for name in Client.__slots__:
        setattr(still, name, getattr(client, name))
    assert step(still, rules, Event.DRAG_END, 5.7, 0)[0] == Action.NONE  # it restarts nothing
    assert step(still, rules, Event.FETCHED, 6.0, 1)[0] == Action.FETCH
    assert step(client, rules, Event.FETCHED, 6.0, 1)[0] == Action.NONE
    assert step(client, rules, Event.DRAG_END, 9.0, 0)[0] == Action.FETCH
