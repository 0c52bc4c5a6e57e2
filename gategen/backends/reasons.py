"""Why an adjoint line is what it is: the rule and the local derivatives, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy
from sympy import Add, Expr, Mul, Pow

from gategen.backends.formula import Equality, Partial, Running, factors
from gategen.backends.walkthrough import Edge, Part, Walkthrough
from gategen.calculus.ir import (
    Apply,
    Contract,
    Extreme,
    Island,
    Kind,
    Move,
    Outer,
    Reduce,
    Scan,
    Turn,
    Value,
    flatten,
    sources,
)
from gategen.calculus.lower import identifier
from gategen.language.functions import ElementWise

Prose = tuple["str | Expr", ...]
"""Text with formulas in it."""

SIGMOIDS = frozenset({"sigmoid", "hard_sigmoid"})
"""Functions with values between 0 and 1: what they compute is called a gate."""


_BARRIERS: dict[type, str] = {
    Move: "copied units",
    Outer: "outer product",
    Apply: "matrix product",
    Turn: "transpose",
}
"""What a sentence calls the rules of nodes that only move and multiply."""

_LONG = 16
"""Nodes up to which a derivative is repeated inside a sentence."""


class Nouns:
    """What a value is called in a sentence."""

    def __init__(self, walkthrough: Walkthrough) -> None:
        program = walkthrough.program
        self.authors = {identifier(name) for name in walkthrough.cell.variables}
        self.inline = {name for name, shown in walkthrough.names.table.items() if shown.formula is not None}
        self.gates = {
            assign.target.name
            for node in flatten((*program.step, *program.setup))
            if isinstance(node, Island)
            for assign in node.assigns
            if isinstance(assign.expr, ElementWise) and assign.expr.row.name in SIGMOIDS
        }

    def of(self, value: Value) -> str:
        """A noun without article."""
        match value.kind:
            case Kind.INPUT | Kind.SHIFTED:
                return "input"
            case Kind.STATE:
                return "state"
            case Kind.PAST:
                return "carried state"
            case Kind.PARAMETER:
                return ("number", "vector", "matrix")[len(value.shape)]
        if value.name in self.inline:
            return "number" if not value.shape else "vector"
        if value.name in self.authors:
            return "gate" if value.name in self.gates else "value"
        return "pre-activation" if value.name.startswith("a_") else "inner value"


def listed(items: Sequence[Prose]) -> Prose:
    """``a, b and c``."""
    made: list[str | Expr] = []
    for index, item in enumerate(items):
        if index:
            made.append(" and " if index == len(items) - 1 else ", ")
        made.extend(item)
    return tuple(made)


def reason(part: Part, nouns: Nouns) -> Prose:
    """The sentence between an equation and the adjoint lines that follow from it."""
    target = part.target.symbol
    if part.d_target is None:
        return ("no gradient reaches ", target, ", and it hands none on.")
    if not part.edges or isinstance(part.node, Extreme):
        return ("nothing that ", target, " is computed from has a gradient.")
    if isinstance(part.node, Contract):
        return ("by the rule of the matrix product ", *_receive(part.edges, nouns))
    if type(part.node) in _BARRIERS:
        rule = _BARRIERS[type(part.node)]
        if isinstance(part.node, (Outer, Apply)) and len(sources(part.node)) == 1:
            rule = "copied units" if isinstance(part.node, Outer) else "sum"
        return (f"by the rule of the {rule} ", *_receive(part.edges, nouns))
    if isinstance(part.node, Scan):
        matrix: Prose = (", whose matrix ", Running(), " has ones on and below its diagonal, ")
        return ("by the rule of the running sum", *matrix, *_receive(part.edges, nouns))
    assert isinstance(part.node, (Island, Reduce))
    subject, plural = _rules(part.node)
    verb = " give " if plural else " gives "
    partials: list[Prose] = [
        (Equality(Partial(target, edge.read.symbol), edge.partial),)
        for edge in part.edges
        if sum(1 for _ in sympy.preorder_traversal(edge.partial)) <= _LONG
    ]
    if len(partials) < len(part.edges):
        partials.append(("the longer factors below",))
    return (*subject, verb, *listed(partials), ". Hence ", *_receive(part.edges, nouns))


def _receive(edges: Iterable[Edge], nouns: Nouns) -> Prose:
    read = list({edge.read.name: edge for edge in edges}.values())
    receivers = listed([(f"the {nouns.of(edge.read)} ", edge.read.symbol) for edge in read])
    summed: list[Prose] = [(edge.read.symbol,) for edge in read if edge.summed]
    note: Prose = (", the contributions of all units being summed for ", *listed(summed)) if summed else ()
    return (*receivers, " receives" if len(read) == 1 else " receive", *note)


def _rules(node: Island | Reduce) -> tuple[Prose, bool]:
    """The rules of differentiation that a node needs, and whether the words are a plural."""
    expression = node.expr if isinstance(node, Reduce) else node.assigns[0].expr
    rules: dict[str, None] = {"sum": None} if isinstance(node, Reduce) else {}
    functions: dict[type[ElementWise], None] = {}
    cases = False
    for node in sympy.preorder_traversal(expression):
        if isinstance(node, Add):
            rules.setdefault("sum")
        elif isinstance(node, Mul) and len([f for f in factors(node) if not f.is_Number]) > 1:
            rules.setdefault("quotient" if any(_divides(f) for f in factors(node)) else "product")
        elif isinstance(node, Pow):
            rules.setdefault("quotient" if _divides(node) else "power")
        elif isinstance(node, ElementWise) and node.row.name == "where":
            cases = True
        elif isinstance(node, ElementWise) and not node.row.infix:
            functions.setdefault(node.func)
    words: list[Prose] = [("the distinction of cases",)] if cases else []
    if rules:
        words.append(("the ", *listed([(rule,) for rule in rules]), " rules" if len(rules) > 1 else " rule"))
    if functions:
        applied: list[Prose] = [(function(*arguments(function)),) for function in functions]
        words.append((f"the derivative{'s' if len(applied) > 1 else ''} of ", *listed(applied)))
    return listed(words or [("copying",)]), len(rules) + len(functions) + cases > 1


def _divides(node: Expr) -> bool:
    return isinstance(node, Pow) and bool(node.exp.is_Number and node.exp.is_negative)


def arguments(function: type[ElementWise]) -> list[sympy.Symbol]:
    """Letters for the arguments of a function."""
    letters = "x" if function.row.arity == 1 else "abcdef"
    return [sympy.Symbol(f"argument {letter}", real=True) for letter in letters[: function.row.arity]]
