"""Element-wise work as one C function per island, over the whole vectors of one row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        """Whether the work goes along a row of units."""
        return len(self.island.shape) == 1

    @cached_property
    def totals(self) -> dict[str, str]:
        """What sums over the units of a row are called while they grow, by their targets."""
        if not self.is_vectorized:
            return {}
        sums = [a.target.name for a in self.assigns if not isinstance(a, Assign) and not a.target.shape]
        return {name: self.arrays.new(f"{self.arrays.names[name]}_total") for name in dict.fromkeys(sums)}

    def element(self, name: str) -> str:
        """How one element of a value is spelled; a sum grows in a register."""
        return self.totals.get(name) or super().element(name)

    def _body(self, writer: CWriter) -> list[str]:
        statements, unit, units = self._statements(writer), self.arrays.ours["j"], self.arrays.ours["units"]
        if not self.island.shape:
            return statements
        if not self.is_vectorized:
            width, lines = self.arrays.elements(self.island.shape), []
        elif self.totals:
            # To the last unit and no further, in one order: the row is never shared.
            width = units
            lines = [f"real {', '.join(f'{total} = 0' for total in self.totals.values())};"]
            lines.append(f"#pragma omp simd reduction(+ : {', '.join(self.totals.values())})")
        else:
            width, lines = f"gg_row({units})", ["#pragma omp simd"]
        head = f"for (int64_t {unit} = 0; {unit} < {width}; {unit}++) {{"
        names = self.arrays.names
        ends = [f"{names[name]}[0] += {total};" for name, total in self.totals.items()]
        return [*lines, head, *(f"    {line}" for line in statements), "}", *ends]
