"""The derivation as plain text for the terminal, in the notation of the language."""

from __future__ import annotations

from sympy import Expr

from gategen.backends.document import document as derivation
from gategen.backends.formula import Name
from gategen.backends.printer import Printer
from gategen.backends.render import render
from gategen.backends.view import Markup, view
from gategen.backends.walkthrough import Line
from gategen.calculus.program import Program
from gategen.language.arrangements import Arrangement
from gategen.language.cell import Cell
from gategen.language.reductions import Reduction
from gategen.language.text import number_text

_COLUMN = 40
"""Signs up to which a cell widens its column."""


def document(cell: Cell, program: Program) -> str:
    """The derivation of a cell as plain text."""
    made = derivation(cell, program)
    return render("text/derivation.txt.j2", view(made, TextMarkup(TextPrinter(made.names))))


class TextPrinter(Printer):
    """Formulas as an author types them."""

    def name(self, name: Name) -> str:
        """The author's spelling."""
        shown = name.shown if name.formula is None else self.write(name.formula)
        return f"∂ℓ/∂{shown}" if name.arriving else f"δ{shown}" if name.adjoint else shown

    def number(self, number: Expr) -> str:
        """A number in full precision."""
        text = number_text(number)
        return f"({text})" if "/" in text else text

    def symbol(self, meaning: str) -> str:
        """The vector of ones, the identity, the matrices of the running sum and of a selection."""
        return {"ones": "1", "identity": "I", "running": "L", "selection": "E"}[meaning]

    def matrix_product(self, left: Expr, right: Expr) -> tuple[int, str]:
        """As in the language."""
        return 2, f"{self.write(left, 5)} @ {self.write(right, 3)}"

    def reduction(self, node: Reduction) -> tuple[int, str]:
        """As in the language."""
        arguments = [self.write(argument) for argument in node.args]
        arguments += [] if node.axis is None else [f"axis={node.axis}"]
        return 5, self.call(node.row.name, "", arguments)

    def arrangement(self, node: Arrangement) -> tuple[int, str]:
        """As in the language."""
        level = 5 if node.row.form.startswith("{0}") else 0
        return 5, node.row.form.format(*(self.write(argument, level) for argument in node.args))

    def parentheses(self, text: str) -> str:
        """Round ones."""
        return f"({text})"

    def add(self, left: str, right: str, negative: bool) -> str:
        """A term more."""
        return f"{left} {'-' if negative else '+'} {right}"

    def times(self, left: str, right: str, element_wise: bool) -> str:
        """All products per element look alike."""
        return f"{left} * {right}"

    def chain(self, parts: list[str]) -> str:
        """Matrix products."""
        return " @ ".join(parts)

    def fraction(self, above: str, below: list[Expr]) -> str:
        """On one line."""
        return " / ".join([above, *(self.write(divisor, 3) for divisor in below)])

    def power(self, base: str, exponent: str) -> str:
        """As in Python."""
        return f"{base}**{exponent}"

    def transposed(self, text: str, plain: bool) -> str:
        """With a letter, as the language has no sign for it."""
        return f"{text}^T" if plain else f"({text})^T"

    def kronecker(self, left: str, right: str) -> str:
        """As NumPy calls it."""
        return f"kron({left}, {right})"

    def units(self, text: str, first: str, end: str) -> str:
        """As in Python."""
        return f"{text}[{first}:{end}]"

    def concatenation(self, parts: list[str]) -> str:
        """As in the language."""
        return f"[{', '.join(parts)}]"

    def call(self, name: str, latex: str, arguments: list[str], mark: str = "") -> str:
        """A function applied."""
        return f"{name}{mark}({', '.join(arguments)})"

    def equality(self, left: str, right: str) -> str:
        """An equation in a line of text."""
        return f"{left} = {right}"

    def comparison(self, left: str, sign: str, right: str) -> str:
        """A condition."""
        return f"{left} {sign} {right}"

    def cases(self, rows: list[tuple[str, str]], otherwise: str) -> str:
        """As in the language."""
        for value, condition in reversed(rows):
            otherwise = f"where({condition}, {value}, {otherwise})"
        return otherwise

    def dimensions(self, widths: list[str]) -> str:
        """Widths with a cross between them."""
        return " x ".join(widths) or "1"

    def over_steps(self, text: str) -> str:
        """A sum over t."""
        return f"sum over t of {text}"

    def over_units(self, text: str) -> str:
        """A sum over the units."""
        return f"sum({text})"

    def derivative(self, above: str, below: str, total: bool) -> str:
        """With a stroke."""
        return f"d{above}/d{below}" if total else f"∂{above}/∂{below}"


class TextMarkup(Markup):
    """Nothing to mark up."""

    def text(self, text: str) -> str:
        """Text without signs that steer a terminal."""
        return "".join(sign if sign.isprintable() else " " for sign in text)

    def inline(self, formula: str) -> str:
        """As it is."""
        return formula

    def line(self, line: Line) -> str:
        """One equation."""
        number = f"({line.number}) " if line.number else ""
        sign = "+=" if line.adds else "="
        return f"  {number}{self.printer.write(line.left)} {sign} {self.printer.write(line.right)}"

    def display(self, lines: list[str]) -> str:
        """One below the other."""
        return "\n".join(lines)

    def table(self, rows: list[list[str]]) -> list[str]:
        """Columns that line up; what is long pushes the rest of its row."""
        columns = list(zip(*rows, strict=True))
        widths = [
            max((len(cell) for cell in column if len(cell) <= _COLUMN), default=0) for column in columns[:-1]
        ]
        return [
            "  " + "  ".join([*(c.ljust(w) for c, w in zip(cells, widths, strict=False)), cells[-1]])
            for cells in rows
        ]
