"""A report as a picture: ratios by shape, and the roofline; one row for every number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.floors import geometric_mean
from benchmarks.plan import PEERS, RIVALS
from benchmarks.results import Report, Result
from benchmarks.shapes import MODES, Shape, intensity

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; markers differ as well.
_STYLES = {
    "nn": ("#D55E00", "s"),
    "eager": ("#E69F00", "v"),
    "script": ("#CC79A7", "^"),
    "jax": ("#0072B2", "D"),
    "onnxruntime": ("#009E73", "P"),
}
_OURS = ("#000000", "o")
_GREY = "#666666"
_DODGE = 0.8
_ASIDE = 1.04


def draw(report: Report, path: Path) -> None:
    """Write the picture; the suffix of ``path`` says in which format."""
    results = [result for result in report.results if result.peer in RIVALS]
    counts = sorted({result.threads for result in results})
    rows = max(len(counts), 1)
    figure = Figure(figsize=(15, 5.6 * rows + 0.9), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), threads in zip(grid, counts, strict=False):
        own = [result for result in results if result.threads == threads]
        title = f"{threads} thread" + ("s" if threads > 1 else "")
        _ratios(left, own, title)
        _roofline(right, own, title, report.machine.peak[threads], report.machine.bandwidth[threads])
    peers = [peer for peer in _STYLES if any(result.peer == peer for result in results)]
    figure.legend(handles=_legend(peers), loc="outside lower center", ncols=len(peers) + 4, frameon=False)
    figure.savefig(path, dpi=130)


def _legend(peers: list[str]) -> list[Line2D]:
    def handle(label: str, colour: str, marker: str, filled: bool = True) -> Line2D:
        face = colour if filled else "none"
        return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, linestyle="", label=label)

    return [
        handle("gategen", *_OURS),
        *(handle(PEERS[peer], *_STYLES[peer]) for peer in peers),
        handle("forward", _GREY, "o", filled=False),
        handle("training", _GREY, "o"),
        Line2D([], [], color=_GREY, linewidth=2, label="geometric mean over the cells"),
    ]


def _ratios(axes: Axes, results: list[Result], title: str) -> None:
    """Every case as a marker, side by side for the peers of a shape, and their mean as a dash."""
    shapes = sorted({result.shape for result in results}, key=lambda s: (s.batch > 1, s.units, s))
    peers = [peer for peer in _STYLES if any(result.peer == peer for result in results)]
    step = _DODGE / max(len(peers), 1)
    for place, shape in enumerate(shapes):
        if place % 2:
            axes.axvspan(place - 0.5, place + 0.5, color="#F3F3F3", zorder=0)
        for turn, peer in enumerate(peers):
            own = [result for result in results if (result.shape, result.peer) == (shape, peer)]
            middle = place + (turn - (len(peers) - 1) / 2) * step
            for side, mode in zip((-1, 1), MODES, strict=True):
                ratios = [result.ratio for result in own if result.mode == mode]
                _markers(axes, [middle + side * step / 5] * len(ratios), ratios, peer, mode)
            if own:
                mean = geometric_mean(result.ratio for result in own)
                ends = (middle - step / 2.2, middle + step / 2.2)
                axes.plot(ends, (mean, mean), color=_STYLES[peer][0], linewidth=2, zorder=4)
    axes.axhline(1, color="black", linewidth=1, zorder=1)
    _logarithmic(axes)
    axes.set_xlim(-0.5, len(shapes) - 0.5)
    axes.set_xticks(range(len(shapes)), [_label(shape) for shape in shapes], fontsize=9)
    axes.set_ylabel("peer time / gategen time (above 1: gategen is faster)")
    axes.set_title(f"Ratio by shape, {title}")


def _label(shape: Shape) -> str:
    return f"T {shape.steps}\nB {shape.batch}\nI {shape.inputs}\nH {shape.units}"


def _markers(axes: Axes, x: list[float], y: list[float], name: str, mode: str) -> None:
    colour, marker = _STYLES.get(name, _OURS)
    face = colour if mode == "training" else "white"
    axes.scatter(
        x, y, s=26, marker=marker, facecolors=face, edgecolors=colour, linewidths=1.0, alpha=0.85, zorder=3
    )


def _roofline(axes: Axes, results: list[Result], title: str, peak: float, bandwidth: float) -> None:
    """Rates against operations per byte, under the limits of this machine; a marker is a mean over cells."""
    rates: dict[tuple[str, str, Shape], list[float]] = {}
    intensities: dict[Shape, list[float]] = {}
    for result in results:
        shape, mode = result.shape, result.mode
        intensities.setdefault(shape, []).append(intensity(result.cell, shape))
        rates.setdefault((result.peer, mode, shape), []).append(result.rate(result.theirs))
        rates.setdefault(("gategen", mode, shape), []).append(result.rate(result.ours))
    means = {shape: geometric_mean(own) for shape, own in intensities.items()}
    for (name, mode, shape), own in rates.items():
        turn = [*_STYLES, "gategen"].index(name) - len(_STYLES) / 2
        _markers(axes, [means[shape] * _ASIDE**turn], [geometric_mean(own)], name, mode)
    knee = peak / bandwidth
    line = np.geomspace(min(knee, *means.values()) / 2, max(knee, *means.values()) * 2, 200)
    axes.plot(line, np.minimum(peak, bandwidth * line), color="black", linewidth=1.5, zorder=1)
    told = f"measured limits: {peak:.0f} GFLOP/s on registers,\n{bandwidth:.0f} GB/s from the cache"
    axes.annotate(told, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=9, color=_GREY)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    _logarithmic(axes)
    axes.set_ylim(top=peak * 1.6)
    axes.set_xlabel("operations per byte of weights, operands and results of a step")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"Roofline, geometric means over the cells, {title}")


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)


def _plain(axis: Axis) -> None:
    """Ticks at 1, 2, 5, 10 and so on, in plain digits."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
