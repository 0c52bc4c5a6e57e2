"""What the NumPy reference reads from before a sequence, and what arrives there on the way back.

One step is (B, width), under a name such as ``h_prev``; several are (k, B, width), oldest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gategen.backends.numpy_syntax import NumpyWriter
from gategen.calculus.ir import Value
from gategen.calculus.program import Carry, Program

_AHEAD = '''\
def {name}(plane, start, delay, lengths):
    """What each step reads ``delay`` steps ahead, past the end of its sequence ``start`` from its end on."""
    T, B = plane.shape[:2]
    steps = {np}.arange(delay, T + delay)[:, None]
    beyond = {np}.clip(steps - lengths, 0, len(start) - 1)
    places = {np}.where(steps < lengths, steps, T + len(start) - 1 - beyond)
    return {np}.concatenate([plane, start])[places, {np}.arange(B)]'''

_LAST = '''\
def {name}(plane, count, lengths):
    """The last ``count`` steps of each sequence in time, the latest first; zero where it has fewer."""
    T, B = plane.shape[:2]
    steps = lengths - 1 - {np}.arange(count)[:, None]
    places = {np}.where(steps >= 0, steps, T)
    nothing = {np}.zeros_like(plane, shape=(1, *plane.shape[1:]))
    return {np}.concatenate([plane, nothing])[places, {np}.arange(B)]'''


class PastWriter:
    """Spells the past of states and inputs.

    Args:
        program: The cell.
        writer: Spells the module's names, and takes up the functions that it needs.
    """

    def __init__(self, program: Program, writer: NumpyWriter) -> None:
        self._program, self._writer, self._ours = program, writer, writer.names

    def plane(self, source: str, start: str, delay: int, depth: int) -> str:
        """A plane ``delay`` steps back, the sequence beginning with the ``depth`` steps of ``start``."""
        if self._program.reverse:
            name = self._function("ahead", _AHEAD)
            return f"{name}({source}, {start}, {delay}, {self._ours('lengths')})"
        first, begin = depth - delay, f"{start}[None]" if depth == 1 else start
        cut = f"{first}:{first} + {self._ours('T')}" if first else f":{self._ours('T')}"
        return f"{self._writer.numpy}.concatenate([{begin}, {source}])[{cut}]"

    def remembered(self, carry: Carry) -> str:
        """The name of what a step knows of a state."""
        if carry.delay == 1:
            return self._ours.value(carry.last.value.name)
        return self._ours(f"{carry.state.name}_last")

    def shown(self, carry: Carry, used: set[str]) -> list[str]:
        """The line with which a step takes what it reads out of what it knows."""
        pasts = [past for past in carry.pasts if past.value.name in used and carry.delay > 1]
        names = ", ".join(self._ours.value(past.value.name) for past in pasts)
        rows = ", ".join(f"{self.remembered(carry)}[-{past.delay}]" for past in pasts)
        return [f"{names} = {rows}"] if pasts else []

    def moved_on(self, carry: Carry, state: str, mask: str) -> str:
        """What a step knows after it; past the end of its sequence a state holds."""
        np, known = self._writer.numpy, self.remembered(carry)
        new = state if carry.delay == 1 else f"{np}.concatenate([{known}[1:], {state}[None]])"
        return f"{known} = {np}.where({mask}, {new}, {known})"

    def handed_back(self, carry: Carry, name: str, slopes: Sequence[str | None], mask: str) -> list[str]:
        """The lines that hand gradients of past states on to the steps that they come from."""
        np = self._writer.numpy
        if carry.delay == 1:
            return [f"{name} = {np}.where({mask}, {slopes[0] or '0'}, {name})"]
        back = self._ours(f"{name}_back")
        lines = [f"{back} = {np}.concatenate([{np}.zeros_like({name}[:1]), {name}[:-1]])"]
        for past, slope in zip(carry.pasts, slopes, strict=True):
            if slope is not None:
                lines.append(f"{back}[-{past.delay}] += {slope}")
        return [*lines, f"{name} = {np}.where({mask}, {back}, {name})"]

    def start_gradient(
        self, source: Value, start: str, name: Callable[[Value], str]
    ) -> tuple[list[str], str]:
        """The gradient of what an input was before the sequence, which the first steps read.

        Args:
            source: The input.
            start: What it was.
            name: Spells a value.

        Returns:
            Lines that make it, if there are any, and how it is read then.
        """
        np, program, depth = self._writer.numpy, self._program, self._program.begins[source.name]
        read = ((s, program.adjoint_of(s)) for s in program.histories if s.source == source)
        planes = [(abs(shift.offset), name(adjoint)) for shift, adjoint in read if adjoint is not None]
        if not planes:
            return [], f"{np}.zeros_like({start})"
        if depth == 1:
            return [], self._first_step(planes[0][1])
        slope = self._ours(f"d_{source.name}_last")
        lines = [f"{slope} = {np}.zeros_like({start})"]
        for delay, plane in planes:
            rows = f"{slope}[{depth - delay}:]" if depth > delay else slope
            if program.reverse:
                # The step that is last in time comes first, and reads what is the furthest back.
                found = f"{self._function('last_steps', _LAST)}({plane}, {delay}, {self._ours('lengths')})"
                lines.append(f"{rows} += {found}")
            else:
                inside = f"{np}.where({self._ours('active')}[:{delay}, :, None], {plane}[:{delay}], 0)"
                lines.append(f"{rows}[:{self._ours('T')}] += {inside}")
        return lines, slope

    def _first_step(self, plane: str) -> str:
        """A plane at the first step of each sequence, zero for an empty one."""
        np, active = self._writer.numpy, self._ours("active")
        if not self._program.reverse:
            return f"{np}.where({active}[:1, :, None], {plane}[:1], 0).sum(axis=0)"
        last = f"{np}.arange({self._ours('T')})[:, None] == {self._ours('lengths')} - 1"
        return f"{np}.where(({last})[..., None], {plane}, 0).sum(axis=0)"

    def _function(self, name: str, definition: str) -> str:
        """The name of a function, which the module then has."""
        own = self._ours(name)
        self._writer.functions[name] = definition.format(name=own, np=self._writer.numpy)
        return own
