"""Pages: they load nothing from outside, and a real browser without a network draws them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from simlib.publish.links import RenderError
from simlib.publish.notebook import (
    PLOTLY_MIME,
    NotebookError,
    execute,
    execute_together,
    measures,
    write,
)
from simlib.publish.render import outside_addresses, render
from simlib.publish.report import main as report
from tests import browser

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="no Chromium on this machine: pages were not looked at"
)

FIGURE = """\
import pandas as pd
import plotly.graph_objects as go
from simlib.publish.notebook import setup
setup()
table = pd.DataFrame({"clients": [1, 2, 3], "latency_s": [0.1, 0.4, 0.9]})
figure = go.Figure(go.Scatter(x=table["clients"], y=table["latency_s"], line_color="#d6336c"))
figure.add_bar(x=table["clients"], y=table["latency_s"], marker_color="#1098ad")
figure.update_layout(title="</script><b>latency</b>")
figure"""


def make(path: Path, *sources: str, tags: tuple[str, ...] = ()) -> Path:
    cells = [new_markdown_cell("# Is a *page* drawn?\n\nText with `code`, $5 and **weight**.")]
    for number, source in enumerate(sources):
        last = number == len(sources) - 1
        cells.append(new_code_cell(source, metadata={"tags": list(tags)} if last else {}))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make(tmp_path_factory.mktemp("page") / "tiny.ipynb", FIGURE, "table")
    write(execute(path, timeout_s=120), path)
    return path


@pytest.fixture(scope="module")
def page(executed: Path) -> Path:
    return render(executed, executed.parent / "pages")


def test_a_page_names_no_outside_address_to_load(page: Path) -> None:
    assert outside_addresses(page.read_text(encoding="utf-8")) == []


def test_outside_addresses_sees_every_way_of_loading() -> None:
    html = """<script src="//a.example/x.js"></script><link href="http://b.example/y.css">
    <style>@import "https://c.example/z.css"; p { background: url(https://d.example/w.png) }</style>
    <p style="background:url('https://e.example/v.png')"><script>"https://f.example"</script>"""
    assert [address.split("/")[2][0] for address in outside_addresses(html)] == list("abcde")


def test_a_page_is_one_file_of_two_megabytes(page: Path) -> None:
    assert [path.name for path in page.parent.iterdir()] == [page.name]
    assert page.stat().st_size < 2_500_000


def test_a_page_shows_text_table_and_folded_code(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "<title>Is a page drawn?</title>" in html
    assert "<strong>weight</strong>" in html
    assert "<th>latency_s</th>" in html
    assert html.count("<details") == 2
    # The figure, plotly, the colours, and what draws with them; the title's own is escaped.
    assert html.count("</script>") == 4


def test_a_figure_that_is_not_drawn_is_its_title_and_says_so(page: Path) -> None:
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    [figure] = soup.select("div.figure[role=img]")
    assert figure["aria-label"] == "latency. Lines: series 1. Bars: series 2."
    assert figure.text.startswith("Figure: latency")
    assert "JavaScript, which did not run here" in figure.text


def test_code_that_shows_nothing_is_unfolded_with_the_code_after_it(tmp_path: Path) -> None:
    cells = [new_code_cell(f"x = {n}", id=f"a{n}", execution_count=n) for n in range(1, 5)]
    cells[1].outputs = [new_output("stream", text="two\n")]
    path = tmp_path / "a.ipynb"
    write(new_notebook(cells=[*cells, new_markdown_cell("text", id="b")]), path)
    soup = BeautifulSoup(render(path, tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert [code.text.split("code")[1].split() for code in soup.find_all("details")] == [
        ["x", "=", "1", "x", "=", "2"],
        ["x", "=", "3", "x", "=", "4"],
    ]


LINKS = (
    "[next](b.ipynb) [elsewhere](c.ipynb) [data](../data/a.toml) "
    "[site](https://example.org/a.ipynb) [part](#part)"
)


def test_links_of_a_page_alone_hold_files_or_are_words(tmp_path: Path) -> None:
    data = tmp_path / "data" / "a.toml"
    data.parent.mkdir()
    data.write_text("clients = 5\n")
    source = tmp_path / "notebooks" / "a.ipynb"
    source.parent.mkdir()
    write(new_notebook(cells=[new_markdown_cell(LINKS, id="a")]), source)
    target = render(source, tmp_path / "out")
    soup = BeautifulSoup(target.read_text(encoding="utf-8"), "html.parser")
    links = {link.text: link["href"] for link in soup.select("main a")}
    assert links.pop("data") == f"data:text/plain;base64,{b64encode(data.read_bytes()).decode()}"
    assert links == {"site": "https://example.org/a.ipynb", "part": "#part"}
    assert "next elsewhere" in soup.text


@pytest.mark.parametrize("address", ["gone.toml", "../a.csv", "large.bin"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, address: str) -> None:
    path = tmp_path / "a.ipynb"
    (tmp_path / "large.bin").write_bytes(bytes(1_000_000))
    write(new_notebook(cells=[new_markdown_cell(f"[a]({address})", id="a")]), path)
    with pytest.raises(RenderError, match=r"must be links to files .* got"):
        render(path, tmp_path)


def test_a_table_has_one_row_of_heads_and_no_nan(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.0, None]}, index=pd.Index(["a", "b"], name="name"))
    cell = new_code_cell("table", id="a", execution_count=1)
    cell.outputs = [new_output("execute_result", {"text/html": table.to_html()}, execution_count=1)]
    path = tmp_path / "a.ipynb"
    write(new_notebook(cells=[cell]), path)
    soup = BeautifulSoup(render(path, tmp_path).read_text(encoding="utf-8"), "html.parser")
    assert [head.text for head in soup.select("thead tr th")] == ["name", "x"]
    assert [value.text for value in soup.select("td")] == ["1.0", "–"]


def test_rendering_twice_gives_the_same_bytes(executed: Path, tmp_path: Path, page: Path) -> None:
    assert render(executed, tmp_path).read_bytes() == page.read_bytes()


def test_running_twice_gives_the_same_bytes(executed: Path, tmp_path: Path) -> None:
    again = tmp_path / "tiny.ipynb"
    write(execute(executed), again)
    assert again.read_bytes() == executed.read_bytes()


def test_a_figure_is_stored_as_plotly_json_only(executed: Path) -> None:
    notebook = nbformat.read(executed, as_version=4)
    assert list(notebook.cells[1].outputs[0].data) == [PLOTLY_MIME]
    assert "https://" not in json.dumps(notebook.cells[1].outputs[0].data[PLOTLY_MIME]["config"])


@pytest.mark.parametrize("text", ["$$x$$", "so \\(x\\) is"])
def test_mathematics_is_refused_not_shown_raw(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sums.ipynb"
    write(new_notebook(cells=[new_markdown_cell(text, id="a")]), path)
    with pytest.raises(RenderError, match="cell 1: must hold no TeX mathematics"):
        render(path, tmp_path)


def test_a_picture_from_outside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "far.ipynb"
    write(new_notebook(cells=[new_markdown_cell("![a](https://far.example/a.png)", id="a")]), path)
    with pytest.raises(RenderError, match="must load nothing from outside"):
        render(path, tmp_path)
    assert not (tmp_path / "far.html").exists()


@needs_browser
def test_a_browser_without_network_draws_the_traces(page: Path, tmp_path: Path) -> None:
    [figure], picture = browser.look(page, tmp_path)
    assert figure.marks >= 4  # one line and three bars
    assert {(214, 51, 108), (16, 152, 173)} <= figure.colours
    pixels = browser.pixels_by_colour(picture)
    assert browser.pixels_like(pixels, (214, 51, 108)) > 100
    assert browser.pixels_like(pixels, (16, 152, 173)) > 1000


@needs_browser
def test_the_browser_check_notices_a_figure_that_is_not_drawn(page: Path, tmp_path: Path) -> None:
    alone = tmp_path / page.name
    broken = re.sub('(id="plotly"[^>]*>).', r"\1?", page.read_text(encoding="utf-8"))
    alone.write_text(broken, encoding="utf-8")
    assert browser.problems(alone, tmp_path) == ["tiny.html: fig-1: no trace drawn"]
    shown = browser.run(alone, tmp_path, "--dump-dom")
    assert "Figure: latency. Lines: series 1. Bars: series 2. This browser could not draw" in shown


@needs_browser
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_browser_draws_every_figure_of_a_committed_notebook(
    notebook: Path, tmp_path: Path
) -> None:
    stored = nbformat.read(notebook, as_version=4)
    figures = sum(
        PLOTLY_MIME in output.get("data", {})
        for cell in stored.cells
        for output in cell.get("outputs", [])
    )
    assert browser.problems(render(notebook, tmp_path), tmp_path, figures=figures) == []


def test_a_failing_cell_is_named_with_the_end_of_its_traceback(tmp_path: Path) -> None:
    path = make(tmp_path / "bad.ipynb", "x = 0", "1 / x")
    with pytest.raises(NotebookError, match="code cell 2:") as caught:
        execute(path)
    assert "ZeroDivisionError" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_kernel_that_dies_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "dead.ipynb", "import os; os._exit(3)")
    with pytest.raises(NotebookError, match="code cell 1: the kernel stopped:"):
        execute(path)


def test_a_cell_that_takes_too_long_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "slow.ipynb", "import time; time.sleep(60)")
    with pytest.raises(NotebookError, match="code cell 1: took longer than 1 s"):
        execute(path, timeout_s=1)


@pytest.mark.slow
def test_an_interrupt_ends_the_report_and_leaves_no_kernel_behind(tmp_path: Path) -> None:
    waiting = "import os, pathlib, time\npathlib.Path('pid').write_text(f'{os.getpid()}\\n')\n"
    path = make(tmp_path / "long.ipynb", waiting + "time.sleep(300)")
    command = [
        sys.executable,
        "-m",
        "simlib.publish.report",
        str(path),
        "--out",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT, text=True) as running:
        try:
            pid = tmp_path / "pid"
            wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
            running.send_signal(signal.SIGINT)
            _, error = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "stopped" in error
    assert "Traceback" not in error
    wait_until(lambda: not psutil.pid_exists(int(pid.read_text())))


def wait_until(true: Callable[[], bool], *, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"not so within {limit_s:g} s"
        time.sleep(0.05)


def test_notebooks_that_measure_come_first_and_one_after_the_other(tmp_path: Path) -> None:
    tell = (
        "import pathlib, time\n"
        "def {does}(): pass\n"
        "begun_s = time.monotonic()\n"
        "time.sleep(0.2)\n"
        "pathlib.Path('{name}').write_text(f'{{begun_s}} {{time.monotonic()}}')"
    )
    paths = []
    for name in ("measured", "computed", "measured_too"):
        does = "compute" if name == "computed" else "measure"
        paths.append(make(tmp_path / f"{name}.ipynb", tell.format(name=name, does=does)))
    execute_together(dict.fromkeys(paths), lambda _path, _done: None, timeout_s=60)
    measured, computed, again = (
        [float(number) for number in (tmp_path / path.stem).read_text().split()] for path in paths
    )
    assert [measures(path) for path in paths] == [True, False, True]
    assert again[0] > measured[1]
    assert computed[0] > again[1]


def test_the_tests_know_the_notebooks_that_only_compute() -> None:
    listed = re.search(r"^COMPUTED := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert listed
    computed = {path for path in NOTEBOOKS if not measures(path)}
    assert {ROOT / name for name in listed[1].split()} == computed


def test_notebooks_that_run_together_do(tmp_path: Path) -> None:
    meet = (
        "import pathlib, time\n"
        "pathlib.Path({mine!r}).touch()\n"
        "while not pathlib.Path({other!r}).exists(): time.sleep(0.05)"
    )
    one = make(tmp_path / "one.ipynb", meet.format(mine="a", other="b"))
    other = make(tmp_path / "other.ipynb", meet.format(mine="b", other="a"))
    bad = make(tmp_path / "bad.ipynb", "no_such_name")
    done: dict[Path, object] = {}
    execute_together({one: None, bad: None, other: None}, done.__setitem__, timeout_s=60)
    assert {path: isinstance(each, NotebookError) for path, each in done.items()} == {
        one: False,
        bad: True,
        other: False,
    }


def test_a_report_keeps_the_good_pages_and_says_which_notebook_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = make(tmp_path / "good.ipynb", "print('pushed in 12 ms')", tags=("headline",))
    bad = make(tmp_path / "bad.ipynb", "raise ValueError('no such preset')")
    before = good.read_bytes()
    out = tmp_path / "out"
    assert report([str(bad), str(good), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "pushed in 12 ms" in printed.out
    assert "bad.ipynb: code cell 1" in printed.err
    assert "no such preset" in printed.err
    assert {path.name for path in out.iterdir()} == {
        *("good.html", "good.ipynb", "index.html"),
        *("settings.html", "api.html", "reference.html", "trust.html"),
    }
    index = (out / "index.html").read_text(encoding="utf-8")
    assert '<a href="good.html">' in index
    assert "pushed in 12 ms" in index
    assert good.read_bytes() == before
