"""The first values of a kernel's parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gategen.errors import ArgumentError, nearest
from gategen.language.shapes import Width
from gategen.runtime.arguments import Sizes, check_least
from gategen.runtime.initialise import glorot_uniform
from gategen.runtime.manifest import Manifest, ParameterSpec, evaluate
from gategen.runtime.memory import Arrays, FloatArray, allocate


def first_parameters(
    manifest: Manifest, widths: Mapping[str, int], seed: int, values: Mapping[str, ArrayLike] | None
) -> Arrays:
    """Draw or fill every parameter, in the author's order; see `Kernel.init`."""
    sizes = _solve(manifest, widths)
    given = _read_values(manifest, values, sizes)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ArgumentError("seed", f"is {seed!r}", "an integer that is not negative")
    return {
        spec.name: given[spec.name] if spec.name in given else _first(manifest, spec, sizes, int(seed))
        for spec in manifest.parameters
    }


def _first(manifest: Manifest, spec: ParameterSpec, sizes: Sizes, seed: int) -> FloatArray:
    dtype = np.dtype(manifest.dtype)
    shape = evaluate(spec.shape, sizes.numbers)
    if spec.value is None and spec.kind == "frozen":
        problem = f"is missing: {spec.name} is frozen and has no value of its own"
        raise ArgumentError(
            f"values[{spec.name!r}]", problem, f"an array of shape {sizes.explain(spec.shape)}"
        )
    if spec.value is None and len(shape) == 2:
        return glorot_uniform(shape, _stream(seed, spec.name), dtype)
    array = allocate(f"params[{spec.name!r}]", shape, dtype)
    array.fill(float(spec.multiplied) if spec.value is None else spec.value)
    return array


def _stream(seed: int, name: str) -> np.random.Generator:
    """A stream of random numbers of the parameter's own: another parameter more or less changes nothing."""
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.default_rng([seed, own])


def _solve(manifest: Manifest, widths: Mapping[str, int]) -> Sizes:
    """A number for every width from the numbers that the caller gave for some names."""
    if not isinstance(widths, Mapping):
        kind = type(widths).__name__
        raise ArgumentError("widths", f"is a {kind}", f"a dict such as {_example(manifest)}")
    meaning = _meanings(manifest)
    facts: list[tuple[str, Width, int]] = []
    for name, number in widths.items():
        argument = f"widths[{name!r}]"
        if name not in meaning:
            names = dict.fromkeys(n for item in manifest.widths.items() for n in (item[0], *item[1]))
            known = f"one of {', '.join(names)}" if names else "no names"
            raise ArgumentError(argument, "unknown name", known, nearest(str(name), meaning))
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ArgumentError(argument, f"is {number!r}", "a positive integer")
        facts.append((argument, meaning[name], int(number)))
    sizes = Sizes()
    sizes.learn(facts)
    for name, members in manifest.widths.items():
        if name not in sizes.numbers:
            raise ArgumentError(
                "widths", f"the width {name} is missing", f"a number for {' or '.join(members)}"
            )
    check_least(manifest, sizes)
    for argument, width, number in facts:
        if width.evaluate(sizes.numbers) != number:
            members = manifest.widths.get(str(width), ())
            same = f"; {', '.join(members)} have one width" if len(members) > 1 else ""
            expected = str(width.evaluate(sizes.numbers))
            reasons = [f"{name} = {sizes.numbers[name]} from {sizes.origins[name]}" for name in width.names]
            because = f", as {', '.join(reasons)}" if reasons else ""
            raise ArgumentError(argument, f"is {number}", f"{expected}{because}{same}")
    return sizes


def _meanings(manifest: Manifest) -> dict[str, Width]:
    """The width behind every name that a caller may use: of widths, of their members, of other vectors."""
    vectors = (*manifest.inputs, *manifest.states, *manifest.outputs)
    meaning = {spec.name: spec.units[0] for spec in vectors if len(spec.units) == 1}
    meaning |= {spec.name: spec.shape[0] for spec in manifest.parameters if len(spec.shape) == 1}
    meaning |= {member: Width.of(name) for name, members in manifest.widths.items() for member in members}
    return meaning | {name: Width.of(name) for name in manifest.widths}


def _example(manifest: Manifest) -> str:
    return str({members[0] if members else name: 16 for name, members in manifest.widths.items()})


def _read_values(manifest: Manifest, values: Mapping[str, ArrayLike] | None, sizes: Sizes) -> Arrays:
    """The caller's own first values: copies, cast to the kernel's dtype."""
    specs = {spec.name: spec for spec in manifest.parameters}
    if values is not None and not isinstance(values, Mapping):
        raise ArgumentError("values", f"is a {type(values).__name__}", "a dict of arrays")
    found = {}
    for name, value in (values or {}).items():
        argument = f"values[{name!r}]"
        if name not in specs:
            known = f"one of {', '.join(specs)}" if specs else "no names"
            raise ArgumentError(argument, "unknown name", known, nearest(str(name), specs))
        array = _real(argument, value)
        sizes.check(argument, specs[name].shape, array.shape)
        found[name] = np.array(array, dtype=manifest.dtype, order="C")
    return found


def _real(argument: str, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentError(argument, f"is no array ({error})", "an array of real numbers") from error
    if array.dtype.kind not in "iuf":
        raise ArgumentError(argument, f"has dtype {array.dtype}", "real numbers")
    return array
