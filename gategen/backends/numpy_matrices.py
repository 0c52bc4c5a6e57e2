"""Outer products, matrices of the step, what goes along their axes, and moved units as NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gategen.backends.numpy_syntax import NumpyWriter
from gategen.calculus.ir import Apply, Extreme, Move, Outer, Scan, Turn, Unit, Value
from gategen.language.shapes import Shape, Width


@dataclass(frozen=True)
class MatrixWriter:
    """Writes one term.

    Attributes:
        writer: Spells widths and shapes.
        read: How a value is read here.
        rows: The axes before those of a value that has time.
    """

    writer: NumpyWriter
    read: Callable[[Value], str]
    rows: tuple[str, ...]

    def write(self, node: Extreme | Scan | Move | Outer | Apply | Turn | Unit) -> str:
        """What the node adds to its target."""
        match node:
            case Move():
                return self._moved(node)
            case Outer():
                return self._outer(node)
            case Apply():
                return self._applied(node)
            case Extreme():
                return f"{self._matrix(node.source, node.shape)}.{node.name}(axis={_axis(node)})"
            case Scan():
                return self._running(node)
            case Turn():
                return f"{self.read(node.source)}.T"
        return (
            f"{self.writer.numpy}.eye({self.writer.width(node.target.shape[0])}, dtype={self.writer.dtype()})"
        )

    def _moved(self, node: Move) -> str:
        source, target = self.read(node.source), node.target
        if target.timeless and not target.shape:
            return f"{source}[{self.writer.width(node.start)}]"
        if target.timeless and {len(target.shape), len(node.source.shape)} == {1, 2}:
            return f"{source}.reshape{self.writer.shape(target.shape)}"
        return source + span(self.writer, node.start, node.size, node.source.width)

    def _outer(self, node: Outer) -> str:
        """As the row of its elements in a step."""
        np, target = self.writer.numpy, node.target
        rows, columns = map(self.writer.width, node.shape)
        left, right = (None if side is None else self.read(side) for side in (node.left, node.right))
        is_matrix = len(target.shape) == 2
        if right is None or left is None:
            text = (
                f"{np}.repeat({left}, {columns}, axis=-1)" if right is None else f"{np}.tile({right}, {rows})"
            )
            return f"{text}.reshape{self.writer.shape(target.shape)}" if is_matrix else text
        if target.timeless:
            text = f"{np}.outer({left}, {right})"
            return text if is_matrix else f"{text}.reshape(-1)"
        text = f'{np}.einsum("...i, ...j -> ...ij", {left}, {right})'
        return f"{text}.reshape{self.writer.shape(target.shape, *self.rows)}"

    def _applied(self, node: Apply) -> str:
        """Times a vector, or summed along one axis."""
        matrix = self._matrix(node.matrix, node.shape)
        if node.vector is None:
            return f"{matrix}.sum(axis={_axis(node)})"
        form = "...ij, ...i -> ...j" if node.transposed else "...ij, ...j -> ...i"
        return f'{self.writer.numpy}.einsum("{form}", {matrix}, {self.read(node.vector)})'

    def _matrix(self, value: Value, shape: Shape) -> str:
        """With two axes, if it is one."""
        text = self.read(value)
        if len(value.shape) == len(shape) or not shape:
            return text
        rows = () if value.timeless else self.rows
        return f"{text}.reshape{self.writer.shape(shape, *rows)}"

    def _running(self, node: Scan) -> str:
        """As the row of its elements in a step."""
        turn = "" if not node.back else "[..., ::-1, :]" if node.transposed else "[..., ::-1]"
        matrix = self._matrix(node.source, node.shape)
        text = f"{self.writer.numpy}.cumsum({matrix}{turn}, axis={_axis(node)}){turn}"
        if len(node.target.shape) == len(node.shape) or not node.shape:
            return text
        rows = () if node.target.timeless else self.rows
        return f"{text}.reshape{self.writer.shape(node.target.shape, *rows)}"


def _axis(node: Extreme | Scan | Apply) -> int:
    """Along which axis a node goes, from the last."""
    return -2 if node.transposed else -1


def span(writer: NumpyWriter, start: Width, size: Width, width: Width) -> str:
    """Some units of all: none need be named if it is all of them."""
    if size == width:
        return ""
    first = "" if start == Width() else writer.width(start)
    last = "" if start + size == width else writer.width(start + size)
    return f"[..., {first}:{last}]"
