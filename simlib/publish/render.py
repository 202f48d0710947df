"""Pages: a notebook with its stored outputs, as one HTML file that opens anywhere.

The last step of the data flow, and a leaf: it reads a notebook file and runs nothing. A reader of
a page has neither Python nor a network, so a page asks no address for anything but
``plotly.min.js`` beside it, which is the copy that the installed plotly package brings. It is
written once for all pages of a folder: 5 MB that would otherwise stand in every page.

nbconvert walks the cells and turns Markdown and code into HTML. Its stock templates are not used:
they load scripts from outside for mathematics, diagrams and widgets, and they know no plotly
figure that is stored as JSON.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.errors import SimlibError
from simlib.publish.notebook import FIGURE_CONFIG, PLOTLY_MIME

if TYPE_CHECKING:
    from nbformat import NotebookNode

SCRIPT_NAME = "plotly.min.js"

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
.figure { width: 100%; }
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
@media print { body { background: none; } main { border: 0; margin: 0; max-width: none; }
  details.code { display: none; } }
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
{%- if resources.script %}
<script src="{{ resources.script }}" charset="utf-8"></script>
{%- endif %}
</head>
{%- endblock header -%}
{%- block body_header %}
<body>
<main>
{%- endblock body_header -%}
{%- block body_footer %}
</main>
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
<div class="output">{{ super() }}</div>
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


def render(notebook_path: str | Path, out_dir: str | Path) -> Path:
    """Write a notebook with its stored outputs as a page, and run nothing.

    Parameters
    ----------
    notebook_path : str or Path
        The notebook, executed.
    out_dir : str or Path
        The folder for the page and, if it has a figure, for ``plotly.min.js``; made if missing.

    Returns
    -------
    Path
        The page, ``<out_dir>/<name of the notebook>.html``.

    Raises
    ------
    RenderError
        If a text cell holds TeX mathematics, or something in the notebook would be loaded from
        an outside address.
    """
    import nbformat
    from jinja2 import DictLoader
    from nbconvert.exporters import HTMLExporter
    from pygments.formatters import HtmlFormatter

    notebook_path, out_dir = Path(notebook_path), Path(out_dir)
    notebook = nbformat.read(notebook_path, as_version=4)
    _refuse_mathematics(notebook, notebook_path)
    title = title_of(notebook) or notebook_path.stem
    figures = _draw_figures(notebook)
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page.html.j2": _TEMPLATE})], template_file="page.html.j2"
    )
    page, _ = exporter.from_notebook_node(
        notebook,
        resources={
            "metadata": {"name": notebook_path.stem, "path": str(notebook_path.parent)},
            "title": title,
            "style": STYLE + HtmlFormatter(style="default").get_style_defs(".highlight"),
            "script": SCRIPT_NAME if figures else "",
        },
    )
    outside = outside_addresses(page)
    if outside:
        raise RenderError(
            f"{notebook_path}: must load nothing from outside, got {', '.join(outside)}"
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    if figures:
        _write_script(out_dir)
    target = out_dir / f"{notebook_path.stem}.html"
    _write(target, page)
    return target


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
    return (
        f'<div class="figure" id="{name}" style="min-height:{height}px"></div>'
        f'<script>Plotly.newPlot("{name}", {text});</script>'
    )


def _write_script(out_dir: Path) -> None:
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    target = out_dir / SCRIPT_NAME
    if not target.exists() or target.stat().st_size != len(script.encode()):
        _write(target, script)


def _write(target: Path, text: str) -> None:
    # In one step: a reader, or an interrupt, never meets half a page.
    part = target.with_name(f".{target.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
