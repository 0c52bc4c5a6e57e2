"""A page about many cells: equations, sizes, parameters, work, and how each step hangs on the one before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy
from sympy import Expr

from gategen.backends import cost
from gategen.backends.markdown import MarkdownMarkup, MarkdownPrinter
from gategen.backends.naming import names_of, width_formula
from gategen.backends.render import render
from gategen.backends.walkthrough import Walkthrough
from gategen.calculus.program import Program
from gategen.calculus.recurrence import recurrence
from gategen.language.cell import Cell
from gategen.language.roles import Role


@dataclass(frozen=True)
class Entry:
    """One cell of the page, as Markdown."""

    name: str
    title: str
    citation: tuple[str, ...]
    equations: str
    states: str
    parameters: str
    work: str
    depth: int
    linear: str


@dataclass(frozen=True)
class Index:
    """The page."""

    count: int
    cells: tuple[Entry, ...]


def page(cells: Iterable[tuple[Cell, Program]]) -> str:
    """The page as Markdown."""
    entries = tuple(_entry(cell, program) for cell, program in cells)
    return render("markdown/index.md.j2", Index(len(entries), entries))


def _entry(cell: Cell, program: Program) -> Entry:
    names = names_of(cell, program)
    markup = MarkdownMarkup(MarkdownPrinter(names))
    first, *rest = cell.doc.strip().split("\n") if cell.doc.strip() else [cell.name]
    learned = [v.shape for v in cell.parameters.values() if v.role is not Role.FROZEN]
    work = sum((product.forward for product in cost.products(Walkthrough(cell, program))), sympy.Integer(0))

    def formula(of: Expr) -> str:
        return markup.inline(markup.printer.write(cost.ordered(of)))

    step = recurrence(program)
    states: dict[str, list[str]] = {}
    for name, variable in cell.states.items():
        width = sympy.Mul(*map(width_formula, variable.shape))
        states.setdefault(formula(width), []).append(name)
    numbers = sum((sympy.Mul(*map(width_formula, shape)) for shape in learned), sympy.Integer(0))
    return Entry(
        name=cell.name,
        title=markup.text(first.strip().rstrip(".")) + ".",
        citation=tuple(markup.text(line.strip()) for line in rest if line.strip()),
        equations=str(Cell(cell.name, cell.equations, cell.declarations)).rstrip("\n"),
        states="; ".join(f"{', '.join(group)}: {width}" for width, group in states.items()),
        parameters=formula(numbers),
        work=formula(work),
        depth=step.depth,
        linear=("unit by unit" if step.apart else "yes") if step.linear else "",
    )
