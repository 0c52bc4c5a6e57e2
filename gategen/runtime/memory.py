"""Memory: new arrays, and blocks that one call is done with for the next, whose pages are then at hand."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gategen.errors import ArgumentError

FloatArray = NDArray[np.floating[Any]]
"""A float32 or float64 array."""

Arrays = dict[str, FloatArray]
"""Arrays by the author's names."""

_ALIGNMENT = 64
_SLACK = 1 << 16
"""Bytes by which a block may always be larger than what is needed."""


def contiguous(argument: str, array: FloatArray) -> FloatArray:
    """The array itself, or a copy if its elements are not in order and aligned."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    copy = allocate(argument, array.shape, array.dtype)
    copy[...] = array
    return copy


def allocate(
    purpose: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, zero: bool = False
) -> NDArray[Any]:
    """A new array; a size that no memory can hold is an error in numbers."""
    try:
        return np.zeros(shape, dtype) if zero else np.empty(shape, dtype)
    except (MemoryError, ValueError):
        raise too_large(purpose, math.prod(shape) * dtype.itemsize) from None


def too_large(purpose: str, count: int) -> ArgumentError:
    """The error for memory that cannot be had."""
    return ArgumentError(purpose, f"needs {count:,} bytes, more than there are", "fewer steps or sequences")


def allocate_all(
    part: str, shapes: Mapping[str, tuple[int, ...]], names: Collection[str], dtype: np.dtype[Any]
) -> Arrays:
    """New arrays by name, in the order of the shapes; every name has one."""
    if len(names) < len(shapes):
        shapes = {name: shape for name, shape in shapes.items() if name in names}
    try:
        return {name: np.empty(shape, dtype) for name, shape in shapes.items()}
    except (MemoryError, ValueError):
        return {name: allocate(f"{part}[{name!r}]", shape, dtype) for name, shape in shapes.items()}


class Block:
    """Some bytes whose content nothing relies on.

    Attributes:
        size: How many.
        array: The bytes, aligned for vectors.
        pointer: Their address as C gets it.
    """

    __slots__ = ("array", "pointer", "size")

    def __init__(self, array: NDArray[np.uint8], pointer: Any) -> None:
        self.size = len(array)
        self.array = array
        self.pointer = pointer


class Pool:
    """A few blocks that are free; any number of threads may take and give.

    Args:
        ffi: Of the module that gets the pointers.
        pointer: Their type in C, with brackets.
        purpose: What errors call the memory.
        most: Free blocks to be kept.
    """

    def __init__(self, ffi: Any, pointer: str, purpose: str, most: int = 2) -> None:
        self._ffi = ffi
        self._pointer = ffi.typeof(pointer)
        self._purpose = purpose
        self._most = most
        self._free: list[Block] = []

    def take(self, size: int) -> Block:
        """A block of at least this many bytes, and of not many more."""
        for _ in range(self._most):
            try:
                # Popping is atomic: no other thread gets the same block.
                block = self._free.pop()
            except IndexError:
                break
            if size <= block.size <= 2 * size + _SLACK:
                return block
            self._free.insert(0, block)
        return self.new(size)

    def new(self, size: int) -> Block:
        """A new block."""
        raw = allocate(self._purpose, (size + _ALIGNMENT,), np.dtype(np.uint8))
        start = -raw.__array_interface__["data"][0] % _ALIGNMENT
        array = raw[start : start + size]
        return Block(array, self._ffi.from_buffer(self._pointer, array))

    def give(self, block: Block) -> None:
        """Take a block back that nothing uses any more; the one longest unused goes."""
        self._free.append(block)
        if len(self._free) > self._most:
            with suppress(IndexError):  # other threads may be faster
                del self._free[0]
