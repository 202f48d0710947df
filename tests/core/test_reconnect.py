"""Delays before an attempt: the textbook's, and those of real libraries, recorded from them."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from itertools import accumulate, repeat
from pathlib import Path

import numpy as np
import pytest
import websockets.client
from hypothesis import given
from hypothesis import strategies as st

from simlib import theory
from simlib.core.client import step
from simlib.core.client_state import Client
from simlib.core.draws import Stream, uniforms
from simlib.core.protocol import Action, Event, State, Transport
from simlib.core.reconnect import (
    MOST_DELAYS,
    POLICIES,
    Policy,
    ReconnectRules,
    Reset,
    decorrelated_s,
    delay_s,
    doubled_s,
    drawn_delay_s,
    is_drawn,
    longest_delay_s,
)
from simlib.scenario import Scenario, compile_workload
from simlib.scenario.presets import LIBRARIES, library
from simlib.scenario.workload import reconnection

RECORDED = json.loads(
    (Path(__file__).parents[2] / "data/measured/reconnect.json").read_text(encoding="utf-8")
)
BOARD = Scenario(transport="websocket", updates={"rate_per_s": 0.1})
CLIENTS, ATTEMPTS = 8_000, 13
K = np.arange(ATTEMPTS)
TEXTBOOK = {
    "exponential": {"policy": "exponential", "base_s": 0.5, "cap_s": 20.0, "factor": 1.5},
    "full_jitter": {"policy": "full_jitter", "base_s": 0.5, "cap_s": 20.0},
    "equal_jitter": {"policy": "equal_jitter", "base_s": 0.5, "cap_s": 20.0},
    "decorrelated_jitter": {"policy": "decorrelated_jitter", "base_s": 0.5, "cap_s": 20.0},
    "proportional_jitter": {
        "policy": "proportional_jitter",
        "base_s": 0.5,
        "cap_s": 20.0,
        "jitter_frac": 0.25,
    },
    "additive_jitter": {
        "policy": "additive_jitter",
        "base_s": 1.0,
        "cap_s": 20.0,
        "jitter_from_s": 0.3,
        "jitter_s": 3.0,
    },
}


def rule_of(name):
    """The rule of a preset, or of a textbook policy."""
    changes = TEXTBOOK.get(name)
    if changes is None:
        return reconnection(BOARD.replace(library(name)).reconnect)
    return reconnection(BOARD.replace({f"reconnect.{k}": v for k, v in changes.items()}).reconnect)


def chain(base, factor):
    return np.array(
        list(accumulate(repeat(factor, ATTEMPTS - 1), lambda x, f: x * f, initial=base))
    )


def socketio(u):
    ms = 1000.0 * 2.0**K
    deviation = np.floor(u * 0.5 * ms)
    sign = np.where(np.floor(10 * u).astype(int) & 1, 1.0, -1.0)
    return np.floor(np.minimum(ms + sign * deviation, 5000.0)) / 1000.0


def decorrelated(u):
    before, columns = np.full(len(u), 0.5), []
    for k in K:
        before = np.minimum(20.0, 0.5 + u[:, k] * (3.0 * before - 0.5))
        columns.append(before)
    return np.stack(columns, axis=1)


def actioncable(u):
    growth = np.array([RECORDED_GROWTH[min(k, 10)] for k in K])
    return np.floor(6000.0 * growth * (1.0 + np.where(K == 0, 1.0, 0.15) * u)) / 1000.0


RECORDED_GROWTH = [float(1.15**k) for k in range(11)]
RECORDED_GROWTH[8] = math.nextafter(RECORDED_GROWTH[8], 0.0)  # as V8 has it, see the recording


def centrifuge(u):
    reach = np.floor(u * (np.minimum(20_000.0, 500.0 * 2.0**K) + 1.0))
    return np.minimum(20_000.0, 500.0 + reach) / 1000.0


FORMULAS = {
    "exponential": lambda u: np.minimum(chain(0.5, 1.5), 20.0) + 0.0 * u,
    "full_jitter": lambda u: u * np.minimum(0.5 * 2.0**K, 20.0),
    "equal_jitter": lambda u: (1.0 + u) * np.minimum(0.5 * 2.0**K, 20.0) / 2.0,
    "decorrelated_jitter": decorrelated,
    "proportional_jitter": lambda u: np.minimum(0.5 * 2.0**K, 20.0) * (0.75 + 0.5 * u),
    "additive_jitter": lambda u: np.minimum(2.0**K, 20.0) + 0.3 + 2.7 * u,
    "socket.io-client": socketio,
    "socket.io-client, 5 attempts": socketio,
    "guide: connect() in 'disconnect'": lambda u: 0.0 * u,
    "guide: reconnection off, retry in 'disconnect'": lambda u: 1.0 + 0.0 * u,
    "guide: native WebSocket, 1 s, 5 attempts": lambda u: 1.0 + 0.0 * u,
    "eventsource": lambda u: 3.0 + 0.0 * u,
    "fetch-event-source": lambda u: 1.0 + 0.0 * u,
    "phoenix": lambda u: np.array(
        [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0] + 0.0 * u
    ),
    "signalr": lambda u: np.array([0.0, 2.0, 10.0, 30.0] + [30.0] * 9) + 0.0 * u,
    "actioncable": actioncable,
    "centrifuge": centrifuge,
    "websockets": lambda u: np.where(
        K == 0, 5.0 * u, np.minimum(90.0, np.roll(chain(3.1, 1.618), 1))
    ),
    "graphql-ws": lambda u: np.minimum(2.0**K, 16.0) + 0.3 + 2.7 * u,
    "graphql-ws, shouldRetry: () => true": lambda u: np.minimum(2.0**K, 16.0) + 0.3 + 2.7 * u,
    "python-socketio": lambda u: np.minimum(5.0, 2.0**K) + 0.5 * (2.0 * u - 1.0),
}


def delays_of(rule, row):
    """One client's delays for its uniform draws."""
    if rule.policy != Policy.DECORRELATED_JITTER:
        return [delay_s(rule, k, u) for k, u in enumerate(row)]
    return list(accumulate(row, lambda s, u: decorrelated_s(rule, s, u), initial=rule.base_s))[1:]


@pytest.mark.parametrize("name", FORMULAS)
def test_a_hundred_thousand_delays_follow_the_formula(name):
    rule = rule_of(name)
    clients = np.arange(CLIENTS, dtype=np.uint64)[:, None]
    u = uniforms(5, 2, clients, Stream.BACKOFF, K.astype(np.uint64)[None, :])
    ours = [delays_of(rule, row) for row in u.tolist()]
    # Some kinds of jitter are added up in another order here.
    np.testing.assert_allclose(ours, FORMULAS[name](u), rtol=8e-16, atol=0.0)
    drawn = [[drawn_delay_s(rule, k, 5, 2, client, k) for k in K.tolist()] for client in range(20)]
    assert drawn == ours[:20]


def test_every_library_that_reconnects_is_checked():
    tries = {name for name in LIBRARIES if rule_of(name).policy != Policy.NONE}
    assert tries == set(FORMULAS) - set(TEXTBOOK)


@pytest.mark.parametrize("name", RECORDED["delays"])
def test_delays_are_those_of_the_real_package_to_the_millisecond(name):
    rule = rule_of(name)
    rows = RECORDED["delays"][name]
    ours = [1000.0 * delay_s(rule, k, u) for k, u, _ in rows]
    if name == "graphql-ws":  # it rounds down, the policy does not
        ours = [math.floor(ms) for ms in ours]
    assert [round(ms) for ms in ours] == [ms for *_, ms in rows]


def test_graphql_ws_gives_up_where_its_recorded_waits_end():
    most = 1 + max(k for k, *_ in RECORDED["delays"]["graphql-ws"])
    assert rule_of("graphql-ws, shouldRetry: () => true").attempts == most == 5
    assert rule_of("graphql-ws").attempts == 1


def test_signalr_gives_up_where_its_table_ends():
    assert rule_of("signalr").attempts == len(RECORDED["delays"]["signalr"])


def test_delays_are_those_of_the_installed_websockets(monkeypatch):
    monkeypatch.setattr(websockets.client.random, "random", lambda: 0.25)
    real = websockets.client.backoff()
    assert [delay_s(rule_of("websockets"), k, 0.25) for k in range(20)] == [
        next(real) for _ in range(20)
    ]


@cache
def rules_of(name):
    return compile_workload(BOARD.replace(library(name)), 3, 0).rules


def attempt_times(name, client, until_s):
    """When a client of a library tries a server that is not there, seconds from its start."""
    rules = rules_of(name)
    row, times = Client(client), []
    step(row, rules, Event.START, 0.0)
    step(row, rules, Event.CLOSED, 0.0)
    while row.state == State.WAITING and row.deadline_s < until_s:
        times.append(row.deadline_s)
        step(row, rules, Event.DEADLINE, row.deadline_s)
        step(row, rules, Event.CLOSED, times[-1])
    return times


def test_attempts_come_when_those_of_a_real_socketio_client_do():
    real = [times[:8] for times in RECORDED["attempts_s"]]
    ours = np.array([attempt_times("socket.io-client", number, 60.0)[:8] for number in range(4000)])
    for k, measured in enumerate(np.transpose(real)):
        # A real attempt takes a few milliseconds, and timers come late.
        late_s = 0.012 * (k + 1)
        error_s = 4 * theory.standard_error(measured)
        assert -error_s <= measured.mean() - ours[:, k].mean() <= late_s + error_s


def test_five_attempts_are_made_and_no_more_as_by_the_real_client():
    ours = attempt_times("socket.io-client, 5 attempts", 0, 1e6)
    assert len(ours) == len(RECORDED["limited_attempts_s"]) == 5


@given(base_s=st.floats(0.01, 10.0), k=st.integers(0, 2000), cap_s=st.floats(0.01, 100.0))
def test_ceilings_double_up_to_the_cap(base_s, k, cap_s):
    assert doubled_s(base_s, k, cap_s) == pytest.approx(min(base_s * 2.0 ** min(k, 60), cap_s))


# -- rows -----------------------------------------------------------------------------------------

PLAIN = {
    "base_s": 0.7,
    "cap_s": 5.0,
    "factor": 1.7,
    "jitter_frac": 0.4,
    "jitter_from_s": 0.1,
    "jitter_s": 0.6,
    "delays_s": tuple(0.1 * k for k in range(MOST_DELAYS)),
}
OTHER = {
    "base_s": 0.9,
    "cap_s": 3.0,
    "factor": 1.4,
    "jitter_frac": 0.3,
    "jitter_from_s": 0.2,
    "jitter_s": 0.8,
    "delays_s": tuple(0.2 * k for k in range(MOST_DELAYS)),
}


def drawn(policy, seed=1, **changes):
    """A client's first delays under a policy."""
    limits = {"attempts": 9, "give_up_s": 60.0, "from_start": True, "reset": 0, "stable_s": 0.0}
    rule = ReconnectRules(policy, **{**PLAIN, **changes}, **limits)
    return [drawn_delay_s(rule, k, seed, 0, 7, k) for k in range(8)]


def test_every_policy_has_one_row():
    assert [row.policy for row in POLICIES.values()] == list(Policy)
    assert list(POLICIES) == [policy.name.lower() for policy in Policy]


@pytest.mark.parametrize("name", [name for name, row in POLICIES.items() if row.retries])
def test_a_policys_delays_depend_on_what_its_row_says_and_on_nothing_else(name):
    row = POLICIES[name]
    told = {name for name in PLAIN if drawn(row.policy, **{name: OTHER[name]}) != drawn(row.policy)}
    assert told == set(row.reads)
    assert (drawn(row.policy, seed=2) != drawn(row.policy)) == row.is_drawn == is_drawn(row.policy)
    # A row without a branch of its own would wait as another does.
    others = [drawn(other.policy) for other in POLICIES.values() if other.retries]
    assert others.count(drawn(row.policy)) == 1


@pytest.mark.parametrize("name", FORMULAS)
def test_the_longest_delay_is_the_most_that_any_draw_gives(name):
    rule = rule_of(name)
    almost_1 = math.nextafter(1.0, 0.0)
    late = delays_of(rule, [almost_1] * 60)
    assert longest_delay_s(rule) == pytest.approx(max(late), abs=0.0011)  # some round down to 1 ms


def test_jitter_after_the_cap_keeps_late_attempts_apart():
    u = np.array([0.0, 0.25, 0.5, 0.75, math.nextafter(1.0, 0.0)])
    late = {
        name: [delay_s(rule_of(name), 30, x) for x in u]
        for name in ("exponential", "proportional_jitter", "additive_jitter")
    }
    assert set(late["exponential"]) == {20.0}
    assert late["proportional_jitter"] == pytest.approx(20.0 * (0.75 + 0.5 * u))
    assert late["additive_jitter"] == pytest.approx(20.3 + 2.7 * u)


def test_the_reference_lists_the_policies():
    text = (Path(__file__).parents[2] / "data" / "reference.md").read_text(encoding="utf-8")
    listed = text.partition("Reconnect policies: ")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", listed) == list(POLICIES)


# -- what else a library's client does ------------------------------------------------------------


def client_of(name, *events, **changes):
    """A client of a library after events at 0 s; and its rules, without TLS."""
    board = BOARD.replace({**library(name), "network.tls": False, **changes})
    rules, client = compile_workload(board, 3, 0).rules, Client(0)
    for event in (Event.START, *events):
        step(client, rules, event, 0.0)
    return client, rules


CONNECTED = (Event.CONNECTED,)
UPGRADED = (*CONNECTED, Event.UPGRADED)
OPEN = (*UPGRADED, Event.READY)


@pytest.mark.parametrize(
    ("name", "in_tcp_s", "in_upgrade_s", "before_ready_s"),
    [
        ("socket.io-client", 20.0, 20.0, 20.0),
        ("native WebSocket", 240.0, 240.0, 240.0),
        ("sockjs-client", 0.68, 0.68, 0.68),
        ("phoenix", 240.0, 240.0, 240.0),
        ("signalr", 100.0, 240.0, 30.0),
        ("centrifuge", 5.0, 5.0, 5.0),
        ("websockets", 10.0, 10.0, 10.0),
        ("python-socketio", 5.0, 5.0, 1.0),
    ],
)
def test_an_attempt_lasts_as_long_as_each_of_its_stages_may(
    name, in_tcp_s, in_upgrade_s, before_ready_s
):
    for events, expected in (((), in_tcp_s), (CONNECTED, in_upgrade_s), (UPGRADED, before_ready_s)):
        client, rules = client_of(name, *events)
        assert client.deadline_s == expected
        step(client, rules, Event.DEADLINE, expected)
        assert client.state in (State.WAITING, State.STRANDED)


@pytest.mark.parametrize(
    ("name", "again"),
    [("python-socketio", False), ("signalr", False), ("graphql-ws", False), ("websockets", True)],
)
def test_a_first_connection_that_fails_is_tried_again_or_not(name, again):
    client, _ = client_of(name, Event.CLOSED)
    assert (client.state == State.WAITING) == again


@pytest.mark.parametrize(("status", "stays"), [(403, False), (429, False), (503, True), (0, True)])
def test_an_answer_4xx_ends_the_loop_of_websockets_and_no_other(status, stays):
    for name in FORMULAS:
        if name in TEXTBOOK:
            continue
        client, rules = client_of(name, *OPEN)
        step(client, rules, Event.CLOSED, 10.0)
        step(client, rules, Event.DEADLINE, client.deadline_s)
        step(client, rules, Event.CONNECTED, 50.0)
        attempts = rules.reconnect.attempts
        step(client, rules, Event.CLOSED, 50.0, status)
        is_kept = client.state == State.WAITING
        assert is_kept == (attempts > 1 and (stays or name != "websockets")), name


def test_a_library_that_gives_up_for_an_answer_falls_back_where_the_application_does():
    client, rules = client_of("websockets", *CONNECTED, fallback={"after_failures": 99})
    step(client, rules, Event.CLOSED, 1.0, 403)
    assert (client.state, client.transport) == (State.FETCHING, Transport.POLLING)


@pytest.mark.parametrize(
    ("name", "wait_s"), [("websockets", 0.0), ("phoenix", 0.01), ("python-socketio", None)]
)
def test_who_accepts_and_closes_at_once_is_asked_again_at_once(name, wait_s):
    """Measured on websockets 17.4: 3503 connections in 2 s; on phoenix 1.8.16: 83 in a second."""
    client, rules = client_of(name, *OPEN)
    step(client, rules, Event.CLOSED, 1.0)
    now, waits_s = 1.0, []
    for _ in range(20):
        waits_s.append(client.deadline_s - now)
        now = client.deadline_s
        for event in (Event.DEADLINE, *UPGRADED):
            step(client, rules, event, now)
        now += 0.001
        step(client, rules, Event.CLOSED, now)
    if wait_s is None:  # the count goes on until a session is there
        assert min(waits_s[3:]) >= 4.5
    else:
        assert waits_s == pytest.approx([wait_s] * 20)
    assert client.state == State.WAITING


def test_websockets_waits_after_an_attempt_that_was_not_accepted():
    client, rules = client_of("websockets", *OPEN)
    step(client, rules, Event.CLOSED, 1.0)
    assert client.deadline_s == 1.0
    step(client, rules, Event.DEADLINE, 1.0)
    step(client, rules, Event.CLOSED, 1.0)
    assert 1.0 < client.deadline_s < 6.0
    step(client, rules, Event.DEADLINE, client.deadline_s)
    step(client, rules, Event.CLOSED, 7.0)
    assert client.deadline_s == pytest.approx(10.1)


def test_phoenix_on_a_silent_path_tries_again_after_61_5_s_and_a_wait():
    client, rules = client_of("phoenix", *OPEN)
    assert step(client, rules, Event.DEADLINE, 30.0)[0] == Action.SEND_PING
    assert step(client, rules, Event.DEADLINE, 60.0)[0] == Action.CLOSE
    assert client.deadline_s == pytest.approx(61.51)


def actioncable_tries_s(number, is_closed, failing_s=0.0, rules=None):
    """When a client of ActionCable, pinged every 3 s, tries again after its connection is lost."""
    client, (_, rules_of_all) = Client(number), client_of("actioncable")
    rules, chance = rules or rules_of_all, np.random.default_rng(number)
    lost_s = 60.0 + 60.0 * chance.random()
    for event in (Event.START, *OPEN):
        step(client, rules, event, 0.1 if event == Event.READY else 0.0)
    happens = [(0.1 + 3.0 * k, Event.PING) for k in range(1, 40) if 0.1 + 3.0 * k < lost_s]
    if is_closed:
        happens.append((lost_s, Event.CLOSED))
    tries_s = []
    while not tries_s or tries_s[-1] < failing_s:
        t, event = min([*happens, (client.deadline_s, Event.DEADLINE)])
        happens = [entry for entry in happens if entry != (t, event)]
        if step(client, rules, event, t)[0] & Action.CONNECT:
            tries_s.append(t - lost_s)
            step(client, rules, Event.CLOSED, t)
    return tries_s


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_attempts_come_when_those_of_a_real_actioncable_client_do(how):
    real = np.array(RECORDED["actioncable_first_attempt_s"][how])
    ours = np.array([actioncable_tries_s(number, how == "closed")[0] for number in range(1000)])
    grid = np.sort(np.concatenate((real, ours)))
    shares = [np.searchsorted(np.sort(x), grid, "right") / len(x) for x in (real, ours)]
    # Kolmogorov and Smirnov's distance at a level of 0.1 %.
    most = 1.95 * math.sqrt(1.0 / len(real) + 1.0 / len(ours))
    assert np.abs(shares[0] - shares[1]).max() < most
    assert min(ours) > (6.0 if how == "closed" else 3.5)
    assert max(ours) < (18.0 if how == "closed" else 18.5)


def test_later_looks_of_actioncable_follow_its_recorded_intervals():
    tries_s = np.array([actioncable_tries_s(number, True, 200.0)[:9] for number in range(60)])
    waits_s = np.diff(tries_s, axis=1)
    for k in range(waits_s.shape[1]):
        # One or two looks have found it stale before the first attempt.
        shortest_s = [6.0 * RECORDED_GROWTH[min(k + n, 10)] for n in (1, 2)]
        assert (waits_s[:, k] > shortest_s[0] - 0.0011).all()
        assert (waits_s[:, k] < 1.15 * shortest_s[1]).all()


def test_looks_cost_no_more_however_long_a_connection_was_open_or_short_they_are():
    rules = client_of("actioncable")[1]
    for base_s in (6.0, 1e-4):
        quick = rules._replace(reconnect=rules.reconnect._replace(base_s=base_s))
        client = Client(0)
        for event in (Event.START, *OPEN):
            step(client, quick, event, 0.0)
        step(client, quick, Event.PING, 1e7)
        step(client, quick, Event.CLOSED, 1e7)
        assert client.draws < 200
        assert 1e7 + base_s <= client.deadline_s < 1e7 + 6.0 + 12.0


@pytest.mark.parametrize("name", ["phoenix", "socket.io-client"])
def test_a_hidden_tab_of_phoenix_does_not_reconnect_until_it_is_shown(name):
    client, rules = client_of(name, *OPEN)
    waits = name == "phoenix"
    step(client, rules, Event.HIDE, 5.0)
    assert client.state == State.OPEN
    step(client, rules, Event.CLOSED, 10.0)
    assert client.deadline_s < 12.0
    actions, deadline_s = step(client, rules, Event.DEADLINE, client.deadline_s)
    assert (actions == Action.NONE) == waits
    if not waits:
        return
    assert deadline_s == math.inf
    assert step(client, rules, Event.SHOW, 400.0) == (Action.NONE, 400.0)
    actions, deadline_s = step(client, rules, Event.DEADLINE, 400.0)
    assert (actions, deadline_s) == (Action.CONNECT, 640.0)
    for number in range(3):  # the count has started anew
        step(client, rules, Event.CLOSED, 401.0 + number)
        wait_s = client.deadline_s - (401.0 + number)
        assert wait_s == pytest.approx((0.01, 0.05, 0.1)[number])
        step(client, rules, Event.DEADLINE, client.deadline_s)


def test_a_tab_of_phoenix_that_is_shown_while_it_waits_tries_at_once():
    client, rules = client_of("phoenix", Event.HIDE)
    for t in range(1, 9):
        step(client, rules, Event.CLOSED, float(t))
        if t < 8:
            step(client, rules, Event.SHOW, float(t))
            step(client, rules, Event.HIDE, float(t))
            step(client, rules, Event.DEADLINE, float(t))
            assert client.state == State.WAITING
            step(client, rules, Event.SHOW, float(t))
            step(client, rules, Event.DEADLINE, float(t))
            assert client.state == State.CONNECTING


# -- giving up, and starting anew -----------------------------------------------------------------


def client_with(**changes):
    base = compile_workload(BOARD.replace({"network.tls": False}), 1, 0).rules
    rules = base._replace(reconnect=base.reconnect._replace(policy=Policy.FIXED, **changes))
    assert rules.transport == Transport.WEBSOCKET
    return Client(0), rules


def connect(client, rules, now):
    if client.state == State.WAITING:
        step(client, rules, Event.DEADLINE, now)
    for event in (Event.CONNECTED, Event.UPGRADED, Event.READY):
        step(client, rules, event, now)


def fail(client, rules, now):
    step(client, rules, Event.DEADLINE, now)
    step(client, rules, Event.CLOSED, now)


@pytest.mark.parametrize(
    ("limit", "patient_s", "gives_up_s"),
    [({"attempts": 2}, 11.0, 12.0), ({"give_up_s": 5.0}, 14.9, 15.0)],
)
def test_a_client_gives_up_after_its_attempts_or_its_time(limit, patient_s, gives_up_s):
    client, rules = client_with(**limit)
    step(client, rules, Event.START, 0.0)
    connect(client, rules, 0.0)
    step(client, rules, Event.CLOSED, 10.0)
    fail(client, rules, patient_s)
    assert client.state == State.WAITING
    fail(client, rules, gives_up_s)
    assert client.state == State.STRANDED


@pytest.mark.parametrize(("from_start", "state"), [(True, State.WAITING), (False, State.STRANDED)])
def test_a_first_connection_that_fails_may_be_the_last(from_start, state):
    client, rules = client_with(from_start=from_start)
    step(client, rules, Event.START, 0.0)
    step(client, rules, Event.CLOSED, 1.0)
    assert client.state == state


@pytest.mark.parametrize(
    ("reset", "stable_s", "stood_s", "failures"),
    [
        (Reset.READY, 0.0, 0.0, 1),
        (Reset.READY, 30.0, 29.0, 3),
        (Reset.READY, 30.0, 30.0, 1),
        (Reset.TRANSPORT, 0.0, 0.0, 1),
        (Reset.NEVER, 0.0, 1e6, 3),
    ],
)
def test_the_count_of_failures_starts_anew_as_the_rule_says(reset, stable_s, stood_s, failures):
    client, rules = client_with(reset=reset, stable_s=stable_s)
    step(client, rules, Event.START, 0.0)
    step(client, rules, Event.CLOSED, 0.0)
    fail(client, rules, 1.0)
    connect(client, rules, 2.0)
    step(client, rules, Event.CLOSED, 2.0 + stood_s)
    assert client.failures == failures


def test_where_the_upgrade_counts_a_server_that_accepts_and_drops_meets_the_first_delay_for_ever():
    for reset, failures in ((Reset.TRANSPORT, 1), (Reset.READY, 4)):
        client, rules = client_with(reset=reset)
        step(client, rules, Event.START, 0.0)
        for now in range(4):
            step(client, rules, Event.CONNECTED, float(now))
            step(client, rules, Event.UPGRADED, float(now))
            step(client, rules, Event.CLOSED, float(now))
            assert client.failures == (1 if reset == Reset.TRANSPORT else now + 1)
            step(client, rules, Event.DEADLINE, client.deadline_s)
        assert client.failures == failures


def test_a_lost_websockets_connection_is_tried_again_at_once():
    rules = compile_workload(BOARD.replace(library("websockets")), 1, 0).rules
    client = Client(0)
    step(client, rules, Event.START, 0.0)
    step(client, rules, Event.CONNECTED, 0.0)
    step(client, rules, Event.SECURED, 0.0)
    step(client, rules, Event.UPGRADED, 0.0)
    step(client, rules, Event.READY, 0.0)
    assert step(client, rules, Event.CLOSED, 50.0)[1] == 50.0
    step(client, rules, Event.DEADLINE, 50.0)
    assert 50.0 < step(client, rules, Event.CLOSED, 50.0)[1] < 55.0
