"""What the machine can do at best: multiply-adds in registers, and reading weights out of the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gategen.runtime import build

_CDEF = """
int gg_lanes(void);
float gg_multiply_add(int64_t rounds, float factor, float addend);
float gg_read(int64_t rounds, const float *weights, int64_t count);
"""

_SOURCE = """
#include <stdint.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float V __attribute__((vector_size(BYTES), aligned(4), may_alias));
enum { LANES = BYTES / 4 };

/* Twelve chains hide the latency, and with two operands they fit into sixteen registers. */
#define ALL(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define START(n) V v##n = {0}; v##n += (float)n;
#define ADD(n) total += v##n;
#define STEP(n) v##n = v##n * f + a;
#define LOAD(n) v##n += f * ((const V *)p)[n];

int gg_lanes(void) { return LANES; }

static float sum(V v) {
    float result = 0;
    for (int n = 0; n < LANES; ++n) result += v[n];
    return result;
}

float gg_multiply_add(int64_t rounds, float factor, float addend) {
    V f = {0}, a = {0}, total = {0};
    f += factor;
    a += addend;
    ALL(START)
    for (int64_t round = 0; round < rounds; ++round) { ALL(STEP) }
    ALL(ADD)
    return sum(total);
}

float gg_read(int64_t rounds, const float *weights, int64_t count) {
    V f = {0}, total = {0};
    f += 0.5f;
    ALL(START)
    for (int64_t round = 0; round < rounds; ++round) {
        for (const float *p = weights; p < weights + count; p += 12 * LANES) { ALL(LOAD) }
        /* Otherwise the compiler reads once. */
        __asm__ volatile("" ::: "memory");
    }
    ALL(ADD)
    return sum(total);
}
"""

_CHAINS = 12
_WEIGHTS = 12 * 16 * 512
"""What a thread reads again and again: 384 KiB, too much for a first-level cache and little for a second."""
_SECONDS = 0.02
_TRIES = 9


def measure(threads: int) -> tuple[float, float]:
    """GFLOP/s of multiply-adds on registers and GB/s from the second-level cache, of all threads together."""
    library = build.load(build.build(_SOURCE, _CDEF, flags=build.FAST, name="peak"))
    ffi: Any = library.ffi
    lib: Any = library.lib
    arrays = [np.zeros(_WEIGHTS, np.float32) for _ in range(threads)]
    weights = [ffi.from_buffer("float[]", array) for array in arrays]
    per_round = 2.0 * _CHAINS * lib.gg_lanes()
    with ThreadPoolExecutor(threads) as team:

        def best(call: Callable[[int, int], object]) -> float:
            """Rounds per second of all threads, while nothing disturbs them."""
            rounds = 1
            while (seconds := _seconds(team, threads, call, rounds)) < _SECONDS:
                rounds *= 2
            tries = [_seconds(team, threads, call, rounds) for _ in range(_TRIES)]
            return threads * rounds / min(seconds, *tries)

        multiplied = best(lambda _, rounds: lib.gg_multiply_add(rounds, 0.5, 1.0))
        read = best(lambda thread, rounds: lib.gg_read(rounds, weights[thread], _WEIGHTS))
    return multiplied * per_round / 1e9, read * _WEIGHTS * 4 / 1e9


def _seconds(
    team: ThreadPoolExecutor, threads: int, call: Callable[[int, int], object], rounds: int
) -> float:
    start = time.perf_counter()
    for done in [team.submit(call, thread, rounds) for thread in range(threads)]:
        done.result()
    return time.perf_counter() - start
