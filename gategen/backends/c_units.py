"""Element-wise work as one C function per island: a loop over the units of one row.

Being parameters, the rows can be ``restrict``, without which compilers do not vectorize so many arrays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import sympy

from gategen.backends.c_arrays import Arrays
from gategen.backends.c_syntax import CWriter
from gategen.backends.render import render
from gategen.calculus.ir import Assign, Island, Kind, Reduce, SumRows, Value
from gategen.calculus.program import Program
from gategen.calculus.storage import Home


@dataclass(frozen=True)
class UnitsView:
    """One function, ready to be laid out."""

    about: str
    head: str
    opening: tuple[str, ...]
    body: tuple[str, ...]


@dataclass(frozen=True)
class Units:
    """One island of one pass.

    Attributes:
        program: The program that it belongs to.
        arrays: The arrays of the pass.
        island: The assignments.
        done: Values that have a contribution already.
        adjoint: Whether it belongs to the backward pass.
    """

    program: Program
    arrays: Arrays
    island: Island
    done: Collection[str]
    adjoint: bool

    @cached_property
    def assigns(self) -> list[Assign | Reduce | SumRows]:
        """The assignments that have an effect: a number that only this loop could read, it must read."""
        kept: list[Assign | Reduce | SumRows] = []
        read: set[str] = set()
        for assign in reversed(self.island.assigns):
            if assign.target.name in read or self.arrays.home(assign.target) is not Home.REGISTER:
                kept.insert(0, assign)
                read.update(value.name for value in self.program.read(assign.expr))
        return kept

    @cached_property
    def _touched(self) -> list[Value]:
        found: dict[str, Value] = {}
        for assign in self.assigns:
            for value in (*self.program.read(assign.expr), assign.target):
                found.setdefault(value.name, value)
        return list(found.values())

    @cached_property
    def _written(self) -> set[str]:
        return {assign.target.name for assign in self.assigns}

    def _is_array(self, value: Value) -> bool:
        return value.kind not in (Kind.CONSTANT, Kind.SIZE) and self.arrays.home(value) is not Home.REGISTER

    @property
    def moving(self) -> list[Value]:
        """The values of which a call gets one row."""
        return [v for v in self._touched if not v.timeless and self._is_array(v)]

    @property
    def fresh(self) -> list[Value]:
        """Rows that get their first contribution here."""
        return [v for v in self.moving if v.name in self._written and v.name not in self.done]

    @cached_property
    def _places(self) -> dict[str, list[Value]]:
        """Arrays by the plane in which they live; what overwrites another one shares its place."""
        alias = self.arrays.placement.alias
        found: dict[str, list[Value]] = {}
        for value in self._touched:
            if self._is_array(value):
                found.setdefault(alias.get(value.name, value.name), []).append(value)
        return found

    @property
    def arguments(self) -> list[Value]:
        """One value for each place, those first that are only read."""
        groups = sorted(self._places.values(), key=self._is_written)
        return [min(group, key=lambda value: value.name in self.arrays.placement.alias) for group in groups]

    def _is_written(self, group: list[Value]) -> bool:
        return any(value.name in self._written for value in group)

    @property
    def sizes(self) -> list[str]:
        """The widths that the function needs."""
        names = [name for width in self.island.shape for name in width.names]
        names += [value.shown for value in self._touched if value.kind is Kind.SIZE]
        return [self.arrays.sizes[name] for name in dict.fromkeys(names)]

    def text(self, name: str, writer: CWriter) -> str:
        """The function."""
        arguments = [f"int64_t {size}" for size in self.sizes]
        for value in self.arguments:
            place = self.arrays.placement.alias.get(value.name, value.name)
            constant = "" if self._is_written(self._places[place]) else "const "
            arguments.append(f"{constant}real *restrict {self.arrays.names[value.name]}")
        view = UnitsView(
            about=self._about(),
            head=f"static void {name}({', '.join(arguments)})",
            opening=tuple(self._opening(writer)),
            body=tuple(self._body(writer)),
        )
        return render("c/units.c.j2", view)

    def _about(self) -> str:
        """What comes from what: arrays only."""
        arrays = [value for group in self._places.values() for value in group]
        made = [value.name for value in arrays if value.name in self._written]
        read = {value.name for assign in self.assigns for value in self.program.read(assign.expr)}
        sources = [value.name for value in arrays if value.name in read - set(made)]
        source = f" from {_listed(sources)}" if sources else ""
        return f"One row of {_listed(made)}{source}."

    def lines(self, writer: CWriter) -> list[str]:
        """The work as part of another function."""
        opening, body = self._opening(writer), self._body(writer)
        return ["{", *(f"    {line}" for line in [*opening, *body]), "}"] if opening else body

    def _body(self, writer: CWriter) -> list[str]:
        statements, unit = self._statements(writer), self.arrays.ours["j"]
        if not self.island.shape:
            return statements
        width = self.arrays.elements(self.island.shape)
        loop = f"for (int64_t {unit} = 0; {unit} < {width}; {unit}++) {{"
        return [loop, *(f"    {line}" for line in statements), "}"]

    def _opening(self, writer: CWriter) -> list[str]:
        names, lines = self.arrays.names, []
        for value in self._touched:
            if value.kind is Kind.CONSTANT:
                number = writer.literal(sympy.Float(self.program.constants[value.name]))
                lines.append(f"const real {names[value.name]} = {number};")
            elif value.kind is Kind.SIZE:
                lines.append(f"const real {names[value.name]} = (real){self.arrays.sizes[value.shown]};")
        given = {value.name for value in self.arguments}
        for value in self.arguments:
            place = self.arrays.placement.alias.get(value.name, value.name)
            for other in self._places[place]:
                if other.name not in given:
                    constant = "" if other.name in self._written else "const "
                    lines.append(f"{constant}real *{names[other.name]} = {names[value.name]};")
        sums = {a.target.name: a.target for a in self.assigns if isinstance(a, Reduce)}
        return [*lines, *(f"{names[name]}[0] = 0;" for name in sums if name not in self.done)]

    def _statements(self, writer: CWriter) -> list[str]:
        lines: list[str] = []
        origin, begun = -1, set(self.done)
        targets = [assign.target.name for assign in self.assigns]
        if self.adjoint and self.assigns[0].origin < 0:
            # Of several states in one loop each may be read any number of steps later.
            several = any(carry.delay > 1 for carry in self.program.carries)
            steps = "steps" if several else "step"
            lines.append(f"/* what arrives from the following {steps} and from outside */")
        for assign in self.assigns:
            if assign.origin not in (origin, -1):
                equation = self.program.equations[assign.origin]
                lines.append(f"/* {'from ' if self.adjoint else ''}{equation} */")
            origin, name = assign.origin, assign.target.name
            summed = isinstance(assign, (Reduce, SumRows)) or name in begun
            kind = ""
            if self.arrays.home(assign.target) is Home.REGISTER and name not in begun:
                kind = "real " if targets.count(name) > 1 else "const real "
            text = writer.write(assign.expr)
            lines.append(f"{kind}{self.element(name)} {'+=' if summed else '='} {text};")
            begun.add(name)
        return lines

    def element(self, name: str) -> str:
        """How one element of a value is spelled."""
        value, own = self.program.values[name], self.arrays.names[name]
        return f"{own}[{self.arrays.ours['j'] if value.shape else 0}]" if self._is_array(value) else own


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
