"""Ranks and widths of all names, found together from the equations (design, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Expr

from gategen.errors import Position, ShapeError
from gategen.language.notation import At, Concat, Eq, MatVec, Parameter, symbols_in_order
from gategen.language.roles import Declaration, Role, Roles
from gategen.language.shapes import Shape, Width, WidthSolver
from gategen.language.text import expression_text


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
        equations = self.roles.equations
        matrices = {node.args[0] for e in equations for node in _products(e.right)}
        assigned = {equation.left.signal for equation in equations}
        ranks: dict[str, int] = {}
        for name in self.roles.of:
            declared = self._declared_rank(name)
            if declared is None:
                is_matrix = Parameter(name) in matrices or At(name) in matrices
                declared = 2 if is_matrix else 0 if name in assigned else 1
            ranks[name] = declared
        changed = True
        while changed:
            before = dict(ranks)
            for equation in equations:
                name = equation.left.signal
                ranks[name] = max(ranks[name], _rank(equation.right, ranks))
                if ranks[name] == 2:
                    for symbol in _element_wise_symbols(equation.right):
                        if isinstance(symbol, Parameter) and self._declared_rank(symbol.name) is None:
                            ranks[symbol.name] = 2
            changed = ranks != before
        return ranks

    def _unknown(self, name: str) -> Shape:
        rank = self.ranks[name]
        declaration = self.declarations.get(name)
        if declaration is not None and declaration.dims is not None and len(declaration.dims) == rank:
            return declaration.dims
        if declaration is not None and declaration.dims is not None and rank:
            raise ShapeError(
                f"{name} is declared with {len(declaration.dims)} width(s) but used as a "
                f"{'matrix' if rank == 2 else 'vector'}",
                declaration.where,
            )
        return tuple(Width.of(f"?{name}.{axis}") for axis in range(rank))

    def add(self, equation: Eq) -> None:
        """Take up one equation; raises `ShapeError` where widths or ranks contradict."""
        name = equation.left.signal
        found = self._shape(equation.right, equation)
        if not found:
            return
        if len(found) != len(self.shapes[name]):
            raise ShapeError(
                f"{name} is declared with rank {len(self.shapes[name])}, its equation has rank {len(found)}",
                equation.position(),
            )
        self._join(equation.left, self.shapes[name], equation.right, found, equation.position())

    def _join(self, left: Expr, a: Shape, right: Expr, b: Shape, where: Position | None) -> None:
        for one, other in zip(a, b, strict=True):
            if not self.solver.equate(one, other):
                raise ShapeError(
                    f"widths differ: {_quoted(left)} has width {self._shown(one)}, "
                    f"{_quoted(right)} has width {self._shown(other)}",
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
        joined: Shape = ()
        owner: Any = None
        for argument in node.args:
            found = self._shape(argument, equation)
            if joined and found:
                where = equation.position(argument)
                if len(found) != len(joined):
                    raise ShapeError(
                        f"{_quoted(owner)} has rank {len(joined)}, {_quoted(argument)} has rank {len(found)}",
                        where,
                        "operands of the same rank",
                    )
                self._join(owner, joined, argument, found, where)
            elif found:
                joined, owner = found, argument
        return joined

    def _product(self, node: MatVec, equation: Eq) -> Shape:
        weight, operand = node.args
        shape = self._shape(weight, equation)
        where = equation.position(node)
        if len(shape) != 2:
            raise ShapeError(
                f"{_quoted(weight)} stands left of @ but is no matrix", where, "a matrix such as W @ v"
            )
        inner = self._shape(operand, equation) or (Width((), 1),)
        if len(inner) != 1:
            raise ShapeError(f"{_quoted(operand)} stands right of @ but is no vector", where, "a vector")
        if not self.solver.equate(shape[1], inner[0]):
            raise ShapeError(
                f"widths differ: {_quoted(weight)} takes width {self._shown(shape[1])}, "
                f"{_quoted(operand)} has width {self._shown(inner[0])}",
                where,
            )
        return shape[:1]

    def _concatenation(self, node: Concat, equation: Eq) -> Width:
        total = Width()
        for argument in node.args:
            shape = self._shape(argument, equation)
            if len(shape) > 1:
                raise ShapeError(f"{_quoted(argument)} is a matrix inside a concatenation")
            total = total + (shape[0] if shape else Width((), 1))
        return total

    def named(self) -> tuple[dict[str, Shape], dict[str, tuple[str, ...]]]:
        """Final shapes with every unknown width named by its most telling member."""
        resolved = {
            name: tuple(self.solver.resolve(width) for width in shape) for name, shape in self.shapes.items()
        }
        roots = sorted({root for shape in resolved.values() for w in shape for root in w.names})
        names = {root: root for root in roots if not root.startswith("?")}
        taken = set(names) | set(self.roles.of)
        for root in sorted(set(roots) - set(names)):
            members = [n for n in self._naming_order() if resolved[n] == (Width.of(root),)]
            wanted = f"n_{members[0] if members else _own_name(root)}"
            while wanted in taken:
                wanted += "_"
            taken.add(wanted)
            names[root] = wanted
        values = {root: Width.of(name) for root, name in names.items()}
        shapes = {name: tuple(w.substitute(values) for w in shape) for name, shape in resolved.items()}
        order = {
            name: shape[0].names[0] for name, shape in shapes.items() if len(shape) == 1 and shape[0].names
        }
        ordered = dict.fromkeys([*order.values(), *sorted(names.values())])
        widths = {
            width: tuple(name for name in shapes if shapes[name] == (Width.of(width),)) for width in ordered
        }
        return shapes, widths

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


def _quoted(node: Expr) -> str:
    text = expression_text(node)
    return f"'{text}'" if len(text) <= 40 else f"'{text[:37]}...'"


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
    return max((_rank(argument, ranks) for argument in node.args), default=0)


def _element_wise_symbols(node: Expr) -> list[Any]:
    if isinstance(node, (MatVec, Concat)):
        return []
    if not node.args:
        return symbols_in_order(node)
    return [symbol for argument in node.args for symbol in _element_wise_symbols(argument)]
