"""The nodes of a pass as fast C.

Before and after the loop a thread has a share of all rows, in the loop its own sequences; sums over rows
are shared by units. A thread waits for the others where the next node reads what they make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gategen.backends.c_fast_products import ProductWriter
from gategen.backends.c_fast_units import FastUnits
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_syntax import CWriter
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import (
    Contract,
    Island,
    Kind,
    Node,
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
        tiles: For outer products, by the units of the left side: an array that it may be packed in.
    """

    sums: dict[str, str] = field(default_factory=dict)
    tiles: dict[str, str] = field(default_factory=dict)

    def write(self, nodes: Iterable[Node], often: str) -> list[str]:
        """The lines of some nodes."""
        lines: list[str] = []
        shared: str | None = None
        for group in self._groups(nodes, often):
            first = group[0]
            kind = "all" if often != ALL else _sharing(first)
            if shared not in (None, kind):
                lines.append(self.wait())
            shared = kind
            match first:
                case Contract():
                    lines += self.product([node for node in group if isinstance(node, Contract)], often)
                case OuterRows():
                    lines += self._outers([node for node in group if isinstance(node, OuterRows)], often)
                case Island():
                    lines += self._island(first, often)
                case SumRows() if often == ALL and first.expr.is_Symbol:
                    lines += self._sum(first)
                case Reduce() | SumRows():
                    lines += self._island(Island((first,)), often)
                case Shift():
                    lines += self._shift(first)
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
        for node in _simple(nodes, often):
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
        given = (arrays.base[source], shift, start, ours["into"], self._tiles(n))
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

    def _tiles(self, n: str) -> str:
        """Where outer products may pack left sides of so many units, one call after the other."""
        if n not in self.tiles:
            self.tiles[n] = self.arrays.new("tiles")
        return self.tiles[n]

    def _sum(self, node: SumRows) -> list[str]:
        """The sum of a plane over all rows."""
        arrays, ours, source = self.arrays, self.arrays.ours, self.program.read(node.expr)[0]
        if node.target.shape != source.shape:
            return self._island(Island((node,)), ALL)
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

    def _island(self, island: Island, often: str) -> list[str]:
        arrays, ours = self.arrays, self.arrays.ours
        units = FastUnits(self.program, arrays, island, self.done, self.adjoint)
        if not units.assigns:
            return []
        writer = CWriter(self.single, units.element, self.functions)
        if often == ONCE:
            if units.is_vectorized:
                count = f"const int64_t {ours['units']} = {arrays.width(island.shape[0])};"
                return ["{", *(f"    {line}" for line in [count, *units.lines(writer)]), "}"]
            return units.lines(writer)
        number = f"_{len(self.units) + 1}" if self.units else ""
        name = f"gg_{'backward' if self.adjoint else 'forward'}_units{number}"
        self.units.append(units.text(name, writer))
        shared = often == STEP and units.is_vectorized
        rows = self._rows(units, often, shared)
        given = [rows.get(value.name) or arrays.base[value.name] for value in units.arguments]
        sizes = units.sizes
        if units.is_vectorized:
            sizes = [ours["units"] if shared else arrays.stride(island.shape[0]), *sizes[1:]]
        body = [f"{name}({', '.join([*sizes, *given])});"]
        if self.adjoint:
            body = [*self._skipped(units, often, rows, shared), *body]
        if often == ALL:
            return self._over_all(units, body)
        lines = _loop(ours["b"], "0", ours["rows"], body)
        if shared:
            return ["{", *(f"    {line}" for line in [*self._share(island), *lines]), "}"]
        return [f"if ({ours['place']} == 0) {{", *(f"    {line}" for line in lines), "}"]

    def _share(self, island: Island) -> list[str]:
        """Which units of a step are this thread's."""
        ours, width = self.arrays.ours, self.arrays.width(island.shape[0])
        unit, units, place, crew = (ours[word] for word in ("unit", "units", "place", "crew"))
        return [
            f"const int64_t {unit} = gg_unit({width}, {place}, {crew});",
            f"const int64_t {units} = gg_unit({width}, {place} + 1, {crew}) - {unit};",
        ]

    def _rows(self, units: FastUnits, often: str, shared: bool) -> dict[str, str]:
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

    def _skipped(self, units: FastUnits, often: str, rows: dict[str, str], shared: bool) -> list[str]:
        """Rows past the end of their sequence are zero."""
        arrays, ours = self.arrays, self.arrays.ours
        step, b, row = often == STEP, ours["b"], ours["row"]
        lengths = ours["ends"] if step else ours["lengths"]
        t, end = (ours["t"], b) if step else (f"{row} / {ours['B']}", f"{row} % {ours['B']}")
        clear = []
        for value in units.fresh:
            some = shared and value.shape == units.island.shape
            count = ours["units"] if some else arrays.stride(value.width)
            clear.append(self.call("clear", "0", count, rows.get(value.name) or self._row(value, often)))
            if some and value.name not in {argument.name for argument in units.arguments}:
                clear[-1] = self.call("clear", "0", count, f"{self._row(value, often)} + {ours['unit']}")
        lines = [*(f"    {line}" for line in clear), "    continue;", "}"]
        return [f"if ({lengths} && {t} >= {lengths}[{end}]) {{", *lines]

    def _over_all(self, units: FastUnits, body: Sequence[str]) -> list[str]:
        """A loop over all rows; where they are summed, over the steps of each sequence."""
        ours = self.arrays.ours
        if not units.summed:
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


def _sharing(node: Node) -> str:
    """How the threads share a node outside the loop."""
    if isinstance(node, (OuterRows, Shift)):
        return type(node).__name__
    sums = node.assigns if isinstance(node, Island) else (node,)
    if any(isinstance(part, SumRows) for part in sums):
        return "sequences" if isinstance(node, Island) or not node.expr.is_Symbol else "units"  # type: ignore[union-attr]
    return "rows"


def _simple(nodes: Iterable[Node], often: str) -> Iterator[Node]:
    """Sums of whole planes out of their islands: a routine adds them up faster."""
    for node in nodes:
        if often == ALL and isinstance(node, Island):
            plain = [part for part in node.assigns if isinstance(part, SumRows) and part.expr.is_Symbol]
            made = {part.target.name for part in node.assigns if part not in plain}
            plain = [part for part in plain if part.expr.name not in made and part.target.shape]
            rest = tuple(part for part in node.assigns if part not in plain)
            if rest:
                yield Island(rest)
            yield from plain
        else:
            yield node


def _loop(index: str, low: str, high: str, body: Sequence[str]) -> list[str]:
    head = f"for (int64_t {index} = {low}; {index} < {high}; {index}++) {{"
    return [head, *(f"    {line}" for line in body), "}"]
