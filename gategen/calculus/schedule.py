"""`Program` to `Schedule`: what runs before, inside and after the time loop, and what the tape keeps.

`naive` puts everything into the loop; each pass takes a schedule and returns a better one with the same
meaning, so that each can be shown and tested alone: `hoist`, `sink`, `defer`, `keep`, `fuse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sympy import Expr

from gategen.calculus.derive import phases
from gategen.calculus.fuse import Named, fuse_nodes
from gategen.calculus.invariants import check
from gategen.calculus.ir import (
    Along,
    Assign,
    Contract,
    Island,
    Kind,
    Move,
    Node,
    Outer,
    OuterRows,
    Reduce,
    Shift,
    SumRows,
    Value,
    flatten,
    writes,
)
from gategen.calculus.program import Program
from gategen.language.functions import ElementWise


@dataclass(frozen=True)
class Phases:
    """The nodes of one pass: for all steps at once, step by step, and again for all steps at once."""

    before: tuple[Node, ...]
    loop: tuple[Node, ...]
    after: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in order."""
        return (*self.before, *self.loop, *self.after)


@dataclass(frozen=True)
class Slot:
    """One tape plane (T, B, width), under the name of the value that it keeps."""

    value: Value


@dataclass(frozen=True)
class Pack:
    """All weights that meet one operand in one phase: one packed matrix."""

    phase: str
    operand: Value
    weights: tuple[Value, ...]


@dataclass(frozen=True)
class Choice:
    """One decision, the condition under which it is taken, and the reason."""

    decision: str
    when: str
    why: str


@dataclass(frozen=True)
class Schedule:
    """A program with everything put into its place.

    Attributes:
        program: What is scheduled.
        forward: The forward pass.
        backward: The adjoint pass.
        tape: What the forward pass keeps for the adjoint.
        choices: Why it is so.
    """

    program: Program
    forward: Phases
    backward: Phases
    tape: tuple[Slot, ...]
    choices: tuple[Choice, ...] = ()

    @property
    def packs(self) -> tuple[Pack, ...]:
        """Weights grouped by the operand that they share."""
        found = []
        for name, phases_ in (("forward", self.forward), ("backward", self.backward)):
            for place in ("before", "loop", "after"):
                groups: dict[str, list[Value]] = {}
                operands: dict[str, Value] = {}
                for node in getattr(phases_, place):
                    for product in node.products if isinstance(node, Contract) else ():
                        operands[product.operand.name] = product.operand
                        groups.setdefault(product.operand.name, []).append(product.weight)
                for operand, weights in groups.items():
                    found.append(Pack(f"{name} {place}", operands[operand], tuple(weights)))
        return tuple(found)


def schedule(program: Program) -> Schedule:
    """All passes in order."""
    return fuse(keep(defer(sink(hoist(naive(program))))))


def naive(program: Program) -> Schedule:
    """Everything inside the loop, and everything on the tape."""
    step = [node for node in program.step if not isinstance(node, Shift)]
    shifts = [node for node in program.step if isinstance(node, Shift)]
    adjoint = [node for node in program.adjoint if not isinstance(node, Shift)]
    unshifts = [node for node in program.adjoint if isinstance(node, Shift)]
    kept = {v.name: v for node in program.step for v in writes(node) if not v.timeless}
    return Schedule(
        program,
        Phases(tuple(shifts), tuple(step), ()),
        Phases((), tuple(adjoint), tuple(unshifts)),
        tuple(Slot(value) for value in kept.values()),
    )


def hoist(plan: Schedule) -> Schedule:
    """Products whose operand depends on no state leave the loop as one product over all steps."""
    program = plan.program
    before, loop, notes = _hoisted(program, plan.forward.loop, set(program.pasts), "state")
    forward = Phases((*plan.forward.before, *before), loop, plan.forward.after)
    arriving = {carry.d_state.name for carry in program.carries}
    before, loop, more = _hoisted(program, plan.backward.loop, arriving, "later step")
    backward = Phases((*plan.backward.before, *before), loop, plan.backward.after)
    return replace(plan, forward=forward, backward=backward, choices=(*plan.choices, *notes, *more))


def _hoisted(
    program: Program, loop: Sequence[Node], bound: set[str], what: str
) -> tuple[tuple[Node, ...], tuple[Node, ...], list[Choice]]:
    nodes = list(flatten(loop))
    bound = set(bound)
    for node in nodes:
        if any(value.name in bound for value in program.reads(node)):
            bound.update(value.name for value in writes(node))
    before: list[Node] = []
    rest: list[Node] = []
    notes = []
    for node in nodes:
        if not isinstance(node, Contract):
            rest.append(node)
            continue
        free = tuple(p for p in node.products if p.operand.name not in bound)
        held = tuple(p for p in node.products if p.operand.name in bound)
        if free:
            hoisted = replace(node, products=free)
            before.append(hoisted)
            notes.append(Choice(f"hoist {sum_text(hoisted)}", "always", f"depends on no {what}"))
        if held:
            rest.append(replace(node, products=held, addends=() if free else node.addends))
    needed = {value.name for node in before for value in program.reads(node)}
    first: list[Node] = []
    for node in reversed(rest):
        if isinstance(node, (Island, Reduce, Along)) and any(v.name in needed for v in writes(node)):
            needed.update(value.name for value in program.reads(node))
            first.append(node)
    kept = [node for node in rest if not any(node is other for other in first)]
    return (*_in_order(nodes, [*first, *before]),), tuple(kept), notes


def _in_order(order: Sequence[Node], chosen: list[Node]) -> list[Node]:
    """The chosen nodes, which may be parts of the originals, in the order of the originals."""
    place = {id(node): index for index, node in enumerate(order)}
    targets = {
        (n.target.name, n.origin, n.addends): i for i, n in enumerate(order) if isinstance(n, Contract)
    }

    def key(node: Node) -> int:
        if id(node) in place:
            return place[id(node)]
        assert isinstance(node, Contract)
        return targets[(node.target.name, node.origin, node.addends)]

    return sorted(chosen, key=key)


def sink(plan: Schedule) -> Schedule:
    """Products that no later step needs move behind the loop as one product over all steps."""
    program = plan.program
    states = {carry.state.name for carry in program.carries}
    loop, after, notes = _sunk(program, plan.forward.loop, states)
    forward = Phases(plan.forward.before, loop, (*after, *plan.forward.after))
    pasts = {past.adjoint.name for _, past in program.pasts.values()}
    loop, after, more = _sunk(program, plan.backward.loop, pasts)
    backward = Phases(plan.backward.before, loop, (*after, *plan.backward.after))
    return replace(plan, forward=forward, backward=backward, choices=(*plan.choices, *notes, *more))


def _sunk(
    program: Program, loop: Sequence[Node], carried: set[str]
) -> tuple[tuple[Node, ...], tuple[Node, ...], list[Choice]]:
    nodes = list(flatten(loop))
    needed = set(carried)
    for node in reversed(nodes):
        if any(value.name in needed for value in writes(node)):
            needed.update(value.name for value in program.reads(node))
    moved = [n for n in nodes if isinstance(n, Contract) and n.target.name not in needed]
    notes = [Choice(f"sink {sum_text(node)}", "always", "no later step needs it") for node in moved]
    targets = {node.target.name for node in moved}
    kept = []
    after: list[Node] = []
    for node in nodes:
        if any(node is other for other in moved) or any(v.name in targets for v in program.reads(node)):
            after.append(node)
            targets.update(value.name for value in writes(node))
        else:
            kept.append(node)
    return tuple(kept), tuple(after), notes


def defer(plan: Schedule) -> Schedule:
    """Weight gradients become one product over all steps and the batch, bias gradients one sum."""
    loop = list(flatten(plan.backward.loop))
    outer = [node for node in loop if isinstance(node, OuterRows)]
    planes = {value.name for node in outer for value in (node.left, node.right)}
    sums = [n for n in loop if isinstance(n, SumRows) and n.expr.is_Symbol and n.expr.name in planes]
    moved = {id(node) for node in (*outer, *sums)}
    kept = tuple(node for node in loop if id(node) not in moved)
    after = (*plan.backward.after, *(node for node in loop if id(node) in moved))
    notes = tuple(
        Choice(f"defer {node.target.name}", "always", "a sum over all steps and the batch") for node in outer
    )
    backward = Phases(plan.backward.before, kept, after)
    return replace(plan, backward=backward, choices=(*plan.choices, *notes))


def keep(plan: Schedule) -> Schedule:
    """The tape keeps what the adjoint reads and what is dearer to recompute than to store."""
    program = plan.program
    made: dict[str, list[Node]] = {}
    step = list(flatten(program.step))
    for node in step:
        for value in writes(node):
            made.setdefault(value.name, []).append(node)
    state_of = {name: carry.state for name, (carry, _) in program.pasts.items()}
    own = {v.name for node in plan.backward.nodes for v in writes(node)}
    wide = _names_read(program, (*plan.backward.before, *plan.backward.after))
    kept: dict[str, Value] = {}
    again: list[Node] = []
    shifts: dict[str, Node] = {}
    notes = []
    pending = sorted(_names_read(program, plan.backward.nodes) - own, key=list(program.values).index)
    done: set[str] = set()
    while pending:
        name = pending.pop(0)
        value = program.values[name]
        if name in done or value.timeless or value.kind in (Kind.INPUT, Kind.SEED, Kind.ADJOINT):
            continue
        done.add(name)
        if value.kind is Kind.PAST:
            kept[state_of[name].name] = state_of[name]
        elif value.kind is Kind.SHIFTED:
            (shifts[name],) = made[name]
        elif value.kind is Kind.LOCAL and name not in wide and all(map(_is_cheap, made[name])):
            again += made[name]
            pending += [read.name for node in made[name] for read in program.reads(node)]
            notes.append(Choice(f"recompute {name}", "always", "cheaper than a store and a load"))
        else:
            kept[name] = value
    order = list(program.values)
    place = {id(node): index for index, node in enumerate(step)}
    again.sort(key=lambda node: place[id(node)])
    tape = tuple(Slot(kept[name]) for name in sorted(kept, key=order.index))
    backward = Phases(
        (*(shifts[name] for name in sorted(shifts)), *plan.backward.before),
        (*again, *plan.backward.loop),
        plan.backward.after,
    )
    notes += [
        Choice(f"keep {slot.value.name} on the tape", "training", "the adjoint reads it") for slot in tape
    ]
    return replace(plan, backward=backward, tape=tape, choices=(*plan.choices, *notes))


def _names_read(program: Program, nodes: Iterable[Node]) -> set[str]:
    return {value.name for node in nodes for value in program.reads(node)}


def _is_cheap(node: Node) -> bool:
    """Whether recomputing a value takes additions and multiplications only."""
    if isinstance(node, (Move, Outer)):
        return True
    if not isinstance(node, Island) or not isinstance(node.assigns[0], Assign):
        return False
    return not any(_is_dear(part) for part in _parts(node.assigns[0].expr))


def _is_dear(part: Expr) -> bool:
    return isinstance(part, ElementWise) or (part.is_Pow and not (part.exp.is_Integer and part.exp > 0))


def _parts(expression: Expr) -> list[Expr]:
    return [expression, *(part for argument in expression.args for part in _parts(argument))]


def fuse(plan: Schedule) -> Schedule:
    """All element-wise work between two barriers is one loop; products into one target are one chain."""
    program = plan.program
    named: Named = {}

    def fused(part: Phases) -> Phases:
        used: set[str] = set()
        groups = (part.before, part.loop, part.after)
        return Phases(*(fuse_nodes(program, nodes, named, used) for nodes in groups))

    forward, backward = fused(plan.forward), fused(plan.backward)
    shared = replace(program, shared=tuple(named.values()))
    return replace(plan, program=shared, forward=forward, backward=backward)


def sum_text(node: Contract) -> str:
    """``W @ v + U @ u into a``: the products of a node and where they go."""
    products = [product_text(p.weight, p.operand, p.transposed) for p in node.products]
    return f"{' + '.join(products)} into {node.target.name}"


def product_text(weight: Value, operand: Value, transposed: bool) -> str:
    """``W @ v`` as an author would write it."""
    left = f"T({weight.shown})" if transposed else weight.shown
    return f"{left} @ {operand.name if operand.kind is Kind.ADJOINT else operand.shown}"


def check_schedule(plan: Schedule) -> None:
    """Assert that the phases in their order are a legal program."""
    program = plan.program
    forward, adjoint = [], []
    for name, _, known in phases(program):
        if name == "step":
            forward = list(known)
        if name == "adjoint":
            adjoint = [v for v in known if v.kind in (Kind.INPUT, Kind.SEED, Kind.ADJOINT)]
    slots = [slot.value for slot in plan.tape]
    taped = {value.name for value in slots}
    pasts = [past.value for carry, past in program.pasts.values() if carry.state.name in taped]
    known = [*adjoint, *slots, *pasts]
    check(program, [("forward", plan.forward.nodes, forward), ("backward", plan.backward.nodes, known)])
