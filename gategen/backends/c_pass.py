"""The nodes of a pass as C: calls of routines for barriers, of functions of their own for islands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gategen.backends.c_arrays import Arrays
from gategen.backends.c_syntax import CWriter
from gategen.backends.c_text import offset, product
from gategen.backends.c_units import Units
from gategen.calculus.ir import (
    Along,
    Apply,
    Contract,
    Extreme,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Value,
    sources,
    writes,
)
from gategen.calculus.program import Program
from gategen.calculus.schedule import product_text
from gategen.language.shapes import Width

ONCE, ALL, STEP = "once", "all", "step"
"""How often a node runs: once for timeless values, for the rows of all steps, or for those of one."""


@dataclass
class NodeWriter:
    """Writes the nodes of one pass in order.

    Attributes:
        arrays: The arrays of this pass.
        single: float32 if true, else float64.
        adjoint: Whether rows past the end of their sequence are left out, as the adjoint must.
        routines: The routines called so far.
        functions: Definitions of the element-wise functions used so far.
        units: Definitions of the fused loops, in the order of their calls.
        done: Values that have a contribution already.
        optional: Gradients that are left out where the caller does not want them.
        transposed: Transposed copies of weights, made once per call.
        copies: Declarations of the copies of parameters.
        late: Declarations of the copies of derived parameters.
    """

    arrays: Arrays
    single: bool
    adjoint: bool
    routines: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    transposed: dict[str, str] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    @property
    def program(self) -> Program:
        """The program that the nodes belong to."""
        return self.arrays.program

    def write(self, nodes: Iterable[Node], often: str) -> list[str]:
        """The lines of some nodes."""
        lines: list[str] = []
        for group in _runs(nodes):
            match group[0]:
                case Contract() as node:
                    lines += self._contract(node, often)
                case OuterRows() as node:
                    lines += self._outer(node, often)
                case Shift() as node:
                    lines += self._shift(node)
                case _:
                    lines += self._rows(group, often)
            self.done.update(value.name for node in group for value in writes(node))
        return lines

    def call(self, routine: str, *arguments: object) -> str:
        """A call of a routine, which becomes part of the file."""
        self.routines.add(routine)
        return f"gg_{routine}({', '.join(map(str, arguments))});"

    def rest(self) -> str:
        """What a routine that takes from the workspace gets."""
        return f"&{self.arrays.ours['rest']}"

    def _array(self, value: Value, often: str) -> str:
        if often != STEP or value.timeless:
            return self.arrays.base[value.name]
        return self.arrays.base[f"step {value.name}"]

    def _contract(self, node: Contract, often: str) -> list[str]:
        arrays, target = self.arrays, node.target
        rows = {ONCE: "1", ALL: product(arrays.ours["T"], arrays.ours["B"]), STEP: arrays.ours["B"]}[often]
        y, width = self._array(target, often), arrays.width(target.width)
        addends = [arrays.base[addend.name] for addend in node.addends]
        text, lines = f"/* {self._sum_text(node, node.target.name not in self.done)} */", []
        if target.name not in self.done:
            lines.append(self.call("fill", rows, width, addends.pop(0) if addends else "NULL", y))
        lines += [self.call("add", rows, width, addend, y) for addend in addends]
        for part in node.products:
            outputs, inputs = map(arrays.width, part.weight.shape)
            start = part.block.start if part.block else Width()
            if part.transposed:
                matrix, depth, stride = arrays.base[part.weight.name], outputs, inputs
                matrix = offset(matrix, arrays.width(start))
            else:
                depth, stride = arrays.width(part.block.size) if part.block else inputs, outputs
                matrix = offset(self._transpose(part.weight), arrays.width(start), outputs)
            sizes = (depth, width, stride)
            if often == ALL and part.operand.kind is Kind.PAST:
                lines += self._past_product(part.operand, sizes, matrix, y, target)
            else:
                lines.append(self.call("product", rows, *sizes, self._array(part.operand, often), matrix, y))
        if target.name in self.optional:
            return [text, f"if ({y}) {{", *(f"    {line}" for line in lines), "}"]
        return [text, *lines]

    def _past_product(
        self, past: Value, sizes: tuple[str, ...], matrix: str, y: str, target: Value
    ) -> list[str]:
        """A product over all steps with a past state: the first steps' stands apart."""
        arrays, (carry, delayed) = self.arrays, self.program.pasts[past.name]
        T, B, early = arrays.ours["T"], arrays.ours["B"], str(delayed.delay)
        plane, start = arrays.base[carry.state.name], arrays.first(past)
        opening, lines = f"if ({T} > 0) {{", []
        if delayed.delay > 1:
            early, opening = arrays.ours["early"], "{"
            lines = [f"const int64_t {early} = {T} < {delayed.delay} ? {T} : {delayed.delay};"]
        some, most = product(early, B), product(f"{T} - {early}", B)
        calls = [(some, start, y), (most, plane, arrays.at(y, early, target))]
        if self.program.reverse:
            if delayed.delay > 1:
                # A short sequence reads only the last of what it starts from.
                start = arrays.at(start, f"{delayed.delay} - {early}", past)
            ahead = arrays.at(plane, str(delayed.delay), past)
            calls = [(most, ahead, y), (some, start, arrays.at(y, f"{T} - {early}", target))]
        lines += [self.call("product", rows, *sizes, x, matrix, into) for rows, x, into in calls]
        return [opening, *(f"    {line}" for line in lines), "}"]

    def _sum_text(self, node: Contract, fresh: bool) -> str:
        parts = [value.shown for value in node.addends]
        parts += [product_text(p.weight, p.operand, p.transposed) for p in node.products]
        return f"{node.target.name} {'=' if fresh else '+='} {' + '.join(parts)}"

    def _transpose(self, weight: Value) -> str:
        if weight.name not in self.transposed:
            arrays, (rows, columns) = self.arrays, map(self.arrays.width, weight.shape)
            name = arrays.new(f"{weight.name}_T")
            arrays.count(name, rows, columns)
            call = self.call("transposed", self.rest(), rows, columns, arrays.base[weight.name])
            (self.late if weight.kind is Kind.DERIVED else self.copies).append(f"const real *{name} = {call}")
            self.transposed[weight.name] = name
        return self.transposed[weight.name]

    def _outer(self, node: OuterRows, often: str) -> list[str]:
        arrays, ours, right = self.arrays, self.arrays.ours, node.right
        n, m = arrays.width(node.left.width), arrays.width(right.width)
        target, stride = arrays.base[node.target.name], arrays.width(node.target.shape[1])
        if node.block and node.block.start != Width():
            target = f"{target} ? {offset(target, arrays.width(node.block.start))} : NULL"
        text = f"/* {node.target.name} += outer({node.left.name}, {right.shown})"
        if often == ONCE:
            head = ("1", "1", "NULL", n, m, stride, arrays.base[node.left.name])
            return [f"{text} */", self.call("outer", *head, arrays.base[right.name], "0", "NULL", target)]
        source, shift, start = right.name, 0, "NULL"
        if right.kind is Kind.PAST:
            source, shift = self.program.pasts[right.name][0].state.name, arrays.shift(right)
            start = arrays.first(right)
        head = (ours["T"], ours["B"], ours["lengths"], n, m, stride, arrays.base[node.left.name])
        call = self.call("outer", *head, arrays.base[source], shift, start, target)
        return [f"{text}, over all steps */", call]

    def _shift(self, node: Shift) -> list[str]:
        ours, width = self.arrays.ours, self.arrays.width(node.target.width)
        target, source = self.arrays.base[node.target.name], self.arrays.base[node.source.name]
        history = self.arrays.starts.get(node.source.name) if self.program.history(node) else None
        sign = "+=" if node.target.name in self.done else "="
        lines = [f"/* {node.target.name} {sign} {node.source.name}[t{node.offset:+d}] */"]
        if node.target.name not in self.done:
            lines.append(self.call("clear", self.arrays.plane_size(node.target), target))
        head = (ours["T"], ours["B"], width, node.offset, ours["lengths"])
        depth = self.program.begins[node.source.name] if history else 0
        lines.append(self.call("shift", *head, source, depth, history or "NULL", target))
        return lines

    def _rows(self, nodes: Sequence[Node], often: str) -> list[str]:
        """What is done row by row: one loop, in which each row goes through all of the nodes."""
        ours = self.arrays.ours
        calls: list[str] = []
        clears: list[str] = []
        for node in nodes:
            made, skipped = self._row_calls(node, often)
            calls, clears = [*calls, *made], [*clears, *skipped]
            self.done.update(value.name for value in writes(node))
        if often == ONCE or not calls:
            return calls
        index, last = (ours["row"], product(ours["T"], ours["B"])) if often == ALL else (ours["b"], ours["B"])
        lines = [f"for (int64_t {index} = 0; {index} < {last}; {index}++) {{"]
        if self.adjoint:
            t, b = ours["t"], index
            if often == ALL:
                t, b = f"{index} / {ours['B']}", f"{index} % {ours['B']}"
            lines.append(f"    if ({ours['lengths']} && {t} >= {ours['lengths']}[{b}]) {{")
            lines += (f"        {clear}" for clear in clears)
            lines += ["        continue;", "    }"]
        return [*lines, *(f"    {call}" for call in calls), "}"]

    def _row_calls(self, node: Node, often: str) -> tuple[list[str], list[str]]:
        """The calls for one row of a node, and those instead where its sequence has ended."""
        if isinstance(node, Along):
            return self._along(node, often)
        assert isinstance(node, (Island, Reduce, SumRows))
        island = node if isinstance(node, Island) else Island((node,))
        units = Units(self.program, self.arrays, island, self.done, self.adjoint)
        if not units.assigns:
            return [], []
        writer = CWriter(self.single, units.element, self.functions)
        if often == ONCE:
            return units.lines(writer), []
        name = self._named(units, writer)
        rows = {value.name: self._row(value, often) for value in units.moving}
        given = [rows.get(value.name) or self.arrays.base[value.name] for value in units.arguments]
        clears = [self.clear_row(value, self._row(value, often)) for value in units.fresh]
        return [f"{name}({', '.join([*units.sizes, *given])});"], clears

    def _along(self, node: Along, often: str) -> tuple[list[str], list[str]]:
        """The same for what a routine does."""
        target = self._row(node.target, often)
        clears = [] if node.target.name in self.done else [self.clear_row(node.target, target)]
        call = self._routine(node, target, lambda value: self._row(value, often))
        if node.target.name in self.optional:
            clears, call = [f"if ({target}) {{ {line} }}" for line in clears], f"if ({target}) {{ {call} }}"
        return [call] if isinstance(node, Extreme) else [*clears, call], clears

    def _routine(self, node: Along, target: str, row: Callable[[Value], str]) -> str:
        """The call of the routine for one row.

        No routine asks inside its loops whether an operand is there: GCC 12 vectorizes that wrongly for some
        constant sizes.
        """
        width = self.arrays.width
        match node:
            case Extreme() | Scan():
                which = node.largest if isinstance(node, Extreme) else node.back
                routine = "extreme" if isinstance(node, Extreme) else "scan"
                if node.shape:
                    routine = f"{'column' if node.transposed else 'row'}_{routine}s"
                units = node.shape or (node.source.width,)
                return self.call(routine, *map(width, units), int(which), row(node.source), target)
            case Move():
                source, into = row(node.source), target
                if node.start != Width():
                    source = offset(source, width(node.start))
                if node.into != Width():
                    into = offset(into, width(node.into))
                return self.call("move", width(node.size), source, into)
            case Outer():
                sides = [row(value) for value in (node.left, node.right) if value is not None]
                routine = "spread" if len(sides) == 2 else "each_row" if node.left is None else "each_column"
                return self.call(routine, *map(width, node.shape), *sides, target)
            case Apply():
                plain, turned = ("row_sums", "column_sums") if node.vector is None else ("apply", "apply_T")
                routine = turned if node.transposed else plain
                return self.call(routine, *map(width, node.shape), *map(row, sources(node)), target)
            case Turn():
                return self.call("turn", *map(width, node.source.shape), row(node.source), target)
        return self.call("identity", width(node.target.shape[0]), target)

    def clear_row(self, value: Value, row: str) -> str:
        """A call that sets one row of a value to zero."""
        return self.call("clear", self._units(value), row)

    def _units(self, value: Value) -> str:
        """How many units one row of a value has; a matrix of parameters is one."""
        return self.arrays.elements(value.shape) if len(value.shape) == 2 else self.arrays.width(value.width)

    def _named(self, units: Units, writer: CWriter) -> str:
        """The name of a fused loop, which becomes a function of the file."""
        number = f"_{len(self.units) + 1}" if self.units else ""
        name = f"gg_{'backward' if self.adjoint else 'forward'}_units{number}"
        self.units.append(units.text(name, writer))
        return name

    def _row(self, value: Value, often: str) -> str:
        if often == ONCE:
            return self.arrays.base[value.name]
        if often == ALL:
            return self.arrays.row(value)
        return offset(self._array(value, often), self.arrays.ours["b"], self.arrays.stride(value.width))


def _runs(nodes: Iterable[Node]) -> list[list[Node]]:
    """Nodes that are done row by row together; others alone."""
    runs: list[list[Node]] = []
    joins = False
    for node in nodes:
        by_row = not isinstance(node, (Contract, OuterRows, Shift))
        if joins and by_row:
            runs[-1].append(node)
        else:
            runs.append([node])
        joins = by_row
    return runs
