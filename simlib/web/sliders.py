"""Sliders: which settings of a scenario, or of a plan, move, and the positions that each has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simlib.engines.compiled.variants import FROM_CLIENTS
from simlib.errors import ScenarioError
from simlib.rollout.plan import Plan
from simlib.rollout.schedule import percentages
from simlib.rollout.trials import check_plan
from simlib.scenario import Scenario
from simlib.scenario.presets import library

MOST_SLIDERS = 6
PLAN = "plan."
"""What paths of a plan's settings begin with."""
LIBRARY = "library"
"""The slider that goes through client libraries, by their names."""
_MOST_POSITIONS = 60
_WIDE = 20.0
"""From this factor between a range's ends on, positions are so many times apart, not so far."""
_LARGEST = 1e12
"""What no setting reaches, and no range has to: beyond it, positions are without number."""
OF_A_FAULT = re.compile(r"faults\.(\d+)\.(\w+)")
_NAMED_BY = ("transport", "polling.etag", "name", "bin_s")
"""By what figures call a scenario, and the width of their bins: these cannot slide."""
_OF_THE_PLAN = {
    "bucketing": "every user would be laid out anew: show a plan of each beside each other instead",
    "control.transport": "figures are named by it",
    "treatment.transport": "figures are named by it",
    "name": "figures are named by it",
}
"""What of a plan cannot slide, and why."""
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_A_DECADE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)

Moves = Mapping[str, tuple[float, float] | Sequence[Any] | Mapping[str, Any]]
"""Of each slider: a range's ends, a list of values, or, by their names, changes of settings, or
values of what a path of the plan leads to."""


class Slider(NamedTuple):
    """A slider.

    Attributes
    ----------
    path : str
        The setting, or what the choice between some changes is called.
    texts : tuple of str
        What a reader sees at each position.
    values : tuple
        Of each position: the setting's value, a mapping of settings to values, or the name of a
        client library.
    start : int
        The position at which the scenario is as it was given.
    """

    path: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]
    start: int

    @property
    def is_range(self) -> bool:
        """Whether its positions have an order, as numbers do."""
        return all(map(_is_number, self.values))

    def applied(self, scenario: Scenario, position: int) -> Scenario:
        """Return a scenario with the slider at a position."""
        value = self.values[position]
        if self.path == LIBRARY and isinstance(value, str):
            return scenario.replace(library(value))
        if self.path.startswith(PLAN):
            return scenario
        if isinstance(value, Mapping):
            return scenario.replace(_parted(self.path, value)[0])
        if match := OF_A_FAULT.fullmatch(self.path):
            faults = [fault.model_dump(exclude_none=True) for fault in scenario.faults]
            faults[int(match[1])][match[2]] = value
            return scenario.replace(faults=faults)
        return scenario.replace({self.path: value})

    def applied_to_plan(self, plan: Plan, position: int) -> Plan:
        """Return a plan with the slider at a position."""
        return _replaced(plan, _parted(self.path, self.values[position])[1])


def _parted(path: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a value of a slider changes of the scenario, and what of the plan.

    A mapping is changes by their paths, or the value of a section of the plan.
    """
    is_named = isinstance(value, Mapping) and not path.startswith(PLAN)
    changes = value if is_named else {path: value}
    of_plan = {
        each.removeprefix(PLAN): new for each, new in changes.items() if each.startswith(PLAN)
    }
    return {each: new for each, new in changes.items() if not each.startswith(PLAN)}, of_plan


def _replaced(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    try:
        return plan.replace(changes) if changes else plan
    except ScenarioError as error:
        raise error.moved(lambda path: f"{PLAN}{path}") from None


def moved(scenario: Scenario, sliders: Sequence[Slider], positions: Sequence[int]) -> Scenario:
    """Return a scenario with all sliders at some positions."""
    for slider, position in zip(sliders, positions, strict=True):
        scenario = slider.applied(scenario, position)
    return scenario


def moved_plan(plan: Plan, sliders: Sequence[Slider], positions: Sequence[int]) -> Plan:
    """Return a plan with all sliders at some positions."""
    for slider, position in zip(sliders, positions, strict=True):
        plan = slider.applied_to_plan(plan, position)
    return plan


def sliders_of(scenario: Scenario, moves: Moves, plan: Plan | None = None) -> tuple[Slider, ...]:
    """Return the sliders of some settings.

    Parameters
    ----------
    scenario : Scenario
    moves : mapping of str to tuple, list or mapping
        See `explorer`.
    plan : Plan, optional
        What is carried out on the scenario.

    Raises
    ------
    ScenarioError
        There is no such setting, a range or a list is no such thing or does not have the scenario's
        own value, or there are none, or too many.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=300)
    >>> clients, interval = sliders_of(
    ...     board, {"clients": (100, 5000), "polling.interval_s": [10.0, 30.0, 60.0]}
    ... )
    >>> clients.values[:3], interval.texts, interval.start
    ((100, 120, 150), ('10', '30', '60'), 1)
    """
    if not isinstance(moves, Mapping) or not all(isinstance(path, str) for path in moves):
        rule = "must be a mapping of paths of settings to what each may be"
        raise ScenarioError("sliders", moves, rule)
    if not 1 <= len(moves) <= MOST_SLIDERS:
        rule = f"must be 1 to {MOST_SLIDERS} settings to move"
        raise ScenarioError("sliders", list(moves), rule)
    sliders = tuple(_slider(scenario, plan, path, given) for path, given in moves.items())
    for slider in sliders:
        for position in range(len(slider.values)):
            there = slider.applied(scenario, position)  # raises what is wrong with it
            if plan is not None:
                _check_carried_out(slider, plan, slider.applied_to_plan(plan, position), there)
    return sliders


def _check_carried_out(slider: Slider, plan: Plan, there: Plan, scenario: Scenario) -> None:
    """Raise what of a plan at some position a page could not carry out, or would show wrongly."""
    for path, why in _OF_THE_PLAN.items():
        own, new = (_at(each, path) for each in (plan, there))
        if new != own:
            raise ScenarioError(slider.path, new, f"must not move {PLAN}{path}: {why}")
    check_plan(there, scenario)
    percentages(there, scenario)  # raises where something may change them


def _at(plan: Any, path: str) -> Any:
    """Return what stands at a path of a plan; None where nothing does."""
    for part in path.split("."):
        if isinstance(plan, tuple) and part.isdecimal() and int(part) < len(plan):
            plan = plan[int(part)]
        else:
            plan = getattr(plan, part, None)
    return plan


def _slider(scenario: Scenario, plan: Plan | None, path: str, given: Any) -> Slider:
    if path == LIBRARY and isinstance(given, Sequence):
        names = tuple(given)
        return _choice(scenario, plan, path, names, names, [library(name) for name in names])
    if isinstance(given, Mapping):
        names = tuple(map(str, given))
        return _choice(scenario, plan, path, names, tuple(given.values()), given.values())
    own = _own_value(scenario, plan, path)
    if isinstance(given, tuple) and len(given) == 2 and all(map(_is_number, given)):
        low, high = map(_plain, given)
        values = _between(path, low, high, own)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        values = tuple(map(_plain, given))
    else:
        rule = "must be a range (two numbers), a list of values, or names of changes"
        raise ScenarioError(path, given, rule)
    if own not in values or len(values) < 2:
        rule = f"must be two values or more, the scenario's own among them: {own}"
        raise ScenarioError(path, given, rule)
    return Slider(path, tuple(map(_text, values)), values, values.index(own))


def _choice(
    scenario: Scenario,
    plan: Plan | None,
    path: str,
    names: tuple[str, ...],
    values: tuple[Any, ...],
    changes: Iterable[Any],
) -> Slider:
    own = []
    for place, each in enumerate(changes):
        of_scenario, of_plan = _parted(path, each)
        is_as_it_is = scenario.replace(of_scenario) == scenario
        if of_plan:
            is_as_it_is &= _replaced(_given(plan, next(iter(of_plan))), of_plan) == plan
        own += [place] if is_as_it_is else []
    if not own or len(names) < 2:
        rule = "must be two changes or more, and one of them must leave the scenario as it is"
        raise ScenarioError(path, list(names), rule)
    return Slider(path, names, values, own[0])


def _given(plan: Plan | None, path: str) -> Plan:
    if plan is None:
        rule = "must be a setting of the scenario, or explorer(..., plan=...) must have a plan"
        raise ScenarioError("sliders", f"{PLAN}{path}", rule)
    return plan


def _own_value(scenario: Scenario, plan: Plan | None, path: str) -> Any:
    """Return the own value of a setting; it is None where it is not set."""
    if path.startswith(PLAN):
        name = path.removeprefix(PLAN)
        of_it = _given(plan, name)
        own = _at(of_it, name)
        if own is None:
            _replaced(of_it, {name: None})  # raises what would be right
        return own
    if match := OF_A_FAULT.fullmatch(path):
        number, name = int(match[1]), match[2]
        if number >= len(scenario.faults):
            rule = f"must be the number of one of the {len(scenario.faults)} faults, from 0 on"
            raise ScenarioError(path, number, rule)
        return getattr(scenario.faults[number], name, None)
    place: Any = scenario
    for part in path.split("."):
        if not hasattr(place, part):
            scenario.replace({path: None})  # raises what would be right
            return None
        place = getattr(place, part)
    return place


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Return a number of NumPy as Python's, which a notebook can keep."""
    return value.item() if isinstance(value, np.generic) else value


def _between(path: str, low: float, high: float, own: Any) -> tuple[Any, ...]:
    """Return round numbers from `low` to `high`, and the scenario's own value among them."""
    if not (_is_number(own) and low <= own <= high and low < high):
        raise ScenarioError(path, (low, high), f"must be a range around the scenario's own {own}")
    if max(abs(low), abs(high)) > _LARGEST or 0.0 < low < 1.0 / _LARGEST:
        rule = (
            f"must be a range between numbers of at most {_LARGEST:g}, or 0, or from its inverse on"
        )
        raise ScenarioError(path, (low, high), rule)
    if low > 0.0 and high / low >= _WIDE:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
        inside = np.array([each * 10.0**decade for decade in decades for each in _A_DECADE])
    else:
        step = _step((high - low) / (_MOST_POSITIONS - 1))
        inside = np.arange(np.ceil(low / step), np.floor(high / step) + 1.0) * step
    spaced = np.concatenate(([low], inside, [high]))
    whole = all(isinstance(each, int) for each in (low, high, own))
    rounded = [round(each) if whole else float(f"{each:.3g}") for each in spaced.tolist()]
    return tuple(sorted({*(each for each in rounded if low <= each <= high), own}))


def _step(at_least: float) -> float:
    """Return a round number that is not less."""
    scale = 10.0 ** math.floor(math.log10(at_least))
    return float(next(step * scale for step in _STEPS if step * scale >= at_least * (1 - 1e-9)))


def _text(value: Any) -> str:
    """Return what a reader sees of a value.

    Examples
    --------
    >>> [_text(value) for value in (None, True, 20_000, 2_500_000, 0.25, "never")]
    ['not set', 'yes', '20,000', '2,500,000', '0.25', 'never']
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def check_beside(scenario: Scenario, sliders: Sequence[Slider]) -> None:
    """Raise what is wrong with a scenario whose sliders were made for the one beside it.

    Raises
    ------
    ScenarioError
        It has other values of what moves, so that sliders would begin where it is not; or it cannot
        have those of some position.
    """
    for slider in sliders:
        match = OF_A_FAULT.fullmatch(slider.path)
        if match and int(match[1]) >= len(scenario.faults):
            rule = "must be a fault of every scenario that is shown"
            raise ScenarioError(slider.path, f"{len(scenario.faults)} faults", rule)
        if slider.applied(scenario, slider.start) != scenario:
            rule = "must be the same in every scenario that is shown, as one slider moves it in all"
            raise ScenarioError(slider.path, slider.texts[slider.start], rule)
        for position in range(len(slider.values)):
            _check_shown(scenario, slider, slider.applied(scenario, position))


def _check_shown(scenario: Scenario, slider: Slider, there: Scenario) -> None:
    """Raise what names and axes would be wrong for, as a page has them once for all positions."""
    if there.clients >= FROM_CLIENTS:
        raise ScenarioError("clients", there.clients, f"must be < {FROM_CLIENTS} in a page")
    for name in _NAMED_BY:
        if _own_value(there, None, name) != _own_value(scenario, None, name):
            rule = f"must not move {name}: show a scenario of each beside each other instead"
            raise ScenarioError(slider.path, _own_value(there, None, name), rule)
