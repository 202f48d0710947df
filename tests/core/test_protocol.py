"""The transition table: every cell, against a listing of its own."""

from __future__ import annotations

import re

import pytest

from simlib.core import protocol
from simlib.core.client import step
from simlib.core.client_state import Client
from simlib.core.protocol import EVENTS, TRANSITIONS, Event, State, Transport, transition_table
from simlib.errors import ProtocolError
from simlib.scenario import Scenario, compile_workload

USER = "DRAG_START DRAG_END HIDE SHOW ASSIGNED"
LISTING = {
    "ABSENT": {"START": "IDLE"},
    "IDLE": {"DEADLINE": "IDLE", "FETCH": "FETCHING", "CONNECT": "CONNECTING"},
    "FETCHING": {
        "DEADLINE": "FETCHING",
        "FETCHED": "IDLE",
        "UNCHANGED": "IDLE",
        "FAILED": "RETRYING",
    },
    "RETRYING": {"DEADLINE": "RETRYING", "FETCH": "FETCHING", "EXHAUST": "IDLE"},
    "CONNECTING": {"DEADLINE": "CONNECTING", "CONNECTED": "SECURING"},
    "SECURING": {"DEADLINE": "SECURING", "SECURED": "UPGRADING"},
    "UPGRADING": {"DEADLINE": "UPGRADING", "UPGRADED": "AUTHENTICATING", "READY": "OPEN"},
    "AUTHENTICATING": {
        "DEADLINE": "AUTHENTICATING",
        "PING": "AUTHENTICATING",
        "READY": "OPEN",
        "REJECTED": "STRANDED",
    },
    "OPEN": dict.fromkeys(
        (
            *("DEADLINE", "SNAPSHOT", "REPLAY", "PUSH", "PING", "PONG"),
            *("FETCHED", "UNCHANGED", "FAILED"),
        ),
        "OPEN",
    ),
    "WAITING": {
        "DEADLINE": "WAITING",
        "FETCH": "FETCHING",
        "CONNECT": "CONNECTING",
        "GIVE_UP": "STRANDED",
        "FALL_BACK": "IDLE",
    },
    "STRANDED": {},
    "GONE": {},
}
for name in ("FETCHING", "CONNECTING", "SECURING", "UPGRADING", "AUTHENTICATING", "OPEN"):
    LISTING[name] |= {"CLOSED": "WAITING", "TIME_OUT": "WAITING"}
for name, row in LISTING.items():
    if name not in ("ABSENT", "GONE"):
        row |= dict.fromkeys(USER.split(), name) | {"STOP": "GONE", "SWITCH": "IDLE"}

CELLS = [(state, event) for state in State for event in Event]
ILLEGAL = [(s, e) for s, e in CELLS if e.name not in LISTING[s.name] or e >= Event.FETCH]
RULES = compile_workload(Scenario(updates={"rate_per_s": 1.0}), 1, 0).rules


@pytest.mark.parametrize(("state", "event"), CELLS)
def test_each_cell_is_as_listed(state, event):
    expected = LISTING[state.name].get(event.name)
    got = transition_table()[state * EVENTS + event]
    assert got == (protocol.ILLEGAL if expected is None else State[expected])


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_event_raises_and_names_client_event_and_state(state, event):
    client = Client(41)
    client.state = state
    with pytest.raises(ProtocolError, match=re.escape("client 41")) as error:
        step(client, RULES, event, 1.0)
    assert event.name in str(error.value)
    assert state.name in str(error.value)
    assert client.state == state


@pytest.mark.parametrize("event", [Event.FETCHED, Event.UNCHANGED, Event.FAILED])
def test_replies_beside_an_open_socket_are_for_clients_that_fetch_what_they_are_told_of(event):
    rules = RULES._replace(transport=Transport.WEBSOCKET)
    client = Client(41)
    client.state, client.transport = State.OPEN, Transport.WEBSOCKET
    with pytest.raises(ProtocolError, match=f"client 41: event {event.name} is illegal"):
        step(client, rules, event, 1.0)


def test_every_state_can_be_reached_and_only_gone_is_final():
    reached, frontier = {State.ABSENT}, [State.ABSENT]
    while frontier:
        for target in TRANSITIONS[frontier.pop()].values():
            if target is not None and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(State)
    assert [state for state in State if not TRANSITIONS[state]] == [State.GONE]
