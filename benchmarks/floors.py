"""Classes of cases: geometric means over them, and the ratio that each must not fall below."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.cells import OTHERS
from benchmarks.plan import PEERS
from benchmarks.results import Result, by_case
from benchmarks.shapes import MODES

_NO_LIMIT = 1_000_000
_ANY = (1, _NO_LIMIT)
_SINGLE, _ROWS, _MANY = (1, 1), (16, 128), (16, _NO_LIMIT)
_TO_64, _TO_128, _FROM_256, _FROM_512 = (1, 64), (1, 128), (256, _NO_LIMIT), (512, _NO_LIMIT)
_LSTM, _GRU = ("lstm",), ("gru_reset_after",)
_BY_HAND = ("eager", "script")

Range = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """Cases that are judged together.

    Attributes:
        title: What the cells are called together.
        cells: Of these cells.
        peers: Against the best of these.
        batch: Least and largest B.
        units: Least and largest H.
        modes: Of these modes.
        floors: By mode the ratio with one thread and with two; 0 asks nothing.
    """

    title: str
    cells: tuple[str, ...]
    peers: tuple[str, ...]
    batch: Range = _ANY
    units: Range = _ANY
    modes: tuple[str, ...] = MODES
    floors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

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
        return [min(peers.values(), key=lambda r: r.ratio) for peers in by_case(own).values()]


def _range(name: str, limits: Range) -> str:
    least, most = limits
    if limits == _ANY:
        return ""
    if least == most:
        return f"{name} = {least}"
    if most == _NO_LIMIT:
        return f"{name} ≥ {least}"
    return f"{name} ≤ {most}" if least == 1 else f"{name} {least} to {most}"


CLASSES = (
    Group("LSTM", _LSTM, ("nn",)),
    Group("LSTM", _LSTM, ("nn",), _SINGLE, _TO_64),
    Group("LSTM", _LSTM, ("nn",), _MANY, modes=("training",)),
    Group("GRU", _GRU, ("nn",)),
    Group("GRU", _GRU, ("nn",), _SINGLE),
    Group("LSTM and GRU", _LSTM + _GRU, ("onnxruntime",)),
    Group("LSTM and GRU", _LSTM + _GRU, ("jax",)),
    Group("other cells", OTHERS, _BY_HAND),
    Group("other cells", OTHERS, ("jax",)),
)
"""The classes whose geometric means sum a run up."""

_Floors = tuple[float, float]
_NONE = (0.0, 0.0)


def _floors(
    title: str, cells: tuple[str, ...], peers: tuple[str, ...], *rows: tuple[Range, Range, _Floors, _Floors]
) -> tuple[Group, ...]:
    """A group for every row of B, H, and the floors of forward and training with one and two threads."""
    return tuple(
        Group(title, cells, peers, batch, units, floors=dict(zip(MODES, floors, strict=True)))
        for batch, units, *floors in rows
    )


FLOORS = (
    *_floors(
        "LSTM",
        _LSTM,
        ("nn",),
        (_SINGLE, _TO_64, (1.8, 3), (2.2, 3)),
        (_SINGLE, (128, 256), (1.2, 1.4), (1.2, 1.5)),
        (_SINGLE, _FROM_512, (1, 1), (1, 1.1)),
        (_ROWS, _TO_128, (1.1, 1.2), (1.15, 1.3)),
        (_MANY, (256, 256), (1.05, 1.05), (1.15, 1.15)),
        (_MANY, _FROM_512, (1, 1), (1, 1)),
    ),
    *_floors("LSTM", _LSTM, ("onnxruntime",), (_ANY, _ANY, (1, 1), _NONE)),
    *_floors("LSTM", _LSTM, ("jax",), (_MANY, _ANY, (1.5, 2), (1.5, 2))),
    *_floors(
        "GRU",
        _GRU,
        ("nn",),
        (_SINGLE, _TO_64, (10, 15), (20, 40)),
        (_ROWS, _TO_128, (1.7, 2.2), (1.7, 2.2)),
        (_MANY, _FROM_256, (1.5, 1.6), (1.4, 1.5)),
    ),
    *_floors("GRU", _GRU, ("jax",), (_SINGLE, _ANY, (3, 0), (2.5, 0)), (_MANY, _ANY, _NONE, (1.4, 1.8))),
    *_floors(
        "GRU", _GRU, ("onnxruntime",), (_SINGLE, _ANY, (1.4, 0), _NONE), (_MANY, _ANY, (1.15, 1.2), _NONE)
    ),
    *_floors(
        "other cells",
        OTHERS,
        _BY_HAND,
        (_SINGLE, _TO_64, (6, 10), (12, 25)),
        (_ROWS, _TO_128, (1.7, 2.5), (1.6, 2)),
        (_MANY, _FROM_256, (1.5, 1.8), (1.4, 1.8)),
    ),
    *_floors(
        "other cells",
        OTHERS,
        ("jax",),
        (_SINGLE, _TO_64, (1.3, 1.5), (1.5, 2)),
        (_MANY, _ANY, (1.4, 1.8), (1.4, 1.8)),
    ),
)
"""What must hold in every single case."""


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios: half and double cancel out."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logarithms) / len(logarithms))


@dataclass(frozen=True)
class Miss:
    """A case below its floor."""

    group: Group
    result: Result
    floor: float


def missed(results: Iterable[Result], groups: Iterable[Group] = FLOORS) -> list[Miss]:
    """The cases below their floors; more than two threads are held to the floors of two."""
    results = list(results)
    found = []
    for threads in sorted({result.threads for result in results}):
        for group in groups:
            for result in group.worst(results, threads):
                floor = group.floors[result.mode][min(threads, 2) - 1]
                if result.ratio < floor:
                    found.append(Miss(group, result, floor))
    return found
