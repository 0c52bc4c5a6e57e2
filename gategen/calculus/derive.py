"""`Cell` to `Program`: the forward step and, by a reverse sweep over its named values, the adjoint.

Every island is differentiated by SymPy; barriers have fixed adjoints. The formula of a step is never
flattened: that explodes exponentially with depth (Griewank & Walther 2008, chapter 3, on reverse mode).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import sympy
from sympy import Expr

from gategen.calculus.invariants import check
from gategen.calculus.ir import (
    Apply,
    Assign,
    Contract,
    Extreme,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Product,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Value,
    flatten,
    names_read,
    sources,
    writes,
)
from gategen.calculus.lower import Lowering, identifier, without_dead_nodes
from gategen.calculus.order import arrange, is_zero
from gategen.calculus.program import Carry, Past, Program
from gategen.language.cell import Cell
from gategen.language.functions import ElementWise
from gategen.language.notation import At, evaluate, symbols_in_order
from gategen.language.roles import Role
from gategen.language.shapes import Shape
from gategen.language.text import equation_text

_WITHOUT_GRADIENT = {Kind.FROZEN, Kind.CONSTANT, Kind.SIZE}


def derive(cell: Cell) -> Program:
    """Derive the adjoint of a cell.

    Args:
        cell: The cell; its ``outputs`` decide which loss gradients can arrive.

    Returns:
        The forward and adjoint step, with warnings for gradients that are identically zero, equations
        that nothing uses, and gates computed and not used.
    """
    lowering = Lowering(cell)
    outputs = tuple(lowering.values[name] for name in cell.outputs)
    by_name = {value.name: value for value in lowering.values.values()}

    def read(node: Node) -> list[Value]:
        return [by_name[name] for name in names_read(node)]

    states = [lowering.values[name] for name in cell.states]
    live = {value.name for value in (*outputs, *states)}
    step = without_dead_nodes(lowering.step, live, {i: read(n) for i, n in enumerate(lowering.step)})
    setup = without_dead_nodes(lowering.setup, live, {i: read(n) for i, n in enumerate(lowering.setup)})
    sweep = _Sweep(lowering, by_name)
    carries = tuple(sweep.carry(cell, value) for value in states)
    seeds = {value.name: sweep.seed(value) for value in outputs}
    for node in reversed(list(flatten(step))):
        sweep.visit(node)
    adjoint, sweep.nodes = sweep.nodes, []
    for node in reversed(list(flatten(setup))):
        sweep.visit(node)
    trainable = [lowering.values[v.name] for v in cell.parameters.values()]
    inputs = tuple(lowering.values[name] for name in cell.inputs)
    leaves = (*trainable, *inputs)
    gradients = {v.name: sweep.adjoints[v.name] for v in leaves if v.name in sweep.contributed}
    bare = cell.roles.bare
    program = Program(
        name=cell.name,
        reverse=cell.reverse,
        equations=tuple(equation_text(equation, bare) for equation in cell.roles.equations),
        setup=tuple(setup),
        step=tuple(step),
        adjoint=tuple(adjoint),
        setup_adjoint=tuple(sweep.nodes),
        carries=carries,
        inputs=inputs,
        parameters=tuple(v for v in lowering.values.values() if _is_parameter(v)),
        outputs=outputs,
        seeds=seeds,
        gradients=gradients,
        constants={identifier(n): v.value for n, v in cell.constants.items() if v.value is not None},
        warnings=_warnings(cell, live, gradients),
        least=lowering.least,
    )
    check(program, phases(program))
    return program


def phases(program: Program) -> list[tuple[str, Iterable[Node], Iterable[Value]]]:
    """The phases of a program with what is known before each, as `check` wants them."""
    before = [*program.inputs, *(past.value for _, past in program.pasts.values())]
    forward = [value for node in program.step for value in writes(node)]
    known = [*before, *forward, *program.seeds.values()]
    # A state's adjoint is known before anything is added: it begins with what the following step hands back.
    return [
        ("setup", program.setup, ()),
        ("step", program.step, before),
        ("adjoint", program.adjoint, [*known, *(carry.d_state for carry in program.carries)]),
        ("setup adjoint", program.setup_adjoint, ()),
    ]


def _is_parameter(value: Value) -> bool:
    return value.kind in (Kind.PARAMETER, Kind.FROZEN, Kind.CONSTANT, Kind.SIZE)


@dataclass
class _Sweep:
    """The reverse sweep: visits forward nodes from last to first and collects adjoint nodes."""

    lowering: Lowering
    by_name: dict[str, Value]
    nodes: list[Node] = field(default_factory=list)
    adjoints: dict[str, Value] = field(default_factory=dict)
    contributed: set[str] = field(default_factory=set)
    uses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for node in (*self.lowering.step, *self.lowering.setup):
            self.uses.update(names_read(node))
        self.position = {name: index for index, name in enumerate(self.by_name)}
        self.fixed = {value.name for value in self.by_name.values() if value.kind in _WITHOUT_GRADIENT}
        extremes = [node for node in (*self.lowering.step, *self.lowering.setup) if isinstance(node, Extreme)]
        self.fixed.update(node.target.name for node in extremes)
        for node in flatten((*self.lowering.setup, *self.lowering.step)):
            if self.fixed.issuperset(names_read(node)):
                self.fixed.update(value.name for value in writes(node))

    def adjoint_of(self, value: Value) -> Value:
        """``d_v`` for the value ``v``."""
        if value.name not in self.adjoints:
            kind = Kind.GRADIENT if value.timeless else Kind.ADJOINT
            made = self.lowering.new(f"d_{value.name}", value.shape, kind, f"d {value.shown}")
            self.adjoints[value.name] = made
        return self.adjoints[value.name]

    def carry(self, cell: Cell, state: Value) -> Carry:
        """How a state and its adjoint go from step to step."""
        self.contributed.add(state.name)
        d_state = self.adjoint_of(state)
        pasts = []
        for offset in sorted({*cell.roles.offsets[state.name]} - {0}, key=abs):
            value = self.lowering.pasts[At(state.name, offset).name]
            pasts.append(Past(value, self.adjoint_of(value), abs(offset)))
        return Carry(state, d_state, tuple(pasts), cell.variables[state.name].value or 0.0)

    def seed(self, output: Value) -> Value:
        """The gradient that arrives at an output; adds it to the output's adjoint."""
        seed = self.lowering.new(f"seed_{output.name}", output.shape, Kind.SEED, f"dL/d {output.shown}")
        self._add(Island((Assign(self.adjoint_of(output), seed.symbol),)), output)
        return seed

    def _add(self, node: Node, target: Value) -> None:
        self.nodes.append(node)
        self.contributed.add(target.name)

    def visit(self, node: Node) -> None:
        """Hand the adjoint of a node's target on to what the node reads."""
        (target,) = writes(node)
        if target.name not in self.contributed:
            return
        d_target = self.adjoints[target.name]
        match node:
            case Island(assigns=(Assign() as assign,)):
                self._visit_units(assign, assign.target.shape, d_target)
            case Reduce():
                self._visit_units(node, node.shape, d_target)
            case Scan():
                d_source = self.adjoint_of(node.source)
                self._add(replace(node, target=d_source, source=d_target, back=not node.back), node.source)
            case Contract():
                self._visit_contract(node, d_target)
            case Move() | Outer() | Apply() | Turn():
                for value, back in self._handed_back(node, d_target):
                    self._add(back, value)
            case Shift():
                d_source = self.adjoint_of(node.source)
                self._add(Shift(d_source, d_target, -node.offset, node.origin), node.source)

    def _handed_back(
        self, node: Move | Outer | Apply | Turn, d_target: Value
    ) -> Iterator[tuple[Value, Node]]:
        """The adjoints of sums and products of units: such sums and products."""
        origin = node.origin
        for value in dict.fromkeys(sources(node)):
            if value.name in self.fixed:
                continue
            d_value = self.adjoint_of(value)
            match node:
                case Move():
                    yield value, Move(d_value, d_target, node.size, node.start, node.into, origin)
                case Turn():
                    yield value, Turn(d_value, d_target, origin)
                case Outer():
                    if value == node.left:
                        back = Apply(d_value, d_target, node.right, node.shape, False, origin, node.repeat)
                        yield value, back
                    if value == node.right:
                        yield value, Apply(d_value, d_target, node.left, node.shape, True, origin)
                case Apply():
                    if value == node.matrix:
                        left, right = (node.vector, d_target) if node.transposed else (d_target, node.vector)
                        yield value, Outer(d_value, left, right, node.shape, origin)
                    if value == node.vector:
                        turned = not node.transposed
                        yield value, Apply(d_value, node.matrix, d_target, node.shape, turned, origin)

    def _visit_units(self, assign: Assign | Reduce, shape: Shape, d_target: Value) -> None:
        """Hand an adjoint on to what the units of ``shape`` read."""
        expression = evaluate(assign.expr)
        together: list[Assign] = []
        for symbol in symbols_in_order(assign.expr):
            value = self.by_name[symbol.name]
            if value.name in self.fixed:
                continue
            partial = _partial(expression, symbol, assign)
            if is_zero(partial):
                continue
            product = arrange(d_target.symbol * partial, self.position)
            partial = arrange(partial, self.position)
            if partial == 1 and isinstance(assign, Assign) and self._passes_on(value, assign.target):
                self.adjoints[value.name] = d_target
                self.contributed.add(value.name)
                continue
            made = self._contribution(value, product, assign, shape, d_target, partial)
            if isinstance(made, Assign):
                together.append(made)
        if together:
            self.nodes.append(Island(tuple(together)))

    def _passes_on(self, value: Value, target: Value) -> bool:
        """Whether a term of a sum, read nowhere else, can share the adjoint of the sum."""
        return (
            value.kind is Kind.LOCAL
            and not target.timeless
            and value.shape == target.shape
            and value.name not in self.adjoints
            and self.uses[value.name] == 1
        )

    def _contribution(
        self,
        value: Value,
        product: Expr,
        assign: Assign | Reduce,
        shape: Shape,
        d_target: Value,
        partial: Expr,
    ) -> Assign | None:
        d_value, origin = self.adjoint_of(value), assign.origin
        if value.timeless and not assign.target.timeless:
            self._add(SumRows(d_value, product, shape, origin), value)
        elif value.shape != shape:
            self._add(Reduce(d_value, product, shape, origin), value)
        else:
            self.contributed.add(value.name)
            return Assign(d_value, product, origin, d_target, partial)
        return None

    def _visit_contract(self, node: Contract, d_target: Value) -> None:
        for product in node.products:
            operand, weight = product.operand, product.weight
            if operand.name not in self.fixed:
                back = Product(weight, d_target, not product.transposed, product.block)
                self._add(Contract(self.adjoint_of(operand), (back,), (), node.origin), operand)
            if weight.name not in self.fixed:
                outer = OuterRows(self.adjoint_of(weight), d_target, operand, product.block, node.origin)
                self._add(outer, weight)
        for addend in node.addends:
            if addend.name in self.fixed:
                continue
            if node.target.timeless:
                assign = Assign(
                    self.adjoint_of(addend), d_target.symbol, node.origin, d_target, sympy.Integer(1)
                )
                self._add(Island((assign,)), addend)
            else:
                self._add(
                    SumRows(self.adjoint_of(addend), d_target.symbol, node.target.shape, node.origin), addend
                )


def _partial(expression: Expr, symbol: sympy.Symbol, node: Assign | Reduce) -> Expr:
    """The partial derivative, written through the value already computed where it occurs."""
    partial = sympy.diff(expression, symbol)
    if isinstance(expression, ElementWise) and isinstance(node, Assign):
        partial = partial.xreplace({expression: node.target.symbol})
    return partial


def _warnings(cell: Cell, live: set[str], gradients: dict[str, Value]) -> tuple[str, ...]:
    found = []
    read = {name for name, offsets in cell.roles.offsets.items() if offsets}
    for equation in cell.roles.equations:
        name = equation.left.signal
        if identifier(name) in live:
            continue
        if name not in read and cell.roles.of[name] is not Role.DERIVED:
            found.append(f"{name} is computed and never used")
        else:
            found.append(f"the equation of {name} has no effect on any state or output")
    for name, variable in cell.parameters.items():
        if variable.role is Role.PARAMETER and identifier(name) not in gradients:
            found.append(f"the gradient of {name} is identically zero")
    return tuple(found)
