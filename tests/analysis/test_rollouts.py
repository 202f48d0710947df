"""How long a rollback takes: simulated rollouts against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib import theory
from simlib.analysis import rollouts
from simlib.core.assignment import FlagRules, Propagation
from simlib.engines import simulate
from simlib.errors import ScenarioError
from tests.engines.test_rollouts import Script

SESSION = FlagRules(Propagation.SESSION + 0, 0.0, 0.0, 1.0, False, 0.0, 0.0)
POLLED = SESSION._replace(propagation=Propagation.POLLED + 0, every_s=60.0)
TABS = 4000
BACK_S = 2400.0


def board(length_s=300.0, length="exponential", horizon_s=7000.0):
    return sl.Scenario(
        clients=TABS,
        ramp_s=min(60.0, horizon_s),
        horizon_s=horizon_s,
        sessions={"arrivals_per_s": TABS / length_s, "length_s": length_s, "length": length},
        updates={"rate_per_s": 0.01},
        heartbeat={"direction": "none"},
    )


def rolled_back(flag, **changes):
    controller = Script(flag, [(0.0, 100.0), (BACK_S, 0.0)])
    run = simulate(board(**changes), engine="compiled", progress=False, controller=controller)
    return rollouts.rollback_time(run, BACK_S)


@pytest.mark.parametrize(
    ("flag", "theory_takes", "changes"),
    [
        (SESSION, {"session_s": 300.0}, {}),
        (SESSION, {"session_s": 300.0, "length": "constant"}, {"length": "constant"}),
        (SESSION._replace(delay_s=200.0), {"session_s": 300.0, "delay_s": 200.0}, {}),
        (POLLED, {"session_s": 300.0, "every_s": 60.0}, {}),
        (POLLED, {"every_s": 60.0}, {"length_s": 1e6}),
    ],
)
def test_a_rollback_takes_as_long_as_theory_says(flag, theory_takes, changes):
    back = rolled_back(flag, **changes)
    assert back["tabs"] == pytest.approx(TABS, abs=4 * np.sqrt(TABS))
    for name, share in (("t50_s", 0.5), ("t90_s", 0.9), ("t99_s", 0.99)):
        expected = theory.rollback_time_s(share, **theory_takes)
        # An order statistic of n: its share is off by sqrt(share (1 - share) / n), at four sigma.
        off = 4 * np.sqrt(share * (1 - share) / TABS)
        low = theory.rollback_time_s(share - off, **theory_takes)
        high = theory.rollback_time_s(min(1 - 1e-9, share + off), **theory_takes)
        assert low <= back[name] <= high, (name, back[name], expected)


def test_the_last_tab_goes_as_late_as_theory_says():
    # Of 1000 tabs that stay for 100 s, one in 10,000 is there 1600 s later.
    back_s, horizon_s = 900.0, 2500.0
    arrivals = {"arrivals_per_s": 10.0, "length_s": 100.0}
    fewer = board(horizon_s=horizon_s).replace(clients=200, sessions=arrivals)
    last_s = [
        rollouts.rollback_time(
            simulate(
                fewer,
                engine="compiled",
                replication=replication,
                progress=False,
                controller=Script(SESSION, [(0.0, 100.0), (back_s, 0.0)]),
            ),
            back_s,
        )
        for replication in range(20)
    ]
    tabs = int(np.mean([row["tabs"] for row in last_s]))
    expected = theory.last_tab_s(tabs, 100.0)
    # The largest of many exponentials is Gumbel's: its deviation is 100 pi / sqrt(6).
    error = 100.0 * np.pi / np.sqrt(6.0) / np.sqrt(20)
    assert np.mean([row["t100_s"] for row in last_s]) == pytest.approx(expected, abs=4 * error)


def test_a_drain_takes_its_window():
    back = rolled_back(SESSION._replace(closes=True, window_s=30.0), length_s=1e6)
    for name, share in (("t50_s", 0.5), ("t90_s", 0.9), ("t100_s", 1.0)):
        assert back[name] == pytest.approx(30.0 * share, abs=4 * 30.0 * 0.5 / np.sqrt(TABS))


def test_shares_follow_what_was_announced():
    controller = Script(POLLED._replace(every_s=5.0), [(0.0, 10.0), (100.0, 50.0)])
    scenario = board(length_s=1e6, horizon_s=300.0)
    table = rollouts.shares(
        simulate(scenario, engine="compiled", progress=False, controller=controller)
    )
    before, after = table[table["t_s"] < 100.0].iloc[-1], table[table["t_s"] < 290.0].iloc[-1]
    assert before["share"] == pytest.approx(0.1, abs=0.001)
    assert after["share"] == pytest.approx(0.5, abs=0.001)
    assert table["present"].iloc[-1] == 0


def test_what_cannot_be_told_is_refused():
    plain = sl.simulate(board(horizon_s=5.0), engine="compiled", progress=False)
    with pytest.raises(ScenarioError, match="must be of a rollout"):
        rollouts.shares(plain)
    nobody = simulate(
        board(horizon_s=5.0), engine="compiled", progress=False, controller=Script(SESSION, [])
    )
    with pytest.raises(ScenarioError, match="somebody is pushed to"):
        rollouts.rollback_time(nobody, 1.0)
    for since_s in (5.0, -1.0, "1", True):
        with pytest.raises(ScenarioError, match=r"since_s: must be in \[0, 5\)"):
            rollouts.rollback_time(nobody, since_s)
    for wrong in ({}, {"session_s": 1.0, "every_s": 1.0, "length": "constant"}, {"every_s": 0.0}):
        with pytest.raises(ScenarioError):
            theory.rollback_time_s(0.5, **wrong)


def test_a_rollouts_run_is_saved_and_read_as_it_is(tmp_path):
    controller = Script(POLLED, [(0.0, 10.0), (30.0, 50.0)])
    run = simulate(board(horizon_s=100.0), engine="compiled", progress=False, controller=controller)
    again = sl.Run.load(run.save(tmp_path / "run"))
    assert again.has_cohorts
    assert again.frame("exposures").equals(run.frame("exposures"))
    assert again.metrics().equals(run.metrics())


def test_an_outage_is_not_told_from_a_rollout():
    controller = Script(POLLED, [(0.0, 10.0)])
    faulty = board(horizon_s=100.0).replace(
        faults=[{"kind": "restart", "start_s": 50.0, "length_s": 5.0}]
    )
    run = simulate(faulty, engine="compiled", progress=False, controller=controller)
    figures = (sl.figures.six_metrics, sl.figures.connections, sl.figures.bytes_per_client)
    for function in (
        sl.outages.reconnections,
        sl.outages.recovery,
        sl.outages.reconnected_over_time,
        *figures,
    ):
        with pytest.raises(ScenarioError, match="this one is of a rollout"):
            function(run)


def test_who_is_left_is_what_the_way_back_counts_and_theory_says():
    controller = Script(SESSION, [(0.0, 100.0), (BACK_S, 0.0)])
    run = simulate(board(), engine="compiled", progress=False, controller=controller)
    back = rollouts.rollback_time(run, BACK_S)
    assert rollouts.left(run, BACK_S, [0.0, back["t100_s"]]).tolist() == [1.0, 0.0]
    times_s = np.array([50.0, 200.0, 600.0])
    expected = theory.left_frac(times_s, session_s=300.0)
    off = 4 * np.sqrt(expected * (1 - expected) / TABS)
    assert (np.abs(rollouts.left(run, BACK_S, times_s) - expected) < off).all()
    with pytest.raises(ScenarioError, match=r"times_s: must be in \[0, 4600\]"):
        rollouts.left(run, BACK_S, [-1.0])


@pytest.mark.parametrize(
    "takes",
    [
        {"session_s": 300.0},
        {"session_s": 300.0, "length": "constant", "delay_s": 20.0},
        {"session_s": 300.0, "every_s": 60.0, "delay_s": 5.0},
        {"every_s": 60.0},
    ],
)
def test_who_is_left_and_when_so_many_are_back_are_each_others_inverse(takes):
    shares = np.array([0.1, 0.5, 0.9, 0.99])
    t_s = theory.rollback_time_s(shares, **takes)
    assert theory.left_frac(t_s, **takes) == pytest.approx(1.0 - shares, abs=1e-9)


def test_switches_are_told_and_take_their_handshake():
    controller = Script(POLLED._replace(every_s=5.0), [(0.0, 0.0), (100.0, 50.0), (200.0, 0.0)])
    run = simulate(
        board(length_s=1e6, horizon_s=300.0),
        engine="compiled",
        progress=False,
        controller=controller,
    )
    table = rollouts.switches(run)
    to_push, to_poll = (table[table["to"] == to] for to in ("websocket", "polling"))
    assert len(to_push) == pytest.approx(TABS / 2, abs=1)
    assert len(to_poll) == len(to_push)
    assert to_push["told_s"].between(100.0, 105.0).all()
    assert to_poll["told_s"].between(200.0, 205.0).all()
    # TCP, TLS, upgrade and token: some round trips of 40 ms, and no more on an idle server.
    assert to_push["took_s"].between(0.04, 1.0).all()
    assert (to_poll["took_s"] < to_push["took_s"].max()).all()
    pair = rollouts.compare(run, run, [150.0, 299.0], back_s=200.0)
    assert (pair["difference"].dropna() == 0.0).all()
    assert pair.set_index("figure").loc["push connections at 150 s", "predicted"] == len(to_push)
    with pytest.raises(ScenarioError, match="at_s: must be finite"):
        rollouts.compare(run, run, ["soon"])


def test_who_remains_is_who_is_left_of_each_way_back():
    few = board(horizon_s=600.0).replace(clients=50)
    flags = {"60": POLLED, "200": POLLED._replace(every_s=200.0)}
    runs = {
        way: simulate(few, progress=False, controller=Script(flag, [(0.0, 100.0), (300.0, 0.0)]))
        for way, flag in flags.items()
    }
    times = [1.0, 30.0]
    table = rollouts.remaining(runs, 300.0, times, {"200": [0.9, 0.8]})
    assert table["way"].tolist() == ["60", "60", "200", "200"]
    assert table["t_s"].tolist() == 2 * times
    for way, run in runs.items():
        mine = table.loc[table["way"] == way, "left_frac"]
        assert mine.tolist() == rollouts.left(run, 300.0, times).tolist()
    assert table["exact_frac"].isna().tolist() == [True, True, False, False]
    for arguments, says in (
        (({}, 300.0, times), "runs: must be a mapping of names to at least one run"),
        (([runs["60"]], 300.0, times), "runs: must be a mapping"),
        ((runs, 300.0, times, {"5": [1.0, 1.0]}), "exact: must be one of 60, 200"),
        ((runs, 300.0, times, {"60": [1.0]}), r"exact\['60'\]: must be 2 values"),
        (({"60": 7}, 300.0, times), "runs: must be runs"),
    ):
        with pytest.raises(ScenarioError, match=f"^{says}"):
            rollouts.remaining(*arguments)
