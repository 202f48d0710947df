"""A run laid out in a page's memory, and what each position of a slider changes there.

A page knows nothing of scenarios. Python lays the run out with the longest tables that the sliders
ask for (`wasm.image`), takes every slider through its positions, and notes which bytes of the
memory are others: numbers of the rules, lengths of arrays, rows of small tables. The page copies
the bytes of the positions that its sliders have. What the seed settles for every client and change
it fills in itself (`wasm.kernels.lay_out`).

Sliders that move the same bytes, such as when a server dies and for how long, are taken through all
combinations. What has to be laid out for every client cannot be moved, which is refused by name. At
the end, bytes that are put together are compared with those of the scenario itself, in corners and
at random.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from simlib.engines.compiled.simulation import Simulation
from simlib.engines.compiled.turn import World
from simlib.engines.wasm.block import WORD_BYTES, words_of
from simlib.engines.wasm.image import (
    MOST_PERCENTAGES,
    Image,
    Place,
    image_of,
    leaves,
    word,
    words_of_array,
)
from simlib.engines.wasm.kernels import AS_IT_IS, SAMPLES, SPANS, TALLIED
from simlib.errors import ScenarioError
from simlib.rollout.controller import RolloutController
from simlib.rollout.plan import Plan
from simlib.rollout.schedule import percentages
from simlib.run import sentences
from simlib.run.warnings import foreseen, may_poll
from simlib.scenario import Scenario, compile_workload, enrolled, new_record
from simlib.web.sliders import Slider, moved, moved_plan

Bytes = dict[int, bytes]
"""What is written to a memory, by address."""

NUMBERS, SUMS, SPANS_S, EDGES_S = "page.numbers", "page.sums", "page.spans_s", "page.edges_s"
WARNED, MARKS, SCHEDULE = "page.warned", "page.marks", "page.schedule"
"""The arrays beside a world's: what a run is laid out by, what a page's kernels fill, and when a
plan sets which percentage; rows of that which are not needed have an infinite time."""
_LENGTHENED = ("q.", "arrays.beats.flying.")
"""Event lists: longer ones than are needed do as well, and their wheels may turn at any pace."""
_OF_POLLS = {"rules.interval_s", "treatment_rules.interval_s"}
"""What no client reads that never polls: a page need not simulate anew for it."""
_MOST_BYTES = 4096
_FOLLOWS = {
    "arrays.half_s": "how far each client is from the server",
    "arrays.start_s": "when each client comes",
    "arrays.end_s": "when each client goes",
    "record.publish_s": "when changes are published",
    "arrays.fault_events": "what happens in the run",
}
"""What a page has of a run from Python, by the array that holds it."""
_INSTEAD = "show a scenario of each beside each other instead"
_RANDOM = 12
_CORNERS = 5
"""Of so many sliders all corners are looked at."""
_MOST_TOGETHER = 1500


class Group(NamedTuple):
    """Sliders that move the same bytes, mostly one alone.

    Attributes
    ----------
    sliders : tuple of int
        Their numbers.
    changes : tuple of dict
        What is written after the image, for each combination of their positions; those of the last
        slider change first.
    """

    sliders: tuple[int, ...]
    changes: tuple[Bytes, ...]


class LaidOut(NamedTuple):
    """A run in the memory of a page, and what sliders change there.

    Attributes
    ----------
    image : Image
        `NUMBERS` are what `kernels.lay_out` takes, the horizon and the warm-up; `SUMS`, `SPANS_S`
        and `EDGES_S` are what `kernels.tally` fills, `WARNED` and `MARKS` what `warned.warn` does;
        `SCHEDULE` has a time and a percentage a row.
    groups : tuple of Group
        Each slider is in one.
    """

    image: Image
    groups: tuple[Group, ...]


def laid_out(
    scenario: Scenario,
    sliders: Sequence[Slider],
    seed: int,
    words: tuple[str, ...],
    plan: Plan | None = None,
) -> LaidOut:
    """Lay a scenario out for a page.

    Parameters
    ----------
    scenario : Scenario
    sliders : sequence of Slider
        Of that scenario.
    seed : int
    words : tuple of str
        The module's names for the words of a world.
    plan : Plan, optional
        What is carried out on the scenario.

    Raises
    ------
    ScenarioError
        A slider moves what cannot be moved in a page, or too many move the same.
    """
    return _Layout(_Explored(scenario, plan, tuple(sliders), seed), words).whole()


class _Explored(NamedTuple):
    """What is explored, and the run that it is wherever its sliders are."""

    scenario: Scenario
    plan: Plan | None
    sliders: tuple[Slider, ...]
    seed: int

    def run(self, positions: Sequence[int]) -> _Run:
        scenario = moved(self.scenario, self.sliders, positions)
        if self.plan is None:
            return _Run(scenario, self.seed)
        return _Run(scenario, self.seed, moved_plan(self.plan, self.sliders, positions))

    @property
    def unread(self) -> set[str]:
        """What no client reads wherever the sliders are."""
        there = (s.applied(self.scenario, at) for s in self.sliders for at in range(len(s.values)))
        is_read = self.plan is not None or any(may_poll(foreseen(each)) for each in there)
        return set() if is_read else _OF_POLLS


def check_laid_out(
    scenario: Scenario, sliders: Sequence[Slider], seed: int, plan: Plan | None = None
) -> None:
    """Raise what `laid_out` would, without a module.

    Parameters
    ----------
    scenario : Scenario
    sliders : sequence of Slider
    seed : int
    plan : Plan, optional
    """
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return  # interpreted code has lists where a page has tables
    world = _Run(scenario, seed, plan).world
    laid_out(scenario, sliders, seed, tuple(words_of(numba.typeof(world), "")), plan)


class _Layout:
    """The runs of a scenario, wherever its sliders are, and the memory that holds each of them."""

    def __init__(self, explored: _Explored, words: tuple[str, ...]) -> None:
        self._run, self._sliders = explored.run, explored.sliders
        self._most, self._fewest = _extremes(explored)
        self._memory = _Memory(self._run(self._most), words, explored)

    def whole(self) -> LaidOut:
        alone = [self._group((number,)) for number in range(len(self._sliders))]
        moving = [set().union(*group.changes) for group in alone]
        groups = [
            alone[members[0]] if len(members) == 1 else self._group(members)
            for members in _connected(moving)
        ]
        for positions in self._tried():
            if not self._is_put_together(groups, positions):
                rule = f"must not decide the same together: {_INSTEAD}"
                paths = self._that_depend(groups)
                raise ScenarioError("sliders", paths, rule)
        return LaidOut(self._memory.image, tuple(groups))

    def _is_put_together(self, groups: Sequence[Group], positions: Sequence[int]) -> bool:
        """Say whether the groups' bytes, put together, are those of a run at some positions."""
        put_together: Bytes = {}
        for group in groups:
            put_together |= group.changes[self._place(group.sliders, positions)]
        theirs = self._memory.changes(self._run(positions), None)
        return self._memory.between({}, put_together) == theirs

    def _that_depend(self, groups: Sequence[Group]) -> list[str]:
        """Return the paths of two sliders that are right alone, and not together; or else all."""
        for pair in itertools.combinations(range(len(self._sliders)), 2):
            for ends in itertools.product(*((0, len(self._sliders[n].values) - 1) for n in pair)):
                positions = list(self._most)  # to which the groups' bytes are relative
                for number, position in zip(pair, ends, strict=True):
                    positions[number] = position
                if not self._is_put_together(groups, positions):
                    return [self._sliders[number].path for number in pair]
        return [slider.path for slider in self._sliders]

    def _group(self, members: tuple[int, ...]) -> Group:
        """Return what some sliders change, as all others stay."""
        moves_clients = any(self._fewest[number] != self._most[number] for number in members)
        before = self._most if moves_clients else self._fewest
        lengths = [len(self._sliders[number].values) for number in members]
        if math.prod(lengths) > _MOST_TOGETHER:
            paths = [self._sliders[number].path for number in members]
            rule = (
                f"must have at most {_MOST_TOGETHER:,} positions together, as they move the same: "
                "give shorter lists of values"
            )
            raise ScenarioError(" and ".join(paths), math.prod(lengths), rule)
        without = self._memory.changes(self._run(before), self._sliders[members[0]])
        changes = []
        for combination in itertools.product(*map(range, lengths)):
            positions = list(before)
            for number, position in zip(members, combination, strict=True):
                positions[number] = position
            found = self._memory.changes(self._run(positions), self._sliders[members[0]])
            changes.append(self._memory.between(without, found))
        return Group(members, tuple(changes))

    def _place(self, members: Sequence[int], positions: Sequence[int]) -> int:
        place = 0
        for number in members:
            place = place * len(self._sliders[number].values) + positions[number]
        return place

    def _tried(self) -> Iterator[list[int]]:
        """Yield positions at which what was put together is compared with a run's own."""
        sliders = self._sliders
        yield [slider.start for slider in sliders]
        yield list(self._most)
        if len(sliders) <= _CORNERS:
            ends = ((0, len(each.values) - 1) for each in sliders)
            yield from map(list, itertools.product(*ends))
        chosen = random.Random(1)
        for _ in range(_RANDOM):
            yield [chosen.randrange(len(slider.values)) for slider in sliders]


def _connected(moving: Sequence[set[int]]) -> Iterator[tuple[int, ...]]:
    """Yield the numbers of sets that have something in common, directly or through others."""
    left = list(range(len(moving)))
    while left:
        members = [left.pop(0)]
        reached = set(moving[members[0]])
        while more := [number for number in left if moving[number] & reached]:
            members += more
            left = [number for number in left if number not in more]
            reached.update(*(moving[number] for number in more))
        yield tuple(sorted(members))


_DRAWN = {
    "arrays.start_s": "ramp_s",
    "arrays.end_s": "arrivals_per_s",
    "arrays.half_s": "rtt_s",
    "record.publish_s": "rate_per_s",
}
"""The tables that a page draws by itself, and by what: unless that is `AS_IT_IS`."""


def _drawn_by(scenario: Scenario) -> dict[str, float]:
    """Return by what a page draws a run's tables: the arguments of `kernels.lay_out`."""
    updates, network, sessions = scenario.updates, scenario.network, scenario.sessions
    is_drawn = updates.kind == "poisson" and updates.publish_s is None
    is_lognormal = network.rtt_quantiles is None and network.rtt_spread > 0.0
    is_plain = sessions is None
    arrivals_per_s = length_s = AS_IT_IS
    if sessions is not None and (sessions.arrivals, sessions.length) == ("poisson", "exponential"):
        is_plain = True
        arrivals_per_s, length_s = sessions.arrivals_per_s, sessions.length_s
    return {
        "ramp_s": scenario.ramp_s if is_plain else AS_IT_IS,
        "rate_per_s": updates.rate_per_s if is_drawn and updates.rate_per_s else AS_IT_IS,
        "rtt_s": network.rtt_s if is_lognormal else AS_IT_IS,
        "rtt_spread": network.rtt_spread,
        "clients": scenario.clients,
        "arrivals_per_s": arrivals_per_s,
        "length_s": length_s,
    }


class _Run:
    """A run that has not begun, and what its memory is to hold beside its world."""

    def __init__(self, scenario: Scenario, seed: int, plan: Plan | None = None) -> None:
        workload = compile_workload(scenario, seed, 0)
        schedule = np.full((MOST_PERCENTAGES, 2), np.inf)
        if plan is not None:
            controller = RolloutController(plan, scenario, seed, 0, explains=False)
            rules = controller.cohort_rules(scenario, workload)
            workload = enrolled(workload, controller.flag, controller.buckets(workload), rules)
            steps = percentages(plan, scenario)
            if len(steps) > MOST_PERCENTAGES:
                rule = f"must set at most {MOST_PERCENTAGES} percentages in a page"
                raise ScenarioError("plan", len(steps), rule)
            schedule[: len(steps)] = steps
        record = new_record(scenario, workload)
        self.world: World = Simulation(workload, record).world
        self.clients, bins = len(workload.start_s), record.bins.shape[1]
        drawn_by = _drawn_by(scenario)
        numbers = (*drawn_by.values(), scenario.horizon_s, scenario.warm_up_s)
        self.beside: dict[str, NDArray[Any]] = {
            NUMBERS: np.array(numbers),
            SUMS: np.zeros((len(SAMPLES) + bins, len(TALLIED))),
            SPANS_S: np.zeros((len(SPANS) + 2, bins)),
            EDGES_S: np.zeros(record.histogram.shape[1] + 1),
            WARNED: np.zeros(len(sentences.NUMBERS)),
            MARKS: np.zeros(self.clients, np.int8),
            SCHEDULE: schedule,
        }
        self.filled_in = {"arrays.rows", "arrays.heard_s", "record.last"}
        self.filled_in |= {"record.clients", "record.traffic"}
        drawn = {name for name, by in _DRAWN.items() if drawn_by[by] != AS_IT_IS}
        self.filled_in |= drawn

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the world, and those beside it, by name."""
        found = {name: v for name, v in leaves(self.world) if isinstance(v, np.ndarray)}
        return found | self.beside

    @property
    def size(self) -> int:
        """How many bytes its tables have."""
        return sum(array.nbytes for array in self.arrays.values())

    def emptied(self) -> World:
        """Return the world without what `lay_out` fills in, except for the first row."""
        arrays = self.arrays
        arrays["arrays.rows"][1:] = np.zeros(1, arrays["arrays.rows"].dtype)
        for name in self.filled_in - {"arrays.rows"}:
            arrays[name][...] = 0
        return self.world


class _Memory:
    """The memory with a run's tables, and how other runs differ from it."""

    def __init__(self, run: _Run, words: tuple[str, ...], explored: _Explored) -> None:
        self._paths = [slider.path for slider in explored.sliders]
        self._unread = explored.unread
        self.image = image_of(run.emptied(), words, run.beside)
        self._at = {
            name: self.image.block + WORD_BYTES * number for number, name in enumerate(words)
        }
        self._arrays = {name: array.tobytes() for name, array in run.arrays.items()}
        self._shapes = {name: array.shape for name, array in run.arrays.items()}
        self._words = dict(self._words_of(run))
        self._before = dict(self._words)

    def changes(self, run: _Run, slider: Slider | None) -> Bytes:
        """Return what a run writes that the memory has otherwise."""
        words = self._words_of(run, slider)
        changed = {at: new for at, new in words if self._words[at] != new}
        for name, array in run.arrays.items():
            if name.startswith(_LENGTHENED) or name in run.filled_in:
                continue
            now, before = array.tobytes(), self._arrays[name][: array.nbytes]
            if now == before:
                continue
            if slider is not None and (self._is_of_clients(run, name) or len(now) > _MOST_BYTES):
                raise _cannot_slide(slider, _FOLLOWS.get(name, "what each client is given"))
            # Item by item: two sliders may move different ones.
            at, size = self.image.places[name].address, array.itemsize
            for start in range(0, len(now), size):
                old, new = (all_of_them[start : start + size] for all_of_them in (before, now))
                if old != new:
                    changed[at + start] = new
                    self._before[at + start] = old
        return changed

    def between(self, one: Bytes, other: Bytes) -> Bytes:
        """Return what to write to have the one's bytes, or the memory's own, become the other's."""
        every = {at: other.get(at, self._before[at]) for at in one.keys() | other.keys()}
        return {at: new for at, new in every.items() if one.get(at, self._before[at]) != new}

    def _is_of_clients(self, run: _Run, name: str) -> bool:
        is_beside = name in run.beside
        return not is_beside and run.clients > 1 and run.clients in run.arrays[name].shape

    def _words_of(self, run: _Run, slider: Slider | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the words of a run's numbers, and of the shapes of its arrays, by address."""
        for name, value in leaves(run.world):
            if name.startswith(_LENGTHENED) and not name.endswith("horizon_s"):
                continue
            if name in self._unread:
                continue
            if not isinstance(value, np.ndarray):
                yield self._at[name], word(0 if value is None else value)
                continue
            if any(new > old for new, old in zip(value.shape, self._shapes[name], strict=True)):
                raise _cannot_slide(slider, "how a run is laid out", self._paths)
            place = self.image.places[name]
            shown = Place(place.address, value.dtype, value.shape, value.strides)
            is_roomy = self._shapes[name] != place.shape
            parts = ("meminfo", "parent", "nitems", "itemsize", "data")
            dims = [f"{part}.{k}" for part in ("shape", "strides") for k in range(value.ndim)]
            for part, new in zip((*parts, *dims), words_of_array(shown), strict=True):
                if not is_roomy:
                    yield self._at[f"{name}.{part}"], word(new)


def _cannot_slide(slider: Slider | None, what: str, paths: Sequence[str] = ()) -> ScenarioError:
    """Return that a slider, or some together, move what a page is given by Python once for all."""
    rule = f"must not slide in a page, as it decides {what}: {_INSTEAD}"
    if slider is None:
        return ScenarioError("sliders", list(paths), rule.replace("it decides", "they decide"))
    return ScenarioError(slider.path, f"{slider.texts[0]} to {slider.texts[-1]}", rule)


def _extremes(explored: _Explored) -> tuple[list[int], list[int]]:
    """Return the positions with the longest tables, and those with fewest clients.

    In the second, all that does not move how many clients there are is as in the first.
    """
    starts = [slider.start for slider in explored.sliders]
    most, fewest = [], []
    for number, slider in enumerate(explored.sliders):
        runs = []
        for position in range(len(slider.values)):
            positions = [*starts[:number], position, *starts[number + 1 :]]
            runs.append(explored.run(positions))
        sizes, clients = [run.size for run in runs], [run.clients for run in runs]
        longest = sizes.index(max(sizes)) if max(sizes) > sizes[slider.start] else slider.start
        most.append(longest)
        fewest.append(clients.index(min(clients)) if len(set(clients)) > 1 else longest)
    return most, fewest
