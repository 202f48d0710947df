"""What a reader of a rollout has to know of its plan: one check a row of `CHECKS`.

`run.warnings` has what its run has to say for itself.
"""

from __future__ import annotations

from collections.abc import Callable

from simlib.core.measures import MEASURES
from simlib.rollout.plan import Plan
from simlib.run import RunWarning
from simlib.run.warnings import words_s


def warnings_of(plan: Plan, horizon_s: float) -> tuple[RunWarning, ...]:
    """Return the warnings of a plan that is followed for a run's length, seconds.

    Examples
    --------
    >>> stages = [{"percent": percent, "bake_s": 60} for percent in (0.1, 1.0)]
    >>> plan = Plan(flag={"propagation": "session"}, stages=stages)
    >>> print(warnings_of(plan, 3600.0)[0].brief)
    The plan ends at 1 % of the users
    """
    found = ((kind, check(plan, horizon_s)) for kind, check in CHECKS.items())
    return tuple(RunWarning(kind, sentence) for kind, sentence in found if sentence)


def _percentage(plan: Plan, _horizon_s: float) -> str:
    last = plan.stages[-1].percent
    if not 0.0 < last <= 1.0:
        return ""
    return (
        f"The plan ends at {last:g} % of the users: if its percentages were meant as fractions, "
        f"they must be given in percent, {last * 100:g} for the last stage."
    )


def _limit(plan: Plan, horizon_s: float) -> str:
    """Guardrails on times that are longer than the run: no check can fail."""
    said = [
        f"{guardrail.metric} below {guardrail.below:,.10g} s ({words_s(guardrail.below)})"
        for guardrail in plan.guardrails
        if guardrail.below is not None
        and MEASURES[guardrail.metric].unit == "s"
        and guardrail.below >= horizon_s
    ]
    if not said:
        return ""
    return (
        f"No check of {' or '.join(said)} can fail: that is longer than the run "
        f"({words_s(horizon_s)}). Limits of times are in seconds."
    )


CHECKS: dict[str, Callable[[Plan, float], str]] = {"percentage": _percentage, "limit": _limit}
"""The kinds of warnings, in the order in which they are given, and what finds them."""
