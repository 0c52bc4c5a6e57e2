"""Classes of cases: what their geometric means aim at, and what no case must fall below."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.cells import CELLS, OTHERS
from benchmarks.plan import PEERS
from benchmarks.results import Result, by_case
from benchmarks.shapes import MODES

_NO_LIMIT = 1_000_000
_ANY = (1, _NO_LIMIT)
_SINGLE, _MANY = (1, 1), (16, _NO_LIMIT)
_SMALL, _MIDDLE, _WIDE = (1, 64), (64, 128), (256, _NO_LIMIT)
_LSTM, _GRU, _ALL = ("lstm",), ("gru_reset_after",), tuple(CELLS)
_BY_HAND, _PEAK = ("eager", "script"), ("peak",)

Range = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """Cases that are judged together, by ratios to peers or by shares of the peak.

    Attributes:
        title: What the cells are called together.
        cells: Of these cells.
        peers: Against the best of these.
        batch: Least and largest B.
        units: Least and largest H.
        modes: Of these modes.
        threads: With so many threads; more than two count as two.
        floor: What every case must reach; 0 asks nothing.
        goal: What the geometric mean over the cases should reach; 0 asks nothing.
    """

    title: str
    cells: tuple[str, ...]
    peers: tuple[str, ...]
    batch: Range = _ANY
    units: Range = _ANY
    modes: tuple[str, ...] = MODES
    threads: tuple[int, ...] = (1, 2)
    floor: float = 0.0
    goal: float = 0.0

    def __str__(self) -> str:
        modes = "" if self.modes == MODES else self.modes[0]
        parts = (self.title, _range("B", self.batch), _range("H", self.units), modes)
        return ", ".join(part for part in parts if part)

    @property
    def opponents(self) -> str:
        """The peers as the tables call them."""
        return " or ".join(PEERS[peer] for peer in self.peers)

    def worst(self, results: Iterable[Result], threads: int) -> list[Result]:
        """For every case of this group its least favourable result."""
        if min(threads, 2) not in self.threads:
            return []
        own = [
            result
            for result in results
            if result.cell in self.cells
            and result.peer in self.peers
            and result.mode in self.modes
            and result.threads == threads
            and self.batch[0] <= result.shape.batch <= self.batch[1]
            and self.units[0] <= result.shape.units <= self.units[1]
        ]
        return [min(peers.values(), key=lambda result: result.ratio) for peers in by_case(own).values()]


def _range(name: str, limits: Range) -> str:
    least, most = limits
    if limits == _ANY:
        return ""
    if least == most:
        return f"{name} = {least}"
    if most == _NO_LIMIT:
        return f"{name} ≥ {least}"
    return f"{name} ≤ {most}" if least == 1 else f"{name} {least} to {most}"


_FORWARD, _TRAINING = ("forward",), ("training",)
RATIOS = (
    Group("LSTM", _LSTM, ("nn",), floor=0.97, goal=1.3),
    Group("LSTM", _LSTM, ("nn",), _SINGLE, _SMALL, floor=2, goal=3),
    Group("LSTM", _LSTM, ("nn",), _MANY, modes=_TRAINING, goal=1.3),
    Group("GRU", _GRU, ("nn",), floor=1.4, goal=4),
    Group("GRU", _GRU, ("nn",), _SINGLE, _SMALL, _FORWARD, floor=12),
    Group("GRU", _GRU, ("nn",), _SINGLE, _SMALL, _TRAINING, floor=25),
    Group("LSTM and GRU", _LSTM + _GRU, ("onnxruntime",), floor=1, goal=1.3),
    Group("LSTM and GRU", _LSTM + _GRU, ("jax",)),
    Group("other cells", OTHERS, _BY_HAND, floor=1.5),
    Group("other cells", OTHERS, _BY_HAND, _SINGLE, _SMALL, floor=8),
    Group("other cells", OTHERS, ("jax",), floor=1.3),
)
"""Peer time / gategen time."""

SHARES = (
    Group("all cells", _ALL, _PEAK, _MANY, _WIDE, _FORWARD, (1,), floor=0.85),
    Group("all cells", _ALL, _PEAK, _MANY, _WIDE, _TRAINING, (1,), floor=0.80),
    Group("all cells", _ALL, _PEAK, _MANY, _WIDE, threads=(2,), floor=0.78),
    Group("all cells", _ALL, _PEAK, _MANY, _MIDDLE, threads=(1,), floor=0.70),
)
"""Time of the multiply-adds alone / gategen time: the share of the peak."""

ITSELF = (
    # An odd width takes at most 1.05 times the time of the next multiple of 16.
    Group("odd widths", _ALL, ("aligned",), floor=1 / 1.05),
    Group("double precision", _ALL, ("float64",), goal=0.45),
)
"""Speed at the odd width / at the next multiple of 16; speed in float64 / in float32."""


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios: half and double cancel out."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logarithms) / len(logarithms))


@dataclass(frozen=True)
class Miss:
    """A case below its floor, or a class whose mean is below its goal.

    Attributes:
        group: The class.
        threads: How many.
        found: Ratio or share.
        wanted: The floor or the goal.
        result: The case; none where it is the mean.
    """

    group: Group
    threads: int
    found: float
    wanted: float
    result: Result | None


def missed(results: Iterable[Result]) -> list[Miss]:
    """What falls short of a floor or a goal."""
    results = list(results)
    found = []
    for threads in sorted({result.threads for result in results}):
        for group in (*RATIOS, *SHARES, *ITSELF):
            worst = group.worst(results, threads)
            figures = [figure(group, result) for result in worst]
            for result, reached in zip(worst, figures, strict=True):
                if reached < group.floor:
                    found.append(Miss(group, threads, reached, group.floor, result))
            if figures and geometric_mean(figures) < group.goal:
                found.append(Miss(group, threads, geometric_mean(figures), group.goal, None))
    return found


def figure(group: Group, result: Result) -> float:
    """What a group looks at."""
    return 1 / result.ratio if group.peers == ("float64",) else result.ratio
