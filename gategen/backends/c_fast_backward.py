"""The fast backward function of a cell."""

from __future__ import annotations

from gategen.backends.c_backward import Backward, is_element_wise
from gategen.backends.c_fast_function import FastFunction
from gategen.backends.c_function import FunctionText
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_text import offset, product
from gategen.calculus.ir import Kind, Value, flatten, writes
from gategen.calculus.program import Carry


class FastBackward(Backward, FastFunction):
    """Gradients of parameters, inputs and first states, from the tape."""

    def text(self) -> FunctionText:
        """The function."""
        program, phases = self.program, self.placement.phases
        self.declare_arguments()
        setup = self.writer.write(program.setup, ONCE)
        self.declare_starts(self.begun())
        self._declare_tape()
        self._declare_seeds()
        self._declare_arrivals()
        self._declare_input_gradients()
        self._declare_gradients()
        self.declare_homes()
        before = self.before()
        pointers = self.pointers([*self.arrivals(), *self.reached()])
        steps = self.writer.write(self.loop, STEP) + self._finish_step()
        after = self.writer.write(phases.after, ALL)
        after += self._total() + self._setup_adjoint() + self._hand_over()
        self.declare_once(setup)
        return self.assembled(before, pointers, steps, after)

    def _total(self) -> list[str]:
        """The sums over the sequences of sums over the steps."""
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for gradient, rows in self.writer.sums.items():
            value = self.program.values[gradient]
            head = ("1", ours["B"], "NULL", arrays.width(value.width))
            source = f"{rows} - {product(*arrays.own('0', value.width))}"
            target = arrays.base[gradient]
            lines.append(self.writer.call("sum", *head, source, target, ours["rank"], ours["size"]))
        return [self.writer.wait(), *lines] if lines else []

    def _setup_adjoint(self) -> list[str]:
        lines = self.writer.write(self.program.setup_adjoint, ONCE)
        rank = self.arrays.ours["rank"]
        block = [f"if ({rank} == 0) {{", *(f"    {line}" for line in lines), "}"]
        return [self.writer.wait(), *block] if lines else []

    def _declare_input_gradients(self) -> None:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        rows = product(ours["T"], ours["B"])
        for value in self.program.inputs:
            given, width = f"d_inputs->{self.interface.inputs[value.name].name}", arrays.width(value.width)
            gradient = self.program.gradients.get(value.name)
            if gradient is None:
                span = (product(ours["low"], width), product(ours["high"], width))
                lines.append(self.writer.call("clear", *span, given))
                continue
            name = arrays.base[gradient.name] = arrays.new(f"{gradient.name}_all")
            arrays.count(name, f"gg_spare({rows}, {width})")
            self.writer.routines.update(("rows", "vector_of", "take"))
            room = self.writer.call("room", self.writer.rest(), rows, width, given)
            if self._is_optional(gradient):
                self.writer.optional.add(gradient.name)
                lines.append(f"real *{name} = {room}")
            else:
                apart = f"gg_take({self.writer.rest()}, {arrays.count(name, arrays.plane_size(value))})"
                lines.append(f"real *{name} = {given} ? {room[:-1]} : {apart};")
        self.sections.add("Gradients of the inputs.", lines)

    def _declare_gradients(self) -> None:
        arrays, lines = self.arrays, []
        nodes = [node for node in flatten(self.nodes) if is_element_wise(node)]
        element_wise = {v.name for node in nodes for v in writes(node)}
        for value in self.program.parameters:
            gradient, member = self.program.gradients.get(value.name), self.interface.params.get(value.name)
            if value.kind is not Kind.PARAMETER or member is None:
                continue
            given = f"d_params->{member.name}"
            if gradient is None:
                lines.append(self._cleared(product(*map(arrays.width, value.shape)), given))
            else:
                lines += self._gradient(gradient, given, gradient.name in element_wise)
        for value in self.used.values():
            if value.kind is Kind.GRADIENT and value.name not in arrays.base:
                lines += self._gradient(value, "NULL", True)
        self.writer.done.update(v.name for v in self.used.values() if v.kind is Kind.GRADIENT)
        self.sections.add("Gradients of the parameters, sums that begin at zero.", lines)

    def _cleared(self, count: str, given: str) -> str:
        ours = self.arrays.ours
        spans = [
            f"gg_share({count}, {rank}, {ours['size']})" for rank in (ours["rank"], f"{ours['rank']} + 1")
        ]
        return self.writer.call("clear", *spans, given)

    def _gradient(self, value: Value, given: str, needed: bool) -> list[str]:
        arrays = self.arrays
        name = arrays.base[value.name] = arrays.names[value.name]
        if len(value.shape) < 2:
            arrays.count(name, arrays.stride(value.width))
            width, rank = arrays.width(value.width), arrays.ours["rank"]
            call = self.writer.call("gradient", self.writer.rest(), width, rank)
            return [f"real *{name} = {call}"]
        size = arrays.elements(value.shape)
        if not needed:
            return [f"real *{name} = {self._cleared(size, given)}"]
        arrays.count(name, size)
        matrix = self.writer.call("matrix", self.writer.rest(), size, given)
        return [f"real *{name} = {matrix}", self._cleared(size, name)]

    def _finish_step(self) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            head = (ours["t"], ours["rows"], arrays.width(carry.state.width), ours["ends"])
            for routine, d_past, back in self.handed(carry):
                lines.append(self.writer.call(routine, *head, ours["place"], ours["crew"], d_past, back))
        return [*lines, self.writer.meet()]

    def _hand_over(self) -> list[str]:
        """Past the ends input gradients are zero; what arrives at the first step is that of the states."""
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for value in self.program.inputs:
            gradient = self.program.gradients.get(value.name)
            if gradient is not None:
                given = f"d_inputs->{self.interface.inputs[value.name].name}"
                head = (ours["low"], ours["high"], ours["B"], arrays.width(value.width), ours["lengths"])
                call = self.writer.call("emit", *head, arrays.base[gradient.name], given)
                lines += [f"if ({given}) {{", f"    {call}", "}"]
        for carry in self.program.carries:
            back, width = arrays.base[self.arriving[carry.state.name].name], carry.state.width
            given = f"d_inputs->{self.interface.inputs[f'start {carry.state.name}'].name}"
            if carry.delay > 1:
                lines.append(self.depart(carry, back, given))
                continue
            target = f"{given} ? {offset(given, *arrays.given('0', width, 'from'))} : NULL"
            rows, ahead = f"{ours['till']} - {ours['from']}", f"{ours['from']} - {ours['first']}"
            source = offset(back, ahead, arrays.stride(width))
            lines.append(self.writer.call("deliver", rows, arrays.width(width), source, target))
        for value in dict.fromkeys(shift.source for shift in self.program.histories):
            lines += self.first_gradients(value)
        return [*lines, *self._deliver_vectors()]

    def _deliver_vectors(self) -> list[str]:
        arrays, lines = self.arrays, []
        for value in self.program.parameters:
            gradient, member = self.program.gradients.get(value.name), self.interface.params.get(value.name)
            if gradient is not None and member is not None and len(value.shape) < 2:
                width = arrays.width(value.width)
                source = arrays.base[gradient.name]
                lines.append(self.writer.call("deliver", "1", width, source, f"d_params->{member.name}"))
        if not lines:
            return []
        rank = self.arrays.ours["rank"]
        return [self.writer.wait(), f"if ({rank} == 0) {{", *(f"    {line}" for line in lines), "}"]

    def arrive(self, name: str, carry: Carry, given: str) -> str:
        """What arrives at the last states, in a ring that takes up what arrives at earlier ones."""
        arrays, ours, state = self.arrays, self.arrays.ours, carry.state
        arrays.count(name, str(carry.delay), arrays.step_size(state))
        head = (self.writer.rest(), carry.delay, ours["from"], ours["till"], ours["T"], ours["B"])
        reverse = int(self.program.reverse)
        return self.writer.call("arrive", *head, arrays.width(state.width), reverse, ours["lengths"], given)

    def depart(self, carry: Carry, back: str, given: str) -> str:
        """Hand over what arrived at the states before the first step."""
        ours, width = self.arrays.ours, self.arrays.width(carry.state.width)
        head = (ours["from"], ours["till"], carry.delay, ours["T"], ours["B"], width)
        return self.writer.call("depart", *head, int(self.program.reverse), ours["lengths"], back, given)

    def ready(self) -> list[str]:
        """All threads meet."""
        return [f"    {self.writer.wait()}"]

    def cleared_start(self, value: Value, given: str) -> str:
        """Zeros in an input's past."""
        ours, width = self.arrays.ours, self.arrays.width(value.width)
        head = (self.program.begins[value.name], ours["from"], ours["till"], ours["B"], width)
        return self.writer.call("clear_start", *head, given)

    def first(self, value: Value, offset: int, adjoint: Value, given: str) -> str:
        """The call that adds the gradient of what some steps read before the first one."""
        arrays, ours, steps = self.arrays, self.arrays.ours, self.program.begins[value.name]
        head = (ours["from"], ours["till"], ours["T"], ours["B"], arrays.width(value.width), offset)
        return self.writer.call("first", *head, ours["lengths"], arrays.base[adjoint.name], steps, given)
