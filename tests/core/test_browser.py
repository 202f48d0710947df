"""The browser's limit: first come, first served, and nothing is used twice or left over."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.core import browser
from simlib.core.browser import BESIDE, CLAIMS, MAIN, NO_KEY, BrowserRules, Claim, Pool
from simlib.core.client_state import Client
from simlib.core.protocol import State, Transport

TABS = 4


class Browser:
    """A user's tabs, and beside them a queue as one would write it down."""

    def __init__(self, connections):
        self.rules = BrowserRules(connections, TABS, 1)
        self.pool, self.claims = Pool(), [Claim() for _ in range(CLAIMS * TABS)]
        self.record = SimpleNamespace(queued_s=np.zeros(TABS))
        self.queue, self.using = [], []
        self.now, self.key, self.waited_s = 0.0, 0, np.zeros(TABS)
        self.asked_s = {}

    def ask(self, place, n):
        self.give_back(place)
        self.key += 1
        self.asked_s[place] = self.now
        self.queue += [place] * n
        set_out = self.serve()
        is_first = browser.ask(self.rules, self.pool, self.claims[place], self.key, n, self.now)
        assert is_first == (place in set_out)

    def give_back(self, place):
        had = place in self.using or place in self.queue
        if place in self.queue and place not in self.using:
            self.waited_s[place // CLAIMS] += self.now - self.asked_s[place]
        self.queue = [other for other in self.queue if other != place]
        self.using = [other for other in self.using if other != place]
        claim = self.claims[place]
        where = self.record, place // CLAIMS, self.now
        assert browser.settle(self.pool, claim, NO_KEY, *where) == had
        served = self.serve()
        while (found := self.next()) >= 0:
            if self.claims[found].held == 1:
                served.remove(found)
                assert browser.may_set_out(self.claims[found], self.claims[found].key)
                browser.set_out(self.claims[found], self.record, found // CLAIMS, self.now)
                self.waited_s[found // CLAIMS] += self.now - self.asked_s[found]
        assert served == []

    def next(self):
        return browser.next_in_line(self.rules, self.pool, self.claims, 0, len(self.claims))

    def serve(self):
        """Move who is first into use; return who sets out."""
        set_out = []
        while self.queue and len(self.using) < self.rules.connections:
            place = self.queue.pop(0)
            if place not in self.using:
                set_out.append(place)
            self.using.append(place)
        return set_out


@given(
    connections=st.integers(1, 6),
    steps=st.lists(
        st.tuples(st.integers(0, CLAIMS * TABS - 1), st.integers(0, 4)), min_size=1, max_size=60
    ),
)
def test_who_asks_first_is_first_whatever_is_given_back_in_between(connections, steps):
    tabs = Browser(connections)
    for place, n in steps:
        tabs.now += 1.0
        if n == 0:
            tabs.give_back(place)
        else:
            tabs.ask(place, n)
        assert [claim.held for claim in tabs.claims] == [
            tabs.using.count(place) for place in range(len(tabs.claims))
        ]
        assert tabs.pool.used == len(tabs.using) <= connections
        assert tabs.pool.waiting == len(tabs.queue)
        assert not tabs.queue or len(tabs.using) == connections
        assert tabs.record.queued_s.tolist() == tabs.waited_s.tolist()


def client_in(state, transport, fetch_number=0):
    client = Client(0)
    client.exchange, client.state, client.transport = 7, state, transport
    client.fetch_number = fetch_number
    return client


STREAMS = (Transport.SSE, Transport.SSE_NOTIFY)


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("state", list(State))
def test_a_client_needs_a_connection_for_its_request_and_for_its_stream_alone(state, transport):
    client = client_in(state, transport)
    is_on_stream = transport in STREAMS and State.CONNECTING <= state <= State.OPEN
    needs = state == State.FETCHING or is_on_stream
    assert browser.key_of(client, MAIN) == (7 if needs else NO_KEY)
    assert browser.key_of(client, BESIDE) == NO_KEY


@pytest.mark.parametrize("transport", list(Transport))
def test_a_fetch_beside_an_open_socket_needs_one_of_its_own(transport):
    fetches = transport in (Transport.NOTIFY, Transport.SSE_NOTIFY)
    for number, is_under_way in ((3, True), (-3, False)):
        client = client_in(State.OPEN, transport, number)
        wanted = number if fetches and is_under_way else NO_KEY
        assert browser.key_of(client, BESIDE) == wanted
    assert browser.place_asked(client) == BESIDE
    assert browser.connections_asked(BrowserRules(6, 1, 2), client) == 1


@pytest.mark.parametrize("transport", [each for each in Transport if each != Transport.POLLING])
def test_a_stream_asks_for_all_streams_of_its_tab_and_a_websocket_for_nothing(transport):
    client = client_in(State.CONNECTING, transport)
    asked = browser.connections_asked(BrowserRules(6, 1, 3), client)
    assert asked == (3 if transport in STREAMS else 0)
    assert browser.place_asked(client) == MAIN


def test_a_request_that_was_given_up_does_not_set_out():
    claim, pool, rules = Claim(), Pool(), BrowserRules(1, 2, 1)
    assert browser.ask(rules, pool, Claim(), 1, 1, 0.0)
    assert not browser.ask(rules, pool, claim, 5, 1, 0.0)
    assert not browser.may_set_out(claim, 5)  # it waits
    pool.used = 0
    assert browser.next_in_line(rules, pool, [claim], 0, 1) == 0
    assert browser.may_set_out(claim, 5)
    assert not browser.may_set_out(claim, 4)  # of another exchange
