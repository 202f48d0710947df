"""The lab: a planner that answers while one drags, and a live view of the real server.

Both are widgets for a notebook in JupyterLab. They need the packages of ``simlib[notebooks]``,
which are loaded when one of them is first made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule

if TYPE_CHECKING:
    from simlib.lab.live_view import LiveView
    from simlib.lab.planning import Planner
    from simlib.verdict.needs import Needs

__all__ = ["planner", "watch"]


def planner(
    scenario: Scenario, needs: Needs | Mapping[str, Any], *, candidate: str = "", seed: int = 1
) -> Planner:
    """Return a widget with sliders for what decides, whose figures and verdict follow them.

    Each move simulates the board and one candidate once in calm and once in trouble, with all
    clients, on the same draws, and judges the two by the needs as `decide` does. One run has no
    interval: the widget says so, and has a button for `decide`.

    Where the candidate's run takes longer than a moment, today's is drawn first, and what was drawn
    of the candidate before pales until its own is there. ``data/measured/planner.csv`` has how long
    a move takes.

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


def watch(
    scenario: Scenario,
    *,
    down_s: float = 3.0,
    seed: int = 1,
    time_scale: float = 1.0,
    frames_per_s: float = 8.0,
    replications: int = 9,
) -> LiveView:
    """Start the real server and real clients, and return a widget that shows them while they run.

    It is what `measure` runs. One button kills the server at once, as a crash would, and another
    process takes over after `down_s`; one ends the run. Afterwards the same scenario, with the kill
    at the moment at which it came, is simulated, and the measured curve is drawn over the band of
    its replications, with its error in numbers.

    Parameters
    ----------
    scenario : Scenario
        As for `measure`; with one server, and without faults that stop it.
    down_s : float, optional
        How long the server is down after a kill, seconds of the scenario. A kill that leaves no
        time for that before the end is not carried out.
    seed, time_scale : optional
        As in `measure`.
    frames_per_s : float, optional
        How often the figures are drawn anew, at most, in [1, 20]. Each sample keeps the clients
        busy for a moment, and drawing keeps a processor of this machine busy: see the notes.
    replications : int, optional
        Simulated afterwards, >= 2.

    Returns
    -------
    LiveView
        An ipywidgets widget. Its ``run`` is what was measured, its ``comparison`` how far that is
        from the simulated.

    Raises
    ------
    ScenarioError
        The scenario asks for what the lab does not have, or an argument is out of range. What
        fails later, such as a machine that is too small, stands in the widget and its ``error``.

    Notes
    -----
    Watching disturbs what is measured, by the browser more than by the samples. With 100 clients on
    two processors, on the same draws eight times each (``data/measured/watching.csv``, intervals of
    95 %): without a browser the median latency of 1.35 ms rose by 0.05 ms (-0.15 to 0.26) and the
    95 % of 5.5 ms by 0.9 ms (0.1 to 1.7); a browser that draws without a graphics card took 0.9 of
    a processor (0.5 to 1.3), and added 2.3 ms (1.5 to 3.1) and 5.6 ms (3.4 to 7.8). The machine
    was not quiet. For latencies that are to be stated, use `measure`.
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    if not 1.0 <= frames_per_s <= 20.0:
        raise ScenarioError("frames_per_s", frames_per_s, "must be in [1, 20]")
    if replications < 2:
        raise ScenarioError("replications", replications, "must be >= 2: one has no band")
    from simlib.lab.live_view import LiveView

    return LiveView(
        scenario,
        down_s=down_s,
        frames_per_s=frames_per_s,
        replications=replications,
        seed=seed,
        time_scale=time_scale,
    )


def __dir__() -> list[str]:
    return sorted(__all__)
