"""`Cell`: the equations of one recurrent step, with roles and widths solved and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from gategen.errors import CellSyntaxError, RoleError, UnknownName, nearest
from gategen.language.inference import infer_shapes
from gategen.language.names import PLAIN, fault, key_of, speaks_for_itself
from gategen.language.notation import At, Eq, Parameter, evaluate, symbols_in_order
from gategen.language.roles import CLOCK, Declaration, Role, Roles, find_roles, multiplied
from gategen.language.shapes import Shape
from gategen.language.text import cell_text


@dataclass(frozen=True)
class Variable:
    """One name of a cell.

    Attributes:
        name: The author's name.
        role: What it stands for.
        shape: ``()``, ``(width,)`` or ``(rows, columns)``; a batch of sequences puts (T, B) before it.
        value: Initial value of a state, of a parameter, or the value of a constant; None if undeclared.
        multiplied: Whether it scales something, so that its neutral value is one.
    """

    name: str
    role: Role
    shape: Shape
    value: float | None = None
    multiplied: bool = False


_KEPT_AS_ROWS = (Role.INPUT, Role.STATE, Role.OUTPUT, Role.INTERMEDIATE)
"""What has time: there a matrix is the row of its elements, one row of the matrix after the other."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell.

    Args:
        name: Used for files and C functions.
        equations: One `Eq` per assignment, in order.
        declarations: What cannot be inferred; `gategen.declare` makes them.
        doc: Title and citation.

    Raises:
        CellError: The equations contradict themselves; the error says where.
    """

    name: str
    equations: tuple[Eq, ...]
    declarations: tuple[Declaration, ...] = ()
    doc: str = ""
    _outputs: tuple[str, ...] = field(default=(), repr=False)

    def __init__(
        self,
        name: str,
        equations: Iterable[Eq],
        declarations: Iterable[Declaration] = (),
        doc: str = "",
        _outputs: Iterable[str] = (),
    ) -> None:
        for key, value in (("name", name), ("doc", doc)):
            object.__setattr__(self, key, value)
        object.__setattr__(self, "equations", tuple(equations))
        object.__setattr__(self, "declarations", tuple(declarations))
        object.__setattr__(self, "_outputs", tuple(_outputs))
        self._check_names()
        _ = self.variables

    def _check_names(self) -> None:
        named = [(e.left.signal, e.position()) for e in self.equations]
        for equation in self.equations:
            for symbol in symbols_in_order(equation.right):
                name = symbol.name if isinstance(symbol, Parameter) else symbol.signal
                if symbol != At(CLOCK):
                    named.append((key_of(name) or name, equation.position(symbol)))
        for declaration in self.declarations:
            brackets = [name for width in declaration.dims or () for name in width.names]
            named += [(name, declaration.where) for name in (declaration.name, *brackets)]
        for name, where in named:
            problem = fault(name)
            if problem:
                raise CellSyntaxError(f"{name!r} {problem}", where, PLAIN)

    def elements(self, name: str) -> str:
        """``n rows of m`` for a value whose rows hold the elements of a matrix; empty for any other name."""
        variable = self.variables.get(name)
        if variable is None or len(variable.shape) < 2 or variable.role not in _KEPT_AS_ROWS:
            return ""
        rows, columns = variable.shape
        return f"{rows} rows of {columns}"

    @cached_property
    def _declared(self) -> dict[str, Declaration]:
        declared: dict[str, Declaration] = {}
        for declaration in self.declarations:
            if declaration.name in declared:
                raise RoleError(f"{declaration.name} is declared twice", declaration.where)
            declared[declaration.name] = declaration
        for name, base in self._keyed.items():
            if base in declared:
                declared[name] = replace(declared[base], name=name)
        for base in set(self._keyed.values()) & set(declared):
            del declared[base]
        return declared

    @cached_property
    def _keyed(self) -> dict[str, str]:
        """``U_h`` for every ``U_h[0]``: one declaration serves all keys."""
        keyed: dict[str, str] = {}
        code: dict[str, str] = {}
        for equation in self.equations:
            for symbol in symbols_in_order(equation.right):
                if not isinstance(symbol, Parameter):
                    continue
                base, where = key_of(symbol.name), equation.position(symbol)
                other = code.setdefault(symbol.name.replace("[", "_").rstrip("]"), symbol.name)
                if other != symbol.name:
                    problem = f"{symbol.name} and {other} would have the same name in generated code"
                    raise RoleError(problem, where, "names that differ in more than brackets")
                if base:
                    keyed[symbol.name] = base
        assigned = {equation.left.signal for equation in self.equations}
        for name in sorted(set(code) & assigned):
            if code[name] != name:
                raise RoleError(f"{code[name]} and {name} would have the same name in generated code")
        return keyed

    @cached_property
    def roles(self) -> Roles:
        """The role of every name."""
        return find_roles(self.equations, self._declared)

    @cached_property
    def _shapes(self) -> tuple[dict[str, Shape], dict[str, tuple[str, ...]]]:
        return infer_shapes(self.roles, self._declared)

    @cached_property
    def variables(self) -> Mapping[str, Variable]:
        """Every name with role and shape."""
        shapes, _ = self._shapes
        factors = multiplied(self.roles.equations)
        made = {}
        for name, role in self.roles.of.items():
            declaration = self._declared.get(name)
            value = None if declaration is None or declaration.value is None else float(declaration.value)
            if role is Role.CONSTANT and value is None:
                raise RoleError(
                    f"constant {name} has no value",
                    declaration.where if declaration else None,
                    f"'{name}: constant = 1.0', or constants={{'{name}': ...}}",
                )
            made[name] = Variable(name, role, shapes[name], value, name in factors)
        return made

    def _with_role(self, *roles: Role) -> dict[str, Variable]:
        return {name: v for name, v in self.variables.items() if v.role in roles}

    @property
    def inputs(self) -> dict[str, Variable]:
        """What is read per step and never assigned; arrays (T, B, width)."""
        return self._with_role(Role.INPUT)

    @property
    def states(self) -> dict[str, Variable]:
        """What is carried from step to step; arrays (B, width), or (k, B, width), see `delays`."""
        return self._with_role(Role.STATE)

    @property
    def delays(self) -> dict[str, int]:
        """How many steps back a step reads each state, and each input of which it reads the past.

        A run starts from as many steps of it, and hands on as many: one is (B, width), more are
        (k, B, width), the oldest first.
        """
        sign, found = 1 if self.reverse else -1, {}
        for name in (*self.states, *self.inputs):
            furthest = max(sign * offset for offset in self.roles.offsets.get(name, (0,)))
            if furthest > 0:
                found[name] = furthest
        return found

    @property
    def outputs(self) -> dict[str, Variable]:
        """What a run gives back per step; arrays (T, B, width)."""
        return {name: self.variables[name] for name in self._outputs or self.roles.outputs}

    @property
    def parameters(self) -> dict[str, Variable]:
        """Weights, vectors and scalars that are learned, and frozen ones."""
        return self._with_role(Role.PARAMETER, Role.FROZEN)

    @property
    def constants(self) -> dict[str, Variable]:
        """Hyper-parameters with their values."""
        return self._with_role(Role.CONSTANT)

    @property
    def widths(self) -> dict[str, tuple[str, ...]]:
        """For every width its name and the vectors that have it."""
        return self._shapes[1]

    @property
    def reverse(self) -> bool:
        """Whether the cell runs from right to left."""
        return self.roles.reverse

    def with_outputs(self, names: Iterable[str]) -> Cell:
        """The same cell giving back these assigned names, gates included."""
        allowed = self._with_role(Role.STATE, Role.OUTPUT, Role.INTERMEDIATE)
        names = tuple(names)
        for name in names:
            if name not in allowed:
                raise UnknownName(
                    f"output {name!r} is not assigned per step by {self.name}",
                    expected=", ".join(allowed),
                    suggestion=nearest(name, allowed),
                )
        return Cell(self.name, self.equations, self.declarations, self.doc, names)

    def with_constants(self, values: Mapping[str, float]) -> Cell:
        """The same cell with other values for its constants."""
        declared = {declaration.name: declaration for declaration in self.declarations}
        for name, value in values.items():
            if name not in self.constants:
                problem, expected = f"{self.name} has no constant {name!r}", ", ".join(self.constants)
                if name in declared and declared[name].kind == "constant":
                    problem = f"{name} was fixed when {self.name} was read"
                    expected = f"gategen.load(..., constants={{{name!r}: {value}}})"
                near = nearest(name, self.constants)
                raise UnknownName(problem, None, expected or "no constants", near)
            declared[name] = replace(declared[name], value=value)
        return Cell(self.name, self.equations, declared.values(), self.doc, self._outputs)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        # What was meant counts, not how it was written: z and z[t] on the left side are the same value, and a
        # declaration that says what would be inferred says nothing.
        equations = tuple((e.left, evaluate(e.right)) for e in self.roles.equations)
        constants = frozenset((d.name, d.value) for d in self.declarations if d.kind == "constant")
        return (self.name, equations, frozenset(self.variables.values()), constants, tuple(self.outputs))

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Cell) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        # What a program may name freely, a text has to declare.
        known = {declaration.name for declaration in self.declarations}
        needed = [
            Declaration(name, "vector")
            for name, variable in self._with_role(Role.PARAMETER).items()
            if name not in known and len(variable.shape) < 2 and not speaks_for_itself(name)
        ]
        return cell_text(self.doc, (*self.declarations, *needed), self.equations)
