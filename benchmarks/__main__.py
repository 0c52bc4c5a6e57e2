"""gategen beside PyTorch, JAX and onnxruntime: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import plan, tables, worker
from benchmarks.cells import CELLS
from benchmarks.results import Machine, Report, Result
from benchmarks.shapes import MODES, QUICK, SHAPES, parse_shape

_ROUNDS, _QUICK_ROUNDS = 11, 3
_WIDTH = 140


class WorkerFailed(Exception):
    """A process of the benchmark stopped; what it said is above."""


def measured(jobs: Sequence[plan.Job], console: Console) -> Report:
    """Run the jobs one after the other.

    Raises:
        WorkerFailed: A process failed, or a peer disagrees with gategen.
    """
    machine = Machine.here()
    results: list[Result] = []
    with Progress(console=console, transient=True) as progress:
        total = sum(len(peers) for job in jobs for case in job.cases for peers in case.peers.values())
        bar = progress.add_task("", total=total)
        for job in jobs:
            progress.update(bar, description=f"{job.library}, threads: {job.threads}")
            for line in _lines(job):
                fields = json.loads(line)
                if "peak" in fields:
                    machine.raise_peak(job.threads, **fields)
                else:
                    results.append(Result.from_json(fields))
                    progress.advance(bar)
    return Report(machine, tuple(results))


def _lines(job: plan.Job) -> Iterable[str]:
    """What the worker of a job prints, as it does."""
    command = [sys.executable, "-m", "benchmarks.worker"]
    environment = worker.environment(job.threads)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        with process.stdin as stream:
            json.dump(asdict(job), stream)
        yield from process.stdout
    if process.returncode:
        disagreed = process.returncode == worker.DISAGREED
        why = "a peer computes something else" if disagreed else f"exit status {process.returncode}"
        raise WorkerFailed(f"the benchmark against {job.library} stopped: {why}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    cells: Mapping[str, Any] = {"choices": list(CELLS), "metavar": "CELL", "help": ", ".join(CELLS)}
    parser.add_argument("--cells", nargs="+", default=list(CELLS), **cells)
    names = ", ".join(f"{name} ({shape})" for name, shape in SHAPES.items())
    parser.add_argument("--shapes", nargs="+", metavar="SHAPE", help=f"T,B,I,H, or a name of: {names}")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    peers: Mapping[str, Any] = {"choices": list(plan.PEERS), "metavar": "PEER", "help": ", ".join(plan.PEERS)}
    parser.add_argument("--peers", nargs="+", default=list(plan.PEERS), **peers)
    parser.add_argument("--rounds", type=int, metavar="N", help=f"turns of each contender, {_ROUNDS}")
    quick = f"the shapes {' and '.join(QUICK)} in {_QUICK_ROUNDS} rounds"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="draw ratios and roofline")
    summary = "print the geometric means as Markdown, and nothing else"
    parser.add_argument("--markdown", action="store_true", help=summary)
    again = "show, and plot, what --json wrote on one machine, and measure nothing"
    parser.add_argument("--from", dest="sources", nargs="+", type=Path, metavar="JSON", help=again)
    options = parser.parse_args(arguments)
    try:
        options.shapes = [parse_shape(n) for n in options.shapes or (QUICK if options.quick else SHAPES)]
    except ValueError as error:
        parser.error(str(error))
    if min(options.threads) < 1 or (options.rounds is not None and options.rounds < 1):
        parser.error("threads and rounds are at least 1")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib")
    options.rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or read what was measured; then print, write and draw it."""
    options = _options(arguments)
    console = Console()
    # The widest table needs this much; a narrower terminal wraps it.
    console.width = max(console.width, _WIDTH)
    if options.sources:
        report = Report.merged([Report.read(source) for source in options.sources])
    else:
        lost = plan.missing(options.peers)
        for library, peers in lost.items():
            console.print(f"{library} is not installed: left out {', '.join(plan.PEERS[p] for p in peers)}")
        left_out = {peer for peers in lost.values() for peer in peers}
        peers = [peer for peer in options.peers if peer not in left_out]
        jobs = plan.jobs(options.cells, options.shapes, options.modes, peers, options.threads, options.rounds)
        if not jobs:
            sys.exit("error: none of these peers has any of these cells at these shapes")
        try:
            report = measured(jobs, Console(stderr=True))
        except WorkerFailed as error:
            sys.exit(f"error: {error}")
    if options.json:
        report.write(options.json)
    if options.markdown:
        print(tables.markdown(report))
    else:
        tables.show(report, console)
    if options.plot:
        from benchmarks.plots import draw

        draw(report, options.plot)


if __name__ == "__main__":
    main()
