"""The forward and the backward function of a cell, assembled from declarations and nodes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import sympy

from gategen.backends.c_arrays import Arrays, count_text
from gategen.backends.c_pass import ALL, ONCE, STEP, NodeWriter
from gategen.backends.c_structs import Interface, histories
from gategen.backends.c_syntax import CWriter
from gategen.backends.render import render
from gategen.calculus.ir import Contract, Kind, Node, OuterRows, Program, Value, flatten, writes
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import Home, Placement, Storage


@dataclass(frozen=True)
class FunctionText:
    """One C function, what it calls, and what it takes from the workspace."""

    code: str
    routines: frozenset[str]
    functions: dict[str, str]
    counts: tuple[str, ...]


@dataclass(frozen=True)
class PassView:
    """One C function, ready to be laid out."""

    name: str
    arguments: tuple[str, ...]
    opening: tuple[str, ...]
    before: tuple[str, ...]
    loop: str
    pointers: tuple[str, ...]
    steps: tuple[str, ...]
    after: tuple[str, ...]


class _Function:
    """What both functions share: sizes, parameters, inputs, buffers."""

    what = ""
    adjoint = False

    def __init__(self, plan: Schedule, storage: Storage, interface: Interface, single: bool) -> None:
        self.plan, self.storage, self.interface, self.single = plan, storage, interface, single
        self.program = self._program()
        self.placement = self._placement()
        self.taped = [slot.value for slot in plan.tape]
        widths = tuple(interface.cell.widths)
        taped = frozenset(value.name for value in self.taped)
        self.arrays = Arrays(self.program, self.placement, widths, taped)
        self.writer = NodeWriter(self.arrays, single, self.adjoint)
        phases = self.placement.phases
        self.nodes = [*self.program.setup, *phases.nodes, *self._last_nodes()]
        self.used = {v.name: v for node in self.nodes for v in (*self.program.reads(node), *writes(node))}

    def _program(self) -> Program:
        return self.plan.program

    def _placement(self) -> Placement:
        return self.storage.forward

    def _last_nodes(self) -> tuple[Node, ...]:
        return ()

    def line(self, text: str) -> None:
        """Add a line to the opening."""
        self.arrays.lines.append(text)

    def _declare_arguments(self) -> None:
        arrays, required = self.arrays, []
        for value in self.program.parameters:
            name = arrays.names[value.name]
            if value.name not in self.used:
                continue
            if value.kind is Kind.CONSTANT:
                number = CWriter(self.single, str).literal(sympy.Float(self.program.constants[value.name]))
                self.line(f"const real {name} = {number};")
            elif value.kind is Kind.SIZE:
                self.line(f"const real {name} = (real){value.name};")
            else:
                self.line(f"const real *{name} = params->{self.interface.params[value.name].name};")
                arrays.base[value.name] = name
                required.append(f"!{name}")
        some = f"{arrays.ours['T']} * {arrays.ours['B']} > 0"
        for value in self.program.inputs:
            if value.name in self.used:
                name = arrays.new(f"{value.name}_all")
                self.line(f"const real *{name} = inputs->{self.interface.inputs[value.name].name};")
                arrays.base[value.name] = name
                required.append(f"({some} && !{name})")
        if required:
            condition = textwrap.fill(" || ".join(required), 100, subsequent_indent="    ")
            self.line(f"if ({condition}) {{\n    return 1;\n}}")

    def _declare_starts(self, values: Iterable[Value]) -> None:
        for value in values:
            carry = next((c for c in self.program.carries if c.state == value), None)
            declared = sympy.Float(carry.initial) if carry and carry.initial else sympy.Integer(0)
            name = self._take(f"{value.name}_start", self.arrays.step_size(value))
            given = f"inputs->{self.interface.inputs[f'start {value.name}'].name}"
            literal = CWriter(self.single, str).literal(declared)
            self.line(self.writer.call("begin", self.arrays.step_size(value), given, literal, name))
            self.arrays.starts[value.name] = name

    def _take(self, wanted: str, count: str) -> str:
        return self.arrays.take(self.arrays.new(wanted), count)

    def _declare_derived(self) -> None:
        for node in self.program.setup:
            for value in writes(node):
                if value.name not in self.arrays.base:
                    own = self.arrays.names[value.name]
                    self.arrays.base[value.name] = self.arrays.take(own, count_text(value.shape))

    def _declare_homes(self) -> None:
        arrays = self.arrays
        for name, home in self.placement.home.items():
            value = self.program.values[name]
            if name in arrays.base or name in self.placement.alias or home is Home.REGISTER:
                continue
            if home is Home.STEP:
                arrays.base[name] = self._take(f"{name}_t", arrays.step_size(value))
            elif home is Home.RING:
                arrays.base[name] = self._take(f"{name}_all", f"2 * {arrays.step_size(value)}")
            else:
                arrays.base[name] = self._take(f"{name}_all", arrays.plane_size(value))
        for name, other in self.placement.alias.items():
            arrays.base[name] = arrays.declare(arrays.new(f"{name}_all"), arrays.base[other])

    def _step_values(self, more: Iterable[Value] = ()) -> list[Value]:
        loop = self.placement.phases.loop
        found = [v for node in loop for v in (*self.program.reads(node), *writes(node))]
        found = [v for v in [*found, *more] if not v.timeless and self.arrays.home(v) is not Home.REGISTER]
        return list({value.name: value for value in found}.values())

    def _loop_header(self) -> str:
        t, T = self.arrays.ours["t"], self.arrays.ours["T"]
        if self.program.reverse != self.adjoint:
            return f"for (int64_t {t} = {T} - 1; {t} >= 0; {t}--)"
        return f"for (int64_t {t} = 0; {t} < {T}; {t}++)"

    def _text(
        self,
        opening: Sequence[str],
        before: list[str],
        pointers: list[str],
        steps: list[str],
        after: list[str],
    ) -> FunctionText:
        view = PassView(
            name=self.interface.function(self.what),
            arguments=tuple(self.interface.arguments(self.what)),
            opening=tuple(opening),
            before=("/* Before the loop: all steps at once. */", *before) if before else (),
            loop=self._loop_header(),
            pointers=tuple(pointers),
            steps=tuple(steps),
            after=("/* After the loop: all steps at once. */", *after),
        )
        body = render("c/pass.c.j2", replace(view, arguments=(), opening=tuple(opening)))
        view = replace(view, opening=(*self._sizes(body), *opening))
        code = render("c/pass.c.j2", view).rstrip()
        code = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in code.splitlines()))
        routines, functions = frozenset(self.writer.routines), self.writer.functions
        return FunctionText(code, routines, functions, tuple(self.arrays.counts))

    def _sizes(self, body: str) -> list[str]:
        """Declarations of what the body mentions, and a word for arguments that it does not."""

        def mentioned(name: str) -> bool:
            return re.search(rf"\b{re.escape(name)}\b", body) is not None

        ours = self.arrays.ours
        members = [(ours["T"], "T"), (ours["B"], "B"), *((w, w) for w in self.interface.cell.widths)]
        sizes = [f"{name} = dims->{member}" for name, member in members if mentioned(name)]
        lines = [f"const int64_t {', '.join(sizes)};"] if sizes else []
        if mentioned(ours["lengths"]):
            lines.append(f"const int64_t *{ours['lengths']} = inputs->{self.interface.lengths};")
        if mentioned(ours["rest"]):
            lines.append(f"real *{ours['rest']} = (real *)work;")
            self.writer.routines.add("take")
        text = body + "\n".join(lines)
        arguments = [argument.split("*")[-1] for argument in self.interface.arguments(self.what)]
        silent = [name for name in arguments if re.search(rf"\b{name}\b", text) is None]
        return [*lines, *(f"(void){name};" for name in silent)]


class Forward(_Function):
    """The forward function."""

    what = "forward"

    def text(self) -> FunctionText:
        """The function."""
        arrays, program, ours = self.arrays, self.program, self.arrays.ours
        self._declare_arguments()
        self._declare_starts(carry.state for carry in program.carries)
        self._declare_starts(shift.source for shift in histories(program))
        if self.taped:
            self.line(f"const int {ours['keep']} = tape != NULL;")
        self._declare_tape()
        self._declare_derived()
        self._declare_homes()
        setup = self.writer.write(program.setup, ONCE)
        before = self.writer.write(self.placement.phases.before, ALL)
        stepwise = [v for v in program.outputs if arrays.home(v) is not Home.PLANE]
        carried = [v for carry in program.carries for v in (carry.state, carry.past)]
        values = self._step_values([*stepwise, *carried])
        pointers = arrays.pointers(values, self._written())
        steps = self.writer.write(self.placement.phases.loop, STEP)
        steps += self._finish_step(stepwise)
        after = self.writer.write(self.placement.phases.after, ALL)
        whole = [v for v in program.outputs if arrays.home(v) is Home.PLANE]
        after += [self._emit(value, "0", ours["T"], arrays.base[value.name], "") for value in whole]
        after += self._final_states()
        opening = [*arrays.lines, *setup, *self.writer.late]
        return self._text(opening, before, pointers, steps, after)

    def _written(self) -> set[str]:
        loop = self.placement.phases.loop
        return {v.name for node in loop for v in writes(node)}

    def _declare_tape(self) -> None:
        arrays = self.arrays
        keep, rest = arrays.ours["keep"], arrays.ours["rest"]
        for value in self.taped:
            name, plane = arrays.new(f"{value.name}_all"), arrays.plane_size(value)
            short = plane
            if arrays.home(value) is Home.RING:
                short = f"{'2 * ' if value.kind is Kind.STATE else ''}{arrays.step_size(value)}"
            size = plane if short == plane else f"{keep} ? {plane} : {short}"
            self.line(f"real *{name} = gg_take({keep} ? &tape : &{rest}, {size});")
            arrays.counts.append(short)
            arrays.base[value.name] = name

    def _emit(self, value: Value, first: str, steps: str, source: str, offset: str) -> str:
        ours, target = self.arrays.ours, f"outputs->{self.interface.outputs[value.name].name}"
        head = (first, steps, ours["B"], value.width, ours["lengths"])
        return f"if ({target}) {{\n    {self.writer.call('emit', *head, source, target + offset)}\n}}"

    def _finish_step(self, outputs: list[Value]) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            state, past = (arrays.base[f"step {v.name}"] for v in (carry.state, carry.past))
            head = (ours["B"], carry.state.width, ours["t"], ours["lengths"])
            lines.append(self.writer.call("hold", *head, past, state))
        for value in outputs:
            offset = f" + {ours['t']} * {arrays.step_size(value)}"
            lines.append(self._emit(value, ours["t"], "1", arrays.base[f"step {value.name}"], offset))
        return lines

    def _final_states(self) -> list[str]:
        arrays, lines = self.arrays, []
        for carry in self.program.carries:
            state, T = carry.state, arrays.ours["T"]
            last = "0" if self.program.reverse else f"{T} - 1"
            begin = f"{arrays.base[state.name]} + {arrays.slot(state, last)} * {arrays.step_size(state)}"
            source = f"{T} > 0 ? {begin} : {arrays.starts[state.name]}"
            target = f"outputs->{self.interface.outputs[f'final {state.name}'].name}"
            lines.append(self.writer.call("copy", arrays.step_size(state), source, target))
        return lines

    def tape_size(self) -> str:
        """The function that tells the number of elements on the tape."""
        sizes = {"T": "dims->T", "B": "dims->B", **{w: f"dims->{w}" for w in self.interface.cell.widths}}
        counts = [
            " * ".join(["dims->T", "dims->B", *_dims_factor(value, sizes)]) for value in self.taped
        ] or ["0"]
        silent = "" if self.taped else "    (void)dims;\n"
        total = "\n        + ".join(counts)
        name = self.interface.function("tape_size")
        return (
            f"int64_t {name}(const {self.interface.prefix}_dims *dims)\n{{\n{silent}    return {total};\n}}"
        )


def _dims_factor(value: Value, sizes: dict[str, str]) -> list[str]:
    text = str(value.width)
    for name, member in sizes.items():
        text = re.sub(rf"(?<![\w>]){re.escape(name)}\b", member, text)
    return [f"({text})" if " " in text else text]


class Backward(_Function):
    """The backward function."""

    what = "backward"
    adjoint = True

    def _program(self) -> Program:
        program = self.plan.program
        return replace(program, shared=(*program.shared, *self.storage.arriving.values()))

    def _placement(self) -> Placement:
        return self.storage.backward

    def _last_nodes(self) -> tuple[Node, ...]:
        return self.program.setup_adjoint

    def text(self) -> FunctionText:
        """The function."""
        program, phases = self.program, self.placement.phases
        self._declare_arguments()
        self._declare_starts(c.state for c in program.carries if self._reads(c.past))
        self._declare_starts(s.source for s in histories(program) if self._reads(s.target))
        for value in self.taped:
            name = self.arrays.new(f"{value.name}_all")
            self.line(f"real *{name} = gg_take(&tape, {self.arrays.plane_size(value)});")
            self.arrays.base[value.name] = name
        self._declare_seeds()
        self._declare_input_gradients()
        self._declare_derived()
        self._declare_homes()
        self._declare_arrivals()
        self._declare_gradients()
        setup = self.writer.write(program.setup, ONCE)
        before = self.writer.write(phases.before, ALL)
        arrivals = [v for c in program.carries for v in (c.d_past, self.storage.arriving[c.state.name])]
        written = {v.name for node in phases.loop for v in writes(node)}
        pointers = self.arrays.pointers(self._step_values(arrivals), written)
        steps = self.writer.write(phases.loop, STEP) + self._finish_step()
        after = self.writer.write(phases.after, ALL)
        after += self.writer.write(program.setup_adjoint, ONCE) + self._hand_over()
        opening = [*self.arrays.lines, *setup, *self.writer.late]
        return self._text(opening, before, pointers, steps, after)

    def _reads(self, value: Value) -> bool:
        return any(value in self.program.reads(node) for node in self.nodes)

    def _declare_seeds(self) -> None:
        for name, seed in self.program.seeds.items():
            size = self.arrays.step_size(seed)
            member = self.interface.outputs[name].name
            self.arrays.base[seed.name] = self.arrays.declare(
                self.arrays.new(f"{seed.name}_all"), f"d_outputs->{member}", constant=True
            )
            zeros = self._take(f"no_{seed.name}", size)
            self.line(self.writer.call("clear", size, zeros))
            self.arrays.starts[seed.name] = zeros

    def _declare_input_gradients(self) -> None:
        for value in self.program.inputs:
            member, size = self.interface.inputs[value.name].name, self.arrays.plane_size(value)
            gradient = self.program.gradients.get(value.name)
            if gradient is None:
                self.line(self.writer.call("clear", size, f"d_inputs->{member}"))
                continue
            name = self.arrays.new(f"{gradient.name}_all")
            self._declare_wanted(gradient, name, f"d_inputs->{member}", size)

    def _declare_wanted(self, value: Value, name: str, given: str, size: str) -> None:
        """A gradient goes to the caller, or into the workspace when he does not want it."""
        taken = f"gg_take(&{self.arrays.ours['rest']}, {size})"
        self.arrays.base[value.name] = self.arrays.declare(name, f"{given} ? {given} : {taken}")
        self.arrays.counts.append(size)

    def _declare_arrivals(self) -> None:
        written = {v.name for node in self.nodes for v in writes(node)}
        for carry in self.program.carries:
            size = self.arrays.step_size(carry.state)
            back = self.arrays.base[self.storage.arriving[carry.state.name].name]
            given = f"d_outputs->{self.interface.outputs[f'final {carry.state.name}'].name}"
            self.line(self.writer.call("begin", size, given, 0, back))
            if carry.d_past.name not in written:
                self.line(self.writer.call("clear", size, self.arrays.base[carry.d_past.name]))

    def _declare_gradients(self) -> None:
        element_wise = {
            v.name for n in flatten(self.nodes) if not isinstance(n, (OuterRows, Contract)) for v in writes(n)
        }
        done = self.writer.done
        for value in self.program.parameters:
            gradient, member = self.program.gradients.get(value.name), self.interface.params.get(value.name)
            if value.kind is not Kind.PARAMETER or member is None:
                continue
            size, given = count_text(value.shape), f"d_params->{member.name}"
            if gradient is None:
                self.line(self.writer.call("clear", size, given))
            elif gradient.name in element_wise or len(value.shape) < 2:
                self._declare_wanted(gradient, self.arrays.names[gradient.name], given, size)
            else:
                name = self.arrays.names[gradient.name]
                self.arrays.base[gradient.name] = self.arrays.declare(name, given)
        for value in self.used.values():
            if value.kind is Kind.GRADIENT:
                if value.name not in self.arrays.base:
                    own = self.arrays.names[value.name]
                    self.arrays.base[value.name] = self.arrays.take(own, count_text(value.shape))
                base = self.arrays.base[value.name]
                self.line(self.writer.call("clear", count_text(value.shape), base))
                done.add(value.name)

    def _finish_step(self) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            back = arrays.base[self.storage.arriving[carry.state.name].name]
            head = (ours["B"], carry.state.width, ours["t"], ours["lengths"])
            d_past = arrays.base[carry.d_past.name]
            lines.append(self.writer.call("advance", *head, d_past, back))
        return lines

    def _hand_over(self) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for value in self.program.inputs:
            gradient = self.program.gradients.get(value.name)
            if gradient is not None:
                base = arrays.base[gradient.name]
                head = (0, ours["T"], ours["B"], value.width, ours["lengths"])
                lines.append(
                    f"if ({ours['lengths']}) {{\n    {self.writer.call('emit', *head, base, base)}\n}}"
                )
        for carry in self.program.carries:
            back = arrays.base[self.storage.arriving[carry.state.name].name]
            given = f"d_inputs->{self.interface.inputs[f'start {carry.state.name}'].name}"
            lines.append(self.writer.call("copy", arrays.step_size(carry.state), back, given))
        for shift in histories(self.program):
            lines += self._first_gradient(shift.source, shift.target)
        return lines

    def _first_gradient(self, value: Value, moved: Value) -> list[str]:
        ours = self.arrays.ours
        given = f"d_inputs->{self.interface.inputs[f'start {value.name}'].name}"
        adjoint = next((name for name in self.arrays.base if name == f"d_{moved.name}"), None)
        if adjoint is None:
            return [self.writer.call("clear", self.arrays.step_size(value), given)]
        head = (ours["T"], ours["B"], value.width, int(self.program.reverse), ours["lengths"])
        call = self.writer.call("first", *head, self.arrays.base[adjoint], given)
        return [f"if ({given}) {{\n    {call}\n}}"]
