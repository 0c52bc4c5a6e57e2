"""The C interface of a cell: its structs, their members with shapes, and its functions."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gategen.backends.c_syntax import c_name
from gategen.calculus.ir import Kind, Program, Shift, Value
from gategen.language.cell import Cell


def histories(program: Program) -> list[Shift]:
    """The shifts that read an input's past; its value before the sequence comes from the caller."""
    return [node for node in program.step if isinstance(node, Shift) and program.history(node)]


def shape_text(value: Value) -> str:
    """The C shape of a value's array: ``[T][B][n_h]``, ``[n_h][n_x]``."""
    widths = value.shape if value.timeless and value.shape else (value.width,)
    return ("" if value.timeless else "[T][B]") + "".join(f"[{width}]" for width in widths)


@dataclass(frozen=True)
class Member:
    """One pointer of a struct."""

    name: str
    shape: str
    meaning: str


@dataclass
class Interface:
    """Names and texts of one cell's C interface for one dtype.

    Attributes:
        params: Member of every parameter, by value name.
        inputs: Member of every input, and of every beginning as ``"start h"``.
        outputs: Member of every output, and of every final state as ``"final h"``.
    """

    cell: Cell
    program: Program
    suffix: str
    ctype: str
    params: dict[str, Member] = field(default_factory=dict)
    inputs: dict[str, Member] = field(default_factory=dict)
    outputs: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prefix = f"gg_{self.cell.name}"
        program = self.program
        for value in program.parameters:
            if value.kind in (Kind.PARAMETER, Kind.FROZEN):
                self._add(self.params, value.name, value.name, shape_text(value), value.kind.value)
        for value in program.inputs:
            self._add(self.inputs, value.name, value.name, shape_text(value), f"input {value.shown}")
        for value in [c.state for c in program.carries] + [s.source for s in histories(program)]:
            meaning = f"{value.name} before the first step, NULL for its declared value"
            self._add(
                self.inputs, f"start {value.name}", f"{value.name}_initial", f"[B][{value.width}]", meaning
            )
        for value in program.outputs:
            self._add(
                self.outputs, value.name, value.name, shape_text(value), "zero past the end of a sequence"
            )
        for carry in program.carries:
            name, width = carry.state.name, carry.state.width
            self._add(
                self.outputs, f"final {name}", f"{name}_final", f"[B][{width}]", f"{name} after the last step"
            )
        self.lengths = c_name("lengths", {member.name for member in self.inputs.values()})

    def _add(self, members: dict[str, Member], key: str, wanted: str, shape: str, meaning: str) -> None:
        name = c_name(wanted, {member.name for member in members.values()})
        members[key] = Member(name, shape, meaning)

    def dims(self) -> str:
        """The struct of sizes."""
        sizes = [("T", "steps"), ("B", "sequences in the batch")]
        sizes += [(width, f"width of {', '.join(of) or width}") for width, of in self.cell.widths.items()]
        lines = [f"    int64_t {name}; /* {meaning} */" for name, meaning in sizes]
        return "\n".join(["typedef struct {", *lines, f"}} {self.prefix}_dims;"])

    def _struct(self, kind: str, members: Iterable[Member], extra: tuple[str, ...] = ()) -> str:
        lines = [f"    {self.ctype} *{m.name}; /* {m.shape} {m.meaning} */" for m in members]
        lines = [*lines, *extra] or ["    char nothing;"]
        return "\n".join(["typedef struct {", *lines, f"}} {self.prefix}_{kind}_{self.suffix};"])

    def _argument(self, kind: str, name: str) -> str:
        return f"const {self.prefix}_{kind}_{self.suffix} *{name}"

    def function(self, what: str) -> str:
        """The name of a function."""
        return f"{self.prefix}_{what}_{self.suffix}"

    def arguments(self, what: str) -> list[str]:
        """The arguments of ``forward`` or ``backward``."""
        first = [
            f"const {self.prefix}_dims *dims",
            self._argument("params", "params"),
            self._argument("inputs", "inputs"),
        ]
        if what == "forward":
            return [*first, self._argument("outputs", "outputs"), f"{self.ctype} *tape", "void *work"]
        return [
            *first,
            self._argument("outputs", "d_outputs"),
            f"{self.ctype} *tape",
            self._argument("params", "d_params"),
            self._argument("inputs", "d_inputs"),
            "void *work",
        ]

    def declarations(self) -> str:
        """Structs and prototypes."""
        lengths = f"    const int64_t *{self.lengths}; /* [B] steps of each sequence, NULL for T each */"
        size = f"const {self.prefix}_dims *dims"
        comments = {
            "forward": self.about_forward(),
            "backward": self.about_backward(),
        }
        prototypes = [
            f"/*\n * {chr(10).join(comments[what]).replace(chr(10), chr(10) + ' * ')}\n */\n"
            f"int {self.function(what)}({f',{chr(10)}    '.join(self.arguments(what))});"
            for what in ("forward", "backward")
        ]
        return "\n\n".join(
            [
                self._struct("params", self.params.values()),
                self._struct("inputs", self.inputs.values(), (lengths,)),
                self._struct("outputs", self.outputs.values()),
                f"/* The number of elements of a tape. */\nint64_t {self.function('tape_size')}({size});",
                f"/* The bytes of a workspace, for either pass. */\n"
                f"int64_t {self.function('work_size')}({size});",
                *prototypes,
            ]
        )

    def work_size(self, forward: Sequence[str], backward: Sequence[str]) -> str:
        """The function that tells the bytes of a workspace."""
        sums = [
            f"const int64_t {name} =\n        {' + '.join(counts) or 0};"
            for name, counts in (("forward", forward), ("backward", backward))
        ]
        body = "\n    ".join(textwrap.fill(text, 110, subsequent_indent="        ") for text in sums)
        names = [("T", "T"), ("B", "B"), *((width, width) for width in self.cell.widths)]
        sizes = [f"{n} = dims->{m}" for n, m in names if re.search(rf"\b{re.escape(n)}\b", body)]
        opening = f"const int64_t {', '.join(sizes)};" if sizes else "(void)dims;"
        size = f"(forward > backward ? forward : backward) * (int64_t)sizeof({self.ctype})"
        head = f"int64_t {self.function('work_size')}(const {self.prefix}_dims *dims)"
        return f"{head}\n{{\n    {opening}\n    {body}\n    return {size};\n}}"

    def about_forward(self) -> tuple[str, ...]:
        """What the forward function does."""
        return (
            f"{self.cell.name}, forward over whole sequences; arrays are row-major, time first.",
            "outputs: a NULL member is not wanted.",
            "tape: what the backward pass needs, or NULL when there will be none.",
            "work: aligned for the element type; holds nothing between calls.",
            "Returns 0, or 1 if a pointer is NULL that must not be.",
        )

    def about_backward(self) -> tuple[str, ...]:
        """What the backward function does."""
        return (
            f"{self.cell.name}, backward over whole sequences, after a forward pass with the same arguments.",
            "d_outputs: gradients of the loss with respect to outputs and final states, NULL for zero.",
            "tape: from the forward pass; overwritten.",
            "d_params, d_inputs: gradients are written here, a NULL member is not wanted.",
            "Returns 0, or 1 if a pointer is NULL that must not be.",
        )
