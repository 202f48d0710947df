"""engine="auto": SimPy where it is done before the compiled engine has begun, else that one."""

from __future__ import annotations

import importlib
import inspect
import itertools
import time

import numba
import pandas as pd
import pytest

import simlib as sl
from simlib import engines, experiment
from simlib.engines import choice, warm
from simlib.engines.choice import (
    WORTH_LOADING,
    WORTH_SETTING_UP,
    WORTH_WAITING,
    chosen_engine,
    expected_events,
)
from simlib.rollout import trials

BOARD = sl.Scenario(updates={"rate_per_s": 0.1}, clients=20, horizon_s=300.0)
PUSH = BOARD.replace(transport="websocket")
PLAN = sl.Plan(
    flag={"propagation": "polled", "every_s": 10},
    stages=[{"percent": 50, "bake_s": 60}, {"percent": 100, "bake_s": 60}],
)
CHOOSE = [sl.simulate, sl.replicate, sl.variants, sl.sweep, sl.roll_out, sl.rehearse]
CHOOSE += [trials.variants]


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    """As in a process that has just begun, whatever other tests have run."""
    monkeypatch.setattr(choice, "loaded", set())


@pytest.mark.parametrize("call", CHOOSE, ids=lambda call: f"{call.__module__}.{call.__name__}")
def test_every_call_that_simulates_leaves_the_choice_open(call):
    assert inspect.signature(call).parameters["engine"].default == "auto"


@pytest.mark.parametrize("clients", [0, 1, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("transport", ["polling", "websocket", "notify"])
def test_the_choice_depends_on_what_is_simulated_alone(transport, clients):
    sessions = {"arrivals_per_s": 1e-3, "length_s": 60.0}
    board = BOARD.replace({"transport": transport, "clients": clients, "sessions": sessions})
    is_large = expected_events(board) >= WORTH_LOADING
    assert chosen_engine("auto", [board]) == ("compiled" if is_large else "simpy")
    assert chosen_engine("simpy", [board]) == "simpy"
    assert chosen_engine("compiled", [board]) == "compiled"
    assert is_large == (clients >= 10_000)


def test_once_the_compiled_engine_is_loaded_only_tiny_runs_are_not_worth_it():
    choice.loaded.add("compiled")
    assert chosen_engine("auto", [BOARD]) == "compiled"
    assert chosen_engine("auto", [BOARD.replace(clients=1)]) == "simpy"


@pytest.mark.parametrize("is_under_way", [True, False])
def test_while_the_compiled_engine_is_compiled_simpy_has_what_it_can_do(monkeypatch, is_under_way):
    asked = []
    monkeypatch.setattr(warm, "is_under_way", lambda: bool(asked.append("run")) or is_under_way)
    monkeypatch.setattr(warm, "begin_early", lambda: asked.append("early"))
    tiny, small, middle, large = (
        BOARD.replace(clients=clients) for clients in (1, 40, 10_000, 100_000)
    )
    assert expected_events(tiny) < WORTH_SETTING_UP < expected_events(small) < WORTH_LOADING
    assert expected_events(middle) < WORTH_WAITING < expected_events(large)
    assert chosen_engine("auto", [tiny]) == "simpy"
    assert chosen_engine("auto", [large]) == "compiled"
    assert asked == []
    assert chosen_engine("auto", [small]) == "simpy"
    assert asked == ["early"]
    assert chosen_engine("auto", [middle]) == ("simpy" if is_under_way else "compiled")
    assert asked == ["early", "run"]
    choice.loaded.add("compiled")
    assert chosen_engine("auto", [middle]) == "compiled"
    assert asked == ["early", "run"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_it_is_loaded_when_it_has_run(monkeypatch):
    simulation = importlib.import_module("simlib.engines.compiled.simulation")
    monkeypatch.setattr(simulation, "loaded", choice.loaded)
    sl.simulate(BOARD, engine="compiled", progress=False)
    assert not choice.loaded, "the loop of polls is of use to large runs only"
    sl.simulate(BOARD.replace(transport="notify"), engine="compiled", progress=False)
    assert choice.loaded == {"compiled"}


def test_many_small_runs_are_a_large_one_and_none_is_small():
    assert chosen_engine("auto", [BOARD] * 2) == "simpy"
    assert chosen_engine("auto", [BOARD] * 2000) == "compiled"
    assert chosen_engine("auto", []) == "simpy"


@pytest.mark.parametrize(
    "change",
    [
        {"clients": 40},
        {"horizon_s": 600.0},
        {"polling.interval_s": 5.0},
        {"transport": "websocket", "updates.rate_per_s": 5.0},
        {"transport": "notify"},
        {"sessions": {"arrivals_per_s": 1.0, "length_s": 300.0}},
        {"hidden": {"every_s": 10.0, "length_s": 10.0}},
        {"faults": [{"kind": "reset", "start_s": 60}]},
    ],
)
def test_more_work_is_expected_where_there_is_more(change):
    assert expected_events(BOARD.replace(change)) > expected_events(BOARD)


@pytest.mark.parametrize("transport", ["websocket", "notify"])
def test_safety_polls_are_expected_beside_an_open_socket(transport):
    pushed = PUSH.replace(transport=transport)
    polled = pushed.replace({"websocket.safety_poll_s": 1.0})
    as_often = BOARD.replace({"polling.interval_s": 1.0})
    more = expected_events(polled) - expected_events(pushed)
    assert more == pytest.approx(expected_events(as_often), rel=0.01)
    assert chosen_engine("auto", [pushed.replace(clients=100)]) == "simpy"
    assert chosen_engine("auto", [polled.replace(clients=100)]) == "compiled"


def test_changes_of_a_trace_are_counted(tmp_path):
    times = "".join(f"{n}\n" for n in range(100))
    (tmp_path / "t.csv").write_text("publish_s\n" + times)
    (tmp_path / "t.toml").write_text('[updates]\nkind = "trace"\ntrace = "t.csv"\n')
    traced = sl.Scenario.load(tmp_path / "t.toml").replace(transport="websocket")
    few = traced.replace({"updates": {"rate_per_s": 0.01}})
    assert expected_events(traced) > expected_events(few) + 90 * traced.clients


COUNTED = [BOARD, PUSH, BOARD.replace(transport="notify")]
COUNTED += [one.replace({"websocket.safety_poll_s": 2.0}) for one in COUNTED[1:]]


@pytest.mark.parametrize("scenario", COUNTED)
def test_expected_events_are_about_as_many_as_the_reference_handles(scenario):
    from simlib.engines.reference import Simulation
    from simlib.scenario import compile_workload, new_record

    workload = compile_workload(scenario, 1, 0)
    simulation = Simulation(workload, new_record(scenario, workload))
    handled = 0
    step = simulation.clock.step

    def counted():
        nonlocal handled
        handled += 1
        step()

    simulation.clock.step = counted
    simulation.run_until(scenario.horizon_s)
    assert 0.2 < handled / expected_events(scenario) < 5.0


@pytest.mark.parametrize("engine", ["numba", "Auto", "", None, 1, ["auto"]])
def test_an_unknown_engine_is_refused_everywhere(engine):
    calls = [
        lambda: sl.simulate(BOARD, engine=engine),
        lambda: sl.replicate(BOARD, 2, engine=engine),
        lambda: sl.variants(BOARD, {"a": {}}, engine=engine),
        lambda: sl.sweep(BOARD, {"clients": [1]}, engine=engine),
        lambda: sl.compare(BOARD, PUSH, engine=engine),
        lambda: sl.roll_out(PLAN, BOARD, engine=engine),
        lambda: sl.rehearse(PLAN, BOARD, engine=engine),
    ]
    for call in calls:
        with pytest.raises(sl.ScenarioError, match="engine: must be one of auto, simpy, compiled"):
            call()


def test_the_run_says_which_engine_it_was():
    run = sl.simulate(BOARD, progress=False)
    assert run.provenance["engine"] == "simpy"
    runs = sl.replicate(BOARD, 2, progress=False)
    assert [one.provenance["engine"] for one in runs] == ["simpy"] * 2
    assert sl.roll_out(PLAN, BOARD, progress=False).run.provenance["engine"] == "simpy"


@pytest.fixture
def asked(monkeypatch):
    """Which engines the runs of a call are carried out by; SimPy does the work in any case."""
    engines = []
    simulate = experiment.simulate

    def noted(scenario, *, engine, **options):
        engines.append(engine)
        return simulate(scenario, engine="simpy", **options)

    monkeypatch.setattr(experiment, "simulate", noted)
    monkeypatch.setattr(trials, "simulate", noted)
    return engines


@pytest.mark.parametrize("worth", [1.0, 1e12])
def test_all_runs_of_a_call_are_carried_out_by_one_engine(monkeypatch, asked, worth):
    monkeypatch.setattr(choice, "WORTH_LOADING", worth)
    options = {"progress": False, "on": "serial"}
    over = {"clients": [1, 20]}
    table = sl.sweep(BOARD, over, replications=2, **options)
    sl.replicate(BOARD, 2, progress=False)
    sl.compare(BOARD, PUSH, replications=2, **options)
    sl.variants(BOARD, {"a": {}, "b": {"clients": 1}}, **options)
    sl.rehearse(PLAN, BOARD, replications=2, **options)
    trials.variants(PLAN, BOARD, {"a": {}}, **options)
    assert asked == ["compiled" if worth == 1.0 else "simpy"] * (4 + 2 + 4 + 2 + 2 + 1)
    again = sl.sweep(BOARD, over, replications=2, engine="simpy", **options)
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize(
    ("engine", "scenarios", "on"),
    [
        ("auto", [BOARD], "serial"),
        ("auto", [BOARD] * 2000, "threads"),
        ("simpy", [BOARD], "processes"),
        ("compiled", [BOARD], "threads"),
    ],
)
def test_runs_go_to_the_usual_place_of_their_engine(engine, scenarios, on):
    assert experiment.execution_of(None, engine, None, False, scenarios).place == on
    assert experiment.execution_of("threads", engine, None, False, scenarios).place == "threads"


def test_a_thread_that_waits_for_others_does_not_cut_its_run_ever_shorter(monkeypatch):
    reached = []

    class Waiting:
        """Takes seconds by the clock for any slice, and next to nothing of its thread's time."""

        is_interrupted = False

        def run_until(self, t):
            reached.append(t)
            assert len(reached) < 1000, "slices become ever shorter"

    clock = itertools.count(step=10.0)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert engines._run(Waiting(), 100.0, False, None, None) == 100.0
    assert reached[-1] == 100.0
    assert len(reached) < 20
