"""What an explorer is, as a cell's output keeps it: scenarios, sliders, what is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from simlib.core.measures import MEASURES
from simlib.errors import ScenarioError
from simlib.rollout.plan import Plan
from simlib.rollout.schedule import percentages
from simlib.rollout.trials import check_plan
from simlib.scenario import Scenario
from simlib.web.sliders import Slider

EXPLORER_MIME = "application/vnd.simlib.explorer+json"
SHOWN = (
    "latency_p50_s",
    "latency_p95_s",
    "utilisation",
    "message_rate_per_s",
    "down_bytes_per_h",
    "connection_count",
    "error_rate_per_h",
)
MOST_RUNS = 3


class Spec(NamedTuple):
    """An explorer.

    Attributes
    ----------
    scenarios : tuple of Scenario
        Each is simulated wherever the sliders are.
    sliders : tuple of Slider
    shown : tuple of str
        The metrics of the table, names of `MEASURES`.
    over_time : str
        The metric that the second figure draws.
    seed : int
    plan : Plan or None
        What is carried out on the scenario, which is one then; each cohort is shown by itself.
    """

    scenarios: tuple[Scenario, ...]
    sliders: tuple[Slider, ...]
    shown: tuple[str, ...]
    over_time: str
    seed: int
    plan: Plan | None = None

    def as_json(self) -> str:
        """Return it as JSON in one line: a notebook would have a line for each number."""
        scenarios = [each.model_dump(mode="json", exclude_none=True) for each in self.scenarios]
        sliders = [slider._asdict() for slider in self.sliders]
        plan = {}
        if self.plan is not None:
            plan = {"plan": self.plan.model_dump(mode="json", exclude_none=True)}
        own = {**self._asdict(), "scenarios": scenarios, "sliders": sliders}
        own.pop("plan")
        return json.dumps({**own, **plan})

    @classmethod
    def of_json(cls, text: str) -> Spec:
        """Return the explorer that `as_json` has written down."""
        given = json.loads(text)
        sliders = (
            Slider(each["path"], tuple(each["texts"]), tuple(each["values"]), each["start"])
            for each in given["sliders"]
        )
        scenarios = tuple(Scenario(**each) for each in given["scenarios"])
        shown = tuple(given["shown"])
        plan = Plan(**given["plan"]) if "plan" in given else None
        return cls(scenarios, tuple(sliders), shown, given["over_time"], given["seed"], plan)


def sequence(what: str, given: Any) -> tuple[Any, ...]:
    """Return what was given as a sequence, or raise that it is none."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ScenarioError(what, given, "must be a list")
    return tuple(given)


def check(spec: Spec) -> None:
    """Raise what is wrong with an explorer, apart from its sliders.

    Raises
    ------
    ScenarioError
        There are no scenarios or too many, a metric is unknown or has no course over time, a
        scenario or the plan reads a file, which no page has, or the plan has guardrails.
    """
    if not 1 <= len(spec.scenarios) <= MOST_RUNS:
        raise ScenarioError("scenarios", len(spec.scenarios), f"must be 1 to {MOST_RUNS} of them")
    for scenario in spec.scenarios:
        if not isinstance(scenario, Scenario):
            raise ScenarioError("scenarios", scenario, "must be scenarios")
        if scenario.updates.trace is not None:
            rule = "must be absent: a page has no files; give its times as updates.publish_s"
            raise ScenarioError("updates.trace", scenario.updates.trace, rule)
    if spec.plan is not None:
        _check_plan(spec.plan, spec.scenarios)
    _check_names("shown", spec.shown, "summary")
    _check_names("over_time", (spec.over_time,), "over_time")


def _check_plan(plan: Any, scenarios: Sequence[Scenario]) -> None:
    if len(scenarios) > 1:
        rule = "must be one where a plan is carried out, whose two cohorts are shown"
        raise ScenarioError("scenarios", len(scenarios), rule)
    check_plan(plan, scenarios[0])
    if plan.bucketing.ids_file is not None:
        rule = "must be absent: a page has no files"
        raise ScenarioError("plan.bucketing.ids_file", plan.bucketing.ids_file, rule)
    percentages(plan, scenarios[0])  # raises where something may change them


def _check_names(what: str, names: Sequence[str], table: str) -> None:
    known = [measure.name for measure in MEASURES.values() if table in measure.tables]
    for name in names:
        if name not in known:
            raise ScenarioError(what, name, f"must be among {', '.join(known)}")
