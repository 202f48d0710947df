"""Rollouts inside a run: both engines agree, and tabs hear of a percentage as the rules say."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.assignment import FlagRules, Propagation
from simlib.core.protocol import Transport
from simlib.engines import simulate
from simlib.scenario.workload import rules_of
from tests.engines.test_compiled_engine import KEPT, LATTICE, assert_equal_tables
from tests.strategies import scenarios

EXAMPLES = 25 if numba.config.DISABLE_JIT else 60


SHARED = ("tls", "push_is_snapshot", "throttles_timers")
"""What is in the rules, and yet not a cohort's own: see `rollout.cohorts`."""


class Script:
    """Announces percentages at times that are known beforehand.

    Clients of the treatment cohort obey what the scenario `treatment` says of clients, if there is
    one.
    """

    def __init__(self, flag, percents, spread=100.0, treatment=None):
        self.flag = flag
        self.percents = list(percents)
        self.spread = spread
        self.treatment = treatment

    def buckets(self, workload):
        clients = len(workload.start_s)
        return self.spread * (np.arange(clients) * 0.6180339887 % 1.0)

    def cohort_rules(self, _scenario, workload):
        if self.treatment is None:
            return workload.rules, workload.rules
        shared = {name: getattr(workload.rules, name) for name in SHARED}
        return workload.rules, rules_of(self.treatment, workload)._replace(**shared)

    def due_s(self):
        return self.percents[0][0] if self.percents else math.inf

    def observe(self, snapshot):
        return self.percents.pop(0)[1]


@st.composite
def flags(draw):
    """How a percentage reaches tabs, of every kind, between any two transports."""
    control, treatment = draw(st.permutations([int(each) for each in Transport]))[:2]
    return FlagRules(
        propagation=int(draw(st.sampled_from(list(Propagation)))),
        every_s=draw(st.sampled_from([0.5, 7.0, 30.0])),
        delay_s=draw(st.sampled_from([0.0, 0.0, 3.0])),
        cached_frac=draw(st.sampled_from([0.0, 0.5, 1.0])),
        closes=draw(st.booleans()),
        window_s=draw(st.sampled_from([0.0, 5.0])),
        jitter_s=draw(st.sampled_from([0.0, 4.0])),
        transports=(control, treatment),
    )


PERCENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 2.0, 5.0, 7.5, 12.0]), st.sampled_from([0.0, 10.0, 50.0, 100.0])
    ),
    max_size=5,
).map(lambda steps: sorted(steps, key=lambda step: step[0]))


def assert_equal_rollouts(scenario, flag, percents, seed=3, keep=(), treatment=None):
    if treatment is not None and scenario.network.connections_per_user is not None:
        treatment = treatment.replace({"websocket.safety_poll_s": None})  # refused by name
    runs = [
        simulate(
            scenario,
            seed=seed,
            keep=keep,
            engine=engine,
            progress=False,
            controller=Script(flag, percents, treatment=treatment),
        )
        for engine in ("simpy", "compiled")
    ]
    assert_equal_tables(*runs, ("exposures", *keep))


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), flag=flags(), percents=PERCENTS, seed=st.integers(0, 2**64 - 1))
def test_engines_agree_on_rollouts_of_every_kind(scenario, flag, percents, seed):
    assert_equal_rollouts(scenario, flag, percents, seed)


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), flag=flags(), percents=PERCENTS)
def test_engines_agree_on_each_event_of_a_rollout_where_all_happens_at_once(
    scenario, flag, percents
):
    services = ("accept_s", "poll_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s")
    ties = {**LATTICE, **{f"server.{name}": 0.5 for name in services}}
    assert_equal_rollouts(scenario.replace(ties), flag, percents, keep=KEPT)


def test_engines_agree_on_what_a_tab_sent_before_it_opened_its_next_connection():
    """An upgrade comes to the nodes when its client has already set out for another connection."""
    at_once = dict.fromkeys(("accept_s", "poll_s", "handshake_s", "authenticate_s"), 0.5)
    board = sl.Scenario(
        updates={"rate_per_s": 0.0},
        clients=1,
        ramp_s=0.0,
        horizon_s=20.0,
        polling={"interval_s": 0.5, "retries": 0},
        websocket={"open_timeout_s": 0.2},
        heartbeat={"interval_s": 0.5, "timeout_s": 0.01},
        network={"rtt_s": 1.0, "tls": False},
        server={**at_once, "nodes": 2, "keep_alive_s": 0.0},
    )
    flag = POLLED._replace(every_s=0.5, cached_frac=0.0, transports=(1, 0))
    assert_equal_rollouts(board.replace(LATTICE), flag, [(0.0, 10.0), (1.0, 0.0)], keep=KEPT)


TRANSPORTS = st.tuples(*[st.sampled_from([int(each) for each in Transport])] * 2)


@settings(max_examples=EXAMPLES)
@given(
    scenario=scenarios(),
    treatment=scenarios(),
    transports=TRANSPORTS,
    flag=flags(),
    percents=PERCENTS,
    is_lattice=st.booleans(),
)
def test_engines_agree_on_cohorts_with_rules_of_their_own(
    scenario, treatment, transports, flag, percents, is_lattice
):
    if is_lattice:
        scenario, treatment = (each.replace(LATTICE) for each in (scenario, treatment))
    flag = flag._replace(transports=transports)
    assert_equal_rollouts(scenario, flag, percents, keep=KEPT, treatment=treatment)


BOARD = sl.Scenario(
    clients=1000,
    ramp_s=30.0,
    horizon_s=600.0,
    updates={"rate_per_s": 0.05},
    reconnect={"policy": "full_jitter"},
)
POLLED = FlagRules(Propagation.POLLED + 0, 60.0, 0.0, 1.0, False, 0.0, 0.0)


def rolled(percents, flag=POLLED, **changes):
    controller = Script(flag, percents)
    board = BOARD.replace(changes)
    return simulate(board, engine="compiled", progress=False, controller=controller)


def test_everybody_polls_until_somebody_is_enrolled():
    run, plain = rolled([]), sl.simulate(BOARD, engine="compiled", progress=False)
    assert (run.frame("clients")["cohort"] == "control").all()
    for name in ("polls", "delivered", "down_bytes", "pending"):
        assert (run.frame("clients")[name] == plain.frame("clients")[name]).all()


def test_who_is_enrolled_before_all_start_is_pushed_to_as_without_a_rollout():
    run = rolled([(0.0, 100.0)])
    plain = sl.simulate(BOARD.replace(transport="websocket"), engine="compiled", progress=False)
    assert (run.frame("clients")["cohort"] == "treatment").all()
    for name in ("messages", "delivered", "down_bytes", "pending"):
        assert (run.frame("clients")[name] == plain.frame("clients")[name]).all()


def test_a_polled_flag_reaches_all_open_tabs_within_its_interval():
    exposures = rolled([(0.0, 0.0), (200.0, 50.0)], ramp_s=60.0).frame("exposures")
    joined = exposures.query("cohort == 'treatment'")["from_s"]
    assert len(joined) == pytest.approx(500, abs=2)
    assert joined.min() >= 200.0
    assert joined.max() <= 260.0
    assert joined.mean() == pytest.approx(230.0, abs=4 * 60.0 / math.sqrt(12 * 500))


def test_a_flag_read_at_the_start_reaches_no_open_tab():
    session = POLLED._replace(propagation=Propagation.SESSION + 0)
    run = rolled([(0.0, 0.0), (200.0, 100.0), (400.0, 0.0)], session)
    assert (run.frame("clients")["cohort"] == "control").all()
    held = rolled([(0.0, 100.0), (200.0, 0.0)], session)
    assert (held.frame("clients")["cohort"] == "treatment").all()


def test_a_server_that_closes_sockets_brings_everybody_back_to_polling_over_its_window():
    session = POLLED._replace(propagation=Propagation.SESSION + 0, closes=True, window_s=30.0)
    run = rolled([(0.0, 100.0), (200.0, 0.0)], session)
    back = run.frame("exposures").query("cohort == 'control'")["from_s"]
    assert len(back) == 1000
    assert 200.0 <= back.min() < 201.0
    assert 229.0 < back.max() < 230.1
    polls = run.frame("timeline").query("cohort == 'control' and 200 <= t_s < 231")["polls"].sum()
    assert polls >= 1000
    assert run.ledger.lost == 0


def test_nobody_takes_a_rollback_for_a_fallback():
    run = rolled([(0.0, 100.0), (200.0, 0.0)])
    assert run.frame("clients")["fallbacks"].sum() == 0
    connections = run.frame("connections")
    switched = connections[connections["cause"] == "switched"]
    assert len(switched) == 1000
    assert (switched["cohort"] == "treatment").all()


def test_a_rollouts_timeline_and_stays_say_the_same_of_who_is_where():
    run = rolled([(0.0, 10.0), (100.0, 50.0), (300.0, 0.0)])
    timeline, exposures = run.frame("timeline"), run.frame("exposures")
    for cohort in ("control", "treatment"):
        mine = exposures[exposures["cohort"] == cohort]
        seconds = (mine["to_s"] - mine["from_s"]).sum()
        rows = timeline[timeline["cohort"] == cohort]
        assert (rows["present_count"] * rows["width_s"]).sum() == pytest.approx(seconds)
    assert run.ledger.eligible == run.ledger.delivered + run.ledger.lost + run.ledger.pending
    summary = run.metrics()
    assert summary["cohort"].tolist() == ["control", "treatment"]
    assert summary["delivered"].sum() == run.ledger.delivered
    assert run.latency_quantiles(0.5, cohort="treatment") < run.latency_quantiles(0.5)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_server_that_is_down_closes_no_socket_for_a_rollback_and_does_so_when_it_is_back(engine):
    """All are enrolled, the server stops, and the percentage falls while it is down."""
    session = POLLED._replace(propagation=Propagation.SESSION + 0, closes=True)
    board = BOARD.replace(
        {
            "clients": 20,
            "horizon_s": 200.0,
            "server.close_s": 0.5,
            "server.poll_s": 0.0,
            "polling.interval_s": 60.0,
            "reconnect": {"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
            "faults": [{"kind": "restart", "start_s": 100.0, "length_s": 20.0}],
        }
    )
    script = Script(session, [(0.0, 100.0), (110.0, 0.0)])
    run = simulate(board, engine=engine, progress=False, controller=script)
    timeline = run.frame("timeline").query("cohort == 'control'").set_index("t_s")
    assert timeline["utilisation"].loc[101.0:119.0].sum() == 0.0
    # Each is closed once, as soon as it is let in again.
    assert timeline["utilisation"].loc[120.0:].sum() == pytest.approx(20 * 0.5, abs=0.1)
    exposures = run.frame("exposures")
    assert exposures.query("cohort == 'control'")["from_s"].between(120.0, 132.0).all()
    assert (run.frame("clients")["cohort"] == "control").all()


@pytest.mark.parametrize("transport", ["WEBSOCKET", "SSE", "LONG_POLLING"])
@pytest.mark.parametrize(
    ("fault", "back_s"),
    [
        # Nobody hears of the rollback at 110 s before the path, or the wait of 30 s, is over.
        ({"kind": "path_loss", "start_s": 105.0, "length_s": 30.0}, 135.0),
        ({"kind": "reset", "start_s": 105.0}, 135.0),
    ],
)
@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_who_has_no_connection_is_taken_back_when_it_comes_again(engine, fault, back_s, transport):
    session = POLLED._replace(
        propagation=Propagation.SESSION + 0,
        closes=True,
        transports=(Transport.POLLING + 0, Transport[transport] + 0),
    )
    board = BOARD.replace(
        {
            "transport": transport.lower(),
            "clients": 5,
            "horizon_s": 300.0,
            "heartbeat": {"direction": "server", "interval_s": 10.0, "timeout_s": 5.0},
            "sse.watches": True,
            "long_polling": {"timeout_s": 10.0, "grace_s": 5.0},
            "reconnect": {"policy": "fixed", "base_s": 30.0},
            "faults": [fault],
        }
    )
    script = Script(session, [(0.0, 100.0), (110.0, 0.0)])
    run = simulate(board, engine=engine, progress=False, controller=script)
    told_s = run.frame("exposures").query("cohort == 'control'")["from_s"]
    assert len(told_s) == 5
    assert told_s.between(back_s, back_s + 35.0).all()


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_who_is_enrolled_again_by_the_time_the_server_is_back_keeps_its_socket(engine):
    session = POLLED._replace(propagation=Propagation.SESSION + 0, closes=True)
    faults = [{"kind": "restart", "start_s": 100.0, "length_s": 20.0}]
    board = BOARD.replace({"clients": 20, "horizon_s": 200.0, "faults": faults})
    script = Script(session, [(0.0, 100.0), (110.0, 0.0), (115.0, 100.0)])
    run = simulate(board, engine=engine, progress=False, controller=script)
    assert (run.frame("exposures")["cohort"] == "treatment").all()
    assert len(run.frame("exposures")) == 20


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_fetch_that_is_given_up_leaves_nothing_to_the_poll_after_it(engine):
    """A rollback makes a tab poll while its fetch is on the way, and a cut ends the first poll.

    The tab reads the flag at 101 s, its fetch reaches the server at 101.9 s, and the connection for
    its polls is under way until 105 s.
    """
    pushed = POLLED._replace(
        propagation=Propagation.PUSHED + 0,
        transports=(Transport.POLLING + 0, Transport.NOTIFY + 0),
    )
    board = BOARD.replace(
        {
            "clients": 1,
            "ramp_s": 0.0,
            "horizon_s": 120.0,
            "updates": {"kind": "times", "publish_s": [60.0, 99.9]},
            "network.rtt_s": 2.0,
            "server.hop_s": 0.0,
            "faults": [{"kind": "reset", "start_s": 104.0}],
        }
    )
    script = Script(pushed, [(0.0, 100.0), (100.0, 0.0)])
    run = simulate(board, engine=engine, keep=["events"], progress=False, controller=script)
    events = run.frame("events").query("100.5 < t_s < 107")
    assert events["event"].tolist() == ["push", "assigned", "failed", "deadline"]
    assert events["t_s"].iloc[2] == pytest.approx(105.0)
