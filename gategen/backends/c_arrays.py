"""The arrays of one C function: what they are called, where they begin, how one step or row is reached.

A plane of all steps is called ``v_all``, the array of one step ``v_t``, one row simply ``v``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gategen.backends.c_names import c_name
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import Kind, Value
from gategen.calculus.program import Program
from gategen.calculus.storage import Home, Placement
from gategen.language.shapes import Shape, Width

_AUTHOR = (Kind.INPUT, Kind.STATE, Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE, Kind.DERIVED)
_ARGUMENTS = {"dims", "params", "inputs", "outputs", "d_params", "d_inputs", "d_outputs", "tape", "work"}
_OURS: tuple[str, ...] = ("T", "B", "rest", "keep", "lengths", "row", "t", "b", "j", "early")
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
        starts: Where each state (and input with a history) begins, by its name: what it is some steps
            before the first one, in the order of time.
        names: What each value is called in C.
        ours: What each word of ours is called in C.
        depths: How many steps of an array are there at once, for those that go round in a ring.
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
        self.depths = {carry.state.name: carry.delay + 1 for carry in self.program.carries}

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
        if value.name in self.depths:
            ring = f"{t if t.isidentifier() or t.isdigit() else f'({t})'} % {self.depths[value.name]}"
        return f"{self.ours['keep']} ? {t} : {ring}" if value.name in self.taped else ring

    def step(self, value: Value) -> str:
        """A pointer to the (B, width) array of step ``t``."""
        base, t = self.base.get(value.name, ""), self.ours["t"]
        if value.kind is Kind.PAST:
            state, first, earlier, steps = self.earlier(value)
            begin = self.at(self.base[state.name], self.slot(state, earlier), value)
            return f"{first} ? {self.at(self.starts[state.name], steps, value)} : {begin}"
        if value.kind is Kind.SEED:
            return f"{base} ? {self.at(base, t, value)} : {self.starts[value.name]}"
        if self.home(value) is Home.STEP:
            return base
        return self.step_at(value, t)

    def step_at(self, value: Value, t: str) -> str:
        """A pointer to any step of a value that has a plane or a ring."""
        return self.at(self.base.get(value.name, ""), self.slot(value, t), value)

    def earlier(self, value: Value) -> tuple[Value, str, str, str]:
        """What step ``t`` of a past state is.

        Returns:
            The state, the condition that the step is before the first one, the step itself, and by how many
            steps its place before the first one lies behind the start.
        """
        carry, past = self.program.pasts[value.name]
        t, T, delay = self.ours["t"], self.ours["T"], past.delay
        if self.program.reverse:
            first = f"{t} == {T} - 1" if delay == 1 else f"{t} >= {T} - {delay}"
            return carry.state, first, f"{t} + {delay}", "0" if delay == 1 else f"{t} + {delay} - {T}"
        first = f"{t} == 0" if delay == 1 else f"{t} < {delay}"
        behind = carry.delay - delay
        steps = str(behind) if delay == 1 else f"{t} + {behind}" if behind else t
        return carry.state, first, f"{t} - {delay}", steps

    def first(self, value: Value) -> str:
        """A pointer to what steps read of a past state before the first step, in the order of time."""
        carry, past = self.program.pasts[value.name]
        steps = 0 if self.program.reverse else carry.delay - past.delay
        return self.at(self.starts[carry.state.name], str(steps), value)

    def shift(self, value: Value) -> int:
        """How many steps ahead in time a past state is."""
        _, past = self.program.pasts[value.name]
        return past.delay if self.program.reverse else -past.delay

    def row(self, value: Value) -> str:
        """A pointer to row ``row`` of all T * B rows."""
        row, T, B = (self.ours[word] for word in ("row", "T", "B"))
        size, base = self.stride(value.width), self.base.get(value.name, "")
        if value.kind is Kind.PAST:
            carry, past = self.program.pasts[value.name]
            plane, rows = self.base[carry.state.name], B if past.delay == 1 else f"{past.delay} * {B}"
            if self.program.reverse:
                last = f"({T} - {past.delay}) * {B}"
                begin = offset(self.first(value), f"{row} - {last}", size)
                return f"{row} >= {last} ? {begin} : {offset(plane, f'{row} + {rows}', size)}"
            begin = offset(plane, f"{row} - {rows}", size)
            return f"{row} < {rows} ? {offset(self.first(value), row, size)} : {begin}"
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
