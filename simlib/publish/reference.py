"""Every setting of a scenario and of a plan: as a table to search in, and as pages.

The page to read in a repository is ``data/settings.md``. After a setting has changed,
``python -m simlib.publish.reference data/settings.md`` writes it anew.
"""

from __future__ import annotations

import difflib
import html
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.errors import ScenarioError
from simlib.rollout.plan import Plan
from simlib.scenario import Scenario
from simlib.scenario.settings import Setting, names_in, settings_of, text_of
from simlib.scenario.suggestions import plain
from simlib.scenario.terms import term_of

if TYPE_CHECKING:
    import pandas as pd

_HEAD = """\
# Settings

Every setting of a scenario and of a rollout plan. In Python, `sl.settings()` shows the same, and
`sl.settings("refetchInterval")` searches it. After a setting has changed,
`python -m simlib.publish.reference data/settings.md` writes this page anew.

A duration is a number of seconds, or a text such as `"1.5 min"`; a size is a number of bytes, or a
text such as `"48 kB"`. What is *needed* must be given; what is *absent* has no value unless it is
given. Names elsewhere stand with their tool, and with its unit if that is another."""
_ABOUT_HTML = (
    "A duration is a number of seconds, or a text such as <code>1.5 min</code>; a size is a number "
    "of bytes, or a text such as <code>48 kB</code>. What is <i>needed</i> must be given; what is "
    "<i>absent</i> has no value unless it is given. Names elsewhere stand with their tool."
)
_PARTS = (("A scenario", Scenario), ("A rollout plan", Plan))
_COLUMNS = ("setting", "unit", "default", "range", "meaning", "elsewhere")


class Settings(Sequence[Setting]):
    """Settings, shown as text by a terminal and as a table by a notebook.

    Parameters
    ----------
    found : list of Setting
    note : str, optional
        What a reader has to know beside them, such as that something is not modelled.
    """

    def __init__(self, found: list[Setting], note: str = "") -> None:
        self._found = found
        self.note = note

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        return self._found[place]

    def __iter__(self) -> Iterator[Setting]:
        return iter(self._found)

    def __repr__(self) -> str:
        note = textwrap.fill(self.note, 100)
        return "\n".join(filter(None, (note, text_of(self._found))))

    def _repr_html_(self) -> str:
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        if not self._found:
            return note
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        rows = [
            "".join(f'<td style="text-align: left">{html.escape(text)}</td>' for text in _row(one))
            for one in self._found
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"{note}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def table(self) -> pd.DataFrame:
        """A row for each setting; ``elsewhere`` has its names in other tools."""
        import pandas as pd

        return pd.DataFrame(map(_row, self._found), columns=list(_COLUMNS))


def settings(search: str = "") -> Settings:
    """Return the settings of a scenario and of a plan, or those that a text leads to.

    Parameters
    ----------
    search : str, optional
        A part of a path, of what is said of a setting, or of its name in another tool; capitals and
        punctuation do not matter. ``"scenario"`` and ``"plan"`` return all settings of the one or
        of the other. Settings whose own name or whose name elsewhere it is come alone. Words of
        the field lead to what they are about, and say so where simlib does not model it.

    Returns
    -------
    Settings
        Those of a plan with ``Plan.`` before their path. A terminal shows them as text, a notebook
        as a table; ``settings(...).table`` is a `pandas.DataFrame`, ``settings(...).note`` what
        else there is to say, or empty.

    Raises
    ------
    ScenarioError
        Nothing is found.

    Examples
    --------
    >>> settings("refetchInterval")[0].path
    'polling.interval_s'
    >>> [found.path for found in settings("pingTimeout")]
    ['heartbeat.timeout_s']
    >>> print(settings("503"))
    server.max_connections = 20000    a whole number >= 1
        Open WebSockets and streams, and requests that are held (long_polling); a further request
        for one, or to be held, is answered 503. ...
    >>> print(settings("quic").note)
    simlib does not model HTTP/3: HTTP/2 comes nearest.
    """
    if not isinstance(search, str):
        raise ScenarioError("search", search, "must be text")
    of_scenario = list(settings_of(Scenario))
    of_plan = [one._replace(path=f"Plan.{one.path}") for one in settings_of(Plan)]
    asked = plain(search)
    if asked in ("scenario", "plan"):
        return Settings(of_scenario if asked == "scenario" else of_plan)
    every = of_scenario + of_plan
    named = [one for one in every if asked in _names(one)] if asked else []
    term = None if named else term_of(search)
    if term is not None:
        by_path = {one.path: one for one in every}
        meant = [by_path[path] for path in term.paths.split()]
        found = meant or [one for one in every if _says(one, search, whole=True)]
        return Settings(found, term.says)
    found = named or [one for one in every if _says(one, search)]
    if not found:
        near = difflib.get_close_matches(asked, {n for one in every for n in _names(one)}, n=1)
        hint = f"; did you mean {_written(near[0], every)}?" if near else ""
        rule = f"must be in a setting's path, meaning, or name in other tools{hint}"
        raise ScenarioError("search", search, rule)
    return Settings(found)


def _row(one: Setting) -> tuple[str, ...]:
    return (*one[:5], ", ".join(one.elsewhere))


def _says(one: Setting, search: str, *, whole: bool = False) -> bool:
    """Say whether each word of a text is a word that is said of a setting, or a part of one."""
    words = [plain(word) for word in " ".join(_row(one)).split()]
    return all(
        any(plain(asked) == word if whole else plain(asked) in word for word in words)
        for asked in search.split()
    )


def _names(one: Setting) -> dict[str, str]:
    """Return the names of a setting, here and elsewhere, by their letters and digits."""
    path = one.path.removeprefix("Plan.")
    names = [path, path.rpartition(".")[2], *(n for each in one.elsewhere for n in names_in(each))]
    return {plain(name): name for name in names if plain(name)}


def _written(name: str, every: list[Setting]) -> str:
    """Return a name as it is written."""
    return next(_names(one)[name] for one in every if name in _names(one))


def page() -> str:
    """Return the page of all settings, in Markdown."""
    lines = [_HEAD]
    for title, model in _PARTS:
        lines += ["", f"## {title}", "", f"| {' | '.join(_COLUMNS)} |", "|---" * 6 + "|"]
        for one in settings_of(model):
            setting, *others = (text.replace("|", "\\|") for text in _row(one))
            lines.append(f"| `{setting}` | {' | '.join(others)} |")
    return "\n".join(lines) + "\n"


def html_page(identity: Callable[[str], str]) -> str:
    """Return the same as HTML for the pages of a report: a heading a setting, no wide table.

    Parameters
    ----------
    identity : callable
        Given a setting's path, returns what its heading is called in the page.
    """
    parts = ["<h1>Settings</h1>", f"<p>{_ABOUT_HTML}</p>"]
    for title, model in _PARTS:
        prefix = "" if model is Scenario else "Plan."
        parts.append(f"<h2>{html.escape(title)}</h2>")
        for one in settings_of(model):
            name = html.escape(identity(f"{prefix}{one.path}"))
            path, unit, default, limits, meaning, elsewhere = map(html.escape, _row(one))
            facts = " · ".join(filter(None, (unit, f"default {default}", limits)))
            parts.append(
                f'<section class="setting"><h3 id="{name}"><code>{path}</code></h3>'
                f"<p>{facts}</p><p>{meaning}</p>"
                f"{f'<p>Elsewhere: {elsewhere}</p>' if elsewhere else ''}</section>"
            )
    return "\n".join(parts)


def main(arguments: list[str]) -> None:
    """Write the page to a file, or to the standard output."""
    if len(arguments) > 1:
        sys.exit("usage: python -m simlib.publish.reference [FILE]")
    if arguments:
        Path(arguments[0]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main(sys.argv[1:])
