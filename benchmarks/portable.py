"""How fast the portable kernels are against the NumPy reference. ``python -m benchmarks.portable``.

Times are medians of rounds in which C and NumPy take turns; GF/s counts the multiply-adds of the matrix
products alone, two operations each, and twice as many in the backward pass.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import gategen as gg

SIZES = ((100, 1, 64, 64), (100, 32, 64, 64))
PASSES = ("forward", "training forward", "backward")
BACKENDS = ("c-portable", "numpy")


def passes(T: int, B: int, I: int, H: int) -> tuple[float, dict[str, dict[str, float]]]:  # noqa: E741
    """Multiply-adds of a forward pass, and seconds by pass and back end."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, B, I)).astype("float32")
    d_h = rng.standard_normal((T, B, H)).astype("float32")
    kernels = {backend: gg.compile("lstm", "float32", backend) for backend in BACKENDS}
    params = kernels["numpy"].init({"x": I, "h": H}, seed=0)
    times: dict[str, dict[str, list[float]]] = {name: {b: [] for b in BACKENDS} for name in PASSES}
    for _ in range(max(7, min(101, 20_000 // (T * B)))):
        for backend, kernel in kernels.items():
            began = time.perf_counter()
            kernel.forward(x, params)
            plain = time.perf_counter()
            run = kernel.forward(x, params, train=True)
            trained = time.perf_counter()
            kernel.backward(run, {"h": d_h})
            done = time.perf_counter()
            for name, seconds in zip(PASSES, (plain - began, trained - plain, done - trained), strict=True):
                times[name][backend].append(seconds)
    medians = {n: {b: statistics.median(t) for b, t in own.items()} for n, own in times.items()}
    return T * B * 4.0 * H * (I + H), medians


def main() -> None:
    """Print medians, ratios and rates."""
    for size in SIZES:
        products, medians = passes(*size)
        print(f"LSTM float32, (T, B, I, H) = {size}")
        for name, seconds in medians.items():
            ours, numpy = (seconds[backend] for backend in BACKENDS)
            rate = (4 if name == "backward" else 2) * products / ours / 1e9
            print(
                f"  {name:17} C {ours * 1e3:8.3f} ms  NumPy {numpy * 1e3:8.3f} ms"
                f"  {numpy / ours:5.1f} times as fast  {rate:5.1f} GF/s"
            )


if __name__ == "__main__":
    main()
