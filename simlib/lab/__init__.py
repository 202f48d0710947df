"""The lab: a planner that answers while one drags.

It is a widget for a notebook in JupyterLab. It needs the packages of ``simlib[notebooks]``, which
are loaded when it is first made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule

if TYPE_CHECKING:
    from simlib.lab.planning import Planner
    from simlib.verdict.needs import Needs

__all__ = ["planner"]


def planner(
    scenario: Scenario, needs: Needs | Mapping[str, Any], *, candidate: str = "", seed: int = 1
) -> Planner:
    """Return a widget with sliders for what decides, whose figures and verdict follow them.

    Each move simulates the board and one candidate once in calm and once in trouble, with all
    clients, on the same draws, and judges the two by the needs as `decide` does. One run has no
    interval: the widget says so, and has a button for `decide`.

    Parameters
    ----------
    scenario : Scenario
        The board as it is today; the sliders begin there.
    needs : Needs, or mapping of its fields
        As for `decide`, without limits of a rollout.
    candidate : str, optional
        Of `verdict.CANDIDATES`, that the menu begins with. Absent: push that may poll, if that is
        another than today's.
    seed : int, optional
        Of all runs.

    Returns
    -------
    Planner
        An ipywidgets widget. Its ``scenario`` is the board as it is set, its ``decision`` what is
        shown.

    Raises
    ------
    ScenarioError
        What is given is not valid, or cannot be shown: rollouts, faults that trouble has of its
        own, more clients than can be simulated while one waits.

    Examples
    --------
    >>> board = Scenario.example("matters")
    >>> shown = planner(board, {"latency_p95_s": 5.0})
    >>> shown.scenario == board
    True
    >>> shown.close()
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    from simlib.lab.planning import Planner
    from simlib.verdict.needs import needs_of

    return Planner(scenario, needs_of(needs), candidate, seed)


def __dir__() -> list[str]:
    return sorted(__all__)
