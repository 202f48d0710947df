"""A search for scenarios on which the engines differ, by the thousand, that counts the ways taken.

Scenarios of every kind hardly ever come to the ways by which the compiled engine does at once what
nothing disturbs (`Simulation.taken`), so half of the search is aimed at them::

    python -m tests.engines.search --scenarios 20000 --seed 1 --out data/measured/equality.json
    python -m tests.engines.search --scenarios 500 --aim storms --keep

It is cut into chunks of 500 scenarios, each in a process of its own and with a seed of its own.
Every scenario runs on both engines, and all tables are compared, to the last bit; `--keep` keeps
the deliveries and events of every run, which else some runs do. What is printed says how many were
compared, how many of them took each way and how often, and the settings of those that differ. The
same version of hypothesis draws the same scenarios again. `--add` sums up with what other searches
have written, so one can be carried on with another seed. With ``NUMBA_DISABLE_JIT=1`` the compiled
engine is interpreted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import hypothesis
import numba
from hypothesis import HealthCheck, Phase, given, reject
from hypothesis import strategies as st
from tqdm import tqdm

import simlib as sl
from simlib.engines import simulate
from simlib.engines.compiled import simulation as compiled
from simlib.engines.compiled import variants
from simlib.engines.compiled.state import BLOCK
from tests.benchmarks.pairs import commit_of, machine
from tests.engines.test_attempts import storms
from tests.engines.test_beats import beating
from tests.engines.test_compiled_engine import KEPT, assert_equal_tables
from tests.engines.test_rollouts import Script
from tests.engines.test_tight_paths import BOARDS, FLAGS, PERCENTS, SOCKETS, TREATMENTS, pings_for
from tests.strategies import scenarios

ROOT = Path(__file__).parents[2]
CHUNK = 500
LONGEST_S = 3600.0
"""How long a chunk may take before it counts as hung."""

Found = dict[str, Any]


class Case(NamedTuple):
    """What both engines run, and the compiled one in the general loop or in that of a transport."""

    scenario: sl.Scenario
    seed: int
    keep: tuple[str, ...]
    in_general: bool
    script: Callable[[], Script | None] = lambda: None
    says: str = ""


# -- what is drawn ----------------------------------------------------------------------------


CROWDS = st.sampled_from([*(3, 20, 60) * 5, 2 * BLOCK + 30])
"""How many clients a board has: of two blocks and more only sometimes, as SimPy takes long."""


def _board(values: dict[str, Any], clients: int, **more: Any) -> sl.Scenario:
    values = {**values, "clients": clients}
    try:
        return sl.Scenario(**{**values, **more})
    except sl.ScenarioError:
        reject()


@st.composite
def pollers(draw: Any) -> sl.Scenario:
    """Boards that are polled, with what disturbs polls."""
    habit = st.sampled_from([None, None, None, {"every_s": 5.0, "length_s": 2.0}])
    more = {"drag": draw(habit), "hidden": draw(habit)}
    return _board(draw(BOARDS), draw(CROWDS), transport="polling", **more)


@st.composite
def pushed(draw: Any) -> sl.Scenario:
    """Boards whose changes are pushed to many."""
    values, transport = draw(BOARDS), draw(SOCKETS)
    if transport == "sse" and values["heartbeat"]["direction"] == "client":
        values = {**values, "heartbeat": {**values["heartbeat"], "direction": "server"}}
    return _board(values, draw(CROWDS), transport=transport)


@st.composite
def _rollouts(draw: Any) -> tuple[sl.Scenario, Callable[[], Script], str]:
    """Boards that are rolled out, and how."""
    values, flag, percents, changes = (draw(each) for each in (BOARDS, FLAGS, PERCENTS, TREATMENTS))
    board = _board({**values, "heartbeat": pings_for(values, flag)}, draw(CROWDS))
    treatment = board.replace(changes) if changes else None
    says = f"{flag}, {percents}, treatment: {changes}"
    return board, lambda: Script(flag, percents, treatment=treatment), says


AIMED: dict[str, Any] = {
    "beats": beating(),
    "storms": storms(),
    "polls": pollers(),
    "broadcasts": pushed(),
    "rollouts": None,
}
"""What is aimed at, and what is drawn for it; a rollout is more than a scenario."""
AIMS = (*AIMED, "none")


@st.composite
def cases(draw: Any, aim: str, keeps: bool) -> Case:
    """Cases that are aimed at something, or of every kind."""
    script, says = (lambda: None), ""
    if aim == "rollouts":
        scenario, script, says = draw(_rollouts())
    else:
        scenario = draw(scenarios() if aim == "none" else AIMED[aim])
    # Nothing is counted at once where each event is kept.
    some = [(), KEPT] if aim == "none" else [()] * 8 + [("deliveries",), KEPT]
    keep = KEPT if keeps else draw(st.sampled_from(some))
    in_general = draw(st.sampled_from([False, False, False, True]))
    return Case(scenario, draw(st.integers(0, 2**64 - 1)), keep, in_general, script, says)


# -- what is done with it ---------------------------------------------------------------------


@contextmanager
def counted() -> Iterator[list[compiled.Simulation]]:
    """Yield the compiled simulations that are finished meanwhile."""
    found, finish = [], compiled.Simulation.finish

    def finish_and_keep(simulation: compiled.Simulation) -> None:
        found.append(simulation)
        finish(simulation)

    with mock.patch.object(compiled.Simulation, "finish", finish_and_keep):
        yield found


def run(case: Case, engine: str) -> sl.Run:
    """Run a case on an engine."""
    return simulate(
        case.scenario,
        seed=case.seed,
        keep=case.keep,
        engine=engine,
        progress=False,
        controller=case.script(),
    )


def compare(case: Case) -> tuple[str, Counter[str]]:
    """Run a case on both engines; return how they differ, if they do, and the ways taken."""
    with counted() as finished, mock.patch.object(variants, "FROM_CLIENTS", _from(case)):
        try:
            one, other = (run(case, engine) for engine in ("simpy", "compiled"))
            names = (*case.keep, *(["exposures"] if case.says else []))
            if case.scenario.server.nodes > 1:
                names += ("busy",)
            assert_equal_tables(one, other, names)
            difference = ""
        except Exception as error:  # an engine that fails is found, as one that differs is
            difference = f"{type(error).__name__}: {error}"
    taken = Counter()
    for simulation in finished:
        taken.update(simulation.taken)
    return difference, taken


def _from(case: Case) -> float:
    return float("inf") if case.in_general else 0


def search(aim: str, scenarios: int, seed: int, *, keeps: bool = False) -> Found:
    """Compare the engines on scenarios that a seed draws, in this process."""
    times, runs, differing, compared = Counter(), Counter(), [], 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=scenarios,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(aim, keeps))
    def each(case: Case) -> None:
        nonlocal compared
        difference, taken = compare(case)
        compared += 1
        times.update(taken)
        runs.update(name for name, n in taken.items() if n > 0)
        if difference:
            differing.append(_words_of(case, difference))

    each()
    return {
        "compared": compared,
        "differing": differing,
        "taken": {name: {"runs": runs[name], "times": times[name]} for name in times},
    }


def _words_of(case: Case, difference: str) -> Found:
    """What makes a case again."""
    return {
        "difference": difference[:2000],
        "scenario": case.scenario.dump(),
        "seed": case.seed,
        "keep": case.keep,
        "in_general": case.in_general,
        "rollout": case.says,
    }


def total(parts: list[Found]) -> Found:
    """Sum up what was found."""
    names = dict.fromkeys(name for part in parts for name in part["taken"])
    none = {"runs": 0, "times": 0}
    return {
        "compared": sum(part["compared"] for part in parts),
        "differing": [each for part in parts for each in part["differing"]],
        "taken": {
            name: {
                of: sum(part["taken"].get(name, none)[of] for part in parts)
                for of in ("runs", "times")
            }
            for name in names
        },
    }


# -- the command ------------------------------------------------------------------------------


def chunks_of(aim: str, scenarios: int, seed: int) -> list[tuple[str, int, int]]:
    """Return aim, number and seed of each chunk; for all, half of them are aimed at something.

    Examples
    --------
    >>> chunks_of("beats", 700, 3)
    [('beats', 500, 3000), ('beats', 200, 3001)]
    """
    numbers = {aim: scenarios}
    if aim == "all":
        share, rest = divmod(scenarios - scenarios // 2, len(AIMED))
        numbers = {each: share + (place < rest) for place, each in enumerate(AIMED)}
        numbers["none"] = scenarios // 2
    found = [(each, n, first) for each, n in numbers.items() for first in range(0, n, CHUNK)]
    found.sort(key=lambda chunk: chunk[2] / chunk[1])  # so that all aims come on alike
    return [
        (each, min(CHUNK, n - first), 1000 * seed + place)
        for place, (each, n, first) in enumerate(found)
    ]


def in_a_process(aim: str, scenarios: int, seed: int, keeps: bool) -> Found:
    """Search in a fresh process."""
    asked = ["--one", "--aim", aim, "--scenarios", str(scenarios), "--seed", str(seed)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engines.search", *asked, *["--keep"] * keeps],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=LONGEST_S,
        )
    except subprocess.SubprocessError as error:  # it has crashed, or hangs
        return {"compared": 0, "differing": [{"difference": str(error)}], "taken": {}}
    found: Found = json.loads(done.stdout)
    return found


def about(asked: argparse.Namespace) -> Found:
    """What is compared, and where."""
    return {
        "commit": commit_of(ROOT),
        "machine": machine(),
        "versions": {name: version(name) for name in ("simpy", "numba", "numpy", "hypothesis")},
        "is_compiled": not numba.config.DISABLE_JIT,
        "asked": {name: getattr(asked, name) for name in ("scenarios", "seed", "aim", "keep")},
    }


def report(searches: list[Found], parts: list[tuple[str, Found]]) -> Found:
    """What was found by chunks of some searches, in all and by aim."""
    by_aim = {aim: total([part for of, part in parts if of == aim]) for aim, _ in parts}
    everything = total(list(by_aim.values()))
    differ = len(everything.pop("differing"))
    return {"searches": searches, "differ": differ, **everything, "aims": by_aim}


def main(asked: argparse.Namespace) -> Found:
    """Search in as many processes at a time as are asked for; what is found is kept as it comes."""
    earlier = [json.loads(file.read_text(encoding="utf-8")) for file in asked.add]
    searches = [each for found in earlier for each in found["searches"]]
    parts = [pair for found in earlier for pair in found["aims"].items()]
    if asked.scenarios > 0:
        searches.append(about(asked))
    with (
        ThreadPoolExecutor(asked.workers) as pool,
        tqdm(total=asked.scenarios, desc="search") as bar,
    ):
        chunks = chunks_of(asked.aim, asked.scenarios, asked.seed)
        started = {pool.submit(in_a_process, *chunk, asked.keep): chunk for chunk in chunks}
        for done in as_completed(started):
            part = done.result()
            parts.append((started[done][0], part))
            bar.update(part["compared"])
            for each in part["differing"]:
                tqdm.write(f"{started[done]}: {each}", file=sys.stderr)
            write(report(searches, parts), asked.out)
    result = report(searches, parts)
    write(result, asked.out)
    return result


def write(result: Found, out: Path | None) -> None:
    """Write what was found, if it is to be written."""
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    reader = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    reader.add_argument("--scenarios", type=int, default=20_000)
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--aim", choices=("all", *AIMS), default="all")
    reader.add_argument("--keep", action="store_true", help="keep deliveries and events of all")
    reader.add_argument("--workers", type=int, default=1, help="processes at a time")
    reader.add_argument("--out", type=Path)
    reader.add_argument("--add", type=Path, nargs="+", default=[], help="what is found already")
    reader.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return reader.parse_args()


if __name__ == "__main__":
    given_words = arguments()
    if given_words.one:
        chunk = search(
            given_words.aim, given_words.scenarios, given_words.seed, keeps=given_words.keep
        )
        sys.stdout.write(json.dumps(chunk))
    else:
        result = main(given_words)
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        sys.exit(result["differ"] > 0)
