"""How every symbol of a cell and of its program is written in a document."""

from __future__ import annotations

import re
from dataclasses import replace

import sympy
from sympy import Expr

from gategen.backends.formula import Name, Names
from gategen.calculus.ir import Block, Island, Kind, Value, flatten
from gategen.calculus.lower import identifier
from gategen.calculus.program import Program
from gategen.language.cell import Cell
from gategen.language.functions import ElementWise
from gategen.language.shapes import Width

_ADJOINTS = (Kind.ADJOINT, Kind.GRADIENT, Kind.SEED)
_TIMED = re.compile(r"(.+)\[t([+-]\d+)?\]")


def names_of(cell: Cell, program: Program) -> Names:
    """How every symbol of the cell and of the program is written."""
    bare = cell.roles.bare
    names = Names({n: (v.role, len(v.shape)) for n, v in cell.variables.items()}, bare)
    for width in (w for variable in cell.variables.values() for w in variable.shape):
        for unit in width.names:
            names.add(_width_key(unit), Name(unit, unit))
    authors = {identifier(name): name for name in cell.variables}
    inline = _inline(program, authors)
    primals: dict[str, Name] = {}
    for value in program.values.values():
        if value.kind not in _ADJOINTS:
            name = replace(_primal(value, authors), formula=inline.get(value.name))
            primals[value.shown] = names.table[value.name] = name
    for value in program.values.values():
        if value.kind in _ADJOINTS:
            arriving = value.kind is Kind.SEED
            primal = primals[primal_shown(value)]
            names.table[value.name] = replace(primal, adjoint=not arriving, arriving=arriving)
    return names


def primal_shown(adjoint: Value) -> str:
    """What the value is shown as whose adjoint, or arriving gradient, this is."""
    return adjoint.shown.removeprefix("dL/").removeprefix("d ")


def _inline(program: Program, authors: dict[str, str]) -> dict[str, Expr]:
    """Functions of parameters that got a name only to be computed once; they are written as what they are."""
    assigns = (node.assigns[0] for node in flatten(program.setup) if isinstance(node, Island))
    return {
        assign.target.name: assign.expr
        for assign in assigns
        if assign.target.name not in authors and isinstance(assign.expr, ElementWise)
    }


def _primal(value: Value, authors: dict[str, str]) -> Name:
    rank = len(value.shape)
    author = authors.get(value.name, value.shown if value.kind is Kind.SIZE else value.name)
    if value.timeless:
        return Name(author, value.shown, None, rank)
    found = _TIMED.fullmatch(value.shown)
    if found is None:
        return Name(author, value.shown, 0, rank)
    return Name(found[1], value.shown, int(found[2] or 0), rank)


def width_formula(width: Width) -> Expr:
    """A width as a formula in the names of widths."""
    parts = []
    for name, factor in width.terms:
        units = [sympy.Symbol(_width_key(single), real=True) for single in name.split("*")]
        parts.append(sympy.Mul(*units) * factor)
    return sympy.Add(*parts, width.constant)


def _width_key(name: str) -> str:
    # A width may have the name of a value: a gate n and a width n are two things.
    return f"width {name}"


class Columns:
    """Numbers the groups of columns in which a weight meets a concatenation."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.blocks: dict[str, list[Block]] = {}

    def symbol(self, weight: Value, block: Block | None) -> sympy.Symbol:
        """The weight, or the group of its columns, as a symbol."""
        if block is None:
            return weight.symbol
        name = self.names.table[weight.name]
        blocks = self.blocks.setdefault(name.author, [])
        if block not in blocks:
            blocks.append(block)
        start = str(block.start) if block.start != Width() else ""
        columns = f"[:, {start}:{block.start + block.size}]"
        part = replace(name, part=blocks.index(block) + 1, shown=name.shown + columns)
        return self.names.add(weight.name + columns, part)
