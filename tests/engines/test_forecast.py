"""What a run will take, and how that is spread over it."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.core.protocol import TRANSPORT_NAMES
from simlib.engines import forecast
from simlib.engines.forecast import COSTS_S, Forecast, estimate

BOARD = sl.Scenario(updates={"rate_per_s": 0.2}, clients=300_000, horizon_s=600.0)
STORM = BOARD.replace(
    {
        "transport": "websocket",
        "ramp_s": 0.0,
        "server.shed_wait_s": 4.0,
        "server.handshake_s": 1e-3,
        "faults": [{"kind": "reset", "start_s": 500.0}],
    }
)


@pytest.fixture
def as_measured(monkeypatch):
    """A machine as fast as where costs were measured."""
    monkeypatch.setattr(forecast, "_slowness", lambda engine: 1.0)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_what_is_expected_of_a_transport_has_a_price(transport, engine):
    dragged = BOARD.replace({"transport": transport, "drag": {"every_s": 60.0, "length_s": 3.0}})
    for clients in (100, 300_000):
        found = Forecast(dragged.replace(clients=clients), engine)
        assert found.counts(600.0).keys() <= COSTS_S[found.loop].keys()
        assert found.seconds > 0.0


@pytest.mark.parametrize("scenario", [BOARD, STORM], ids=["calm", "storm"])
def test_the_shares_of_a_run_grow_to_one(scenario):
    found = Forecast(scenario, "compiled")
    shares = [found.share(t) for t in np.linspace(0.0, 600.0, 61)]
    assert shares[0] < 0.1
    assert shares[-1] == 1.0
    assert (np.diff(shares) > 0.0).all()


def test_an_estimate_is_of_the_engine_that_would_run(as_measured):
    small, large = estimate(BOARD.replace(clients=10)), estimate(BOARD)
    assert (small.engine, large.engine) == ("simpy", "compiled")
    assert estimate(BOARD, engine="simpy").seconds > 20.0 * large.seconds
    hour = estimate(BOARD.replace(horizon_s=3600.0))
    assert 2.0 < hour.seconds / large.seconds < 6.5  # part of it is before and after the run
    assert hour.bytes > large.bytes > 300_000 * 100.0


def test_a_slow_machine_takes_longer(monkeypatch):
    hour = BOARD.replace(horizon_s=36_000.0)
    seconds = []
    for slowness in (1.0, 3.0):
        monkeypatch.setattr(forecast, "_slowness", lambda engine, slowness=slowness: slowness)
        seconds.append(estimate(hour).seconds)
    assert seconds[1] == pytest.approx(3.0 * seconds[0])


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_how_fast_the_machine_is_is_measured(engine):
    assert 0.05 < forecast._slowness(engine) < 50.0


def test_short_runs_are_not_kept_waiting_for_that(monkeypatch):
    monkeypatch.setattr(forecast, "_slowness", lambda engine: pytest.fail("was measured"))
    estimate(BOARD.replace(clients=100))


@pytest.mark.parametrize(("arguments", "path"), [(("board",), "scenario"), ((3,), "scenario")])
def test_what_is_no_scenario_has_no_estimate(arguments, path):
    with pytest.raises(sl.ScenarioError) as error:
        sl.estimate(*arguments)
    assert error.value.path == path
    with pytest.raises(sl.ScenarioError, match="engine: must be one of"):
        sl.estimate(BOARD, engine="live")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_both_engines_count_their_events(transport):
    from simlib.engines.reference import Simulation
    from simlib.scenario import compile_workload, new_record

    small = BOARD.replace({"transport": transport, "clients": 20})
    workload = compile_workload(small, 1, 0)
    simulation = Simulation(workload, new_record(small, workload))
    handled, step = 0, simulation.clock.step

    def counted():
        nonlocal handled
        handled += 1
        step()

    simulation.clock.step = counted
    before = simulation.events
    simulation.run_until(small.horizon_s)
    assert simulation.events - before == pytest.approx(handled, abs=2)


def test_heartbeats_of_connections_that_do_the_same_cost_less(as_measured):
    pushed = BOARD.replace({"transport": "websocket", "heartbeat.interval_s": 1.0})
    spread_s, alike_s = (
        Forecast(pushed.replace({"network.rtt_spread": spread}), "compiled").seconds
        for spread in (0.3, 0.0)
    )
    assert alike_s < 0.5 * spread_s
