"""What a caller hands to a kernel, checked and laid out; whatever is wrong raises before any kernel runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, nearest
from gategen.language.shapes import Shape, Width
from gategen.runtime.manifest import BATCH, TIME, ArraySpec, Manifest, evaluate

FloatArray = NDArray[np.floating[Any]]
"""A float32 or float64 array."""

Arrays = dict[str, FloatArray]
"""Arrays by the author's names."""

Fact = tuple[str, Width, int]
"""An argument, the width of one of its axes, and the number found there."""


@dataclass(frozen=True)
class Sizes:
    """Numbers for width names, solved from the axes of arrays.

    Attributes:
        numbers: Every width name, T and B included.
        origins: The argument that told each number.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def learn(self, facts: Iterable[Fact]) -> None:
        """Solve for what is not known yet; plain names count before sums, earlier facts before later ones."""
        pending = []
        for fact in facts:
            argument, width, number = fact
            if not width.constant and len(width.terms) == 1 and width.terms[0][1] == 1:
                self._set(width.terms[0][0], number, argument)
            elif width.terms:
                pending.append(fact)
        while any(self._solve(*fact) for fact in pending):
            pass

    def _set(self, name: str, number: int, argument: str) -> bool:
        if name in self.numbers or (number < 1 and name not in (*TIME.names, *BATCH.names)):
            return False
        self.numbers[name] = number
        self.origins[name] = argument
        return True

    def _solve(self, argument: str, width: Width, number: int) -> bool:
        unknown = [(name, factor) for name, factor in width.terms if name not in self.numbers]
        if len(unknown) != 1:
            return False
        ((name, factor),) = unknown
        rest = number - width.evaluate({**self.numbers, name: 0})
        return rest % factor == 0 and self._set(name, rest // factor, argument)

    def check(self, argument: str, shape: Shape, found: Sequence[int]) -> None:
        """Raise unless an array has its shape; nothing is broadcast."""
        found = tuple(found)
        try:
            expected = evaluate(shape, self.numbers)
        except KeyError:
            wanted = f"{spelled(shape)}, widths of at least 1"
            raise ArgumentError(argument, f"has shape {found}", wanted) from None
        if found != expected:
            same = len(found) == len(expected)
            wrong = [w for i, w in enumerate(shape) if not same or found[i] != expected[i]]
            raise ArgumentError(argument, f"has shape {found}", self.explain(shape, wrong))

    def explain(self, shape: Shape, doubtful: Sequence[Width] | None = None) -> str:
        """The shape in numbers and names, and where the numbers of the doubtful axes come from."""
        text = str(evaluate(shape, self.numbers))
        names = dict.fromkeys(name for width in doubtful or shape for name in width.names)
        if not names:
            return text
        reasons = [f"{name} = {self.numbers[name]} from {self.origins[name]}" for name in names]
        return f"{text}, that is {spelled(shape)} with {', '.join(reasons)}"


@dataclass(frozen=True)
class Call:
    """The checked arguments of one run: contiguous, aligned, of the kernel's dtype, with a batch axis.

    Attributes:
        sizes: T, B and all widths.
        inputs: (T, B, width) each.
        params: Of their own shapes.
        initial: (B, width) each, complete.
        lengths: (B,), or None if every sequence has T steps.
        batched: False if the caller left the batch axis away.
    """

    sizes: Sizes
    inputs: Arrays
    params: Arrays
    initial: Arrays
    lengths: NDArray[np.int64] | None
    batched: bool

    @property
    def steps(self) -> int:
        """T."""
        return self.sizes.numbers["T"]

    @property
    def batch(self) -> int:
        """B."""
        return self.sizes.numbers["B"]


def read_call(manifest: Manifest, inputs: object, params: object, initial: object, lengths: object) -> Call:
    """Check all arguments of a forward pass against each other.

    Raises:
        ArgumentError: A name is missing or unknown, or a shape or dtype is wrong.
    """
    dtype = np.dtype(manifest.dtype)
    x = read_named("inputs", inputs, manifest.inputs, dtype, required=True, bare=True)
    p = read_named("params", params, manifest.parameters, dtype, required=True)
    s = read_named("initial", initial, manifest.carried, dtype)
    batched = _is_batched(manifest, x)
    shapes: list[tuple[str, Shape, FloatArray]] = [
        *((f"inputs[{i.name!r}]", i.plane(batched), x[i.name]) for i in manifest.inputs),
        *((f"params[{i.name!r}]", i.shape, p[i.name]) for i in manifest.parameters),
        *((f"initial[{i.name!r}]", i.carried(batched), s[i.name]) for i in manifest.carried if i.name in s),
    ]
    sizes = Sizes() if batched else Sizes({"B": 1}, {"B": "inputs without a batch axis"})
    if not manifest.inputs:
        _sizes_from_lengths(sizes, lengths)
    sizes.learn(
        (argument, width, number)
        for argument, shape, array in shapes
        if len(shape) == array.ndim
        for width, number in zip(shape, array.shape, strict=True)
    )
    for argument, shape, array in shapes:
        sizes.check(argument, shape, array.shape)
    for name, members in manifest.widths.items():
        if name not in sizes.numbers:
            raise ArgumentError("initial", f"no array tells the width {name}", " or ".join(members))
    if not batched:
        x = {name: array[:, None] for name, array in x.items()}
        s = {name: array[None] for name, array in s.items()}
    for spec in manifest.carried:
        if spec.name not in s:
            start = allocate(f"initial[{spec.name!r}]", evaluate(spec.carried(), sizes.numbers), dtype)
            start.fill(getattr(spec, "initial", 0.0))
            s[spec.name] = start
    counts = read_lengths(lengths, sizes)
    return Call(
        sizes, _laid_out("inputs", x), _laid_out("params", p), _laid_out("initial", s), counts, batched
    )


def read_named(
    argument: str,
    given: object,
    specs: Sequence[ArraySpec],
    dtype: np.dtype[Any],
    *,
    required: bool = False,
    bare: bool = False,
) -> Arrays:
    """A dict of arrays of one dtype, by the names of the specs; shapes are not looked at.

    Args:
        argument: How errors call the dict.
        given: What the caller handed over; None is an empty dict.
        specs: The valid names.
        dtype: What every array must have.
        required: Whether every name must be there.
        bare: Whether a sole array may come without its name.
    """
    items = _as_mapping(argument, given, specs, bare)
    valid = [spec.name for spec in specs]
    for name in items:
        if name not in valid:
            known = f"one of {', '.join(valid)}" if valid else "no names"
            raise ArgumentError(f"{argument}[{name!r}]", "unknown name", known, nearest(str(name), valid))
    found = {}
    for spec in specs:
        if spec.name in items:
            found[spec.name] = read_array(f"{argument}[{spec.name!r}]", items[spec.name], dtype)
        elif required:
            shape = spec.plane() if argument == "inputs" else spec.shape
            raise ArgumentError(f"{argument}[{spec.name!r}]", "is missing", f"an array {spelled(shape)}")
    return found


def _as_mapping(argument: str, given: object, specs: Sequence[ArraySpec], bare: bool) -> Mapping[Any, object]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return given
    if bare and len(specs) == 1:
        return {specs[0].name: given}
    names = ", ".join(spec.name for spec in specs)
    raise ArgumentError(argument, f"is a {type(given).__name__}", f"a dict of arrays with the names {names}")


def read_array(argument: str, value: object, dtype: np.dtype[Any]) -> FloatArray:
    """The value as a plain array; other types and dtypes are not cast in silence."""
    if not isinstance(value, np.ndarray | np.generic):
        kind = type(value).__name__
        raise ArgumentError(argument, f"is a {kind}", f"an array: np.asarray(..., dtype=np.{dtype})")
    if value.dtype != dtype:
        raise ArgumentError(argument, f"has dtype {value.dtype}", f"{dtype}: .astype(np.{dtype})")
    return np.asarray(value)


def read_lengths(lengths: object, sizes: Sizes) -> NDArray[np.int64] | None:
    """The lengths as an array (B,) of integers from 0 to T."""
    if lengths is None:
        return None
    array = _integers(lengths)
    sizes.check("lengths", (BATCH,), array.shape)
    steps = sizes.numbers["T"]
    wrong = array[(array < 0) | (array > steps)]
    if wrong.size:
        raise ArgumentError(
            "lengths", f"holds {wrong[0]}", f"integers from 0 to {steps}, the steps of inputs"
        )
    return np.array(array, dtype=np.int64)


def _integers(lengths: Any) -> NDArray[np.integer[Any]]:
    try:
        array = np.asarray(lengths)
    except ValueError as error:
        raise ArgumentError("lengths", f"is no array ({error})", "an integer array (B,)") from error
    if array.dtype.kind not in "iu":
        raise ArgumentError("lengths", f"has dtype {array.dtype}", "integers: .astype(np.int64)")
    return array


def _sizes_from_lengths(sizes: Sizes, lengths: ArrayLike | object) -> None:
    """T and B of a cell that reads no input."""
    if lengths is None:
        raise ArgumentError("lengths", "is missing, and no input tells T and B", "an integer array (B,)")
    array = _integers(lengths)
    sizes.numbers.update(T=max(0, int(array.max(initial=0))), B=len(array) if array.ndim else 0)
    sizes.origins.update(T="lengths", B="lengths")


def _is_batched(manifest: Manifest, inputs: Arrays) -> bool:
    """Whether the inputs have a batch axis: all of them or none."""
    first = ""
    decided = True
    for spec in manifest.inputs:
        argument, shape = f"inputs[{spec.name!r}]", inputs[spec.name].shape
        missing = len(spec.plane()) - len(shape)
        if missing not in (0, 1):
            either = f"{spelled(spec.plane())}, or without a batch {spelled(spec.plane(False))}"
            raise ArgumentError(argument, f"has shape {shape}", either)
        if first and decided != (missing == 0):
            wanted = f"{spelled(spec.plane(decided))}, as {first} has {'a' if decided else 'no'} batch axis"
            raise ArgumentError(argument, f"has shape {shape}", wanted)
        first, decided = first or argument, missing == 0
    return decided


def _laid_out(argument: str, arrays: Arrays) -> Arrays:
    """The arrays as C reads them; copied only where they are not so already."""
    return {name: contiguous(f"{argument}[{name!r}]", array) for name, array in arrays.items()}


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


def spelled(shape: Shape) -> str:
    """The shape in width names, as Python writes a tuple."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
