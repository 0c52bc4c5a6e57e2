"""A report as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.table import Table

from benchmarks.floors import ITSELF, RATIOS, SHARES, Group, figure, geometric_mean, missed
from benchmarks.plan import OURSELVES, PEERS, RIVALS
from benchmarks.results import Report, Result


def show(report: Report, console: Console) -> None:
    """Print everything: machine, times, ratios, means, and the floors missed."""
    for part in _parts(report):
        console.print(part)


def _parts(report: Report) -> Iterator[RenderableType]:
    yield _machine(report)
    others = [result for result in report.results if result.peer not in OURSELVES]
    for cell, threads in dict.fromkeys((r.cell, r.threads) for r in others):
        yield _times(report, cell, threads)
    if len(others) < len(report.results):
        yield _ourselves(report)
    yield _means(report)
    yield _misses(report)


def _machine(report: Report) -> Table:
    table = Table("", "", title="Machine", title_justify="left", show_header=False, box=None)
    machine = report.machine
    table.add_row("processor", machine.processor)
    table.add_row("compiler", machine.compiler)
    table.add_row("versions", ", ".join(f"{name} {number}" for name, number in machine.versions.items()))
    for threads, peak in machine.peak.items():
        cache = machine.bandwidth[threads]
        limits = f"{peak:.0f} GFLOP/s on registers, {cache:.0f} GB/s from the cache"
        table.add_row(f"{_threads(threads)}", limits)
    return table


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _times(report: Report, cell: str, threads: int) -> Table:
    """One cell: its own speed, then every peer's time over ours and the percent of the peak it reaches."""
    peak = report.machine.peak[threads]
    cases = {
        case: peers
        for case, all_peers in report.cases().items()
        if (case[0], case[3]) == (cell, threads)
        and (peers := {name: r for name, r in all_peers.items() if name not in OURSELVES})
    }
    columns = [peer for peer in RIVALS if any(peer in peers for peers in cases.values())]
    table = Table(title=f"{cell}, {_threads(threads)}: peer time / gategen time", title_justify="left")
    table.add_column("T,B,I,H", no_wrap=True)
    table.add_column("mode")
    for name in ("ms", "GFLOP/s", "of peak", *(PEERS[peer] for peer in columns), "best peer"):
        table.add_column(name, justify="right", no_wrap=True)
    for (_, shape, mode, _), peers in cases.items():
        # Every process of the run timed gategen anew.
        seconds = statistics.median(result.ours for result in peers.values())
        rate = next(iter(peers.values())).rate(seconds)
        share = peers["peak"].ratio if "peak" in peers else rate / peak
        own = f"{seconds * 1e3:.3f}", f"{rate:.1f}", f"{100 * share:.0f} %"
        table.add_row(str(shape), mode, *own, *_ratios(peers, columns, share))
    return table


def _ratios(peers: Mapping[str, Result], columns: list[str], share: float) -> Iterator[str]:
    """Those of one case, where gategen has this share of the peak."""
    for name in columns:
        if name in peers:
            ratio = peers[name].ratio
            yield f"{_coloured(ratio)} [dim]{100 * share / ratio:3.0f} %[/dim]"
        else:
            yield "[dim]-[/dim]"
    ratios = [peers[name].ratio for name in columns if name in peers]
    yield _coloured(min(ratios)) if ratios else "[dim]-[/dim]"


def _coloured(ratio: float, wanted: float = 1.0) -> str:
    return f"[{'green' if ratio >= wanted else 'red'}]{ratio:.2f}[/]"


def _ourselves(report: Report) -> Table:
    """float64 against float32, and odd widths against the next multiple of 16, on one and the same peak."""
    table = Table(title="gategen beside itself", title_justify="left")
    names = ("ms", "of peak", "ms there", "of peak there", "time there / here")
    for name in ("cell", "T,B,I,H", "mode", "threads", "beside", *names):
        table.add_column(name, justify="right" if name in names else "left")
    for r in report.results:
        if r.peer in OURSELVES:
            aligned = r.peer == "aligned"
            there = replace(r, shape=r.shape.aligned) if aligned else r
            # Half as many numbers of twice the size fit into a vector.
            peak = report.machine.peak[r.threads]
            shares = r.rate(r.ours) / peak, there.rate(r.theirs) / (peak if aligned else peak / 2)
            about = (
                r.cell,
                str(r.shape),
                r.mode,
                str(r.threads),
                f"H = {there.shape.units}" if aligned else r.peer,
            )
            figures = (f"{1e3 * r.ours:.3f}", f"{shares[0]:.0%}", f"{1e3 * r.theirs:.3f}", f"{shares[1]:.0%}")
            table.add_row(*about, *figures, f"{r.ratio:.2f}")
    return table


def _means(report: Report) -> Table:
    """Every class: the geometric mean and the worst of its cases, what they should be and must be."""
    table = Table(title="Classes: geometric mean and worst case", title_justify="left")
    for name in _CLASS_COLUMNS:
        table.add_column(name, justify="left" if name in ("class", "against") else "right")
    for group, threads, figures in _classes(report):
        pairs = ((geometric_mean(figures), group.goal), (min(figures), group.floor))
        shown = (text for pair in pairs for text in _wanted(*pair))
        table.add_row(str(group), group.opponents, str(threads), str(len(figures)), *shown)
    return table


_CLASS_COLUMNS = ("class", "against", "threads", "cases", "mean", "goal", "worst", "floor")


def _classes(report: Report) -> Iterator[tuple[Group, int, list[float]]]:
    """Every class that has cases, by number of threads: what it looks at, for each case."""
    for group in (*RATIOS, *SHARES, *ITSELF):
        for threads in sorted(report.machine.peak):
            worst = group.worst(report.results, threads)
            if worst:
                yield group, threads, [figure(group, result) for result in worst]


def markdown(report: Report) -> str:
    """The classes as a Markdown table: geometric mean and worst case with each number of threads."""
    counts = sorted(report.machine.peak)
    rows: dict[str, dict[int, list[float]]] = {}
    for group, threads, figures in _classes(report):
        rows.setdefault(f"{group} | {group.opponents}", {})[threads] = figures
    titles = " | ".join(f"{_threads(count)}: mean | worst" for count in counts)
    lines = [f"| class | against | {titles} |", f"| --- | --- |{' ---: |' * 2 * len(counts)}"]
    for about, by_threads in rows.items():
        pairs = [
            f"{geometric_mean(own):.2f} | {min(own):.2f}" if (own := by_threads.get(count)) else " | "
            for count in counts
        ]
        lines.append(f"| {about} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def _wanted(found: float, wanted: float) -> tuple[str, str]:
    """A figure and what it should be, red where it falls short."""
    return (_coloured(found, wanted), f"{wanted:.3g}") if wanted else (f"{found:.2f}", "")


def _misses(report: Report) -> RenderableType:
    found = missed(report.results)
    if not found:
        return "[green]No floor and no goal is missed.[/green]"
    table = Table(title=f"Floors and goals missed: {len(found)}", title_justify="left")
    for name in ("class", "cell", "T,B,I,H", "mode", "against", "threads", "found", "wanted"):
        table.add_column(name, justify="right" if name in ("threads", "found", "wanted") else "left")
    for miss in found:
        r = miss.result
        about = (r.cell, str(r.shape), r.mode) if r else ("mean", "", "")
        peer = PEERS[r.peer] if r else miss.group.opponents
        figures = (str(miss.threads), f"[red]{miss.found:.2f}[/red]", f"{miss.wanted:.3g}")
        table.add_row(str(miss.group), *about, peer, *figures)
    return table
