"""Text to `Cell`: statements, declarations and unrolled loops."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real

import sympy

from gategen.errors import (
    ArgumentError,
    CellSyntaxError,
    LimitError,
    Position,
    RoleError,
    UnknownName,
    nearest,
)
from gategen.language.cell import Cell
from gategen.language.expressions import ExpressionReader, Names
from gategen.language.names import IDENTIFIER, PLAIN, RESERVED
from gategen.language.notation import At, Eq, symbols_in_order
from gategen.language.roles import DECLARABLE, Declaration
from gategen.language.shapes import Width
from gategen.language.source import (
    MAX_NUMBER,
    MAX_PARTS,
    MAX_STATEMENTS,
    MAX_TERMS,
    Source,
    is_time,
    parts_of,
    shifted,
    time_offset,
)

_ONLY = "an equation name[t] = ..., a declaration name: kind, 'for ... in range(...)' or 'if'"
_EXAMPLE = "an equation such as h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)"


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
        ArgumentError: A constant is not a number.
    """
    if not isinstance(text, str):
        raise ArgumentError("text", f"is a {type(text).__name__}", "a str; gategen.load reads files")
    if not IDENTIFIER.fullmatch(name):
        raise CellSyntaxError(f"{name!r} is no name for a cell", expected=PLAIN)
    source = Source(text.removeprefix("\ufeff"), file or f"<{name}>")
    tree = source.tree()
    statements = _Statements(source, _checked(constants or {}))
    doc = ast.get_docstring(tree) or ""
    body = tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body
    statements.declare_all([s for s in body if isinstance(s, ast.AnnAssign)])
    statements.check_constants()
    statements.unroll(body, {})
    if not statements.assignments:
        left = any(isinstance(statement, (ast.For, ast.If)) for statement in body)
        problem = "loops and conditions leave no equation" if left else "the text has no equation"
        raise CellSyntaxError(problem if text.strip() else "the text is empty", source.top(), _EXAMPLE)
    return Cell(name, statements.equations(), statements.declarations.values(), doc)


def declare(*lines: str) -> tuple[Declaration, ...]:
    """Declarations for a `Cell` that is built by program, each as the text form writes it.

    Args:
        lines: ``"alpha: scalar = 1.0"``, ``"x: input[d]"``, ...; several may stand in one text.

    Raises:
        CellError: A line is not a declaration.
    """
    source = Source("\n".join(lines), "<declare>")
    statements = _Statements(source, {})
    body = source.tree().body
    for statement in body:
        if not isinstance(statement, ast.AnnAssign):
            source.fail(statement, f"'{source.written(statement)}' is no declaration", "name: kind = value")
    statements.declare_all([s for s in body if isinstance(s, ast.AnnAssign)])
    return tuple(replace(declaration, where=None) for declaration in statements.declarations.values())


def _checked(constants: Mapping[str, float]) -> dict[str, float]:
    for name, value in constants.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"constants[{name!r}]", f"is {value!r}", "a finite number")
    return {name: value if isinstance(value, int) else float(value) for name, value in constants.items()}


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
    indices: dict[str, ast.Name] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    visited: int = 0
    parts: int = 0

    def declare_all(self, nodes: Sequence[ast.AnnAssign]) -> None:
        """Take up all declarations, constants first: the others may use them as widths."""
        for node in sorted(nodes, key=lambda node: _kind(node) != "constant"):
            self._declare(node)
        order = sorted(nodes, key=lambda node: (node.lineno, node.col_offset))
        names = [node.target.id for node in order if isinstance(node.target, ast.Name)]
        self.declarations = {name: self.declarations[name] for name in names}

    def _declare(self, node: ast.AnnAssign) -> None:
        """Take up ``name: kind[dims] = value``."""
        if not isinstance(node.target, ast.Name):
            self.source.fail(node.target, "only a bare name can be declared", "name: kind")
        name, kind = node.target.id, _kind(node)
        self._reader({}).check_name(node.target, name)
        if name in self.declarations:
            problem = f"{name} is declared twice"
            self.source.fail(node.target, problem, f"one declaration of {name}", kind=RoleError)
        annotation, dims = node.annotation, None
        if isinstance(annotation, ast.Subscript):
            inside = annotation.slice
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            dims = tuple(self._width(part) for part in parts)
            annotation = annotation.value
        if kind not in DECLARABLE:
            written = self.source.written(annotation)
            near = nearest(kind, DECLARABLE)
            self.source.fail(annotation, f"'{written}' is no kind of name", ", ".join(DECLARABLE), near)
        if node.value is not None and kind in ("input", "output", "weight", "sequence"):
            hint = "values={...} when parameters are made" if kind == "weight" else f"{name}: {kind}"
            self.source.fail(node.value, f"a declared {kind} takes no value", hint)
        value = None if node.value is None else self._reader({}).fixed.number(node.value)
        self._check_rank(node, kind, dims)
        self.declarations[name] = Declaration(name, kind, dims, value, self.source.position(node.target))

    def _check_rank(self, node: ast.AnnAssign, kind: str, dims: tuple[Width, ...] | None) -> None:
        ranks = _RANKS.get(kind, (1,))
        if dims is None or len(dims) in ranks:
            return
        brackets = (" without brackets", "[n]", "[n, d]")
        plural = "" if len(dims) == 1 else "s"
        problem = f"{kind} does not take {len(dims)} width{plural} in brackets"
        self.source.fail(node.annotation, problem, " or ".join(kind + brackets[rank] for rank in ranks))

    def _width(self, node: ast.expr) -> Width:
        known = self._constants_known
        match node:
            case ast.Constant(value=int() as value) if type(value) is int and 1 <= value <= MAX_NUMBER:
                return Width((), value)
            case ast.Name(id=name) if name in known:
                value = self._reader({}).fixed.integer(node, "a width")
                if value < 1:
                    self.source.fail(node, f"the width {name} is {value}", "a width of one or more")
                return Width((), value)
            case ast.Name(id=name) if IDENTIFIER.fullmatch(name) and name not in RESERVED:
                self._reader({}).check_name(node, name)
                return Width.of(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._width(left) + self._width(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                factor, width = self._width(left), self._width(right)
                if not factor.terms:
                    return width.times(factor.constant)
        return self.source.fail(node, f"'{self.source.written(node)}' is no width", "n, 3, 4*n or n + d")

    @property
    def _constants_known(self) -> dict[str, float]:
        """Values of the constants, those of the caller first."""
        declared = {d.name: d.value for d in self.declarations.values() if d.kind == "constant"}
        merged = {**declared, **{k: v for k, v in self.constants.items() if k in declared}}
        known = {name: value for name, value in merged.items() if value is not None}
        return {n: int(v) if abs(v) <= MAX_NUMBER and v == int(v) else v for n, v in known.items()}

    def check_constants(self) -> None:
        """Put the caller's constants in; raises `UnknownName` for one that the text does not declare."""
        declared = [d.name for d in self.declarations.values() if d.kind == "constant"]
        for name, value in self.constants.items():
            if name not in declared:
                expected = ", ".join(declared) or "no constants"
                near = nearest(name, declared)
                problem = f"the cell declares no constant {name!r}"
                raise UnknownName(problem, self.source.top(), expected, near)
            self.declarations[name] = replace(self.declarations[name], value=value)

    def unroll(self, body: list[ast.stmt], loop: Mapping[str, int], inside: str = "") -> None:
        """Collect the assignments of ``body``, loops unrolled and conditions decided."""
        for statement in body:
            self.visited += 1
            if self.visited > MAX_STATEMENTS:
                problem = f"more than {MAX_STATEMENTS} statements, loops unrolled"
                self.source.fail(statement, problem, kind=LimitError)
            match statement:
                case ast.AnnAssign() if inside:
                    hint = "declarations outside of for and if"
                    self.source.fail(statement, f"a declaration stands inside {inside}", hint)
                case ast.AnnAssign() | ast.Pass():
                    pass
                case ast.Assign(targets=[target], value=value):
                    self._assign(statement, target, value, loop)
                case ast.Assign():
                    self.source.fail(statement, "an equation has one left side", "two equations")
                case ast.For():
                    self._unroll_for(statement, loop)
                case ast.If(test=test, body=yes, orelse=no):
                    self.unroll(yes if self._reader(loop).fixed.holds(test) else no, loop, "a condition")
                case _:
                    self._refuse(statement)

    def _refuse(self, statement: ast.stmt) -> None:
        written = self.source.written(statement)
        match statement:
            case ast.AugAssign(target=target):
                name = self.source.written(target)
                self.source.fail(statement, "an assignment in place", f"{name} = {name} + ...")
            case ast.Expr(value=ast.Compare(ops=[ast.Eq()])):
                self.source.fail(statement, f"'{written}' is a comparison", "a single =")
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
        reader = self._reader(loop)
        reader.check_name(node.target, node.target.id)
        if node.target.id in loop:
            problem = f"{node.target.id} is already the index of a loop"
            self.source.fail(node.target, problem, "another name for the index", kind=RoleError)
        self.indices.setdefault(node.target.id, node.target)
        bounds = [reader.fixed.integer(argument, "a bound of range") for argument in call.args]
        if bounds[2:] == [0]:
            self.source.fail(call, "the step of a range is zero", "range(first, end, step)")
        steps = range(*bounds)
        if len(steps) > MAX_STATEMENTS:
            self.source.fail(call, f"more than {MAX_STATEMENTS} rounds", kind=LimitError)
        for index in steps:
            self.unroll(node.body, {**loop, node.target.id: index}, "a loop")

    def _assign(
        self, statement: ast.Assign, target: ast.expr, value: ast.expr, loop: Mapping[str, int]
    ) -> None:
        match target:
            case ast.Name(id=name):
                timed, named = False, target
            case ast.Subscript(value=ast.Name(id=name) as named, slice=index) if is_time(index):
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
            case ast.Tuple(elts=targets):
                for part, single in zip(self._parts(statement, targets, value, loop), targets, strict=True):
                    self._assign(statement, single, part, loop)
                return
            case _:
                self.source.fail(target, f"cannot assign to '{self.source.written(target)}'", "name[t] = ...")
        self._reader(loop).check_name(named, name)
        kind = self.declarations[name].kind if name in self.declarations else "output"
        if kind not in ("state", "output"):
            hint = f"no declaration of {name}, or another name here"
            self.source.fail(target, f"{name} is declared as {kind} but assigned", hint, kind=RoleError)
        if id(value) not in self.sizes:
            self.sizes[id(value)] = parts_of(value)
        self.parts += self.sizes[id(value)]
        if self.parts > MAX_PARTS:
            problem = f"the equations have more than {MAX_PARTS} parts, loops unrolled"
            self.source.fail(statement, problem, kind=LimitError)
        self.assignments.append(_Assignment(name, timed, value, loop, self.source.position(target)))

    def _parts(
        self, statement: ast.Assign, targets: list[ast.expr], value: ast.expr, loop: Mapping[str, int]
    ) -> list[ast.expr]:
        """What each of several names on the left gets."""
        match value:
            case ast.Call(func=ast.Name(id="split"), args=[_, parts], keywords=[]):
                count = self._reader(loop).fixed.integer(parts, "a number of parts")
                if count == len(targets):
                    places = [ast.Constant(place) for place in range(count)]
                    return [
                        ast.copy_location(ast.Subscript(value, ast.copy_location(place, parts)), value)
                        for place in places
                    ]
                problem = f"{len(targets)} names on the left, {count} parts on the right"
                self.source.fail(statement, problem, f"{count} names")
        names = ", ".join(self.source.written(target) for target in targets)
        hint = f"{names} = split(v, {len(targets)}), or one equation for each"
        return self.source.fail(statement, "only split gives several values", hint)

    def _reader(self, loop: Mapping[str, int]) -> ExpressionReader:
        return ExpressionReader(self.source, Names(), self._constants_known, loop)

    @cached_property
    def _names(self) -> Names:
        timed = frozenset(a.name for a in self.assignments if a.timed)
        bare = frozenset(a.name for a in self.assignments if not a.timed)
        for both in sorted(timed & bare):
            where = next(a.position for a in self.assignments if a.name == both and not a.timed)
            raise RoleError(f"{both} is assigned both bare and with [t]", where, f"{both}[t] everywhere")
        for name, node in self.indices.items():
            if name in timed | bare or name in self.declarations:
                what = "declared" if name in self.declarations else "assigned"
                problem = f"{name} is the index of a loop and also {what}"
                self.source.fail(node, problem, "another name for the index", kind=RoleError)
        values = {id(a.value): a.value for a in self.assignments}
        nodes = [node for value in values.values() for node in ast.walk(value)]
        left = [n.left for n in nodes if isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult)]
        matrices = frozenset(n.id for n in left if isinstance(n, ast.Name) and n.id not in timed | bare)
        read = frozenset(
            n.value.id
            for n in nodes
            if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name) and is_time(n.slice)
        )
        sizes = frozenset(s for d in self.declarations.values() for w in d.dims or () for s in w.names)
        kinds = {name: declaration.kind for name, declaration in self.declarations.items()}
        return Names(timed, bare, read, kinds, matrices, sizes)

    def equations(self) -> list[Eq]:
        """The equations, in order."""
        made = []
        for assignment in self.assignments:
            reader = ExpressionReader(self.source, self._names, self._constants_known, assignment.loop)
            left = At(assignment.name)
            right = reader.read(assignment.value)
            names, parts = len(symbols_in_order(right)), sum(1 for _ in sympy.preorder_traversal(right))
            if names * parts > MAX_TERMS:
                problem = f"the equation combines {names} names in {parts} operations"
                hint = "names of their own for parts of it"
                self.source.fail(assignment.value, problem, hint, kind=LimitError)
            weights = {("@", weight): place for weight, place in reader.weights.items()}
            positions = {**reader.weights, **reader.positions, **weights, None: assignment.position}
            made.append(Eq(left, right, not assignment.timed, positions))
        return made


_RANKS = {
    **dict.fromkeys(("constant", "scalar"), (0,)),
    **dict.fromkeys(("frozen", "sequence", "input", "state"), (1, 2)),
    "weight": (2,),
}
"""How many widths may stand in the brackets of a declaration; one if not told."""


def _kind(node: ast.AnnAssign) -> str:
    kind = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
    return kind.id if isinstance(kind, ast.Name) else ""
