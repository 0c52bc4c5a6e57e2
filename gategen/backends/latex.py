r"""The derivation as a LaTeX article that compiles as it is, with amsmath alone."""

from __future__ import annotations

import re
from itertools import pairwise

from sympy import Expr, Integer, Mul

from gategen.backends.document import document as derivation
from gategen.backends.formula import GREEK, Name
from gategen.backends.latex_text import escaped
from gategen.backends.printer import Printer
from gategen.backends.render import render
from gategen.backends.view import Markup, view
from gategen.backends.walkthrough import Line
from gategen.calculus.program import Program
from gategen.language.cell import Cell

_LINE = 78
"""Signs that fit on a line of a display."""

_INLINE = 45
"""Signs up to which an equation stands inside a sentence."""

_SUM_MARK, _PRODUCT_MARK = "\x01", "\x02"
_MARKS = str.maketrans("", "", _SUM_MARK + _PRODUCT_MARK)
_COMPARISONS = {">": ">", ">=": r"\ge", "<": "<", "<=": r"\le", "==": "=", "!=": r"\ne"}
_DELIMITED = {
    "sqrt": (r"\sqrt{", "}"),
    "abs": (r"\left\lvert ", r" \right\rvert"),
    "norm": (r"\left\lVert ", r" \right\rVert"),
    "dot": (r"\left\langle ", r" \right\rangle"),
}
_BELOW, _ROW = r";\, ", r" \\ "
NEXT_LINE = " \\\\\n"
_TALL = (r"\frac", r"\begin", r"\left")


def document(cell: Cell, program: Program) -> str:
    """The derivation of a cell as LaTeX text."""
    made = derivation(cell, program)
    return render("latex/derivation.tex.j2", view(made, LatexMarkup(LatexPrinter(made.names))))


class LatexPrinter(Printer):
    """Formulas for LaTeX and MathJax; marks where a long one may be broken, see `broken`."""

    operator = r"\operatorname"

    def name(self, name: Name) -> str:
        """The author's letters: everything after the first underscore is a subscript."""
        if name.arriving:
            return rf"\nabla_{{{self.name(_plain(name))}}} \ell"
        if name.formula is not None:
            inner = self.write(name.formula).translate(_MARKS)
            return rf"\delta[{inner}]" if name.adjoint else inner
        word, *indices = re.split(r"\[|\]\[|\]", name.author)
        stem, *subscripts = word.split("_")
        letter = rf"\{stem}" if stem in GREEK else stem if len(stem) == 1 else rf"\mathit{{{stem}}}"
        if name.adjoint:
            letter = rf"\delta {letter}"
        if self.stacked and name.time is not None:
            letter = rf"\boldsymbol{{{letter}}}"
        below = [part for part in subscripts if part]
        if name.time is not None:
            below.append(f"t{name.time:+d}" if name.time else "t")
        above = r"\prime" * (len(subscripts) - len([part for part in subscripts if part]))
        above += "".join(f"({index})" for index in indices if index)
        above += f"[{name.part}]" if name.part else ""
        return letter + _attached("_", ",".join(below)) + (f"^{{{above}}}" if above else "")

    def number(self, number: Expr) -> str:
        """A number in full precision."""
        if number.is_NumberSymbol:
            return {"pi": r"\pi", "E": r"\mathrm{e}"}.get(str(number), repr(float(number)))
        if number.is_Integer:
            return str(number)
        if number.is_Rational:
            return rf"\tfrac{{{number.p}}}{{{number.q}}}"
        mantissa, _, exponent = repr(float(number)).partition("e")
        return rf"({mantissa} \cdot 10^{{{int(exponent)}}})" if exponent else mantissa

    def symbol(self, meaning: str) -> str:
        """The vector of ones, the identity, the matrices of the running sum and of a selection."""
        known = {"ones": r"\mathbf{1}", "identity": "I", "running": r"\mathbf{L}", "selection": r"\mathbf{E}"}
        return known[meaning]

    def parentheses(self, text: str) -> str:
        """As tall as what they enclose."""
        if any(tall in text for tall in _TALL):
            return rf"\left({text.translate(_MARKS)}\right)"
        return f"({text})"

    def add(self, left: str, right: str, negative: bool) -> str:
        """A term more."""
        return f"{left} {_SUM_MARK}{'-' if negative else '+'} {right}"

    def times(self, left: str, right: str, element_wise: bool) -> str:
        r"""Vectors with ``\odot``, numbers plain."""
        if element_wise:
            return rf"{left} {_PRODUCT_MARK}\odot {right}"
        return rf"{left} \cdot {right}" if right[0].isdigit() else rf"{left}\, {right}"

    def chain(self, parts: list[str]) -> str:
        """Factors side by side."""
        text = parts[0]
        for before, part in pairwise(parts):
            apart = (
                part[0] in "(["
                or before[-1] == ")"
                or r"\delta" in before + part
                or part.startswith(r"\frac")
            )
            text += (r"\, " if apart else " ") + _PRODUCT_MARK + part
        return text

    def fraction(self, above: str, below: list[Expr]) -> str:
        """One above the other; a divisor goes below a simple fraction that is there already."""
        divisors = below
        simple = re.fullmatch(r"\\tfrac\{(\d+)\}\{(\d+)\}(.*)", above)
        if simple is not None:
            rest = simple[3].removeprefix(r"\, ")
            divisors = [Integer(simple[2]), *below]
            above = rest if simple[1] == "1" and rest else simple[1] + simple[3]
        product = divisors[0] if len(divisors) == 1 else Mul(*divisors, evaluate=False)
        return rf"\frac{{{above.translate(_MARKS)}}}{{{self.write(product).translate(_MARKS)}}}"

    def power(self, base: str, exponent: str) -> str:
        """With braces where the base has an exponent already."""
        safe = f"{{{base.translate(_MARKS)}}}" if "^" in base and not base.endswith(")") else base
        return f"{safe}^{{{exponent.translate(_MARKS)}}}"

    def transposed(self, text: str, plain: bool) -> str:
        """A name takes the sign behind the superscripts that it has."""
        if not plain:
            return rf"{self.parentheses(text)}^{{\top}}"
        return text[:-1] + r"\top}" if "^" in text else text + r"^{\top}"

    def kronecker(self, left: str, right: str) -> str:
        r"""With ``\otimes``."""
        return rf"{left} {_PRODUCT_MARK}\otimes {right}"

    def units(self, text: str, first: str, end: str) -> str:
        """As an index behind brackets."""
        return rf"[{text}]_{{{first}:{end}}}".translate(_MARKS)

    def concatenation(self, parts: list[str]) -> str:
        """One below the other, on one line."""
        return f"[{_BELOW.join(parts)}]"

    def call(self, name: str, latex: str, arguments: list[str], mark: str = "") -> str:
        """A function applied."""
        if name in _DELIMITED and not mark:
            before, after = _DELIMITED[name]
            return before + r",\, ".join(arguments).translate(_MARKS) + after
        escaped = name.replace("_", r"\_")
        function = latex.replace(r"\operatorname", self.operator) or f"{self.operator}{{{escaped}}}"
        return function + mark + self.parentheses(r",\, ".join(arguments))

    def equality(self, left: str, right: str) -> str:
        """An equation in a line of text."""
        return f"{left} = {right}"

    def comparison(self, left: str, sign: str, right: str) -> str:
        """A condition."""
        return f"{left} {_COMPARISONS[sign]} {right}"

    def cases(self, rows: list[tuple[str, str]], otherwise: str) -> str:
        """A choice; one or zero is an indicator."""
        if len(rows) == 1 and rows[0][0] == "1" and otherwise == "0":
            return rf"\mathbf{{1}}[{rows[0][1]}]"
        lines = [rf"{value} & \text{{if }} {condition}" for value, condition in rows]
        joined = _ROW.join([*lines, rf"{otherwise} & \text{{otherwise}}"])
        return rf"\begin{{cases}} {joined} \end{{cases}}".translate(_MARKS)

    def dimensions(self, widths: list[str]) -> str:
        """Widths with a cross between them."""
        return r" \times ".join(widths) or "1"

    def over_steps(self, text: str) -> str:
        """A sum over t."""
        return rf"{{\textstyle\sum_t}}\, {text}"

    def over_units(self, text: str) -> str:
        """The product with a row of ones."""
        return rf"\mathbf{{1}}^{{\top}} {self.parentheses(text)}"

    def derivative(self, above: str, below: str, total: bool) -> str:
        """A fraction in a display, a stroke in a line of text."""
        if total:
            return rf"\frac{{\mathrm{{d}} {above}}}{{\mathrm{{d}} {below}}}"
        return rf"\partial {above} / \partial {below}"


def _plain(name: Name) -> Name:
    return Name(name.author, name.shown, name.time, name.rank, part=name.part, formula=name.formula)


def _attached(sign: str, text: str) -> str:
    return "" if not text else sign + text if len(text) == 1 else f"{sign}{{{text}}}"


_INVISIBLE = re.compile(r"\\(operatorname|math[a-z]+|boldsymbol|text|left|right|begin\{cases\}|end\{cases\})")


def visible(text: str) -> int:
    """About how many signs a formula is wide."""
    text = re.sub(r"\\[A-Za-z]+|\\,", "x", _INVISIBLE.sub("", text))
    return len(text.translate(str.maketrans("", "", "{}^_ " + _SUM_MARK + _PRODUCT_MARK)))


def broken(text: str, room: int) -> list[str]:
    """A formula cut at its marks into lines of at most ``room`` signs, where that is possible.

    A cut between terms is better than one between factors, and one outside of parentheses better than
    one inside.
    """
    if visible(text) <= room:
        return [text]
    depth, cuts = 0, []
    for index, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if sign in (_SUM_MARK, _PRODUCT_MARK) and index:
            cuts.append(((depth, sign), index))
    if not cuts:
        return [text]
    best = min(kind for kind, _ in cuts)
    places = [index for kind, index in cuts if kind == best]
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    lines = pieces[:1]
    for piece in pieces[1:]:
        if visible(lines[-1] + piece) > room:
            lines.append("")
        lines[-1] += piece
    if len(lines) == 1:
        return lines
    return [part for line in lines for part in broken(line, room)]


class LatexMarkup(Markup):
    """Text, equations and rows for LaTeX."""

    limit = _LINE
    apart = "\n"

    def text(self, text: str) -> str:
        """Text that LaTeX prints as it is."""
        return escaped(text)

    def inline(self, formula: str) -> str:
        """Between dollars."""
        return f"${formula.translate(_MARKS)}$"

    def line(self, line: Line) -> str:
        """One row of an ``align*``, or several if it is long."""
        left = self.printer.write(line.left).translate(_MARKS)
        room = self.limit - visible(left)
        rows = [
            row.translate(_MARKS).strip().removesuffix(r"\,")
            for row in broken(self.printer.write(line.right), room)
        ]
        sign = r"\mathrel{+}=" if line.adds else "="
        text = rf"{left} &{sign} {rows[0]}" + "".join(rf"{NEXT_LINE}&\quad {row}" for row in rows[1:])
        return text + (self.tag(line.number) if line.number else "")

    def since(self, line: Line) -> str:
        """A long equation stands on lines of its own."""
        sides = (self.printer.write(side) for side in (line.left, line.right))
        if sum(map(visible, sides)) < _INLINE:
            return super().since(line)
        return f"Since{self.apart}{self.display([self.line(line)])}{self.apart}"

    def display(self, lines: list[str]) -> str:
        """An ``align*``."""
        return f"\\begin{{align*}}\n{NEXT_LINE.join(lines)}\n\\end{{align*}}"

    def tag(self, number: int) -> str:
        """The number of an equation."""
        return rf" \tag{{{number}}}"

    def table(self, rows: list[list[str]]) -> list[str]:
        """Rows of a ``tabular``."""
        return [rf"{' & '.join(cells)} \\" for cells in rows]
