"""What each cohort of a plan gets: the scenario with the transport and changes of its variant.

All clients of a run share the server, the board, the users and the paths, so two variants may
differ in what a client obeys, and in nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from simlib.errors import ScenarioError
from simlib.rollout.plan import Plan
from simlib.rollout.sections import Variant
from simlib.run import COHORTS
from simlib.scenario import Scenario
from simlib.scenario.workload import common_fields

OF_A_CLIENT = (
    *("polling", "websocket", "notify", "sse", "long_polling"),
    *("heartbeat", "reconnect", "fallback"),
)
"""The sections of a scenario that say how clients behave."""
_REMEMBERED = 8
"""For how many plans on scenarios what their cohorts get is kept: a rehearsal takes one after the
other."""


def cohort_scenarios(plan: Plan, scenario: Scenario) -> tuple[Scenario, Scenario]:
    """Return the scenario as the control and as the treatment cohort has it.

    Parameters
    ----------
    plan : Plan
    scenario : Scenario

    Raises
    ------
    ScenarioError
        A change makes no valid scenario, or changes what a cohort cannot have for itself.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1})
    >>> faster = {"transport": "polling", "changes": {"polling.interval_s": 10}}
    >>> plan = Plan(flag={"propagation": "session"}, treatment=faster)
    >>> [variant.polling.interval_s for variant in cohort_scenarios(plan, board)]
    [30.0, 10.0]
    >>> cohort_scenarios(plan.replace({"treatment.changes.clients": 2}), board)
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: treatment.changes."clients": must be a client's own setting: all \
share the server, the board, the users and the paths, got 2
    """
    return _cohorts_of(_Pair(plan, scenario))


class _Pair:
    """A plan and a scenario, which are the same as long as they are these very ones."""

    def __init__(self, plan: Plan, scenario: Scenario) -> None:
        self.plan, self.scenario = plan, scenario

    def __hash__(self) -> int:
        return hash((id(self.plan), id(self.scenario)))

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, _Pair)
        return self.plan is other.plan and self.scenario is other.scenario


@lru_cache(maxsize=_REMEMBERED)
def _cohorts_of(pair: _Pair) -> tuple[Scenario, Scenario]:
    """Return what `cohort_scenarios` does, of which every fleet of a rehearsal asks four times."""
    control, treatment = (
        _variant_of(getattr(pair.plan, name), name, pair.scenario) for name in COHORTS
    )
    return control, treatment


def _variant_of(variant: Variant, cohort: str, scenario: Scenario) -> Scenario:
    if not variant.changes and variant.transport == scenario.transport:
        return scenario
    try:
        changed = scenario.replace({**variant.changes, "transport": variant.transport})
    except ScenarioError as error:
        raise error.moved(lambda path: _place(cohort, variant, path)) from None
    for path, value in variant.changes.items():
        section = path.partition(".")[0]
        is_as_before = getattr(changed, section) == getattr(scenario, section)
        is_of_a_client = section in OF_A_CLIENT and is_a_clients(scenario, changed, path)
        if not (is_as_before or is_of_a_client):
            shared = "all share the server, the board, the users and the paths"
            rule = f"must be a client's own setting: {shared}"
            raise ScenarioError(_place(cohort, variant, path), value, rule)
        for name in _left_out(scenario, changed, path, value):
            present = getattr(getattr(scenario, section), name)
            rule = f"must be given, as a section replaces the scenario's, which has {present}: "
            rule += f'or change one setting of it, as "{section}.{next(iter(value), name)}"'
            raise ScenarioError(f"{_place(cohort, variant, path)}.{name}", None, rule)
    return changed


def _left_out(scenario: Scenario, changed: Scenario, path: str, value: Any) -> list[str]:
    """Return the settings that change because a section does not name them.

    In TOML ``polling.interval_s = 10`` without quotation marks is a section with one setting. Only
    ``reconnect`` may leave settings out, as those of another policy have to be absent.
    """
    before, after = getattr(scenario, path, None), getattr(changed, path, None)
    if path == "reconnect" or not isinstance(value, dict) or before is None:
        return []
    names = type(before).model_fields
    return [n for n in names if n not in value and getattr(before, n) != getattr(after, n)]


def _place(cohort: str, variant: Variant, path: str) -> str:
    """Return the path of an error: that of the change that caused it, if there is one."""
    for given in variant.changes:
        if path == given or path.startswith(f"{given}."):
            return f'{cohort}.changes."{given}"{path.removeprefix(given)}'
    return f'{cohort}.changes."{path}"'


def is_a_clients(scenario: Scenario, changed: Scenario, path: str) -> bool:
    """Say whether a change leaves all that the clients share as it is.

    Parameters
    ----------
    scenario, changed : Scenario
        Without the change, and with it.
    path : str
        Of a section, or of one of its settings.
    """
    section, _, name = path.partition(".")
    of_it = getattr(changed, section)
    if name and getattr(scenario, section) is not None:
        of_it = getattr(scenario, section).model_copy(update={name: getattr(of_it, name)})
    return _shared(scenario) == _shared(scenario.model_copy(update={section: of_it}))


def _shared(scenario: Scenario) -> dict[str, Any]:
    """Return the settings of which a run has one set; what is pushed is among them."""
    settings = common_fields(scenario, 0, 0)
    is_snapshot = settings["rules"].push_is_snapshot
    arrays = {name: settings[name].tolist() for name in ("sizes", "stream_bytes")}
    return {**settings, "rules": is_snapshot, **arrays}
