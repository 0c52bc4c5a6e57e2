"""What the machine can do at best: multiply-adds in registers, and reading weights out of the cache."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contenders import Contender, Problem
from benchmarks.shapes import flops
from gategen.runtime import build, team

_CDEF = """
int gg_lanes(void);
int64_t gg_multiply_add(void *team, int64_t rounds, float factor, float addend, float *sums);
int64_t gg_read(void *team, int64_t rounds, const float *weights, int64_t count, float *sums);
"""

SOURCE = """
#include <stddef.h>
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

/* The threads of kernels, as those declare them. */
typedef struct gg_team {
    int64_t size;
    void (*run)(struct gg_team *team, void (*part)(void *call, int64_t rank), void *call);
    void (*wait)(struct gg_team *team);
} gg_team;

/* Twelve chains hide the latency, and with two operands they fit into sixteen registers. */
#define ALL(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define START(n) V v##n = {0}; v##n += (float)n;
#define ADD(n) total += v##n;
#define STEP(n) v##n = v##n * f + a;
#define LOAD(n) v##n += f * ((const V *)p)[n];

int gg_lanes(void) { return LANES; }

typedef struct {
    int64_t rounds;
    float factor, addend; /* a compiler that knew them would find the chain that stands still */
    const float *weights; /* of rank 0; those of the next lie behind them */
    int64_t count;
    float *sums;
} gg_call;

/* Otherwise the compiler leaves the loop out. */
static void keep(const gg_call *call, int64_t rank, V v)
{
    float sum = 0;
    for (int n = 0; n < LANES; ++n) sum += v[n];
    call->sums[rank] = sum;
}

static void multiply_add(void *given, int64_t rank)
{
    const gg_call *call = given;
    V f = {0}, a = {0}, total = {0};
    f += call->factor;
    a += call->addend;
    ALL(START)
    for (int64_t round = 0; round < call->rounds; ++round) { ALL(STEP) }
    ALL(ADD)
    keep(call, rank, total);
}

static void read_weights(void *given, int64_t rank)
{
    const gg_call *call = given;
    const float *weights = call->weights + rank * call->count;
    V f = {0}, total = {0};
    f += call->factor;
    ALL(START)
    for (int64_t round = 0; round < call->rounds; ++round) {
        for (const float *p = weights; p < weights + call->count; p += 12 * LANES) { ALL(LOAD) }
        /* Otherwise the compiler reads once. */
        __asm__ volatile("" ::: "memory");
    }
    ALL(ADD)
    keep(call, rank, total);
}

/* The number of threads that did it. */
static int64_t run(gg_team *team, void (*part)(void *call, int64_t rank), gg_call call)
{
    if (!team) {
        part(&call, 0);
        return 1;
    }
    team->run(team, part, &call);
    return team->size;
}

int64_t gg_multiply_add(void *team, int64_t rounds, float factor, float addend, float *sums)
{
    return run(team, multiply_add, (gg_call){rounds, factor, addend, NULL, 0, sums});
}

int64_t gg_read(void *team, int64_t rounds, const float *weights, int64_t count, float *sums)
{
    return run(team, read_weights, (gg_call){rounds, 0.5f, 0, weights, count, sums});
}
"""

_CHAINS = 12
_WEIGHTS = 12 * 16 * 512
"""What a thread reads again and again: 384 KiB, too much for a first-level cache and little for a second."""
_SECONDS = 0.02
_TRIES = 9


class Loops:
    """The loops, run by all threads of a team at once."""

    def __init__(self, threads: int) -> None:
        library = build.load(build.build(SOURCE, _CDEF, flags=build.FAST, name="peak"))
        self._ffi: Any = library.ffi
        self._lib: Any = library.lib
        self._threads = threads
        self._weights = self._ffi.from_buffer("float[]", np.zeros(threads * _WEIGHTS, np.float32))
        self._sums = self._ffi.new("float[]", threads)
        self.operations = 2 * _CHAINS * self._lib.gg_lanes()
        """Of a round of a thread; a multiply-add is two."""

    def multiply_add(self, rounds: int) -> None:
        """Multiply-adds on registers."""
        self._run(self._lib.gg_multiply_add, rounds, 0.5, 1.0, self._sums)

    def read(self, rounds: int) -> None:
        """Every thread reads its weights."""
        self._run(self._lib.gg_read, rounds, self._weights, _WEIGHTS, self._sums)

    def _run(self, loop: Callable[..., int], *arguments: object) -> None:
        members = team.take(self._threads)
        try:
            ran = loop(self._ffi.NULL if members is None else members, *arguments)
        finally:
            team.give_back(members)
        if ran != self._threads:
            raise RuntimeError(f"the system gives {ran} threads where {self._threads} are wanted")


def measure(threads: int) -> tuple[float, float]:
    """GFLOP/s of multiply-adds on registers and GB/s from the second-level cache, of all threads together."""
    loops = Loops(threads)

    def best(loop: Callable[[int], None]) -> float:
        """Rounds per second of a thread, while nothing disturbs them."""
        rounds = 1
        while (seconds := _seconds(loop, rounds)) < _SECONDS:
            rounds *= 2
        return rounds / min(seconds, *(_seconds(loop, rounds) for _ in range(_TRIES)))

    multiplied = threads * loops.operations * best(loops.multiply_add)
    return multiplied / 1e9, threads * 4 * _WEIGHTS * best(loops.read) / 1e9


def _seconds(loop: Callable[[int], None], rounds: int) -> float:
    start = time.perf_counter()
    loop(rounds)
    return time.perf_counter() - start


def at_the_peak(problem: Problem, threads: int) -> Contender:
    """As many multiply-adds as the products of a problem need, on registers: nothing could be faster.

    The clock of a processor changes with what its neighbours do, so that a share of the peak means something
    only if the peak has its turns beside the cell.
    """
    loops = Loops(threads)

    def call(mode: str) -> Callable[[], None]:
        operations = flops(problem.cell.name, problem.shape, mode)
        return partial(loops.multiply_add, math.ceil(operations / (loops.operations * threads)))

    return Contender(call("forward"), call("training"), lambda _: {})
