"""The derivation as Markdown whose formulas GitHub renders."""

from __future__ import annotations

import re

from gategen.backends.document import document as derivation
from gategen.backends.latex import NEXT_LINE, LatexMarkup, LatexPrinter
from gategen.backends.render import render
from gategen.backends.view import view
from gategen.calculus.program import Program
from gategen.language.cell import Cell

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")
_AT_START = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")


def document(cell: Cell, program: Program) -> str:
    """The derivation of a cell as Markdown text."""
    made = derivation(cell, program)
    return render("markdown/derivation.md.j2", view(made, MarkdownMarkup(MarkdownPrinter(made.names))))


class MarkdownPrinter(LatexPrinter):
    r"""Formulas without ``\operatorname``, which GitHub does not allow."""

    operator = r"\mathrm"


class MarkdownMarkup(LatexMarkup):
    """Text and rows for Markdown; formulas stand in code, where nothing else in Markdown touches them."""

    limit = 90
    apart = "\n\n"

    def text(self, text: str) -> str:
        """Text that Markdown prints as it is."""
        text = "".join(sign if sign.isprintable() else " " for sign in text)
        return _AT_START.sub(_escape_start, _SPECIAL.sub(r"\\\1", text))

    def inline(self, formula: str) -> str:
        """GitHub's form with backticks."""
        return f"$`{super().inline(formula)[1:-1]}`$"

    def display(self, lines: list[str]) -> str:
        """A fence that GitHub renders as a formula."""
        return f"```math\n\\begin{{aligned}}\n{NEXT_LINE.join(lines)}\n\\end{{aligned}}\n```"

    def tag(self, number: int) -> str:
        """The number of an equation; inside ``aligned`` there are no tags."""
        return rf" && \quad ({number})"

    def table(self, rows: list[list[str]]) -> list[str]:
        """Rows of a table."""
        return [f"| {' | '.join(cells)} |" for cells in rows]


def _escape_start(match: re.Match[str]) -> str:
    before, sign = match.groups()
    return f"{before}{sign}\\" if sign.isdigit() else f"{before}\\{sign}"
