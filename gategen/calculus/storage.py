"""Where every value of a `Schedule` lives: a register, a buffer of one step, or a plane of all steps.

Gates are kept in place: the plane that is to hold a gate holds its pre-activation first, and in the adjoint
pass the gradient of the pre-activation overwrites the gate once nothing reads it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gategen.calculus.fuse import fuse_nodes
from gategen.calculus.ir import (
    Assign,
    Island,
    Kind,
    Node,
    Value,
    names_read,
    writes,
)
from gategen.calculus.program import Program
from gategen.calculus.schedule import Phases, Schedule
from gategen.language.notation import symbols_in_order


class Home(StrEnum):
    """The kinds of place."""

    REGISTER = "register"  # inside one fused loop
    STEP = "step"  # (B, width), anew each step
    RING = "ring"  # (T, B, width) with a tape, the last few steps without
    PLANE = "plane"  # (T, B, width)


@dataclass(frozen=True)
class Placement:
    """The homes of one pass.

    Attributes:
        phases: The nodes of the pass; in the adjoint pass the arriving adjoints are its first contributions.
        home: Home of every time-dependent value that the pass computes or finds on the tape.
        alias: Values that live in the plane of another one.
    """

    phases: Phases
    home: Mapping[str, Home]
    alias: Mapping[str, str]


@dataclass(frozen=True)
class Storage:
    """Both passes, and for each state the buffer in which its adjoint arrives from the following step."""

    forward: Placement
    backward: Placement
    arriving: Mapping[str, Value]


def place(plan: Schedule) -> Storage:
    """Give every value of both passes a home."""
    program = plan.program
    taped = {slot.value.name for slot in plan.tape}
    forward_home = _homes(program, plan.forward)
    stepwise = {value.name for node in plan.forward.loop for value in writes(node)}
    for name in taped | {carry.state.name for carry in program.carries}:
        if forward_home.get(name) is not Home.PLANE:
            # What is computed for all steps at once takes the place of all steps, even without a tape.
            forward_home[name] = Home.RING if name in stepwise else Home.PLANE
    wide = {name for node in (*plan.forward.before, *plan.forward.after) for name in names_read(node)}
    for carry in program.carries:
        if any(past.value.name in wide for past in carry.pasts):
            # A head on h[t-1] reads the states of all steps when the loop is over.
            forward_home[carry.state.name] = Home.PLANE
    for output in program.outputs:
        if forward_home.get(output.name) is Home.REGISTER:
            forward_home[output.name] = Home.STEP if output.name in stepwise else Home.PLANE
    alias = _share_forward(program, plan.forward, forward_home, taped)
    for target in alias.values():
        forward_home[target] = Home.PLANE
    arriving = {c.state.name: _arriving(program, c.state, c.d_state) for c in program.carries}
    backward = _with_arrivals(program, plan.backward, arriving)
    backward_home = _homes(program, backward)
    backward_home.update(dict.fromkeys(taped, Home.PLANE))
    for carry in program.carries:
        for past in carry.pasts:
            if backward_home.get(past.adjoint.name) is not Home.PLANE:
                backward_home[past.adjoint.name] = Home.STEP
            # Else contributions for all steps are made before the loop, those of a gate that no state reads.
        backward_home[arriving[carry.state.name].name] = Home.STEP if carry.delay == 1 else Home.RING
    alias_back = _share_backward(program, backward, backward_home, plan)
    return Storage(
        Placement(plan.forward, forward_home, alias),
        Placement(backward, backward_home, alias_back),
        arriving,
    )


def _arriving(program: Program, state: Value, d_state: Value) -> Value:
    name = f"back_{state.name}"
    while name in program.values:
        name += "_"
    return Value(name, state.shape, Kind.ADJOINT, f"{d_state.shown} from the following step")


def _with_arrivals(program: Program, phases: Phases, arriving: Mapping[str, Value]) -> Phases:
    first = [Island((Assign(carry.d_state, arriving[carry.state.name].symbol),)) for carry in program.carries]
    known = replace(program, shared=(*program.shared, *arriving.values()))
    return replace(phases, loop=fuse_nodes(known, (*first, *phases.loop), {}, set()))


def _homes(program: Program, phases: Phases) -> dict[str, Home]:
    """Registers where one loop makes and uses a value, step buffers within a phase, planes beyond."""
    users: dict[str, set[tuple[str, int]]] = {}
    makers: dict[str, set[tuple[str, int]]] = {}
    barriers: set[str] = set()
    for phase in ("before", "loop", "after"):
        for index, node in enumerate(getattr(phases, phase)):
            for value in writes(node):
                makers.setdefault(value.name, set()).add((phase, index))
                if not isinstance(node, Island):
                    barriers.add(value.name)
            for name in names_read(node):
                users.setdefault(name, set()).add((phase, index))
                if not isinstance(node, Island):
                    barriers.add(name)
            if isinstance(node, Island):
                barriers.update(v.name for v in writes(node) if v.shape != node.shape)
    homes = {}
    inputs = {program.gradients[v.name].name for v in program.inputs if v.name in program.gradients}
    for name, made in makers.items():
        if program.values[name].timeless:
            continue
        places = made | users.get(name, set())
        in_phases = {phase for phase, _ in places}
        if (in_phases != {"loop"} and (len(places) > 1 or name in barriers)) or name in inputs:
            homes[name] = Home.PLANE
        elif len(places) > 1 or name in barriers:
            homes[name] = Home.STEP
        else:
            homes[name] = Home.REGISTER
    return homes


def _positions(nodes: Sequence[Node], name: str, reading: bool) -> list[tuple[int, int]]:
    """Where a value is read or written: (node, assignment) within a phase."""
    found = []
    for index, node in enumerate(nodes):
        if isinstance(node, Island):
            for inner, assign in enumerate(node.assigns):
                names = [s.name for s in symbols_in_order(assign.expr)] if reading else [assign.target.name]
                if name in names:
                    found.append((index, inner))
        elif name in (names_read(node) if reading else [v.name for v in writes(node)]):
            found.append((index, -1))
    return found


def _share_forward(
    program: Program, phases: Phases, home: Mapping[str, Home], taped: set[str]
) -> dict[str, str]:
    """Hoisted pre-activations live in the plane of the gate that is made of them."""
    alias: dict[str, str] = {}
    # An output goes to the caller after the loop, so nothing may overwrite it before.
    later = {name for node in phases.after for name in names_read(node)}
    later |= {value.name for value in program.outputs}
    for name, where in home.items():
        if where is not Home.PLANE or name in taped or name in later:
            continue
        reads = _positions(phases.loop, name, reading=True)
        for island, assign in _assigns(phases.loop):
            target = assign.target
            if (
                target.name in taped - set(alias.values())
                and home[target.name] is Home.RING
                and target.kind is Kind.LOCAL
                and target.shape == program.values[name].shape
                and program.values[name].symbol in assign.expr.free_symbols
                and max(reads) <= _positions(phases.loop, target.name, reading=False)[0]
                and {node for node, _ in reads} == {island}
            ):
                alias[name] = target.name
                break
    return alias


def _share_backward(
    program: Program, phases: Phases, home: Mapping[str, Home], plan: Schedule
) -> dict[str, str]:
    """Adjoints needed after the loop overwrite a tape plane that nothing reads any more."""
    alias: dict[str, str] = {}
    outside = {name for node in (*phases.before, *phases.after) for name in names_read(node)}
    free = {s.value.name: s.value for s in plan.tape if s.value.kind is Kind.LOCAL}
    early = {value.name for node in phases.before for value in writes(node)}
    own = {program.gradients[v.name].name for v in program.inputs if v.name in program.gradients}
    for name, where in home.items():
        if where is not Home.PLANE or name in free or name in early or name in own:
            continue
        written = _positions(phases.loop, name, reading=False)
        if not written or any(inner < 0 for _, inner in written):
            continue
        if program.values[name].kind is not Kind.ADJOINT:
            continue
        for candidate in _near(phases.loop, name, free):
            reads = _positions(phases.loop, candidate, reading=True)
            fits = free[candidate].shape == program.values[name].shape
            if fits and candidate not in outside and max(reads, default=(-1, -1)) <= min(written):
                alias[name] = candidate
                del free[candidate]
                break
    return alias


def _near(loop: Sequence[Node], name: str, free: Mapping[str, Value]) -> list[str]:
    """Free planes, those that the adjoint is made of first."""
    made_of = [
        symbol.name
        for _, assign in _assigns(loop)
        if assign.target.name == name
        for symbol in symbols_in_order(assign.expr)
    ]
    return [candidate for candidate in dict.fromkeys([*made_of, *free]) if candidate in free]


def _assigns(nodes: Iterable[Node]) -> list[tuple[int, Assign]]:
    return [
        (index, assign)
        for index, node in enumerate(nodes)
        if isinstance(node, Island)
        for assign in node.assigns
        if isinstance(assign, Assign)
    ]
