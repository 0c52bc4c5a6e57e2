"""Sizes of sequences, and what a cell costs at them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import gategen as gg
from benchmarks.cells import CELLS
from gategen.calculus.ir import Contract, Product
from gategen.language.shapes import Width

MODES = ("forward", "training")
_BYTES = 4


class Shape(NamedTuple):
    """T, B, I and H."""

    steps: int
    batch: int
    inputs: int
    units: int

    def __str__(self) -> str:
        return ",".join(str(number) for number in self)

    @property
    def odd(self) -> bool:
        """Whether the units do not fill the vectors of every processor."""
        return self.units % 16 != 0

    @property
    def aligned(self) -> Shape:
        """The same with units, and inputs if they were as many, rounded up to a multiple of 16."""
        units = -(-self.units // 16) * 16
        return self._replace(units=units, inputs=units if self.inputs == self.units else self.inputs)


SHAPES = {
    "tiny-single": Shape(1000, 1, 32, 32),
    "small-single": Shape(100, 1, 64, 64),
    "small": Shape(100, 32, 64, 64),
    "rows": Shape(28, 128, 28, 128),
    "medium": Shape(50, 32, 64, 128),
    "wide": Shape(100, 32, 128, 256),
    "long": Shape(1000, 16, 64, 256),
    "large": Shape(100, 64, 256, 512),
    "huge": Shape(50, 64, 512, 1024),
    **{f"odd-{width}": Shape(50, 32, width, width) for width in (50, 100, 200, 650)},
}
QUICK = ("small-single", "odd-50")


def parse_shape(text: str) -> Shape:
    """A shape from its name or from T,B,I,H.

    Raises:
        ValueError: It is neither.
    """
    if text in SHAPES:
        return SHAPES[text]
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"{text!r} is neither T,B,I,H nor one of {', '.join(SHAPES)}")
    return Shape(*(int(part) for part in parts))


class _Size(NamedTuple):
    """A step: numbers in its weights, each multiplied once per sequence, and in operands and results."""

    weights: int
    rows: int


@cache
def _size(cell: str, inputs: int, units: int) -> _Size:
    source = CELLS[cell].source
    parsed = gg.parse(source) if "\n" in source else gg.load(source)
    given = CELLS[cell].sizes(inputs, units)
    sizes = {
        width: next(given[member] for member in members if member in given)
        for width, members in parsed.widths.items()
    }
    weights = 0
    rows: dict[str, int] = {}
    for node in gg.derive(parsed).program.step:
        if isinstance(node, Contract):
            height = node.target.width.evaluate(sizes)
            rows[node.target.name] = height
            for product in node.products:
                columns = _columns(product).evaluate(sizes)
                rows[product.operand.name] = columns
                weights += height * columns
    return _Size(weights, sum(rows.values()))


def _columns(product: Product) -> Width:
    return product.block.size if product.block else product.operand.width


def flops(cell: str, shape: Shape, mode: str) -> float:
    """Operations of all matrix products, two for a multiply-add; training takes three times as many."""
    once = 2.0 * shape.steps * shape.batch * _size(cell, shape.inputs, shape.units).weights
    return once * (3 if mode == "training" else 1)


def intensity(cell: str, shape: Shape) -> float:
    """Operations per byte of a step that reads weights, operands and results once; training has the same."""
    size = _size(cell, shape.inputs, shape.units)
    return 2 * shape.batch * size.weights / (_BYTES * (size.weights + shape.batch * size.rows))
