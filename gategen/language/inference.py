"""Ranks and widths of all names, found together from the equations (design, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Expr

from gategen.errors import LimitError, Position, ShapeError
from gategen.language.notation import At, Concat, Eq, MatVec, Parameter, symbols_in_order
from gategen.language.reductions import Reduction
from gategen.language.roles import Declaration, Role, Roles
from gategen.language.shapes import Shape, Width, WidthSolver
from gategen.language.text import expression_text

_KINDS = ("scalar", "vector", "matrix")
_LARGEST = 10**9


def infer_shapes(
    roles: Roles, declarations: Mapping[str, Declaration]
) -> tuple[dict[str, Shape], dict[str, tuple[str, ...]]]:
    """The shape of every name, and for every width its name and the vectors that have it."""
    inference = _Inference(roles, declarations)
    for equation in roles.equations:
        inference.add(equation)
    return inference.named()


class _Inference:
    """One run of the inference: ranks first, then one unknown width per axis, then equalities."""

    def __init__(self, roles: Roles, declarations: Mapping[str, Declaration]) -> None:
        self.roles = roles
        self.declarations = declarations
        self.bare = frozenset(e.left.signal for e in roles.equations if e.bare)
        for declaration in declarations.values():
            _check_dims(declaration)
        self.ranks = self._find_ranks()
        brackets = {n for d in declarations.values() for dim in d.dims or () for n in dim.names}
        order = [f"?{name}.{axis}" for name in self._naming_order() for axis in range(self.ranks[name])]
        self.solver = WidthSolver(rigid=brackets, order=order)
        self.shapes: dict[str, Shape] = {name: self._unknown(name) for name in roles.of}

    def _declared_rank(self, name: str) -> int | None:
        declaration = self.declarations.get(name)
        if declaration is None:
            return {Role.CONSTANT: 0, Role.SIZE: 0}.get(self.roles.of.get(name, Role.INPUT))
        if declaration.kind in ("constant", "scalar") or declaration.dims == (Width((), 1),):
            return 0
        if declaration.kind == "weight":
            return 2
        if declaration.kind == "vector":
            return 1
        return None if declaration.dims is None else len(declaration.dims)

    def _find_ranks(self) -> dict[str, int]:
        """The least rank that every equation allows; ranks only grow, so the work ends."""
        equations = self.roles.equations
        matrices = self.matrices = {node.args[0] for e in equations for node in _products(e.right)}
        assigned = {equation.left.signal for equation in equations}
        ranks: dict[str, int] = {}
        for name in self.roles.of:
            declared = self._declared_rank(name)
            if declared is None:
                is_matrix = Parameter(name) in matrices or At(name) in matrices
                declared = 2 if is_matrix else 0 if name in assigned else 1
            ranks[name] = declared
        readers: dict[str, list[Eq]] = {name: [] for name in ranks}
        for equation in equations:
            involved = [equation.left, *symbols_in_order(equation.right)]
            for name in dict.fromkeys(map(_name_of, involved)):
                readers[name].append(equation)
        waiting = list(equations)[::-1]
        while waiting:
            for name in self._raise_ranks(waiting.pop(), ranks):
                waiting += readers[name]
        return ranks

    def _raise_ranks(self, equation: Eq, ranks: dict[str, int]) -> list[str]:
        """Raise the ranks that one equation asks for; the names whose rank changed."""
        name = equation.left.signal
        self._check_matrices(equation, ranks)
        wanted = {name: max(ranks[name], _rank(equation.right, ranks))}
        if wanted[name] == 2:
            for symbol in _element_wise_symbols(equation.right):
                derived = isinstance(symbol, At) and self.roles.of[symbol.signal] is Role.DERIVED
                if derived or (isinstance(symbol, Parameter) and self._declared_rank(symbol.name) is None):
                    wanted[_name_of(symbol)] = 2
        changed = [key for key, rank in wanted.items() if ranks[key] != rank]
        ranks.update(wanted)
        return changed

    def _check_matrices(self, equation: Eq, ranks: Mapping[str, int]) -> None:
        """Raise `ShapeError` where a value of a step would have to be a matrix."""
        for product in _products(equation.right):
            weight = product.args[0]
            if isinstance(weight, At) and self.roles.of[weight.signal] is not Role.DERIVED:
                problem = f"{self._quoted(weight, equation)} is computed per step and stands left of @"
                expected = "a weight, or a matrix computed from parameters only"
                raise ShapeError(problem, equation.position(("@", weight)), expected)
        if self.roles.of[equation.left.signal] is Role.DERIVED:
            return
        for symbol in _element_wise_symbols(equation.right):
            if ranks[_name_of(symbol)] == 2:
                why = "is computed as a matrix"
                if self._declared_rank(_name_of(symbol)) == 2:
                    why = "is declared as a matrix"
                elif symbol in self.matrices:
                    why = "is a matrix: it stands left of @ elsewhere"
                problem = f"{self._quoted(symbol, equation)} {why}; here it is combined element by element"
                raise ShapeError(problem, equation.position(symbol), "a vector here, or a matrix left of @")

    def _unknown(self, name: str) -> Shape:
        rank = self.ranks[name]
        declaration = self.declarations.get(name)
        if declaration is not None and declaration.dims is not None and len(declaration.dims) == rank:
            return declaration.dims
        if declaration is not None and declaration.dims is not None and rank:
            count = f"{len(declaration.dims)} width{'s' if len(declaration.dims) > 1 else ''}"
            raise ShapeError(
                f"{name} is declared with {count} but used as a {_KINDS[rank]}",
                declaration.where,
                "one width in brackets" if rank == 1 else "two widths in brackets",
            )
        return tuple(Width.of(f"?{name}.{axis}") for axis in range(rank))

    def add(self, equation: Eq) -> None:
        """Take up one equation; raises `ShapeError` where widths or ranks contradict."""
        name = equation.left.signal
        found = self._shape(equation.right, equation)
        if not found:
            return
        wanted = self.shapes[name]
        if len(found) != len(wanted):
            raise ShapeError(
                f"{name} is used as a {_KINDS[len(wanted)]}, but its equation gives a {_KINDS[len(found)]}",
                equation.position(),
            )
        self._join(equation, (equation.left, wanted), (equation.right, found), equation.position())

    def _join(
        self, equation: Eq, left: tuple[Expr, Shape], right: tuple[Expr, Shape], where: Position | None
    ) -> None:
        for one, other in zip(left[1], right[1], strict=True):
            if not self.solver.equate(one, other):
                raise ShapeError(
                    f"widths differ: {self._quoted(left[0], equation)} has width {self._shown(one)}, "
                    f"{self._quoted(right[0], equation)} has width {self._shown(other)}",
                    where,
                )

    def _shown(self, width: Width) -> str:
        resolved = self.solver.resolve(width)
        shown = {name: Width.of(_own_name(name)) for name in resolved.names if name.startswith("?")}
        return str(resolved.substitute(shown))

    def _shape(self, node: Expr, equation: Eq) -> Shape:
        if isinstance(node, At):
            return self.shapes[node.signal]
        if isinstance(node, Parameter):
            return self.shapes[node.name]
        if isinstance(node, MatVec):
            return self._product(node, equation)
        if isinstance(node, Concat):
            return (self._concatenation(node, equation),)
        joined = self._joined(node, equation)
        return self._reduced(node, joined, equation) if isinstance(node, Reduction) else joined

    def _joined(self, node: Expr, equation: Eq) -> Shape:
        """The shape that all arguments have which are no scalars."""
        joined: Shape = ()
        owner: Any = None
        for argument in node.args:
            found = self._shape(argument, equation)
            if joined and found:
                where = equation.position(argument)
                if len(found) != len(joined):
                    raise ShapeError(
                        f"{self._quoted(owner, equation)} is a {_KINDS[len(joined)]}, "
                        f"{self._quoted(argument, equation)} is a {_KINDS[len(found)]}",
                        where,
                        "two vectors, two matrices, or a scalar",
                    )
                self._join(equation, (owner, joined), (argument, found), where)
            elif found:
                joined, owner = found, argument
        return joined

    def _reduced(self, node: Reduction, joined: Shape, equation: Eq) -> Shape:
        """The shape of a reduction, whose arguments have the shape ``joined`` or are scalars."""
        row = node.row
        for argument in node.args[: row.vectors]:
            rank = len(self._shape(argument, equation))
            if rank != 1:
                wanted = "a vector" if row.vectors == 1 else f"{row.vectors} vectors"
                problem = f"{row.name} takes {wanted}, {self._quoted(argument, equation)} is a {_KINDS[rank]}"
                raise ShapeError(problem, equation.position(argument))
        return joined if row.keeps else ()

    def _product(self, node: MatVec, equation: Eq) -> Shape:
        weight, operand = node.args
        shape = self._shape(weight, equation)
        if len(shape) != 2:
            problem = f"{self._quoted(weight, equation)} is a {_KINDS[len(shape)]} and stands left of @"
            expected = "a matrix, or * for a product per element"
            raise ShapeError(problem, equation.position(("@", weight)), expected)
        inner = self._shape(operand, equation) or (Width((), 1),)
        if len(inner) != 1:
            problem = f"{self._quoted(operand, equation)} is a matrix and stands right of @"
            raise ShapeError(problem, equation.position(operand), "a vector, as in A @ (B @ v)")
        if not self.solver.equate(shape[1], inner[0]):
            raise ShapeError(
                f"widths differ: {self._quoted(weight, equation)} takes width {self._shown(shape[1])}, "
                f"{self._quoted(operand, equation)} has width {self._shown(inner[0])}",
                equation.position(node),
            )
        return shape[:1]

    def _concatenation(self, node: Concat, equation: Eq) -> Width:
        total = Width()
        for argument in node.args:
            shape = self._shape(argument, equation)
            if len(shape) > 1:
                problem = f"{self._quoted(argument, equation)} is a matrix inside a concatenation"
                raise ShapeError(problem, equation.position(argument), "vectors and scalars")
            total = total + (shape[0] if shape else Width((), 1))
        return total

    def _quoted(self, node: Expr, equation: Eq) -> str:
        """A part of an equation as the author wrote it, shortened."""
        place = equation.positions.get(node)
        text = place.written() if place else expression_text(node, self.bare)
        return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"

    def named(self) -> tuple[dict[str, Shape], dict[str, tuple[str, ...]]]:
        """Final shapes with every unknown width named by its most telling member."""
        resolved = {
            name: tuple(self.solver.resolve(width) for width in shape) for name, shape in self.shapes.items()
        }
        for name, shape in resolved.items():
            if any(abs(n) > _LARGEST for w in shape for n in (w.constant, *(f for _, f in w.terms))):
                where = next((e.position() for e in self.roles.equations if e.left.signal == name), None)
                raise LimitError(f"the width of {name} is more than {_LARGEST} times another one", where)
        roots = sorted({root for shape in resolved.values() for w in shape for root in w.names})
        first = {resolved[name]: name for name in reversed(self._naming_order())}
        names = {root: root for root in roots if not root.startswith("?")}
        taken = set(names) | set(self.roles.of)
        for root in sorted(set(roots) - set(names)):
            member = first.get((Width.of(root),), _own_name(root))
            # A parameter with a key gives the width a name without brackets.
            wanted = f"n_{member.replace('[', '_').replace(']', '')}"
            while wanted in taken:
                wanted += "_"
            taken.add(wanted)
            names[root] = wanted
        values = {root: Width.of(name) for root, name in names.items()}
        shapes = {name: tuple(w.substitute(values) for w in shape) for name, shape in resolved.items()}
        self._check_brackets(shapes)
        order = {
            name: shape[0].names[0] for name, shape in shapes.items() if len(shape) == 1 and shape[0].names
        }
        ordered = dict.fromkeys([*order.values(), *sorted(names.values())])
        members: dict[Shape, list[str]] = {}
        for name, shape in shapes.items():
            members.setdefault(shape, []).append(name)
        widths = {width: tuple(members.get((Width.of(width),), ())) for width in ordered}
        return shapes, widths

    def _check_brackets(self, shapes: Mapping[str, Shape]) -> None:
        """A width may have the name of a value only if it is the width of that value."""
        for declaration in self.declarations.values():
            for name in (name for width in declaration.dims or () for name in width.names):
                size = self.roles.of.get(name) is Role.SIZE
                if name in shapes and not size and shapes[name] != (Width.of(name),):
                    problem = f"the width {name} of {declaration.name} has the name of another width's value"
                    raise ShapeError(problem, declaration.where, "another name for the width")

    def _naming_order(self) -> list[str]:
        by_role = [
            self.roles.names(Role.INPUT),
            self.roles.names(Role.STATE)[::-1],
            tuple(name for name in self.roles.outputs),
            self.roles.names(Role.OUTPUT, Role.INTERMEDIATE, Role.DERIVED),
            self.roles.names(Role.PARAMETER, Role.FROZEN),
        ]
        return [name for group in by_role for name in group]


def _own_name(root: str) -> str:
    """The signal or parameter behind an unknown width such as ``?h.0``."""
    return root[1:].rsplit(".", 1)[0]


def _name_of(symbol: Any) -> str:
    return symbol.signal if isinstance(symbol, At) else symbol.name


def _products(node: Expr) -> list[MatVec]:
    found = [product for argument in node.args for product in _products(argument)]
    return [node, *found] if isinstance(node, MatVec) else found


def _rank(node: Expr, ranks: Mapping[str, int]) -> int:
    if isinstance(node, At):
        return ranks[node.signal]
    if isinstance(node, Parameter):
        return ranks[node.name]
    if isinstance(node, (MatVec, Concat)):
        return 1
    if isinstance(node, Reduction):
        return int(node.row.keeps)
    return max((_rank(argument, ranks) for argument in node.args), default=0)


def _element_wise_symbols(node: Expr) -> list[Any]:
    if isinstance(node, (MatVec, Concat, Reduction)):
        return []
    if not node.args:
        return symbols_in_order(node)
    return [symbol for argument in node.args for symbol in _element_wise_symbols(argument)]


def _check_dims(declaration: Declaration) -> None:
    """The sizes that are not widths keep their names: every back end and every run is told them."""
    for name in (name for width in declaration.dims or () for name in width.names):
        if name in ("T", "B"):
            counted = "steps" if name == "T" else "sequences"
            problem = f"{name} is the number of {counted}; a width cannot have its name"
            raise ShapeError(problem, declaration.where, "another name in the brackets")
