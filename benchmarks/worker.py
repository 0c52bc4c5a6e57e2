"""One process of the benchmark: gategen beside one library. ``python -m benchmarks.worker`` reads a `Job`."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any

from benchmarks.cells import CELLS
from benchmarks.contenders import Contender, Disagreement, Problem, compare, gategen
from benchmarks.peak import at_the_peak, measure
from benchmarks.plan import OURSELVES, PEERS, Case, Job
from benchmarks.results import Result
from benchmarks.shapes import Shape
from benchmarks.timing import interleaved

_MODULES = {"torch": "torch_peers", "jax": "jax_peer", "onnxruntime": "onnx_peer"}
_WARM_UP = 2
"""TorchScript watches the first call and optimises in the second."""
DISAGREED = 3
"""Exit status when a peer computes something else than gategen."""


def environment(threads: int) -> dict[str, str]:
    """The variables that tell the libraries of a worker about threads."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), str(threads))
    eigen = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    return {**os.environ, **counts, "XLA_FLAGS": eigen, "JAX_PLATFORMS": "cpu"}


def main() -> None:
    """Print the machine's limits and then every result, one JSON object a line."""
    fields = json.load(sys.stdin)
    cases = [Case(c["cell"], Shape(*c["shape"]), c["peers"]) for c in fields.pop("cases")]
    job = Job(**fields, cases=cases)
    if hasattr(os, "sched_setaffinity"):
        # XLA starts a thread for every processor it may use; the bound is the same for everybody.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    _say(dict(zip(("peak", "bandwidth"), measure(job.threads), strict=True)))
    try:
        for case in job.cases:
            for result in compete(case, job):
                _say(asdict(result))
    except Disagreement as error:
        print(error, file=sys.stderr)
        sys.exit(DISAGREED)


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def compete(case: Case, job: Job) -> Iterator[Result]:
    """Time gategen and its peers on one cell at one shape.

    Raises:
        Disagreement: A peer computes something else.
    """
    problem = Problem(CELLS[case.cell], case.shape)
    ours = gategen(problem, job.threads)
    names = list(dict.fromkeys(peer for peers in case.peers.values() for peer in peers))
    theirs = {name: _contender(name, problem, job) for name in names}
    for mode, peers in case.peers.items():
        field = {"gategen": ours, **{peer: theirs[peer] for peer in peers}}
        found = {}
        for name, contender in field.items():
            for _ in range(_WARM_UP):
                result = contender.passes()[mode]()
            found[name] = contender.read(result)
        for peer in peers:
            if peer != "aligned":
                where = f"{PEERS[peer]} on {case.cell} at {case.shape}, {mode}"
                compare(found["gategen"], found[peer], where)
        del found, result
        calls = {name: contender.passes()[mode] for name, contender in field.items()}
        times = interleaved(calls, job.rounds, settle=job.threads > 1)
        for peer in peers:
            yield _result(case, mode, job.threads, peer, times["gategen"], times[peer])


def _contender(peer: str, problem: Problem, job: Job) -> Contender:
    if peer == "peak":
        return at_the_peak(problem, job.threads)
    if peer in OURSELVES:
        shape = problem.shape.aligned if peer == "aligned" else problem.shape
        dtype = "float64" if peer == "float64" else "float32"
        return gategen(Problem(problem.cell, shape, dtype), job.threads)
    module = import_module(f"benchmarks.{_MODULES[job.library]}")
    contender: Contender = module.contender(peer, problem, job.threads)
    return contender


def _result(case: Case, mode: str, threads: int, peer: str, ours: list[float], theirs: list[float]) -> Result:
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    medians = statistics.median(ours), statistics.median(theirs)
    return Result(case.cell, case.shape, mode, threads, peer, *medians, ratio, len(ours))


if __name__ == "__main__":
    main()
