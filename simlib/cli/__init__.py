"""The command line: what `simlib` does at a prompt, and in a build.

Each verb reads files, calls the function of the same name, and prints its table, or one JSON object
with ``--json``. It computes nothing itself but whether a threshold is missed.

========  ==========================================================================================
exit      meaning
========  ==========================================================================================
0         done, and every threshold that was given is kept
1         a threshold is missed, a rollout ended before its last stage, or a notebook failed
2         an input is wrong: the message says where, what was given and what would be right
3         the live lab could not do its work, or a file could not be read or written
130       Ctrl-C or SIGTERM came; finished runs, points or fleets have been printed
========  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from simlib.cli.output import MISSED, STOPPED, WORLD, WRONG, Stopped
from simlib.cli.rollouts import rehearse, roll_out
from simlib.cli.runs import compare, measure, simulate, sweep
from simlib.cli.texts import lint, report, serve, settings
from simlib.cli.verdicts import audit, decide
from simlib.errors import ScenarioError, SimlibError

__all__ = ["MISSED", "STOPPED", "WORLD", "WRONG", "main", "program"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`simlib VERB --help` has examples. BOARD is a scenario's TOML file, or the name of one"
    " that comes with simlib, such as matters.",
)
@click.version_option(package_name="simlib")
def program() -> None:
    """Rehearse a web app's move from polling to WebSocket: simulate, measure, compare, decide."""


for verb in (
    *(simulate, measure, compare, sweep, roll_out, rehearse),
    *(audit, decide, lint, settings, report, serve),
):
    program.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        After the program's name; absent: the real ones.

    Returns
    -------
    int
        The exit code, see the module.

    Examples
    --------
    >>> main(["settings", "refetchInterval"])  # doctest: +ELLIPSIS
    polling.interval_s...
    0
    """
    try:
        given = None if arguments is None else list(arguments)
        return int(program.main(given, prog_name="simlib", standalone_mode=False) or 0)
    except Stopped:
        return STOPPED
    except click.Abort:
        click.echo("stopped", err=True)
        return STOPPED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (SimlibError, OSError) as error:
        click.echo(f"simlib: {error}", err=True)
        return WRONG if isinstance(error, ScenarioError) else WORLD
