"""The lines of one pass of the NumPy reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from sympy import Expr

from gategen.backends.numpy_matrices import MatrixWriter, span
from gategen.backends.numpy_order import Statement, reads, statements
from gategen.backends.numpy_past import PastWriter
from gategen.backends.numpy_syntax import NumpyWriter
from gategen.calculus.ir import (
    Apply,
    Assign,
    Block,
    Contract,
    Extreme,
    Kind,
    Move,
    Outer,
    OuterRows,
    Product,
    Reduce,
    Scan,
    Shift,
    SumRows,
    Turn,
    Unit,
    Value,
)
from gategen.calculus.program import Program
from gategen.calculus.schedule import Phases
from gategen.language.functions import ElementWise
from gategen.language.notation import negated
from gategen.language.shapes import Width

PARTS = ("before", "loop", "after")


@dataclass(frozen=True)
class Term:
    """What a line adds to its target.

    Attributes:
        text: The term.
        whole: Whether it has the shape of the target; otherwise it is one value for many units or rows.
        same: Whether it is another value under its own name, which no sum may change in place.
        minus: The term without its leading minus sign, if it has one.
    """

    text: str
    whole: bool = True
    same: bool = False
    minus: str = ""


@dataclass
class LineWriter:
    """Writes the lines of one pass and remembers what they need.

    Attributes:
        program: The cell.
        writer: Spells expressions.
        lines: The statements of each part, in reading order.
        equation: What a comment says before the equation.
        planes: Values that are needed beyond one step.
        arriving: For a value that begins each step with something handed on, the name of that.
        used: Names read so far.
        begun: Values with a contribution so far.
        allocated: Planes that the loop fills.
        part: What is being written.
    """

    program: Program
    writer: NumpyWriter
    lines: dict[str, list[Statement]]
    equation: str
    planes: set[str]
    arriving: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    allocated: list[Value] = field(default_factory=list)
    part: str = "before"

    @classmethod
    def of(cls, program: Program, writer: NumpyWriter, phases: Phases, equation: str) -> LineWriter:
        """For the phases of one pass; what is read or written outside the loop becomes a plane."""
        lines = {part: statements(program, getattr(phases, part), bool(equation)) for part in PARTS}
        outside = [line for part in ("before", "after") for line in lines[part]]
        planes = {v.name for line in outside for v in (*reads(program, line), line.target)}
        planes |= {v.name for v in (*program.inputs, *program.seeds.values())}
        return cls(program, writer, lines, equation, planes)

    def __post_init__(self) -> None:
        self.count = Counter(line.target.name for part in PARTS for line in self.lines[part])
        self.count.update(line.target.name for line in statements(self.program, self.program.setup_adjoint))
        self.numbers = {v.name for v in self.program.parameters if v.kind in (Kind.CONSTANT, Kind.SIZE)}
        for line in statements(self.program, self.program.setup):
            if all(value.name in self.numbers for value in reads(self.program, line)):
                self.numbers.add(line.target.name)

    def ours(self, name: str) -> str:
        """A name of the module's own."""
        return self.writer.names(name)

    @property
    def mask(self) -> str:
        """Which rows are inside their sequences."""
        return f"{self.ours('active')}[{self.ours('t')}]" if self.part == "loop" else self.ours("active")

    @property
    def mask_units(self) -> str:
        """The same for every unit of a row."""
        active = self.ours("active")
        return f"{active}[{self.ours('t')}, :, None]" if self.part == "loop" else f"{active}[..., None]"

    def stored(self, value: Value) -> bool:
        """Whether the value is a row of a plane here."""
        return self.part == "loop" and not value.timeless and value.name in self.planes

    def name(self, value: Value) -> str:
        """A value without its time."""
        self.used.add(value.name)
        if value.kind is Kind.SIZE:
            return self.writer.size(value.shown)
        return self.writer.names.value(value.name)

    def read(self, value: Value) -> str:
        """A value as it is read here."""
        return f"{self.name(value)}[{self.ours('t')}]" if self.stored(value) else self.name(value)

    def rows(self, value: Value) -> str:
        """The rows of a value that are inside their sequences."""
        if self.stored(value):
            return f"{self.name(value)}[{self.ours('t')}, {self.mask}]"
        return f"{self.name(value)}[{self.mask}]"

    def write(self, expr: Expr) -> str:
        """An expression as it is read here."""
        values = self.program.values
        return self.writer.write(expr, lambda name: self.read(values[name]), self.numbers.__contains__)

    def shape(self, value: Value) -> str:
        """The shape of a value's array here."""
        if value.timeless:
            return self.writer.shape(value.shape)
        steps = () if self.part == "loop" else (self.ours("T"),)
        return self.writer.shape(value.shape, *steps, self.ours("B"))

    def body(self, part: str) -> list[str]:
        """The lines of a part, those of one equation under a comment that quotes it."""
        self.part = part
        written = []
        for name, arriving in self.arriving.items() if part == "loop" else ():
            # What no line of the loop adds to begins as it arrives.
            if all(line.target.name != name for line in self.lines["loop"]):
                written.append(self._line(self.program.values[name], Term(arriving, same=True)))
        return written + self.commented(self.lines[part])

    def commented(self, lines: Sequence[Statement]) -> list[str]:
        """Lines under the equations that they come from."""
        written: list[str] = []
        comment = ""
        for line in lines:
            if (said := self._comment(line)) != comment:
                written.append(f"# {said}")
                comment = said
            if self._is_piece(line):
                written += self._begun_with_zero(line.target)
            written += [self._line(line.target, self._term(line), self._piece(line))]
        return written

    def _is_piece(self, line: Statement) -> bool:
        """Whether a line adds to some units of its target only."""
        if not isinstance(line, Move):
            return False
        return len(line.target.shape) < 2 and line.target.width != line.size

    def _begun_with_zero(self, target: Value) -> list[str]:
        """A first line for what is then added to piece by piece."""
        if target.name in self.begun:
            return []
        arriving = self.arriving.pop(target.name, None) if self.part == "loop" else None
        if self.stored(target):
            self.allocated.append(target)
            text = arriving or "0"
        else:
            shape = self.shape(target)[1:-1]
            text = (
                f"{arriving}.copy()"
                if arriving
                else f"{self.writer.numpy}.zeros(({shape}), {self.writer.dtype()})"
            )
        self.begun.add(target.name)
        return [f"{self.read(target)} = {text}"]

    def _comment(self, line: Statement) -> str:
        if line.origin >= 0:
            return self.equation + self.program.equations[line.origin]
        if isinstance(line, Shift):
            adjoint = line.source.kind is Kind.ADJOINT
            return f"from {line.source.shown.removeprefix('d ')}" if adjoint else line.target.shown
        delays = [carry.delay for carry in self.program.carries if carry.d_state == line.target]
        later = f" and from the step{'s' if max(delays, default=1) > 1 else ''} that ran after this one"
        return f"what arrives from the loss{later if line.target.name in self.arriving else ''}"

    def _piece(self, line: Statement) -> str:
        """Which columns or units of its target a line adds to."""
        if self._is_piece(line):
            assert isinstance(line, Move)
            return span(self.writer, line.into, line.size, line.target.width)
        return self._columns(line.target, line.block) if isinstance(line, OuterRows) else ""

    def _line(self, target: Value, term: Term, piece: str = "") -> str:
        name = self.read(target) + piece
        text, whole, same, minus = term.text, term.whole, term.same, term.minus
        arriving = self.arriving.get(target.name) if self.part == "loop" else None
        if arriving is not None and text != arriving:
            text = f"{arriving} - {minus}" if minus else f"{arriving} + {text}"
            whole, same, minus = True, False, ""
            del self.arriving[target.name]
        if target.name in self.begun:
            return f"{name} -= {minus}" if minus else f"{name} += {text}"
        self.begun.add(target.name)
        if self.stored(target):
            self.allocated.append(target)
        elif not whole:
            text = f"{self.writer.numpy}.full({self.shape(target)}, {text}, {self.writer.dtype()})"
        elif same and (self.count[target.name] > 1 or target.kind is Kind.STATE):
            text = f"{text}.copy()"
        return f"{name} = {text}"

    def _term(self, line: Statement) -> Term:
        match line:
            case Assign():
                rest = negated(line.expr)
                whole = self._is_whole(line.target, reads(self.program, line))
                minus = "" if rest is None else self.write(line.expr).removeprefix("-")
                return Term(self.write(line.expr), whole, bool(line.expr.is_Symbol), minus)
            case Reduce():
                text = f"{self._enclosed(line.expr)}.sum({self._units(line.target)})"
                # A number is the same for all units, and no vector in the term says how many there are.
                return Term(text if self._has_units(line) else self._times_units(line))
            case SumRows():
                if not line.target.shape and not self._has_units(line):
                    return Term(f"({self._row_terms(line.expr)} * {self._count(line)}).sum()")
                return Term(f"{self._row_terms(line.expr)}.sum({'axis=0' if line.target.shape else ''})")
            case Extreme(shape=()):
                return Term(f"{self.read(line.source)}.{line.name}({self._units(line.target)})")
            case Contract():
                return self._chain(line)
            case Extreme() | Scan() | Move() | Outer() | Apply() | Turn() | Unit():
                steps = () if self.part == "loop" else (self.ours("T"),)
                words = MatrixWriter(self.writer, self.read, (*steps, self.ours("B")))
                return Term(words.write(line), same=isinstance(line, Move))
            case Shift():
                return Term(self._moved(line))
            case OuterRows():
                return Term(self._outer(line.left, line.right))

    def _is_whole(self, target: Value, read: Sequence[Value]) -> bool:
        if target.timeless and not target.shape:
            return True
        return any(v.shape == target.shape and v.timeless == target.timeless for v in read)

    def _has_units(self, line: Reduce | SumRows) -> bool:
        return not line.shape or any(value.shape for value in self.program.read(line.expr))

    def _count(self, line: Reduce | SumRows) -> str:
        width = self.writer.width(line.shape[0])
        return width if width.isidentifier() else f"({width})"

    def _times_units(self, line: Reduce) -> str:
        return f"{self._enclosed(line.expr)} * {self._count(line)}"

    def _units(self, target: Value) -> str:
        return "" if target.timeless else "axis=-1, keepdims=True"

    def _enclosed(self, expr: Expr) -> str:
        text = self.write(expr)
        return text if expr.is_Symbol or isinstance(expr, ElementWise) else f"({text})"

    def _row_terms(self, expr: Expr) -> str:
        if expr.is_Symbol:
            return self.rows(self.program.values[expr.name])
        return f"{self._enclosed(expr)}[{self.mask}]"

    def _chain(self, line: Contract) -> Term:
        target = line.target
        terms = [self._product(product, target) for product in line.products]
        terms += [self.read(addend) for addend in line.addends]
        whole = target.timeless or any(not product.operand.timeless for product in line.products)
        return Term(" + ".join(terms), whole)

    def _product(self, product: Product, target: Value) -> str:
        weight, operand = product.weight, product.operand
        matrix = self.read(weight) + self._columns(weight, product.block)
        if operand.timeless:
            vector = self.read(operand)
            if not operand.shape:
                vector = f"{self.writer.numpy}.atleast_1d({vector})"
            text = f"{vector} @ {matrix}" if product.transposed else f"{matrix} @ {vector}"
            return text if target.shape else f"({text}).sum()"
        if not product.transposed:
            matrix = f"{matrix}.T"
        if not target.timeless:
            return f"{self.read(operand)} @ {matrix}"
        return f"({self.rows(operand)} @ {matrix}).sum({'axis=0' if target.shape else ''})"

    def _columns(self, weight: Value, block: Block | None) -> str:
        if block is None:
            return ""
        end = block.start + block.size
        start = "" if block.start == Width() else self.writer.width(block.start)
        stop = "" if end == weight.shape[1] else self.writer.width(end)
        return f"[:, {start}:{stop}]"

    def _outer(self, left: Value, right: Value) -> str:
        if left.timeless:
            return f"{self.writer.numpy}.outer({self.read(left)}, {self.read(right)})"
        if right.timeless:
            return f"{self.writer.numpy}.outer({self.rows(left)}.sum(axis=0), {self.read(right)})"
        return f"{self.rows(left)}.T @ {self.rows(right)}"

    def _moved(self, line: Shift) -> str:
        np, source, offset = self.writer.numpy, self.read(line.source), line.offset
        depth = self.program.begins.get(line.source.name, 1)
        if depth > 1 and self.program.history(line) and line.source.kind is Kind.INPUT:
            start = f'{self.ours("initial")}["{line.source.name}"]'
            return PastWriter(self.program, self.writer).plane(source, start, abs(offset), depth)
        outside = "0"
        steps = self.writer.zeros(line.source.shape, str(abs(offset)), self.ours("B"))
        if line.source.kind is Kind.INPUT and self.program.history(line):
            outside = f'{self.ours("initial")}["{line.source.name}"]'
            steps = f"{outside}[None]"
        if offset < 0:
            return f"{np}.concatenate([{steps}, {source}])[:{self.ours('T')}]"
        # What follows the end of a sequence inside its row is padding.
        inside = f"{np}.where({self.mask_units}, {source}, {outside})"
        return f"{np}.concatenate([{inside}, {steps}])[{offset}:]"
