"""Every single term of a derived backward pass, dropped or negated, is caught by complex step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cells
import pytest
from sympy import Add, Expr, Integer, Mul

from gategen.calculus.differences import gradients
from gategen.calculus.ir import Assign, Contract, Island, Kind, Node, OuterRows, Program, Value, flatten
from gategen.calculus.problem import relative_error, solve
from gategen.calculus.schedule import naive
from gategen.language.notation import rebuild

CELLS = ("lstm", "gru", "lstm_concat", "heads", "scalar_gate", "derived_from_derived", "past_input")


def mutants(program: Program) -> Iterator[tuple[str, Program]]:
    """The program with one thing wrong, and what that is."""
    program = replace(program, shared=tuple(program.values.values()))  # what lost its only term is zero
    for phase in ("adjoint", "setup_adjoint"):
        nodes = list(flatten(getattr(program, phase)))
        for index, node in enumerate(nodes):
            for what, others in enumerate(((), *wrong(node))):
                changed = (*nodes[:index], *others, *nodes[index + 1 :])
                yield f"{node}: mutation {what}", replace(program, **{phase: changed})


def wrong(node: Node) -> Iterator[Sequence[Node]]:
    """The node with its sign turned, or with one of its inner terms dropped or turned."""
    match node:
        case Contract(products=(product,)):
            turned = negative(product.operand)
            yield turned, replace(node, products=(replace(product, operand=turned.assigns[0].target),))
        case OuterRows():
            turned = negative(node.left)
            yield turned, replace(node, left=turned.assigns[0].target)
        case Island(assigns=(Assign() as assign,)):
            for expr in (-assign.expr, *inner(assign.expr)):
                yield (Island((replace(assign, expr=expr),)),)
        case _ if hasattr(node, "expr"):
            for expr in (-node.expr, *inner(node.expr)):
                yield (replace(node, expr=expr),)


def negative(value: Value) -> Island:
    kind = Kind.GRADIENT if value.timeless else Kind.ADJOINT
    return Island((Assign(Value(f"minus_{value.name}", value.shape, kind), -value.symbol),))


def inner(expr: Expr) -> Iterator[Expr]:
    """The expression with one term of one of its sums dropped or negated."""
    for place, argument in enumerate(expr.args):
        for other in inner(argument):
            yield rebuild(expr, (*expr.args[:place], other, *expr.args[place + 1 :]))
        if isinstance(expr, Add):
            for other in (Integer(0), Mul(Integer(-1), argument)):
                yield Add(*expr.args[:place], other, *expr.args[place + 1 :])


@pytest.mark.parametrize("name", CELLS)
def test_every_term_counts(name: str) -> None:
    plan, _ = cells.plans(name)
    given = cells.problem(name, cells.Setting(4, 2, (2, 3, 5)))
    expected = {f"d {part} {key}": array for (part, key), array in gradients(plan, given).items()}

    def error(program: Program) -> float:
        found = solve(naive(program), given)
        return max(relative_error(found[key], array) for key, array in expected.items())

    assert error(plan.program) <= 1e-12
    made = dict(mutants(plan.program))
    assert len(made) >= 2 * len(list(flatten(plan.program.adjoint)))
    assert [what for what, mutant in made.items() if error(mutant) <= 1e-12] == []
