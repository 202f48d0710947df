"""The settings that the planner has a slider or a menu for: a row each.

A slider goes through readable values, so that a key press is a step, and what was simulated before
is met again. What a scenario gives lies between them, if it is none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from simlib.errors import ScenarioError
from simlib.figures.style import duration, number
from simlib.scenario import Scenario
from simlib.scenario.presets import LIBRARIES, library
from simlib.verdict.candidates import CANDIDATES, TODAY, cases_of
from simlib.verdict.needs import Needs

CANDIDATE, RECONNECT = "candidate", "reconnect"
"""The two that are menus."""
_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_AS_GIVEN = "as in the scenario"
_USUAL = "push_fallback"


class Control(NamedTuple):
    """A slider or a menu.

    Attributes
    ----------
    path : str
        Of the setting, or `CANDIDATE` or `RECONNECT`.
    label : str
    options : dict of str to object
        What may be chosen, by what is shown: of a setting its value, of the candidate its name, of
        reconnecting the changes.
    chosen : str
        What is shown at first.
    about : str
        What it is, for who hovers.
    """

    path: str
    label: str
    options: dict[str, Any]
    chosen: str
    about: str

    @property
    def is_menu(self) -> bool:
        """Whether it is a menu, and no slider."""
        return self.path in (CANDIDATE, RECONNECT)


class _Row(NamedTuple):
    path: str
    label: str
    low: float
    high: float
    show: Callable[[float], str]
    about: str
    is_whole: bool = False


def _rate(value: float) -> str:
    return f"{number(value)} /s" if value >= 1.0 else f"one in {duration(1.0 / value)}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


_ROWS = (
    _Row("clients", "clients", 10, 100_000, _whole, "open tabs at the busiest hour", True),
    _Row("polling.interval_s", "polls every", 1.0, 300.0, duration, "refetchInterval"),
    _Row("updates.rate_per_s", "changes", 0.001, 10.0, _rate, "changes to what a tab shows"),
    _Row("network.rtt_s", "round trip", 0.001, 1.0, duration, "the median client's ping"),
    _Row("server.poll_s", "job of a poll", 1e-4, 0.1, duration, "what a poll costs a worker"),
    _Row("server.nodes", "servers", 1, 16, _whole, "nodes behind the balancer", True),
)
_POLICIES: dict[str, dict[str, Any]] = {
    "every 1 s, no jitter": {"policy": "fixed", "base_s": 1.0},
    "1, 2, 4 ... 30 s, no jitter": {"policy": "exponential", "base_s": 1.0, "cap_s": 30.0},
    "full jitter, 1 s to 30 s": {"policy": "full_jitter", "base_s": 1.0, "cap_s": 30.0},
    "full jitter, 5 s to 60 s": {"policy": "full_jitter", "base_s": 5.0, "cap_s": 60.0},
}


def controls_of(
    scenario: Scenario, needs: Needs, candidate: str = ""
) -> tuple[list[Control], dict[str, str]]:
    """Return what the planner has for a scenario, and what it has not, with the reason.

    Parameters
    ----------
    scenario : Scenario
    needs : Needs
    candidate : str, optional
        That the menu begins with.

    Raises
    ------
    ScenarioError
        The candidate is none of this scenario.

    Examples
    --------
    >>> board = Scenario(updates={"kind": "times", "publish_s": [60.0]}, clients=12)
    >>> controls, left_out = controls_of(board, Needs(latency_p95_s=2.0))
    >>> [control.path for control in controls][:3], list(left_out)
    (['clients', 'polling.interval_s', 'candidate'], ['updates.rate_per_s'])
    >>> list(controls[0].options)[:3]
    ['10', '12', '15']
    """
    controls: list[Control] = []
    left_out: dict[str, str] = {}
    for row in _ROWS:
        try:
            controls.append(_slider(row, scenario))
        except ScenarioError as error:
            left_out[row.path] = f"{error.path}: {error.rule}"
    place = [control.path for control in controls].index("polling.interval_s") + 1
    controls.insert(place, _candidates(scenario, needs, candidate))
    return [*controls, _reconnect(scenario)], left_out


def board_of(
    scenario: Scenario, controls: list[Control], chosen: Mapping[str, str]
) -> tuple[Scenario, str]:
    """Return the scenario and the candidate that are set.

    Parameters
    ----------
    scenario : Scenario
        As the planner was given it.
    controls : list of Control
    chosen : mapping of str to str
        What each shows, by its path. What shows what it showed at first changes nothing.

    Raises
    ------
    ScenarioError
        The settings do not go together.
    """
    candidate = ""
    changes: dict[str, Any] = {}
    for control in controls:
        value = control.options[chosen[control.path]]
        if control.path == CANDIDATE:
            candidate = value
        elif chosen[control.path] == control.chosen:
            continue
        elif control.path == RECONNECT:
            changes |= value
        else:
            changes[control.path] = value
    return scenario.replace(changes), candidate


def _slider(row: _Row, scenario: Scenario) -> Control:
    section, _, name = row.path.rpartition(".")
    given = getattr(getattr(scenario, section) if section else scenario, name)
    if given is None:
        rule = "is absent from the scenario, which says it in another way"
        raise ScenarioError(row.path, given, rule)
    scenario.replace({row.path: int(row.high) if row.is_whole else row.high})
    values = {row.show(value): value for value in _values(row)}
    values[row.show(given)] = given  # in place of a step that reads the same
    of_kind = int if row.is_whole else float
    options = {text: of_kind(value) for text, value in sorted(values.items(), key=_second)}
    return Control(row.path, row.label, options, row.show(given), row.about)


def _second(pair: tuple[str, float]) -> float:
    return float(pair[1])


def _values(row: _Row) -> list[float]:
    """Return the steps of a slider: a few in each decade, or all of few whole numbers."""
    if row.is_whole and row.high <= 16:
        return [float(value) for value in range(int(row.low), int(row.high) + 1)]
    found: list[float] = []
    decade = row.low
    while decade <= row.high:
        steps = (float(f"{step * decade:.3g}") for step in _STEPS)
        found += [value for value in steps if value <= row.high]
        decade *= 10.0
    return found


def _candidates(scenario: Scenario, needs: Needs, candidate: str) -> Control:
    cases, left_out = cases_of(scenario, needs)
    names = [name for name in cases if name != TODAY and CANDIDATES[name].percent is None]
    if candidate and candidate not in names:
        why = f": {candidate} {left_out[candidate]}" if candidate in left_out else ""
        raise ScenarioError("candidate", candidate, f"must be among {', '.join(names)}{why}")
    first = candidate or (_USUAL if _USUAL in names else names[0])
    options = {CANDIDATES[name].label: name for name in names}
    about = "what is set beside the board as it is today"
    return Control(CANDIDATE, "candidate", options, CANDIDATES[first].label, about)


def _reconnect(scenario: Scenario) -> Control:
    """Return the menu of policies and of client libraries; each is tried, and left out if refused.

    A policy of a few words keeps what else the scenario says of reconnecting.
    """
    options: dict[str, dict[str, Any]] = {_AS_GIVEN: {}}
    policies = {
        words: {f"reconnect.{name}": value for name, value in policy.items()}
        for words, policy in _POLICIES.items()
    }
    for words, changes in {**policies, **{name: library(name) for name in LIBRARIES}}.items():
        try:
            scenario.replace(changes)
        except ScenarioError:
            continue
        options[words] = changes
    about = "how clients come back after a restart: a policy, or the defaults of a library"
    return Control(RECONNECT, "reconnecting", options, _AS_GIVEN, about)
