"""What a person waits for: a cold and a warm compile, and the help text. ``python -m benchmarks.startup``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 7
COMPILE = "import numpy, gategen; gategen.compile('lstm')"
CASES = {
    "import numpy": ["-c", "import numpy"],
    "warm compile": ["-c", COMPILE],
    "gategen --help": ["-m", "gategen", "--help"],
}


def seconds(arguments: list[str], cache: str) -> float:
    """The wall time of one Python process."""
    environment = {**os.environ, "GATEGEN_CACHE_DIR": cache}
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print medians of interleaved runs."""
    cold = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds(["-c", COMPILE], cache))
    with tempfile.TemporaryDirectory() as cache:
        seconds(CASES["warm compile"], cache)
        times: dict[str, list[float]] = {name: [] for name in CASES}
        for _ in range(ROUNDS):
            for name, arguments in CASES.items():
                times[name].append(seconds(arguments, cache))
    medians = {"cold compile": statistics.median(cold)}
    medians |= {name: statistics.median(runs) for name, runs in times.items()}
    for name, median in medians.items():
        print(f"{name:<16} {median:6.3f} s")
    beyond = medians["warm compile"] - medians["import numpy"]
    print(f"warm compile beyond numpy {beyond:.3f} s")


if __name__ == "__main__":
    main()
