"""The fast forward function of a cell."""

from __future__ import annotations

from collections.abc import Sequence

from gategen.backends.c_fast_function import FastFunction
from gategen.backends.c_forward import Forward
from gategen.backends.c_function import FunctionText
from gategen.backends.c_pass import ALL, ONCE, STEP
from gategen.backends.c_text import offset
from gategen.calculus.ir import Value
from gategen.calculus.storage import Home


class FastForward(Forward, FastFunction):
    """Results per step and final states; with a tape, what the backward function needs."""

    def text(self) -> FunctionText:
        """The function."""
        arrays, program, phases = self.arrays, self.program, self.placement.phases
        arrays.narrow |= self._narrow()
        self.declare_arguments()
        setup = self.writer.write(program.setup, ONCE)
        self.declare_starts(program.values[name] for name in program.begins)
        self._declare_tape()
        self.declare_homes()
        before = self.before()
        stepwise = [v for v in program.outputs if arrays.home(v) is not Home.PLANE]
        pointers = self.pointers([*stepwise, *self.carried(), *self.reached()])
        steps = self.writer.write(self.loop, STEP) + self._finish_step(stepwise)
        after = self.writer.write(phases.after, ALL)
        whole = [v for v in program.outputs if arrays.home(v) is Home.PLANE]
        after += [line for value in whole for line in self._emit_all(value)]
        after += self._final_states()
        self.declare_once(setup)
        return self.assembled(before, pointers, steps, after)

    def _narrow(self) -> set[str]:
        """Planes that only one step at a time is read of."""
        phases, program = self.placement.phases, self.program
        read = {v.name for node in (*phases.before, *phases.after) for v in program.reads(node)}
        inside = {v.name for node in phases.loop for v in program.reads(node)} - read
        given = {value.name for value in program.outputs}
        wide = {carry.state.name for carry in program.carries} | given
        found = self.moved & inside - wide
        # A gate takes the place of its pre-activation.
        shared = {name: self.placement.alias[name] for name in found if name in self.placement.alias}
        held = {name for name in found if shared.get(name, name) in read | wide}
        return (found | set(shared.values())) - held - {shared[name] for name in held if name in shared}

    def _emit(self, value: Value, t: str, source: str) -> Sequence[str]:
        """Hand one step to the caller."""
        arrays, ours = self.arrays, self.arrays.ours
        target = f"outputs->{self.interface.outputs[value.name].name}"
        head = (t, ours["rows"], arrays.width(value.width), ours["ends"], ours["place"], ours["crew"])
        place = offset(target, *arrays.given(t, value.width))
        call = self.writer.call("emit_step", *head, source, place)
        return [f"if ({target}) {{", f"    {call}", "}"]

    def _emit_all(self, value: Value) -> Sequence[str]:
        arrays, ours = self.arrays, self.arrays.ours
        target = f"outputs->{self.interface.outputs[value.name].name}"
        head = (ours["low"], ours["high"], ours["B"], arrays.width(value.width), ours["lengths"])
        call = self.writer.call("emit", *head, arrays.base[value.name], target)
        return [f"if ({target}) {{", f"    {call}", "}"]

    def _finish_step(self, outputs: Sequence[Value]) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            state, past = (arrays.base[f"step {v.name}"] for v in (carry.state, carry.last.value))
            head = (ours["t"], ours["rows"], arrays.width(carry.state.width), ours["ends"])
            threads = (ours["place"], ours["crew"])
            lines.append(self.writer.call("hold", *head, *threads, past, state))
        for value in outputs:
            lines += self._emit(value, ours["t"], arrays.base[f"step {value.name}"])
        return [*lines, self.writer.meet()]

    def _final_states(self) -> list[str]:
        arrays, ours, lines = self.arrays, self.arrays.ours, []
        for carry in self.program.carries:
            state, width = carry.state, carry.state.width
            if carry.delay > 1:
                lines.append(self.last_steps(carry, (ours["from"], ours["till"])))
                continue
            last = "0" if self.program.reverse else f"{ours['T']} - 1"
            begin = offset(arrays.base[state.name], *arrays.own(arrays.slot(state, last), width, "from"))
            start = offset(arrays.starts[state.name], *arrays.own("0", width, "from"))
            member = f"outputs->{self.interface.outputs[f'final {state.name}'].name}"
            target = f"{member} ? {offset(member, *arrays.given('0', width, 'from'))} : NULL"
            head = (f"{ours['till']} - {ours['from']}", arrays.width(width))
            source = f"{ours['T']} > 0 ? {begin} : {start}"
            lines.append(self.writer.call("deliver", *head, source, target))
        return lines

    def tape_size(self) -> str:
        """The function that tells the number of elements on the tape."""
        names = [self.arrays.base[value.name] for value in self.taped]
        counts = [(self.arrays.plane_size(v), name) for v, name in zip(self.taped, names, strict=True)]
        spare = "64 / (int64_t)sizeof(real)" if counts else "0"
        counts.append((spare, "up to where a vector may begin"))
        return self.interface.measure("tape_size", self.arrays.ours, [("count", counts)], "count")
