"""The C interface of a cell: its structs, their members with shapes, and its functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gategen.backends.c_names import c_name
from gategen.backends.c_text import comment, head, laid_out, summed
from gategen.calculus.ir import Kind, Value
from gategen.calculus.program import Program
from gategen.language.cell import Cell
from gategen.language.shapes import Width

_SHOWN = 12
"""How many values of a width its comment names."""

Counts = Sequence[tuple[str, str]]
"""Numbers of elements as C expressions, each with the name of the array that has them."""


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
        sizes: Member of every width, by its name.
        params: Member of every parameter, by value name.
        inputs: Member of every input, and of every beginning as ``"start h"``.
        outputs: Member of every output, and of every final state as ``"final h"``.
        lengths: Member of the lengths.
        prefix: How every name begins.
        rules: What holds for the arguments of both passes.
    """

    rules: ClassVar[tuple[str, ...]] = (
        "work: aligned for the type of the elements; holds nothing between calls.",
        "No array that is written may overlap another one.",
        "Returns 0, or 1 if a pointer is NULL that must not be, or a width too small; then nothing was done.",
    )

    cell: Cell
    program: Program
    suffix: str
    ctype: str
    sizes: dict[str, str] = field(default_factory=dict)
    params: dict[str, Member] = field(default_factory=dict)
    inputs: dict[str, Member] = field(default_factory=dict)
    outputs: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prefix = f"gg_{file_name(self.cell)}"
        for width in self.cell.widths:
            self.sizes[width] = c_name(width, {"T", "B", *self.sizes.values()})
        program = self.program
        for value in program.parameters:
            if value.kind in (Kind.PARAMETER, Kind.FROZEN):
                words = [value.shown] if value.shown != value.name else []
                words += ["frozen"] if value.kind is Kind.FROZEN else []
                self._add(self.params, value.name, value.name, self.shape(value), ", ".join(words))
        for value in program.inputs:
            self._add(self.inputs, value.name, value.name, self.shape(value), self._shown(value))
        declared = {carry.state.name: carry.initial for carry in program.carries}
        for name, steps in program.begins.items():
            when = f"{steps} to 1 steps before the first" if steps > 1 else "before the first step"
            shown = f"{self._shown(program.values[name], name)} {when}, NULL for {declared.get(name, 0.0):g}"
            self._add(self.inputs, f"start {name}", f"{name}_initial", self._row(name), shown)
        for value in program.outputs:
            self._add(self.outputs, value.name, value.name, self.shape(value), self._shown(value))
        for name in declared:
            steps = program.begins[name]
            when = f"in the last {steps} steps, oldest first" if steps > 1 else "after the last step"
            self._add(self.outputs, f"final {name}", f"{name}_final", self._row(name), f"{name} {when}")
        self.lengths = c_name("lengths", {member.name for member in self.inputs.values()})

    def _shown(self, value: Value, name: str = "") -> str:
        """How an author would write it, and what a row holds."""
        shown, elements = name or value.shown, self.cell.elements(value.name)
        return f"{shown}, {elements}" if elements else shown

    def _add(self, members: dict[str, Member], key: str, wanted: str, shape: str, meaning: str) -> None:
        name = c_name(wanted, {member.name for member in members.values()})
        members[key] = Member(name, shape, meaning)

    def width(self, width: Width, of: str = "") -> str:
        """A width in members of the struct of sizes, which they may be read from."""
        return str(width.substitute({name: Width.of(of + self.sizes[name]) for name in width.names}))

    def _row(self, name: str) -> str:
        steps, width = self.program.begins[name], self.program.values[name].width
        return f"{f'[{steps}]' if steps > 1 else ''}[B][{self.width(width)}]"

    def shape(self, value: Value) -> str:
        """The C shape of a value's array: ``[T][B][n_h]``, ``[n_h][n_x]``."""
        widths = value.shape if value.timeless and value.shape else (value.width,)
        return ("" if value.timeless else "[T][B]") + "".join(f"[{self.width(width)}]" for width in widths)

    def dims(self) -> str:
        """The struct of sizes."""
        rows = [("int64_t T;", "steps"), ("int64_t B;", "sequences in the batch")]
        for width, members in self.cell.widths.items():
            more = len(members) - _SHOWN
            shown = [*members[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            rows.append((f"int64_t {self.sizes[width]};", f"width of {', '.join(shown) or width}"))
        return _struct(rows, f"{self.prefix}_dims")

    def _pointers(self, kind: str, members: Iterable[Member], *more: tuple[str, str]) -> str:
        rows = [(f"{self.ctype} *{m.name};", f"{m.shape} {m.meaning}".rstrip()) for m in members]
        empty = [] if rows or more else [("char none;", "C has no empty struct")]
        return _struct([*rows, *more, *empty], f"{self.prefix}_{kind}_{self.suffix}")

    def function(self, what: str) -> str:
        """The name of a function."""
        return f"{self.prefix}_{what}_{self.suffix}"

    def head(self, what: str) -> str:
        """The head of a function."""
        dims = f"const {self.prefix}_dims *dims"
        if what.endswith("_size"):
            return head(f"int64_t {self.function(what)}", [dims])
        return head(f"int {self.function(what)}", [dims, *self.arguments(what)])

    def arguments(self, what: str) -> list[str]:
        """The arguments of ``forward`` or ``backward`` behind the sizes."""
        gradients = ["params d_params", "inputs d_inputs"] if what == "backward" else []
        outputs = "outputs d_outputs" if what == "backward" else "outputs outputs"
        structs = []
        for kind, name in map(str.split, ["params params", "inputs inputs", outputs, *gradients]):
            structs.append(f"const {self.prefix}_{kind}_{self.suffix} *{name}")
        return [*structs[:3], f"{self.ctype} *tape", *structs[3:], "void *work"]

    def declarations(self) -> str:
        """Structs and prototypes."""
        lengths = (f"const int64_t *{self.lengths};", "[B] steps of each sequence, NULL for T each")
        return "\n\n".join(
            [
                self._pointers("params", self.params.values()),
                self._pointers("inputs", self.inputs.values(), lengths),
                self._pointers("outputs", self.outputs.values()),
                f"/* The number of elements of a tape. */\n{self.head('tape_size')};",
                f"/* The number of bytes of a workspace, for either pass. */\n{self.head('work_size')};",
                *(f"{self.about(what)}\n{self.head(what)};" for what in ("forward", "backward")),
            ]
        )

    def measure(
        self, what: str, own: Mapping[str, str], sums: Sequence[tuple[str, Counts]], result: str
    ) -> str:
        """A function that tells a size: sums with one summand a line, and the result.

        Args:
            what: The function.
            own: What T and B are called in the sums.
            sums: The sums by name.
            result: An expression of them.
        """
        body = [summed(name, counts) for name, counts in sums]
        names = {own["T"]: "T", own["B"]: "B", **{name: name for name in self.sizes.values()}}
        used = [name for name in names if re.search(rf"\b{name}\b", _code("\n".join(body)))]
        sizes = ", ".join(f"{name} = dims->{names[name]}" for name in used)
        opening = f"const int64_t {sizes};" if used else "(void)dims;"
        lines = "\n".join([opening, *body, f"return {result};"]).splitlines()
        return "\n".join([self.head(what), "{", *(f"    {line}" for line in lines), "}"])

    def definition(self) -> str:
        """The declarations of this dtype, without the preprocessor."""
        return laid_out(f"{self.dims()}\n\n{self.declarations()}")

    def inlined(self, text: str) -> str:
        """A source with these declarations in place of the header."""
        own = f"#include <stdint.h>\n\n{self.definition()}"
        return text.replace(f'#include "{file_name(self.cell)}.h"', own)

    def about(self, what: str) -> str:
        """What a function does and what its arguments are, as a comment."""
        passes = {"forward": _FORWARD, "backward": _BACKWARD}
        return comment([f"{file_name(self.cell)}, {passes[what][0]}", *passes[what][1:], *self.rules])


_FORWARD = (
    "forward over whole sequences; all arrays are row-major.",
    "",
    "params, inputs: what the cell reads.",
    "outputs: results; a NULL member is not wanted. Zero past the end of a sequence.",
    "tape: takes what the backward pass needs; NULL if there will be none.",
)
_BACKWARD = (
    "backward over whole sequences, after a forward pass with the same arguments.",
    "",
    "d_outputs: gradients of the loss with respect to outputs and final states, NULL for zero.",
    "tape: from the forward pass; overwritten.",
    "d_params, d_inputs: gradients are written here; a NULL member is not wanted.",
)


def _struct(rows: Sequence[tuple[str, str]], name: str) -> str:
    wide = max(len(text) for text, _ in rows)
    lines = [f"    {text:{wide}} /* {meaning} */" for text, meaning in rows]
    return "\n".join(["typedef struct {", *lines, f"}} {name};"])


def _code(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def file_name(cell: Cell) -> str:
    """The cell's name as part of names in C; one from the Python interface could hold anything."""
    return re.sub(r"[^A-Za-z0-9_]", "_", cell.name)
