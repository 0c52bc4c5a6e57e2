"""The nodes of a pass as C: calls of routines for barriers, fused loops for islands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gategen.backends.c_arrays import Arrays, count_text
from gategen.backends.c_syntax import CWriter
from gategen.backends.render import render
from gategen.calculus.ir import (
    Contract,
    Island,
    Kind,
    Node,
    OuterRows,
    Program,
    Reduce,
    Shift,
    SumRows,
    Value,
    writes,
)
from gategen.calculus.schedule import product_text
from gategen.calculus.storage import Home
from gategen.language.shapes import Width

ONCE, ALL, STEP = "once", "all", "step"
"""How often a node runs: once for timeless values, for the rows of all steps, or for those of one."""


@dataclass(frozen=True)
class IslandView:
    """One fused element-wise loop, ready to be laid out."""

    rows: str
    pointers: tuple[str, ...]
    inactive: str
    skipped: tuple[str, ...]
    unit: str
    width: str
    statements: tuple[str, ...]


def _factor(text: str) -> str:
    return text if text.isidentifier() or text.isdigit() else f"({text})"


@dataclass
class NodeWriter:
    """Writes the nodes of one pass in order.

    Attributes:
        arrays: The arrays of this pass.
        single: float32 if true, else float64.
        adjoint: Whether rows past the end of their sequence are left out, as the adjoint must.
        routines: The routines called so far.
        functions: Definitions of the element-wise functions used so far.
        done: Values that have a contribution already.
        transposed: Transposed copies of weights, made once per call.
        late: Copies to be made once the derived parameters are known.
    """

    arrays: Arrays
    single: bool
    adjoint: bool
    routines: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    transposed: dict[str, str] = field(default_factory=dict)
    late: list[str] = field(default_factory=list)

    @property
    def program(self) -> Program:
        """The program that the nodes belong to."""
        return self.arrays.program

    def write(self, nodes: Iterable[Node], often: str) -> list[str]:
        """The lines of some nodes."""
        lines: list[str] = []
        for node in nodes:
            match node:
                case Island():
                    lines += self._island(node, often)
                case Reduce() | SumRows():
                    lines += self._island(Island((node,)), often)
                case Contract():
                    lines += self._contract(node, often)
                case OuterRows():
                    lines += self._outer(node, often)
                case Shift():
                    lines += self._shift(node)
            self.done.update(value.name for value in writes(node))
        return lines

    def call(self, routine: str, *arguments: object) -> str:
        """A call of a routine, which becomes part of the file."""
        self.routines.add(routine)
        return f"gg_{routine}({', '.join(map(str, arguments))});"

    def _array(self, value: Value, often: str) -> str:
        if often != STEP or value.timeless:
            return self.arrays.base[value.name]
        return self.arrays.base[f"step {value.name}"]

    def _contract(self, node: Contract, often: str) -> list[str]:
        ours, target = self.arrays.ours, node.target
        rows = {ONCE: "1", ALL: f"{ours['T']} * {ours['B']}", STEP: ours["B"]}[often]
        y, width = self._array(target, often), target.width
        addends = [self.arrays.base[addend.name] for addend in node.addends]
        lines = [f"/* {self._sum_text(node)} */"]
        if target.name not in self.done:
            lines.append(self.call("fill", rows, width, addends.pop(0) if addends else "NULL", y))
        lines += [self.call("add", rows, width, addend, y) for addend in addends]
        for product in node.products:
            outputs, inputs = product.weight.shape
            start, size = Width(), inputs
            if product.block:
                start, size = product.block.start, product.block.size
            if product.transposed:
                matrix, depth, stride = self.arrays.base[product.weight.name], outputs, inputs
                matrix += f" + {start}" if start != Width() else ""
            else:
                matrix, depth, stride = self._transpose(product.weight), size, outputs
                matrix += f" + ({start}) * {count_text((outputs,))}" if start != Width() else ""
            for count, first, x in self._parts(product.operand, rows, often):
                out = y if first == "0" else f"{y} + {_factor(first)} * {self.arrays.step_size(target)}"
                lines.append(self.call("product", count, depth, width, stride, x, matrix, out))
        return lines

    def _parts(self, value: Value, rows: str, often: str) -> list[tuple[str, str, str]]:
        if often == ALL:
            return self.arrays.segments(value)
        return [(rows, "0", self._array(value, often))]

    def _sum_text(self, node: Contract) -> str:
        parts = [value.shown for value in node.addends]
        parts += [product_text(p.weight, p.operand, p.transposed) for p in node.products]
        return f"{node.target.name} {'+=' if node.target.name in self.done else '='} {' + '.join(parts)}"

    def _transpose(self, weight: Value) -> str:
        if weight.name not in self.transposed:
            rows, columns = weight.shape
            name = self.arrays.take(self.arrays.new(f"{weight.name}_T"), count_text(weight.shape))
            call = self.call("transpose", rows, columns, self.arrays.base[weight.name], name)
            (self.late if weight.kind is Kind.DERIVED else self.arrays.lines).append(call)
            self.transposed[weight.name] = name
        return self.transposed[weight.name]

    def _outer(self, node: OuterRows, often: str) -> list[str]:
        ours, (n, m) = self.arrays.ours, (node.left.width, node.right.width)
        target, stride = self.arrays.base[node.target.name], node.target.shape[1]
        if node.block and node.block.start != Width():
            target = f"{target} ? {target} + {node.block.start} : NULL"
        left = self.arrays.base[node.left.name]
        if often == ONCE:
            return [
                self.call(
                    "outer", 1, 0, 1, "NULL", n, m, stride, left, self.arrays.base[node.right.name], target
                )
            ]
        lines = [f"/* {node.target.name} += outer({node.left.name}, {node.right.shown}), over all steps */"]
        for count, first, right in self.arrays.segments(node.right):
            begin = (
                left if first == "0" else f"{left} + {_factor(first)} * {self.arrays.step_size(node.left)}"
            )
            head = (count, first, ours["B"], ours["lengths"], n, m, stride)
            lines.append(self.call("outer", *head, begin, right, target))
        return lines

    def _shift(self, node: Shift) -> list[str]:
        ours, width = self.arrays.ours, node.target.width
        target, source = self.arrays.base[node.target.name], self.arrays.base[node.source.name]
        history = self.arrays.starts.get(node.source.name) if self.program.history(node) else None
        sign = "+=" if node.target.name in self.done else "="
        lines = [f"/* {node.target.name} {sign} {node.source.name}[t{node.offset:+d}] */"]
        if node.target.name not in self.done:
            lines.append(self.call("clear", self.arrays.plane_size(node.target), target))
        head = (ours["T"], ours["B"], width, node.offset, ours["lengths"])
        lines.append(self.call("shift", *head, source, history or "NULL", target))
        return lines

    def _island(self, island: Island, often: str) -> list[str]:
        arrays, ours = self.arrays, self.arrays.ours
        touched: dict[str, Value] = {}
        for assign in island.assigns:
            for value in (*self.program.read(assign.expr), assign.target):
                touched.setdefault(value.name, value)
        moving = [v for v in touched.values() if not v.timeless and arrays.home(v) is not Home.REGISTER]
        written = {value.name for value in writes(island)}
        fresh = [value for value in moving if value.name in written - self.done]
        pointers = [self._row_pointer(value, often, value.name in written) for value in moving]
        pointers += [f"{arrays.names[v.name]}[0] = 0;" for v in fresh if v.shape != island.shape]
        skip = self.adjoint and often != ONCE
        zeroed = [self._zero(value) for value in fresh if value.shape == island.shape]
        t, b, row = ours["t"], ours["b"], ours["row"]
        T, B, lengths = ours["T"], ours["B"], ours["lengths"]
        rows, inactive = "", ""
        if often == ALL:
            rows = f"for (int64_t {row} = 0; {row} < {T} * {B}; {row}++) "
            inactive = f"{lengths} && {row} / {B} >= {lengths}[{row} % {B}]"
        elif often == STEP:
            rows = f"for (int64_t {b} = 0; {b} < {B}; {b}++) "
            inactive = f"{lengths} && {t} >= {lengths}[{b}]"
        view = IslandView(
            rows=rows,
            pointers=tuple(pointers),
            inactive=inactive,
            skipped=(tuple(zeroed) or ("/* nothing to hand on */",)) if skip else (),
            unit=ours["j"],
            width=count_text(island.shape),
            statements=tuple(self._statements(island)),
        )
        return render("c/island.c.j2", view).rstrip().splitlines()

    def _row_pointer(self, value: Value, often: str, written: bool) -> str:
        constant = "" if written else "const "
        if often == ALL:
            begin = self.arrays.row(value)
        else:
            begin = f"{self._array(value, often)} + {self.arrays.ours['b']} * {count_text((value.width,))}"
        return f"{constant}real *{self.arrays.names[value.name]} = {begin};"

    def _zero(self, value: Value) -> str:
        self.routines.add("clear")
        return f"gg_clear({value.width}, {self.arrays.names[value.name]});"

    def _statements(self, island: Island) -> list[str]:
        writer = CWriter(self.single, self.element, self.functions)
        lines: list[str] = []
        origin, begun = -1, set(self.done)
        repeated = [assign.target.name for assign in island.assigns]
        for assign in island.assigns:
            if assign.origin not in (origin, -1):
                equation = self.program.equations[assign.origin]
                lines.append(f"/* {'from ' if self.adjoint else ''}{equation} */")
            origin, name = assign.origin, assign.target.name
            summed = isinstance(assign, (Reduce, SumRows)) or name in begun
            kind = ""
            if self.arrays.home(assign.target) is Home.REGISTER and name not in begun:
                kind = "real " if repeated.count(name) > 1 else "const real "
            text = writer.write(assign.expr)
            lines.append(f"{kind}{self.element(name)} {'+=' if summed else '='} {text};")
            begun.add(name)
        return lines

    def element(self, name: str) -> str:
        """How one element of a value is spelled inside a loop."""
        value, own = self.program.values[name], self.arrays.names[name]
        if value.kind in (Kind.CONSTANT, Kind.SIZE) or self.arrays.home(value) is Home.REGISTER:
            return own
        base = self.arrays.base[name] if value.timeless else own
        return f"{base}[{self.arrays.ours['j'] if value.shape else 0}]"
