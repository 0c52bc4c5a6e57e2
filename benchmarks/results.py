"""What was measured, and its form as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.shapes import Shape, flops
from gategen.runtime import build

_PACKAGES = ("gategen", "numpy", "torch", "jax", "jaxlib", "onnxruntime")


@dataclass(frozen=True)
class Result:
    """gategen beside one peer, both from the same rounds.

    Attributes:
        cell: A name in `CELLS`.
        shape: T, B, I, H.
        mode: ``forward`` or ``training``.
        threads: Of both.
        peer: A name in `PEERS`.
        ours: Median seconds of gategen.
        theirs: Median seconds of the peer.
        ratio: Median over the rounds of the peer's time over ours: above 1 gategen is the faster one.
        rounds: How often each was timed.
    """

    cell: str
    shape: Shape
    mode: str
    threads: int
    peer: str
    ours: float
    theirs: float
    ratio: float
    rounds: int

    @property
    def case(self) -> tuple[str, Shape, str, int]:
        """Everything but the peer."""
        return self.cell, self.shape, self.mode, self.threads

    def rate(self, seconds: float) -> float:
        """GFLOP/s of a time."""
        return flops(self.cell, self.shape, self.mode) / seconds / 1e9

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Result:
        """The result that `asdict` and JSON turned into ``fields``."""
        return cls(**{**fields, "shape": Shape(*fields["shape"])})


@dataclass(frozen=True)
class Machine:
    """Where the times come from: no names of hosts, no paths, no dates.

    Attributes:
        processor: Its model.
        compiler: First line of its version.
        versions: Of Python and every library that is installed.
        peak: GFLOP/s of float32 multiply-adds on registers, by threads.
        bandwidth: GB/s out of the second-level cache, by threads.
    """

    processor: str
    compiler: str
    versions: dict[str, str]
    peak: dict[int, float] = field(default_factory=dict)
    bandwidth: dict[int, float] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Machine:
        """This machine, not measured yet."""
        compiler = build.find_compiler()
        versions = {"python": platform.python_version()}
        for package in _PACKAGES:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        return cls(_processor(), compiler.version.splitlines()[0] if compiler else "none", versions)

    def raise_peak(self, threads: int, peak: float, bandwidth: float) -> None:
        """Keep the best of several measurements: a machine is never faster than it is."""
        self.peak[threads] = max(peak, self.peak.get(threads, 0.0))
        self.bandwidth[threads] = max(bandwidth, self.bandwidth.get(threads, 0.0))


@dataclass(frozen=True)
class Report:
    """A machine and what was measured on it."""

    machine: Machine
    results: tuple[Result, ...]

    def write(self, path: Path) -> None:
        """Write everything as JSON, a result a line."""
        rows = ",\n".join(json.dumps(asdict(result)) for result in self.results)
        machine = json.dumps(asdict(self.machine))
        path.write_text(f'{{"machine": {machine},\n"results": [\n{rows}\n]}}\n', encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what `write` wrote."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        machine = fields["machine"]
        for name in ("peak", "bandwidth"):
            machine[name] = {int(threads): figure for threads, figure in machine[name].items()}
        return cls(Machine(**machine), tuple(Result.from_json(result) for result in fields["results"]))

    @classmethod
    def merged(cls, reports: Sequence[Report]) -> Report:
        """Several runs on one machine as one; what was measured twice counts as in the last."""
        last = reports[-1].machine
        machine = replace(last, peak=dict(last.peak), bandwidth=dict(last.bandwidth))
        for report in reports:
            for threads, peak in report.machine.peak.items():
                machine.raise_peak(threads, peak, report.machine.bandwidth[threads])
        results = {(result.case, result.peer): result for report in reports for result in report.results}
        return cls(machine, tuple(results.values()))

    def cases(self) -> dict[tuple[str, Shape, str, int], dict[str, Result]]:
        """The results by case and peer."""
        return by_case(self.results)


def by_case(results: Iterable[Result]) -> dict[tuple[str, Shape, str, int], dict[str, Result]]:
    """Results by case, then by peer."""
    found: dict[tuple[str, Shape, str, int], dict[str, Result]] = {}
    for result in results:
        found.setdefault(result.case, {})[result.peer] = result
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
