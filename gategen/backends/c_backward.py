"""The backward function of a cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gategen.backends.c_function import Function, FunctionText
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_structs import Interface
from gategen.backends.c_text import product
from gategen.calculus.ir import (
    Contract,
    Kind,
    Node,
    OuterRows,
    Value,
    flatten,
    writes,
)
from gategen.calculus.program import Carry
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import Storage


class Backward(Function):
    """Gradients of parameters, inputs and first states, from the tape."""

    what = "backward"
    adjoint = True
    about_aliases = "Gradients that overwrite a value which nothing reads any more."

    def __init__(self, plan: Schedule, storage: Storage, interface: Interface, single: bool) -> None:
        arriving = storage.arriving
        program = replace(plan.program, shared=(*plan.program.shared, *arriving.values()))
        super().__init__(plan, program, storage.backward, interface, single)
        self.arriving = arriving
        self.written = {value.name for node in self.nodes for value in writes(node)}
        for carry in program.carries:
            self.arrays.depths[arriving[carry.state.name].name] = carry.delay

    def text(self) -> FunctionText:
        """The function."""
        program, phases = self.program, self.placement.phases
        self.declare_arguments()
        self.declare_starts(self.begun())
        self._declare_tape()
        self._declare_seeds()
        self._declare_arrivals()
        self._declare_input_gradients()
        self._declare_gradients()
        self.declare_derived()
        self.declare_homes()
        setup = self.writer.write(program.setup, ONCE)
        before = self.writer.write(phases.before, ALL)
        pointers = self.pointers(self.arrivals())
        steps = self.writer.write(phases.loop, STEP) + self._finish_step()
        after = self.writer.write(phases.after, ALL)
        after += self.writer.write(program.setup_adjoint, ONCE) + self._hand_over()
        self.declare_once(setup)
        return self.assembled(before, pointers, steps, after)

    def begun(self) -> list[Value]:
        """The states and inputs of which the pass reads what they were before the first step."""
        pasts = self.program.pasts.values()
        states = [carry.state for carry, past in pasts if self._reads(past.value)]
        moved = [shift.source for shift in self.program.histories if self._reads(shift.target)]
        return list(dict.fromkeys([*states, *moved]))

    def arrivals(self) -> list[Value]:
        """What a step hands to those before it."""
        found = []
        for carry in self.program.carries:
            found += [p.adjoint for p in carry.pasts if p is carry.last or p.adjoint.name in self.written]
            found.append(self.arriving[carry.state.name])
        return found

    def handed_on(self) -> Iterable[Value]:
        """What the end of a step changes."""
        return self.arriving.values()

    def _reads(self, value: Value) -> bool:
        return any(value in self.program.reads(node) for node in self.nodes)

    def _declare_tape(self) -> None:
        lines = []
        for value in self.taped:
            name = self.arrays.base[value.name] = self.arrays.new(f"{value.name}_all")
            lines.append(f"real *{name} = gg_take(&tape, {self.arrays.plane_size(value)});")
        self.sections.add("The tape.", lines)

    def _declare_seeds(self) -> None:
        arrays, lines = self.arrays, []
        for name, seed in self.program.seeds.items():
            plane, zeros = arrays.new(f"{seed.name}_all"), arrays.new(f"no_{seed.name}")
            given = f"d_outputs->{self.interface.outputs[name].name}"
            lines.append(f"const real *{plane} = {self.rows(plane, seed, given)}")
            lines.append(f"const real *{zeros} = {self.begin(zeros, seed, 'NULL')}")
            arrays.base[seed.name], arrays.starts[seed.name] = plane, zeros
        self.sections.add("What arrives at the outputs, or zero.", lines)

    def _declare_arrivals(self) -> None:
        arrays, lines = self.arrays, []
        for carry in self.program.carries:
            arriving = self.arriving[carry.state.name]
            place = "t" if carry.delay == 1 else "ring"
            name = arrays.base[arriving.name] = arrays.new(f"{arriving.name}_{place}")
            given = f"d_outputs->{self.interface.outputs[f'final {carry.state.name}'].name}"
            call = self.own_begin(name, carry.state, given)
            if carry.delay > 1:
                call = self.arrive(name, carry, given)
            lines.append(f"real *{name} = {call}")
            d_past = carry.last.adjoint
            if d_past.name not in self.written:
                name = arrays.base[d_past.name] = arrays.new(f"{d_past.name}_t")
                lines.append(f"real *{name} = {self.own_begin(name, carry.state, 'NULL')}")
        several = any(carry.delay > 1 for carry in self.program.carries)
        title = f"What arrives at the states from the following {'steps' if several else 'step'}, [B] rows."
        self.sections.add(title, lines)

    def arrive(self, name: str, carry: Carry, given: str) -> str:
        """What arrives at the last states, in a ring that takes up what arrives at earlier ones."""
        arrays, ours, state = self.arrays, self.arrays.ours, carry.state
        arrays.count(name, str(carry.delay), arrays.step_size(state))
        head = (self.writer.rest(), carry.delay, ours["T"], ours["B"], arrays.width(state.width))
        return self.writer.call("arrive", *head, int(self.program.reverse), ours["lengths"], given)

    def _declare_input_gradients(self) -> None:
        arrays, lines = self.arrays, []
        for value in self.program.inputs:
            given, size = f"d_inputs->{self.interface.inputs[value.name].name}", arrays.plane_size(value)
            gradient = self.program.gradients.get(value.name)
            if gradient is None:
                lines.append(self.writer.call("clear", size, given))
                continue
            name = arrays.base[gradient.name] = arrays.new(f"{gradient.name}_all")
            if self._is_optional(gradient):
                self.writer.optional.add(gradient.name)
                lines.append(f"real *{name} = {given};")
            else:
                place = f"{given} ? {given} : gg_take({self.writer.rest()}, {arrays.count(name, size)})"
                lines.append(f"real *{name} = {place};")
        self.sections.add("Gradients of the inputs.", lines)

    def _is_optional(self, gradient: Value) -> bool:
        """Whether a gradient is a product after the loop that may be left out if nobody wants it."""
        makers = [node for node in self.nodes if gradient in writes(node)]
        plain = bool(makers) and all(isinstance(node, Contract) for node in makers)
        return plain and not self._reads(gradient)

    def _declare_gradients(self) -> None:
        arrays, lines = self.arrays, []
        element_wise = {v.name for node in flatten(self.nodes) if is_element_wise(node) for v in writes(node)}
        for value in self.program.parameters:
            gradient, member = self.program.gradients.get(value.name), self.interface.params.get(value.name)
            if value.kind is not Kind.PARAMETER or member is None:
                continue
            size, given = arrays.elements(value.shape), f"d_params->{member.name}"
            if gradient is None:
                lines.append(self.writer.call("clear", size, given))
                continue
            name = arrays.base[gradient.name] = arrays.names[gradient.name]
            if gradient.name in element_wise or len(value.shape) < 2:
                arrays.count(name, size)
                call = self.writer.call("gradient", self.writer.rest(), size, given)
                lines.append(f"real *{name} = {call}")
            else:
                lines.append(f"real *{name} = {self.writer.call('clear', size, given)}")
        for value in self.used.values():
            if value.kind is Kind.GRADIENT and value.name not in arrays.base:
                name = arrays.base[value.name] = arrays.names[value.name]
                size = arrays.count(name, arrays.elements(value.shape))
                call = self.writer.call("gradient", self.writer.rest(), size, "NULL")
                lines.append(f"real *{name} = {call}")
        self.writer.done.update(v.name for v in self.used.values() if v.kind is Kind.GRADIENT)
        self.sections.add("Gradients of the parameters, sums that begin at zero.", lines)

    def _finish_step(self) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            head = (ours["t"], ours["B"], arrays.width(carry.state.width), ours["lengths"])
            for routine, d_past, back in self.handed(carry):
                lines.append(self.writer.call(routine, *head, d_past, back))
        return lines

    def handed(self, carry: Carry) -> list[tuple[str, str, str]]:
        """The routines that hand gradients of past states back, each with where from and where to."""
        arrays, arriving, found = self.arrays, self.arriving[carry.state.name], []

        def step(value: Value) -> str:
            return arrays.base.get(f"step {value.name}", arrays.base[value.name])

        for past in carry.pasts:
            if past is carry.last:
                found.append(("advance", step(past.adjoint), step(arriving)))
            elif past.adjoint.name in self.written:
                ahead = past.delay if self.program.reverse else carry.delay - past.delay
                place = arrays.step_at(arriving, f"{arrays.ours['t']} + {ahead}")
                found.append(("reach", step(past.adjoint), place))
        return found

    def _hand_over(self) -> list[str]:
        """Past the ends input gradients are zero; what arrives at the first step is that of the states."""
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for value in self.program.inputs:
            gradient = self.program.gradients.get(value.name)
            if gradient is not None:
                name, lengths = arrays.base[gradient.name], ours["lengths"]
                head = ("0", ours["T"], ours["B"], arrays.width(value.width), lengths)
                wanted = f"{name} && {lengths}" if gradient.name in self.writer.optional else lengths
                call = self.writer.call("emit", *head, name, name)
                lines += [f"if ({wanted}) {{", f"    {call}", "}"]
        for carry in self.program.carries:
            back = arrays.base[self.arriving[carry.state.name].name]
            given = f"d_inputs->{self.interface.inputs[f'start {carry.state.name}'].name}"
            if carry.delay > 1:
                lines.append(self.depart(carry, back, given))
            else:
                lines.append(self.writer.call("copy", arrays.step_size(carry.state), back, given))
        for value in dict.fromkeys(shift.source for shift in self.program.histories):
            lines += self.first_gradients(value)
        return lines

    def depart(self, carry: Carry, back: str, given: str) -> str:
        """Hand over what arrived at the states before the first step."""
        ours, width = self.arrays.ours, self.arrays.width(carry.state.width)
        head = (carry.delay, ours["T"], ours["B"], width, int(self.program.reverse), ours["lengths"])
        return self.writer.call("depart", *head, back, given)

    def first_gradients(self, value: Value) -> list[str]:
        """The gradient of an input before the first step, which the first steps read."""
        given = f"d_inputs->{self.interface.inputs[f'start {value.name}'].name}"
        lines = []
        for shift in self.program.histories:
            adjoint = self.program.adjoint_of(shift)
            if shift.source == value and adjoint is not None:
                lines.append(f"    {self.first(value, shift.offset, adjoint, given)}")
        cleared = self.cleared_start(value, given)
        return [cleared, f"if ({given}) {{", *self.ready(), *lines, "}"] if lines else [cleared]

    def ready(self) -> list[str]:
        """What to do before gradients are read that others made."""
        return []

    def cleared_start(self, value: Value, given: str) -> str:
        """Zeros in an input's past."""
        steps = str(self.program.begins[value.name])
        return self.writer.call("clear", product(steps, self.arrays.step_size(value)), given)

    def first(self, value: Value, offset: int, adjoint: Value, given: str) -> str:
        """The call that adds the gradient of what some steps read before the first one."""
        arrays, ours = self.arrays, self.arrays.ours
        head = (ours["T"], ours["B"], arrays.width(value.width), offset, ours["lengths"])
        steps = self.program.begins[value.name]
        return self.writer.call("first", *head, arrays.base[adjoint.name], steps, given)


def is_element_wise(node: Node) -> bool:
    """Whether a node makes a gradient unit by unit."""
    return not isinstance(node, (OuterRows, Contract))
