"""The verbs that run a board: simulate, measure, compare, sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from simlib.cli.inputs import (
    Changed,
    Limit,
    amount_of,
    board_of,
    cell_of,
    changing,
    check_metric,
    limits_of,
    percent_of,
    running,
    values_of,
)
from simlib.cli.output import Kept, as_json, examples, finish, interruptible, write_csv
from simlib.run.files import as_path

if TYPE_CHECKING:
    import pandas as pd

    from simlib.run import Run

need = click.option(
    "--need", "needs", multiple=True, metavar="METRIC<=VALUE",
    help="Exit with 1 unless the whole interval keeps this limit (or >=): latency_p95_s<='5 s'.",
)  # fmt: skip
save = click.option(
    "--save", metavar="FOLDER",
    help="Write every run as Parquet files, in a folder a replication.",
)  # fmt: skip
store = click.option(
    "--store", metavar="FOLDER",
    help="Keep finished runs here, and do not run them again.",
)  # fmt: skip
out = click.option("--out", metavar="FILE", help="Write the table as CSV, too.")


@click.command(
    epilog=examples(
        "simlib simulate matters",
        "simlib simulate board.toml --set transport=websocket --set clients=5000",
        "simlib simulate board.toml --need 'latency_p95_s<=5 s' --need 'utilisation<=70%'",
    )
)
@click.argument("board")
@changing
@running(replications=5)
@need
@save
@as_json
def simulate(
    board: str,
    changed: Changed,
    options: dict[str, Any],
    needs: tuple[str, ...],
    save: str | None,
    is_json: bool,
) -> int:
    """Simulate BOARD: its metrics, as means of replications with 95 % intervals."""
    from simlib.experiment import replicate

    scenario, limits = changed.of(board_of(board)), limits_of(needs)

    def show(runs: list[Run]) -> int:
        code = shown_runs("simulate", runs, limits, is_json=is_json)
        for run in runs if save is not None else ():
            run.save(as_path(save) / f"replication_{run.provenance['replication']}")
        return code

    with interruptible(show):
        return show(replicate(scenario, **options))


def shown_runs(verb: str, runs: Sequence[Run], limits: Sequence[Limit], *, is_json: bool) -> int:
    """Print the metrics of replications, of at least one; return the exit code."""
    from simlib.analysis import metrics

    if len(runs) > 1:
        table = metrics.intervals(runs)
    else:  # an interrupt left one
        table = metrics.table(*runs).select_dtypes("number").iloc[:1].T.reset_index()
        table.columns = ["quantity", "mean"]
        table[["low", "high"]] = float("nan")
        table["replications"] = 1
    found = table[table["mean"].notna()]
    columns = ["cohort"] if "cohort" in found else []
    columns += ["quantity", "mean", "low", "high", "replications"]
    return finish(
        verb,
        {"metrics": found[columns]},
        is_json=is_json,
        texts=[_title(runs)],
        about={"scenario": runs[0].scenario.dump(), "seed": runs[0].provenance["seed"]},
        warnings=(warning.sentence for run in runs for warning in run.warnings),
        kept=(kept_limit(table, limit) for limit in limits),
    )


def _title(runs: Sequence[Run]) -> str:
    scenario, made_by = runs[0].scenario, runs[0].provenance["engine"]
    named = f"{scenario.name}: " if scenario.name else ""
    return f"{named}{scenario.transport}, {scenario.clients} clients, {len(runs)} runs by {made_by}"


def kept_limit(table: pd.DataFrame, limit: Limit) -> Kept:
    """Return whether the whole interval of a metric's mean keeps a limit."""
    row = cell_of(table, limit.metric)
    if row is None or row["mean"] != row["mean"]:
        return Kept(limit.text, "it has no value here", is_kept=False)
    low, high = (row[name] if row[name] == row[name] else row["mean"] for name in ("low", "high"))
    missed = [limit.is_missed_by(end) for end in (low, high)]
    unclear = ": more replications would tell" if any(missed) and not all(missed) else ""
    found = f"found {row['mean']:.4g}, {low:.4g} to {high:.4g}{unclear}"
    return Kept(limit.text, found, is_kept=not any(missed))


@click.command(
    epilog=examples(
        "simlib measure matters --time-scale 20",
    )
)
@click.argument("board")
@changing
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--time-scale", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
    help="So many times faster than the scenario's own clock.",
)  # fmt: skip
@click.option("--emulate-sends", is_flag=True, help="Let a send take server.send_s, by waiting.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress bar.")
@save
@as_json
def measure(
    board: str,
    changed: Changed,
    seed: int,
    quiet: bool,
    save: str | None,
    is_json: bool,
    **options: Any,
) -> int:
    """Run BOARD on a real server on this machine, beside what is predicted of it.

    Exits with 1 if a prediction is outside its limit.
    """
    from simlib.analysis import metrics
    from simlib.engines import simulate as simulated
    from simlib.live import measure as measured

    scenario = changed.of(board_of(board))
    run_options: dict[str, Any] = {"seed": seed, "progress": not quiet}

    def show(run: Run) -> int:
        if save is not None:
            run.save(as_path(save) / "measured")
        table = metrics.compare(simulated(run.scenario, **run_options), run)
        judged = table[table["verdict"].isin(["within", "outside", "inconclusive"])]
        return finish(
            "measure",
            {"metrics": table},
            is_json=is_json,
            texts=[run.title],
            about={"scenario": run.scenario.dump(), "seed": seed},
            warnings=(warning.sentence for warning in run.warnings),
            kept=(
                Kept(
                    f"{row['quantity']} within {row['allowed']:.4g}",
                    f"error {row['error']:.4g}, {row['verdict']}",
                    is_kept=row["verdict"] != "outside",
                )
                for _, row in judged.iterrows()
            ),
        )

    with interruptible(lambda run: shown_runs("measure", [run], [], is_json=is_json)):
        return show(measured(scenario, **run_options, **options))


@click.command(
    epilog=examples(
        "simlib compare matters --set transport=websocket",
        "simlib compare main.toml branch.toml --no-worse connection_wait_p95_s=10%",
    )
)
@click.argument("one")
@click.argument("other", required=False)
@changing
@running(replications=10)
@store
@click.option(
    "--no-worse", "allowed", multiple=True, metavar="METRIC=BY",
    help="Exit with 1 unless the whole interval of the difference shows that OTHER is worse by no"
    " more than this, in the metric's unit or in % of ONE: connection_wait_p95_s=10%.",
)  # fmt: skip
@as_json
def compare(
    one: str,
    other: str | None,
    changed: Changed,
    options: dict[str, Any],
    store: str | None,
    allowed: tuple[str, ...],
    is_json: bool,
) -> int:
    """Compare ONE board with OTHER, pair by pair on common draws.

    OTHER is a second board, or ONE itself; the settings given here change it.
    """
    from simlib.experiment import compare as compared

    if other is None and changed.is_empty:
        raise click.UsageError("give a second board, or settings that change the first")
    allowances = [allowance_of(text) for text in allowed]
    before, after = board_of(one), changed.of(board_of(other or one))

    def show(table: pd.DataFrame) -> int:
        return finish(
            "compare",
            {"metrics": table.drop(columns="warnings")},
            is_json=is_json,
            texts=[f"{before.name or one} and {after.name or other or one}, {len(table)} metrics"],
            about={"one": before.dump(), "other": after.dump(), "seed": options["seed"]},
            warnings=dict.fromkeys(filter(None, table["warnings"])),
            kept=(kept_allowance(table, *allowance) for allowance in allowances),
        )

    with interruptible(show):
        return show(compared(before, after, store=store, **options))


def allowance_of(text: str) -> tuple[str, str, str]:
    """Return what was given of ``metric=by``, the metric, and by how much it may be worse."""
    metric, equals, by = (part.strip() for part in text.partition("="))
    if not equals or not by:
        raise click.BadParameter(f"must be METRIC=BY, got {text!r}")
    check_metric(metric)
    if worse_of(metric) == 0:
        raise click.BadParameter(f"{metric}: must get worse in one direction")
    _allowed(metric, by, 1.0)
    return text, metric, by


def _allowed(metric: str, by: str, of: float) -> float:
    """Return by how much a metric may be worse, where ONE has the value `of`."""
    if not by.endswith("%"):
        return amount_of(metric, by)
    try:
        return percent_of(by) * abs(of)
    except ValueError as error:
        raise click.BadParameter(f"{metric}: {error}") from None


def worse_of(metric: str) -> int:
    """Return which way a metric gets worse: 1 higher, -1 lower, 0 neither."""
    from simlib.core.measures import MEASURES

    ways = {"higher": 1, "lower": -1, "neither": 0}
    if metric in ("eligible", "delivered"):
        return 0
    return ways[MEASURES[metric].worse] if metric in MEASURES else 1


def kept_allowance(table: pd.DataFrame, text: str, metric: str, by: str) -> Kept:
    """Return whether the whole interval of a difference is no worse than allowed."""
    threshold, row = f"no worse: {text}", cell_of(table, metric)
    if row is None:
        return Kept(threshold, "one of the boards has no value of it", is_kept=False)
    allowed = _allowed(metric, by, row["one"])
    ends = sorted(worse_of(metric) * row[name] for name in ("low", "high"))
    unclear = ": more replications would tell" if ends[0] <= allowed < ends[1] else ""
    found = (
        f"from {row['one']:.4g} to {row['other']:.4g}, difference {row['low']:.4g} to"
        f" {row['high']:.4g}, {allowed:.4g} allowed{unclear}"
    )
    return Kept(threshold, found, is_kept=bool(ends[1] <= allowed))


@click.command(
    epilog=examples(
        "simlib sweep matters -o transport=polling,websocket -o clients=200,2000",
    )
)
@click.argument("board")
@click.option(
    "--over", "-o", multiple=True, required=True, metavar="PATH=VALUE,VALUE",
    help="A setting and its values; of several settings every combination is run.",
)  # fmt: skip
@changing
@running(replications=10)
@store
@click.option("--metric", "metrics", multiple=True, help="Show these metrics only.")
@out
@as_json
def sweep(
    board: str,
    over: tuple[str, ...],
    changed: Changed,
    options: dict[str, Any],
    store: str | None,
    metrics: tuple[str, ...],
    out: str | None,
    is_json: bool,
) -> int:
    """Simulate BOARD with each of some settings: a row a point and metric, with 95 % intervals."""
    from simlib.experiment import sweep as swept

    for metric in metrics:
        check_metric(metric)
    scenario, grid = changed.of(board_of(board)), values_of(over)

    def show(table: pd.DataFrame) -> int:
        found = table[table["mean"].notna()]
        if metrics:
            found = found[found["quantity"].isin(metrics)]
        columns = [name for name in found if name not in ("cohort", "warnings")]
        code = finish(
            "sweep",
            {"points": found[columns]},
            is_json=is_json,
            about={"scenario": scenario.dump(), "seed": options["seed"]},
            warnings=dict.fromkeys(filter(None, table["warnings"])),
        )
        write_csv(table, out)
        return code

    with interruptible(show):
        return show(swept(scenario, grid, store=store, **options))
