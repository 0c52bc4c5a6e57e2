"""What a caller hands to a kernel, checked and laid out; whatever is wrong raises before any kernel runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, nearest
from gategen.language.shapes import Shape, Width
from gategen.runtime.manifest import BATCH, TIME, ArraySpec, InputSpec, Manifest, StateSpec, evaluate
from gategen.runtime.memory import Arrays, FloatArray, allocate, contiguous

Fact = tuple[str, Width, int]
"""An argument, the width of one of its axes, and the number found there."""

_READY = 0x0101
"""NumPy's bits for arrays whose elements are in order and aligned."""
_MOST = 64
"""Combinations of shapes that a kernel remembers."""


@dataclass(frozen=True)
class Sizes:
    """Numbers for width names, solved from the axes of arrays.

    Attributes:
        numbers: Every width name, T and B included.
        origins: The argument that told each number.
        kept: What others found out about these numbers; calls of the same shapes share it.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def learn(self, facts: Iterable[Fact]) -> None:
        """Solve for what is not known yet; plain names count before sums, earlier facts before later ones."""
        pending = []
        for fact in facts:
            argument, width, number = fact
            if width == Width.of(width.names[0] if width.names else ""):
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
        unknown = [name for name in width.names if name not in self.numbers]
        if len(unknown) != 1:
            return False

        def total(count: int) -> int:
            return width.evaluate({**self.numbers, unknown[0]: count})

        # It grows with the unknown number, whatever power of it there is.
        count = bisect_left(range(number + 1), number, key=total)
        return total(count) == number and self._set(unknown[0], count, argument)

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


class Call(NamedTuple):
    """The checked arguments of one run: contiguous, aligned, of the kernel's dtype, with a batch axis.

    Attributes:
        sizes: T, B and all widths.
        inputs: (T, B, width) each.
        params: Of their own shapes.
        initial: (B, width) each, (k, B, width) for what is read k > 1 steps back; what is not there starts as
            declared.
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

    @property
    def ends(self) -> NDArray[np.int64]:
        """How many steps each sequence has, (B,)."""
        return np.full(self.batch, self.steps) if self.lengths is None else self.lengths

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute: no step or no sequence."""
        return not (self.sizes.numbers["T"] and self.sizes.numbers["B"])

    def start(self, spec: StateSpec | InputSpec, dtype: np.dtype[Any]) -> FloatArray:
        """What the first step reads of a state or of an input's past: the caller's array, or a new one."""
        if spec.name in self.initial:
            return self.initial[spec.name]
        shape = evaluate(spec.carried(), self.sizes.numbers)
        start = allocate(f"initial[{spec.name!r}]", shape, dtype)
        start.fill(spec.initial if isinstance(spec, StateSpec) else 0.0)
        return start


class Reader:
    """Reads the arguments of forward passes, in no time where the same shapes were right before.

    Args:
        manifest: Names, shapes and dtype.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._dtype = np.dtype(manifest.dtype)
        self._inputs = tuple(spec.name for spec in manifest.inputs)
        self._params = tuple(spec.name for spec in manifest.parameters)
        self._carried = tuple(spec.name for spec in manifest.carried)
        # Several threads may write; each entry is right, so the last one may win.
        self._known: dict[object, tuple[Sizes, bool]] = {}

    def read(self, inputs: object, params: object, initial: object, lengths: object) -> Call:
        """Check all arguments against each other; see `read_call`."""
        if type(inputs) is np.ndarray and len(self._inputs) == 1:
            inputs = {self._inputs[0]: inputs}
        given = [name for name in self._carried if name in initial] if type(initial) is dict else []
        shapes: list[tuple[int, ...]] = []
        x = _plain(inputs, self._inputs, self._dtype, shapes)
        p = _plain(params, self._params, self._dtype, shapes)
        s = {} if initial is None else _plain(initial, given, self._dtype, shapes)
        # Without inputs the lengths tell T. In doubt the long way says what is wrong.
        if not x or p is None or s is None:
            return read_call(self._manifest, inputs, params, initial, lengths)
        key = *shapes, *given
        known = self._known.get(key)
        if known is None:
            call = read_call(self._manifest, inputs, params, initial, lengths)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = call.sizes, call.batched
            return call
        return _call(*known, x, p, s, lengths)


def _plain(
    given: object, names: Sequence[str], dtype: np.dtype[Any], shapes: list[tuple[int, ...]]
) -> Arrays | None:
    """Arrays of exactly these names and this dtype; None for anything else, which may still be right.

    Their shapes are added to the list.
    """
    if type(given) is not dict or len(given) != len(names):
        return None
    arrays = {}
    for name in names:
        array = given.get(name)
        if type(array) is not np.ndarray:
            if not isinstance(array, np.ndarray | np.generic):
                return None
            array = np.asarray(array)
        if array.dtype is not dtype and array.dtype != dtype:
            return None
        arrays[name] = array
        shapes.append(array.shape)
    return arrays


def read_call(manifest: Manifest, inputs: object, params: object, initial: object, lengths: object) -> Call:
    """Check all arguments of a forward pass against each other.

    Raises:
        ArgumentError: A name is missing or unknown, or a shape or dtype is wrong.
    """
    dtype = np.dtype(manifest.dtype)
    x = read_named("inputs", inputs, manifest.inputs, dtype, required=_asked, bare=True)
    p = read_named("params", params, manifest.parameters, dtype, required=attrgetter("shape"))
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
    settle(manifest, sizes, shapes)
    return _call(sizes, batched, x, p, s, lengths)


def _asked(spec: ArraySpec) -> Shape:
    """The shape in which a caller gives an input."""
    return spec.row() if isinstance(spec, InputSpec) and spec.once == "sequence" else spec.plane()


def settle(manifest: Manifest, sizes: Sizes, shapes: Sequence[tuple[str, Shape, FloatArray]]) -> None:
    """Solve for all widths and hold every array, under the name that errors call it, against its shape."""
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
    check_least(manifest, sizes)


def check_least(manifest: Manifest, sizes: Sizes) -> None:
    """Raise where an element that a step reads would not be there."""
    for width, least in manifest.least:
        if width.evaluate(sizes.numbers) < least:
            name = width.names[0]
            problem = f"makes {width} {width.evaluate(sizes.numbers)}"
            expected = f"{least} or more: the cell reads element {least - 1}"
            raise ArgumentError(sizes.origins[name], problem, expected)


def _call(sizes: Sizes, batched: bool, x: Arrays, p: Arrays, s: Arrays, lengths: object) -> Call:
    """The call with arrays whose shapes are right."""
    if not batched:
        x = {name: array[:, None] for name, array in x.items()}
        s = {name: np.expand_dims(array, -2) for name, array in s.items()}
    counts = None if lengths is None else read_lengths(lengths, sizes)
    lay_out("inputs", x)
    lay_out("params", p)
    lay_out("initial", s)
    return Call(sizes, x, p, s, counts, batched)


def read_named(
    argument: str,
    given: object,
    specs: Sequence[ArraySpec],
    dtype: np.dtype[Any],
    *,
    required: Callable[[ArraySpec], Shape] | None = None,
    bare: bool = False,
) -> Arrays:
    """A dict of arrays of one dtype, by the names of the specs; shapes are not looked at.

    Args:
        argument: How errors call the dict.
        given: What the caller handed over; None is an empty dict.
        specs: The valid names.
        dtype: What every array must have.
        required: The shape that an error tells if a name is missing; None if names may be missing.
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
            wanted = f"an array {spelled(required(spec))}"
            raise ArgumentError(f"{argument}[{spec.name!r}]", "is missing", wanted)
    return found


def has_shapes(given: object, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]) -> bool:
    """Whether these are plain arrays of the shapes of their names; if not, they may still be right."""
    if type(given) is not dict:
        return False
    for name, array in given.items():
        if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shapes.get(name):
            return False
    return True


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


def lay_out(argument: str, arrays: Arrays) -> None:
    """Replace arrays by copies where C could not read them as they are."""
    for name, array in arrays.items():
        if array.flags.num & _READY != _READY:
            arrays[name] = contiguous(f"{argument}[{name!r}]", array)


def spelled(shape: Shape) -> str:
    """The shape in width names, as Python writes a tuple."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
