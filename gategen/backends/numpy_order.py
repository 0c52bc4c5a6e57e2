"""The order in which a person reads a pass: equation after equation, as far as the values allow it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gategen.calculus.ir import (
    Along,
    Assign,
    Contract,
    Island,
    Node,
    OuterRows,
    Product,
    Reduce,
    Shift,
    SumRows,
    Value,
    flatten,
)
from gategen.calculus.program import Program

Statement = Assign | Reduce | Along | SumRows | Contract | Shift | OuterRows
"""One line: a single contribution to a single value."""


def statements(program: Program, nodes: Iterable[Node], last_first: bool = False) -> list[Statement]:
    """The nodes as single lines, grouped by their equations in the author's order or from the last."""
    origins = {
        (node.target.name, product): node.origin
        for part in (program.setup, program.step, program.adjoint, program.setup_adjoint)
        for node in part
        if isinstance(node, Contract)
        for product in node.products
    }
    lines: list[Statement] = []
    for node in flatten(nodes):
        if isinstance(node, Contract):
            lines += _unchained(node, origins)
        else:
            lines.append(_line(node))
    return _by_equation(program, lines, last_first)


def _line(node: Node) -> Statement:
    return node.assigns[0] if isinstance(node, Island) else node


def reads(program: Program, line: Statement) -> list[Value]:
    """The values that a line reads."""
    return program.reads(Island((line,)) if isinstance(line, Assign) else line)


def _unchained(chain: Contract, origins: Mapping[tuple[str, Product], int]) -> list[Contract]:
    """A chain of products cut where the equation changes."""
    parts: list[Contract] = []
    for product in chain.products:
        origin = origins.get((chain.target.name, product), chain.origin)
        if parts and parts[-1].origin == origin:
            parts[-1] = replace(parts[-1], products=(*parts[-1].products, product))
        else:
            addends = () if parts else chain.addends
            parts.append(Contract(chain.target, (product,), addends, origin))
    return parts or [chain]


def _by_equation(program: Program, lines: Sequence[Statement], last_first: bool) -> list[Statement]:
    """The lines with those of one equation together; what is read comes after all that adds to it."""
    writers: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        writers.setdefault(line.target.name, []).append(index)
    followers: dict[int, list[int]] = {index: [] for index in range(len(lines))}
    missing = dict.fromkeys(range(len(lines)), 0)
    for index, line in enumerate(lines):
        for value in reads(program, line):
            for other in writers.get(value.name, []):
                followers[other].append(index)
                missing[index] += 1
    ready: dict[int, list[int]] = {}

    def enter(index: int) -> None:
        heapq.heappush(ready.setdefault(lines[index].origin, []), index)

    for index, count in missing.items():
        if not count:
            enter(index)
    ordered: list[Statement] = []
    origin = -1
    while waiting := [key for key, queue in ready.items() if queue]:
        if origin not in waiting:
            # What belongs to no equation, such as the loss, comes first.
            origin = -1 if -1 in waiting else max(waiting) if last_first else min(waiting)
        index = heapq.heappop(ready[origin])
        ordered.append(lines[index])
        for follower in followers[index]:
            missing[follower] -= 1
            if not missing[follower]:
                enter(follower)
    return ordered
