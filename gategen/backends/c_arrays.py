"""The arrays of one C function: what they are called, where they begin, how one step or row is reached.

A plane of all steps is called ``v_all``, the array of one step ``v_t``, one row simply ``v``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gategen.backends.c_syntax import c_name
from gategen.calculus.ir import Carry, Kind, Program, Value
from gategen.calculus.storage import Home, Placement
from gategen.language.shapes import Shape, Width

_AUTHOR = (Kind.INPUT, Kind.STATE, Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE, Kind.DERIVED)
_OURS = (
    *("T", "B", "dims", "params", "inputs", "outputs", "d_params", "d_inputs", "d_outputs"),
    *("tape", "work", "rest", "keep", "lengths", "row", "t", "b", "j"),
)


def count_text(shape: Shape) -> str:
    """The number of elements of a timeless array, as a C expression of the size names."""
    return " * ".join(_factor(width) for width in shape) or "1"


def _factor(width: Width) -> str:
    text = str(width)
    return f"({text})" if " " in text else text


@dataclass
class Arrays:
    """Declares the arrays of one function and reaches into them.

    Attributes:
        program: The program; its values have unique names.
        placement: The homes of the pass.
        widths: Names of the sizes, which no array may take.
        taped: Values that have a plane on the tape.
        lines: Declarations so far.
        counts: Element counts taken from the workspace so far, as C expressions.
        base: Where each value's array begins: a plane, a step buffer, or a timeless array.
        starts: Where each state (and input with a history) begins, by its name.
    """

    program: Program
    placement: Placement
    widths: tuple[str, ...]
    taped: frozenset[str] = frozenset()
    lines: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    base: dict[str, str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._taken = set(self.widths)
        values = self.program.values.values()
        for value in sorted(values, key=lambda value: value.kind not in _AUTHOR):
            self.names[value.name] = self.new(value.name)
        self.ours = {word: self.new(word) for word in _OURS}
        self.carries: dict[str, Carry] = {carry.past.name: carry for carry in self.program.carries}

    def new(self, wanted: str) -> str:
        """A fresh name; it gives way with a suffix."""
        name = c_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def take(self, name: str, count: str) -> str:
        """Declare an array in the workspace, under a name of `new` or `names`."""
        self.lines.append(f"real *{name} = gg_take(&{self.ours['rest']}, {count});")
        self.counts.append(count)
        return name

    def declare(self, name: str, begin: str, constant: bool = False) -> str:
        """Declare a pointer that begins somewhere else, under a name of `new` or `names`."""
        self.lines.append(f"{'const ' if constant else ''}real *{name} = {begin};")
        return name

    def home(self, value: Value) -> Home | None:
        """Where the pass keeps a value; None for what the caller brings."""
        return self.placement.home.get(value.name)

    def step_size(self, value: Value) -> str:
        """The number of elements of one step."""
        return f"{self.ours['B']} * {_factor(value.width)}"

    def plane_size(self, value: Value) -> str:
        """The number of elements of all steps."""
        return f"{self.ours['T']} * {self.step_size(value)}"

    def slot(self, value: Value, t: str) -> str:
        """The index of step ``t`` in a value's array: without a tape, a ring has one or two steps."""
        atom = t if t.isidentifier() or t.isdigit() else f"({t})"
        if self.home(value) is not Home.RING:
            return atom
        ring = f"{atom} % 2" if value.kind is Kind.STATE else "0"
        if value.name in self.taped:
            return f"({self.ours['keep']} ? {t} : {ring})"
        return f"({ring})"

    def step(self, value: Value) -> str:
        """A pointer to the (B, width) array of step ``t``."""
        base, size, t = self.base.get(value.name, ""), self.step_size(value), self.ours["t"]
        if value.kind is Kind.PAST:
            carry = self.carries[value.name]
            first = f"{t} == {self.ours['T']} - 1" if self.program.reverse else f"{t} == 0"
            earlier = f"{t} + 1" if self.program.reverse else f"{t} - 1"
            begin = f"{self.base[carry.state.name]} + {self.slot(carry.state, earlier)} * {size}"
            return f"{first} ? {self.starts[carry.state.name]} : {begin}"
        if value.kind is Kind.SEED:
            return f"{base} ? {base} + {t} * {size} : {self.starts[value.name]}"
        if self.home(value) is Home.STEP:
            return base
        return f"{base} + {self.slot(value, t)} * {size}"

    def row(self, value: Value) -> str:
        """A pointer to row ``row`` of all T * B rows."""
        base, size, row = self.base.get(value.name, ""), _factor(value.width), self.ours["row"]
        T, B = self.ours["T"], self.ours["B"]
        if value.kind is Kind.PAST:
            carry = self.carries[value.name]
            plane, start = self.base[carry.state.name], self.starts[carry.state.name]
            if self.program.reverse:
                begin = f"{start} + ({row} - ({T} - 1) * {B}) * {size}"
                return f"{row} >= ({T} - 1) * {B} ? {begin} : {plane} + ({row} + {B}) * {size}"
            return f"{row} < {B} ? {start} + {row} * {size} : {plane} + ({row} - {B}) * {size}"
        if value.kind is Kind.SEED:
            return f"{base} ? {base} + {row} * {size} : {self.starts[value.name]}"
        return f"{base} + {row} * {size}"

    def segments(self, value: Value) -> list[tuple[str, str, str]]:
        """The rows of all steps as (number of rows, first step, pointer); a past state has two parts."""
        T, B = self.ours["T"], self.ours["B"]
        if value.kind is not Kind.PAST:
            return [(f"{T} * {B}", "0", self.base[value.name])]
        state = self.carries[value.name].state
        plane, start = self.base[state.name], self.starts[state.name]
        one, rest = f"({T} > 0) * {B}", f"({T} - 1) * {B}"
        if self.program.reverse:
            return [(rest, "0", f"{plane} + {self.step_size(value)}"), (one, f"{T} - 1", start)]
        return [(one, "0", start), (rest, "1", plane)]

    def pointers(self, values: Sequence[Value], written: set[str]) -> list[str]:
        """Declarations of the step pointers ``v_t`` of values that a step reaches."""
        lines = []
        for value in values:
            if self.home(value) is Home.STEP:
                self.base[f"step {value.name}"] = self.base[value.name]
                continue
            name = self.new(f"{value.name}_t")
            constant = "" if value.name in written else "const "
            lines.append(f"{constant}real *{name} = {self.step(value)};")
            self.base[f"step {value.name}"] = name
        return lines
