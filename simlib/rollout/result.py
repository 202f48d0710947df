"""A rollout that was carried out: its run, its tables, and why it went as it did."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from simlib.core.measures import METRICS
from simlib.renamed import warn
from simlib.rollout.controller import RolloutController
from simlib.rollout.looks import checks_table, looks_table
from simlib.rollout.plan import Plan
from simlib.rollout.reasons import Reason, Story, breakpoints_of, reasons_of, why
from simlib.rollout.warnings import warnings_of
from simlib.run import Run, RunWarning, kinds
from simlib.scenario.display import page, table_html, warnings_html


class Rollout(NamedTuple):
    """A plan carried out once.

    Attributes
    ----------
    run : Run
    history : pandas.DataFrame
        A row for each check of its controller: ``t_s``, ``stage``, ``percent`` (from then on),
        ``event`` (one of `controller.EVENTS`), ``failed`` (failed checks so far), and the metrics
        of the enrolled users since the previous check.
    plan : Plan
    checks : pandas.DataFrame
        A row for each guardrail at each check: ``t_s``, ``guardrail`` (its number in the plan, from
        0 on), ``metric``, its value for the ``treatment`` and for the ``control`` cohort (NaN: the
        server has one for both) since the check before, ``limit`` (what the treatment's was
        compared with; NaN for a judge), ``sample`` (observations, as `Guardrail.min_sample` counts
        them), ``found`` (one of `looks.FOUND`), ``result`` (what that counts as: pass, fail,
        inconclusive or no_data), and how many results of the guardrail Argo's rule has counted:
        ``failures``, ``inconclusive``, and in a row ``without_data``.
    looks : pandas.DataFrame
        A row for each cohort at each time at which the controller looked: ``t_s``, ``since_s`` (the
        look before, or 0), ``cohort``, ``present`` (its open tabs), ``connected`` (its open
        connections), and since the look before: ``joined`` (tabs that came into the cohort),
        ``opened`` and ``cut`` (connections that opened, and that the server or a timeout ended),
        ``delivered``, ``lost``, ``errors``, ``reconnects``, ``fallbacks`` and
        ``average_latency_s``.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=50, horizon_s=700)
    >>> plan = sl.Plan(
    ...     flag={"propagation": "polled", "every_s": 10},
    ...     stages=[{"percent": 50, "bake_s": 120}],
    ...     guardrails=[{"metric": "latency_p50_s", "below": 0.001}],
    ...     decision={"failures": 1},
    ... )
    >>> rollout = sl.roll_out(plan, board, engine="simpy")
    >>> float(rollout.breakpoints["t_s"]["first rollback"])
    120.0
    >>> print(rollout.why("first rollback")[-1])
    Decision: roll back to 0 %, as 1 look had failed, and at 1 the next one rolls back.
    """

    run: Run
    history: pd.DataFrame
    plan: Plan
    checks: pd.DataFrame
    looks: pd.DataFrame

    @property
    def warnings(self) -> tuple[RunWarning, ...]:
        """Those of its plan, see `rollout.warnings.CHECKS`, and of its run, see `Run.warnings`."""
        return (*warnings_of(self.plan, self.run.scenario), *self.run.warnings)

    @property
    def title(self) -> str:
        """The rollout in a line: its plan's name, its run and how it ended."""
        last = self.history["event"].iloc[-1] if len(self.history) else "not begun"
        percent = self.history["percent"].iloc[-1] if len(self.history) else 0
        ended = str(last).replace("_", " ")
        return f"{self.plan.name} on {self.run.title}: {ended} at {percent:g} %"

    @property
    def breakpoints(self) -> pd.DataFrame:
        """A row for each of `reasons.BREAKPOINTS`, by its name.

        ``t_s`` is when it was reached (NaN: never), ``look_s`` the look that `why` explains it by
        (NaN: none so far), and ``what`` says what was found.
        """
        return breakpoints_of(self._story)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it went as it did: the sentences of each look, with where their numbers stand."""
        return reasons_of(self._story)

    def why(self, at: float | str | None = None) -> list[str]:
        """Say what the controller saw, what it decided, and why.

        Parameters
        ----------
        at : float or str, optional
            A time, seconds from the start of the run: the last look up to then; or a name among the
            `breakpoints`. Absent: all looks, one after the other.

        Returns
        -------
        list of str
            Sentences; `reasons` has the cells of the tables in which their numbers stand.

        Raises
        ------
        ScenarioError
            There is no such breakpoint, the rollout did not come to it, or the time is no number
            that is >= 0.
        """
        return why(self._story, at)

    @property
    def _story(self) -> Story:
        run = self.run
        ended_s = float(run.provenance["end_of_run_s"])
        faults = [(fault.start_s, fault.kind) for fault in run.scenario.faults]
        return Story(self.plan, self.history, self.checks, self.looks, faults, ended_s)

    def __repr__(self) -> str:
        warned = f"; warnings: {kinds(self.warnings)}" if self.warnings else ""
        return f"<Rollout {self.title}, {len(self.history)} rows of history{warned}>"

    def _repr_html_(self) -> str:
        summary = self.run.summary().drop(index="warnings", errors="ignore")
        turns = self.history[self.history["event"] != "passed"]
        shown = turns[["t_s", "stage", "percent", "event"]]
        return page(
            self.title,
            warnings_html(self.warnings),
            table_html(shown),
            table_html(summary),
        )

    @property
    def diary(self) -> pd.DataFrame:
        """Was renamed to `history`."""
        warn("Rollout.diary", "Rollout.history")
        return self.history


def result_of(run: Run, controller: RolloutController) -> Rollout:
    """Return what a controller has done on a run that is over."""
    columns = ["t_s", "stage", "percent", "event", "failed", *METRICS]
    return Rollout(
        run,
        pd.DataFrame(controller.history, columns=columns),
        controller.plan,
        checks_table(controller.checks),
        looks_table(controller.looks, run),
    )
