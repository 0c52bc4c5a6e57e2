"""The element-wise functions of C kernels: a few units in the last place, everywhere, and vectorized."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import ulp
from gategen.backends import c, c_math
from gategen.backends.c_syntax import CWriter
from gategen.runtime.build import FAST, PORTABLE, build, load

Array = NDArray[Any]
NAMES = list(c_math.OWN)
IN_NUMPY = ("exp", "expm1", "tanh", "log", "log1p")
DTYPES = ("float32", "float64")
# Contraction off: every multiplication and addition rounds, as on processors without fused operations.
ROUNDED = ("-std=gnu11", "-fopenmp-simd", "-O3", "-ffp-contract=off")
LIMIT = 2.5

HEAD = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\ntypedef {real} real;\n"
LOOP = """
__attribute__((noinline)) void all_{name}(int64_t n, const real *x, real *y)
{{
    #pragma omp simd
    for (int64_t j = 0; j < n; j++) {{
        y[j] = gg_{name}(x[j]);
    }}
}}

void each_{name}(int64_t n, const real *x, real *y)
{{
    for (int64_t j = 0; j < n; j++) {{
        all_{name}(1, x + j, y + j);
    }}
}}
"""

# The arguments at which the formulas change or saturate.
THRESHOLDS = {
    "float32": (
        0.95,
        3.95,
        9.2,
        18.0,
        88.0,
        89.0,
        88.72283,
        87.33655,
        103.97,
        0.3465736,
        1.0397208,
        0.6931472,
    ),
    "float64": (
        0.95,
        5.95,
        19.5,
        38.0,
        709.0,
        710.0,
        709.782712893384,
        708.3964185322641,
        745.13,
        0.34657359,
    ),
}
REFERENCE: dict[str, Callable[[Array], Array]] = {
    **{name: getattr(np, name) for name in IN_NUMPY},
    "sigmoid": lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "logsigmoid": lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))),
    "erf": lambda x: torch.erf(torch.from_numpy(x)).numpy(),
}
EXACT: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(mpmath, name) for name in (*IN_NUMPY, "erf")},
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "logsigmoid": lambda x: -mpmath.log1p(mpmath.exp(-x)),
}
# Values at minus infinity, -0, 0 and infinity; a zero has the sign that is written.
LIMITS = {
    "exp": (0.0, 1.0, 1.0, np.inf),
    "expm1": (-1.0, -0.0, 0.0, np.inf),
    "tanh": (-1.0, -0.0, 0.0, 1.0),
    "log": (np.nan, -np.inf, -np.inf, np.inf),
    "log1p": (np.nan, -0.0, 0.0, np.inf),
    "sigmoid": (0.0, 0.5, 0.5, 1.0),
    "softplus": (0.0, np.log(2), np.log(2), np.inf),
    "logsigmoid": (-np.inf, -np.log(2), -np.log(2), 0.0),
    "erf": (-1.0, -0.0, 0.0, 1.0),
}


def source(dtype: str) -> str:
    writer = CWriter(dtype == "float32", lambda name: name)
    for name in NAMES:
        writer.define(name)
    loops = (LOOP.format(name=name) for name in NAMES)
    return "\n".join([HEAD.format(real=c.TYPES[dtype]), *writer.needed.values(), *loops])


@cache
def library(dtype: str, flags: tuple[str, ...] = FAST) -> ModuleType:
    real = c.TYPES[dtype]
    cdef = "\n".join(
        f"void {how}_{name}(int64_t n, const {real} *x, {real} *y);"
        for name in NAMES
        for how in ("all", "each")
    )
    return load(build(source(dtype), cdef, flags=flags, name=f"vector_math_{dtype}"))


def call(name: str, x: Array, flags: tuple[str, ...] = FAST, how: str = "all") -> Array:
    module, y = library(x.dtype.name, flags), np.empty_like(x)
    pointer = f"{c.TYPES[x.dtype.name]} *"
    buffers = (module.ffi.from_buffer(pointer, array) for array in (x, y))
    getattr(module.lib, f"{how}_{name}")(len(x), *buffers)
    return y


@cache
def sample(dtype: str, count: int) -> Array:
    """Bit patterns spread over all floats, ordinary numbers, and every edge with its neighbours."""
    kind = np.dtype(dtype)
    word = np.dtype(f"u{kind.itemsize}")
    step = 2 ** (8 * kind.itemsize) // count
    spread = (
        (np.arange(count, dtype=np.uint64) * np.uint64(step) + np.uint64(step // 3)).astype(word).view(kind)
    )
    rng = np.random.default_rng(0)
    usual = [rng.uniform(-s, s, count // 16).astype(kind) for s in (1e-3, 0.4, 1.0, 4.0, 20.0, 100.0)]
    info = np.finfo(kind)
    edges = [0.0, info.tiny, info.smallest_subnormal, info.max, 1.0, 2.0, 0.5, 0.5**0.5, 2.0**0.5, info.eps]
    edges += [*THRESHOLDS[dtype], *(2.0 ** (k + 0.5) for k in range(-60, 60, 7))]
    bits = np.array(edges, kind).view(word)[:, None].astype(np.int64) + np.arange(-6, 7)
    near = np.maximum(bits, 0).astype(word).view(kind).ravel()
    last = np.array([np.inf, np.nan, -0.0], kind)
    return np.concatenate([spread, *usual, near, -near, last, -last])


def worst(found: Array, exact: Array) -> tuple[float, int]:
    """The largest error in units in the last place, and where; infinite for a wrong kind of number."""
    info = np.finfo(found.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(found.dtype)
        size = np.abs(exact)
        # The exponent of the exact value: its binade decides the unit.
        unit = np.ldexp(exact.dtype.type(1), np.frexp(size)[1] - 1 - info.nmant)
        apart = np.abs(found.astype(exact.dtype) - exact)
        error = np.where(size >= info.tiny, apart / unit, np.where(apart < info.tiny, 0, np.inf))
        same = (rounded == found) | (np.isnan(exact) & np.isnan(found))
        error = np.where(same, 0, np.where(np.isnan(error), np.inf, error))
    place = int(np.argmax(error))
    return float(error[place]), place


@pytest.mark.parametrize("flags", [FAST, ROUNDED], ids=["fused", "rounded"])
@pytest.mark.parametrize("name", NAMES)
def test_single_precision(name: str, flags: tuple[str, ...]) -> None:
    x = sample("float32", 2**22 if flags is FAST else 2**19)
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x.astype(np.float64))
    error, place = worst(call(name, x, flags), exact)
    assert error <= LIMIT, f"{name}({x[place]!r}): {error} units"


@pytest.mark.parametrize("flags", [FAST, ROUNDED], ids=["fused", "rounded"])
@pytest.mark.parametrize("name", NAMES)
def test_double_precision_on_a_wide_sample(name: str, flags: tuple[str, ...]) -> None:
    """The reference is only a little better, so that this finds what is entirely wrong."""
    x = sample("float64", 2**17)
    with np.errstate(all="ignore"):
        exact = REFERENCE[name](x)
    error, place = worst(call(name, x, flags), exact)
    assert error <= LIMIT + 3, f"{name}({x[place]!r}): {error} units"


@pytest.mark.parametrize("flags", [FAST, ROUNDED], ids=["fused", "rounded"])
@pytest.mark.parametrize("name", NAMES)
def test_double_precision(name: str, flags: tuple[str, ...]) -> None:
    x = sample("float64", 2**12)
    x = x[np.isfinite(x) & (np.abs(x) < 1000)]
    x = x[x > {"log": 0, "log1p": -1}.get(name, -np.inf)]
    x = np.random.default_rng(1).permutation(x)[:1500]
    tiny = float(np.finfo(np.float64).tiny)
    largest = 0.0
    for argument, value in zip(x, call(name, x, flags), strict=True):
        with mpmath.workdps(40 + min(400, int(max(0.0, -np.log10(abs(argument) + 1e-300))))):
            exact = EXACT[name](mpmath.mpf(float(argument)))
            if not np.isfinite(value):
                assert abs(exact) >= mpmath.mpf(2) ** 1023 * (2 - mpmath.mpf(2) ** -53), (name, argument)
                continue
            apart = abs(mpmath.mpf(float(value)) - exact)
            if abs(exact) < tiny:
                assert apart < tiny, (name, argument)
                continue
            unit = mpmath.mpf(2) ** (mpmath.frexp(abs(exact))[1] - 53)
            largest = max(largest, float(apart / unit))
            assert apart <= LIMIT * unit, (name, argument, float(apart / unit))
    assert largest > 0.1, "the sample is too easy"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_limits(name: str, dtype: str) -> None:
    x = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan] * 7, dtype)
    expected = np.array([*LIMITS[name], np.nan] * 7, dtype)
    for how in ("all", "each"):
        found = call(name, x, how=how)
        np.testing.assert_allclose(found, expected, rtol=2 * float(np.finfo(dtype).eps))
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(found[zero & (x == 0)]), np.signbit(x[zero & (x == 0)]))


@pytest.mark.parametrize("flags", [FAST, PORTABLE], ids=["fast", "portable"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_one_at_a_time_has_the_same_bits(name: str, dtype: str, flags: tuple[str, ...]) -> None:
    x = sample(dtype, 2**16)
    word = f"u{x.dtype.itemsize}"
    together, alone = call(name, x, flags), call(name, x, flags, "each")
    given = ~np.isnan(together)
    np.testing.assert_array_equal(given, ~np.isnan(alone))
    np.testing.assert_array_equal(together[given].view(word), alone[given].view(word))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_loop_is_vectorized(dtype: str, tmp_path: Any) -> None:
    text = source(dtype)
    (tmp_path / "loops.c").write_text(text)
    command = ["gcc", *FAST, "-c", "loops.c", "-o", "loops.o", "-fopt-info-vec-optimized"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = {
        int(number) for number in re.findall(r"loops\.c:(\d+):\d+: optimized: loop vectorized", done.stderr)
    }
    loops = [n for n, line in enumerate(text.splitlines(), 1) if "#pragma omp simd" in line]
    assert len(loops) == len(NAMES)
    assert all(lines & {n, n + 1, n + 2} for n in loops)
    called = subprocess.run(["nm", "-u", "loops.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not called.stdout.split(), "a call of the C library is left"


@pytest.mark.parametrize("dtype", DTYPES)
def test_they_are_plain_c(dtype: str, tmp_path: Any) -> None:
    writer = CWriter(dtype == "float32", lambda name: name)
    for name in NAMES:
        writer.define(name)
    uses = "\n".join(
        f"real use_{n}(real x);\nreal use_{n}(real x)\n{{\n    return gg_{n}(x);\n}}" for n in NAMES
    )
    text = "\n".join([HEAD.format(real=c.TYPES[dtype]), *writer.needed.values(), uses])
    (tmp_path / "plain.c").write_text(text + "\n")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-pedantic", "-Werror", "-O2"]
    subprocess.run(["gcc", *strict, "-c", "plain.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_recorded_run_is_of_these_functions(dtype: str) -> None:
    """The error recorded for all numbers is within the promise, and is there where it was found."""
    rows = json.loads(ulp.RESULT.read_text(encoding="utf-8"))[dtype]
    assert set(rows) == set(NAMES)
    ours, exact = ulp.functions(dtype), ulp.references(dtype)
    for name, row in rows.items():
        x = np.array([float.fromhex(row["at_hex"])], dtype)
        y = np.empty_like(x)
        buffers = [ours.ffi.from_buffer(f"{ulp.TYPES[dtype]}[]", array) for array in (x, y)]
        getattr(ours.lib, f"all_{name}")(1, *buffers)
        given = [exact.ffi.from_buffer(f"{ulp.TYPES[dtype]}[]", array) for array in (x, y)]
        error = getattr(exact.lib, f"compare_{name}")(1, *given, np.inf, exact.ffi.NULL)
        # Another instruction set may round a sum in another place.
        assert row["ulp"] <= LIMIT and error == pytest.approx(row["ulp"], abs=0.25), name
