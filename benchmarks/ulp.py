"""How exact and how fast the element-wise functions of C kernels are. ``python -m benchmarks.ulp``.

float32 is tried on all of its numbers against our own float64 functions, float64 on a sample against the C
library's long double. Errors count units in the last place of the exact value; below the smallest normal
number an error counts as infinite if it reaches that number, and as nothing if not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gategen.backends import c_math
from gategen.backends.c import TYPES
from gategen.backends.c_syntax import CWriter
from gategen.runtime.build import FAST, build, load

Array = NDArray[Any]
NAMES = tuple(c_math.OWN)
RESULT = Path(__file__).with_suffix(".json")
CHUNK = 2**22
SAMPLE = 2**24
LANES = 16
ODD = 0x9E3779B97F4A7C15
"""Multiples of an odd number spread over all bit patterns."""

HEAD = """
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
typedef {real} real;
{definitions}
"""
LOOP = """
__attribute__((noinline)) void all_{name}(int64_t n, const real *x, real *y)
{{
    #pragma omp simd
    for (int64_t j = 0; j < n; j++) {{
        y[j] = gg_{name}(x[j]);
    }}
}}
"""
CLOCK = """
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of a cycle: six operations, each of which waits for the one before. */
static double cycle(void)
{
    volatile uint64_t seed = 1;
    uint64_t x = seed;
    const double began = now();
    for (int k = 0; k < 2000; k++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    seed = x;
    return (now() - began) / 12000;
}

double cycles(void (*run)(int64_t, const real *, real *), int64_t n, const real *x, real *y)
{
    const double before = cycle(), began = now();
    for (int k = 0; k < 8; k++) {
        run(n, x, y);
    }
    const double taken = (now() - began) / 8, after = cycle();
    return taken / (before > after ? before : after) / (double)n;
}
"""
GAP = """
typedef {narrow} narrow;
typedef {wide} wide;

static inline double gap(narrow found, wide exact)
{{
    const wide size = {fabs}(exact), apart = {fabs}((wide)found - exact);
    const wide error = size >= {tiny} ? apart / {unit} : apart < {tiny} ? 0 : INFINITY;
    const wide known = error == error ? error : INFINITY;
    return (narrow)exact == found || (exact != exact && found != found) ? 0 : (double)known;
}}
"""
COMPARE = """
static inline wide exact_{name}(wide x)
{{
    return {exact};
}}

/* The largest error, and where it is if it exceeds a known one. */
double compare_{name}(int64_t n, const narrow *x, const narrow *y, double known, int64_t *where)
{{
    double worst = 0;
    #pragma omp simd reduction(max : worst)
    for (int64_t j = 0; j < n; j++) {{
        const double error = gap(y[j], exact_{name}(x[j]));
        worst = error > worst ? error : worst;
    }}
    for (int64_t j = 0; j < n && worst > known; j++) {{
        if (gap(y[j], exact_{name}(x[j])) >= worst) {{
            *where = j;
            break;
        }}
    }}
    return worst;
}}
"""
LONG = {
    "sigmoid": "1 / (1 + expl(-x))",
    "softplus": "(x > 0 ? x : 0) + log1pl(expl(-fabsl(x)))",
    "logsigmoid": "(x < 0 ? x : 0) - log1pl(expl(-fabsl(x)))",
}


def definitions(dtype: str) -> str:
    writer = CWriter(dtype == "float32", lambda name: name)
    for name in NAMES:
        writer.define(name)
    return "\n\n".join(writer.needed.values())


def functions(dtype: str) -> ModuleType:
    """The functions as loops, and what measures them."""
    real = TYPES[dtype]
    text = HEAD.format(real=real, definitions=definitions(dtype)) + CLOCK
    signature = f"(int64_t, const {real} *, {real} *)"
    cdef = [f"void all_{name}{signature};" for name in NAMES]
    cdef.append(f"double cycles(void (*run){signature}, int64_t, const {real} *, {real} *);")
    text += "".join(LOOP.format(name=name) for name in NAMES)
    return load(build(text, "\n".join(cdef), flags=FAST, name="ulp_functions"))


def references(dtype: str) -> ModuleType:
    """What compares a loop's values with exact ones."""
    single = dtype == "float32"
    narrow = TYPES[dtype]
    gap = GAP.format(
        narrow=narrow,
        wide="double" if single else "long double",
        fabs="fabs" if single else "fabsl",
        tiny="0x1p-126" if single else "0x1p-1022",
        unit="(0x1p-23 * gg_from_bits(gg_to_bits(size) & UINT64_C(0x7ff0000000000000)))"
        if single
        else "ldexpl(1, ilogbl(size) - 52)",
    )
    exact = {name: f"gg_{name}(x)" if single else LONG.get(name, f"{name}l(x)") for name in NAMES}
    text = HEAD.format(real="double", definitions=definitions("float64") if single else "") + gap
    text += "".join(COMPARE.format(name=name, exact=exact[name]) for name in NAMES)
    arguments = f"(int64_t, const {narrow} *, const {narrow} *, double, int64_t *)"
    cdef = "\n".join(f"double compare_{name}{arguments};" for name in NAMES)
    return load(build(text, cdef, flags=FAST, name="ulp_references"))


def chunks(dtype: str) -> Iterator[Array]:
    """All numbers of float32; of float64 a sample of bit patterns and one of ordinary numbers, in turn."""
    rng = np.random.default_rng(0)
    for start in range(0, 2**32 if dtype == "float32" else SAMPLE, CHUNK):
        places = np.arange(start, start + CHUNK, dtype=np.uint64)
        bits = places.astype(np.uint32) if dtype == "float32" else places * np.uint64(ODD)
        yield bits.view(dtype)
        if dtype == "float64":
            yield rng.standard_normal(CHUNK) * 10


def measured(dtype: str, progress: Progress) -> dict[str, dict[str, float | str]]:
    """Largest error, its argument and cycles by function."""
    ours, exact = functions(dtype), references(dtype)
    pointer = f"{TYPES[dtype]} *"
    where = exact.ffi.new("int64_t *")
    rows: dict[str, dict[str, float | str]] = {}
    count = 2**32 // CHUNK if dtype == "float32" else 2 * SAMPLE // CHUNK
    task = progress.add_task("", total=count * len(NAMES))
    for name in NAMES:
        progress.update(task, description=name)
        largest, at = 0.0, 0.0
        run, compare = getattr(ours.lib, f"all_{name}"), getattr(exact.lib, f"compare_{name}")
        for x in chunks(dtype):
            y = np.empty_like(x)
            run(len(x), ours.ffi.from_buffer(pointer, x), ours.ffi.from_buffer(pointer, y))
            both = (exact.ffi.from_buffer(pointer, array) for array in (x, y))
            error = compare(len(x), *both, largest, where)
            if error > largest:
                largest, at = error, float(x[where[0]])
            progress.advance(task)
        rows[name] = {
            "ulp": largest,
            "at": at,
            "at_hex": at.hex(),
            f"cycles_per_{LANES}": speed(ours, name, dtype),
        }
    return rows


def speed(ours: ModuleType, name: str, dtype: str) -> float:
    """Cycles for so many numbers at once, in a loop over what fits the first cache; the tenth percentile."""
    x = np.random.default_rng(0).uniform(0.1, 8, 4096).astype(dtype)
    y = np.empty_like(x)
    buffers = [ours.ffi.from_buffer(f"{TYPES[dtype]} *", array) for array in (x, y)]
    # Through the library's own address: cffi's wrapper would be a call into Python.
    run = ours.ffi.addressof(ours.lib, f"all_{name}")
    rounds = [ours.lib.cycles(run, len(x), *buffers) for _ in range(500)]
    return float(np.quantile(rounds, 0.1)) * LANES


def main() -> None:
    """Print a table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=tuple(TYPES), default="float32")
    dtype = parser.parse_args().dtype
    with Progress() as progress:
        rows = measured(dtype, progress)
    table = Table("function", "largest error (ulp)", "at", f"cycles per {LANES}", title=dtype)
    for name, row in rows.items():
        table.add_row(name, f"{row['ulp']:.3f}", f"{row['at']:.9g}", f"{row[f'cycles_per_{LANES}']:.1f}")
    Console().print(table)
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(kept | {dtype: rows}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
