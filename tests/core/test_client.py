"""How one client behaves, driven by hand: TanStack Query's cadence, a WebSocket's life."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simlib.core.client import applied_from, is_recoverable, step, step_poll
from simlib.core.client_state import NEVER_S, Applied, Client, Differs, connect
from simlib.core.fallback import FallbackRules
from simlib.core.protocol import Action, Event, Heartbeat, State, Transport, holds
from simlib.core.reconnect import Policy, Reset
from simlib.core.resync import Resync
from simlib.core.websocket import begin_upgrade, refused_attempt
from simlib.errors import ProtocolError
from simlib.scenario import Scenario, compile_workload

BASE = compile_workload(Scenario(updates={"rate_per_s": 1.0}), 1, 0).rules
POLLING = BASE._replace(interval_s=1.0)
PUSH = BASE._replace(
    transport=Transport.WEBSOCKET, tls=False, resync=BASE.resync._replace(kind=Resync.NONE)
)


def reconnecting(**changes):
    return PUSH._replace(reconnect=PUSH.reconnect._replace(**changes))


def poll_starts(rules, *, fetch_s, until_s, events=(), failing=()):
    """Start times of the fetches of one client; `failing` are the numbers of those that fail."""
    client, starts = Client(0), []
    agenda = [(0.0, Event.START), *((t, Event[name]) for t, name in events)]
    while agenda:
        agenda.sort(key=lambda entry: entry[0])
        now, event = agenda.pop(0)
        if now > until_s:
            break
        if event == Event.DEADLINE and client.deadline_s != now:
            continue
        actions, deadline_s = step(client, rules, event, now, 0)
        if actions & Action.FETCH:
            failed = len(starts) in failing
            agenda.append((now + fetch_s, Event.FAILED if failed else Event.FETCHED))
            starts.append(round(now, 6))
        if deadline_s < NEVER_S:
            agenda.append((deadline_s, Event.DEADLINE))
    return starts


@pytest.mark.parametrize(
    ("fetch_s", "expected"),
    [
        (0.3, [0, 1.3, 2.6, 3.9, 5.2]),
        (1.5, [0, 2.5, 5.0]),
        (2.5, [0, 3.5]),
    ],
)
def test_the_interval_counts_from_the_end_of_a_fetch(fetch_s, expected):
    assert poll_starts(POLLING, fetch_s=fetch_s, until_s=5.5) == expected


DRAG = [(1.401, "DRAG_START"), (3.401, "DRAG_END")]
CLICK = [(1.401, "DRAG_START"), (1.601, "DRAG_END")]
HIDDEN = [(1.5, "HIDE"), (4.5, "SHOW")]


@pytest.mark.parametrize(
    ("changes", "events", "expected"),
    [
        ({}, DRAG, [0, 1.05, 3.401, 4.451]),
        ({}, CLICK, [0, 1.05, 1.601, 2.651, 3.701, 4.751]),
        ({"stale_s": 5.0}, DRAG, [0, 1.05, 4.401]),
        ({"pause_while_dragging": False}, DRAG, [0, 1.05, 2.1, 3.15, 4.2]),
        ({}, HIDDEN, [0, 1.05, 4.5]),
        ({"refetch_on_focus": False}, HIDDEN, [0, 1.05, 5.1]),
        ({"stale_s": 60.0}, HIDDEN, [0, 1.05, 5.1]),
        (
            {"pause_while_hidden": False, "refetch_on_focus": False},
            HIDDEN,
            [0, 1.05, 2.1, 3.15, 4.2],
        ),
    ],
)
def test_pauses_hold_fetches_back_and_end_with_one_at_once(changes, events, expected):
    starts = poll_starts(POLLING._replace(**changes), fetch_s=0.05, until_s=5.2, events=events)
    assert starts == expected


def test_ticks_keep_their_grid_while_the_tab_is_hidden():
    rules = POLLING._replace(refetch_on_focus=False)
    starts = poll_starts(rules, fetch_s=0.05, until_s=6.5, events=HIDDEN)
    # the tick due at 2.1 is skipped and the next three follow at one second each
    assert starts == [0, 1.05, 5.1, 6.15]


FIXED = POLLING._replace(fixed_rate=True)


@pytest.mark.parametrize(
    ("fetch_s", "expected"),
    [
        (0.3, [0, 1, 2, 3, 4, 5]),
        (1.0, [0, 2, 4]),  # a tick at the moment of the answer is skipped too
        (1.5, [0, 2, 4]),
        (2.5, [0, 3]),
    ],
)
def test_at_a_fixed_rate_ticks_before_the_answer_are_skipped(fetch_s, expected):
    assert poll_starts(FIXED, fetch_s=fetch_s, until_s=5.5) == expected


@pytest.mark.parametrize(
    ("changes", "events", "expected"),
    [
        ({}, DRAG, [0, 1, 3.401, 4, 5]),
        ({"stale_s": 5.0}, DRAG, [0, 1, 4, 5]),
        ({"pause_while_dragging": False}, DRAG, [0, 1, 2, 3, 4, 5]),
        ({}, HIDDEN, [0, 1, 4.5, 5]),
        ({"refetch_on_focus": False}, HIDDEN, [0, 1, 5]),
        ({"pause_while_hidden": False, "refetch_on_focus": False}, HIDDEN, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_pauses_hold_fetches_back_and_leave_a_fixed_rates_ticks_where_they_are(
    changes, events, expected
):
    starts = poll_starts(FIXED._replace(**changes), fetch_s=0.05, until_s=5.2, events=events)
    assert starts == expected


def test_ticks_during_retries_are_skipped():
    starts = poll_starts(FIXED, fetch_s=0.25, until_s=9.5, failing={0, 1})
    # The retries come 1 and 2 s after the failures at 0.25 and 1.5; the second one is answered
    # at 3.75.
    assert starts == [0, 1.25, 3.5, 4, 5, 6, 7, 8, 9]


def test_a_fixed_rate_counts_from_the_start_of_the_session():
    client = Client(0)
    step(client, FIXED, Event.START, 7.3, 0)
    assert step(client, FIXED, Event.FETCHED, 7.4, 0)[1] == 7.3 + 1.0


def test_after_a_fall_back_a_fixed_rate_counts_from_there():
    rules = PUSH._replace(
        interval_s=1.0,
        fixed_rate=True,
        fallback=FallbackRules(True, 1, NEVER_S, NEVER_S, 1.0, NEVER_S),
    )
    client = Client(0)
    step(client, rules, Event.START, 0.0, 0)
    assert step(client, rules, Event.CLOSED, 0.25, 0)[0] & Action.FETCH
    assert step(client, rules, Event.FETCHED, 0.75, 0)[1] == 1.25


def test_a_cohort_with_a_fixed_rate_counts_from_when_the_tab_is_assigned():
    client = Client(0)
    step(client, POLLING, Event.START, 0.0, 0)
    fixed = FIXED._replace(differs=Differs.POLL_TIMER + 0)
    assert assigned(client, fixed, 0.5) == NEVER_S  # its first fetch goes on
    assert step(client, fixed, Event.FETCHED, 0.75, 0)[1] == 1.5
    assert assigned(client, POLLING._replace(differs=Differs.POLL_TIMER + 0), 1.0) == 2.0


def test_a_drop_during_a_fetch_joins_it():
    events = [(0.1, "DRAG_START"), (0.2, "DRAG_END")]
    assert poll_starts(POLLING, fetch_s=0.5, until_s=2.5, events=events) == [0, 1.5]


def test_a_failed_fetch_is_tried_again_after_1_2_and_4_seconds_then_given_up():
    rules = POLLING._replace(interval_s=30.0)
    starts = poll_starts(rules, fetch_s=0.02, until_s=40, failing={0, 1, 2, 3})
    assert starts == pytest.approx([0, 1.02, 3.04, 7.06, 37.08])


def test_a_retry_waits_while_the_tab_is_hidden():
    rules = POLLING._replace(interval_s=30.0)
    events = [(0.5, "HIDE"), (4.0, "SHOW")]
    starts = poll_starts(rules, fetch_s=0.02, until_s=10, events=events, failing={0})
    assert starts == [0, 4.0]


@pytest.mark.parametrize("event", [Event.DEADLINE, Event.FETCHED, Event.UNCHANGED, Event.FAILED])
@pytest.mark.parametrize("throttles", [False, True])
def test_what_is_all_that_can_come_to_a_polling_client_does_what_any_event_does(event, throttles):
    rules = POLLING._replace(throttles_timers=throttles, pause_while_hidden=True)
    followed = set()
    for state in (State.IDLE, State.FETCHING, State.RETRYING):
        for pauses in range(4):
            rows = []
            for feed in (step, step_poll):
                client = Client(3)
                client.state, client.pauses, client.deadline_s = state, pauses, 7.0
                try:
                    came = feed(client, rules, event, 7.0, 2)
                except ProtocolError:
                    came = None
                rows.append((came, [getattr(client, name) for name in Client.__slots__]))
            assert rows[0] == rows[1]
            followed.add(came)
    assert len(followed) > 1


def opened(rules, now=0.0, version=0):
    client = Client(0)
    step(client, rules, Event.START, now, 0)
    for event in (Event.CONNECTED, Event.UPGRADED, Event.READY):
        step(client, rules, event, now, version)
    return client


def test_the_stages_of_a_connection_ask_for_one_action_each():
    rules, client = PUSH._replace(tls=True), Client(0)
    asked = [step(client, rules, Event.START, 0.0)[0]]
    stages = (Event.CONNECTED, Event.SECURED, Event.UPGRADED, Event.READY)
    asked.extend(step(client, rules, event, 0.0)[0] for event in stages)
    assert asked == [
        Action.CONNECT,
        Action.SECURE,
        Action.UPGRADE,
        Action.AUTHENTICATE,
        Action.NONE,
    ]
    assert client.state == State.OPEN


@pytest.mark.parametrize("upgrade_timeout_s", [0.0, 3.0])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("attempts", [None, 3])
def test_a_refused_attempt_as_one_does_what_its_events_do(attempts, tls, upgrade_timeout_s):
    websocket, network = {"upgrade_timeout_s": upgrade_timeout_s}, {"tls": tls}
    limits = {"policy": "decorrelated_jitter", "attempts": attempts}
    changes = {"transport": "websocket", "websocket": websocket, "network": network}
    board = Scenario(updates={"rate_per_s": 0.1}, reconnect=limits, **changes)
    rules = compile_workload(board, 1, 0).rules
    singly, at_once = Client(5), Client(5)
    for client in (singly, at_once):
        step(client, rules, Event.START, 0.0)
        step(client, rules, Event.CLOSED, 1.0, 503)
    for _ in range(3):
        begun_s = singly.deadline_s
        step(singly, rules, Event.DEADLINE, begun_s)
        step(singly, rules, Event.CONNECTED, begun_s + 1.0)
        if tls:
            step(singly, rules, Event.SECURED, begun_s + 3.0)
        before = Client(5)
        for name in Client.__slots__:
            setattr(before, name, getattr(at_once, name))
        connect(before, rules, begun_s)
        begin_upgrade(before, rules, begun_s + (3.0 if tls else 1.0))
        assert row_of(before) == row_of(singly)
        step(singly, rules, Event.CLOSED, begun_s + 5.0, 503)
        refused_attempt(at_once, rules, begun_s + 5.0)
        assert row_of(at_once) == row_of(singly)
    assert singly.state == (State.STRANDED if attempts else State.WAITING)


def row_of(client):
    return {name: getattr(client, name) for name in Client.__slots__}


def test_silence_of_the_server_is_noticed_interval_plus_timeout_after_the_last_ping():
    client = opened(PUSH)
    actions, deadline_s = step(client, PUSH, Event.PING, 100.0)
    assert actions == Action.SEND_PONG
    assert deadline_s == 100.0 + PUSH.heartbeat_interval_s + PUSH.heartbeat_timeout_s
    actions, _ = step(client, PUSH, Event.DEADLINE, deadline_s)
    assert actions == Action.CLOSE
    assert client.state == State.WAITING


def test_a_client_that_pings_notices_silence_after_its_timeout():
    rules = PUSH._replace(heartbeat=2)
    client = opened(rules)
    actions, deadline_s = step(client, rules, Event.DEADLINE, client.deadline_s)
    assert actions == Action.SEND_PING
    assert deadline_s == rules.heartbeat_interval_s + rules.heartbeat_timeout_s
    assert step(client, rules, Event.PONG, 31.0) == (Action.NONE, 31.0 + rules.heartbeat_interval_s)
    step(client, rules, Event.DEADLINE, client.deadline_s)
    assert step(client, rules, Event.DEADLINE, client.deadline_s)[0] == Action.CLOSE


def test_without_heartbeat_an_open_client_has_no_deadline():
    assert opened(PUSH._replace(heartbeat=0)).deadline_s == NEVER_S


def gives_up_s(rules, messages, silent_from_s):
    """When a client takes its connection for dead that hears `messages`, then nothing."""
    client = opened(rules)
    arrives = [entry for entry in messages if entry[0] < silent_from_s]
    while client.state == State.OPEN:
        t, event = min([*arrives, (client.deadline_s, Event.DEADLINE)])
        arrives = [entry for entry in arrives if entry != (t, event)]
        actions, _ = step(client, rules, event, t, int(t))
        if actions & Action.SEND_PING and t + 0.1 < silent_from_s:
            arrives.append((t + 0.1, Event.PONG))
    return t


EVERY_S = [(0.7 * k, Event.PUSH) for k in range(1, 300)]
PINGS = [(30.0 * k, Event.PING) for k in range(1, 6)]


@pytest.mark.parametrize(
    ("any_message", "messages", "silent_from_s", "expected"),
    [
        (False, PINGS, 100.0, 90.0 + 50.0),
        (False, EVERY_S, 200.0, 0.0 + 50.0),  # a server that is too busy to ping
        (True, EVERY_S, 200.0, 285 * 0.7 + 50.0),
        (True, PINGS, 100.0, 90.0 + 50.0),
        (True, [(10.0, Event.PUSH), *PINGS], 100.0, 90.0 + 50.0),
        (True, [(10.0, Event.PUSH)], 100.0, 10.0 + 50.0),
        (True, [(10.0, Event.REPLAY)], 100.0, 10.0 + 50.0),
        (True, [(10.0, Event.SNAPSHOT)], 100.0, 10.0 + 50.0),
    ],
)
def test_only_pings_or_any_message_are_signs_of_life(
    any_message, messages, silent_from_s, expected
):
    rules = PUSH._replace(any_message=any_message)
    assert gives_up_s(rules, messages, silent_from_s) == pytest.approx(expected, abs=0.0)


@pytest.mark.parametrize(
    ("any_message", "messages", "silent_from_s", "expected"),
    [
        (False, [], 100.0, 90.3 + 50.0),  # it pings at 30, 60.1 and 90.2, and again at 120.3
        (False, [(119.0, Event.PUSH), (121.0, Event.PUSH)], 122.0, 120.4 + 50.0),
        (True, [(10.0, Event.PUSH)], 11.0, 10.0 + 50.0),
        (True, [(29.0, Event.PUSH), (31.0, Event.PUSH)], 29.5, 29.0 + 50.0),
        (True, [(40.0, Event.PUSH), (71.0, Event.PUSH)], 71.1, 71.0 + 50.0),
    ],
)
def test_a_client_that_pings_is_content_with_any_message_too(
    any_message, messages, silent_from_s, expected
):
    rules = PUSH._replace(any_message=any_message, heartbeat=Heartbeat.CLIENT + 0)
    assert gives_up_s(rules, messages, silent_from_s) == pytest.approx(expected)


@pytest.mark.parametrize(("any_message", "gives_up_at_s"), [(False, 50.0), (True, 45.0 + 50.0)])
def test_any_message_answers_for_the_pong_that_a_client_waits_for(any_message, gives_up_at_s):
    rules = PUSH._replace(any_message=any_message, heartbeat=Heartbeat.CLIENT + 0)
    client = opened(rules)
    assert step(client, rules, Event.DEADLINE, 30.0) == (Action.SEND_PING, 50.0)
    step(client, rules, Event.PUSH, 45.0, 1)
    while client.state == State.OPEN:
        t = client.deadline_s
        step(client, rules, Event.DEADLINE, t)
    assert t == gives_up_at_s


def test_the_answer_to_a_safety_poll_is_no_sign_of_life():
    rules = PUSH._replace(any_message=True, safety_poll_s=20.0)
    answers = [(20.0 * k + 0.1, Event.SNAPSHOT) for k in range(1, 9)]
    assert gives_up_s(rules, answers, 200.0) == 50.0
    assert gives_up_s(rules, [*answers, (45.0, Event.PUSH)], 200.0) == 95.0


def test_a_message_that_is_taken_ahead_of_its_time_still_counts_when_it_arrives():
    rules = PUSH._replace(any_message=True)
    one, other = opened(rules), opened(rules)
    for client, order in ((one, (12.0, 10.0)), (other, (10.0, 12.0))):
        for t in order:
            step(client, rules, Event.PING if t == 10.0 else Event.PUSH, t, 1)
    assert (one.beat_s, one.deadline_s) == (other.beat_s, other.deadline_s) == (62.0, 60.0)


def safety_polls_s(rules, pushes_s, until_s):
    """When a client whose socket opens at 0 s makes safety polls, each answered 0.1 s later."""
    client, polls = opened(rules), []
    arrives = [(t, Event.PUSH) for t in pushes_s]
    while True:
        t, event = min([*arrives, (client.deadline_s, Event.DEADLINE)])
        if t > until_s:
            return polls
        arrives = [entry for entry in arrives if entry != (t, event)]
        if step(client, rules, event, t, int(t))[0] & Action.SAFETY_POLL:
            polls.append(round(t, 6))
            arrives.append((t + 0.1, Event.SNAPSHOT))


@pytest.mark.parametrize(
    ("restart", "pushes_s", "expected"),
    [
        (False, [], [30.0, 60.0, 90.0, 120.0, 150.0]),
        (False, range(10, 101, 10), [30.0, 60.0, 90.0, 120.0, 150.0]),
        # query-core 5.108.4: no poll until an interval after the last setQueryData, then one
        # interval after each answer.
        (True, range(10, 101, 10), [130.0, 160.1]),
        (True, [20.0, 35.0], [65.0, 95.1, 125.2, 155.3]),
        (True, [], [30.0, 60.1, 90.2, 120.3, 150.4]),
    ],
)
@pytest.mark.parametrize("heartbeat", [Heartbeat.NONE, Heartbeat.CLIENT])
def test_each_push_starts_the_safety_poll_anew_or_none_does(restart, pushes_s, expected, heartbeat):
    rules = PUSH._replace(safety_poll_s=30.0, safety_poll_restart=restart)
    rules = rules._replace(heartbeat=heartbeat + 0, heartbeat_interval_s=1e6)
    assert safety_polls_s(rules, list(pushes_s), 165.0) == expected


def test_pushes_that_put_a_safety_poll_off_do_not_put_off_the_heartbeat():
    rules = PUSH._replace(safety_poll_s=30.0, safety_poll_restart=True)
    client = opened(rules)
    for t in range(5, 60, 5):
        while client.deadline_s <= t:
            actions, _ = step(client, rules, Event.DEADLINE, client.deadline_s)
            if actions & Action.CLOSE:
                assert client.since_s == rules.heartbeat_interval_s + rules.heartbeat_timeout_s
                return
        step(client, rules, Event.PUSH, float(t), t)
    raise AssertionError("the heartbeat that never came was not missed")


def assigned(client, rules, now, cohort=1):
    """Assign a client to a cohort that has its transport, and return its deadline."""
    rules = rules._replace(has_flag=True, transports=(client.transport, client.transport))
    actions, deadline_s = step(client, rules, Event.ASSIGNED, now, cohort)
    assert actions == Action.NONE
    return deadline_s


def test_another_cohorts_interval_counts_from_when_the_tab_is_assigned():
    client = Client(0)
    step(client, POLLING, Event.START, 0.0, 0)
    step(client, POLLING, Event.FETCHED, 1.0, 0)
    assert assigned(client, POLLING, 1.5) == 2.0  # the same interval: the timer goes on
    faster = POLLING._replace(interval_s=0.1, differs=Differs.POLL_TIMER + 0)
    assert assigned(client, faster, 1.6) == pytest.approx(1.7)


def test_a_query_that_another_cohort_does_not_disable_fetches_at_once():
    client = Client(0)
    step(client, POLLING, Event.START, 0.0, 0)
    step(client, POLLING, Event.DRAG_START, 0.5, 0)
    step(client, POLLING, Event.FETCHED, 1.0, 0)
    assert client.deadline_s == NEVER_S
    goes_on = POLLING._replace(pause_while_dragging=False, has_flag=True)
    actions, _ = step(client, goes_on, Event.ASSIGNED, 3.0, 1)
    assert actions == Action.FETCH


def test_an_open_socket_waits_for_the_later_of_two_heartbeats():
    rules = PUSH._replace(heartbeat_interval_s=30.0, heartbeat_timeout_s=20.0)
    for interval_s, expected in ((5.0, 50.0), (100.0, 130.0)):
        client = opened(rules)
        other = rules._replace(heartbeat_interval_s=interval_s, differs=Differs.HEARTBEAT + 0)
        assert assigned(client, rules, 5.0) == 50.0
        assert assigned(client, other, 10.0) == expected
        _, deadline_s = step(client, other, Event.PING, 12.0, 0)
        assert deadline_s == 12.0 + interval_s + 20.0


def test_what_counts_as_a_sign_of_life_may_differ_between_cohorts():
    differs = Differs.SIGN_OF_LIFE + 0
    pings = PUSH._replace(differs=differs)
    all_count = pings._replace(any_message=True)
    client = opened(all_count)
    step(client, all_count, Event.PUSH, 20.0, 1)
    assert assigned(client, pings, 25.0, 0) == 50.0
    step(client, pings, Event.PUSH, 30.0, 2)
    assert step(client, pings, Event.DEADLINE, 50.0, 0) == (Action.NONE, 70.0)
    assert assigned(client, all_count, 55.0) == 70.0
    step(client, all_count, Event.PUSH, 60.0, 3)
    assert step(client, all_count, Event.DEADLINE, 70.0, 0) == (Action.NONE, 110.0)
    assert step(client, all_count, Event.DEADLINE, 110.0, 0)[0] == Action.CLOSE


def test_an_open_socket_takes_up_safety_polls_and_gives_them_up():
    client = opened(PUSH)
    polls = PUSH._replace(safety_poll_s=8.0, differs=Differs.SAFETY_POLL + 0)
    assert assigned(client, polls, 10.0) == 18.0
    assert step(client, polls, Event.DEADLINE, 18.0, 0)[0] == Action.SAFETY_POLL
    without = PUSH._replace(differs=Differs.SAFETY_POLL + 0)
    assert assigned(client, without, 20.0, 0) == 50.0


def delays(rules, attempts):
    client, now, waits = opened(rules), 0.0, []
    step(client, rules, Event.CLOSED, now)
    for _ in range(attempts):
        waits.append(client.deadline_s - now)
        now = client.deadline_s
        step(client, rules, Event.DEADLINE, now)
        step(client, rules, Event.CLOSED, now)
    return waits


def test_fixed_delays_are_fixed():
    rules = reconnecting(policy=Policy.FIXED, base_s=1.5)
    assert delays(rules, 4) == [1.5] * 4


def test_full_jitter_stays_below_the_doubled_ceiling_and_its_cap():
    rules = reconnecting(base_s=1.0, cap_s=5.0)
    for wait, ceiling in zip(delays(rules, 6), [1, 2, 4, 5, 5, 5], strict=True):
        assert 0.0 <= wait < ceiling


def test_the_ceiling_falls_back_once_the_connection_is_ready():
    client = opened(PUSH)
    step(client, PUSH, Event.CLOSED, 0.0)
    assert client.failures == 1
    step(client, PUSH, Event.DEADLINE, client.deadline_s)
    for event in (Event.CONNECTED, Event.UPGRADED, Event.READY):
        step(client, PUSH, event, 50.0)
    assert client.failures == 0


def test_an_attempt_that_takes_too_long_is_broken_off():
    client = Client(0)
    _, deadline_s = step(client, PUSH, Event.START, 3.0)
    assert deadline_s == 3.0 + PUSH.open_timeout_s
    step(client, PUSH, Event.CONNECTED, 4.0)
    assert client.deadline_s == deadline_s
    assert step(client, PUSH, Event.DEADLINE, deadline_s)[0] == Action.CLOSE
    assert client.state == State.WAITING


@pytest.mark.parametrize(("event", "policy"), [("REJECTED", Policy.FIXED), ("CLOSED", Policy.NONE)])
def test_a_rejected_token_or_no_policy_strands_the_client_for_good(event, policy):
    rules, client = reconnecting(policy=policy), Client(0)
    for before in (Event.START, Event.CONNECTED, Event.UPGRADED):
        step(client, rules, before, 0.0)
    assert step(client, rules, Event[event], 1.0) == (Action.CLOSE, NEVER_S)
    assert client.state == State.STRANDED
    assert not is_recoverable(client, rules)


def test_without_snapshot_what_came_before_ready_is_lost():
    client = opened(PUSH, version=7)
    assert (client.seen, client.applied) == (7, Applied.NONE)


def test_a_snapshot_delivers_everything_up_to_its_version():
    rules = PUSH._replace(resync=BASE.resync)
    client = opened(rules)
    assert client.seen == 0
    step(client, rules, Event.SNAPSHOT, 1.0, 7)
    assert (client.seen, applied_from(client, 0)) == (7, 0)


def test_a_delta_delivers_itself_and_loses_what_lies_between():
    client = opened(PUSH)
    step(client, PUSH, Event.PUSH, 1.0, 1)
    assert (client.seen, applied_from(client, 0)) == (1, 0)
    step(client, PUSH, Event.PUSH, 2.0, 4)
    assert (client.seen, applied_from(client, 1)) == (4, 3)
    step(client, PUSH, Event.PUSH, 3.0, 2)
    assert (client.seen, applied_from(client, 1)) == (4, 3)


def test_an_unchanged_board_moves_no_view():
    client = Client(0)
    step(client, POLLING, Event.START, 0.0, 3)
    step(client, POLLING, Event.UNCHANGED, 0.1)
    assert client.seen == 3
    assert client.deadline_s == 1.1


class Life(RuleBasedStateMachine):
    """Any legal sequence of events keeps the invariants."""

    @initialize(
        transport=st.sampled_from(Transport),
        tls=st.booleans(),
        resync=st.sampled_from(Resync),
        whole=st.booleans(),
        heartbeat=st.sampled_from([0, 1, 2]),
        policy=st.sampled_from(Policy),
        attempts=st.sampled_from([1, 5, 2**31 - 1]),
        reset=st.sampled_from(Reset),
        falls_after=st.sampled_from([0, 1, 2]),
        jitter=st.sampled_from([0.0, 0.5]),
    )
    def begin(
        self, transport, tls, resync, whole, heartbeat, policy, attempts, reset, falls_after, jitter
    ):
        self.rules = BASE._replace(
            transport=transport,
            tls=tls,
            resync=BASE.resync._replace(kind=resync),
            push_is_snapshot=whole,
            heartbeat=heartbeat,
            reconnect=BASE.reconnect._replace(policy=policy, attempts=attempts, reset=reset),
            jitter_frac=jitter,
            fallback=FallbackRules(falls_after > 0, falls_after, 60.0, 5.0, 2.0, 60.0),
        )
        self.client, self.now, self.version = Client(3), 0.0, 0
        self.view = self.exchange = 0
        self.actions = Action.NONE

    def feed(self, event, value=0):
        self.actions, deadline_s = step(self.client, self.rules, event, self.now, value)
        assert deadline_s == self.client.deadline_s
        assert deadline_s >= self.now

    @rule(
        wait_s=st.floats(0.0, 40.0),
        published=st.integers(0, 3),
        event=st.sampled_from([event for event in Event if event < Event.FETCH]),
    )
    def happen(self, wait_s, published, event):
        client = self.client
        self.version += published
        self.now = min(self.now + wait_s, max(self.now, client.deadline_s))
        if event == Event.DEADLINE:
            if client.deadline_s == NEVER_S:
                return
            self.now = client.deadline_s
        legal = {
            State.ABSENT: [Event.START],
            State.FETCHING: [
                *(Event.FETCHED, Event.UNCHANGED),
                Event.CLOSED if holds(client.transport) else Event.FAILED,
            ],
            State.CONNECTING: [Event.CONNECTED, Event.CLOSED],
            State.SECURING: [Event.SECURED, Event.CLOSED],
            State.UPGRADING: [Event.UPGRADED, Event.CLOSED],
            State.AUTHENTICATING: [Event.READY, Event.REJECTED, Event.CLOSED, Event.PING],
            State.OPEN: [
                Event.SNAPSHOT,
                Event.REPLAY,
                Event.PUSH,
                Event.PING,
                Event.PONG,
                Event.CLOSED,
            ],
        }.get(State(client.state), [])
        users = [Event.STOP, Event.DRAG_START, Event.DRAG_END, Event.HIDE, Event.SHOW]
        if client.state not in (State.ABSENT, State.GONE):
            legal = [*legal, *users, Event.DEADLINE]
        if event in legal:
            self.feed(event, self.version)

    @invariant()
    def views_and_exchanges_never_fall(self):
        client = self.client
        assert client.seen >= self.view
        assert client.exchange >= self.exchange
        if client.seen > self.view:
            assert self.view <= applied_from(client, self.view) <= client.seen
        assert client.seen <= self.version
        self.view, self.exchange = client.seen, client.exchange

    @invariant()
    def who_waits_for_an_answer_or_for_nothing_has_no_deadline(self):
        client = self.client
        if client.state == State.FETCHING and holds(client.transport):
            assert self.now <= client.deadline_s <= client.beat_s < NEVER_S
        elif client.state in (State.FETCHING, State.STRANDED, State.GONE, State.ABSENT):
            assert client.deadline_s == NEVER_S
        if self.client.state in (State.CONNECTING, State.WAITING, State.UPGRADING):
            assert self.client.deadline_s < NEVER_S

    @invariant()
    def actions_fit_the_state_that_was_entered(self):
        state = self.client.state
        entered = {
            Action.FETCH: [State.FETCHING],
            Action.CONNECT: [State.CONNECTING],
            Action.SECURE: [State.SECURING],
            Action.UPGRADE: [State.UPGRADING],
            Action.AUTHENTICATE: [State.AUTHENTICATING],
            Action.SEND_PING: [State.OPEN],
            Action.SEND_PONG: [State.OPEN, State.AUTHENTICATING],
            Action.CLOSE: [
                State.WAITING,
                State.STRANDED,
                State.GONE,
                State.FETCHING,
                State.CONNECTING,
            ],
        }
        for action in [one for one in Action if self.actions & one]:
            assert state in entered[action]
        self.actions = Action.NONE


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
