"""The site of a report as its readers have it: on a screen, a phone, paper, and by the keyboard."""

from __future__ import annotations

import base64
import csv
import importlib.resources
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import simlib as sl
from simlib.cli import main
from simlib.publish import plots
from simlib.publish.notebook import PLOTLY_MIME, write
from simlib.publish.render import outside_addresses
from simlib.publish.site import Entry, Site
from tests import browser

needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="no Chromium on this machine: no page was opened"
)

LATENCY = {
    "data": [
        {"type": "scatter", "mode": "lines", "name": "polled", "x": [0.0, 60.0, 120.0],
         "y": [1.5, 2.5, None], "line": {"color": "#000000"},
         "error_y": {"array": [0.5, 0.25, 0.0]}},
        {"type": "scatter", "mode": "markers", "name": 'pushed, "live"', "x": [60.0],
         "y": {"dtype": "f8", "bdata": base64.b64encode(b"\0\0\0\0\0\0\xe0?").decode()}},
    ],
    "layout": {
        "title": {"text": "Changes are seen<br>within a blink", "subtitle": {"text": "of one run"}},
        "xaxis": {"title": {"text": "time (min)"}, "tickvals": [0, 60, 120],
                  "ticktext": ["0", "1", "2"]},
        "yaxis": {"title": {"text": "latency (s, log scale)"}, "type": "log"},
        "paper_bgcolor": "white", "height": 420, "font": {"color": "#2a3f5f"},
    },
}  # fmt: skip
PANELS = {
    "data": [
        {"type": "bar", "name": "bytes", "x": ["up", "down"], "y": [1, 2]},
        {"type": "bar", "name": "bytes", "x": ["up", "down"], "y": [3, 4], "xaxis": "x2",
         "yaxis": "y2"},
    ],
    "layout": {"title": {"text": "Who pays?"}, "height": 1300,
               "xaxis": {"title": {"text": "polled"}, "anchor": "y", "domain": [0, 0.45]},
               "xaxis2": {"title": {"text": "pushed"}, "anchor": "y2", "domain": [0.55, 1]},
               "yaxis": {}, "yaxis2": {"anchor": "x2"}},
}  # fmt: skip
WIDE = (
    "<table><thead><tr>"
    + "".join(f"<th>a_long_name_{n}</th>" for n in range(12))
    + "</tr></thead><tbody><tr>"
    + "".join(f"<td>{n}</td>" for n in range(12))
    + "</tr></tbody></table>"
)
FIRST = """# Is it *fast*?

See [the other](b.ipynb), [one that is not here](gone.ipynb), [its part](b.ipynb#more),
[the notes](../data/notes.md#the-end) and [data](../data/a.toml)."""


def notebook(path: Path, text: str, *outputs: dict[str, object], answer: str) -> Path:
    cells = [
        new_markdown_cell(text, id="text"),
        new_code_cell("answer", id="answer", metadata={"tags": ["headline"]}),
        *(new_code_cell("show(x)  # a comment", id=f"cell-{n}") for n, _ in enumerate(outputs)),
        new_markdown_cell("## More\n\n| one | two |\n|---|---|\n| 1 | 2 |", id="more"),
    ]
    for cell, data in zip(cells[1:], ({"text/markdown": answer}, *outputs), strict=False):
        cell.outputs = [new_output("display_data", data)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two notebooks and what they link to."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    (root / "data" / "a.toml").write_text("clients = 5\n")
    (root / "data" / "notes.md").write_text(
        "# Notes\n\n[back](../notebooks/a.ipynb), [further](further.md), [settings](settings.md), "
        "[large](large.bin)\n\n## The end\n\n## The end\n"
    )
    (root / "data" / "further.md").write_text("# Further\n\n[notes](notes.md)\n")
    (root / "data" / "settings.md").write_text("# Settings\n")
    (root / "data" / "large.bin").write_bytes(bytes(1_000_000))
    notebook(
        root / "notebooks" / "a.ipynb",
        FIRST,
        {PLOTLY_MIME: PANELS},
        {PLOTLY_MIME: LATENCY},
        {"text/html": WIDE},
        answer="**Seen within 23 ms** <b>now</b>.",
    )
    notebook(root / "notebooks" / "b.ipynb", "# Is it cheap?\n\nYes.", answer="For 1 kB.")
    return root


@pytest.fixture(scope="module")
def site(project: Path) -> Site:
    paths = sorted((project / "notebooks").glob("*.ipynb"))
    return Site([Entry(path, path) for path in paths], [project / "data" / "further.md"])


@pytest.fixture(scope="module")
def folder(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    site.write_folder(out)
    return out


@pytest.fixture(scope="module")
def single(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.write_file(tmp_path_factory.mktemp("single") / "all.html")


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    with browser.opened() as tab:
        yield tab


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# -- what is in the pages ---------------------------------------------------------------------


def test_the_index_has_a_card_with_the_question_the_answer_and_a_picture(folder: Path) -> None:
    one, other = read(folder / "index.html").select(".card")
    assert one.h2.a.text == "Is it fast?"
    assert one.h2.a["href"] == "a.html"
    assert "Seen within 23 ms <b>now</b>." in one.text
    # The first figure has two panels, and could not be read when it is small.
    assert one.figure.figcaption.text == "Changes are seen within a blink"
    assert other.figure is None
    assert "For 1 kB." in other.text


def test_the_picture_of_a_notebook_of_panels_is_the_first_all_the_same(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", "# A", {PLOTLY_MIME: PANELS}, answer="1")
    assert plots.first_good(Entry(path, path).executed) == PANELS


def test_pages_lead_to_the_one_before_and_the_one_after(folder: Path) -> None:
    for name, rel, text, address in (
        ("a", "next", "Is it cheap? →", "b.html"),
        ("b", "prev", "← Is it fast?", "a.html"),
    ):
        [link] = read(folder / f"{name}.html").select(".turn a")
        assert (link["rel"], link.text, link["href"]) == ([rel], text, address)


def test_settings_public_names_and_texts_are_linked_to_from_everywhere(folder: Path) -> None:
    pages = sorted(folder.glob("*.html"))
    assert {page.stem for page in pages} == {
        *("index", "a", "b", "settings", "api", "notes", "further")
    }
    for page in pages:
        menu = [link["href"] for link in read(page).select("header a")]
        assert menu == ["index.html", "settings.html", "api.html", "further.html"]


@pytest.mark.parametrize("is_one_file", [False, True])
def test_every_link_leads_somewhere(folder: Path, single: Path, is_one_file: bool) -> None:
    pages = {page.name: read(page) for page in ([single] if is_one_file else folder.glob("*.html"))}
    parts = {name: {one["id"] for one in page.select("[id]")} for name, page in pages.items()}
    links = [(name, link["href"]) for name, page in pages.items() for link in page.select("a")]
    assert len(links) > 15
    for name, address in links:
        if not address.startswith("data:"):
            file, _, part = address.partition("#")
            assert file in ("", *pages), address
            assert not part or part in parts[file or name], address
    [page] = pages.values() if is_one_file else [pages["a.html"]]
    text = page.find(string="its part").parent["href"]
    assert text == ("#b/more" if is_one_file else "b.html#more")
    assert page.find(string="the notes").parent["href"].endswith("the-end")
    assert page.find(string=lambda words: "one that is not here" in words).parent.name == "p"
    data = page.find(string="data").parent
    assert base64.b64decode(data["href"].partition(",")[2]) == b"clients = 5\n"


def test_no_two_parts_of_a_page_have_one_name(folder: Path, single: Path) -> None:
    for page in (*folder.glob("*.html"), single):
        names = [one["id"] for one in read(page).select("[id]")]
        assert len(names) == len(set(names)), page.name


def test_plotly_is_there_once_and_nothing_is_loaded_from_outside(
    folder: Path, single: Path
) -> None:
    assert (folder / "plotly.min.js").stat().st_size > 1_000_000
    for page in folder.glob("*.html"):
        assert page.stat().st_size < 500_000
    for page in (*folder.glob("*.html"), single):
        assert outside_addresses(page.read_text(encoding="utf-8")) == []
    assert 'src="plotly.min.js"' in (folder / "a.html").read_text(encoding="utf-8")
    assert "plotly.min.js" not in str(read(single).head)
    assert single.stat().st_size < 3_000_000


def test_every_setting_and_every_public_name_has_a_place(folder: Path) -> None:
    assert {one.path for one in sl.settings()} <= {
        one["id"] for one in read(folder / "settings.html").select("h3")
    }
    names = {one["id"] for one in read(folder / "api.html").select("h2, h3")}
    assert {f"sl.{name}" for name in sl.__all__} <= names
    assert "sl.figures.crossover" in names


def test_a_figure_has_a_text_that_says_what_it_shows(folder: Path) -> None:
    panels, latency = read(folder / "a.html").select("div.figure[role=img]")
    assert latency["aria-label"] == (
        'Changes are seen within a blink. of one run. Lines: polled. Points: pushed, "live". '
        "Across: time (min). Up: latency (s, log scale)."
    )
    assert panels["aria-label"] == "Who pays? Bars: bytes. Panels: polled; pushed."


def test_a_title_that_ends_a_script_ends_no_page(tmp_path: Path) -> None:
    figure = {"data": [], "layout": {"title": {"text": "</script><!-- <b>x</b>"}}}
    text = plots.figure_html("f", figure, "f.csv")
    assert text.count("</script>") == 1
    stored = json.loads(BeautifulSoup(text, "html.parser").script.string)
    assert stored["figure"]["layout"] == figure["layout"]


@pytest.mark.parametrize(
    ("axis", "name", "reading"),
    [
        ({"title": {"text": "time (min)"}, "tickvals": [60], "ticktext": ["1"]}, "time (min)",
         {"factor": 1 / 60}),
        ({"title": "seen (log scale)", "tickvals": [0.01, 1], "ticktext": ["10 ms", "1 s"]},
         "seen (s)", {}),
        ({"title": "wait (s, log scale)", "tickvals": [1], "ticktext": ["1 s"]}, "wait (s)", {}),
        ({"tickvals": [0, 1], "ticktext": ["a<br>b", "c"]}, "", {"labels": {"0": "a b", "1": "c"}}),
        ({"title": "n", "tickvals": [1000], "ticktext": ["1,000"]}, "n", {}),
    ],
)  # fmt: skip
def test_a_table_has_the_units_that_its_heads_say(axis, name, reading) -> None:
    assert plots._reading(axis) == (name, reading)


def test_panels_along_one_axis_share_the_name_of_its_column() -> None:
    layout = {"xaxis": {"matches": "x2"}, "xaxis2": {"title": {"text": "clients"}}}
    traces = [{"x": [1], "y": [1]}, {"x": [1], "y": [1], "xaxis": "x2", "yaxis": "y2"}]
    assert plots._columns({"data": traces, "layout": layout}) == {"x": "clients", "y": "y"}


def test_report_at_a_prompt_shows_what_is_stored_as_a_folder_and_as_one_file(
    project: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(project)
    out, file = tmp_path / "out", tmp_path / "share" / "one.html"
    assert main(["report", "--stored", "--out", str(out), "--single", str(file)]) == 0
    said = capsys.readouterr().out
    assert f"{file}, one file of {file.stat().st_size / 1e6:.1f} MB" in said
    assert f"open {out / 'index.html'}" in said
    assert {page.stem for page in out.glob("*.html")} >= {"index", "a", "b", "notes"}
    assert not list(out.glob("*.ipynb"))


# -- in a browser -----------------------------------------------------------------------------


TABLE = [
    ["series", "time (min)", "latency (s)", "latency (s), low", "latency (s), high"],
    ["polled", "0", "1.5", "1", "2"],
    ["polled", "1", "2.5", "2.25", "2.75"],
    ["polled", "2", "", "", ""],
    ['pushed, "live"', "1", "0.5", "", ""],
]
SECOND = "document.querySelectorAll('.figure')[1]"
LINE = f"getComputedStyle({SECOND}.querySelector('.js-line')).stroke"
TAKE = """(() => {
  const made = [], {createObjectURL} = URL, {click} = HTMLAnchorElement.prototype;
  URL.createObjectURL = blob => (made.push(blob), "#made");
  HTMLAnchorElement.prototype.click = function () { made.name = this.download; };
  document.querySelectorAll(".tools button")[PLACE].click();
  Object.assign(URL, {createObjectURL});
  Object.assign(HTMLAnchorElement.prototype, {click});
  return made[0].text().then(text => [made.name, text]);
})()"""


def table(tab: browser.Tab, place: int) -> tuple[str, list[list[str]]]:
    name, text = tab.run(TAKE.replace("PLACE", str(place)))
    return name, list(csv.reader(io.StringIO(text)))


@needs_browser
def test_a_button_gives_the_table_behind_a_figure_without_a_request(
    tab: browser.Tab, folder: Path
) -> None:
    tab.open(folder / "a.html")
    assert table(tab, 1) == ("a-figure-2.csv", TABLE)
    assert table(tab, 0)[1] == [
        ["series", "panel", "x", "y"],
        ["bytes", "polled", "up", "1"],
        ["bytes", "polled", "down", "2"],
        ["bytes", "pushed", "up", "3"],
        ["bytes", "pushed", "down", "4"],
    ]
    # Files that lie beside the page do not count here; what comes over a network would.
    assert tab.run("performance.getEntriesByType('resource').map(one => one.name)") == []


@needs_browser
def test_a_page_without_plotly_says_so_in_words_and_still_gives_its_tables(
    tab: browser.Tab, folder: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "a.html"
    alone.write_bytes((folder / "a.html").read_bytes())
    tab.open(alone)
    for words in tab.run("[...document.querySelectorAll('.figure')].map(box => box.innerText)"):
        assert "plotly.min.js is not beside this page" in words
    assert "Changes are seen within a blink" in words
    # No white box is left: a figure is as high as its words.
    heights = tab.run("[...document.querySelectorAll('.figure')].map(box => box.clientHeight)")
    assert max(heights) < 250
    assert table(tab, 1)[1] == TABLE


@needs_browser
def test_figures_take_the_colours_of_the_screen_and_change_with_it(
    tab: browser.Tab, folder: Path
) -> None:
    tab.look(scheme="light")
    tab.open(folder / "a.html")
    ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
    assert tab.run(LINE) == "rgb(0, 0, 0)"
    assert tab.run(ground) == "rgb(255, 255, 255)"
    tab.look(scheme="dark")
    tab.until(f"{LINE} === 'rgb(255, 255, 255)'")
    paper = f"{SECOND}.querySelector('.main-svg').style.background"
    assert tab.run(paper) == tab.run(ground) == "rgb(21, 25, 30)"
    tab.look(scheme="light")
    tab.until(f"{LINE} === 'rgb(0, 0, 0)'")


@needs_browser
def test_one_file_turns_its_pages(tab: browser.Tab, single: Path) -> None:
    tab.look()
    tab.open(single)
    shown = "[...document.querySelectorAll('main > article:not([hidden])')].map(one => one.id)"
    assert tab.run(shown) == ["index"]
    tab.run("document.querySelector('article:not([hidden]) .card a').click()")
    tab.until(f"String({shown}) === 'a'")
    tab.until(browser.DRAWN)
    assert tab.run("document.title") == "Is it fast?"
    assert tab.run("document.querySelectorAll('#a .figure.drawn .main-svg').length") >= 2
    assert table(tab, 1) == ("a-figure-2.csv", TABLE)
    tab.run("document.querySelector('a[href=\"#notes/the-end\"]').click()")
    tab.until(f"String({shown}) === 'notes'")
    tab.run("history.back()")
    tab.until(f"String({shown}) === 'a'")
    tab.open(single, "#b/more")
    assert tab.run(shown) == ["b"]


@needs_browser
def test_on_a_phone_nothing_but_wide_tables_goes_on_to_the_side_and_they_say_so(
    tab: browser.Tab, folder: Path
) -> None:
    tab.look(width=400)
    for page in sorted(folder.glob("*.html")):
        tab.open(page)
        assert tab.run("document.documentElement.scrollWidth") <= 400, page.name
    tab.open(folder / "a.html")
    said = "getComputedStyle(document.querySelector('.wide'), '::before').content"
    assert "scroll sideways" in tab.run(said)
    assert tab.run("document.querySelectorAll('.wide[tabindex=\"0\"][aria-label]').length") == 1


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_paper_nothing_is_cut_and_all_is_light(
    tab: browser.Tab, folder: Path, scheme: str
) -> None:
    tab.look(scheme=scheme)
    tab.open(folder / "a.html")
    pdf = base64.b64decode(tab.ask("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF")
    tab.look(width=680, scheme=scheme)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.ask("Emulation.setEmulatedMedia", media="print", features=media)
    tab.run("dispatchEvent(new Event('beforeprint'))")
    ends = """[...document.querySelectorAll('.figure .main-svg, table')]
      .map(one => one.getBoundingClientRect()).map(one => [one.right, one.height])"""
    for right, height in tab.run(ends):
        assert right <= 680
        assert height <= 1000
    stroke = (
        "getComputedStyle(document.querySelectorAll('.figure')[1].querySelector('.js-line')).stroke"
    )
    assert tab.run(stroke) == "rgb(0, 0, 0)"
    assert tab.run("getComputedStyle(document.body).color") == "rgb(28, 39, 51)"
    tab.run("dispatchEvent(new Event('afterprint'))")
    tab.ask("Emulation.setEmulatedMedia", media="")


def axe() -> str:
    """The source of axe-core, which finds what keeps people from using a page."""
    return importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()


@needs_browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 400), ("dark", 1280)])
def test_axe_finds_nothing_serious_on_any_page(
    tab: browser.Tab, folder: Path, single: Path, scheme: str, width: int
) -> None:
    tab.look(scheme=scheme, width=width)
    found = []
    for page in (*sorted(folder.glob("*.html")), single):
        tab.open(page)
        tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        tab.run("new Promise(done => setTimeout(done, 100))")
        tab.run(axe())
        result = tab.run("axe.run(document, {resultTypes: ['violations']})")
        found += [
            (page.name, one["id"], one["impact"], one["nodes"][0]["html"][:200])
            for one in result["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert found == []


@needs_browser
def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    tab: browser.Tab, folder: Path
) -> None:
    tab.look(width=400)
    tab.open(folder / "a.html")
    wanted = tab.run("""(() => {
      const all = [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")]
        .filter(one => one.offsetParent || one.matches(".skip"));
      all.forEach((one, place) => { one.dataset.place = place; });
      return all.length;
    })()""")
    assert wanted > 15
    reached, hidden = set(), []
    for _ in range(2 * wanted):
        tab.press("Tab", 9)
        place, outline, name = tab.run("""(() => {
          const one = document.activeElement, style = getComputedStyle(one);
          const outline = `${style.outlineStyle} ${style.outlineWidth}`;
          return [one.dataset.place ?? null, outline, one.outerHTML.slice(0, 80)];
        })()""")
        if place in reached:
            break
        if place is not None:
            reached.add(place)
            if outline.startswith("none") or outline.endswith(" 0px"):
                hidden.append(name)
    assert len(reached) == wanted
    assert hidden == []
