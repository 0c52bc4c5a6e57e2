"""From text and sequences to time-major arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gategen.errors import ArgumentError
from gategen.training.arguments import (
    FloatArray,
    IntArray,
    any_array,
    finite_number,
    float_array,
    in_range,
    int_array,
    positive_int,
    same_shape,
)


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text; a character's number is its place in their sorted order.

    ``Vocabulary(text)`` builds it; ``Vocabulary(vocabulary.characters)`` builds the same one again.

    Attributes:
        characters: The distinct characters, sorted.
    """

    characters: str

    def __post_init__(self) -> None:
        if not isinstance(self.characters, str) or not self.characters:
            raise ArgumentError("characters", f"is {self.characters!r}", "a text that is not empty")
        object.__setattr__(self, "characters", "".join(sorted(set(self.characters))))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The numbers of the characters, ``(len(text),)``."""
        codes, known = _codes(text), _codes(self.characters)
        ids = np.searchsorted(known, codes)
        unknown = known[np.minimum(ids, len(known) - 1)] != codes
        if unknown.any():
            place = int(unknown.argmax())
            problem = f"character {text[place]!r} at {place} is not in the vocabulary"
            raise ArgumentError("text", problem, f"only the {len(self)} characters of the vocabulary")
        return ids.astype(np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The text of numbers ``(length,)``."""
        numbers = int_array("ids", ids) if np.size(ids) else np.zeros(0, np.int64)
        if numbers.ndim != 1:
            raise ArgumentError("ids", f"has shape {numbers.shape}", "(length,)")
        in_range("ids", numbers, len(self))
        return _codes(self.characters)[numbers].tobytes().decode("utf-32-le", "surrogatepass")


class Window(NamedTuple):
    """One stretch of all streams.

    Attributes:
        inputs: ``(T, B)`` numbers.
        targets: ``(T, B)``, the number that follows each input.
    """

    inputs: IntArray
    targets: IntArray


class Batch(NamedTuple):
    """Sequences padded to the longest of them.

    Attributes:
        values: ``(T, B)`` or ``(T, B, width)``.
        lengths: ``(B,)``.
        members: ``(B,)``, where each sequence stood in the list it came from; picks its targets.
    """

    values: NDArray[Any]
    lengths: NDArray[np.int64]
    members: NDArray[np.int64]


def split_text(text: str, fraction: float = 0.1) -> tuple[str, str]:
    """Split a text into training and validation, the last ``fraction`` of it in one piece."""
    finite_number("fraction", fraction, 0.0, "a number from 0 to below 1", high=1.0)
    cut = len(text) - round(len(text) * fraction)
    return text[:cut], text[cut:]


def windows(ids: ArrayLike, batch: int, steps: int) -> list[Window]:
    """Cut one long sequence for truncated backpropagation through time.

    The sequence is laid out as ``batch`` contiguous streams side by side, and these are cut every ``steps``:
    stream b of a window goes on where stream b of the window before ended, so the final state of one window
    is the initial state of the next. The last window may be shorter. What is left at the end of ``ids``,
    fewer than ``batch`` numbers after the last target, is not used.

    Args:
        ids: ``(length,)`` integers, length more than ``batch``.
        batch: The number of streams.
        steps: The most steps of a window.

    Returns:
        The windows, in order, as views.
    """
    positive_int("batch", batch)
    positive_int("steps", steps)
    numbers = int_array("ids", ids)
    if numbers.ndim != 1 or len(numbers) <= batch:
        raise ArgumentError("ids", f"has shape {numbers.shape}", f"(length,), length more than {batch}")
    length = (len(numbers) - 1) // batch
    inputs = numbers[: batch * length].reshape(batch, length).T
    targets = numbers[1 : batch * length + 1].reshape(batch, length).T
    return [
        Window(inputs[start : start + steps], targets[start : start + steps])
        for start in range(0, length, steps)
    ]


def sliding_windows(series: ArrayLike, steps: int) -> tuple[FloatArray, FloatArray]:
    """Every stretch of a series, as a batch, with the value that follows it: one-step prediction.

    Args:
        series: ``(length,)`` or ``(length, features)``, float32 or float64, length more than ``steps``.
        steps: The steps of each stretch.

    Returns:
        ``(steps, length - steps, features)`` inputs and ``(length - steps, features)`` targets.
    """
    positive_int("steps", steps)
    values = float_array("series", series)
    if values.ndim not in (1, 2) or len(values) <= steps:
        expected = f"(length,) or (length, features), length more than {steps}"
        raise ArgumentError("series", f"has shape {values.shape}", expected)
    columns = values.reshape(len(values), -1) if values.size else values.reshape(len(values), 0)
    starts = np.arange(len(values) - steps)
    return columns[np.arange(steps)[:, None] + starts], columns[steps:].copy()


def one_hot(ids: ArrayLike, size: int, dtype: DTypeLike = np.float32) -> FloatArray:
    """Unit vectors: ``(...)`` integers below ``size`` to ``(..., size)``."""
    positive_int("size", size)
    numbers = int_array("ids", ids)
    in_range("ids", numbers, size)
    vectors = np.zeros((*numbers.shape, size), dtype)
    np.put_along_axis(vectors, numbers[..., None].astype(np.int64), 1, axis=-1)
    return vectors


def embed(table: ArrayLike, ids: ArrayLike) -> FloatArray:
    """Rows of a table: ``(size, width)`` and ``(...)`` integers below ``size`` to ``(..., width)``.

    Equal to ``one_hot(ids, size) @ table``, without the product.
    """
    rows, numbers = _table_arguments(table, ids)
    return rows[numbers]


def embed_gradient(table: ArrayLike, ids: ArrayLike, d_rows: ArrayLike) -> FloatArray:
    """The gradient of ``embed`` with respect to the table: each row is added where it came from.

    Args:
        table: ``(size, width)``.
        ids: ``(...)`` integers below ``size``.
        d_rows: ``(..., width)``, the gradient with respect to what ``embed`` returned.

    Returns:
        ``(size, width)``.
    """
    rows, numbers = _table_arguments(table, ids)
    incoming = float_array("d_rows", d_rows)
    same_shape("d_rows", incoming, (*numbers.shape, rows.shape[1]))
    gradient = np.zeros_like(rows)
    np.add.at(gradient, numbers, incoming)
    return gradient


def pad(sequences: Sequence[ArrayLike], value: float = 0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Put sequences side by side, each filled up with ``value`` to the longest.

    Args:
        sequences: Arrays ``(length,)`` or ``(length, width)`` of one dtype and one width.
        value: What stands after the end of each.

    Returns:
        ``(T, B)`` or ``(T, B, width)`` values and ``(B,)`` lengths.
    """
    arrays = [any_array(f"sequences[{place}]", sequence) for place, sequence in enumerate(sequences)]
    if not arrays:
        raise ArgumentError("sequences", "is empty", "at least one sequence")
    first = arrays[0]
    for place, array in enumerate(arrays):
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
            problem = f"has shape {array.shape} and dtype {array.dtype}"
            raise ArgumentError(f"sequences[{place}]", problem, "numbers, (length,) or (length, width)")
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            problem = f"has shape {array.shape} and dtype {array.dtype}"
            expected = f"(length, {', '.join(map(str, first.shape[1:]))}) and {first.dtype}, as sequences[0]"
            raise ArgumentError(f"sequences[{place}]", problem, expected)
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    shape = (int(lengths.max()), len(arrays), *first.shape[1:])
    with np.errstate(invalid="ignore", over="ignore"):
        filler = any_array("value", value).astype(first.dtype)
    if filler.ndim or (first.dtype.kind != "f" and filler != value):
        raise ArgumentError("value", f"is {value!r}", f"a number that {first.dtype} can hold")
    values = np.full(shape, filler)
    for place, array in enumerate(arrays):
        values[: len(array), place] = array
    return values, lengths


def by_length(
    sequences: Sequence[ArrayLike], batch: int, rng: np.random.Generator | None = None, value: float = 0
) -> list[Batch]:
    """A curriculum: batches of sequences of similar length, the shortest first, with little padding.

    Args:
        sequences: Arrays ``(length,)`` or ``(length, width)`` of one dtype and one width.
        batch: The most sequences of a batch; only the last batch may hold fewer.
        rng: Shuffles sequences of equal length; without it they keep their order.
        value: What stands after the end of each sequence.

    Returns:
        The batches, in order of length.
    """
    positive_int("batch", batch)
    lengths = np.array([np.shape(any_array("sequences", sequence))[:1] or (0,) for sequence in sequences])
    order = np.arange(len(sequences)) if rng is None else rng.permutation(len(sequences))
    order = order[np.argsort(lengths.reshape(-1)[order], kind="stable")]
    chunks = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [Batch(*pad([sequences[member] for member in chunk], value), chunk) for chunk in chunks]


def length_mask(lengths: ArrayLike, steps: int) -> NDArray[np.bool_]:
    """Which steps are real: ``(B,)`` lengths to ``(steps, B)`` booleans, the ``mask`` of a loss."""
    ends = int_array("lengths", lengths)
    if ends.ndim != 1:
        raise ArgumentError("lengths", f"has shape {ends.shape}", "(B,)")
    in_range("lengths", ends, steps + 1)
    mask: NDArray[np.bool_] = np.arange(steps)[:, None] < ends
    return mask


def dropout_mask(
    shape: Sequence[int], rate: float, rng: np.random.Generator, dtype: DTypeLike = np.float32
) -> FloatArray:
    """A factor for dropout: 0 with probability ``rate``, else ``1 / (1 - rate)``, so that the mean stays 1.

    Source: Srivastava et al. 2014. One mask for a whole sequence, an operand declared ``m: sequence``, is the
    variational dropout of Gal and Ghahramani 2016, arXiv:1512.05287.
    """
    finite_number("rate", rate, 0.0, "a number from 0 to below 1", high=1.0)
    kept = rng.random(tuple(shape)) >= rate
    return np.asarray(kept / (1 - rate), dtype=dtype)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _table_arguments(table: ArrayLike, ids: ArrayLike) -> tuple[FloatArray, IntArray]:
    rows, numbers = float_array("table", table), int_array("ids", ids)
    if rows.ndim != 2:
        raise ArgumentError("table", f"has shape {rows.shape}", "(size, width)")
    in_range("ids", numbers, len(rows))
    return rows, numbers
