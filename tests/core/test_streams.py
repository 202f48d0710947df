"""Server-sent events: what a client of a stream does, by EventSource's rules."""

from __future__ import annotations

import pytest

from simlib.core.client import step
from simlib.core.client_state import NEVER_S, Client
from simlib.core.connection import Connection, closes_with_frames, opening_request, refusal
from simlib.core.fallback import FallbackRules
from simlib.core.protocol import Action, Event, Heartbeat, State, Transport, is_stream
from simlib.core.reconnect import Policy, Reset
from simlib.core.streams import ENDED, heard_pings, sent_as
from simlib.core.wire import Message
from simlib.scenario import Scenario, compile_workload

RULES = compile_workload(Scenario(transport="sse", updates={"rate_per_s": 1.0}), 1, 0).rules
EVENT_SOURCE = RULES._replace(
    reconnect=RULES.reconnect._replace(policy=Policy.FIXED, base_s=3.0), open_timeout_s=60.0
)
STREAMS = [Transport.SSE, Transport.SSE_NOTIFY]


def opened(rules=EVENT_SOURCE, *, at=1.0, client=None):
    """A client whose stream has opened at a time."""
    client = client or Client(0)
    if client.state == State.ABSENT:
        step(client, rules, Event.START, 0.0)
    else:
        step(client, rules, Event.DEADLINE, client.deadline_s)
    for event in (Event.CONNECTED, Event.SECURED, Event.READY):
        step(client, rules, event, at)
    assert client.state == State.OPEN
    return client


def test_the_head_of_the_answer_opens_a_stream_and_nothing_is_said_after_it():
    client = Client(0)
    assert step(client, EVENT_SOURCE, Event.START, 0.0)[0] == Action.CONNECT
    assert step(client, EVENT_SOURCE, Event.CONNECTED, 0.1)[0] == Action.SECURE
    assert step(client, EVENT_SOURCE, Event.SECURED, 0.2)[0] == Action.UPGRADE
    assert step(client, EVENT_SOURCE, Event.READY, 0.3) == (Action.NONE, NEVER_S)
    assert client.state == State.OPEN


@pytest.mark.parametrize("transport", STREAMS)
def test_a_comment_is_not_answered_and_sets_no_timer(transport):
    client = opened(EVENT_SOURCE._replace(transport=transport))
    assert step(client, EVENT_SOURCE, Event.PING, 5.0) == (Action.NONE, NEVER_S)
    assert client.state == State.OPEN


def test_a_client_that_watches_takes_a_silent_stream_for_dead():
    rules = EVENT_SOURCE._replace(watches=True, heartbeat_interval_s=10.0, heartbeat_timeout_s=5.0)
    client = opened(rules)
    assert client.deadline_s == 16.0
    assert step(client, rules, Event.PING, 12.0)[1] == 27.0
    actions, deadline_s = step(client, rules, Event.DEADLINE, 27.0)
    assert actions & Action.CLOSE
    assert (client.state, deadline_s) == (State.WAITING, 30.0)


@pytest.mark.parametrize("status", [0, ENDED])
def test_a_stream_that_is_cut_or_ends_is_opened_again_after_the_same_wait_each_time(status):
    client = opened()
    for k in range(1, 4):
        assert step(client, EVENT_SOURCE, Event.CLOSED, 10.0 * k, status)[1] == 10.0 * k + 3.0
        opened(client=client, at=10.0 * k + 3.2)


@pytest.mark.parametrize("status", [401, 403, 503])
def test_an_error_of_http_is_final_to_event_source_and_not_to_fetching_clients(status):
    fetching = EVENT_SOURCE._replace(retries_http_errors=True)
    ends = {}
    for name, rules in (("eventsource", EVENT_SOURCE), ("fetch", fetching)):
        client = Client(0)
        for event in (Event.START, Event.CONNECTED, Event.SECURED):
            step(client, rules, event, 0.0)
        step(client, rules, Event.CLOSED, 1.0, status)
        ends[name] = State(client.state)
    assert ends == {"eventsource": State.STRANDED, "fetch": State.WAITING}


def test_a_proper_end_is_final_to_who_says_so():
    rules = EVENT_SOURCE._replace(retries_ended=False)
    client = opened(rules)
    assert step(client, rules, Event.CLOSED, 5.0, ENDED) == (Action.CLOSE, NEVER_S)
    assert client.state == State.STRANDED
    cut = opened(rules)
    step(cut, rules, Event.CLOSED, 5.0, 0)
    assert cut.state == State.WAITING


def test_who_falls_back_polls_after_a_final_answer():
    always = FallbackRules(True, 99, NEVER_S, NEVER_S, 1.0, NEVER_S)
    rules = EVENT_SOURCE._replace(fallback=always)
    client = Client(0)
    for event in (Event.START, Event.CONNECTED, Event.SECURED):
        step(client, rules, event, 0.0)
    actions, _ = step(client, rules, Event.CLOSED, 1.0, 503)
    assert actions == Action.CLOSE | Action.FETCH
    assert client.transport == Transport.POLLING


@pytest.mark.parametrize(("reset", "failures"), [(Reset.TRANSPORT, 0), (Reset.NEVER, 2)])
def test_the_head_counts_as_the_transport_that_is_up(reset, failures):
    rules = EVENT_SOURCE._replace(reconnect=EVENT_SOURCE.reconnect._replace(reset=reset))
    client = opened(rules)
    for t in (10.0, 20.0):
        step(client, rules, Event.CLOSED, t)
        opened(rules, client=client, at=t + 4.0)
    assert client.failures == failures


def test_no_client_of_a_stream_pings_whatever_a_cohorts_rules_say():
    for transport in STREAMS:
        assert heard_pings(transport, Heartbeat.CLIENT, True) == Heartbeat.NONE
    rules = EVENT_SOURCE._replace(heartbeat=Heartbeat.CLIENT, watches=True)
    assert opened(rules).deadline_s == NEVER_S


def test_the_next_request_names_the_last_event_until_another_event_source_is_made():
    client, link = Client(0), Connection(0)
    client.transport = Transport.SSE
    assert opening_request(client, link) == Message.STREAM_REQUEST
    link.has_upgraded = True
    client.state = State.WAITING
    assert not closes_with_frames(client, link, Transport.SSE, True)
    assert opening_request(client, link) == Message.STREAM_REQUEST_AGAIN
    client.state = State.FETCHING  # it has fallen back
    assert not closes_with_frames(client, link, Transport.SSE, False)
    assert opening_request(client, link) == Message.STREAM_REQUEST


def test_messages_of_a_stream_stand_for_those_of_a_websocket():
    down = (Message.PUSH, Message.SNAPSHOT, Message.READY, Message.NOTICE, Message.PING_DOWN)
    for message in down:
        assert sent_as(Transport.WEBSOCKET, message) == message
        assert Message(sent_as(Transport.SSE, message)).name.startswith("STREAM_")
    assert sent_as(Transport.SSE, Message.POLL_REQUEST) == Message.POLL_REQUEST
    assert refusal(Transport.SSE, 401) == Message.STREAM_UNAUTHORIZED
    assert refusal(Transport.SSE, 503) == Message.STREAM_REFUSED
    assert refusal(Transport.WEBSOCKET, 503) == Message.UPGRADE_REFUSED
    streams = [transport for transport in Transport if is_stream(transport)]
    assert streams == [Transport.SSE, Transport.SSE_NOTIFY]
