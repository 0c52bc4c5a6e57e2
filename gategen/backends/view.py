"""A document as ready strings: the fields that its templates lay out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from gategen.backends.document import Document, Row, Step
from gategen.backends.printer import Printer
from gategen.backends.reasons import Prose
from gategen.backends.walkthrough import Line


@dataclass(frozen=True)
class StepView:
    """One step; an empty string where there is nothing to print."""

    heading: str
    reason: str
    lines: str


@dataclass(frozen=True)
class View:
    """The fields of the templates ``derivation.*``; see `Document` for what they hold.

    Attributes:
        before: The steps whose states a step reads: ``step t-1``, ``steps t+1 to t+3``.
        after: The steps that read this step's states, with their verb: ``step t+1 has``.
        first: The step that runs first.
        last: The step that runs last.
        outer: The rule of the outer product, if there is one.
        along: What functions along an axis do, if there are any.
    """

    name: str
    title: str
    citation: tuple[str, ...]
    before: str
    after: str
    first: str
    last: str
    outer: str
    along: str
    symbols: tuple[str, ...]
    functions: tuple[str, ...]
    equations: str
    inner: str
    arriving: str
    steps: tuple[StepView, ...]
    carried: str
    gradients: str
    batch: str
    jacobian: str
    cost: tuple[str, ...]
    total: str
    stored: tuple[str, ...]
    storage: str
    warnings: tuple[str, ...]


class Markup(ABC):
    """How one target writes text, formulas in text, equations and tables."""

    def __init__(self, printer: Printer) -> None:
        self.printer = printer

    @abstractmethod
    def text(self, text: str) -> str:
        """Plain text, with everything special to the target escaped."""

    @abstractmethod
    def inline(self, formula: str) -> str:
        """A formula within a line of text."""

    @abstractmethod
    def line(self, line: Line) -> str:
        """One equation, aligned at its sign."""

    @abstractmethod
    def display(self, lines: list[str]) -> str:
        """Equations on lines of their own."""

    @abstractmethod
    def table(self, rows: list[list[str]]) -> list[str]:
        """The rows of a table, one string each."""

    def since(self, line: Line) -> str:
        """``Since ...,`` with an equation."""
        left, right = (self.printer.write(side) for side in (line.left, line.right))
        return f"Since {self.inline(f'{left} = {right}')}, "

    def prose(self, prose: Prose) -> str:
        """Text with formulas in it."""
        return "".join(
            self.text(piece) if isinstance(piece, str) else self.inline(self.printer.write(piece))
            for piece in prose
        )


def view(document: Document, markup: Markup) -> View:
    """All strings of a document."""

    def lines(given: tuple[Line, ...]) -> str:
        return markup.display([markup.line(line) for line in given]) if given else ""

    def rows(given: tuple[Row, ...]) -> tuple[str, ...]:
        return tuple(markup.table([[markup.prose(cell) for cell in row] for row in given]))

    reverse = document.reverse
    return View(
        name=document.name,
        title=markup.text(document.title),
        citation=tuple(map(markup.text, document.citation)),
        before=_span(markup, "+" if reverse else "-", document.delay),
        after=_span(markup, "-" if reverse else "+", document.delay, " has", " have"),
        first="T-1" if reverse else "0",
        last="0" if reverse else "T-1",
        outer=markup.prose(document.outer),
        along=markup.prose(document.along),
        symbols=rows(document.symbols),
        functions=rows(document.functions),
        equations=lines(document.equations),
        inner=lines(document.inner),
        arriving=lines(document.arriving),
        steps=tuple(
            StepView(step.heading, _sentence(step, markup), lines(step.lines)) for step in document.steps
        ),
        carried=lines(document.carried),
        gradients=lines(document.gradients),
        batch=lines(document.batch),
        jacobian=lines(document.jacobian),
        cost=rows(document.cost),
        total=markup.prose(document.total),
        stored=rows(document.stored),
        storage=markup.prose(document.storage),
        warnings=tuple(map(markup.text, document.warnings)),
    )


def _span(markup: Markup, sign: str, delay: int, one: str = "", many: str = "") -> str:
    """The next step, or as many as a state is read back, with the verb that they take."""
    nearest, furthest = (markup.inline(f"t{sign}{steps}") for steps in (1, delay))
    return f"step {nearest}{one}" if delay == 1 else f"steps {nearest} to {furthest}{many}"


def _sentence(step: Step, markup: Markup) -> str:
    reason = markup.prose(step.reason)
    return reason if step.equation is None else markup.since(step.equation) + reason
