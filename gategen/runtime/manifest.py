"""What a kernel is, as data: the names, shapes and warnings of a cell, kept as JSON beside its binary.

A warm start reads nothing else, so this module knows neither SymPy nor NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self

from gategen.language.shapes import Shape, Width

TIME = Width.of("T")
BATCH = Width.of("B")
ONE = Width((), 1)


def _width_json(width: Width) -> dict[str, Any]:
    return {"terms": dict(width.terms), "constant": width.constant}


def _width_from(data: Mapping[str, Any]) -> Width:
    return Width(tuple(sorted(data["terms"].items())), data["constant"])


@dataclass(frozen=True)
class ArraySpec:
    """One array of a kernel, such as an output.

    Attributes:
        name: The author's name, the key in every dict: ``U_h[0]``.
        member: The name as an identifier, the member of every C struct: ``U_h_0``.
        shape: ``()`` a scalar, ``(n,)`` a vector, ``(n, d)`` a matrix.
    """

    name: str
    member: str
    shape: Shape

    @property
    def units(self) -> Shape:
        """The axes of one step: those of the shape, and one axis of width 1 for a scalar."""
        return self.shape or (ONE,)

    def plane(self, batched: bool = True) -> Shape:
        """The shape over all steps, (T, B, width); without a batch (T, width)."""
        return (TIME, BATCH, *self.units) if batched else (TIME, *self.units)

    def row(self, batched: bool = True) -> Shape:
        """The shape in one step, (B, width); without a batch (width,)."""
        return (BATCH, *self.units) if batched else self.units

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        shape = [_width_json(width) for width in self.shape]
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "shape": shape}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` made."""
        return cls(**{**data, "shape": tuple(map(_width_from, data["shape"]))})


@dataclass(frozen=True)
class CarriedSpec(ArraySpec):
    """What a sequence starts from and hands on.

    Attributes:
        steps: How many steps back it is read, and so how many there are of it.
        start: The member of the C struct for what it is before the first step.
    """

    steps: int = 1
    start: str = ""

    def carried(self, batched: bool = True) -> Shape:
        """The shape before the first and after the last step.

        It is (B, width), or (k, B, width), oldest first, for what is read k > 1 steps back; without a batch
        (width,) or (k, width).
        """
        return self.row(batched) if self.steps == 1 else (Width((), self.steps), *self.row(batched))


@dataclass(frozen=True)
class InputSpec(CarriedSpec):
    """An input, (T, B, width); it is carried if a step reads its past, else ``steps`` is 0.

    Attributes:
        once: ``sequence`` for what is the same in all steps, ``clock`` for the number of the step.
    """

    steps: int = 0
    once: Literal["", "sequence", "clock"] = ""


@dataclass(frozen=True)
class StateSpec(CarriedSpec):
    """A state.

    Attributes:
        initial: What fills it before the first step if the caller gives nothing.
        final: The member of the C struct for its value after the last step.
    """

    initial: float = 0.0
    final: str = ""


@dataclass(frozen=True)
class ParameterSpec(ArraySpec):
    """A parameter, of its own shape.

    Attributes:
        kind: A frozen parameter gets no gradient.
        value: The first value that the author declared.
        multiplied: Whether it scales something, so that its neutral value is one.
    """

    kind: Literal["parameter", "frozen"] = "parameter"
    value: float | None = None
    multiplied: bool = False


@dataclass(frozen=True)
class Manifest:
    """All that running a kernel takes besides its code.

    Attributes:
        cell: The cell's name.
        dtype: Of every array but ``lengths``.
        backend: The rendering of the code.
        widths: For every width its name and the vectors that have it, in the order of the C struct of sizes.
        inputs: What is read per step.
        states: What is carried from step to step.
        outputs: What a run gives back per step.
        parameters: In the author's order.
        reverse: Whether the cell runs from right to left.
        warnings: What to tell the user once per compilation.
        lengths: The member of the C struct for the number of steps of each sequence.
        ahead: What a step reads of inputs that come later, as ``x[t+1]`` if it runs from left to right.
        least: What widths must be at least, so that the elements are there that a step reads.
    """

    cell: str
    dtype: Literal["float32", "float64"]
    backend: str
    widths: Mapping[str, tuple[str, ...]]
    inputs: tuple[InputSpec, ...]
    states: tuple[StateSpec, ...]
    outputs: tuple[ArraySpec, ...]
    parameters: tuple[ParameterSpec, ...]
    reverse: bool = False
    warnings: tuple[str, ...] = ()
    lengths: str = "lengths"
    ahead: tuple[str, ...] = ()
    least: tuple[tuple[Width, int], ...] = ()

    @cached_property
    def history(self) -> tuple[InputSpec, ...]:
        """The inputs whose past is read."""
        return tuple(spec for spec in self.inputs if spec.steps)

    @cached_property
    def once(self) -> tuple[InputSpec, ...]:
        """The inputs that need not be given over all steps."""
        return tuple(spec for spec in self.inputs if spec.once)

    @cached_property
    def carried(self) -> tuple[StateSpec | InputSpec, ...]:
        """What a run starts from and ends with: the states, then the inputs whose past is read."""
        return (*self.states, *self.history)

    @cached_property
    def learned(self) -> tuple[ParameterSpec, ...]:
        """The parameters that get a gradient."""
        return tuple(spec for spec in self.parameters if spec.kind != "frozen")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values; widths as pairs, because their order counts and files sort keys."""
        return {
            **asdict(self),
            "widths": [[name, list(members)] for name, members in self.widths.items()],
            "warnings": list(self.warnings),
            "ahead": list(self.ahead),
            "least": [[_width_json(width), number] for width, number in self.least],
            **{part: [spec.to_json() for spec in getattr(self, part)] for part in _PARTS},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """What `to_json` made."""
        parts = {part: tuple(kind.from_json(spec) for spec in data[part]) for part, kind in _PARTS.items()}
        widths = {name: tuple(members) for name, members in data["widths"]}
        names = {field: tuple(data[field]) for field in ("warnings", "ahead")}
        least = tuple((_width_from(width), number) for width, number in data["least"])
        return cls(**{**data, "widths": widths, "least": least, **names, **parts})


_PARTS: dict[str, type[ArraySpec]] = {
    "inputs": InputSpec,
    "states": StateSpec,
    "outputs": ArraySpec,
    "parameters": ParameterSpec,
}


def evaluate(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in numbers, given one for every width name."""
    return tuple(width.evaluate(sizes) for width in shape)
