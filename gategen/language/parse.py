"""Text to `Cell`: statements, declarations and unrolled loops."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gategen.errors import CellSyntaxError, LimitError, Position, RoleError, UnknownName, nearest
from gategen.language.cell import Cell
from gategen.language.expressions import RESERVED, ExpressionReader, Names
from gategen.language.notation import At, Eq
from gategen.language.roles import DECLARABLE, Declaration
from gategen.language.shapes import Width
from gategen.language.source import (
    IDENTIFIER,
    MAX_NUMBER,
    MAX_STATEMENTS,
    Source,
    is_time,
    shifted,
    time_offset,
)

_ONLY = "an equation name[t] = ..., a declaration name: kind, 'for ... in range(...)' or 'if'"


def parse(
    text: str, name: str = "cell", constants: Mapping[str, float] | None = None, file: str | None = None
) -> Cell:
    """Read the text form of a cell.

    Args:
        text: Docstring, declarations and equations.
        name: The cell's name.
        constants: Values that replace those declared in the text.
        file: The file name that errors quote; ``<name>`` if left out.

    Raises:
        CellError: With file, line, column and the offending text.
    """
    if not IDENTIFIER.fullmatch(name):
        raise CellSyntaxError(f"{name!r} is no name for a cell", expected="letters, digits and _")
    source = Source(text, file or f"<{name}>")
    tree = source.tree()
    statements = _Statements(source, dict(constants or {}))
    doc = ast.get_docstring(tree) or ""
    body = tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body
    for statement in body:
        if isinstance(statement, ast.AnnAssign):
            statements.declare(statement)
    statements.check_constants()
    statements.unroll(body, {})
    if not statements.assignments:
        raise CellSyntaxError(
            f"{source.file}: no equations", expected="h[t] = tanh(W @ x[t] + U @ h[t-1] + b)"
        )
    return Cell(name, statements.equations(), statements.declarations.values(), doc)


@dataclass(frozen=True)
class _Assignment:
    name: str
    timed: bool
    value: ast.expr
    loop: Mapping[str, int]
    position: Position


@dataclass
class _Statements:
    """The statements of one text, first unrolled, then read."""

    source: Source
    constants: dict[str, float]
    declarations: dict[str, Declaration] = field(default_factory=dict)
    assignments: list[_Assignment] = field(default_factory=list)

    def declare(self, node: ast.AnnAssign) -> None:
        """Take up ``name: kind[dims] = value``."""
        if not isinstance(node.target, ast.Name):
            self.source.fail(node.target, "only a bare name can be declared", "name: kind")
        name = node.target.id
        self._check_name(node.target, name)
        if name in self.declarations:
            self.source.fail(node.target, f"{name} is declared twice", kind=RoleError)
        annotation, dims = node.annotation, None
        if isinstance(annotation, ast.Subscript):
            inside = annotation.slice
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            dims = tuple(self._width(part) for part in parts)
            annotation = annotation.value
        kind = annotation.id if isinstance(annotation, ast.Name) else ""
        if kind not in DECLARABLE:
            if kind == "sequence":
                self.source.fail(annotation, "per-sequence operands are not supported yet")
            self.source.fail(
                annotation,
                f"'{self.source.written(annotation)}' is no kind of name",
                ", ".join(DECLARABLE),
                nearest(kind, DECLARABLE),
            )
        value = None if node.value is None else float(self._reader({}).number(node.value))
        if value is not None and kind in ("input", "output", "weight"):
            self.source.fail(node, f"a declared {kind} takes no value")
        self._check_rank(node, kind, dims)
        where = self.source.position(node.target)
        self.declarations[name] = Declaration(
            name, kind, dims, None if value is None else float(value), where
        )

    def _check_rank(self, node: ast.AnnAssign, kind: str, dims: tuple[Width, ...] | None) -> None:
        if dims is None:
            return
        ranks = {"constant": (), "scalar": (), "weight": (2,), "frozen": (1, 2)}.get(kind, (1,))
        if len(dims) not in ranks:
            wanted = " or ".join(map(str, ranks)) or "no"
            self.source.fail(node.annotation, f"{kind} takes {wanted} width(s) in brackets, not {len(dims)}")

    def _width(self, node: ast.expr) -> Width:
        match node:
            case ast.Constant(value=int() as value) if 1 <= value <= MAX_NUMBER:
                return Width((), value)
            case ast.Name(id=name) if name in self.constants_known():
                return Width((), self._positive(node, self.constants_known()[name]))
            case ast.Name(id=name) if IDENTIFIER.fullmatch(name) and name not in RESERVED:
                return Width.of(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._width(left) + self._width(right)
            case ast.BinOp(left=ast.Constant(value=int() as factor), op=ast.Mult(), right=right) if (
                factor > 0
            ):
                return self._width(right).times(factor)
        return self.source.fail(node, f"'{self.source.written(node)}' is no width", "n, 3, 4*n or n + d")

    def _positive(self, node: ast.expr, value: float) -> int:
        if value != int(value) or value < 1:
            self.source.fail(node, f"the width {value} is not a positive integer")
        return int(value)

    def constants_known(self) -> dict[str, float]:
        """Values of the constants, those of the caller first."""
        declared = {d.name: d.value for d in self.declarations.values() if d.kind == "constant"}
        merged = {**declared, **{k: v for k, v in self.constants.items() if k in declared}}
        return {k: int(v) if float(v).is_integer() else v for k, v in merged.items() if v is not None}

    def check_constants(self) -> None:
        """Put the caller's constants in; raises `UnknownName` for one that the text does not declare."""
        declared = [d.name for d in self.declarations.values() if d.kind == "constant"]
        for name, value in self.constants.items():
            if name not in declared:
                expected = ", ".join(declared) or "no constants"
                near = nearest(name, declared)
                raise UnknownName(f"the cell declares no constant {name!r}", None, expected, near)
            if not math.isfinite(float(value)):
                raise LimitError(f"the constant {name} is not finite")
            self.declarations[name] = replace(self.declarations[name], value=float(value))

    def _check_name(self, node: ast.AST, name: str) -> None:
        if name in RESERVED:
            self.source.fail(node, f"{name} is a reserved name", f"another name than {name}")
        if not IDENTIFIER.fullmatch(name) or self.source.written(node) != name:
            self.source.fail(
                node,
                f"{name!r} cannot be used as a name",
                "a letter, then letters, digits and _ (64 at most)",
            )

    def unroll(self, body: list[ast.stmt], loop: Mapping[str, int]) -> None:
        """Collect the assignments of ``body``, loops unrolled and conditions decided."""
        for statement in body:
            if len(self.assignments) > MAX_STATEMENTS:
                self.source.fail(statement, f"more than {MAX_STATEMENTS} equations", kind=LimitError)
            match statement:
                case ast.AnnAssign():
                    if statement not in body or loop:
                        self.source.fail(statement, "a declaration stands inside a loop")
                case ast.Assign(targets=[target], value=value):
                    self._assign(statement, target, value, loop)
                case ast.For():
                    self._unroll_for(statement, loop)
                case ast.If(test=test, body=yes, orelse=no):
                    self.unroll(yes if self._reader(loop).number(test) else no, loop)
                case ast.Pass():
                    pass
                case ast.AugAssign():
                    name = self.source.written(statement.target)
                    self.source.fail(statement, "an assignment in place", f"{name} = {name} + ...")
                case _:
                    written = self.source.written(statement)
                    self.source.fail(statement, f"'{written}' is not part of the language", _ONLY)

    def _unroll_for(self, node: ast.For, loop: Mapping[str, int]) -> None:
        call = node.iter
        if (
            not isinstance(node.target, ast.Name)
            or not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Name)
            or call.func.id != "range"
            or call.keywords
            or not 1 <= len(call.args) <= 3
            or node.orelse
        ):
            self.source.fail(node, "this loop is not part of the language", "for k in range(n):")
        self._check_name(node.target, node.target.id)
        numbers = [self._reader(loop).number(argument) for argument in call.args]
        bounds = [number for number in numbers if isinstance(number, int)]
        if len(bounds) < len(numbers) or bounds[2:] == [0]:
            self.source.fail(call, "range takes integers and a step other than zero")
        steps = range(*bounds)
        if len(steps) > MAX_STATEMENTS:
            self.source.fail(call, f"more than {MAX_STATEMENTS} rounds", kind=LimitError)
        for index in steps:
            self.unroll(node.body, {**loop, node.target.id: index})

    def _assign(
        self, statement: ast.Assign, target: ast.expr, value: ast.expr, loop: Mapping[str, int]
    ) -> None:
        match target:
            case ast.Name(id=name):
                timed = False
            case ast.Subscript(value=ast.Name(id=name), slice=index) if is_time(index):
                timed = True
                offset = time_offset(index)
                if offset is None:
                    self.source.fail(index, f"'{self.source.written(index)}' is not a time", "t")
                if offset:
                    self.source.fail(
                        target,
                        f"cannot assign to {name}[t{offset:+d}]: a step assigns the values of t",
                        shifted(statement, -offset),
                    )
            case ast.Tuple():
                self.source.fail(target, "an assignment to several names is not supported yet")
            case _:
                self.source.fail(target, f"cannot assign to '{self.source.written(target)}'", "name[t] = ...")
        self._check_name(target if isinstance(target, ast.Name) else target.value, name)
        kind = self.declarations[name].kind if name in self.declarations else "output"
        if kind not in ("state", "output"):
            self.source.fail(target, f"{name} is declared as {kind} but assigned", kind=RoleError)
        if name in loop:
            self.source.fail(target, f"{name} is the index of a loop", kind=RoleError)
        self.assignments.append(_Assignment(name, timed, value, loop, self.source.position(target)))

    def _reader(self, loop: Mapping[str, int]) -> ExpressionReader:
        nothing: frozenset[str] = frozenset()
        names = Names(nothing, nothing, {}, nothing, nothing)
        return ExpressionReader(self.source, names, self.constants_known(), loop)

    def _names(self) -> Names:
        timed = frozenset(a.name for a in self.assignments if a.timed)
        bare = frozenset(a.name for a in self.assignments if not a.timed)
        for both in sorted(timed & bare):
            where = next(a.position for a in self.assignments if a.name == both and not a.timed)
            raise RoleError(f"{both} is assigned both bare and with [t]", where, f"{both}[t] everywhere")
        products = (n for a in self.assignments for n in ast.walk(a.value) if isinstance(n, ast.BinOp))
        left = (n.left for n in products if isinstance(n.op, ast.MatMult))
        matrices = frozenset(n.id for n in left if isinstance(n, ast.Name) and n.id not in timed | bare)
        sizes = frozenset(s for d in self.declarations.values() for w in d.dims or () for s in w.names)
        kinds = {name: declaration.kind for name, declaration in self.declarations.items()}
        return Names(timed, bare, kinds, matrices, sizes)

    def equations(self) -> list[Eq]:
        """The equations, in order."""
        names = self._names()
        made = []
        for assignment in self.assignments:
            reader = ExpressionReader(self.source, names, self.constants_known(), assignment.loop)
            left = At(assignment.name)
            right = reader.read(assignment.value)
            positions = {**reader.positions, left: assignment.position}
            made.append(Eq(left, right, not assignment.timed, positions))
        return made
