"""Which contenders meet where, and in which processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.cells import CELLS
from benchmarks.shapes import Shape

PEERS = {
    "nn": "torch.nn",
    "eager": "eager",
    "script": "TorchScript",
    "jax": "JAX",
    "onnxruntime": "onnxruntime",
    "float64": "gategen in float64",
    "aligned": "gategen at the next multiple of 16",
    "peak": "the peak",
}
OURSELVES = ("float64", "aligned")

# One process each: the spinning threads of several libraries disturb one another.
LIBRARIES = {
    "torch": ("nn", "eager", "script"),
    "jax": ("jax",),
    "onnxruntime": ("onnxruntime",),
    "gategen": (*OURSELVES, "peak"),
}
RIVALS = tuple(peer for peer in PEERS if peer not in LIBRARIES["gategen"])
_NEEDS = {"onnxruntime": ("onnxruntime", "onnx")}


@dataclass(frozen=True)
class Case:
    """One cell at one shape, and who competes there, by mode."""

    cell: str
    shape: Shape
    peers: dict[str, list[str]]


@dataclass(frozen=True)
class Job:
    """What one process does."""

    library: str
    threads: int
    rounds: int
    cases: list[Case]


def missing(peers: Iterable[str]) -> dict[str, list[str]]:
    """By library that is not installed: the peers that are left out for it."""
    lost = {}
    for library, own in LIBRARIES.items():
        absent = [name for name in _NEEDS.get(library, (library,)) if find_spec(name) is None]
        if absent and set(own) & set(peers):
            lost[" and ".join(absent)] = [peer for peer in own if peer in peers]
    return lost


def jobs(
    cells: Sequence[str],
    shapes: Sequence[Shape],
    modes: Sequence[str],
    peers: Sequence[str],
    threads: Sequence[int],
    rounds: int,
) -> list[Job]:
    """The processes to run, one after the other."""
    found = []
    for count in threads:
        for library, own in LIBRARIES.items():
            wanted = [peer for peer in own if peer in peers]
            cases = [_case(cell, shape, modes, wanted) for cell in cells for shape in shapes]
            cases = [case for case in cases if case.peers]
            if cases:
                found.append(Job(library, count, rounds, cases))
    return found


def _case(cell: str, shape: Shape, modes: Sequence[str], peers: Sequence[str]) -> Case:
    by_mode = {mode: [peer for peer in peers if _meets(peer, cell, shape, mode)] for mode in modes}
    return Case(cell, shape, {mode: own for mode, own in by_mode.items() if own})


def _meets(peer: str, cell: str, shape: Shape, mode: str) -> bool:
    """Whether a peer has the cell, and whether the comparison says anything at this shape."""
    standard = bool(CELLS[cell].module)
    if peer == "aligned":
        return shape.odd and standard
    if peer == "peak":
        return standard or not shape.odd
    if shape.odd:
        return False
    if peer == "onnxruntime":
        return standard and mode == "forward"
    return standard or peer not in ("nn", "float64")
