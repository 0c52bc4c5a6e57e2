"""The backward function of a cell."""

from __future__ import annotations

from dataclasses import replace

from gategen.backends.c_function import Function, FunctionText
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_structs import Interface, histories
from gategen.calculus.ir import Contract, Kind, Node, OuterRows, Shift, Value, flatten, writes
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

    def text(self) -> FunctionText:
        """The function."""
        program, phases = self.program, self.placement.phases
        self.declare_arguments()
        states = [carry.state for carry in program.carries if self._reads(carry.past)]
        moved = [shift.source for shift in histories(program) if self._reads(shift.target)]
        self.declare_starts([*states, *moved])
        self._declare_tape()
        self._declare_seeds()
        self._declare_arrivals()
        self._declare_input_gradients()
        self._declare_gradients()
        self.declare_derived()
        self.declare_homes()
        setup = self.writer.write(program.setup, ONCE)
        before = self.writer.write(phases.before, ALL)
        arrivals = [v for c in program.carries for v in (c.d_past, self.arriving[c.state.name])]
        pointers = self.pointers(arrivals)
        steps = self.writer.write(phases.loop, STEP) + self._finish_step()
        after = self.writer.write(phases.after, ALL)
        after += self.writer.write(program.setup_adjoint, ONCE) + self._hand_over()
        self.declare_once(setup)
        return self.assembled(before, pointers, steps, after)

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
        written = {v.name for node in self.nodes for v in writes(node)}
        for carry in self.program.carries:
            arriving = self.arriving[carry.state.name]
            name = arrays.base[arriving.name] = arrays.new(f"{arriving.name}_t")
            given = f"d_outputs->{self.interface.outputs[f'final {carry.state.name}'].name}"
            lines.append(f"real *{name} = {self.own_begin(name, carry.state, given)}")
            if carry.d_past.name not in written:
                name = arrays.base[carry.d_past.name] = arrays.new(f"{carry.d_past.name}_t")
                lines.append(f"real *{name} = {self.own_begin(name, carry.state, 'NULL')}")
        self.sections.add("What arrives at the states from the following step, [B] rows.", lines)

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
            back = arrays.base[self.arriving[carry.state.name].name]
            d_past = arrays.base.get(f"step {carry.d_past.name}", arrays.base[carry.d_past.name])
            head = (ours["t"], ours["B"], arrays.width(carry.state.width), ours["lengths"])
            lines.append(self.writer.call("advance", *head, d_past, back))
        return lines

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
            lines.append(self.writer.call("copy", arrays.step_size(carry.state), back, given))
        for shift in histories(self.program):
            lines += self._first_gradient(shift)
        return lines

    def _first_gradient(self, shift: Shift) -> list[str]:
        arrays, ours, value = self.arrays, self.arrays.ours, shift.source
        given = f"d_inputs->{self.interface.inputs[f'start {value.name}'].name}"
        adjoint = self.program.adjoint_of(shift)
        if adjoint is None:
            return [self.writer.call("clear", arrays.step_size(value), given)]
        reverse = int(self.program.reverse)
        head = (ours["T"], ours["B"], arrays.width(value.width), reverse, ours["lengths"])
        call = self.writer.call("first", *head, arrays.base[adjoint.name], given)
        return [f"if ({given}) {{", f"    {call}", "}"]


def is_element_wise(node: Node) -> bool:
    """Whether a node makes a gradient unit by unit."""
    return not isinstance(node, (OuterRows, Contract))
