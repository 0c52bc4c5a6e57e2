"""The arrays of one C function: what they are called, where they begin, how one step or row is reached.

A plane of all steps is called ``v_all``, the array of one step ``v_t``, one row simply ``v``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gategen.backends.c_names import c_name
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import Carry, Kind, Program, Value
from gategen.calculus.storage import Home, Placement
from gategen.language.shapes import Shape, Width

_AUTHOR = (Kind.INPUT, Kind.STATE, Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE, Kind.DERIVED)
_ARGUMENTS = {"dims", "params", "inputs", "outputs", "d_params", "d_inputs", "d_outputs", "tape", "work"}
_OURS: tuple[str, ...] = ("T", "B", "rest", "keep", "lengths", "row", "t", "b", "j")
"""Words of ours that an author's name may push aside."""


@dataclass
class Arrays:
    """Declares the arrays of one function and reaches into them.

    Attributes:
        program: The program; its values have unique names.
        placement: The homes of the pass.
        sizes: What each width is called in C.
        taped: Values that have a plane on the tape.
        counts: What was taken from the workspace so far: numbers of elements with the arrays' names.
        base: Where each value's array begins: a plane, a step buffer, or a timeless array.
        starts: Where each state (and input with a history) begins, by its name.
        names: What each value is called in C.
        ours: What each word of ours is called in C.
    """

    program: Program
    placement: Placement
    sizes: Mapping[str, str]
    taped: frozenset[str] = frozenset()
    counts: list[tuple[str, str]] = field(default_factory=list)
    base: dict[str, str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)
    words: ClassVar[tuple[str, ...]] = _OURS

    def __post_init__(self) -> None:
        self._taken = {*self.sizes.values(), *_ARGUMENTS}
        values = self.program.values.values()
        for value in sorted(values, key=lambda value: value.kind not in _AUTHOR):
            self.names[value.name] = self.new(value.name)
        self.ours = {word: self.new(word) for word in self.words}
        self.carries: dict[str, Carry] = {carry.past.name: carry for carry in self.program.carries}

    def new(self, wanted: str) -> str:
        """A fresh name; it gives way with a suffix."""
        name = c_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def take(self, name: str, *factors: str) -> str:
        """Declare an array in the workspace, under a name of `new` or `names`."""
        return f"real *{name} = gg_take(&{self.ours['rest']}, {self.count(name, *factors)});"

    def count(self, name: str, *factors: str) -> str:
        """A number of elements that an array takes from the workspace."""
        self.counts.append((product(*factors), name))
        return product(*factors)

    def home(self, value: Value) -> Home | None:
        """Where the pass keeps a value; None for what the caller brings."""
        return self.placement.home.get(value.name)

    def width(self, width: Width) -> str:
        """A width as C has it."""
        text = str(width.substitute({name: Width.of(self.sizes[name]) for name in width.names}))
        return text.replace("*", " * ")

    def stride(self, width: Width) -> str:
        """The elements from one row to the next."""
        return self.width(width)

    def elements(self, shape: Shape) -> str:
        """The number of elements of a timeless array."""
        return product(*map(self.width, shape))

    def step_size(self, value: Value) -> str:
        """The number of elements of one step."""
        return product(self.ours["B"], self.stride(value.width))

    def plane_size(self, value: Value) -> str:
        """The number of elements of all steps."""
        return product(self.ours["T"], self.step_size(value))

    def at(self, base: str, steps: str, value: Value) -> str:
        """A pointer so many steps behind another one."""
        return offset(base, steps, self.step_size(value))

    def slot(self, value: Value, t: str) -> str:
        """The index of step ``t`` in a value's array: without a tape, a ring has one or two steps."""
        if self.home(value) is not Home.RING:
            return t
        ring = "0"
        if value.kind is Kind.STATE:
            ring = f"{t if t.isidentifier() or t.isdigit() else f'({t})'} % 2"
        return f"{self.ours['keep']} ? {t} : {ring}" if value.name in self.taped else ring

    def step(self, value: Value) -> str:
        """A pointer to the (B, width) array of step ``t``."""
        base, t = self.base.get(value.name, ""), self.ours["t"]
        if value.kind is Kind.PAST:
            carry = self.carries[value.name]
            first = f"{t} == {self.ours['T']} - 1" if self.program.reverse else f"{t} == 0"
            earlier = f"{t} + 1" if self.program.reverse else f"{t} - 1"
            begin = self.at(self.base[carry.state.name], self.slot(carry.state, earlier), value)
            return f"{first} ? {self.starts[carry.state.name]} : {begin}"
        if value.kind is Kind.SEED:
            return f"{base} ? {self.at(base, t, value)} : {self.starts[value.name]}"
        if self.home(value) is Home.STEP:
            return base
        return self.at(base, self.slot(value, t), value)

    def row(self, value: Value) -> str:
        """A pointer to row ``row`` of all T * B rows."""
        row, T, B = (self.ours[word] for word in ("row", "T", "B"))
        size, base = self.stride(value.width), self.base.get(value.name, "")
        if value.kind is Kind.PAST:
            state = self.carries[value.name].state
            plane, start = self.base[state.name], self.starts[state.name]
            last = f"({T} - 1) * {B}"
            if self.program.reverse:
                begin = offset(start, f"{row} - {last}", size)
                return f"{row} >= {last} ? {begin} : {offset(plane, f'{row} + {B}', size)}"
            begin = offset(plane, f"{row} - {B}", size)
            return f"{row} < {B} ? {offset(start, row, size)} : {begin}"
        if value.kind is Kind.SEED:
            return f"{base} ? {offset(base, row, size)} : {self.starts[value.name]}"
        return offset(base, row, size)

    def pointers(self, values: Iterable[Value], written: set[str]) -> dict[str, str]:
        """Names and declarations of the step pointers ``v_t`` of values that a step reaches."""
        # Where another value overwrites this one, both are written.
        written = written | {self.placement.alias[name] for name in written & set(self.placement.alias)}
        lines = {}
        for value in values:
            if self.home(value) is Home.STEP:
                self.base[f"step {value.name}"] = self.base[value.name]
                continue
            name = self.base[f"step {value.name}"] = self.new(f"{value.name}_t")
            constant = "" if value.name in written else "const "
            lines[name] = f"{constant}real *{name} = {self.step(value)};"
        return lines
