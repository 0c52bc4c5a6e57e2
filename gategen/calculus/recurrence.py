"""How the states of a step hang on those of the step before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sympy import Add, Expr, Mul, Pow, Symbol

from gategen.calculus.ir import (
    Apply,
    Contract,
    Island,
    Move,
    Node,
    Outer,
    Reduce,
    Scan,
    SumRows,
    flatten,
    sources,
    writes,
)
from gategen.calculus.program import Program
from gategen.language.functions import ElementWise


@dataclass(frozen=True)
class Recurrence:
    """What lies between the old states and the new ones.

    Attributes:
        depth: So many matrix products at most stand one behind the other.
        linear: Whether the new states are linear in the old ones, an input added or not.
        apart: Whether every unit of a state depends on old states by its own unit only.
    """

    depth: int
    linear: bool
    apart: bool

    def __str__(self) -> str:
        products = "product" if self.depth == 1 else "products"
        between = f"{self.depth or 'no'} matrix {products} between old and new states"
        if self.depth > 1:
            between = f"{between}, one behind the other"
        if not self.linear:
            return between
        return f"linear in the states, {'unit by unit, ' if self.apart else ''}{between}"


def recurrence(program: Program) -> Recurrence:
    """Read the forward step of a program."""
    degree: dict[str, int] = dict.fromkeys(program.pasts, 1)
    depth: dict[str, int] = dict.fromkeys(degree, 0)
    mixed: set[str] = set()
    for node in flatten(program.step):
        carried = [value.name for value in program.reads(node) if degree.get(value.name)]
        if not carried:
            continue
        deep = max(depth[name] for name in carried)
        if isinstance(node, Apply):
            deep += node.vector is not None
        if isinstance(node, Contract):
            deep = max(depth.get(value.name, 0) for value in node.addends) if node.addends else 0
            deep = max(
                deep, *(depth[p.operand.name] + 1 for p in node.products if p.operand.name in depth), 0
            )
        for target in writes(node):
            degree[target.name] = max(degree.get(target.name, 0), _degree(node, target.name, degree))
            depth[target.name] = max(depth.get(target.name, 0), deep)
            if not isinstance(node, Island) or mixed & {*carried}:
                mixed.add(target.name)
    states = [carry.state.name for carry in program.carries]
    return Recurrence(
        max((depth.get(name, 0) for name in states), default=0),
        all(degree.get(name, 0) < 2 for name in states),
        not mixed & {*states},
    )


def _degree(node: Node, target: str, degree: Mapping[str, int]) -> int:
    """0 for what depends on no old state, 1 for what is linear in them, 2 for anything else."""
    if isinstance(node, Island):
        return max(degree_of(a.expr, degree) for a in node.assigns if a.target.name == target)
    if isinstance(node, (Reduce, SumRows)):
        return degree_of(node.expr, degree)
    if isinstance(node, Contract):
        weighted = (degree.get(p.operand.name, 0) + degree.get(p.weight.name, 0) for p in node.products)
        return min(2, max(*weighted, *(degree.get(v.name, 0) for v in node.addends), 0))
    if isinstance(node, (Outer, Apply, Move, Scan)):
        return min(2, sum(degree.get(value.name, 0) for value in sources(node)))
    return 2


def degree_of(node: Expr, degree: Mapping[str, int]) -> int:
    """The degree of an expression in what symbols of some degree stand for; more than linear is 2."""
    if isinstance(node, Symbol):
        return degree.get(node.name, 0)
    inside = [degree_of(part, degree) for part in node.args]
    if not any(inside):
        return 0
    if isinstance(node, Add):
        return max(inside)
    if isinstance(node, Mul):
        return min(2, sum(inside))
    if isinstance(node, Pow):
        return inside[0] if node.exp == 1 else 2
    if isinstance(node, ElementWise):
        if node.row.name == "stop_gradient":
            return inside[0]
        if node.row.name == "where" and not inside[0]:
            return max(inside)
    return 2
