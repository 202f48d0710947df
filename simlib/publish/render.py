"""Pages: a notebook with its stored outputs, as HTML that opens anywhere.

The last step of the data flow, and a leaf: it reads a notebook file and runs nothing. A reader of
a page has neither Python nor a network. `render` makes one file, which opens alone; a site of many
is made by `simlib.publish.site`.

nbconvert walks the cells and turns Markdown and code into HTML. Its stock templates are not used:
they load scripts from outside for mathematics, diagrams and widgets, and they know no plotly
figure that is stored as JSON.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from simlib.publish.documents import prose, title_of_text
from simlib.publish.frame import Page, framed, write
from simlib.publish.links import Places, RenderError
from simlib.publish.notebook import PLOTLY_MIME
from simlib.publish.plots import figure_html
from simlib.web.specs import EXPLORER_MIME, Spec

if TYPE_CHECKING:
    from nbformat import NotebookNode

# Only the kinds of output that our notebooks have. Standard error is dropped, and so is whatever
# would need a kernel.
_TEMPLATE = """{%- extends 'display_priority.j2' -%}
{%- block markdowncell %}
<section class="prose">{{ cell.source | prose }}</section>
{%- endblock markdowncell -%}
{%- block in_prompt -%}{%- endblock in_prompt -%}
{%- block output_prompt -%}{%- endblock output_prompt -%}
{%- block input %}
<details class="code"><summary>code</summary>
{{ cell.source | highlight_code(metadata=cell.metadata) }}
</details>
{%- endblock input -%}
{%- block output %}
<div class="output{{ ' answer' if 'headline' in cell.metadata.tags }}">{{ super() }}</div>
{%- endblock output -%}
{%- block execute_result -%}
{%- block data_priority scoped -%}{{ super() }}{%- endblock -%}
{%- endblock -%}
{%- block stream_stdout -%}<pre>{{ output.text | ansi2html }}</pre>{%- endblock -%}
{%- block stream_stderr -%}{%- endblock -%}
{%- block error -%}<div class="error"><pre>{{ super() }}</pre></div>{%- endblock -%}
{%- block traceback_line -%}{{ line | ansi2html }}{%- endblock -%}
{%- block data_html -%}{{ output.data['text/html'] }}{%- endblock -%}
{%- block data_markdown -%}
<div class="prose">{{ output.data['text/markdown'] | prose }}</div>
{%- endblock -%}
{%- block data_text -%}<pre>{{ output.data['text/plain'] | ansi2html }}</pre>{%- endblock -%}
{%- block data_svg -%}{{ output.data['image/svg+xml'] }}{%- endblock -%}
{%- block data_png -%}
<img alt="" src="data:image/png;base64,{{ output.data['image/png'] | replace('\\n', '') }}">
{%- endblock -%}
{%- block data_javascript -%}{%- endblock -%}
{%- block data_widget_view -%}{%- endblock -%}
"""


def render(
    notebook_path: str | Path, out_dir: str | Path, *, folder: str | Path | None = None
) -> Path:
    """Write a notebook with its stored outputs as a page that opens alone, and run nothing.

    Parameters
    ----------
    notebook_path : str or Path
        The notebook, executed.
    out_dir : str or Path
        The folder for the page; made if missing.
    folder : str or Path, optional
        Where the notebook's links to files lead from; by default its own folder.

    Returns
    -------
    Path
        The page, ``<out_dir>/<name of the notebook>.html``: one file, which needs no other. Its
        links to other notebooks are text.

    Raises
    ------
    RenderError
        If a text cell holds TeX mathematics, something in the notebook would be loaded from
        an outside address, or a link leads to no file.
    """
    notebook_path = Path(notebook_path)
    page = notebook_page(notebook_path, Places(), folder=folder)
    note = f"{notebook_path.name}, rendered by simlib"
    return write(Path(out_dir) / f"{notebook_path.stem}.html", framed([page], note=note))


def notebook_page(notebook_path: Path, places: Places, *, folder: str | Path | None = None) -> Page:
    """Return the page of a notebook, without what is around it.

    Parameters
    ----------
    notebook_path : Path
        The notebook, executed.
    places : Places
        Where the other pages are.
    folder : str or Path, optional
        Where its links lead from; by default its own folder.

    Raises
    ------
    RenderError
        As `render` does.
    """
    import nbformat
    from jinja2 import DictLoader
    from nbconvert.exporters import HTMLExporter

    name = notebook_path.stem
    folder = notebook_path.parent if folder is None else Path(folder)
    notebook = nbformat.read(notebook_path, as_version=4)
    _refuse_mathematics(notebook, notebook_path)
    title = title_of(notebook) or name
    _join_code(notebook)
    _draw_figures(notebook, name, places)
    _draw_explorers(notebook, name, places)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": _TEMPLATE})], template_file="page.html.j2"
    )
    exporter.register_filter("prose", prose)
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    body = _SPLIT_HEAD.sub(r"<th>\2</th>\1</thead>", body).replace("<td>NaN</td>", "<td>–</td>")
    body = places.lead(body, name, notebook_path, folder)
    outside = outside_addresses(body)
    if outside:
        raise RenderError(
            f"{notebook_path}: must load nothing from outside, got {', '.join(outside)}"
        )
    return Page(name, title, body)


# pandas gives the name of a table's index a row of its own under the heads of its columns.
_SPLIT_HEAD = re.compile(
    r"<th></th>((?:\s*<th>[^<]*</th>)*\s*</tr>)"
    r"\s*<tr>\s*<th>([^<]*)</th>(?:\s*<th></th>)*\s*</tr>\s*</thead>"
)


def title_of(notebook: NotebookNode) -> str:
    """Return a notebook's first heading as plain text, or an empty text if it has none.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook.

    Returns
    -------
    str
        The heading, without Markdown's marks.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title = title_of_text(cell.source)
            if title:
                return title
    return ""


def outside_addresses(page: str) -> list[str]:
    """Return the addresses that a browser would ask for by itself when it opens a page.

    Links that a reader may follow do not count, nor does text inside scripts.

    Parameters
    ----------
    page : str
        HTML.

    Returns
    -------
    list of str
        The addresses, each once, in the order of the page.

    Examples
    --------
    >>> outside_addresses(
    ...     '<a href="https://example.org">a</a><script src="plotly.min.js"></script>'
    ... )
    []
    >>> outside_addresses('<img src="https://example.org/a.png">')
    ['https://example.org/a.png']
    """
    reader = _Reader()
    reader.feed(page)
    return list(dict.fromkeys(reader.found))


class _Reader(HTMLParser):
    """Collects what a browser loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            if name in {"src", "srcset", "data", "poster"} or (name == "href" and tag != "a"):
                self._take(value or "")
            elif name == "style":
                self._take_style(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._take_style(data)

    def _take_style(self, text: str) -> None:
        for match in re.finditer(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", text):
            self._take(match[1])

    def _take(self, address: str) -> None:
        if re.match(r"(?:[a-z][a-z0-9+.-]*:)?//", address.strip(), re.IGNORECASE):
            self.found.append(address.strip())


def _refuse_mathematics(notebook: NotebookNode, path: Path) -> None:
    # Drawing it takes MathJax from outside; without, a reader would see bare TeX.
    for position, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
            for mark in ("$$", "\\(", "\\["):
                if mark in prose:
                    raise RenderError(
                        f"{path}: cell {position}: must hold no TeX mathematics, got {mark!r}"
                    )


def _join_code(notebook: NotebookNode) -> None:
    """Join each code cell that shows nothing with the code cell after it: one line to unfold."""
    joined: list[NotebookNode] = []
    for cell in notebook.cells:
        before = joined[-1] if joined else None
        if before is not None and before.cell_type == cell.cell_type == "code":
            if not before.outputs:
                cell.source = f"{before.source}\n\n{cell.source}"
                joined.pop()
        joined.append(cell)
    notebook.cells = joined


def _draw_figures(notebook: NotebookNode, name: str, places: Places) -> None:
    """Replace each stored figure by the HTML that draws it."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(PLOTLY_MIME)
            if figure is not None:
                count += 1
                identity = places.identity(name, f"fig-{count}")
                drawn = figure_html(identity, figure, f"{name}-figure-{count}.csv")
                output["data"] = {"text/html": drawn}


def _draw_explorers(notebook: NotebookNode, name: str, places: Places) -> None:
    """Replace each stored explorer by the HTML that simulates."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            explorer = output.get("data", {}).get(EXPLORER_MIME)
            if explorer is not None:
                from simlib.web.page import explorer_html  # takes a compiler: most pages have none

                count += 1
                identity = places.identity(name, f"explorer-{count}")
                output["data"] = {"text/html": explorer_html(Spec.of_json(explorer), identity)}
