"""The nodes of a pass as fast C.

Before and after the loop a thread has a share of all rows, in the loop its own sequences; sums over rows
are shared by units. A thread waits for the others where the next node reads what they make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gategen.backends.c_fast_products import ProductWriter
from gategen.backends.c_fast_units import FastUnits
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_syntax import CWriter
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import (
    Along,
    Apply,
    Assign,
    Contract,
    Island,
    Kind,
    Node,
    Outer,
    OuterRows,
    Reduce,
    Shift,
    SumRows,
    Value,
    writes,
)
from gategen.language.shapes import Width


@dataclass
class FastNodeWriter(ProductWriter):
    """Writes the nodes of one pass in order.

    Attributes:
        sums: For sums over rows inside the loop: an array with one sum for each sequence.
        tiles: For outer products, by the units of the left sides: an array that these may be packed in,
            and how many there are at most.
    """

    sums: dict[str, str] = field(default_factory=dict)
    tiles: dict[str, tuple[str, int]] = field(default_factory=dict)

    def write(self, nodes: Iterable[Node], often: str) -> list[str]:
        """The lines of some nodes."""
        lines: list[str] = []
        shared: str | None = None
        for group in self._groups(nodes, often):
            first = group[0]
            kind = "all" if often != ALL else self._sharing(group)
            if shared not in (None, kind):
                lines.append(self.wait())
            shared = kind
            match first:
                case Contract():
                    lines += self.product([node for node in group if isinstance(node, Contract)], often)
                case OuterRows():
                    lines += self._outers([node for node in group if isinstance(node, OuterRows)], often)
                case Shift():
                    lines += self._shift(first)
                case SumRows() if self._is_plain(first, often):
                    lines += self._sum(first)
                case _:
                    lines += self._rows(group, often)
            self.done.update(value.name for node in group for value in writes(node))
            if often == STEP:
                lines.append(self.meet())
        return lines

    def wait(self) -> str:
        """All threads meet."""
        return f"gg_wait({self.arrays.ours['team']}, {self.arrays.ours['size']});"

    def meet(self) -> str:
        """All threads meet that share the units of a step."""
        return f"gg_wait({self.arrays.ours['team']}, {self.arrays.ours['crew']});"

    def number_groups(self, loop: Sequence[Node]) -> None:
        """Let products that are one call in the loop be one call before it, with the same weights."""
        for number, group in enumerate(self._groups(loop, STEP)):
            for node in group:
                if id(node) in self.merges:
                    self.merges[id(node)].group = number

    def _groups(self, nodes: Iterable[Node], often: str) -> list[list[Node]]:
        """Nodes that become one call: products of the same operands, outer products with the same right."""
        groups: list[list[Node]] = []
        for node in self._simple(nodes, often):
            group = None if often == ONCE else self._joined(groups, node, often)
            if group is None:
                groups.append([node])
            else:
                group.append(node)
        return groups

    def _joined(self, groups: Sequence[list[Node]], node: Node, often: str) -> list[Node] | None:
        """The group that a node joins: the last one, or an earlier one if nothing stands in the way."""
        reads = {value.name for value in self.program.reads(node)}
        made = {value.name for value in writes(node)}
        for group in reversed(groups):
            if self._joins(group, node, often):
                return group
            known = {value.name for other in group for value in self.program.reads(other)}
            changed = {value.name for other in group for value in writes(other)}
            free = isinstance(node, OuterRows) or (often == ALL and id(node) in self.merges)
            if not free or made & (known | changed) or reads & changed:
                break
        return None

    def _joins(self, group: Sequence[Node], node: Node, often: str) -> bool:
        first = group[0]
        if self._is_by_row(first, often) and self._is_by_row(node, often):
            return True
        if isinstance(first, Contract) and isinstance(node, Contract):
            made = {value.name for other in group for value in writes(other)}
            known = {node.target.name, *(value.name for value in self.program.reads(node))}
            return self.signature(first, often) == self.signature(node, often) and made.isdisjoint(known)
        if isinstance(first, OuterRows) and isinstance(node, OuterRows):
            # Two contributions to the same place must not stand in one call.
            targets = {(other.target.name, other.block) for other in group if isinstance(other, OuterRows)}
            return (
                first.right == node.right
                and first.left.shape == node.left.shape
                and first.target.shape == node.target.shape
                and (node.target.name, node.block) not in targets
            )
        return False

    def _outers(self, nodes: Sequence[OuterRows], often: str) -> list[str]:
        """One call for outer products with the same right side, which is packed once."""
        arrays, ours, right = self.arrays, self.arrays.ours, nodes[0].right
        n, m = arrays.width(nodes[0].left.width), arrays.width(right.width)
        stride = arrays.width(nodes[0].target.shape[1])
        targets = []
        for node in nodes:
            target = arrays.base[node.target.name]
            if node.block and node.block.start != Width():
                target = f"{target} ? {offset(target, arrays.width(node.block.start))} : NULL"
            targets.append(target)
        source, shift, start = right.name, "0", "NULL"
        if right.kind is Kind.PAST:
            source, shift = self.program.pasts[right.name][0].state.name, str(arrays.shift(right))
            start = arrays.first(right)
        rows = (ours["T"], ours["B"], ours["lengths"])
        threads = (ours["rank"], ours["size"])
        if often == ONCE:
            rows, threads = ("1", "1", "NULL"), ("0", "1")
        head = (*rows, n, m, stride, str(len(nodes)), ours["left"])
        given = (arrays.base[source], shift, start, ours["into"], self._tiles(n, len(nodes)))
        lefts = ", ".join(arrays.base[node.left.name] for node in nodes)
        over = "" if often == ONCE else ", over all steps"
        return [
            *(f"/* {node.target.name} += outer({node.left.name}, {right.shown}){over} */" for node in nodes),
            "{",
            f"    const real *const {ours['left']}[] = {{{lefts}}};",
            f"    real *const {ours['into']}[] = {{{', '.join(targets)}}};",
            f"    {self.call('outer', *head, *given, *threads)}",
            "}",
        ]

    def _tiles(self, n: str, targets: int) -> str:
        """Where outer products may pack left sides of so many units, one call after the other."""
        name, most = self.tiles.get(n) or (self.arrays.new("tiles"), 0)
        self.tiles[n] = name, max(targets, most)
        return name

    def _sum(self, node: SumRows) -> list[str]:
        """The sum of a plane over all rows."""
        arrays, ours, source = self.arrays, self.arrays.ours, self.program.read(node.expr)[0]
        head = (ours["T"], ours["B"], ours["lengths"], arrays.width(node.target.width))
        plane, target = arrays.base[source.name], arrays.base[node.target.name]
        text = f"/* {node.target.name} += {source.name}, over all steps */"
        return [text, self.call("sum", *head, plane, target, ours["rank"], ours["size"])]

    def _shift(self, node: Shift) -> list[str]:
        arrays, ours, width = self.arrays, self.arrays.ours, self.arrays.width(node.target.width)
        target, source = arrays.base[node.target.name], arrays.base[node.source.name]
        history = arrays.starts.get(node.source.name) if self.program.history(node) else None
        sign = "+=" if node.target.name in self.done else "="
        lines = [f"/* {node.target.name} {sign} {node.source.name}[t{node.offset:+d}] */"]
        if node.target.name not in self.done:
            row = arrays.stride(node.target.width)
            span = (product(ours["low"], row), product(ours["high"], row))
            lines.append(self.call("clear", *span, target))
        head = (ours["low"], ours["high"], ours["T"], ours["B"], width, node.offset, ours["lengths"])
        depth = self.program.begins[node.source.name] if history else 0
        return [*lines, self.call("shift", *head, source, depth, history or "NULL", target)]

    def _rows(self, nodes: Sequence[Node], often: str) -> list[str]:
        """What is done row by row; where rows are summed up, each goes through all of the nodes in turn."""
        if often == STEP and not any(map(_goes_along, nodes)):
            return self._shared_rows(nodes)
        ours = self.arrays.ours
        calls: list[str] = []
        clears: list[str] = []
        summed = False
        for node in nodes:
            made, skipped = self._row_calls(node, often)
            calls, clears = [*calls, *made], [*clears, *skipped]
            summed = summed or self._sharing([node]) == "sequences"
            self.done.update(value.name for value in writes(node))
        if often == ONCE or not calls:
            return calls
        body = [*self._skipped(clears, often), *calls]
        if often == ALL:
            return self._over_all(summed, body)
        low, high = (
            f"gg_share({ours['rows']}, {i}, {ours['crew']})" for i in (ours["place"], f"{ours['place']} + 1")
        )
        return _loop(ours["b"], low, high, body)

    def _row_calls(self, node: Node, often: str) -> tuple[list[str], list[str]]:
        """The calls for one row of a node, and those instead where its sequence has ended."""
        if isinstance(node, Along):
            return self._along(node, often)
        arrays = self.arrays
        units = self._units_of(node)
        if not units.assigns:
            return [], []
        writer = CWriter(self.single, units.element, self.functions)
        if often == ONCE:
            if not units.is_vectorized:
                return units.lines(writer), []
            count = f"const int64_t {arrays.ours['units']} = {arrays.width(units.island.shape[0])};"
            return ["{", *(f"    {line}" for line in [count, *units.lines(writer)]), "}"], []
        rows = self._pointers(units, often, shared=False)
        return [self._call_of(units, writer, rows)], self._clears(units, often, rows, shared=False)

    def _along(self, node: Along, often: str) -> tuple[list[str], list[str]]:
        """The calls of a routine for one row; what it multiplies is work for threads."""
        if isinstance(node, (Outer, Apply)):
            self.work.append(product(*map(self.arrays.width, node.shape)))
        return super()._along(node, often)

    def _shared_rows(self, nodes: Sequence[Node]) -> list[str]:
        """Rows of one step, whose units threads may share."""
        ours = self.arrays.ours
        lines: list[str] = []
        for node in nodes:
            units = self._units_of(node)
            if units.assigns:
                writer = CWriter(self.single, units.element, self.functions)
                rows = self._pointers(units, STEP, units.is_vectorized)
                call = self._call_of(units, writer, rows, units.is_vectorized)
                clears = self._clears(units, STEP, rows, units.is_vectorized)
                loop = _loop(ours["b"], "0", ours["rows"], [*self._skipped(clears, STEP), call])
                head = ["{"] if units.is_vectorized else [f"if ({ours['place']} == 0) {{"]
                share = self._share(units.island) if units.is_vectorized else []
                lines += [self.meet()] if lines else []
                lines += [*head, *(f"    {line}" for line in [*share, *loop]), "}"]
            self.done.update(value.name for value in writes(node))
        return lines

    def clear_row(self, value: Value, row: str) -> str:
        """A call that sets one row of a value to zero."""
        whole = len(value.shape) == 2
        units = self.arrays.elements(value.shape) if whole else self.arrays.stride(value.width)
        return self.call("clear", "0", units, row)

    def _units_of(self, node: Node) -> FastUnits:
        assert isinstance(node, (Island, Reduce, SumRows))
        island = node if isinstance(node, Island) else Island((node,))
        return FastUnits(self.program, self.arrays, island, self.done, self.adjoint)

    def _call_of(
        self, units: FastUnits, writer: CWriter, rows: Mapping[str, str], shared: bool = False
    ) -> str:
        """A call of a fused loop, which becomes a function of the file."""
        arrays, sizes = self.arrays, units.sizes
        name = self._named(units, writer)
        given = [rows.get(value.name) or arrays.base[value.name] for value in units.arguments]
        if units.is_vectorized:
            whole = arrays.width if units.totals else arrays.stride
            sizes = [arrays.ours["units"] if shared else whole(units.island.shape[0]), *sizes[1:]]
        return f"{name}({', '.join([*sizes, *given])});"

    def _share(self, island: Island) -> list[str]:
        """Which units of a step are this thread's."""
        ours, width = self.arrays.ours, self.arrays.width(island.shape[0])
        unit, units, place, crew = (ours[word] for word in ("unit", "units", "place", "crew"))
        return [
            f"const int64_t {unit} = gg_unit({width}, {place}, {crew});",
            f"const int64_t {units} = gg_unit({width}, {place} + 1, {crew}) - {unit};",
        ]

    def _pointers(self, units: FastUnits, often: str, shared: bool) -> dict[str, str]:
        """Where the rows of a call begin: of values of a step, and of vectors where units are shared."""
        arrays, ours = self.arrays, self.arrays.ours
        rows = {value.name: self._row(value, often) for value in units.moving}
        for value in units.summed:
            rows[value.name] = offset(self._sums(value), ours["b"], arrays.stride(value.width))
        if shared:
            for value in units.arguments:
                if value.shape == units.island.shape:
                    begin = rows.get(value.name) or arrays.base[value.name]
                    rows[value.name] = f"{begin} + {ours['unit']}"
        return rows

    def _clears(self, units: FastUnits, often: str, rows: Mapping[str, str], shared: bool) -> list[str]:
        """Calls that set to zero what would get its first contribution."""
        arrays, ours = self.arrays, self.arrays.ours
        clear = []
        for value in units.fresh:
            some = shared and value.shape == units.island.shape
            count = ours["units"] if some else arrays.stride(value.width)
            clear.append(self.call("clear", "0", count, rows.get(value.name) or self._row(value, often)))
            if some and value.name not in {argument.name for argument in units.arguments}:
                clear[-1] = self.call("clear", "0", count, f"{self._row(value, often)} + {ours['unit']}")
        return clear

    def _skipped(self, clears: Sequence[str], often: str) -> list[str]:
        """In the adjoint, rows past the end of their sequence are zero."""
        ours, step = self.arrays.ours, often == STEP
        if not self.adjoint:
            return []
        row, lengths = ours["row"], ours["ends"] if step else ours["lengths"]
        t, end = (ours["t"], ours["b"]) if step else (f"{row} / {ours['B']}", f"{row} % {ours['B']}")
        lines = [*(f"    {line}" for line in clears), "    continue;", "}"]
        return [f"if ({lengths} && {t} >= {lengths}[{end}]) {{", *lines]

    def _over_all(self, summed: bool, body: Sequence[str]) -> list[str]:
        """A loop over all rows; where they are summed, over the steps of each sequence."""
        ours = self.arrays.ours
        if not summed:
            return _loop(ours["row"], ours["low"], ours["high"], body)
        # Sums stand apart for each sequence, so that they are the same for any number of threads.
        t, b, first = ours["t"], ours["b"], ours["first"]
        inner = [f"const int64_t {ours['row']} = {t} * {ours['B']} + {first} + {b};", *body]
        span = (f"{ours['from']} - {first}", f"{ours['till']} - {first}")
        return _loop(t, "0", ours["T"], _loop(b, *span, inner))

    def _sums(self, value: Value) -> str:
        """The sums over the steps of a gradient, one for each of the thread's sequences."""
        if value.name not in self.sums:
            self.sums[value.name] = self.arrays.new(f"{value.name}_rows")
        return self.sums[value.name]

    def _is_by_row(self, node: Node, often: str) -> bool:
        return not isinstance(node, (Contract, OuterRows, Shift)) and not self._is_plain(node, often)

    def _is_plain(self, node: Node, often: str) -> bool:
        """Whether a node sums a whole plane."""
        if often != ALL or not isinstance(node, SumRows) or not node.expr.is_Symbol:
            return False
        return bool(node.target.shape) and self.program.values[node.expr.name].shape == node.target.shape

    def _sharing(self, nodes: Sequence[Node]) -> str:
        """How the threads share nodes outside the loop."""
        first = nodes[0]
        if isinstance(first, (OuterRows, Shift)):
            return type(first).__name__
        if self._is_plain(first, ALL):
            return "units"
        parts = [part for node in nodes for part in (node.assigns if isinstance(node, Island) else (node,))]
        return "sequences" if any(isinstance(part, SumRows) for part in parts) else "rows"

    def _simple(self, nodes: Iterable[Node], often: str) -> Iterator[Node]:
        """Sums of whole planes out of their islands: a routine adds them up faster."""
        for node in nodes:
            if isinstance(node, Island):
                plain = [part for part in node.assigns if isinstance(part, SumRows)]
                plain = [part for part in plain if self._is_plain(part, often)]
                made = {part.target.name for part in node.assigns if part not in plain}
                plain = [part for part in plain if part.expr.name not in made]
                rest = tuple(part for part in node.assigns if part not in plain)
                if rest:
                    yield Island(rest)
                yield from plain
            else:
                yield node


def _goes_along(node: Node) -> bool:
    """Whether a unit depends on the others of its row."""
    if isinstance(node, Island):
        return any(not isinstance(part, Assign) and not part.target.shape for part in node.assigns)
    return isinstance(node, Along) or not writes(node)[0].shape


def _loop(index: str, low: str, high: str, body: Sequence[str]) -> list[str]:
    head = f"for (int64_t {index} = {low}; {index} < {high}; {index}++) {{"
    return [head, *(f"    {line}" for line in body), "}"]
