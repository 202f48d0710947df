"""The verbs that judge: audit, decide."""

from __future__ import annotations

from typing import Any

import click

from simlib.cli.inputs import Changed, board_of, changing, needs_of, running
from simlib.cli.output import Kept, as_json, examples, finish, interruptible, write_csv
from simlib.cli.runs import out


@click.command(
    epilog=examples(
        'simlib audit matters --only "five attempts"',
    )
)
@click.argument("board")
@changing
@click.option("--only", multiple=True, metavar="DEFECT", help="These defects alone.")
@running(replications=5)
@out
@as_json
def audit(
    board: str,
    changed: Changed,
    only: tuple[str, ...],
    options: dict[str, Any],
    out: str | None,
    is_json: bool,
) -> int:
    """Show what each defect of the migration guide does to BOARD, and what its repair does."""
    from simlib.guide.auditing import audit as audited
    from simlib.guide.auditing import readable

    scenario = changed.of(board_of(board))
    with interruptible(lambda _: None):
        table = audited(scenario, only=only or None, **options)
    code = finish(
        "audit",
        {"defects": table if is_json else readable(table)},
        is_json=is_json,
        about={"scenario": scenario.dump(), "seed": options["seed"]},
        warnings=dict.fromkeys(filter(None, table["warnings"])),
    )
    write_csv(table, out)
    return code


@click.command(
    epilog=examples(
        "simlib decide matters --need latency_p95_s=5 --need utilisation=0.7",
        "simlib decide board.toml needs.toml",
    )
)
@click.argument("board")
@click.argument("needs", required=False)
@changing
@click.option(
    "--need", "given", multiple=True, metavar="NAME=LIMIT",
    help="A need, in place of the file's or beside it: latency_p95_s=5, prices.per_gb_down=0.09.",
)  # fmt: skip
@running(replications=None)
@as_json
def decide(
    board: str,
    needs: str | None,
    changed: Changed,
    given: tuple[str, ...],
    options: dict[str, Any],
    is_json: bool,
) -> int:
    """Judge every candidate for BOARD by NEEDS, a TOML file, and say whether it should move.

    Exits with 1 if no candidate meets the needs.
    """
    from simlib.verdict.judging import decide as decided

    scenario, limits = changed.of(board_of(board)), needs_of(needs, given)
    with interruptible(lambda _: None):
        found = decided(scenario, limits, **options)
    tables = {
        "candidates": found.table.reset_index() if is_json else found.summary().reset_index(),
        "ranking": found.ranking.reset_index(),
    }
    return finish(
        "decide",
        tables,
        is_json=is_json,
        texts=[found.verdict, ""],
        about={"verdict": found.verdict, "kind": found.kind, "best": found.best},
        warnings=found.warnings,
        kept=[
            Kept(
                "a candidate meets every need",
                f"{found.best or 'none does'}",
                is_kept=found.kind != "none",
            )
        ],
    )
