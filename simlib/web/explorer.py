"""Explorers: cells' outputs that simulate anew as a reader moves their sliders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from simlib.rollout.plan import Plan
from simlib.run.summary import summary_of
from simlib.scenario import Scenario
from simlib.web.shown import ran
from simlib.web.sliders import Moves, check_beside, sliders_of
from simlib.web.specs import EXPLORER_MIME, SHOWN, Spec, check, sequence

if TYPE_CHECKING:
    from simlib.web.widget import ExplorerWidget


class Explorer:
    """What `explorer` returns; a notebook shows it by itself.

    Attributes
    ----------
    spec : Spec
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._runs = [ran(each, spec.seed, spec.plan) for each in spec.scenarios]
        self._widget: ExplorerWidget | None = None

    def __repr__(self) -> str:
        paths = ", ".join(slider.path for slider in self.spec.sliders)
        said = [f"{run.title}: {warning}" for run in self._runs for warning in run.warnings]
        return "\n".join([f"<Explorer of {paths}>", self._summary(), *said])

    def _summary(self) -> str:
        rows = [row for run in self._runs for row in run.totals()]
        labels = [run.labels(row) for run in self._runs for row in run.totals()]
        return summary_of(rows, labels).to_string()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = {EXPLORER_MIME: self.spec.as_json(), "text/plain": repr(self)}
        return {**self._view(), **shown} if _is_in_a_kernel() else shown

    def _view(self) -> dict[str, Any]:
        """Return what JupyterLab shows: there the kernel simulates, once for all displays."""
        from simlib.web.widget import ExplorerWidget

        if self._widget is None or self._widget.is_closed:
            self._widget = ExplorerWidget(self.spec, self._runs)
        bundle: Any = self._widget._repr_mimebundle_()
        return dict(bundle[0] if isinstance(bundle, tuple) else bundle)


def _is_in_a_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def explorer(
    scenario: Scenario | Sequence[Scenario],
    sliders: Moves,
    /,
    *,
    shown: Sequence[str] = SHOWN,
    over_time: str = "utilisation",
    seed: int = 1,
    plan: Plan | None = None,
) -> Explorer:
    """Return an explorer: a reader moves sliders, and scenarios are simulated anew at once.

    In a rendered page the page itself simulates, event by event, by the same rules and with the
    same draws: it needs neither Python nor a network.

    Parameters
    ----------
    scenario : Scenario or sequence of Scenario
        One to three, which are shown beside each other, such as a board polled and pushed. What
        moves has the same value in all of them.
    sliders : mapping
        What moves: paths of settings as `Scenario.replace` takes them, or ``faults.0.start_s``. A
        tuple of two numbers is a range, a list has single values; a mapping has changes by their
        names, each as `Scenario.replace` takes them. The values of ``library`` are names of client
        libraries. Paths that begin with ``plan.`` are of the plan, as `Plan.replace` takes what
        follows: ``plan.stages.0.percent``, ``plan.kill_s``, and for sections a mapping of their
        values by names, such as ``{"plan.rollback": {"kept": {}, "closed": {"sockets":
        "closed"}}}``. At most 6 sliders.
    shown : sequence of str, optional
        The metrics of the table, by their names in `Run.metrics`.
    over_time : str, optional
        The metric that is drawn over time.
    seed : int, optional
    plan : Plan, optional
        A rollout that is carried out on one scenario, as `roll_out` does; its two cohorts are shown
        beside each other. When it sets which percentage has to be known beforehand: it may have
        stages, gates and a kill switch, but no guardrails.

    Returns
    -------
    Explorer

    Raises
    ------
    ScenarioError
        Something is wrong with a scenario, the plan or a slider, or what it moves cannot slide in a
        page: that would have to be laid out anew for every client.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=200, horizon_s=60)
    >>> explorer(board, {"polling.interval_s": (5, 60)})  # doctest: +ELLIPSIS
    <Explorer of polling.interval_s>
    ...
    >>> plan = Plan(
    ...     flag={"propagation": "pushed"}, stages=[{"percent": 50, "bake_s": 60}], kill_s=40
    ... )
    >>> explorer(board, {"plan.kill_s": (20, 50)}, plan=plan)  # doctest: +ELLIPSIS
    <Explorer of plan.kill_s>
    ...
    """
    from simlib.web.laid_out import check_laid_out  # takes a compiler

    scenarios = (scenario,) if isinstance(scenario, Scenario) else scenario
    scenarios, shown = sequence("scenarios", scenarios), sequence("shown", shown)
    spec = Spec(scenarios, (), shown, over_time, seed, plan)
    check(spec)
    spec = spec._replace(sliders=sliders_of(spec.scenarios[0], sliders, plan))
    for each in spec.scenarios:
        check_beside(each, spec.sliders)
        check_laid_out(each, spec.sliders, spec.seed, plan)
    return Explorer(spec)
