"""Every term of a derived backward pass, dropped, negated or one step off, is caught by complex step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import cells
import numpy as np
import pytest
from sympy import Add, Expr, Integer, Mul

import gategen as gg
from gategen.calculus.differences import gradients
from gategen.calculus.interpret import ForwardRun, backward, forward
from gategen.calculus.ir import (
    Apply,
    Assign,
    Contract,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Product,
    Scan,
    Shift,
    Turn,
    Value,
    flatten,
    sources,
)
from gategen.calculus.problem import Array, params_by_value, relative_error
from gategen.calculus.program import Program
from gategen.calculus.schedule import naive
from gategen.language.notation import rebuild, substitute

CELLS = (
    *gg.pipeline.zoo(),
    *("heads", "scalar_gate", "derived_from_derived", "past_input", "surrogates", "kinks", "right_to_left"),
    *("matrix_of_columns_and_rows", "matrices_of_parameters", "split_values", "joined_values"),
    *("matrix_along_its_axes", "parameters_along_their_axes"),
)

# Values, and numbers of sequences, with which few steps take all branches: a unit that is open for more
# than a twentieth of its period, and gates of which now one is the larger, now the other.
TURNED = {"lstm_phased": {"r": 0.6}, "mlstm": {"b_f": 1.0, "b_i": 0.0}}
SEQUENCES = {"mlstm": 5}
# What cancels out may be anything: its gradient is zero, and no gradient depends on it.
CANCELLED = {"rwkv4": "q"}


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
        case OuterRows() | Scan() | Move() | Outer() | Apply() | Turn() | Shift():
            (value, *_) = sources(node)
            turned = negative(value)
            yield turned, reading(node, value, turned.assigns[0].target)
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


def moved(
    program: Program, planes: Mapping[str, Array], by: int
) -> Iterator[tuple[str, Program, dict[str, Array]]]:
    """The program with one value of the forward pass read some steps off, and what the tape has for that."""
    nodes = list(flatten(program.adjoint))
    for index, node in enumerate(nodes):
        for value in program.reads(node):
            if value.name in planes:
                other = Value(f"{value.name}_moved", value.shape, Kind.LOCAL)
                changed = (*nodes[:index], reading(node, value, other), *nodes[index + 1 :])
                mutant = replace(program, adjoint=changed, shared=(*program.values.values(), other))
                late = {other.name: np.roll(planes[value.name], by, 0)}
                yield f"{node}: {value.name} moved by {by}", mutant, late


def reading(part: Any, value: Value, other: Value) -> Any:
    """The node, or part of one, that reads another value; where it writes stays."""
    if part == value:
        return other
    if isinstance(part, Expr):
        return substitute(part, {value.symbol: other.symbol})
    if isinstance(part, tuple):
        return tuple(reading(inner, value, other) for inner in part)
    if isinstance(part, (Node, Assign, Product)):
        names = [field.name for field in fields(part) if field.name != "target"]
        return replace(part, **{name: reading(getattr(part, name), value, other) for name in names})
    return part


class Answers:
    """Gradients of one problem by any adjoint, on one tape, held against complex step."""

    def __init__(self, name: str) -> None:
        self.plan, _ = cells.plans(name)
        self.given = cells.problem(name, cells.Setting(4, SEQUENCES.get(name, 2), (2, 3, 5)))
        for parameter, value in TURNED.get(name, {}).items():
            self.given.params[parameter][...] = value
        frozen = {v.shown for v in self.plan.program.parameters if v.kind is Kind.FROZEN}
        self.expected = {k: v for k, v in gradients(self.plan, self.given).items() if k[1] not in frozen}
        self.params = params_by_value(self.plan.program, self.given.params)
        given = self.given
        self.run: ForwardRun = forward(self.plan, given.sizes, given.inputs, self.params, given.initial)

    def planes(self) -> dict[str, Array]:
        """What the adjoint reads of the forward pass, by step."""
        given, tape, program = self.given, self.run.tape, self.plan.program
        planes = {**given.inputs, **tape}
        for name, (carry, past) in program.pasts.items():
            plane, by = tape[carry.state.name], past.delay
            start = given.initial[carry.state.name].reshape(-1, *plane.shape[1:])
            whole = np.concatenate([plane, start] if program.reverse else [start, plane])
            first = by if program.reverse else carry.delay - by
            planes[name] = whole[first : first + len(plane)]
        return planes

    def error(self, program: Program, more: Mapping[str, Array] | None = None) -> float:
        """How far the worst gradient is off."""
        given, tape = self.given, {**self.run.tape, **(more or {})}
        with np.errstate(all="ignore"):
            found = backward(
                naive(program),
                given.sizes,
                given.inputs,
                self.params,
                tape,
                given.d_outputs,
                given.d_final,
                given.initial,
            )
        shown = {v.shown: v.name for v in program.parameters}
        groups = {"inputs": found.inputs, "initial": found.initial}
        groups["params"] = {name: found.params[own] for name, own in shown.items() if own in found.params}
        return max(relative_error(groups[part][key], array) for (part, key), array in self.expected.items())


@pytest.mark.parametrize("name", CELLS)
def test_every_term_counts(name: str) -> None:
    answers = Answers(name)
    program = answers.plan.program
    assert answers.error(program) <= 1e-12
    made = dict(mutants(program))
    assert len(made) >= 2 * len(list(flatten(program.adjoint)))
    assert [w for w, mutant in made.items() if counts(name, w) and answers.error(mutant) <= 1e-12] == []
    planes = answers.planes()
    here = list(moved(program, planes, 0))
    assert here
    assert max(answers.error(mutant, more) for _, mutant, more in here) <= 1e-12
    for by in (1, -1):
        late = moved(program, planes, by)
        assert [w for w, m, more in late if counts(name, w) and answers.error(m, more) <= 1e-12] == []


def counts(name: str, mutation: str) -> bool:
    """Whether a mutation is one of what does not cancel out."""
    value = CANCELLED.get(name)
    return value is None or not re.search(rf"\bd_{value}\b|: {value} moved", mutation)
