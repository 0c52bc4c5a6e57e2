"""Element-wise work as one C function per island, over the whole vectors of one row."""

from __future__ import annotations

from dataclasses import dataclass

from gategen.backends.c_syntax import CWriter
from gategen.backends.c_units import Units
from gategen.calculus.ir import Assign, Kind, SumRows, Value


@dataclass(frozen=True)
class FastUnits(Units):
    """One island of one pass."""

    @property
    def summed(self) -> list[Value]:
        """Gradients that are summed over the rows."""
        found = [assign.target for assign in self.assigns if isinstance(assign, SumRows)]
        return list({value.name: value for value in found}.values())

    @property
    def sizes(self) -> list[str]:
        """The number of units unless the function counts them itself, and widths that it computes with."""
        names = [value.shown for value in self._touched if value.kind is Kind.SIZE]
        if not self.is_vectorized:
            return super().sizes
        return [self.arrays.ours["units"], *(self.arrays.sizes[name] for name in dict.fromkeys(names))]

    @property
    def is_vectorized(self) -> bool:
        """Whether every unit stands for itself; sums over units go one after the other, in order."""
        shape = self.island.shape
        each = all(isinstance(part, Assign) or part.target.shape == shape for part in self.assigns)
        return len(shape) == 1 and each

    def _body(self, writer: CWriter) -> list[str]:
        statements, unit = self._statements(writer), self.arrays.ours["j"]
        if not self.island.shape:
            return statements
        width, lines = f"gg_row({self.arrays.ours['units']})", ["#pragma omp simd"]
        if not self.is_vectorized:
            one, lines = len(self.island.shape) == 1, []
            width = (
                self.arrays.width(self.island.shape[0]) if one else self.arrays.elements(self.island.shape)
            )
        head = f"for (int64_t {unit} = 0; {unit} < {width}; {unit}++) {{"
        return [*lines, head, *(f"    {line}" for line in statements), "}"]
