"""Contenders in turns, so that a busy machine is unfair to none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Call = Callable[[], object]

_PAUSE = 0.06
_SHORTEST = 0.003
_BUDGET = 20.0
_FEWEST = 3


def interleaved(calls: Mapping[str, Call], rounds: int, settle: bool) -> dict[str, list[float]]:
    """Seconds per call of every contender, one figure a round; all have run before.

    Args:
        calls: The contenders in the order of their turns.
        rounds: Turns of each; slow ones get fewer, but three at least.
        settle: Whether to pause before every turn and then run once untimed. The threads of the
            contender before still spin for a while, and those of the next have gone to sleep.
    """
    repeats = {n: max(1, int(_SHORTEST / max(_seconds(call, 1), 1e-7))) for n, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for done in range(rounds):
        if done >= _FEWEST and time.perf_counter() - began > _BUDGET:
            break
        for name, call in calls.items():
            if settle:
                time.sleep(_PAUSE)
                call()
            times[name].append(_seconds(call, repeats[name]))
    return times


def _seconds(call: Call, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat
