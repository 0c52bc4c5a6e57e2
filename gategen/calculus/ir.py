"""`Program`: one step of a cell and its adjoint, as element-wise islands between a few kinds of barriers.

Everything is frozen and in executable order. Expressions are scalar SymPy expressions over the symbols of
`Value`s, in the order in which they are to be printed. A value assigned several times is the *sum* of its
contributions, as adjoints are; nothing reads it before the last one (`check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import sympy
from sympy import Expr

from gategen.language.notation import symbols_in_order
from gategen.language.shapes import Shape, Width


class Kind(StrEnum):
    """What a value is, and so where its array comes from."""

    INPUT = "input"  # x[t], per step, from the caller
    SHIFTED = "shifted"  # x[t-1], per step, a moved copy of an input
    STATE = "state"  # h[t], per step
    PAST = "past"  # h[t-1], h[t-3]: a state some steps back
    LOCAL = "local"  # any other value of a step
    SEED = "seed"  # the loss gradient that arrives at an output, per step, from the caller
    ADJOINT = "adjoint"  # d_v, per step
    PARAMETER = "parameter"  # from here on without time
    FROZEN = "frozen"
    CONSTANT = "constant"
    SIZE = "size"
    DERIVED = "derived"
    GRADIENT = "gradient"  # d_W, summed over steps and batch


TIMELESS = frozenset({Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE, Kind.DERIVED, Kind.GRADIENT})


@dataclass(frozen=True)
class Value:
    """One named array.

    Attributes:
        name: Unique in the program; the same in C, NumPy and the documents.
        shape: Per step and sequence: ``()``, ``(width,)``, or ``(rows, columns)`` for matrices.
        kind: What it is.
        shown: How an author would write it, such as ``h[t-1]``.
    """

    name: str
    shape: Shape
    kind: Kind
    shown: str = field(default="", compare=False)

    @property
    def symbol(self) -> sympy.Symbol:
        """The scalar symbol that stands for one unit of the value."""
        return sympy.Symbol(self.name, real=True)

    @property
    def timeless(self) -> bool:
        """Whether it is the same for all steps and sequences."""
        return self.kind in TIMELESS

    @property
    def width(self) -> Width:
        """Units per row of its array; a scalar takes one."""
        return self.shape[0] if self.shape else Width((), 1)


@dataclass(frozen=True)
class Assign:
    """``target += expr`` (``=`` for the first contribution), element by element.

    Attributes:
        origin: Index of the equation that this comes from.
        source: In the adjoint: the adjoint that ``expr`` multiplies with the partial derivative.
        partial: In the adjoint: the partial derivative.
    """

    target: Value
    expr: Expr
    origin: int = -1
    source: Value | None = None
    partial: Expr | None = None


@dataclass(frozen=True)
class Block:
    """Some columns of a weight: those that meet one part of a concatenation."""

    start: Width
    size: Width


@dataclass(frozen=True)
class Product:
    """``weight @ operand``, or ``T(weight) @ operand``, with a block of the weight's columns or all."""

    weight: Value
    operand: Value
    transposed: bool = False
    block: Block | None = None


@dataclass(frozen=True)
class Contract:
    """``target += addends + products``: one chain of multiply-adds per element, in this order."""

    target: Value
    products: tuple[Product, ...]
    addends: tuple[Value, ...] = ()
    origin: int = -1


@dataclass(frozen=True)
class Reduce:
    """``target += sum over the units of expr``; also the adjoint of reading a scalar inside a vector."""

    target: Value
    expr: Expr
    shape: Shape
    origin: int = -1


@dataclass(frozen=True)
class Extreme:
    """``target = the largest of source``, or the smallest; it passes no gradient."""

    target: Value
    source: Value
    largest: bool = True
    origin: int = -1


@dataclass(frozen=True)
class Scan:
    """``target += the running sum of source`` along the units, from the last one if ``back``."""

    target: Value
    source: Value
    back: bool = False
    origin: int = -1


@dataclass(frozen=True)
class Shift:
    """``target[t] += source[t + offset]``, outside the sequence its history or zero."""

    target: Value
    source: Value
    offset: int
    origin: int = -1


@dataclass(frozen=True)
class SumRows:
    """``target += sum over t and b of expr``; over the units too when the target is a scalar."""

    target: Value
    expr: Expr
    shape: Shape
    origin: int = -1


@dataclass(frozen=True)
class Island:
    """Element-wise work over one shape, in order: one fused loop.

    Fusing puts the sums that a loop can take along into the island as well.
    """

    assigns: tuple[Assign | Reduce | SumRows, ...]

    @property
    def shape(self) -> Shape:
        """The shape of the loop."""
        first = self.assigns[0]
        return first.target.shape if isinstance(first, Assign) else first.shape


@dataclass(frozen=True)
class OuterRows:
    """``target += sum over t and b of outer(left, right)``, into a block of columns or all."""

    target: Value
    left: Value
    right: Value
    block: Block | None = None
    origin: int = -1


Node = Island | Contract | Reduce | Extreme | Scan | Shift | SumRows | OuterRows


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
        match node:
            case Island():
                found = [value for assign in node.assigns for value in self.read(assign.expr)]
            case Contract():
                found = [*node.addends, *(v for p in node.products for v in (p.weight, p.operand))]
            case Reduce() | SumRows():
                found = self.read(node.expr)
            case Extreme() | Scan() | Shift():
                found = [node.source]
            case OuterRows():
                found = [node.left, node.right]
        return list({value.name: value for value in found}.values())

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


def writes(node: Node) -> list[Value]:
    """The values a node contributes to."""
    if isinstance(node, Island):
        return list({assign.target.name: assign.target for assign in node.assigns}.values())
    return [node.target]


def flatten(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes with every island cut into single assignments."""
    for node in nodes:
        if isinstance(node, Island):
            yield from (Island((a,)) if isinstance(a, Assign) else a for a in node.assigns)
        else:
            yield node
