"""Shapes of all names: widths found from the equations, after the ranks (design, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Expr

from gategen.errors import LimitError, Position, ShapeError
from gategen.language.arrangements import Arrangement
from gategen.language.notation import At, Concat, Eq, MatVec, Parameter
from gategen.language.ranks import KINDS, Ranks, quoted
from gategen.language.reductions import Reduction
from gategen.language.roles import Declaration, Role, Roles
from gategen.language.shapes import Shape, Width, WidthSolver

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
        self.bare = roles.bare
        self.fresh = 0
        for declaration in declarations.values():
            _check_dims(declaration)
        self.ranks = Ranks(roles, declarations).found
        brackets = {n for d in declarations.values() for dim in d.dims or () for n in dim.names}
        order = [f"?{name}.{axis}" for name in self._naming_order() for axis in range(self.ranks[name])]
        self.solver = WidthSolver(rigid=brackets, order=order)
        self.shapes: dict[str, Shape] = {name: self._unknown(name) for name in roles.of}

    def _unknown(self, name: str) -> Shape:
        rank = self.ranks[name]
        declaration = self.declarations.get(name)
        if declaration is not None and declaration.dims is not None and len(declaration.dims) == rank:
            return declaration.dims
        if declaration is not None and declaration.dims is not None and rank:
            count = f"{len(declaration.dims)} width{'s' if len(declaration.dims) > 1 else ''}"
            raise ShapeError(
                f"{name} is declared with {count} but used as a {KINDS[rank]}",
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
                f"{name} is used as a {KINDS[len(wanted)]}, but its equation gives a {KINDS[len(found)]}",
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
        if isinstance(node, Arrangement):
            return self._arranged(node, equation)
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
                        f"{self._quoted(owner, equation)} is a {KINDS[len(joined)]}, "
                        f"{self._quoted(argument, equation)} is a {KINDS[len(found)]}",
                        where,
                        "two vectors, two matrices, or a scalar; v[:, None] is a matrix",
                    )
                self._join(equation, (owner, joined), (argument, found), where)
            elif found:
                joined, owner = found, argument
        return joined

    def _reduced(self, node: Reduction, joined: Shape, equation: Eq) -> Shape:
        """The shape of a reduction, whose arguments have the shape ``joined`` or are scalars."""
        row, axis = node.row, node.axis
        takes = 1 if axis is None else 2
        for argument in node.args[: row.vectors]:
            rank = len(self._shape(argument, equation))
            if rank != takes:
                name, one, several = row.name, "vector", "vectors"
                hint = f"{row.name}(..., axis=1) for each row of a matrix" if rank else ""
                if axis is not None:
                    name, one, several = f"{row.name} along an axis", "matrix", "matrices"
                    hint = f"{row.name}(...) for the units of a vector" if rank else ""
                wanted = f"a {one}" if row.vectors == 1 else f"{row.vectors} {several}"
                problem = f"{name} takes {wanted}, {self._quoted(argument, equation)} is a {KINDS[rank]}"
                raise ShapeError(problem, equation.position(argument), hint)
        if row.keeps:
            return joined
        return () if axis is None else (joined[1 - axis],)

    def _arranged(self, node: Arrangement, equation: Eq) -> Shape:
        """The shape of an arrangement; raises `ShapeError` where an argument is of another rank."""
        row = node.row
        if row.name == "I":
            return (self._identity(node, equation),) * 2
        shapes = [self._shape(operand, equation) for operand in node.operands]
        for operand, rank, shape in zip(node.operands, row.ranks, shapes, strict=True):
            if len(shape) != rank:
                problem = f"{self._quoted(operand, equation)} is a {KINDS[len(shape)]}"
                expected = f"a {KINDS[rank]} in {row.example}"
                raise ShapeError(problem, equation.position(operand), expected)
        if row.once and self.roles.of[equation.left.signal] is not Role.DERIVED:
            problem = f"{row.name} takes parameters only, in an equation of its own"
            raise ShapeError(problem, equation.position(node), f"A = {row.example}, then A @ v")
        match row.name:
            case "outer":
                return shapes[0] + shapes[1]
            case "column":
                return shapes[0][0], self._new()
            case "row":
                return self._new(), shapes[0][0]
            case "repeat":
                return (shapes[0][0].times(node.numbers[0]),)
            case "T":
                return shapes[0][::-1]
            case "element":
                self._check_end(node, shapes[0][0], node.numbers[0] + 1, equation)
                return ()
            case "piece":
                self._check_end(node, shapes[0][0], node.numbers[1], equation)
                return (Width((), node.numbers[1] - node.numbers[0]),)
            case "rest":
                self._check_end(node, shapes[0][0], node.numbers[0] + 1, equation)
                return (shapes[0][0] - Width((), node.numbers[0]),)
            case "flatten":
                return (self._flattened(node, shapes[0], equation),)
            case "reshape":
                rows = node.numbers[0]
                return Width((), rows), self._equal_part(node, shapes[0][0], equation, rows)
        return (self._equal_part(node, shapes[0][0], equation, node.numbers[1]),)

    def _new(self) -> Width:
        """A width of which nothing is known yet."""
        self.fresh += 1
        return Width.of(f"?{self.fresh}")

    def _check_end(self, node: Arrangement, width: Width, least: int, equation: Eq) -> None:
        """Raise where a vector of known width has no such element."""
        known = self.solver.resolve(width)
        if not known.terms and known.constant < least:
            problem = f"{self._quoted(node.operands[0], equation)} has width {known}"
            raise ShapeError(problem, equation.position(node), f"a width of {least} or more")

    def _flattened(self, node: Arrangement, shape: Shape, equation: Eq) -> Width:
        for one, other in (shape, shape[::-1]):
            known = self.solver.resolve(one)
            if not known.terms:
                return other.times(known.constant)
        problem = f"no axis of {self._quoted(node.operands[0], equation)} is a number"
        raise ShapeError(problem, equation.position(node), "a matrix from reshape(v, 4) or state[4, n]")

    def _equal_part(self, node: Arrangement, whole: Width, equation: Eq, count: int) -> Width:
        part = self._new()
        if not self.solver.equate(whole, part.times(count)):
            problem = f"{self._quoted(node.operands[0], equation)} has width {self._shown(whole)}"
            raise ShapeError(problem, equation.position(node), f"a width that {count} divides")
        return part

    def _identity(self, node: Arrangement, equation: Eq) -> Width:
        (size,) = node.operands
        if size.is_Integer and size > 0:
            return Width((), int(size))
        if isinstance(size, Parameter) and self.roles.of[size.name] is Role.SIZE:
            return Width.of(size.name)
        problem = f"{self._quoted(size, equation)} is no width"
        expected = "the name of a width from brackets, as in 'h: state[n]'"
        raise ShapeError(problem, equation.position(node), expected)

    def _product(self, node: MatVec, equation: Eq) -> Shape:
        weight, operand = node.args
        shape = self._shape(weight, equation)
        inner = self._shape(operand, equation) or (Width((), 1),)
        if len(shape) == 1 and len(inner) == 2:
            return self._row_product(node, shape[0], inner, equation)
        if len(shape) != 2:
            problem = f"{self._quoted(weight, equation)} is a {KINDS[len(shape)]} and stands left of @"
            expected = "a matrix, or * for a product per element"
            raise ShapeError(problem, equation.position(("@", weight)), expected)
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

    def _row_product(self, node: MatVec, rows: Width, matrix: Shape, equation: Eq) -> Shape:
        """The shape of a vector times a matrix of the step."""
        left, right = node.args
        timed = isinstance(right, At) and self.roles.of[right.signal] is not Role.DERIVED
        if not timed:
            problem = f"{self._quoted(right, equation)} is a weight and stands right of @"
            raise ShapeError(problem, equation.position(right), "A = T(W), then A @ v")
        self._join(equation, (left, (rows,)), (right, matrix[:1]), equation.position(node))
        return matrix[1:]

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
        return quoted(node, equation, self.bare)

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
            [name for name in self.roles.names(Role.INPUT) if name not in self.roles.constant],
            self.roles.names(Role.STATE)[::-1],
            tuple(name for name in self.roles.outputs),
            self.roles.names(Role.OUTPUT, Role.INTERMEDIATE, Role.DERIVED),
            self.roles.names(Role.PARAMETER, Role.FROZEN),
            sorted(self.roles.constant),
        ]
        return [name for group in by_role for name in group]


def _own_name(root: str) -> str:
    """The signal or parameter behind an unknown width such as ``?h.0``; nothing is behind ``?1``."""
    return root[1:].rsplit(".", 1)[0] if "." in root else ""


def _check_dims(declaration: Declaration) -> None:
    """The sizes that are not widths keep their names: every back end and every run is told them."""
    for name in (name for width in declaration.dims or () for name in width.names):
        if name in ("T", "B"):
            counted = "steps" if name == "T" else "sequences"
            problem = f"{name} is the number of {counted}; a width cannot have its name"
            raise ShapeError(problem, declaration.where, "another name in the brackets")
