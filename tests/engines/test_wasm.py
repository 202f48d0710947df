"""The loops as WebAssembly: the compiled engine's results, to the last bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
import wasmtime
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.engines.compiled import variants
from simlib.engines.compiled.simulation import Simulation
from simlib.engines.compiled.variants import GENERAL, POLLS
from simlib.engines.wasm import block, modules, object_file
from simlib.engines.wasm.image import image_of, leaves, with_room
from simlib.scenario import compile_workload, new_record
from simlib.web.packed import packed
from tests.engines.pages import CannotGoOn, Page
from tests.strategies import scenarios

ROOT = Path(__file__).parents[2]
EXAMPLES = 200
MOST_LETTERS = 115_000
"""A module's size, packed: what a page carries."""
BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=300, horizon_s=120.0)
BOARDS = {
    POLLS: BOARD,
    GENERAL: BOARD.replace(
        {
            "transport": "websocket",
            "server.nodes": 2,
            "faults": [{"kind": "restart", "start_s": 40.0, "length_s": 5.0}],
        }
    ),
}


@cache
def page(copy):
    return Page(copy)


@pytest.fixture(autouse=True, scope="module")
def ends_before_python_does():
    """What wasmtime holds cannot be given back when its module is gone."""
    yield
    page.cache_clear()


def differing(scenario, seed, slices=1):
    """The arrays of the world, at the end of a run, that the two do not have alike."""
    workload = compile_workload(scenario, seed, 0)
    ours, theirs = (Simulation(workload, new_record(scenario, workload)) for _ in range(2))
    ours._world = with_room(ours.world)  # rings are as long there
    copy = variants.variant_of(workload)
    in_page = page(copy).run(theirs, scenario.horizon_s, slices)
    for number in range(1, slices + 1):
        ours.run_until(scenario.horizon_s * number / slices)
    ours.finish()
    return [
        name
        for name, value in leaves(ours.world)
        if isinstance(value, np.ndarray) and not name.startswith("q.")
        if not _are_equal(value, in_page[name])
    ]


def _are_equal(ours, theirs):
    """Compare arrays, of which one may have more rows that are not filled."""
    rows = min(len(ours), len(theirs))
    one, other = (np.ascontiguousarray(each[:rows]) for each in (ours, theirs))
    return one.tobytes() == other.tobytes()


@pytest.mark.parametrize("copy", BOARDS, ids=lambda copy: copy.label)
@pytest.mark.parametrize("slices", [1, 7])
def test_a_page_has_the_results_of_the_compiled_engine(copy, slices):
    assert differing(BOARDS[copy], 3, slices) == []


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), seed=st.integers(0, 2**64 - 1), slices=st.sampled_from([1, 1, 4]))
def test_pages_and_the_compiled_engine_agree_on_scenarios_of_every_kind(scenario, seed, slices):
    try:
        assert differing(scenario, seed, slices) == []
    except CannotGoOn:
        reject()


def test_what_differs_is_noticed():
    """The tests before this one could fail: another seed's run has other results."""
    workloads = [compile_workload(BOARD, seed, 0) for seed in (3, 4)]
    ours, theirs = (Simulation(each, new_record(BOARD, each)) for each in workloads)
    in_page = page(POLLS).run(theirs, BOARD.horizon_s, 1)
    ours.run_until(BOARD.horizon_s)
    ours.finish()
    assert not _are_equal(ours.world.record.bins, in_page["record.bins"])


@pytest.mark.parametrize("copy", BOARDS, ids=lambda copy: copy.label)
def test_a_module_asks_for_its_memory_and_its_stack_and_says_nothing_of_this_machine(copy):
    code = modules.module_of(copy).code
    imported = wasmtime.Module(wasmtime.Engine(), code).imports
    assert {each.name for each in imported} == {"__linear_memory", "__stack_pointer"}
    for said in (ROOT, sys.prefix, Path.home()):
        assert str(said).encode() not in code
    assert len(packed(object_file.without_notes(code))) < MOST_LETTERS


def test_a_module_is_the_same_bytes_wherever_it_is_made(tmp_path):
    shutil.copytree(
        ROOT / "simlib", tmp_path / "simlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    settings = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    command = [sys.executable, "-m", "simlib.engines.wasm", "polls"]
    subprocess.run(
        command, check=True, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True
    )
    [made] = tmp_path.glob("kept/**/page-polls-*.wasm")
    assert made.read_bytes() == modules.path_of(POLLS).read_bytes()


def test_a_world_of_another_shape_is_refused():
    workload = compile_workload(BOARD, 3, 0)
    world = Simulation(workload, new_record(BOARD, workload)).world
    with pytest.raises(ValueError, match="takes 3 words, and the run has"):
        image_of(world, ("one", "two", "three"))


def test_an_array_has_its_words_by_name():
    kind = numba.typeof((np.zeros((2, 3)), 1.5))
    assert list(block.words_of(kind, "given")) == [
        *(f"given.0.{part}" for part in ("meminfo", "parent", "nitems", "itemsize", "data")),
        *(f"given.0.{part}" for part in ("shape.0", "shape.1", "strides.0", "strides.1")),
        "given.1",
    ]


def test_what_is_no_object_file_is_refused():
    with pytest.raises(ValueError, match="must begin with"):
        object_file.module_of(b"no object", ["run"], {})
    with pytest.raises(ValueError, match="lacks run"):
        object_file.module_of(object_file.MAGIC, ["run"], {})
    with pytest.raises(ValueError, match="no section words"):
        object_file.custom_section(object_file.MAGIC, "words")
