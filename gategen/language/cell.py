"""`Cell`: the equations of one recurrent step, with roles and widths solved and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from gategen.errors import RoleError, UnknownName, nearest
from gategen.language.inference import infer_shapes
from gategen.language.notation import Eq, evaluate
from gategen.language.roles import Declaration, Role, Roles, find_roles, multiplied
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


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell.

    Args:
        name: Used for files and C functions.
        equations: One `Eq` per assignment, in order.
        declarations: What cannot be inferred.
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
        _ = self.variables

    @cached_property
    def _declared(self) -> dict[str, Declaration]:
        declared: dict[str, Declaration] = {}
        for declaration in self.declarations:
            if declaration.name in declared:
                raise RoleError(f"{declaration.name} is declared twice", declaration.where)
            declared[declaration.name] = declaration
        return declared

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
            value = declaration.value if declaration else None
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
        """What is carried from step to step; arrays (B, width)."""
        return self._with_role(Role.STATE)

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
        declared = dict(self._declared)
        for name, value in values.items():
            if name not in self.constants:
                raise UnknownName(
                    f"{self.name} has no constant {name!r}",
                    expected=", ".join(self.constants) or "no constants",
                    suggestion=nearest(name, self.constants),
                )
            declared[name] = replace(declared[name], value=float(value))
        return Cell(self.name, self.equations, declared.values(), self.doc, self._outputs)

    def _key(self) -> tuple[object, ...]:
        # The names count, not how they were written: z and z[t] on the left side are the same value.
        equations = tuple((e.left, evaluate(e.right)) for e in self.roles.equations)
        return (self.name, equations, frozenset(self.declarations), tuple(self.outputs))

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Cell) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return cell_text(self.doc, self.declarations, self.equations)
