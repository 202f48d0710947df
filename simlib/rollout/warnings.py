"""What a reader of a rollout has to know of its plan: one check a row of `CHECKS`.

`run.warnings` has what its run has to say for itself.
"""

from __future__ import annotations

from collections.abc import Callable

from simlib.core.measures import MEASURES
from simlib.rollout.cohorts import cohort_scenarios
from simlib.rollout.plan import Plan
from simlib.rollout.sections import Guardrail
from simlib.run import RunWarning
from simlib.run.sentences import words_s
from simlib.scenario import Scenario

_INTERVALS = 2.0
"""Nobody waits for longer than so many polling intervals, unless everything stands still."""
_MILLISECONDS = 1000.0


def warnings_of(plan: Plan, scenario: Scenario) -> tuple[RunWarning, ...]:
    """Return the warnings of a plan that is carried out on a scenario.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1})
    >>> stages = [{"percent": percent, "bake_s": 60} for percent in (0.1, 1.0)]
    >>> plan = Plan(flag={"propagation": "session"}, stages=stages)
    >>> print(warnings_of(plan, board)[0].brief)
    The plan ends at 1 % of the users
    """
    found = ((kind, check(plan, scenario)) for kind, check in CHECKS.items())
    return tuple(RunWarning(kind, sentence) for kind, sentence in found if sentence)


def _percentage(plan: Plan, _scenario: Scenario) -> str:
    last = plan.stages[-1].percent
    if len(plan.stages) == 1 or not 0.0 < last <= 1.0:
        return ""
    return (
        f"The plan ends at {last:g} % of the users: if its percentages were meant as fractions, "
        f"they must be given in percent, {last * 100:g} for the last stage."
    )


def _limit(plan: Plan, scenario: Scenario) -> str:
    """Limits of times that are longer than anybody waits, even one who polls."""
    cohorts = cohort_scenarios(plan, scenario)
    interval_s = max(cohort.polling.interval_s for cohort in cohorts)
    said = [
        f"{guardrail.metric} has {name} = {limit_s:,.10g} s ({words_s(limit_s)}; "
        f"{limit_s / _MILLISECONDS:.10g} if milliseconds were meant)"
        for guardrail in plan.guardrails
        if MEASURES[guardrail.metric].unit == "s"
        for name, limit_s in _limits_s(guardrail)
        if limit_s > _INTERVALS * interval_s
    ]
    if not said:
        return ""
    return (
        f"{'; '.join(said)}: that is longer than two polling intervals ({words_s(interval_s)} "
        "each), so it says nothing about waits that users notice. Limits of times are in seconds."
    )


def _limits_s(guardrail: Guardrail) -> list[tuple[str, float]]:
    """The limits of a guardrail that are times, by their names."""
    names = ["below", "above", "margin"]
    if guardrail.below is not None and guardrail.fails_beyond is not None:
        names.append("fails_beyond")
    given = ((name, getattr(guardrail, name)) for name in names)
    return [(name, float(value)) for name, value in given if value is not None]


CHECKS: dict[str, Callable[[Plan, Scenario], str]] = {"percentage": _percentage, "limit": _limit}
"""The kinds of warnings, in the order in which they are given, and what finds them."""
