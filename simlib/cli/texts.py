"""The verbs that run nothing of a board: lint, settings, report, serve."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from simlib.cli.inputs import board_of, plan_of
from simlib.cli.output import MISSED, WRONG, as_json, examples, finish
from simlib.cli.rollouts import foreign
from simlib.errors import ScenarioError
from simlib.processes import terminable

_PLAN_KEYS = {"flag", "stages", "guardrails", "rollback"}
_PAGES = "build/report"
_LOOPBACK = "127.0.0.1"


@click.command(
    epilog=examples(
        "simlib lint board.toml plan.toml --board board.toml",
        "simlib lint plan.toml --board board.toml --fleets 20",
    )
)
@click.argument("files", nargs=-1, required=True)
@click.option("--board", metavar="BOARD", help="The board on which plans are to be carried out.")
@click.option(
    "--plan-set", "-p", "plan_set", multiple=True, metavar="PATH=VALUE",
    help="A setting of plans that their files cannot express.",
)  # fmt: skip
@click.option(
    "--fleets",
    type=click.IntRange(2),
    metavar="N",
    help="Carry plans out on N healthy fleets of the board, too, and on some broken ones.",
)
@foreign
@as_json
def lint(
    files: tuple[str, ...],
    board: str | None,
    plan_set: tuple[str, ...],
    fleets: int | None,
    said: dict[str, Any],
    is_json: bool,
) -> int:
    """Read FILES, which are scenarios and rollout plans, and say all that is wrong with them.

    Exits with 2 if one cannot be read, and with 1 if a plan cannot mean what it says on the board.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for name in files:
        try:
            rows += [
                {"file": name, "problem": warning, "is_error": False}
                for warning in _warnings(name, board, plan_set, said, fleets)
            ]
        except ScenarioError as error:
            rows += [
                {"file": name, "problem": str(problem), "is_error": True}
                for problem in error.problems
            ]
    table = pd.DataFrame(rows, columns=["file", "problem", "is_error"])
    if is_json:
        finish("lint", {"problems": table}, is_json=True)
    for row in () if is_json else rows:
        click.echo(f"{row['file']}: {'' if row['is_error'] else 'warning: '}{row['problem']}")
    if not rows and not is_json:
        click.echo(f"{len(files)} files, no problem")
    return WRONG if table["is_error"].any() else MISSED if rows else 0


def _warnings(
    name: str,
    board: str | None,
    plan_set: tuple[str, ...],
    said: dict[str, Any],
    fleets: int | None,
) -> list[str]:
    """Read a file as what it is; return what a plan is warned of on a board."""
    if not _is_plan(Path(name)):
        board_of(name)
        return []
    from simlib.rollout.trials import check_plan
    from simlib.rollout.warnings import warnings_of
    from simlib.scenario.documents import LANGUAGES

    plan = plan_of(name, plan_set, said if Path(name).suffix.lower() in LANGUAGES else {})
    if board is None:
        return []
    scenario = board_of(board)
    check_plan(plan, scenario)
    if fleets is not None:
        from simlib.rollout.linting import lint as lint_plan

        found = lint_plan(plan, scenario, replications=fleets)
        return [str(says) for says in found["says"]]
    return [warning.sentence for warning in warnings_of(plan, scenario)]


def _is_plan(path: Path) -> bool:
    from simlib.scenario.documents import LANGUAGES
    from simlib.scenario.reading import MOST_BYTES, read_text

    if path.suffix.lower() in LANGUAGES:
        return True
    try:
        return bool(_PLAN_KEYS & tomllib.loads(read_text(path, "TOML file", MOST_BYTES)).keys())
    except ValueError:  # ScenarioError is one, too
        return False  # the reader of scenarios says what is wrong


@click.command(
    epilog=examples(
        "simlib settings refetchInterval",
        'simlib settings "proxy_read_timeout"',
    )
)
@click.argument("search", default="")
@as_json
def settings(search: str, is_json: bool) -> int:
    """List every setting, or those that SEARCH leads to: a part of a name here or elsewhere."""
    from simlib.publish.reference import settings as found_settings

    found = found_settings(search)
    if is_json:
        return finish(
            "settings", {"settings": found.table}, is_json=True, about={"note": found.note}
        )
    click.echo(repr(found))
    return 0


@click.command(
    epilog=examples(
        "simlib report notebooks/01_polling_or_push.ipynb",
        "simlib report --stored --single report.html",
    )
)
@click.argument("notebooks", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=_PAGES, show_default=True, metavar="FOLDER"
)
@click.option(
    "--single", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write one file, too, that holds all pages and opens alone.",
)  # fmt: skip
@click.option("--stored", is_flag=True, help="Show the outputs that they have, and run nothing.")
@click.option("--timeout-s", type=float, default=600.0, show_default=True, help="For one cell.")
def report(
    notebooks: tuple[Path, ...], out: Path, single: Path | None, stored: bool, timeout_s: float
) -> int:
    """Run NOTEBOOKS for real, or all in notebooks/, and write pages that open offline.

    The pages are a site: an index with the answers, a page a notebook, settings and public names.
    """
    from simlib.publish import report as pages

    given = ["--out", str(out), "--timeout-s", str(timeout_s)]
    given += ["--single", str(single)] if single is not None else []
    given += ["--stored"] if stored else []
    return pages.main([*given, "--", *map(str, notebooks)])


@click.command(
    epilog=examples(
        "simlib serve --port 8080",
    )
)
@click.argument("folder", type=click.Path(path_type=Path), default=_PAGES)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
def serve(folder: Path, port: int) -> int:
    """Serve the pages of FOLDER to browsers on this machine, until Ctrl-C."""
    if not folder.is_dir():
        raise ScenarioError("folder", str(folder), "must be a folder: `simlib report` makes one")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    try:
        server = ThreadingHTTPServer((_LOOPBACK, port), handler)
    except OSError as error:
        raise ScenarioError("port", port, f"must be free ({error.strerror})") from None
    with server, suppress(KeyboardInterrupt), terminable():
        click.echo(f"{folder} is at http://{_LOOPBACK}:{server.server_port}/; Ctrl-C ends it")
        server.serve_forever()
    return 0
