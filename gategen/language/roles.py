"""What every name of a cell is, found from where it is assigned and read (design, section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sympy import Expr

from gategen.errors import LimitError, Position, RoleError, UnknownName, nearest
from gategen.language.arrangements import Arrangement
from gategen.language.notation import At, Eq, MatVec, Parameter, evaluate, substitute, symbols_in_order
from gategen.language.reductions import Reduction
from gategen.language.shapes import Width


class Role(StrEnum):
    """What a name stands for in a cell."""

    INPUT = "input"
    STATE = "state"
    OUTPUT = "output"
    INTERMEDIATE = "intermediate"
    DERIVED = "derived"
    PARAMETER = "parameter"
    FROZEN = "frozen"
    CONSTANT = "constant"
    SIZE = "size"


MAX_DELAY = 10_000
"""Steps that a sequence may start from: each is an array of the size of a state."""

DECLARABLE = ("constant", "scalar", "vector", "weight", "frozen", "sequence", "input", "state", "output")

CLOCK = "t"
"""The input that is the number of the step; a run counts where the caller gives nothing."""


@dataclass(frozen=True)
class Declaration:
    """``name: kind[dims] = value``: what inference cannot know.

    Attributes:
        name: The declared name.
        kind: One of `DECLARABLE`.
        dims: The widths in brackets, None when left out.
        value: The number behind ``=``, None when left out.
    """

    name: str
    kind: str
    dims: tuple[Width, ...] | None = None
    value: float | None = None
    where: Position | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Declaration):
            return NotImplemented
        return (self.name, self.kind, self.dims, self.value) == (
            other.name,
            other.kind,
            other.dims,
            other.value,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.kind, self.dims, self.value))


@dataclass(frozen=True)
class Roles:
    """The names of a cell with their roles.

    Attributes:
        equations: The equations with every name assigned once; all but the last value of a bare name
            that is assigned again carry a numbered name.
        of: Role of every name, in the author's order.
        offsets: For every signal, the offsets at which it is read, ascending.
        reverse: Whether the cell runs from right to left.
        outputs: Names that the cell gives back.
        constant: The inputs that are the same in all steps of a sequence.
    """

    equations: tuple[Eq, ...]
    of: Mapping[str, Role]
    offsets: Mapping[str, tuple[int, ...]]
    reverse: bool
    outputs: tuple[str, ...]
    constant: frozenset[str] = frozenset()

    @property
    def bare(self) -> frozenset[str]:
        """What is written without ``[t]``."""
        assigned = frozenset(equation.left.signal for equation in self.equations if equation.bare)
        return assigned | self.constant | {CLOCK}

    def names(self, *roles: Role) -> tuple[str, ...]:
        """All names with one of these roles, in the author's order."""
        return tuple(name for name, role in self.of.items() if role in roles)


def find_roles(equations: Iterable[Eq], declarations: Mapping[str, Declaration]) -> Roles:
    """Give every name its role; raises `RoleError` where the reads and assignments contradict each other."""
    equations = single_assignment(list(equations))
    if not equations:
        raise RoleError("the cell has no equations", expected="at least one, such as h[t] = tanh(W @ x[t])")
    assigned = {equation.left.signal: equation for equation in equations}
    offsets = _offsets(equations)
    states = _states(assigned, offsets, declarations)
    reverse = _direction(states, offsets, equations)
    _check_order(equations, assigned)
    of: dict[str, Role] = {}
    for name in offsets:
        if name not in assigned:
            _check_input(name, offsets[name], declarations, equations)
            of[name] = Role.INPUT
    for name, declaration in declarations.items():
        if declaration.kind == "input" and name not in of:
            problem = f"{name} is declared as input but never read"
            raise RoleError(problem, declaration.where, f"{name}[t] in an equation")
    constant = frozenset(name for name, d in declarations.items() if d.kind == "sequence" and name in of)
    if of.keys() <= constant | {CLOCK}:
        raise RoleError("the cell reads no input", equations[0].position(), "a name read as x[t]")
    of.update({name: Role.STATE for name in assigned if name in states})
    for name, equation in assigned.items():
        if name not in of:
            of[name] = _assigned_role(equation, offsets, of, declarations)
    for equation in equations:
        for symbol in symbols_in_order(equation.right):
            if isinstance(symbol, Parameter):
                of.setdefault(symbol.name, _parameter_role(symbol.name, declarations))
    _check_used(declarations, of)
    outputs = _outputs(equations, of, declarations)
    return Roles(tuple(equations), of, offsets, reverse, outputs, constant)


def single_assignment(equations: list[Eq]) -> list[Eq]:
    """Number all but the last value of every bare name that is assigned again."""
    count: dict[str, int] = {}
    bare: dict[str, bool] = {}
    for equation in equations:
        name = equation.left.signal
        count[name] = count.get(name, 0) + 1
        if count[name] > 1 and not (equation.bare and bare[name]):
            expected = f"one equation for {name}[t], or bare names for what is assigned again"
            raise RoleError(f"{name}[t] is assigned twice", equation.position(), expected)
        bare[name] = equation.bare
    taken, seen = set(count), dict.fromkeys(count, 0)
    current: dict[Expr, Expr] = {}
    result = []
    for equation in equations:
        name = equation.left.signal
        right = substitute(equation.right, current)
        seen[name] += 1
        left = equation.left
        if seen[name] < count[name]:
            number = seen[name]
            while f"{name}_{number}" in taken:
                number += 1
            taken.add(f"{name}_{number}")
            left = At(f"{name}_{number}")
        current[At(name)] = left
        result.append(replace(equation, left=left, right=right))
    return result


def _offsets(equations: Iterable[Eq]) -> dict[str, tuple[int, ...]]:
    found: dict[str, set[int]] = {}
    for equation in equations:
        for symbol in symbols_in_order(equation.right):
            if isinstance(symbol, At):
                found.setdefault(symbol.signal, set()).add(symbol.offset)
                if abs(symbol.offset) > MAX_DELAY:
                    problem = f"{symbol} reads {abs(symbol.offset)} steps away"
                    expected = f"a delay of at most {MAX_DELAY} steps"
                    raise LimitError(problem, equation.position(symbol), expected)
    return {name: tuple(sorted(offsets)) for name, offsets in found.items()}


def _states(
    assigned: Mapping[str, Eq],
    offsets: Mapping[str, tuple[int, ...]],
    declarations: Mapping[str, Declaration],
) -> set[str]:
    states = {name for name in assigned if any(offset for offset in offsets.get(name, ()))}
    for name in states:
        if assigned[name].bare:
            shifted = At(name, next(offset for offset in offsets[name] if offset))
            raise RoleError(
                f"{shifted} is read, but {name} is assigned without [t]",
                assigned[name].position(),
                f"{name}[t] = ...",
            )
    for name, declaration in declarations.items():
        if declaration.kind == "state" and name not in states:
            problem, expected = "never assigned", f"an equation {name}[t] = ..."
            if name in assigned:
                problem, expected = "never read at another time", f"{name}[t-1] in an equation"
            raise RoleError(f"{name} is declared as state but {problem}", declaration.where, expected)
        if declaration.kind not in ("state", "output") and name in assigned:
            kind, where = declaration.kind, assigned[name].position()
            raise RoleError(f"{name} is declared as {kind} but assigned", where, "another name")
    return states


def _direction(states: set[str], offsets: Mapping[str, tuple[int, ...]], equations: Iterable[Eq]) -> bool:
    forward = backward = None
    for equation in equations:
        for symbol in symbols_in_order(equation.right):
            if isinstance(symbol, At) and symbol.signal in states and symbol.offset:
                if symbol.offset < 0:
                    forward = forward or symbol
                else:
                    backward = backward or symbol
                if forward is not None and backward is not None:
                    raise RoleError(
                        f"the cell reads {forward} and {backward}: it cannot run in both directions",
                        equation.position(symbol),
                        "past values only (left to right) or future values only (right to left)",
                    )
    return backward is not None


def _check_order(equations: list[Eq], assigned: Mapping[str, Eq]) -> None:
    done: set[str] = set()
    for equation in equations:
        for symbol in symbols_in_order(equation.right):
            if isinstance(symbol, Parameter) and symbol.name in assigned:
                name = symbol.name
                raise RoleError(
                    f"{name} is assigned as {name}[t]", equation.position(symbol), f"{name}[t] here too"
                )
            if not isinstance(symbol, At) or symbol.offset or symbol.signal in done:
                continue
            name = symbol.signal
            if name in assigned:
                past = "" if assigned[name].bare else f"{name}[t-1] for its value one step back"
                above = "" if past and assigned[name] is equation else f"an equation of {name} above this one"
                expected = ", or ".join(part for part in (above, past) if part)
                raise RoleError(f"{name} is read before it is assigned", equation.position(symbol), expected)
        done.add(equation.left.signal)


def _check_input(
    name: str,
    offsets: tuple[int, ...],
    declarations: Mapping[str, Declaration],
    equations: Iterable[Eq],
) -> None:
    if 0 in offsets or (name in declarations and declarations[name].kind == "input"):
        return
    symbol = At(name, offsets[0])
    where = next(e.position(symbol) for e in equations if symbol in symbols_in_order(e.right))
    raise RoleError(
        f"{symbol} is read but {name}[t] is never assigned",
        where,
        f"an equation {name}[t] = ..., or the declaration '{name}: input'",
    )


def _assigned_role(
    equation: Eq,
    offsets: Mapping[str, tuple[int, ...]],
    of: Mapping[str, Role],
    declarations: Mapping[str, Declaration],
) -> Role:
    name = equation.left.signal
    if name in declarations and declarations[name].kind == "output":
        return Role.OUTPUT
    reads = [s for s in symbols_in_order(equation.right) if isinstance(s, At)]
    if equation.bare and all(of.get(symbol.signal) is Role.DERIVED for symbol in reads):
        return Role.DERIVED
    return Role.INTERMEDIATE if equation.bare or name in offsets else Role.OUTPUT


def _parameter_role(name: str, declarations: Mapping[str, Declaration]) -> Role:
    if name not in declarations:
        sizes = {n for d in declarations.values() for dim in d.dims or () for n in dim.names}
        return Role.SIZE if name in sizes else Role.PARAMETER
    kind = declarations[name].kind
    return {"constant": Role.CONSTANT, "frozen": Role.FROZEN}.get(kind, Role.PARAMETER)


def _check_used(declarations: Mapping[str, Declaration], of: Mapping[str, Role]) -> None:
    for name, declaration in declarations.items():
        if name in of or declaration.kind in ("constant", "output"):
            continue
        problem = f"{name} is declared but never used"
        near = nearest(name, set(of) - set(declarations))
        raise UnknownName(problem, declaration.where, f"{name} in an equation", near)


def _outputs(
    equations: Iterable[Eq], of: Mapping[str, Role], declarations: Mapping[str, Declaration]
) -> tuple[str, ...]:
    declared = [n for n, d in declarations.items() if d.kind == "output"]
    for name in declared:
        if of.get(name) not in (Role.OUTPUT, Role.STATE, Role.INTERMEDIATE):
            problem = f"{name} is declared as output but never assigned per step"
            raise RoleError(problem, declarations[name].where, f"an equation {name}[t] = ...")
    if declared:
        return tuple(declared)
    last = [e.left.signal for e in equations if of[e.left.signal] is Role.STATE][-1:]
    found = [e.left.signal for e in equations if of[e.left.signal] is Role.OUTPUT or e.left.signal in last]
    if not found:
        last_equation = list(equations)[-1]
        expected = f"{last_equation.left.signal}[t] = ... in the equation of the result"
        problem = "the cell has neither a state nor an output"
        raise RoleError(problem, last_equation.position(), expected)
    return tuple(found)


def multiplied(equations: Iterable[Eq]) -> frozenset[str]:
    """Names that scale something: factors and divisors, whose neutral value is one, not zero."""
    found: set[str] = set()

    def visit(node: object, factor: bool) -> None:
        if isinstance(node, Parameter) and factor:
            found.add(node.name)
        arguments = getattr(node, "args", ())
        inside = getattr(node, "is_Mul", False) or getattr(node, "is_Pow", False)
        # A gain for the columns of a matrix, g[None, :], is one too.
        inside |= factor and isinstance(node, Arrangement) and node.row.ranks == (1,)
        for place, argument in enumerate(arguments):
            gain = isinstance(node, Reduction) and node.row.name == "layer_norm" and place == 1
            visit(argument, gain or (inside and not isinstance(node, MatVec)))

    for equation in equations:
        visit(evaluate(equation.right), False)
    return frozenset(found)
