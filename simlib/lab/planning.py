"""The planner's widget: controls at the left, the figure and the verdict at the right.

The figure is a plotly `FigureWidget`, whose data are replaced: a move sends what it changes, in one
message, and the page stays where it is. A plain figure that is displayed anew is sent whole, and
takes the place of the one before.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from simlib.errors import SimlibError
from simlib.lab import panels
from simlib.lab.answers import Answer, Answers, check_size
from simlib.lab.controls import CANDIDATE, board_of, controls_of
from simlib.lab.latest import Latest
from simlib.scenario import Scenario
from simlib.scenario.display import table_html, warnings_html
from simlib.verdict.decision import Decision
from simlib.verdict.glance import check_glance, glance
from simlib.verdict.judging import decide
from simlib.verdict.needs import Needs

_LABEL_PX, _CONTROLS_PX = "95px", "295px"
_MOST_REASONS = 5


class Planner(ipywidgets.VBox):
    """Sliders and menus, with figures and a verdict that follow them: see `lab.planner`.

    Attributes
    ----------
    scenario : Scenario
        The board as it is set.
    decision : Decision or None
        What is shown: of one run each, or after the button that of `decide`. None while it is
        computed.
    moves : int
        How many moves were answered whole.
    """

    _threads: tuple[Latest[Any], ...] = ()
    """Those that are there to be ended: of a widget that was refused, none."""

    def __init__(self, scenario: Scenario, needs: Needs, candidate: str, seed: int) -> None:
        check_glance(scenario, needs)
        self._given, self._needs, self._seed = scenario, needs, seed
        self._controls, self._left_out = controls_of(scenario, needs, candidate)
        self.scenario = scenario
        self.decision: Decision | None = None
        self._candidate = next(
            one.options[one.chosen] for one in self._controls if one.path == CANDIDATE
        )
        check_size(glance(scenario, needs, self._candidate, seed=seed))
        self.moves = 0
        self._move = 0
        self._deliver = deliverer()
        self._answers = Answers(needs, seed)
        self._glances: Latest[tuple[int, Scenario, str]] = Latest(self._glance)
        self._decisions: Latest[tuple[int, Scenario]] = Latest(self._decide)
        self._threads = (self._glances, self._decisions)
        self._inputs = {one.path: _input(one) for one in self._controls}
        self._figure = go.FigureWidget(panels.empty())
        self._verdict, self._status = ipywidgets.HTML(), ipywidgets.HTML()
        self._properly = ipywidgets.Button(
            description="decide properly",
            tooltip="sl.decide: every candidate, with replications and intervals",
        )
        self._toml = ipywidgets.Textarea(
            value=scenario.dump(),
            disabled=True,
            layout={"width": "100%", "height": "260px"},
        )
        super().__init__([self._body()])
        for widget in self._inputs.values():
            widget.observe(self._on_move, "value")
        self._properly.on_click(lambda _: self._on_decide())
        self._on_move()

    # -- how it looks ------------------------------------------------------------------------------

    def _body(self) -> Any:
        left_out = "".join(
            f"<li><code>{html.escape(path)}</code>: {html.escape(why)}</li>"
            for path, why in self._left_out.items()
        )
        notes = ipywidgets.HTML(f"<p>no slider for</p><ul>{left_out}</ul>" if left_out else "")
        toml = ipywidgets.Accordion([self._toml], titles=("The scenario as TOML, to copy",))
        left = ipywidgets.VBox(
            [*self._inputs.values(), notes, self._properly, self._status, toml],
            layout={"flex": f"0 0 {_CONTROLS_PX}"},
        )
        right = ipywidgets.VBox(
            [self._figure, self._verdict],
            layout={"flex": f"1 1 {panels.WIDTH_PX}px", "min_width": "380px"},
        )
        return ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return what a notebook stores: the widget, and words that are the same in each run."""
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        words = f"The planner of {self._given.name}: sliders and figures, in JupyterLab."
        return {**data, "text/plain": words}, metadata

    # -- what happens ------------------------------------------------------------------------------

    def close(self) -> None:
        """End what is computed, and take the widget away."""
        for latest in self._threads:
            latest.give_up()
            latest.close()
        super().close()

    def _on_move(self, _: Any = None) -> None:
        chosen = {path: widget.value for path, widget in self._inputs.items()}
        self._move += 1
        try:
            self.scenario, self._candidate = board_of(self._given, self._controls, chosen)
        except SimlibError as error:
            self._refuse(self._move, str(error))
            return
        self._toml.value = self.scenario.dump()
        self.decision = None
        self._status.value = _small("simulating ...")
        self._glances.ask((self._move, self.scenario, self._candidate))

    def _on_decide(self) -> None:
        self._status.value = _small("deciding: every candidate, with replications ...")
        self._properly.disabled = True
        self._decisions.ask((self._move, self.scenario))

    def _glance(self, asked: tuple[int, Scenario, str]) -> None:
        """Answer a move; it runs in a thread of its own."""
        move, scenario, candidate = asked
        try:
            for answer in self._answers.of(scenario, candidate):
                drawn = panels.move_of(answer.drawn, is_late=answer.is_late)
                told = "" if answer.decision is None else _glanced(answer.decision, answer.note)
                self._deliver(self._show, move, answer, drawn, told)
        except SimlibError as error:
            self._deliver(self._refuse, move, str(error))
        except Exception as error:  # a thread that died would answer no further move
            self._deliver(self._refuse, move, f"{type(error).__name__}: {error}")

    def _decide(self, asked: tuple[int, Scenario]) -> None:
        """Decide as `sl.decide` does; it runs in a thread of its own."""
        move, scenario = asked
        try:
            decision = decide(scenario, self._needs, seed=self._seed, progress=False)
            self._deliver(self._show_decision, move, decision)
        except KeyboardInterrupt:  # given up: the widget is closed
            return
        except Exception as error:  # whatever it is, the button has to come back
            self._deliver(self._refuse, move, f"{type(error).__name__}: {error}")

    def _show(self, move: int, answer: Answer, drawn: panels.Move, told: str) -> None:
        panels.redraw(self._figure, drawn)
        if answer.decision is None:
            return
        self.moves += 1
        self._verdict.value = told
        if move == self._move:
            self.decision = answer.decision
            self._status.value = ""

    def _show_decision(self, move: int, decision: Decision) -> None:
        if move == self._move:
            self.decision = decision
            self._status.value = ""
            self._verdict.value = decision._repr_html_()
        else:
            self._status.value = _small("decided for settings that have changed: press it again")
        self._properly.disabled = False

    def _refuse(self, move: int, why: str) -> None:
        if move == self._move:
            self.decision = None
            self._status.value = warnings_html([f"{why}. The figure is of what was set before."])
        self._properly.disabled = False


def _input(control: Any) -> Any:
    """Return the slider or menu of a control."""
    shared = {
        "options": list(control.options),
        "value": control.chosen,
        "description": control.label,
        "tooltip": control.about,
        "style": {"description_width": _LABEL_PX},
        "layout": {"width": "98%"},
    }
    return (
        ipywidgets.Dropdown(**shared) if control.is_menu else ipywidgets.SelectionSlider(**shared)
    )


def _glanced(decision: Decision, note: str) -> str:
    """Return what a glance says, in HTML: verdict, reasons, table, and how little it is."""
    said = [decision.say(one) for one in decision.sentences]
    reasons = "".join(f"<li>{html.escape(text)}</li>" for text in said[1 : 1 + _MOST_REASONS])
    noted = f"<p>{html.escape(note)}</p>" if note else ""
    least = f"At a glance: {html.escape(decision.about)}. No verdict to act on: decide properly."
    return (
        f'<div style="line-height:1.4"><p><strong>{html.escape(said[0])}</strong></p>'
        f"<p><em>{least}</em></p>{noted}"
        f"{warnings_html(decision.warnings)}<ul>{reasons}</ul>"
        f"{table_html(decision.summary().T)}</div>"
    )


def _small(text: str) -> str:
    return f"<em>{html.escape(text)}</em>"


def deliverer() -> Callable[..., Any]:
    """Return what has a function called in the kernel's own thread; without a kernel, at once."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return lambda function, *arguments: function(*arguments)
