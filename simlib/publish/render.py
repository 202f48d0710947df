"""Pages: a notebook with its stored outputs, as one HTML file that opens anywhere.

The last step of the data flow, and a leaf: it reads a notebook file and runs nothing. A reader of
a page has neither Python nor a network, and often one page alone, which came by mail. So a page is
one file: it carries the plotly.js that the installed plotly package brings, compressed (2 MB), and
the data files to which its text links. Where a browser cannot draw, each figure is its title, and
says so. Before printing, figures and wide tables are fitted to the paper.

nbconvert walks the cells and turns Markdown and code into HTML. Its stock templates are not used:
they load scripts from outside for mathematics, diagrams and widgets, and they know no plotly
figure that is stored as JSON.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html
import json
import mimetypes
import re
from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.errors import SimlibError
from simlib.publish.notebook import FIGURE_CONFIG, PLOTLY_MIME
from simlib.web.specs import EXPLORER_MIME, Spec

if TYPE_CHECKING:
    from types import ModuleType

    from nbformat import NotebookNode

INDEX_NAME = "index.html"
MOST_LINKED_BYTES = 200_000

STYLE = """
:root { --ink: #1c2733; --soft: #5b6b7b; --line: #dfe5eb; --paper: #ffffff; --tint: #f5f7f9;
  --accent: #0b63b5; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--tint); color: var(--ink);
  font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
main { max-width: 62rem; margin: 2rem auto; padding: 2.5rem clamp(1rem, 5vw, 4rem) 3rem;
  background: var(--paper); border: 1px solid var(--line); border-radius: 10px; }
h1, h2, h3 { line-height: 1.25; margin: 2em 0 .5em; }
h1 { font-size: 2rem; margin-top: 0; letter-spacing: -.01em; }
h2 { font-size: 1.35rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; }
p, li { max-width: 46rem; }
a { color: var(--accent); } a.anchor-link { display: none; }
code, pre { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
:not(pre) > code { background: var(--tint); padding: .1em .3em; border-radius: 4px; }
pre { margin: 0; overflow-x: auto; }
blockquote { margin: 1em 0; padding: .1em 1.2em; border-left: 3px solid var(--accent);
  color: var(--soft); }
details.code { margin: .6rem 0; font-size: .95rem; }
details.code > summary { cursor: pointer; color: var(--soft); font-size: .82rem;
  width: max-content; }
details.code .highlight { background: var(--tint); border: 1px solid var(--line);
  border-radius: 6px; padding: .7rem 1rem; margin-top: .3rem; }
.output { margin: .8rem 0 1.4rem; overflow-x: auto; }
/* What is wider than the screen has a shadow at the side to which it goes on. */
.wide { background:
  linear-gradient(to right, var(--paper) 40%, transparent) left / 2.5rem 100% local no-repeat,
  linear-gradient(to left, var(--paper) 40%, transparent) right / 2.5rem 100% local no-repeat,
  linear-gradient(to right, rgba(28, 39, 51, .25), transparent) left / .8rem 100% scroll no-repeat,
  linear-gradient(to left, rgba(28, 39, 51, .25), transparent) right / .8rem 100% scroll no-repeat;
}
.wide::before { content: "scroll sideways for more →"; position: sticky; left: 0;
  color: var(--soft); font-size: .8rem; }
.answer { border-left: 4px solid var(--accent); padding-left: 1.1rem; font-size: 1.1rem; }
.figure { width: 100%; }
.missing { color: var(--soft); border: 1px dashed var(--line); padding: 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 2rem; font-size: .9rem; margin: 0 0 1.5rem; }
main > nav:last-child { margin: 3rem 0 0; border-top: 1px solid var(--line); padding-top: 1rem; }
.error pre { color: #a3162a; }
table { border-collapse: collapse; border: 0; font-size: .9rem; font-variant-numeric: tabular-nums;
  margin: .5rem 0; }
th, td { padding: .35rem .8rem; text-align: right; border: 0;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; text-align: left; }
.markdown td, .markdown th { text-align: left; }
img, svg { max-width: 100%; }
footer { max-width: 62rem; margin: 0 auto 2rem; text-align: center; color: var(--soft);
  font-size: .85rem; }
@media (max-width: 600px) { body { font-size: 16px; } main { margin: 0; border: 0;
  border-radius: 0; } h1 { font-size: 1.5rem; } th, td { padding: .3rem .5rem; }
  tbody th { min-width: 7rem; } }
@page { margin: 15mm; }
@media print { body { background: none; font-size: 11pt; }
  main { border: 0; margin: 0; padding: 0; max-width: none; }
  details.code, nav, .modebar, .wide::before { display: none !important; }
  .output { overflow: visible; } .figure { min-height: 0 !important; }
  .wide { background: none; } h1, h2, h3 { break-after: avoid; }
  .figure, .output, tr, li, blockquote { break-inside: avoid; } }
"""

# Only the kinds of output that our notebooks have. Standard error is dropped, and so is whatever
# would need a kernel.
_TEMPLATE = """{%- extends 'display_priority.j2' -%}
{%- block header -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ resources.title | escape_html }}</title>
<style>{{ resources.style }}</style>
</head>
{%- endblock header -%}
{%- block body_header %}
<body>
<main>
{{ resources.links }}
{%- endblock body_header -%}
{%- block body_footer %}
{{ resources.links }}
</main>
{{ resources.script }}
<footer>{{ resources.metadata.name | escape_html }}.ipynb, rendered by simlib</footer>
</body>
{%- endblock body_footer -%}
{%- block footer %}
</html>
{% endblock footer -%}
{%- block markdowncell %}
<section class="markdown">{{ cell.source | markdown2html | strip_files_prefix }}</section>
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
<div class="markdown">{{ output.data['text/markdown'] | markdown2html }}</div>
{%- endblock -%}
{%- block data_text -%}<pre>{{ output.data['text/plain'] | ansi2html }}</pre>{%- endblock -%}
{%- block data_svg -%}{{ output.data['image/svg+xml'] }}{%- endblock -%}
{%- block data_png -%}
<img alt="" src="data:image/png;base64,{{ output.data['image/png'] | replace('\\n', '') }}">
{%- endblock -%}
{%- block data_javascript -%}{%- endblock -%}
{%- block data_widget_view -%}{%- endblock -%}
"""


class RenderError(SimlibError):
    """A notebook holds something that a page without a network cannot show."""


def render(
    notebook_path: str | Path,
    out_dir: str | Path,
    *,
    folder: str | Path | None = None,
    pages: Collection[str] = (),
    following: tuple[str, str] | None = None,
) -> Path:
    """Write a notebook with its stored outputs as a page, and run nothing.

    Parameters
    ----------
    notebook_path : str or Path
        The notebook, executed.
    out_dir : str or Path
        The folder for the page; made if missing.
    folder : str or Path, optional
        Where the notebook's links to files lead from; by default its own folder.
    pages : collection of str, optional
        Names, without an ending, of the notebooks whose pages are in `out_dir`, where the list of
        pages is too. Links to these notebooks lead to their pages; links to others become text.
    following : (str, str), optional
        Name and title of the notebook whose page is the next to read.

    Returns
    -------
    Path
        The page, ``<out_dir>/<name of the notebook>.html``: one file, which needs no other.

    Raises
    ------
    RenderError
        If a text cell holds TeX mathematics, something in the notebook would be loaded from
        an outside address, or a link leads to no file.
    """
    import nbformat
    from jinja2 import DictLoader
    from nbconvert.exporters import HTMLExporter
    from pygments.formatters import HtmlFormatter

    notebook_path, out_dir = Path(notebook_path), Path(out_dir)
    folder = notebook_path.parent if folder is None else Path(folder)
    notebook = nbformat.read(notebook_path, as_version=4)
    _refuse_mathematics(notebook, notebook_path)
    title = title_of(notebook) or notebook_path.stem
    _join_code(notebook)
    figures, explorers = _draw_figures(notebook), _draw_explorers(notebook)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": _TEMPLATE})], template_file="page.html.j2"
    )
    page, _ = exporter.from_notebook_node(
        notebook,
        resources={
            "metadata": {"name": notebook_path.stem, "path": str(notebook_path.parent)},
            "title": title,
            "style": STYLE
            + HtmlFormatter(style="default").get_style_defs(".highlight")
            + (_explorers().STYLE if explorers else ""),
            "links": _links(following) if pages else "",
            "script": _script(has_figures=figures > 0, has_explorers=explorers > 0),
        },
    )
    page = _SPLIT_HEAD.sub(r"<th>\2</th>\1</thead>", page).replace("<td>NaN</td>", "<td>–</td>")
    page = _LINK.sub(lambda link: _local_link(link, notebook_path, folder, pages), page)
    outside = outside_addresses(page)
    if outside:
        raise RenderError(
            f"{notebook_path}: must load nothing from outside, got {', '.join(outside)}"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / f"{notebook_path.stem}.html"
    _write(target, page)
    return target


def _links(following: tuple[str, str] | None) -> str:
    """Return the links from a page to the list of pages and to the next one."""
    links = [f'<a href="{INDEX_NAME}">← All pages</a>']
    if following is not None:
        name, title = map(html.escape, following)
        links.append(f'<a href="{name}.html">Next: {title} →</a>')
    return f"<nav>{' '.join(links)}</nav>"


# pandas gives the name of a table's index a row of its own under the heads of its columns.
_SPLIT_HEAD = re.compile(
    r"<th></th>((?:\s*<th>[^<]*</th>)*\s*</tr>)"
    r"\s*<tr>\s*<th>([^<]*)</th>(?:\s*<th></th>)*\s*</tr>\s*</thead>"
)
# Addresses on this machine alone: no scheme, and no place within the page itself.
_LINK = re.compile(r'<a href="(?![a-z][a-z0-9+.-]*:|//|#)([^"]+)"([^>]*)>(.*?)</a>', re.DOTALL)


def _local_link(link: re.Match[str], notebook: Path, folder: Path, pages: Collection[str]) -> str:
    """Return a link to another notebook's page, or one that holds the file to which it led."""
    address, rest, words = link.groups()
    if address == INDEX_NAME or (address.endswith(".html") and address[:-5] in pages):
        return link[0]
    path = folder / html.unescape(address)
    if path.suffix == ".ipynb":
        return f'<a href="{path.stem}.html"{rest}>{words}</a>' if path.stem in pages else words
    if not path.is_file() or path.stat().st_size > MOST_LINKED_BYTES:
        rule = f"must be links to files of at most {MOST_LINKED_BYTES:,} bytes"
        raise RenderError(f"{notebook}: {rule}, got {address!r}")
    kind = mimetypes.guess_type(path.name)[0] or "text/plain"
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.name)
    return f'<a download="{name}" href="data:{kind};base64,{data}"{rest}>{words}</a>'


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
            heading = re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE)
            if heading:
                return re.sub(r"[*_`]", "", heading[1]).strip()
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


def _draw_figures(notebook: NotebookNode) -> int:
    """Replace each stored figure by the HTML that draws it; return how many there were."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = output.get("data", {}).get(PLOTLY_MIME)
            if figure is None:
                continue
            count += 1
            output["data"] = {"text/html": _figure_html(f"fig-{count}", figure)}
    return count


def _draw_explorers(notebook: NotebookNode) -> int:
    """Replace each stored explorer by the HTML that simulates; return how many there were."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            explorer = output.get("data", {}).get(EXPLORER_MIME)
            if explorer is not None:
                count += 1
                spec = Spec.of_json(explorer)
                drawn = _explorers().explorer_html(spec, f"explorer-{count}")
                output["data"] = {"text/html": drawn}
    return count


def _explorers() -> ModuleType:
    """Return what makes explorers, which takes a compiler: most pages have none."""
    from simlib.web import page

    return page


def _figure_html(name: str, figure: dict[str, Any]) -> str:
    drawn = {
        "data": figure.get("data", []),
        "layout": figure.get("layout", {}),
        "frames": figure.get("frames", []),
        "config": FIGURE_CONFIG,
    }
    # No "<" may stand in a script's text: "</script>" and "<!--" would end or hide the rest.
    text = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    height = drawn["layout"].get("height", 450)
    title = html.escape(_figure_title(drawn["layout"]) or "A figure without a title")
    return (
        f'<div class="figure" id="{name}" role="img" aria-label="{title}" '
        f'style="min-height:{height}px"><p class="missing"><b>Figure: {title}</b><br>'
        "It is drawn by JavaScript, which did not run here: open this page in a browser.</p></div>"
        f'<script type="application/json" data-figure="{name}">{text}</script>'
    )


def _figure_title(layout: dict[str, Any]) -> str:
    """Return the title and the subtitle of a figure as plain text."""
    title = layout.get("title") or {}
    if isinstance(title, str):
        title = {"text": title}
    parts = (title.get("text"), (title.get("subtitle") or {}).get("text"))
    words = (re.sub(r"<[^>]*>", " ", part or "") for part in parts)
    return ". ".join(" ".join(part.split()) for part in words if part.strip())


# Tables and figures are fitted to the paper before they are printed, as a browser lays a page out
# anew for the paper, but does not draw its figures anew. 640 by 900 px fit A4 and US Letter.
_SCRIPT = """
const PAPER_PX = 640, PAPER_HEIGHT_PX = 900;
const figures = () => document.querySelectorAll(".figure.drawn");
function markWide() {
  for (const box of document.querySelectorAll(".output"))
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
}
addEventListener("resize", markWide);
addEventListener("beforeprint", () => {
  for (const box of figures()) {
    Plotly.relayout(box, {autosize: false, width: PAPER_PX});
    box.style.zoom = Math.min(1, PAPER_HEIGHT_PX / (box.layout.height ?? 450));
  }
  for (const table of document.querySelectorAll(".output table"))
    if (table.scrollWidth > PAPER_PX) table.style.zoom = PAPER_PX / table.scrollWidth;
});
addEventListener("afterprint", () => {
  for (const box of figures()) {
    box.style.zoom = "";
    Plotly.relayout(box, {autosize: true, width: null});
  }
  for (const table of document.querySelectorAll(".output table")) table.style.zoom = "";
});
markWide();
"""

_DRAW = """
async function drawAll() {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.append(library);
  for (const stored of document.querySelectorAll("script[data-figure]")) {
    const box = document.getElementById(stored.dataset.figure);
    box.replaceChildren();
    await Plotly.newPlot(box, JSON.parse(stored.textContent));
    box.classList.add("drawn");
  }
  markWide();
}
const drawing = drawAll();
drawing.catch(error => {
  for (const box of document.querySelectorAll(".figure:not(.drawn)"))
    box.textContent = `Figure: ${box.ariaLabel}. This browser could not draw it: ${error}`;
});
"""


def _script(*, has_figures: bool, has_explorers: bool) -> str:
    """Return the script of a page and, if it has figures, plotly.js, and what explorers need."""
    if not has_figures and not has_explorers:
        return f"<script>{_SCRIPT}</script>"
    packed = f'<script type="text/plain" id="plotly">{_packed_plotly()}</script>'
    drawing = f"{packed}\n<script>{_SCRIPT}{_DRAW}</script>"
    return f"{drawing}{_explorers().scripts()}{_EXPLORE}" if has_explorers else drawing


_EXPLORE = "<script>drawing.then(explore)</script>"


@functools.cache
def _packed_plotly() -> str:
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _write(target: Path, text: str) -> None:
    # In one step: a reader, or an interrupt, never meets half a page.
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
