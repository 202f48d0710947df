"""The verbs that carry a rollout plan out: once, or on many fleets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
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
_FOREIGN = (
    click.option(
        "--metric", "metrics", multiple=True, metavar="NAME=METRIC[,FACTOR[,ADDED]]",
        help="What a metric of another tool's file means here; =none leaves it out.",
    ),
    click.option(
        "--webhook", "webhooks", multiple=True, metavar="[NAME=]ANSWER",
        help="What a webhook of another tool's file answers, by its name or type, or all of them:"
        " pass, fail or wait.",
    ),
    click.option("--gate-s", metavar="SECONDS", help="How long an approval takes, in such a file."),
)  # fmt: skip


def foreign(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of another tool's files, as what `Plan.load` takes: `said`."""

    @wraps(command)
    def with_said(
        *, metrics: tuple[str, ...], webhooks: tuple[str, ...], gate_s: str | None, **options: Any
    ) -> int:
        said: dict[str, Any] = {"metrics": dict(_named("--metric", metrics, _meaning))}
        answers = dict(_named("--webhook", webhooks, str))
        if "" in answers and len(webhooks) > 1:
            raise click.BadParameter("--webhook ANSWER is for all of them: give no other beside it")
        said["webhooks"] = answers.pop("", None) if "" in answers else answers
        said["gate_s"] = gate_s
        return command(said={name: value for name, value in said.items() if value}, **options)

    for option in reversed(_FOREIGN):
        with_said = option(with_said)
    return with_said


def _named(
    option: str, given: tuple[str, ...], read: Callable[[str], Any]
) -> Iterator[tuple[str, Any]]:
    """Yield names and values; a webhook's answer alone has no name."""
    for pair in given:
        name, equals, value = (part.strip() for part in pair.rpartition("="))
        if not equals and option == "--metric":
            raise click.BadParameter(f"must be NAME=METRIC, got {pair!r}")
        yield name, read(value)


def _meaning(text: str) -> Any:
    """Return what a metric means: its name here, or that with a factor and what is added."""
    name, *numbers = (part.strip() for part in text.split(","))
    if name == "none" and not numbers:
        return None
    try:
        return (name, *map(float, numbers)) if numbers else name
    except ValueError:
        raise click.BadParameter(f"must be METRIC,FACTOR,ADDED, got {text!r}") from None


_TURNS = ["t_s", "stage", "percent", "event", "failed"]
"""What is shown of a history."""


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
@foreign
@running()
@as_json
def roll_out(
    plan: str,
    board: str,
    changed: Changed,
    plan_set: tuple[str, ...],
    said: dict[str, Any],
    options: dict[str, Any],
    is_json: bool,
) -> int:
    """Carry PLAN out once on BOARD: what its controller saw and did.

    PLAN is a TOML file, a file of Flagger, Argo Rollouts, Unleash or GrowthBook, or the name of a
    plan that comes with simlib. Exits with 1 unless the plan came to its end.
    """
    from simlib.rollout import trials

    scenario = changed.of(board_of(board))
    read = plan_of(plan, plan_set, said)

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
@foreign
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
    said: dict[str, Any],
    options: dict[str, Any],
    store: str | None,
    false_frac: float | None,
    miss_frac: float | None,
    is_json: bool,
) -> int:
    """Carry PLAN out on many fleets like BOARD, healthy ones and ones with a regression."""
    from simlib.rollout import trials

    scenario = changed.of(board_of(board))
    read = plan_of(plan, plan_set, said)
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
