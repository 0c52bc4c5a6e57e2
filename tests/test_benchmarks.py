"""The benchmark's arithmetic, and that its peers compute what gategen computes; nothing is timed."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import c_programs
import numpy as np
import pytest

from benchmarks import peak, plan, worker
from benchmarks.__main__ import main
from benchmarks.cells import CELLS, OTHERS, STANDARD
from benchmarks.contenders import Contender, Disagreement, Problem, compare, gategen
from benchmarks.floors import ITSELF, RATIOS, SHARES, Group, geometric_mean, missed
from benchmarks.results import Machine, Report, Result
from benchmarks.shapes import MODES, SHAPES, Shape, flops, intensity, parse_shape
from benchmarks.timing import interleaved
from gategen.runtime import build

ROOT = Path(__file__).parents[1]
TINY = Shape(5, 3, 4, 6)
SMALL = SHAPES["small-single"]
LARGE = SHAPES["wide"]


def result(
    peer: str,
    ratio: float,
    cell: str = "lstm",
    shape: Shape = SMALL,
    mode: str = "forward",
    threads: int = 1,
) -> Result:
    return Result(cell, shape, mode, threads, peer, 1e-3, ratio * 1e-3, ratio, 3)


def report(*results: Result) -> Report:
    machine = Machine("a processor", "a compiler", {"python": "3"}, {1: 100.0, 2: 200.0}, {1: 90.0, 2: 180.0})
    return Report(machine, results)


# By hand, from the equations: what stands left of the products in a step, over H and I and P = H / 2.
ROWS_BY_COLUMNS = {
    "lstm": lambda i, h: 4 * h * (i + h),
    "gru_reset_after": lambda i, h: 3 * h * (i + h),
    "peephole": lambda i, h: 4 * h * (i + h) + 3 * h * h,
    "reset_on_input": lambda i, h: 3 * h * (i + h),
    "mgu": lambda i, h: 2 * h * (i + h),
    "cifg": lambda i, h: 3 * h * (i + h),
    "lstmp": lambda i, h: 4 * h * (i + h // 2) + h // 2 * h,
    "lstmp_head": lambda i, h: 4 * h * (i + h // 2) + h // 2 * h + i * h // 2,
    "two_speeds": lambda i, h: 3 * h * (i + h) + h * h,
}


@pytest.mark.parametrize("cell", CELLS)
def test_operations(cell: str) -> None:
    products = ROWS_BY_COLUMNS[cell](TINY.inputs, TINY.units)
    assert flops(cell, TINY, "forward") == 2 * TINY.steps * TINY.batch * products
    assert flops(cell, TINY, "training") == 3 * flops(cell, TINY, "forward")


def test_intensity_of_a_gru() -> None:
    weights, rows = 3 * 6 * (4 + 6), 4 + 6 + 4 * 6  # x, h, and four vectors of products
    assert intensity("gru_reset_after", TINY) == 2 * 3 * weights / (4 * (weights + 3 * rows))


def test_shapes_are_read_by_name_and_by_number() -> None:
    assert parse_shape("wide") == parse_shape("100,32,128,256") == LARGE
    assert str(LARGE) == "100,32,128,256"
    for wrong in ("1,2,3", "a,b,c,d", "0,1,1,1", "wider", "-1,2,3,4"):
        with pytest.raises(ValueError, match="neither"):
            parse_shape(wrong)


def test_odd_widths_meet_the_next_multiple() -> None:
    assert SHAPES["odd-50"].aligned == Shape(50, 32, 64, 64)
    assert Shape(1, 1, 28, 100).aligned == Shape(1, 1, 28, 112)
    assert [shape.odd for shape in (SHAPES["odd-650"], SHAPES["small"])] == [True, False]


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert geometric_mean([2.0, 4.0, 8.0]) == pytest.approx(4.0)


def test_a_group_takes_its_cases_and_the_best_of_its_peers() -> None:
    by_hand = Group("others", OTHERS, ("eager", "script"), (16, 128), modes=("training",))
    results = [
        result("eager", 3.0, "mgu", LARGE, "training"),
        result("script", 2.0, "mgu", LARGE, "training"),
        result("jax", 1.0, "mgu", LARGE, "training"),
        result("eager", 0.1, "mgu", SMALL, "training"),
        result("eager", 0.1, "mgu", LARGE, "forward"),
        result("eager", 0.1, "mgu", LARGE, "training", threads=2),
        result("eager", 0.1, "lstm", LARGE, "training"),
    ]
    assert [r.ratio for r in by_hand.worst(results, 1)] == [2.0]
    assert str(by_hand) == "others, B 16 to 128, training"


def test_groups_are_named_by_their_ranges() -> None:
    named = {str(group) for group in (*RATIOS, *SHARES, *ITSELF)}
    assert {"LSTM", "LSTM, B = 1, H ≤ 64", "LSTM, B ≥ 16, training"} <= named
    assert {"all cells, B ≥ 16, H 64 to 128", "all cells, B ≥ 16, H ≥ 256", "odd widths"} <= named


def misses(*results: Result) -> list[tuple[str, float, float, str]]:
    found = missed(results)
    return [(str(m.group), m.found, m.wanted, m.result.peer if m.result else "mean") for m in found]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_cases_below_their_floor_and_means_below_their_goal_are_named(threads: int) -> None:
    single = "LSTM, B = 1, H ≤ 64"
    slow, fast = (result("nn", r, mode=m, threads=threads) for r, m in ((1.9, "forward"), (4.0, "training")))
    assert misses(slow, fast) == [(single, 1.9, 2, "nn"), (single, pytest.approx(7.6**0.5), 3, "mean")]
    assert not misses(replace(slow, ratio=2.3), fast)


def test_no_floor_where_none_is_set() -> None:
    assert not misses(result("jax", 0.01, "gru_reset_after", threads=2))


def test_shares_of_the_peak() -> None:
    for mode, threads, floor in (("forward", 1, 0.85), ("training", 1, 0.80), ("training", 2, 0.78)):
        at = partial(result, "peak", cell="mgu", shape=LARGE, mode=mode, threads=threads)
        assert not misses(at(floor + 0.01))
        (name, found, wanted, peer) = misses(at(floor - 0.01))[0]
        assert name.startswith("all cells, B ≥ 16, H ≥ 256")
        assert (found, wanted, peer) == (floor - 0.01, floor, "peak")


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_does_as_many_multiply_adds(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    loop = peak.Loops.multiply_add
    monkeypatch.setattr(peak.Loops, "multiply_add", lambda self, n: rounds.append(n) or loop(self, n))
    for call in peak.at_the_peak(Problem(CELLS["mgu"], TINY), threads).passes().values():
        call()
    once = threads * peak.Loops(threads).operations
    wanted = [flops("mgu", TINY, mode) / once for mode in MODES]
    assert all(n - 1 < least <= n for n, least in zip(rounds, wanted, strict=True))


def test_no_chain_of_the_peak_is_left_out(tmp_path: Path) -> None:
    """A compiler that knew the numbers would find that one of the twelve stands still."""
    (tmp_path / "peak.c").write_text(peak.SOURCE)
    flags = [flag for flag in build.FAST if flag != "-march=native"]
    for processor in ("-march=x86-64-v3", "-march=x86-64-v4"):
        c_programs.run(["gcc", *flags, processor, "-S", "peak.c"], tmp_path)
        assert (tmp_path / "peak.s").read_text().count("vfmadd") == 12 + 12


def test_odd_widths_and_double_precision() -> None:
    odd = result("aligned", 0.95, shape=SHAPES["odd-50"])
    assert misses(replace(odd, ratio=0.96)) == []
    assert misses(odd) == [("odd widths", 0.95, 1 / 1.05, "aligned")]
    assert misses(result("float64", 2.2)) == []
    assert misses(result("float64", 2.5)) == [("double precision", 0.4, 0.45, "mean")]


def test_json_round_trip(tmp_path: Path) -> None:
    before = report(result("nn", 2.0), result("float64", 1.5, threads=2))
    before.write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == before


def test_this_machine_is_described() -> None:
    machine = Machine.here()
    assert machine.processor and machine.compiler
    assert machine.versions["numpy"] == np.__version__
    assert not machine.peak


def test_limits_keep_the_best() -> None:
    machine = Machine("", "", {})
    for rate, bandwidth in ((2.0, 5.0), (3.0, 4.0)):
        machine.raise_peak(1, rate, bandwidth)
    assert (machine.peak, machine.bandwidth) == ({1: 3.0}, {1: 5.0})


def test_limits_are_measured() -> None:
    assert all(figure > 0 for figure in peak.measure(2))


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    times = interleaved({name: partial(turns.append, name) for name in "ab"}, 3, settle=False)
    assert {name: len(own) for name, own in times.items()} == {"a": 3, "b": 3}
    order = [name for name, after in zip(turns, [*turns[1:], ""], strict=True) if name != after]
    assert "".join(order) == "ab" * 4


def test_who_meets_whom() -> None:
    jobs = plan.jobs(list(CELLS), [LARGE, SHAPES["odd-50"]], MODES, list(plan.PEERS), [1, 2], 3)
    assert [(job.library, job.threads) for job in jobs] == [
        (lib, n) for n in (1, 2) for lib in plan.LIBRARIES
    ]
    met = {
        (case.cell, case.shape.odd, mode, peer)
        for job in jobs
        for case in job.cases
        for mode, peers in case.peers.items()
        for peer in peers
    }
    assert {cell for cell, _, _, peer in met if peer in ("nn", "onnxruntime", "float64")} == set(STANDARD)
    assert {cell for cell, _, _, peer in met if peer == "jax"} == set(CELLS)
    assert {mode for _, _, mode, peer in met if peer == "onnxruntime"} == {"forward"}
    assert {cell for cell, odd, _, peer in met if peer == "peak" and not odd} == set(CELLS)
    assert {(cell, peer) for cell, odd, _, peer in met if odd} == {
        (cell, peer) for cell in STANDARD for peer in ("aligned", "peak")
    }


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda name: None if name in ("jax", "onnx") else object())
    assert plan.missing(plan.PEERS) == {"jax": ["jax"], "onnx": ["onnxruntime"]}
    assert plan.missing(["eager", "jax"]) == {"jax": ["jax"]}


PEER_MODULES = {
    peer: module
    for module, peers in (
        ("torch_peers", ("nn", "eager", "script")),
        ("jax_peer", ("jax",)),
        ("onnx_peer", ("onnxruntime",)),
    )
    for peer in peers
    if not plan.missing([peer])
}


def contender(peer: str, problem: Problem) -> Contender | None:
    with warnings.catch_warnings():
        # Libraries announce their own future; it is not ours to mend.
        warnings.simplefilter("ignore", DeprecationWarning)
        made: Contender | None = import_module(f"benchmarks.{PEER_MODULES[peer]}").contender(peer, problem, 1)
    return made


@pytest.mark.parametrize("peer", PEER_MODULES)
@pytest.mark.parametrize("cell", CELLS)
def test_peers_compute_what_gategen_computes(cell: str, peer: str) -> None:
    problem = Problem(CELLS[cell], TINY)
    ours, theirs = gategen(problem), contender(peer, problem)
    if theirs is None:
        assert peer in ("nn", "onnxruntime") and cell in OTHERS
        return
    for mode, call in theirs.passes().items():
        expected, found = ours.read(ours.passes()[mode]()), theirs.read(call())
        shared = {"output"} if mode == "forward" else {"output", "x", "wx", "b"}
        assert shared <= expected.keys() & found.keys()
        assert all(expected[name].shape == found[name].shape for name in shared)
        compare(expected, found, f"{peer} on {cell}")


def test_disagreement_is_told() -> None:
    a, b = {"x": np.array([1.0, 2.0])}, {"x": np.array([1.0, 2.001])}
    with pytest.raises(Disagreement, match=r"JAX and gategen disagree on the gradient of x: 5\.0e-04"):
        compare(a, b, "JAX")
    with pytest.raises(Disagreement, match="the output: nan"):
        compare({"output": np.ones(1)}, {"output": np.array([np.nan])}, "JAX")


def test_a_wrong_peer_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(peer: str, problem: Problem, job: plan.Job) -> Contender:
        right = gategen(problem)
        return replace(right, read=lambda result: {n: 1.01 * a for n, a in right.read(result).items()})

    monkeypatch.setattr(worker, "_contender", wrong)
    monkeypatch.setattr(worker, "interleaved", lambda *_, **__: pytest.fail("it was timed"))
    case = plan.Case("lstm", TINY, {"forward": ["eager"]})
    with pytest.raises(Disagreement, match="eager on lstm at 5,3,4,6, forward and gategen disagree"):
        list(worker.compete(case, plan.Job("torch", 1, 1, [case])))


def test_a_whole_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command on one cell, beside gategen itself: no other library is loaded."""
    path = tmp_path / "report.json"
    command = [
        "--shapes",
        "3,2,4,16",
        "3,2,20,20",
        "--cells",
        "lstm",
        "--peers",
        "float64",
        "aligned",
        "peak",
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks",
            *command,
            "--threads",
            "1",
            "--rounds",
            "1",
            "--json",
            str(path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = Report.read(path).results
    assert [r.peer for r in results] == ["float64", "peak"] * 2 + ["aligned", "peak"] * 2
    main(["--from", str(path)])
    printed = capsys.readouterr().out
    assert "gategen beside itself" in printed and "H = 32" in printed
    assert re.search(r"3,2,20,20 +│ training │ .* \d+ % │ +- │", printed)


def test_runs_are_merged(tmp_path: Path) -> None:
    first, second = report(result("nn", 1.5), result("jax", 3.0)), report(result("nn", 2.0))
    second.machine.raise_peak(1, 120.0, 95.0)
    merged = Report.merged([first, second])
    assert [(r.peer, r.ratio) for r in merged.results] == [("nn", 2.0), ("jax", 3.0)]
    assert merged.machine.peak == {1: 120.0, 2: 200.0}
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for part, path in zip((first, second), paths, strict=True):
        part.write(path)
    main(["--from", *map(str, paths), "--json", str(tmp_path / "both.json")])
    assert Report.read(tmp_path / "both.json") == merged


def test_everything_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    report(result("nn", 1.5), result("onnxruntime", 4.0), result("nn", 4.0, threads=2)).write(path)
    main(["--from", str(path)])
    printed = capsys.readouterr().out
    for part in (
        "lstm, 1 thread: peer time",
        "geometric mean and worst case",
        "goals missed: 2",
        "LSTM, B = 1, H ≤ 64",
    ):
        assert part in printed


@pytest.mark.parametrize("wrong", [["--shapes", "1,2"], ["--threads", "0"], ["--cells", "none"]])
def test_wrong_options_end_with_a_usage_error(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2


def test_the_plot_is_written_or_matplotlib_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report(result("nn", 1.5), result("jax", 0.5, mode="training", threads=2)).write(path)
    picture = tmp_path / "report.png"
    if find_spec("matplotlib"):
        main(["--from", str(path), "--plot", str(picture)])
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        with pytest.raises(SystemExit):
            main(["--from", str(path), "--plot", str(picture)])
