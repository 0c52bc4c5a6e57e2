"""Parameters of which a kernel keeps what it makes of them, for inference on many sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter

import numpy as np

from gategen.runtime.arguments import Sizes, read_named
from gategen.runtime.engines import Engine
from gategen.runtime.manifest import Manifest
from gategen.runtime.memory import Arrays, FloatArray


class Packed(Mapping[str, FloatArray]):
    """Parameters by name, read-only copies; made by `Kernel.pack`.

    Attributes:
        arrays: The same as a dict.
        engine: Whose forward passes they are packed for.
        forward: Such a pass without tape, packing at most once for every thread that runs one meanwhile.
    """

    def __init__(self, manifest: Manifest, engine: Engine, params: Mapping[str, FloatArray]) -> None:
        dtype = np.dtype(manifest.dtype)
        given = read_named("params", params, manifest.parameters, dtype, required=attrgetter("shape"))
        sizes = Sizes()
        sizes.learn(
            (f"params[{spec.name!r}]", width, number)
            for spec in manifest.parameters
            if len(spec.shape) == given[spec.name].ndim
            for width, number in zip(spec.shape, given[spec.name].shape, strict=True)
        )
        for spec in manifest.parameters:
            # Inputs may have to tell the other widths: then their shapes are held against each other too.
            if all(name in sizes.numbers for width in spec.shape for name in width.names):
                sizes.check(f"params[{spec.name!r}]", spec.shape, given[spec.name].shape)
        self.arrays: Arrays = {name: np.array(array, order="C") for name, array in given.items()}
        for array in self.arrays.values():
            array.flags.writeable = False
        self.engine = engine
        self.forward = engine.packed(self.arrays)

    def __getitem__(self, name: str) -> FloatArray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return f"Packed({', '.join(self.arrays)})"
