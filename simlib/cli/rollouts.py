"""The verbs that carry a rollout plan out: once, or on many fleets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from simlib.cli.inputs import Changed, board_of, changing, plan_of, running
from simlib.cli.output import Kept, as_json, examples, finish, interruptible
from simlib.cli.runs import store

if TYPE_CHECKING:
    from simlib.rollout.trials import Rehearsal, Rollout

plan_settings = click.option(
    "--plan-set", "-p", "plan_set", multiple=True, metavar="PATH=VALUE",
    help="A setting of the plan. Another tool's file needs flag.propagation, at least.",
)  # fmt: skip
metrics = click.option(
    "--metric", "metrics", multiple=True, metavar="NAME=METRIC",
    help="What a metric of another tool's file means here.",
)  # fmt: skip


_TURNS = ["t_s", "stage", "percent", "event", "failed"]
"""What is shown of a history."""


def _options(metrics: tuple[str, ...]) -> dict[str, Any]:
    """Return what `Plan.load` takes for metrics of another tool's file."""
    meant = {}
    for pair in metrics:
        name, equals, metric = (part.strip() for part in pair.partition("="))
        if not equals:
            raise click.BadParameter(f"must be NAME=METRIC, got {pair!r}")
        meant[name] = metric
    return {"metrics": meant} if meant else {}


@click.command(
    name="roll-out",
    epilog=examples(
        "simlib roll-out guide_as_it_should_be matters --set horizon_s='2 h'",
    ),
)
@click.argument("plan")
@click.argument("board")
@changing
@plan_settings
@metrics
@running()
@as_json
def roll_out(
    plan: str,
    board: str,
    changed: Changed,
    plan_set: tuple[str, ...],
    metrics: tuple[str, ...],
    options: dict[str, Any],
    is_json: bool,
) -> int:
    """Carry PLAN out once on BOARD: what its controller saw and did.

    PLAN is a TOML file, a file of Flagger, Argo Rollouts, Unleash or GrowthBook, or the name of a
    plan that comes with simlib. Exits with 1 unless the plan came to its end.
    """
    from simlib.rollout import trials

    scenario = changed.of(board_of(board))
    read = plan_of(plan, plan_set, _options(metrics))

    def show(rollout: Rollout) -> int:
        history = rollout.history
        ended = str(history["event"].iloc[-1]) if len(history) else "not begun"
        shown = history if is_json else history.loc[history["event"] != "passed", _TURNS]
        return finish(
            "roll-out",
            {"history": shown},
            is_json=is_json,
            texts=[rollout.title],
            about={"plan": read.dump(), "scenario": scenario.dump(), "seed": options["seed"]},
            warnings=(warning.sentence for warning in rollout.warnings),
            kept=[
                Kept(
                    "the plan comes to its end",
                    f"its last look: {ended.replace('_', ' ')}",
                    is_kept=ended == "done",
                )
            ],
        )

    with interruptible(show):
        return show(trials.roll_out(read, scenario, **options))


@click.command(
    epilog=examples(
        "simlib rehearse guide_as_it_should_be matters --set horizon_s='2 h'",
        "simlib rehearse plan.toml board.toml -n 100 --false-frac 0.05 --miss-frac 0.1",
    )
)
@click.argument("plan")
@click.argument("board")
@changing
@plan_settings
@metrics
@running(replications=50)
@store
@click.option(
    "--false-frac", type=click.FloatRange(0, 1), help="Exit with 1 if more healthy fleets may be"
    " rolled back: the upper end of Wilson's interval.",
)  # fmt: skip
@click.option(
    "--miss-frac", type=click.FloatRange(0, 1), help="Exit with 1 if more of the fleets with a"
    " regression may be missed.",
)  # fmt: skip
@as_json
def rehearse(
    plan: str,
    board: str,
    changed: Changed,
    plan_set: tuple[str, ...],
    metrics: tuple[str, ...],
    options: dict[str, Any],
    store: str | None,
    false_frac: float | None,
    miss_frac: float | None,
    is_json: bool,
) -> int:
    """Carry PLAN out on many fleets like BOARD, healthy ones and ones with a regression."""
    from simlib.rollout import trials

    scenario = changed.of(board_of(board))
    read = plan_of(plan, plan_set, _options(metrics))
    broken = trials.regressions(scenario, read)

    def show(rehearsal: Rehearsal) -> int:
        table = rehearsal.table
        names = ["regression", "fleets", "back_frac", "back_low", "back_high", "done_frac"]
        names += ["back_s", "full_s", "users", "lost", "late", "errors"]
        shown = table if is_json or table.empty else table[names]
        return finish(
            "rehearse",
            {"regressions": shown},
            is_json=is_json,
            about={"plan": read.dump(), "scenario": scenario.dump(), "seed": options["seed"]},
            warnings=dict.fromkeys(filter(None, table.get("warnings", []))),
            kept=_thresholds(rehearsal, false_frac, miss_frac),
        )

    with interruptible(show):
        return show(trials.rehearse(read, scenario, broken, store=store, **options))


def _thresholds(
    rehearsal: Rehearsal, false_frac: float | None, miss_frac: float | None
) -> list[Kept]:
    """Return what became of the limits of false alarms and of misses."""
    kept = []
    for _, row in rehearsal.table.iterrows():
        is_healthy = row["regression"] == "healthy"
        limit = false_frac if is_healthy else miss_frac
        if limit is None:
            continue
        most = row["back_high"] if is_healthy else 1.0 - row["back_low"]
        what = "healthy fleets rolled back" if is_healthy else f"{row['regression']} missed"
        found = f"{row['back_frac']:.1%} of {row['fleets']} were rolled back, so at most {most:.1%}"
        kept.append(Kept(f"{what}: at most {limit:.1%}", found, is_kept=bool(most <= limit)))
    return kept
