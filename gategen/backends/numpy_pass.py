"""The two functions of the NumPy reference: their arguments, their parts, and what they return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gategen.backends.numpy_lines import PARTS, LineWriter
from gategen.backends.numpy_order import reads, statements
from gategen.backends.numpy_past import PastWriter
from gategen.backends.numpy_syntax import NumpyWriter
from gategen.calculus.ir import Kind, OuterRows, Value
from gategen.calculus.program import Carry, Past
from gategen.calculus.schedule import Phases, Schedule

_LINE = 100


@dataclass(frozen=True)
class PassView:
    """One function of the module.

    Attributes:
        arguments: The signature.
        before: Blocks of lines before the loop.
        steps: The head of the loop.
        loop: Its lines; empty if no step needs another.
        after: Blocks of lines behind the loop.
    """

    arguments: str
    before: tuple[str, ...]
    steps: str
    loop: str
    after: tuple[str, ...]


def _filled(items: Iterable[str], room: int = _LINE) -> Iterator[str]:
    """Items joined by commas into lines that are not too long."""
    line = ""
    for item in items:
        if line and len(line) + len(item) + 2 > room:
            yield line
            line = item
        else:
            line = f"{line}, {item}" if line else item
    if line:
        yield line


def _dictionary(name: str, groups: Iterable[Sequence[str]], ending: str = "") -> str:
    """``name = {...}`` on one line or, if that is too long, on several, a new one for each group."""
    groups = list(groups)
    short = f"{name} = {{{', '.join(item for group in groups for item in group)}}}{ending}"
    if len(short) <= _LINE:
        return short
    lines = [f"    {line}," for group in groups for line in _filled(group)]
    return "\n".join([f"{name} = {{", *lines, f"}}{ending}"])


class Pass:
    """What the two passes share: how arguments get their local names."""

    arguments = ""
    equation = ""

    def __init__(self, plan: Schedule, writer: NumpyWriter) -> None:
        self.plan, self.program, self.writer = plan, plan.program, writer
        self.body = LineWriter.of(plan.program, writer, self.phases(), self.equation)
        self.ours = writer.names
        self.past = PastWriter(plan.program, writer)
        self._equation_of: dict[str, int] = {}
        for line in statements(self.program, (*self.program.setup, *self.program.step)):
            for value in reads(self.program, line):
                known = self._equation_of.get(value.name, line.origin)
                self._equation_of[value.name] = min(known, line.origin)

    def phases(self) -> Phases:
        """What the function does before, inside and after its loop."""
        return self.plan.forward

    def unpack(self, source: str, values: Iterable[Value]) -> list[str]:
        """``a, b = source["a"], source["b"]`` for the values that are read, a line for each equation."""
        lines = []
        for group in self.grouped(value for value in values if value.name in self.body.used):
            while group:
                some = group[: self._fitting(source, group)]
                left = ", ".join(self.ours.value(value.name) for value in some)
                lines.append(f"{left} = {', '.join(self._entry(source, value) for value in some)}")
                group = group[len(some) :]
        return lines

    def _fitting(self, source: str, values: Sequence[Value]) -> int:
        """How many of the values fit into one line."""
        length = 0
        for count, value in enumerate(values):
            length += len(self.ours.value(value.name)) + len(self._entry(source, value)) + 4
            if count and length > _LINE:
                return count
        return len(values)

    def grouped(self, values: Iterable[Value]) -> list[list[Value]]:
        """Parameters together by the first equation that reads them; other values all together."""
        groups: dict[int, list[Value]] = {}
        for value in values:
            key = self._equation_of.get(value.name, -1) if value.timeless else -1
            groups.setdefault(key, []).append(value)
        if all(len(group) == 1 for group in groups.values()):
            return [[value for group in groups.values() for value in group]]
        return list(groups.values())

    def _entry(self, source: str, value: Value) -> str:
        return f'{self.ours(source)}["{self.key(value)}"]'

    def key(self, value: Value) -> str:
        """The name of a value in dictionaries: the author's."""
        return value.shown or value.name if value.timeless else value.name

    def begin(self, tape: Sequence[Value], then: Sequence[str]) -> str:
        """The arguments under their local names, which rows are active, and derived parameters."""
        program, body, np = self.program, self.body, self.writer.numpy
        setup = self._setup()
        T, B, lengths = self.ours("T"), self.ours("B"), self.ours("lengths")
        weights = [v for v in program.parameters if v.kind in (Kind.PARAMETER, Kind.FROZEN)]
        constants = [
            f"{self.ours.value(v.name)} = {program.constants[v.name]!r}"
            for v in program.parameters
            if v.kind is Kind.CONSTANT and v.name in body.used
        ]
        lines = [
            *self.unpack("inputs", program.inputs),
            *self.unpack("params", weights),
            *self.unpack("tape", tape),
            *constants,
            f"if {lengths} is None:",
            f"    {lengths} = {np}.full({B}, {T})",
            f"{self.ours('active')} = {np}.arange({T})[:, None] < {lengths}  # (T, B)",
            *setup,
            *then,
        ]
        if self.writer.uses_dtype:
            first = program.inputs[0]
            source = self.ours.value(first.name) if first.name in body.used else self._entry("inputs", first)
            lines.insert(len(self.unpack("inputs", program.inputs)), f"{self.ours('dtype')} = {source}.dtype")
        names = ["T", "B", *sorted(self.writer.sizes)]
        left = ", ".join([T, B, *(self.ours.size(name) for name in names[2:])])
        sizes = ", ".join(f'{self.ours("sizes")}["{name}"]' for name in names)
        return "\n".join([f"{left} = {sizes}", *lines])

    def _setup(self) -> list[str]:
        needed = set(self.body.used)
        kept = []
        for line in reversed(statements(self.program, self.program.setup)):
            if line.target.name in needed:
                needed.update(value.name for value in reads(self.program, line))
                kept.append(line)
        self.body.part, equation, self.body.equation = "setup", self.body.equation, ""
        lines = self.body.commented(kept[::-1])
        self.body.equation = equation
        return lines

    def planes(self) -> list[str]:
        """Planes that the loop fills, those of one shape together."""
        groups: dict[str, list[str]] = {}
        for value in self.body.allocated:
            shape = self.writer.shape(value.shape, self.ours("T"), self.ours("B"))
            groups.setdefault(shape, []).append(self.ours.value(value.name))
        np, dtype = self.writer.numpy, self.writer.dtype
        lines = []
        for shape, names in groups.items():
            if len(names) == 1:
                lines.append(f"{names[0]} = {np}.empty({shape}, {dtype()})")
            else:
                lines.append(f"{', '.join(names)} = {np}.empty(({len(names)}, {shape[1:]}, {dtype()})")
        return lines

    def steps(self, reverse: bool) -> str:
        """The head of the loop."""
        return f"{self.ours('t')} in range({self.ours('T')}){'[::-1]' if reverse else ''}"

    def past_plane(self, carry: Carry, past: Past) -> str:
        """The states some steps before each step, from those after each."""
        np, name = self.writer.numpy, self.ours.value(past.value.name)
        state, start = self.body.name(carry.state), self._entry("initial", carry.state)
        if self.program.reverse and carry.delay == 1:
            return f"{name} = {np}.concatenate([{state}, {start}[None]])[1:]"
        return f"{name} = {self.past.plane(state, start, past.delay, carry.delay)}"

    def selected(self, value: Value) -> str:
        """A plane, zero where there is no sequence."""
        return f"{self.writer.numpy}.where({self.body.mask_units}, {self.body.read(value)}, 0)"

    def at_once(self, lines: Sequence[str]) -> list[str]:
        """The block of what needs no loop, if there is any."""
        return ["\n".join(["# All steps at once.", *lines])] if lines else []

    def signature(self) -> str:
        """The arguments of the function."""
        return ", ".join(self.ours(name) for name in self.arguments.split())


class Forward(Pass):
    """The function ``forward``."""

    arguments = "sizes inputs params initial lengths keep"

    def view(self) -> PassView:
        """Its lines."""
        program, body, ours = self.program, self.body, self.ours
        late = {v.name for line in body.lines["after"] for v in reads(program, line)}
        pasts = [(carry, past) for name, (carry, past) in program.pasts.items() if name in late]
        body.planes -= program.pasts.keys()
        body.planes |= {v.name for v in (*program.outputs, *(slot.value for slot in self.plan.tape))}
        body.planes |= {carry.state.name for carry, _ in pasts}
        before = body.body("before")
        loop = body.body("loop")
        loop = [line for carry in program.carries for line in self.past.shown(carry, body.used)] + loop
        loop += self._hold()
        final = [f'"{c.state.name}": {self.past.remembered(c)}' for c in program.carries]
        body.part = "after"
        ended = _dictionary(ours("final"), [final])
        after = [ended, *(self.past_plane(carry, past) for carry, past in pasts)] if pasts else []
        after += body.body("after")
        results = "\n".join([*([] if pasts else [ended]), self._results()])
        begins = [f"{self.past.remembered(c)} = {self._entry('initial', c.state)}" for c in program.carries]
        begin = self.begin((), [*begins, *self.planes()])
        return PassView(
            self.signature(),
            (begin, *self.at_once(before)),
            self.steps(program.reverse),
            "\n".join(loop),
            (*self.at_once(after), results),
        )

    def _hold(self) -> list[str]:
        if not self.program.carries:
            return []
        lines = ["# past the end of its sequence a state holds"]
        for carry in self.program.carries:
            state = self.body.read(carry.state)
            stored = f"{state} = " if self.body.stored(carry.state) and carry.delay == 1 else ""
            lines.append(stored + self.past.moved_on(carry, state, self.body.mask_units))
        return lines

    def _results(self) -> str:
        outputs = [f'"{v.name}": {self.selected(v)}' for v in self.program.outputs]
        tape = [f'"{slot.value.name}": {self.body.read(slot.value)}' for slot in self.plan.tape]
        lines = [
            _dictionary(self.ours("outputs"), [outputs]),
            _dictionary(self.ours("tape"), [tape], f" if {self.ours('keep')} else {{}}"),
            f"return {self.ours('outputs')}, {self.ours('final')}, {self.ours('tape')}",
        ]
        return "\n".join(lines)


class Backward(Pass):
    """The function ``backward``."""

    arguments = "sizes inputs params initial lengths tape d_outputs d_final"
    equation = "from "

    def phases(self) -> Phases:
        """What the function does before, inside and after its loop."""
        return self.plan.backward

    def view(self) -> PassView:
        """Its lines."""
        program, body, ours = self.program, self.body, self.ours
        body.planes |= {slot.value.name for slot in self.plan.tape}
        body.planes |= program.pasts.keys()
        body.planes |= {v.name for v in program.gradients.values() if not v.timeless}
        zeros = self._gradients_summed_up()
        body.begun |= {value.name for value in zeros}
        handed = {c.d_state.name: ours(f"{c.d_state.name}_carry") for c in program.carries}
        read = {v.name for part in PARTS for line in body.lines[part] for v in reads(program, line)}
        newest = {c.d_state.name: "" if c.delay == 1 else "[-1]" for c in program.carries}
        body.arriving = {name: carry + newest[name] for name, carry in handed.items() if name in read}
        before = body.body("before")
        loop = [*body.body("loop"), *self._hand_back(handed)]
        after = body.body("after")
        body.part = "setup"
        after += body.commented(statements(program, program.setup_adjoint))
        body.part = "after"
        results = self._results(handed)
        begin = self.begin(*self._arrivals(handed, zeros))
        return PassView(
            self.signature(),
            (begin, *self.at_once(before)),
            self.steps(not program.reverse),
            "\n".join(loop),
            (*self.at_once(after), results),
        )

    def _gradients_summed_up(self) -> list[Value]:
        """Gradients that are added to piece by piece, and so begin with zero."""
        found = {}
        for part in PARTS:
            for line in self.body.lines[part]:
                pieces = part == "loop" or (isinstance(line, OuterRows) and line.block is not None)
                if line.target.timeless and pieces:
                    found[line.target.name] = line.target
        return list(found.values())

    def _hand_back(self, handed: dict[str, str]) -> list[str]:
        lines = []
        for carry in self.program.carries:
            known = [past.adjoint.name in self.body.begun for past in carry.pasts]
            slopes = [
                self.body.read(past.adjoint) if made else None
                for past, made in zip(carry.pasts, known, strict=True)
            ]
            name = handed[carry.d_state.name]
            lines += self.past.handed_back(carry, name, slopes, self.body.mask_units)
        return ["# past the end of its sequence a gradient is handed on", *lines] if lines else []

    def _arrivals(self, handed: dict[str, str], zeros: Sequence[Value]) -> tuple[list[Value], list[str]]:
        """What to take from the tape, and the lines that prepare what the loop starts from."""
        program, body = self.program, self.body
        body.part = "before"
        lines = []
        for carry in program.carries:
            for past in carry.pasts:
                if past.value.name in body.used:
                    lines.append(f"{self.past_plane(carry, past)}  # {past.value.shown}")
        lines.append("# gradients that arrive at the outputs and, step by step, at the states")
        for output, seed in program.seeds.items():
            if seed.name not in body.used:
                continue
            name, zero = body.name(seed), self.writer.zeros(seed.shape, self.ours("T"), self.ours("B"))
            lines.append(f'{name} = {self.ours("d_outputs")}.get("{output}", {zero})')
            lines.append(f"{name} = {self.selected(seed)}")
        for carry in program.carries:
            steps = [str(carry.delay)] if carry.delay > 1 else []
            zero = self.writer.zeros(carry.state.shape, *steps, self.ours("B"))
            source = f'{self.ours("d_final")}.get("{carry.state.name}", {zero})'
            lines.append(f"{handed[carry.d_state.name]} = {source}")
        lines += self.planes()
        for value in zeros:
            lines.append(f"{body.name(value)} = {self.writer.zeros(value.shape)}")
        return [slot.value for slot in self.plan.tape if slot.value.name in body.used], lines

    def _results(self, handed: dict[str, str]) -> str:
        program, ours = self.program, self.ours
        inputs = [f'"{v.name}": {self._input_gradient(v)}' for v in program.inputs]
        trained = [v for v in program.parameters if v.kind is Kind.PARAMETER]
        params = [
            [f'"{self.key(v)}": {self._parameter_gradient(v)}' for v in group]
            for group in self.grouped(trained)
        ]
        initial = [f'"{c.state.name}": {handed[c.d_state.name]}' for c in program.carries]
        lines = []
        for source in dict.fromkeys(shift.source for shift in program.histories):
            given = self._entry("initial", source)
            more, slope = self.past.start_gradient(source, given, self.body.name)
            lines += more
            initial.append(f'"{source.name}": {slope}')
        names = [ours(name) for name in ("d_inputs", "d_params", "d_initial")]
        groups = ([inputs], params, [initial])
        lines += [_dictionary(name, items) for name, items in zip(names, groups, strict=True)]
        return "\n".join([*lines, f"return {', '.join(names)}"])

    def _input_gradient(self, value: Value) -> str:
        gradient = self.program.gradient_of(value.name)
        if gradient is None or gradient.name not in self.body.begun:
            return f"{self.writer.numpy}.zeros_like({self._entry('inputs', value)})"
        return self.selected(gradient)

    def _parameter_gradient(self, value: Value) -> str:
        gradient = self.program.gradient_of(value.name)
        if gradient is None or gradient.name not in self.body.begun:
            return f"{self.writer.numpy}.zeros_like({self._entry('params', value)})"
        name = self.body.name(gradient)
        # A sum over everything is a NumPy scalar, which older versions widen.
        return name if value.shape else f"{self.writer.numpy}.asarray({name}, {self.writer.dtype()})"
