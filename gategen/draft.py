"""The text of a cell, line by line, while a modifier changes it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sympy import Expr

from gategen.errors import ArgumentError, UnknownName, nearest
from gategen.language.cell import Cell
from gategen.language.notation import substitute
from gategen.language.parse import parse
from gategen.language.text import expression_text

_DECLARATION = re.compile(r"(\w+): ")


def is_number(value: object) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _in_code(name: str) -> str:
    return name.replace("[", "_").rstrip("]")


class Draft:
    """The text of a cell, a line for each declaration and equation, while it changes."""

    def __init__(self, cell: Cell, change: str, arguments: Mapping[str, Any]) -> None:
        self._cell = cell
        self._change = change
        self._arguments = arguments
        lines = str(Cell(cell.name, cell.equations, cell.declarations)).splitlines()
        self._declared = {found[1]: line for line in lines if (found := _DECLARATION.match(line))}
        # The left side, with [t] or without, and the right side of every equation.
        self._equations = [line.split(" = ", 1) for line in lines if not _DECLARATION.match(line)]
        self._outputs = list(cell.outputs)
        # In generated code U_h[0] is U_h_0.
        self._taken = {n for name in cell.variables for n in (name.partition("[")[0], _in_code(name))}
        self._taken |= set(cell.widths)

    @property
    def assigned(self) -> list[str]:
        """The names that equations assign."""
        return [left.removesuffix("[t]") for left, _ in self._equations]

    def left(self, name: str) -> str:
        """The left side of a name's equation in the original."""
        bare = {e.left.signal: e.bare for e in self._cell.equations}
        return name if bare[name] else f"{name}[t]"

    def past(self, state: str) -> str:
        """The state of the step before."""
        return f"{state}[t+1]" if self._cell.reverse else f"{state}[t-1]"

    def known(self, name: str, valid: Iterable[str], kind: str) -> None:
        """Raise unless the cell has this name."""
        valid = list(valid)
        if name not in valid:
            problem = f"{name} is no {kind} of {self._cell.name}"
            raise UnknownName(problem, None, ", ".join(valid), nearest(str(name), valid))

    def rates(self, rates: Mapping[str, float], valid: Iterable[str]) -> list[tuple[str, float]]:
        """The rates, each of a known name and from 0 up to, but not including, 1."""
        if not rates:
            raise ArgumentError("rates", "are missing", f"such as {next(iter(valid))}=0.1")
        for name, rate in rates.items():
            self.known(name, valid, "value")
            if not is_number(rate) or not 0 <= rate < 1:
                raise ArgumentError(name, f"is {rate!r}", "a rate from 0 up to, not including, 1")
        return list(rates.items())

    def fresh(self, wanted: str) -> str:
        """A name that nothing has yet."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name

    def declare(self, line: str) -> None:
        """Add a declaration, or replace that of the same name."""
        self._declared[line.partition(":")[0]] = line

    def constant(self, wanted: str, value: float) -> str:
        """A constant of a name not far from the one wanted."""
        name = self.fresh(wanted)
        self.declare(f"{name}: constant = {float(value)!r}")
        return name

    def noise(self, name: str, rate: float, kind: str = "input") -> tuple[str, str]:
        """Random numbers for every step, or for every ``sequence``, and the rate they are compared with."""
        u = self.fresh(f"u_{name}")
        self.declare(f"{u}: {kind}" if self._cell.variables[name].shape else f"{u}: {kind}[1]")
        return u, self.constant(f"p_{name}", rate)

    def output(self, wanted: str) -> str:
        """A name for what the cell gives back from now on."""
        name = self.fresh(wanted)
        self._outputs = [name]
        return name

    def rename(self, name: str, reads: bool = True) -> str:
        """Give what an equation assigns another name, which the equations behind it read instead or not.

        What the cell only gives back, a head, reads the state as it is carried on.
        """
        new, place = self.fresh(f"{name}_new"), self.assigned.index(name)
        heads = {*self._cell.outputs} - {*self._cell.states}
        read = rf"\b{name}\[t\]|\b{name}\b(?!\[)"
        self._equations[place][0] = new
        for equation in self._equations[place + 1 :] if reads else ():
            if equation[0].removesuffix("[t]") not in heads:
                equation[1] = re.sub(read, new, equation[1])
        return new

    def add(self, behind: str, line: str) -> None:
        """An equation right behind the one of a name."""
        self._equations.insert(self.assigned.index(behind) + 1, line.split(" = ", 1))

    def begin(self, lines: Iterable[str]) -> None:
        """Equations before all others."""
        self._equations[:0] = [line.split(" = ", 1) for line in lines]

    def append(self, line: str) -> None:
        """An equation behind all others."""
        self._equations.append(line.split(" = ", 1))

    def wrap(self, name: str, form: str) -> None:
        """Put the right side of a name's equation into something."""
        equation = self._equations[self.assigned.index(name)]
        equation[1] = form.format(equation[1])

    def rewrite(self, change: Callable[[str, Expr], Mapping[Expr, Expr]]) -> None:
        """Replace parts of every right side; ``change`` gets its name and the whole, and gives the parts."""
        bare = self._cell.roles.bare
        for place, equation in enumerate(self._cell.equations):
            right = substitute(equation.right, change(equation.left.signal, equation.right))
            self._equations[place][1] = expression_text(right, bare)

    def couple(self, gate: str, other: str) -> None:
        """Assign 1 - other to a gate, right behind the other."""
        left, _ = self._equations.pop(self.assigned.index(gate))
        read = self.left(other)
        self._equations.insert(self.assigned.index(other) + 1, [left, f"1 - {read}"])

    def replace(self, pattern: str, new: str | Callable[[re.Match[str]], str]) -> None:
        """Replace a pattern in all right sides."""
        for equation in self._equations:
            equation[1] = re.sub(pattern, new, equation[1])

    def done(self) -> Cell:
        """The changed cell, named for the change."""
        arguments = ", ".join(f"{name}={value}" for name, value in self._arguments.items())
        change = f"{self._change}({self._cell.name}{', ' * bool(arguments)}{arguments})"
        doc = "\n\n".join(part for part in (self._cell.doc.rstrip("\n"), change) if part) + "\n"
        made = self._read([])
        if list(made.outputs) != self._outputs:
            made = self._read([f"{name}: output" for name in self._outputs])
        return Cell(made.name, made.equations, made.declarations, doc)

    def _read(self, outputs: Iterable[str]) -> Cell:
        kept = {n: line for n, line in self._declared.items() if not line.endswith(": output")}
        used = [line for name, line in kept.items() if self._is_read(name)]
        equations = [f"{left} = {right}" for left, right in self._equations]
        return parse("\n".join([*used, *outputs, *equations]), f"{self._cell.name}_{self._change}"[:64])

    def _is_read(self, name: str) -> bool:
        """Whether a declared name still stands in an equation, or in another declaration."""
        texts = [*(side for pair in self._equations for side in pair), *self._declared.values()]
        return sum(bool(re.search(rf"\b{re.escape(name)}\b", text)) for text in texts) > 1
