"""What a page lays out and adds up is what Python does, wherever the sliders are."""

from __future__ import annotations

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
from simlib.run.sentences import NUMBERS as NUMBERS_OF_RUNS
from simlib.run.warnings import Facts, Numbers
from simlib.scenario import compile_workload, new_record
from simlib.web.laid_out import EDGES_S, MARKS, NUMBERS, SPANS_S, SUMS, WARNED, laid_out
from simlib.web.sliders import moved, sliders_of
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
        {"sessions": {"arrivals_per_s": 1.0, "length_s": 30.0}},
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


def check(laid, scenario, sliders, positions):
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
    running.simulate(horizon_s, SLICES)
    for kernel, filled in (("tally", (SUMS, SPANS_S, EDGES_S)), ("warn", (WARNED, MARKS))):
        running.call(
            kernel, warm_up_s, *(w for name in filled for w in words_of_array(places[name]))
        )

    workload = compile_workload(scenario, SEED, 0)
    record = new_record(scenario, workload)
    simulation = Simulation(workload, record)
    for number in range(1, SLICES + 1):
        simulation.run_until(scenario.horizon_s * number / SLICES)
    simulation.finish()
    rows = np.asarray(simulation.world.arrays.rows)
    theirs = running.array(places["arrays.rows"])[: len(rows)]
    assert rows.tobytes() == theirs.tobytes()
    for array in ("bins", "messages", "busy_s", "latency_ticks", "wait_histogram", "histogram"):
        ours, theirs = getattr(record, array), running.array(places[f"record.{array}"])
        part = tuple(slice(length) for length in ours.shape)
        assert np.array_equal(ours, theirs[part]), array

    assert np.array_equal(running.array(places[EDGES_S]), bucket_edges_s())
    sums = running.array(places[SUMS])
    run = sl.simulate(scenario, seed=SEED, engine="compiled")
    numbers = Numbers(Facts(scenario, run.provenance, run._tables))
    for name, found in zip(NUMBERS_OF_RUNS, running.array(places[WARNED]), strict=True):
        if name not in OF_TABS or scenario.network.connections_per_user is not None:
            assert found == pytest.approx(np.nan_to_num(numbers[name]), rel=1e-12), name
    (totals,) = run.totals()
    for measure in MEASURES.values():
        if np.isfinite(totals.get(measure.name, np.nan)):
            row = dict(zip(TALLIED, sums[SAMPLES.index(measure.sample)], strict=True))
            found = float(evaluate(measure, row))
            assert found == pytest.approx(totals[measure.name], rel=1e-12), measure.name


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
            {"sessions": {"arrivals_per_s": 1.0, "length_s": 30.0}},
            {"sessions.arrivals_per_s": (0.5, 2.0)},
            "sessions.arrivals_per_s: must not slide in a page, as it decides when each client ",
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
