"""Reordering nodes so that element-wise work meets in few loops and products in few chains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sympy import Expr

from gategen.calculus.ir import (
    Assign,
    Contract,
    Island,
    Kind,
    Node,
    Reduce,
    SumRows,
    Value,
    flatten,
    writes,
)
from gategen.calculus.program import Program
from gategen.language.functions import ElementWise
from gategen.language.notation import substitute
from gategen.language.shapes import Shape

Named = dict[tuple[Expr, int], Value]
"""Values given to functions; the number tells several loops of one pass apart."""


def fuse_nodes(program: Program, nodes: Sequence[Node], named: Named, used: set[str]) -> tuple[Node, ...]:
    """The same nodes, element-wise work gathered.

    ``named`` collects the functions that got a name, ``used`` the names that this pass has taken.
    """
    queue = _Queue(program, list(flatten(nodes)))
    while queue.pending:
        islands = queue.islands()
        products = queue.products() if not islands else []
        if not islands and not products:
            products = queue.any_ready()
        queue.done += [share(program, island, named, used) for island in islands] + products
    return tuple(queue.done)


class _Queue:
    """Nodes waiting for what they read; a value is ready when its last contribution is done."""

    def __init__(self, program: Program, nodes: list[Node]) -> None:
        self.program = program
        self.pending = nodes
        self.done: list[Node] = []
        self.open = Counter(value.name for node in nodes for value in writes(node))

    def _ready(self, node: Node) -> bool:
        return all(not self.open[value.name] for value in self.program.reads(node))

    def _take(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.pending = [other for other in self.pending if other is not node]
            self.open.subtract(value.name for value in writes(node))

    def islands(self) -> list[Island]:
        """One fused loop per shape, from all element-wise nodes that can run now."""
        groups: dict[Shape, list[Assign | Reduce | SumRows]] = {}
        for shape in dict.fromkeys(_loop_shape(node) for node in self.pending):
            if shape is not None:
                self._gather(shape, groups)
        return [Island(tuple(assigns)) for assigns in groups.values()]

    def _gather(self, shape: Shape, groups: dict[Shape, list[Assign | Reduce | SumRows]]) -> None:
        # A sum is complete only when its loop has ended, so nothing may read it inside that loop.
        summed: set[str] = set()
        moved = True
        while moved:
            moved = False
            for node in list(self.pending):
                if _loop_shape(node) != shape or not self._ready(node):
                    continue
                if any(value.name in summed for value in self.program.reads(node)):
                    continue
                assert isinstance(node, (Island, Reduce, SumRows))
                groups.setdefault(shape, []).extend(node.assigns if isinstance(node, Island) else (node,))
                if not isinstance(node, Island):
                    summed.add(node.target.name)
                self._take([node])
                moved = True

    def products(self) -> list[Node]:
        """Products whose target has all of its products ready, those of one target as one chain."""
        barriers = [node for node in self.pending if _loop_shape(node) is None]
        held = {n.target.name for n in barriers if isinstance(n, Contract) and not self._ready(n)}
        chosen = [n for n in barriers if self._ready(n) and _target(n) not in held]
        self._take(chosen)
        return _chained(chosen)

    def any_ready(self) -> list[Node]:
        """The first node that can run, when no target has all of its products ready."""
        node = next(node for node in self.pending if self._ready(node))
        self._take([node])
        return [node]


def _target(node: Node) -> str:
    return node.target.name if isinstance(node, Contract) else ""


def _loop_shape(node: Node) -> Shape | None:
    """The shape of the loop that a node can join; None for a barrier."""
    return node.shape if isinstance(node, (Island, Reduce, SumRows)) else None


def _chained(nodes: list[Node]) -> list[Node]:
    result: list[Node] = []
    place: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, Contract) and node.target.name in place:
            index = place[node.target.name]
            first = result[index]
            assert isinstance(first, Contract)
            merged = replace(
                first,
                products=(*first.products, *node.products),
                addends=(*first.addends, *node.addends),
            )
            result[index] = merged
        else:
            if isinstance(node, Contract):
                place[node.target.name] = len(result)
            result.append(node)
    return result


def share(program: Program, island: Island, named: Named, used: set[str]) -> Island:
    """Give a name to every function that a loop would otherwise compute twice."""
    counts = Counter(part for assign in island.assigns for part in _functions(assign.expr))
    repeated = [part for part, count in counts.items() if count > 1]
    if not repeated:
        return island
    values = {part: _name(program, part, island.shape, named, used) for part in repeated}
    symbols = {part: value.symbol for part, value in values.items()}
    result: list[Assign | Reduce | SumRows] = []
    waiting = list(repeated)
    for assign in island.assigns:
        for part in [part for part in waiting if assign.expr.has(part)]:
            waiting.remove(part)
            inner = {other: symbol for other, symbol in symbols.items() if other != part}
            result.append(Assign(values[part], substitute(part, inner), assign.origin))
        result.append(replace(assign, expr=substitute(assign.expr, symbols)))
    return Island(tuple(result))


def _name(program: Program, part: ElementWise, shape: Shape, named: Named, used: set[str]) -> Value:
    number = 0
    while (part, number) in named and named[part, number].name in used:
        number += 1
    if (part, number) not in named:
        argument = part.args[0]
        name = f"{part.row.name}_{argument.name}" if argument.is_Symbol else f"{part.row.name}_"
        taken = {*program.values, *(value.name for value in named.values())}
        while name in taken:
            name += "_"
        named[part, number] = Value(name, shape, Kind.LOCAL)
    used.add(named[part, number].name)
    return named[part, number]


def _functions(expression: Expr) -> list[ElementWise]:
    inner = [part for argument in expression.args for part in _functions(argument)]
    cheap = not isinstance(expression, ElementWise) or expression.row.infix or expression.row.name == "where"
    return inner if cheap else [*inner, expression]
