"""The fast C: it compiles everywhere without a word, and its bits depend on neither batch nor threads."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import c_programs
import cells
import numpy as np
import pytest
from c_programs import FAST, NAMES, WIDTHS, cell
from test_agreement import part

import gategen as gg
from gategen.backends import c_fast
from gategen.calculus.problem import Array, Problem, Setting, relative_error, solution
from gategen.runtime import build, compile_c, team
from gategen.runtime.engines import CEngine
from gategen.runtime.kernel import Kernel

ZOO = gg.pipeline.zoo()
DTYPES = ("float32", "float64")
# Vectors of each width, shifts, heads, derived matrices and sums in the loop.
FEW = ("lstm_peephole", "both_inputs", "heads", "derived_matrix")
LEFT = r"mem(cpy|set|move)|(copysign|floor|pow|sqrt)f?"
"""What a kernel may ask of the C library."""


def written(name: str, folder: Path) -> list[str]:
    """Header and sources of a cell on disk; the names of the sources, float32 first."""
    texts = c_programs.files(cell(name), fast=True)
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [file for file in texts if file.endswith(".c")]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_zoo_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """Dtypes take turns, few for the slower compiler; objects hold no data and ask for little."""
    own = dict.fromkeys([*FEW, *(ZOO[::5] if compiler == "gcc" else ZOO[1::20])])
    sources = [written(name, tmp_path)[i % 2] for i, name in enumerate(own)]
    objects = c_programs.compiled(tmp_path, sources, [compiler, *FAST, "-O2", "-march=native"])
    for path in objects:
        symbols = [line.split() for line in c_programs.run(["nm", path.name], tmp_path).splitlines()]
        kinds = {kind for *_, kind, _ in symbols}
        assert kinds <= {"T", "t", "r", "R", "U"}, f"{path.name} has writable data: {kinds}"
        public = {name for *_, kind, name in symbols if kind == "T"}
        assert len(public) == 4 and all(name.startswith(f"gg_{path.name[:-8]}_") for name in public)
        asked = {name for *_, kind, name in symbols if kind == "U"}
        assert not {name for name in asked if not re.fullmatch(LEFT, name)}, path.name


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_cell_is_without_a_warning(compiler: str, tmp_path: Path) -> None:
    """Compilers and dtypes take turns."""
    own = (*ZOO, *cells.TRICKY, *NAMES)[compiler == "clang" :: 2]
    sources = [written(name, tmp_path)[i % 2] for i, name in enumerate(own)]
    c_programs.run([compiler, *FAST, "-march=native", "-fsyntax-only", *sources], tmp_path)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("width", ["avx2", "sse2"])
def test_vectors_may_be_shorter(width: str, compiler: str, tmp_path: Path) -> None:
    few = [written(name, tmp_path)[i % 2] for i, name in enumerate(FEW)]
    c_programs.compiled(tmp_path, few, [compiler, *FAST, *WIDTHS[width], "-O2"])


PANELS = {"-march=x86-64-v3": (1, 2), "-march=x86-64-v4": (1, 2, 3, 4)}
"""The numbers of vectors that a panel may have; for each there are tiles of 1 to 6 rows."""


@pytest.mark.parametrize("processor", PANELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_sums_of_a_tile_stay_in_registers(compiler: str, dtype: str, processor: str, tmp_path: Path) -> None:
    (tmp_path / "tile.c").write_text(c_fast.tile(dtype))
    flags = [flag for flag in build.FAST if flag != "-march=native"]
    c_programs.run([compiler, *flags, processor, "-S", "tile.c"], tmp_path)
    code = (tmp_path / "tile.s").read_text().splitlines()
    assert sum("vfmadd" in line for line in code) == (1 + 2 + 3 + 4 + 5 + 6) * sum(PANELS[processor])
    # Tiles of 5 and of 6 rows fetch what the next one reads.
    assert sum("prefetch" in line for line in code) == 2 * len(PANELS[processor])
    assert not [line for line in code if re.search(r"[yz]mm.*\(%rsp\)|\(%rsp\).*[yz]mm", line)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tile_is_compiled_once(dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Kernels are linked with it; a file for people holds it, and gives the same bits."""
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path))
    calls: list[list[str]] = []
    compiled = compile_c._run
    monkeypatch.setattr(compile_c, "_run", lambda call, folder: calls.append(call) or compiled(call, folder))
    kernels = [gg.compile(name, dtype, threads=1) for name in ("lstm", "gru")]
    assert [sum(flag in call for call in calls) for flag in ("-c", "-shared")] == [1, 2]
    assert [entry.label for entry in gg.cache.entries()].count("what kernels share") == 1

    plan = gg.derive(gg.load("lstm")).schedule
    declared = c_fast.definition(plan, gg.load("lstm"), dtype)
    whole = c_fast.source(plan, gg.load("lstm"), dtype)
    text = f"#include <stdint.h>\n{declared}\n" + whole.replace('#include "lstm.h"', "")
    library = build.load(build.build(text, declared, flags=build.FAST, name="whole"))
    manifest = kernels[0].manifest
    given = cells.problem("lstm", THIRTEEN["lengths"])
    found = run(Kernel(manifest, CEngine(manifest, library)), given)
    assert different(found, run(kernels[0], given)) == []


COUNTED = """
#include <stdint.h>
typedef struct gg_team {
    int64_t size;
    void (*run)(struct gg_team *team, void (*part)(void *call, int64_t rank), void *call);
    void (*wait)(struct gg_team *team);
} gg_team;
typedef struct { gg_team face; gg_team *inner; int64_t runs; } counted;
static void run(gg_team *team, void (*part)(void *call, int64_t rank), void *call)
{
    ((counted *)team)->runs++;
    ((counted *)team)->inner->run(((counted *)team)->inner, part, call);
}
static void wait(gg_team *team)
{
    ((counted *)team)->inner->wait(((counted *)team)->inner);
}
static counted one;
void *begin(void *inner)
{
    one = (counted){{((gg_team *)inner)->size, run, wait}, inner, 0};
    return &one;
}
int64_t runs(void) { return one.runs; }
"""
"""A team that counts what another one is asked to run."""


@cache
def counter() -> ModuleType:
    declared = "void *begin(void *inner); int64_t runs(void);"
    return build.load(build.build(COUNTED, declared, flags=build.FAST, name="counted"))


@cache
def kernel(name: str, dtype: str, threads: int = 1) -> Kernel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gg.GategenWarning)
        return gg.compile(cells.cell(name), dtype, "c", threads=threads)


def run(kernel: Kernel, given: Problem) -> dict[str, Array]:
    """The solution; outputs and final states without a tape, too."""
    given = given.in_dtype(kernel.dtype)
    arguments = (given.inputs, given.params, given.initial, given.lengths)
    made, plain = kernel.forward(*arguments, train=True), kernel.forward(*arguments)
    arrays = {f"plain outputs {name}": array for name, array in plain.outputs.items()}
    arrays |= {f"plain final {name}": array for name, array in plain.final.items()}
    return arrays | solution(made, kernel.backward(made, given.d_outputs, given.d_final), given)


def different(found: dict[str, Array], expected: dict[str, Array]) -> list[str]:
    """The arrays that differ in a bit."""
    return [key for key, array in expected.items() if found[key].tobytes() != array.tobytes()]


@contextmanager
def counted_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The runs of each team that was taken; of none where the caller's thread worked alone."""
    found: list[int] = []
    inner: list[Any] = []
    take, give_back = team.take, team.give_back

    def taken(size: int) -> Any:
        inner.append(take(size))
        return inner[-1] and counter().lib.begin(inner[-1])

    def given_back(address: Any) -> None:
        found.append(counter().lib.runs() if address else 0)
        give_back(inner.pop())

    with monkeypatch.context() as patch:
        patch.setattr(team, "take", taken)
        patch.setattr(team, "give_back", given_back)
        yield found


# Threads have sequences of their own where there are two for each, else they share each step.
SHARED = {
    "apart": Setting(73, 13, (61, 53, 47)),
    "apart with lengths": Setting(71, 11, (59, 64, 45), (71, 0, 1, 70, 17, 71, 5, 0, 33, 2, 71)),
    "together": Setting(37, 1, (259, 261, 272)),
    "together with lengths": Setting(31, 5, (131, 144, 139), (31, 0, 1, 30, 17)),
}
THREADED = (
    *("lstm", "gru", "lstm_peephole", "lstmp", "jordan", "lstm_concat", "lstm_reverse", "fastgrnn"),
    *("right_to_left", "right_to_left_shifted", "both_inputs", "past_input_in_a_product", "next_input"),
    *("derived_matrix", "derived_product", "derived_in_a_product", "heads", "two_widths", "low_rank"),
    *("scalars", "scalar_gate", "shared_weight", "concatenated_scalar", "loop_over_gates", "frozen"),
    *("layer_norms", "layer_norm_of_inputs", "softmaxes", "running_sums", "extremes"),
)
# No products: it takes a million rows until they are work for threads.
LONG = ("scalar_only", "kinks", "hidden_state", "same_for_all")
NEVER = (
    "branches",
    "past_input_in_a_sum",
    "division",
    "powers",
    "whole_numbers",
    "roots",
    "copied_input",
    "zero_gradient",
    "clock",
    "constant_widths",
)
OTHERS = tuple(name for name in cells.ALL if name not in {*THREADED, *LONG, *NEVER, "unused_gate"})


@pytest.mark.parametrize("setting", SHARED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", THREADED)
def test_bits_do_not_depend_on_threads(
    name: str, dtype: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = cells.problem(name, SHARED[setting])
    expected = run(kernel(name, dtype), given)
    for threads in (2, 3, 5):
        with counted_runs(monkeypatch) as runs:
            found = run(kernel(name, dtype, threads), given)
        assert runs == [1, 1, 1], "threads were not used in both passes"
        assert different(found, expected) == [], threads


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "units"), [("float64", 258), ("float32", 521)])
def test_rows_that_lie_far_apart_are_packed(dtype: str, units: int, threads: int) -> None:
    """Left sides of outer products, all targets at once, chunk after chunk; a target may be missing."""
    given = cells.problem("lstm", Setting(26, 17, (9, units), (26, *range(9, 25))))
    for name, array in given.params.items():
        # With large weights so many units would be chaotic.
        array *= 0.05 if name.startswith("U") else 1.0
    made = kernel("lstm", dtype, threads)
    expected, found = run(gg.compile("lstm", dtype, "numpy"), given), run(made, given)
    bound = 1e-12 if dtype == "float64" else 1e-4
    assert all(relative_error(found[key], array) <= bound for key, array in expected.items())
    own = given.in_dtype(made.dtype)
    result = made.forward(own.inputs, own.params, own.initial, own.lengths, train=True)
    some = made.backward(result, own.d_outputs, own.d_final, wrt=["U_f", "W_o"]).params
    assert sorted(some) == ["U_f", "W_o"]
    assert all(array.tobytes() == found[f"d params {name}"].tobytes() for name, array in some.items())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["lstm", "long_next_inputs", "right_to_left_delays"])
def test_rows_in_one_piece_stay_where_they_are(name: str, dtype: str) -> None:
    """Those of outer products, in the first chunk or in others; with lengths they are copied."""
    given = cells.problem(name, Setting(60, 9, (5, 21)))
    copied = replace(given, lengths=np.full(9, 60))
    assert different(run(kernel(name, dtype), given), run(kernel(name, dtype), copied)) == []


def test_only_rows_in_no_cache_are_fetched() -> None:
    """In the loop without a tape, and of a gradient that one step hands to the next, they are old ones."""
    calls = re.findall(
        r"gg_product\((\w+)[^;]*?into, (\w+),", " ".join(gg.pipeline.show(cell("lstmp"), "c").split())
    )
    inside = [far for rows, far in calls if rows == "rows"]
    assert inside == ["whole", "keep", "0", "0"]
    assert {far for rows, far in calls if rows != "rows"} == {"1"} and len(calls) > len(inside)


UNEVEN = [setting for setting in SHARED if "lengths" in setting]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        *((name, UNEVEN[place % len(UNEVEN)]) for place, name in enumerate(OTHERS)),
        *((name, "long") for name in LONG),
    ],
)
def test_bits_of_other_cells(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = cells.problem(name, SHARED.get(setting, Setting(350_000, 6, (2,))))
    expected = run(kernel(name, "float64"), given)
    with counted_runs(monkeypatch) as runs:
        found = run(kernel(name, "float64", 3), given)
    assert runs == [1, 1, 1], "threads were not used in both passes"
    assert different(found, expected) == []


def test_little_work_is_done_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, and few."""
    for setting in (Setting(999, 1, (99,)), Setting(9, 5, (59,)), Setting(2, 6, (99,))):
        with counted_runs(monkeypatch) as runs:
            run(kernel("gru", "float64", 3), cells.problem("gru", setting))
        assert runs == [0, 0, 0], setting


THIRTEEN = {
    "all": Setting(5, 13, (17, 19, 5)),
    "lengths": Setting(5, 13, (3, 8, 2), (5, 0, 1, 4, 5, 2, 3, 5, 5, 0, 4, 1, 5)),
}


@pytest.mark.parametrize("setting", THIRTEEN)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", THREADED)
def test_bits_do_not_depend_on_the_batch(name: str, dtype: str, setting: str) -> None:
    """Fewer than four sequences have their products before the loop; tiles have one to six rows."""
    given = cells.problem(name, THIRTEEN[setting])
    whole = run(kernel(name, dtype), given)
    for count in (1, 2, 3, 4, 5, 7, 12):
        for first in (0, 13 - count):
            sequences = [*range(first, first + count)][::-1]
            few = run(kernel(name, dtype), part(given, sequences))
            kept = {key: array for key, array in few.items() if not key.startswith("d params")}
            expected = {
                key: whole[key][:, sequences] if array.ndim == 3 else whole[key][sequences]
                for key, array in kept.items()
            }
            assert different(kept, expected) == [], sequences


PRELUDE = """
import os, signal
from test_c_fast import *
given = cells.problem("lstm", SHARED["apart with lengths"])
alone = run(kernel("lstm", "float32"), given)
threaded = kernel("lstm", "float32", 3)
"""


def script(text: str) -> None:
    """Run Python in a process of its own; one that hangs or fails fails the test."""
    body = PRELUDE + textwrap.dedent(text)
    folders = [str(Path(__file__).parent), str(Path(gg.__file__).parents[1])]
    code = f"import sys\nsys.path[:0] = {folders}\n{body}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_bits_in_a_forked_child() -> None:
    script(
        """
        assert different(run(threaded, given), alone) == []
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os._exit(7 if different(run(threaded, given), alone) else 0)
        assert os.waitpid(child, 0)[1] == 0
        assert different(run(threaded, given), alone) == []
        """
    )


def test_bits_on_one_processor() -> None:
    script(
        """
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        assert different(run(threaded, given), alone) == []
        assert different(run(kernel("lstm", "float32", 5), given), alone) == []
        os.sched_setaffinity(0, before)
        assert different(run(threaded, given), alone) == []
        """
    )


def portable_instead(why: str) -> None:
    """The portable C takes over, says so once, and gives its own bits."""
    given = cells.problem("gru", THIRTEEN["lengths"])
    for _ in ("cold", "warm"):
        with pytest.warns(gg.GategenWarning) as caught:
            made = gg.compile("gru", "float64")
        (line,) = [str(warning.message) for warning in caught]
        assert why in line and "\n" not in line and "portable C" in line
        assert made.backend == "c-portable"
        assert different(run(made, given), run(gg.compile("gru", "float64", "c-portable"), given)) == []


@pytest.mark.parametrize(
    ("machine", "flags", "why"),
    [
        ("x86_64", "fpu sse2", "this processor has no AVX"),
        ("riscv64", "", "the processor architecture 'riscv64' is unknown"),
    ],
)
def test_a_processor_without_vectors(
    machine: str, flags: str, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(build, "processor", lambda: f"{machine} {{'flags': '{flags}'}}" if flags else machine)
    portable_instead(why)


def test_a_compiler_without_vector_extensions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "plain-cc"
    compiler.write_text(
        '#!/bin/sh\nfor given in "$@"; do case "$given" in *.c)\n'
        '    grep -q vector_size "$given" && { echo "unknown attribute" >&2; exit 1; };;\n'
        'esac; done\nexec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("GATEGEN_CC", str(compiler))
    monkeypatch.setenv("GATEGEN_CACHE_DIR", str(tmp_path / "cache"))
    portable_instead("this compiler cannot make the fast one")


def test_decisions_are_shown_with_their_reasons() -> None:
    shown = gg.pipeline.show(cell("lstm"), "schedule")
    for decision in (
        *("hoist W_i @ x[t]", "keep c on the tape", "defer d_W_i", "sink T(W_i) @ d_a_i into d_x"),
        *("pack a_i, a_f, a_o, a_g from x[t] and h[t-1]", "meet x[t] in the step", "tiles of 6 rows"),
        *("weight gradients in chunks", "share the sequences among", "share the units of every step"),
        *("fetch what the next tile reads", "fetch what the next tile writes"),
    ):
        (line,) = {line for line in shown.splitlines() if decision in line and "4 vectors" not in line}
        about, _, reason = line.partition("): ")
        assert "(" in about and len(reason) > 10, line
