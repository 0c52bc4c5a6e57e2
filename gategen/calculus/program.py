"""`Program`: one step of a cell and its adjoint, as nodes in executable order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sympy import Expr

from gategen.calculus.ir import (
    Contract,
    Node,
    Shift,
    Value,
    names_read,
    writes,
)
from gategen.language.notation import symbols_in_order
from gategen.language.shapes import Width


@dataclass(frozen=True)
class Past:
    """A state as a later step reads it.

    Attributes:
        value: The state ``delay`` steps back.
        adjoint: Its adjoint, which is added to that of the state ``delay`` steps back.
        delay: How many steps lie between, at least 1.
    """

    value: Value
    adjoint: Value
    delay: int


@dataclass(frozen=True)
class Carry:
    """How a state goes from one step to the next, and its adjoint back.

    Attributes:
        state: The new value.
        d_state: Adjoint of the new value; begins a step with what arrives from the following steps.
        pasts: The values that a step reads, the nearest first.
        initial: Where the sequence begins when the caller gives nothing.
    """

    state: Value
    d_state: Value
    pasts: tuple[Past, ...]
    initial: float = 0.0

    @property
    def last(self) -> Past:
        """The value the furthest back."""
        return self.pasts[-1]

    @property
    def delay(self) -> int:
        """How many steps a sequence starts from, and hands on."""
        return self.pasts[-1].delay


@dataclass(frozen=True)
class Program:
    """A cell made executable: what a step computes, and what its adjoint computes.

    Attributes:
        name: The cell's name.
        reverse: Whether steps run from right to left.
        equations: The author's text of every equation; nodes refer to them by index.
        setup: Nodes on parameters only, once per sequence.
        step: Nodes of one step.
        adjoint: Nodes of one adjoint step; sums over rows included.
        setup_adjoint: From gradients of derived parameters to gradients of parameters.
        carries: One per state.
        inputs: In the author's order.
        parameters: Trainable, frozen, constants and sizes, in the author's order.
        outputs: What a run gives back.
        seeds: For each output the gradient that arrives from outside.
        gradients: Gradient value of each trainable parameter and input that has one.
        constants: Values of the constants.
        warnings: What is probably not meant.
        least: What widths must be at least.
        shared: Names that a schedule gave to functions which a loop would compute twice.
    """

    name: str
    reverse: bool
    equations: tuple[str, ...]
    setup: tuple[Node, ...]
    step: tuple[Node, ...]
    adjoint: tuple[Node, ...]
    setup_adjoint: tuple[Node, ...]
    carries: tuple[Carry, ...]
    inputs: tuple[Value, ...]
    parameters: tuple[Value, ...]
    outputs: tuple[Value, ...]
    seeds: Mapping[str, Value]
    gradients: Mapping[str, Value]
    constants: Mapping[str, float]
    warnings: tuple[str, ...]
    least: Mapping[Width, int] = field(default_factory=dict)
    shared: tuple[Value, ...] = ()

    @cached_property
    def values(self) -> dict[str, Value]:
        """Every value by name."""
        found: dict[str, Value] = {}
        roots = [
            *self.inputs,
            *self.parameters,
            *self.outputs,
            *self.seeds.values(),
            *self.gradients.values(),
            *self.shared,
        ]
        for carry in self.carries:
            roots += [carry.state, *(past.value for past in carry.pasts)]
            roots += [carry.d_state, *(past.adjoint for past in carry.pasts)]
        for node in (*self.setup, *self.step, *self.adjoint, *self.setup_adjoint):
            roots += writes(node)
            if isinstance(node, Contract):
                roots += [value for p in node.products for value in (p.weight, p.operand)]
        for value in roots:
            found.setdefault(value.name, value)
        return found

    @cached_property
    def pasts(self) -> dict[str, tuple[Carry, Past]]:
        """Every past state by name, with the state that it was."""
        return {past.value.name: (carry, past) for carry in self.carries for past in carry.pasts}

    @cached_property
    def begins(self) -> dict[str, int]:
        """How many steps a sequence starts from, for every state and then every input whose past is read."""
        found = {carry.state.name: carry.delay for carry in self.carries}
        for shift in self.histories:
            found[shift.source.name] = max(abs(shift.offset), found.get(shift.source.name, 0))
        return found

    @property
    def histories(self) -> list[Shift]:
        """The shifts that read an input's past; its values before the sequence come from the caller."""
        return [node for node in self.step if isinstance(node, Shift) and self.history(node)]

    def read(self, expr: Expr) -> list[Value]:
        """The values an expression reads, in written order."""
        return [self.values[symbol.name] for symbol in symbols_in_order(expr)]

    def reads(self, node: Node) -> list[Value]:
        """The values a node reads, in written order."""
        return [self.values[name] for name in dict.fromkeys(names_read(node))]

    def history(self, shift: Shift) -> bool:
        """Whether a shifted input reads what came before the sequence, in the order of the steps."""
        return shift.offset > 0 if self.reverse else shift.offset < 0

    def adjoint_of(self, shift: Shift) -> Value | None:
        """What arrives at a shifted input and is handed back to the input; None if nothing does."""
        d_source = self.gradients.get(shift.source.name)
        found = [
            node.source
            for node in self.adjoint
            if isinstance(node, Shift) and node.target == d_source and node.offset == -shift.offset
        ]
        return found[0] if found else None

    def gradient_of(self, name: str) -> Value | None:
        """The gradient of a parameter or input, None if it is identically zero."""
        return self.gradients.get(name)
