"""A glance: today's board beside one candidate, one run of each in calm and in trouble.

It is judged as `decide` judges, on the same conditions and measures, but without replications and
among two: fast enough to follow a slider, and no verdict to act on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from simlib.errors import ScenarioError, shown
from simlib.run import Run
from simlib.scenario import Scenario
from simlib.verdict.candidates import CANDIDATES, TODAY, cases_of
from simlib.verdict.decision import Asked, Decision
from simlib.verdict.judging import Point, check_faults, decision_of
from simlib.verdict.measures import ConditionName
from simlib.verdict.needs import Needs
from simlib.verdict.runs import Trial, conditions, judged_of

Asks = dict[tuple[str, ConditionName], Trial]
"""The runs that a glance asks for, by candidate and condition."""


class Glance(NamedTuple):
    """What a glance asks for; `decision` says what came of it.

    Attributes
    ----------
    point : Point
        The two, or today's alone where the candidate is the same.
    asks : dict of (str, str) to Trial
        Its runs, those in calm first.
    """

    point: Point
    asks: Asks

    @property
    def names(self) -> list[str]:
        """Today's, and the candidate's, if that is another."""
        return list(self.point.cases)

    @property
    def note(self) -> str:
        """Why the candidate is not there, if it is not."""
        return "; ".join(f"{name} {why}" for name, why in self.point.left_out.items())

    def decision(self, runs: Mapping[tuple[str, ConditionName], Run]) -> Decision:
        """Return what its runs say, one for each of `asks`."""
        found: list[dict[ConditionName, list[dict[str, Any]]]] = [
            {
                condition: [judged_of(self.asks[whose, condition].condition, run)]
                for (whose, condition), run in runs.items()
                if whose == name
            }
            for name in self.point.cases
        ]
        return decision_of(self.point, found)


def check_glance(scenario: Scenario, needs: Needs) -> None:
    """Refuse what a glance cannot judge: rollouts, and faults that trouble has of its own.

    Raises
    ------
    ScenarioError
    """
    check_faults(scenario, "")
    if "rollout" in needs.conditions:
        rule = "must not ask for rollouts, which take too long for a glance: see decide"
        raise ScenarioError("needs", [n for n in needs.limits if n in _OF_ROLLOUTS], rule)


_OF_ROLLOUTS = ("harmed_frac", "roll_back_s")


def glance(
    scenario: Scenario, needs: Needs, candidate: str, *, seed: int = 1, engine: str = "auto"
) -> Glance:
    """Return what is asked for to set a candidate beside today's.

    Parameters
    ----------
    scenario : Scenario
        The board as it is today.
    needs : Needs
    candidate : str
        Of `CANDIDATES`; not one that is for a part of the users, which takes a rollout.
    seed : int, optional
    engine : {"auto", "simpy", "compiled"}, optional

    Raises
    ------
    ScenarioError
        There is no such candidate, or it cannot be of this scenario.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=10, horizon_s=120)
    >>> one = glance(board, Needs(latency_p95_s=2.0), "push")
    >>> [" ".join(names) for names in one.asks]
    ['today calm', 'push calm', 'push rough', 'today rough']
    """
    if candidate not in CANDIDATES or CANDIDATES[candidate].percent is not None:
        known = [name for name, row in CANDIDATES.items() if row.percent is None]
        raise ScenarioError("candidate", candidate, f"must be among {', '.join(known)}")
    check_glance(scenario, needs)
    cases, left_out = cases_of(scenario, needs, [candidate])
    for case in cases.values():
        check_faults(case.scenario, f"candidates[{shown(case.name)}].")
    compared = [case.scenario for case in cases.values()]
    found = {
        (name, condition): Trial(asked_for, seed, 0, engine)
        for name, case in cases.items()
        for condition, asked_for in conditions(case, compared, needs).items()
    }
    asked = Asked(scenario, needs, 1, seed, 0.95, {})
    # What is drawn first comes first: both in calm, then the candidate in trouble.
    order = sorted(
        found, key=lambda key: (key[1] != "calm", (key[0] == TODAY) == (key[1] != "calm"))
    )
    return Glance(Point(asked, cases, left_out), {key: found[key] for key in order})
