"""The forward function of a cell."""

from __future__ import annotations

from collections.abc import Sequence

from gategen.backends.c_function import Function, FunctionText
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_structs import Interface
from gategen.backends.c_text import product
from gategen.calculus.ir import Value
from gategen.calculus.program import Carry
from gategen.calculus.schedule import Schedule
from gategen.calculus.storage import Home, Storage


class Forward(Function):
    """Results per step and final states; with a tape, what the backward function needs."""

    what = "forward"
    about_aliases = "Pre-activations stand where their gates will."

    def __init__(self, plan: Schedule, storage: Storage, interface: Interface, single: bool) -> None:
        super().__init__(plan, plan.program, storage.forward, interface, single)

    def text(self) -> FunctionText:
        """The function."""
        arrays, program, phases = self.arrays, self.program, self.placement.phases
        self.declare_arguments()
        self.declare_starts(program.values[name] for name in program.begins)
        self._declare_tape()
        self.declare_derived()
        self.declare_homes()
        setup = self.writer.write(program.setup, ONCE)
        before = self.writer.write(phases.before, ALL)
        stepwise = [v for v in program.outputs if arrays.home(v) is not Home.PLANE]
        pointers = self.pointers([*stepwise, *self.carried()])
        steps = self.writer.write(phases.loop, STEP) + self._finish_step(stepwise)
        after = self.writer.write(phases.after, ALL)
        whole = [v for v in program.outputs if arrays.home(v) is Home.PLANE]
        after += [line for value in whole for line in self._emit(value, "0", arrays.base[value.name])]
        after += self._final_states()
        self.declare_once(setup)
        return self.assembled(before, pointers, steps, after)

    def carried(self) -> list[Value]:
        """The states and what a state past its end is."""
        return [value for carry in self.program.carries for value in (carry.state, carry.last.value)]

    def _declare_tape(self) -> None:
        arrays, lines = self.arrays, []
        keep, rest = arrays.ours["keep"], arrays.ours["rest"]
        for value in self.taped:
            name, plane = arrays.new(f"{value.name}_all"), arrays.plane_size(value)
            short = plane
            if arrays.home(value) is Home.RING:
                short = product(str(arrays.depths.get(value.name, 1)), arrays.step_size(value))
            size = plane if short == plane else f"{keep} ? {plane} : {short}"
            lines.append(f"real *{name} = gg_take({keep} ? &tape : &{rest}, {size});")
            arrays.count(name, short)
            arrays.base[value.name] = name
        self.sections.add("Kept on the tape; without one, in the workspace.", lines)

    def _emit(self, value: Value, t: str, source: str) -> Sequence[str]:
        """Hand one step, or all steps, to the caller."""
        arrays, ours = self.arrays, self.arrays.ours
        target = f"outputs->{self.interface.outputs[value.name].name}"
        steps = ours["T"] if t == "0" else "1"
        head = (t, steps, ours["B"], arrays.width(value.width), ours["lengths"])
        call = self.writer.call("emit", *head, source, arrays.at(target, t, value))
        return [f"if ({target}) {{", f"    {call}", "}"]

    def _finish_step(self, outputs: Sequence[Value]) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            state, past = (arrays.base[f"step {v.name}"] for v in (carry.state, carry.last.value))
            head = (ours["t"], ours["B"], arrays.width(carry.state.width), ours["lengths"])
            lines.append(self.writer.call("hold", *head, past, state))
        for value in outputs:
            lines += self._emit(value, ours["t"], arrays.base[f"step {value.name}"])
        return lines

    def _final_states(self) -> list[str]:
        arrays, T, lines = self.arrays, self.arrays.ours["T"], []
        for carry in self.program.carries:
            state = carry.state
            if carry.delay > 1:
                lines.append(self.last_steps(carry))
                continue
            last = "0" if self.program.reverse else f"{T} - 1"
            begin = arrays.at(arrays.base[state.name], arrays.slot(state, last), state)
            source = f"{T} > 0 ? {begin} : {arrays.starts[state.name]}"
            target = f"outputs->{self.interface.outputs[f'final {state.name}'].name}"
            lines.append(self.writer.call("copy", arrays.step_size(state), source, target))
        return lines

    def last_steps(self, carry: Carry, span: Sequence[str] = ()) -> str:
        """The call that hands over the last steps of a state, of some sequences if there is a span."""
        arrays, ours, state = self.arrays, self.arrays.ours, carry.state
        target = f"outputs->{self.interface.outputs[f'final {state.name}'].name}"
        width, reverse = arrays.width(state.width), int(self.program.reverse)
        head = (*span, carry.delay, ours["T"], ours["B"], width, reverse)
        given = (ours["lengths"], arrays.starts[state.name], self.ring(state), arrays.base[state.name])
        return self.writer.call("last", *head, *given, target)

    def ring(self, state: Value) -> str:
        """How many steps of a state are there at once."""
        arrays, ours = self.arrays, self.arrays.ours
        if arrays.home(state) is not Home.RING:
            return ours["T"]
        depth = str(arrays.depths[state.name])
        return f"{ours['keep']} ? {ours['T']} : {depth}" if state in self.taped else depth

    def tape_size(self) -> str:
        """The function that tells the number of elements on the tape."""
        names = [self.arrays.base[value.name] for value in self.taped]
        counts = [(self.arrays.plane_size(v), name) for v, name in zip(self.taped, names, strict=True)]
        return self.interface.measure("tape_size", self.arrays.ours, [("count", counts)], "count")
