"""What a page lays out and adds up is what Python does, wherever the sliders are."""

from __future__ import annotations

import math
import random
import re
from functools import cache

import numpy as np
import pytest

import simlib as sl
from simlib.core.measures import MEASURES, evaluate
from simlib.core.record import bucket_edges_s
from simlib.engines.compiled.simulation import Simulation
from simlib.engines.compiled.variants import GENERAL
from simlib.engines.wasm.image import words_of_array
from simlib.engines.wasm.kernels import SAMPLES, TALLIED
from simlib.engines.wasm.modules import module_of
from simlib.errors import ScenarioError
from simlib.rollout.controller import RolloutController
from simlib.run.sentences import NUMBERS as NUMBERS_OF_RUNS
from simlib.run.warnings import Facts, Numbers
from simlib.scenario import compile_workload, enrolled, new_record
from simlib.web.laid_out import EDGES_S, MARKS, NUMBERS, SCHEDULE, SPANS_S, SUMS, WARNED, laid_out
from simlib.web.shown import ran
from simlib.web.sliders import moved, moved_plan, sliders_of
from tests.engines.pages import Page

SEED = 7
POSITIONS = 6
SLICES = 3
RESTART = {"kind": "restart", "start_s": 40.0, "length_s": 5.0}
BOARD = sl.Scenario(
    updates={"rate_per_s": 0.3}, clients=60, horizon_s=100.0, warm_up_s=20.0, bin_s=4.0
)
COMMON = {"clients": (20, 300), "updates.rate_per_s": (0.05, 2.0)}
RECONNECTING = {
    "reconnect.policy": ["full_jitter", "none", "exponential"],
    "reconnect.base_s": (0.1, 3.0),
}
HIDDEN = {"every_s": 30.0, "length_s": 5.0}
OF_TABS = ("waited", "never", "waited_frac")
"""The numbers that only a run has whose browsers have a limit of connections."""
FAILING = {"faults": [RESTART], "server.handshake_s": 0.01}
EXPLORED = {
    "polling": ({}, {**COMMON, "polling.interval_s": (5.0, 60.0), "ramp_s": (0.0, 30.0)}),
    "websocket": (
        {"transport": "websocket", **FAILING},
        {**COMMON, "faults.0.start_s": [30.0, 40.0, 41.5], "faults.0.length_s": [1.0, 5.0, 20.0]},
    ),
    "reconnecting": (
        {"transport": "websocket", "network.rtt_spread": 0.5, **FAILING},
        {**COMMON, **RECONNECTING, "network.rtt_spread": (0.2, 0.9), "network.rtt_s": (0.0, 0.2)},
    ),
    "sse": ({"transport": "sse", **FAILING}, {**COMMON, "server.nodes": [1, 2, 3]}),
    "notify": ({"transport": "notify"}, {**COMMON, "notify.spread_s": (0.0, 5.0)}),
    "sse_notify": ({"transport": "sse_notify"}, {**COMMON, "server.poll_s": (0.0, 0.01)}),
    "long_polling": ({"transport": "long_polling"}, {**COMMON, "horizon_s": (50.0, 100.0)}),
    "hidden": (
        {"hidden": HIDDEN, "polling.etag": "version"},
        {**COMMON, "polling.interval_s": (5.0, 60.0), "network.rtt_s": (0.0, 0.3)},
    ),
    "tabs": (
        {"transport": "sse", "tabs_per_user": 10, "network.connections_per_user": 6},
        {**COMMON, "server.max_connections": [20, 40, 20_000]},
    ),
    "tabs of hints": (
        {"transport": "sse_notify", "tabs_per_user": 10, "network.connections_per_user": 6},
        {**COMMON, "server.nodes": [1, 2]},
    ),
    "full": (
        {"transport": "websocket", "fallback": {"after_failures": 2}, **FAILING},
        {**COMMON, "server.max_connections": [20, 40, 20_000], "server.handshake_s": (0.01, 1.0)},
    ),
    "sessions": (
        {"sessions": {"arrivals_per_s": 1.0, "length_s": 30.0}, "network.rtt_spread": 0.4},
        {
            "clients": [20, 60, 300],
            "polling.interval_s": (5.0, 60.0),
            "sessions.length_s": (5.0, 200.0),
            "sessions.arrivals_per_s": [0.2, 1.0, 3.0],
        },
    ),
    "constant sessions": (
        {"sessions": {"arrivals_per_s": 1.0, "length_s": 30.0, "length": "constant"}},
        {"polling.interval_s": (5.0, 60.0), "updates.rate_per_s": (0.05, 2.0)},
    ),
}


@cache
def page():
    return Page(GENERAL)


@pytest.fixture(autouse=True, scope="module")
def ends_before_python_does():
    """What wasmtime holds cannot be given back when its module is gone."""
    yield
    page.cache_clear()


@pytest.mark.parametrize("name", EXPLORED)
def test_a_page_simulates_and_adds_up_what_python_does_wherever_the_sliders_are(name):
    changes, moves = EXPLORED[name]
    board = BOARD.replace(changes)
    sliders = sliders_of(board, moves)
    laid = laid_out(board, sliders, SEED, module_of(GENERAL).words)
    chosen = random.Random(name)
    for _ in range(POSITIONS):
        positions = [chosen.randrange(len(slider.values)) for slider in sliders]
        check(laid, moved(board, sliders, positions), sliders, positions)


def check(laid, scenario, sliders, positions, plan=None):
    running = page().begin(laid.image)
    for group in laid.groups:
        place = 0
        for number in group.sliders:
            place = place * len(sliders[number].values) + positions[number]
        running.write(group.changes[place])
    places = laid.image.places
    *drawn_by, horizon_s, warm_up_s = running.array(places[NUMBERS])
    assert (horizon_s, warm_up_s) == (scenario.horizon_s, scenario.warm_up_s)
    running.call("lay_out", *drawn_by)
    changes = [(t, p) for t, p in running.array(places[SCHEDULE]).tolist() if t < horizon_s]
    running.simulate(horizon_s, SLICES, changes)
    rows, record = ours(scenario, plan)
    theirs = running.array(places["arrays.rows"])[: len(rows)]
    assert rows.tobytes() == theirs.tobytes()
    for array in ARRAYS:
        ours_, theirs = getattr(record, array), running.array(places[f"record.{array}"])
        part = tuple(slice(length) for length in ours_.shape)
        assert np.array_equal(ours_, theirs[part]), array
    run = ran(scenario, SEED, plan, engine="compiled")
    check_logs(running, places, run)
    check_numbers(running, places, run, warm_up_s)
    check_totals(running, places, run, warm_up_s)
    assert np.array_equal(running.array(places[EDGES_S]), bucket_edges_s())


ARRAYS = (
    "bins",
    "messages",
    "busy_s",
    "latency_ticks",
    "wait_ticks",
    "wait_histogram",
    "histogram",
)


def ours(scenario, plan):
    """The rows of clients and the record of a run here, with the controller's own looks at it."""
    workload, controller = compile_workload(scenario, SEED, 0), None
    if plan is not None:
        controller = RolloutController(plan, scenario, SEED, 0)
        rules = controller.cohort_rules(scenario, workload)
        workload = enrolled(workload, controller.flag, controller.buckets(workload), rules)
    record = new_record(scenario, workload)
    simulation = Simulation(workload, record)
    for number in range(1, SLICES + 1):
        end_s = scenario.horizon_s * number / SLICES
        while controller is not None and controller.due_s() < end_s:
            simulation.run_until(controller.due_s())
            percent = controller.observe(simulation.snapshot())
            if percent is not None:
                simulation.set_percentage(percent)
        simulation.run_until(end_s)
    simulation.finish()
    return np.asarray(simulation.world.arrays.rows), record


def check_logs(running, places, run):
    """Every connection, and every exposure to a cohort, in the order in which they ended."""
    columns = {"connections": ("opened_s", "closed_s"), "exposures": ("from_s", "to_s")}
    for log, times in columns.items():
        if log == "exposures" and not run.has_cohorts:
            continue
        filled = int(running.array(places[f"record.{log}.1"])[0])
        theirs, table = running.array(places[f"record.{log}.0"])[:filled], run.columns(log)
        for name in ("client", *times):
            assert np.array_equal(theirs[name], table[name]), (log, name)


def check_numbers(running, places, run, warm_up_s):
    """What sentences of warnings are made with, of all cohorts together."""
    running.call("warn", warm_up_s, *words_of(places, WARNED, MARKS))
    numbers = Numbers(Facts(run.scenario, run.provenance, run._tables))
    for name, found in zip(NUMBERS_OF_RUNS, running.array(places[WARNED]), strict=True):
        if name not in OF_TABS or run.scenario.network.connections_per_user is not None:
            assert found == pytest.approx(np.nan_to_num(numbers[name]), rel=1e-12), name


def words_of(places, *names):
    return [word for name in names for word in words_of_array(places[name])]


def check_totals(running, places, run, warm_up_s):
    for cohort, totals in enumerate(run.totals()):
        for name in (SUMS, SPANS_S):
            running.write({places[name].address: bytes(8 * math.prod(places[name].shape))})
        running.call("tally", warm_up_s, cohort, *words_of(places, SUMS, SPANS_S, EDGES_S))
        sums = running.array(places[SUMS])
        for measure in MEASURES.values():
            if np.isfinite(totals.get(measure.name, np.nan)):
                row = dict(zip(TALLIED, sums[SAMPLES.index(measure.sample)], strict=True))
                found = float(evaluate(measure, row))
                assert found == pytest.approx(totals[measure.name], rel=1e-12), measure.name


SESSIONS = {"arrivals_per_s": 1.0, "length_s": 30.0}
LENGTHS = {"short": {"sessions.length_s": 10.0, "sessions.arrivals_per_s": 3.0}, "as it is": {}}
FLAGS = {
    "built": {"propagation": "build", "delay_s": 7.0},
    "once": {"propagation": "session", "cached_frac": 0.8},
    "polled": {"propagation": "polled", "every_s": 8.0, "jitter_s": 2.0},
    "told": {"propagation": "pushed"},
}
SOCKETS = {
    "kept": {},
    "drained": {"sockets": "drained", "window_s": 9.0},
    "closed": {"sockets": "closed"},
}
PLAN = sl.Plan(
    flag=FLAGS["polled"],
    check_every_s=5.0,
    stages=[{"percent": 30, "bake_s": 12.0}, {"percent": 90, "bake_s": 20.0, "gate_s": 3.0}],
    bucketing={"rule": "unleash"},
    kill_s=70.0,
)
OF_THE_PLAN = {
    "plan.stages.0.percent": [0, 30, 60, 90],
    "plan.flag": FLAGS,
    "plan.rollback": SOCKETS,
    "plan.kill_s": [25.0, 70.0, 90.0, None],
    "session length": LENGTHS,
}
TREATMENTS = {
    "websocket": {},
    "notify": {"treatment": {"transport": "notify"}},
    "sse": {"treatment": {"transport": "sse"}},
    "long_polling": {"treatment": {"transport": "long_polling"}},
    "faster": {
        "treatment": {"transport": "polling", "changes": {"polling.interval_s": 7.0}},
    },
    "streams of tabs": {
        "control": {"transport": "sse_notify"},
        "treatment": {"transport": "websocket"},
    },
    "drifting": {"bucketing": {"rule": "unleash", "sticks": "enrolled"}},
    "failing": {"failing": ["smoke test"], "decision.failures": 3},
    "pushed_back": {
        "control": {"transport": "websocket", "changes": {"heartbeat.interval_s": 5.0}},
        "treatment": {"transport": "polling"},
    },
}


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_page_carries_a_plan_out_as_python_does_wherever_the_sliders_are(name):
    plan, board = PLAN.replace(TREATMENTS[name]), BOARD.replace(sessions=SESSIONS)
    if name == "streams of tabs":
        board = board.replace({"tabs_per_user": 10, "network.connections_per_user": 6})
    moves = dict(OF_THE_PLAN)
    if name == "faster":
        del moves["plan.rollback"]  # one transport has no sockets to close
    if name == "drifting":
        moves["polling.interval_s"] = [30.0, 60.0]  # by which the percentage grows
        del moves["session length"]
    sliders = sliders_of(board, moves, plan)
    laid = laid_out(board, sliders, SEED, module_of(GENERAL).words, plan)
    chosen = random.Random(name)
    for _ in range(POSITIONS):
        positions = [chosen.randrange(len(slider.values)) for slider in sliders]
        there = moved_plan(plan, sliders, positions)
        check(laid, moved(board, sliders, positions), sliders, positions, there)


@pytest.mark.parametrize("transport", ["websocket", "notify", "sse", "sse_notify", "long_polling"])
def test_the_interval_of_polls_moves_nothing_where_nobody_polls(transport):
    board = BOARD.replace({"transport": transport, **FAILING, "hidden": HIDDEN})
    sliders = sliders_of(board, {"polling.interval_s": (1.0, 100.0)})
    laid = laid_out(board, sliders, SEED, module_of(GENERAL).words)
    assert not any(laid.groups[0].changes)
    for position in (0, len(sliders[0].values) - 1):
        check(laid, moved(board, sliders, [position]), sliders, [position])
    falls_back = board.replace(fallback={"after_failures": 2})
    laid = laid_out(
        falls_back,
        sliders_of(falls_back, {"polling.interval_s": (1.0, 100.0)}),
        SEED,
        module_of(GENERAL).words,
    )
    assert any(laid.groups[0].changes)
    ways = {"as it is": {}, "falls back": {"fallback": {"after_failures": 2}}}
    sliders = sliders_of(board, {"polling.interval_s": (1.0, 100.0), "way": ways})
    laid = laid_out(board, sliders, SEED, module_of(GENERAL).words)
    for way in range(len(ways)):
        check(laid, moved(board, sliders, [0, way]), sliders, [0, way])


@pytest.mark.parametrize(
    ("changes", "moves", "said"),
    [
        (
            {},
            {"network.rtt_spread": (0.0, 0.5), "clients": (20, 300)},
            "network.rtt_spread: must not slide in a page, as it decides how a run is laid out: ",
        ),
        (
            {"network.rtt_quantiles": [[0.5, 0.05], [1.0, 0.2]]},
            {"network.rtt_quantiles": [((0.5, 0.05), (1.0, 0.2)), ((0.5, 0.1), (1.0, 0.2))]},
            "network.rtt_quantiles: must not slide in a page, as it decides how far each client is",
        ),
        (
            {"sessions": {"arrivals_per_s": 1.0, "length_s": 30.0, "length": "constant"}},
            {"clients": (20, 300)},
            "clients: must not slide in a page, as it decides when each client comes",
        ),
        (
            {"transport": "websocket"},
            {"clients": (20, 300), "server.nodes": [1, 2], "server.broker_s": [0.0, 5.0]},
            "got ['server.nodes', 'server.broker_s']",
        ),
        (
            {"faults": [RESTART]},
            {"faults.0.start_s": (20.0, 60.0), "faults.0.length_s": (1.0, 19.0)},
            "faults.0.start_s and faults.0.length_s: must have at most 1,500 positions together",
        ),
    ],
)
def test_what_a_page_cannot_move_is_refused_as_soon_as_it_is_asked_for(changes, moves, said):
    with pytest.raises(ScenarioError, match=re.escape(said)) as refused:
        sl.web.explorer(BOARD.replace(changes), moves)
    assert "arrays." not in str(refused.value)
    assert "record." not in str(refused.value)
