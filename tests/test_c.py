"""The portable C: it compiles everywhere without a word, links without clashes, keeps every name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import c_programs
import cells
import numpy as np
import pytest

import gategen as gg
from gategen.backends import c, c_math
from gategen.backends.c_names import KEYWORDS, c_name
from gategen.backends.c_text import WIDTH, laid_out
from gategen.calculus.problem import Setting, draw, relative_error, solution

# Authors' names that are words of C or C++, of the C library, or ours.
NAMES = {
    "words_of_c": (
        "gamma: vector\nint: vector\nregister = sigmoid(W @ double[t] + gamma * y0[t-1] + int)\n"
        "y0[t] = register * y0[t-1] + double[t]"
    ),
    "words_of_cpp": (
        "template: vector\noperator: vector\nNULL: vector\n"
        "namespace[t] = template * tanh(this[t] + namespace[t-1]) + operator\n"
        "errno[t] = NULL * namespace[t] + errno[t-1]"
    ),
    "arguments": (
        "tape: vector\nwork: vector\ndims: vector\nparams: vector\n"
        "b[t] = tanh(tape * b[t-1] + work * lengths[t] + lengths[t-1] * dims)\n"
        "outputs[t] = params * b[t] + outputs[t-1]"
    ),
    "locals": (
        "rest: vector\nkeep: vector\nrow: vector\nj: vector\nk: vector\nreal: vector\nh_t: vector\n"
        "h_all: vector\nh_start: vector\nW_h_T: vector\n"
        "h[t] = tanh(W_h @ x[t] + rest * h[t-1] + keep * row) * j + k * real + h_t * h_all - h_start * W_h_T"
    ),
    "members": (
        "h_initial: input\nx_initial: input\n"
        "h_final[t] = tanh(x[t] + h_initial[t] * h_final[t-1])\nh[t] = h_final[t] * h[t-1] + x[t]\n"
        "z[t] = x[t-1] + x_initial[t]\nh_final: output\nh: output\nz: output"
    ),
    "adjoints": (
        "a_h: vector\nno_seed_h: vector\nd_h[t] = tanh(x[t] + d_h[t-1])\n"
        "h[t] = d_h[t] + h[t-1] * h_prev[t]\n"
        "back_h = tanh(a_h * h[t-1] + seed_h[t])\nz[t] = back_h * no_seed_h"
    ),
    "routines": (
        "gg_product: vector\ngg_exp: vector\nint64_t: vector\nINT64_MAX: vector\nM_PI: vector\n"
        "size_t: vector\n"
        "h[t] = tanh(gg_product * x[t] + gg_exp * h[t-1]) * int64_t + INT64_MAX * M_PI * size_t"
    ),
    "widths": "x: input[int]\nh: state[j]\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-1]) * sqrt(int) / j",
    "widths_as_values": "n_x: vector\nn_h: vector\nh[t] = tanh(W_h @ x[t] + n_h * h[t-1] + n_h * n_x)",
    "matrix_b": "h[t] = tanh(A @ h[t-1] + B @ x[t])",
    "long_names": (
        f"W_{'a' * 60}: weight\nx_{'b' * 60}: input\n"
        f"h_{'c' * 60}[t] = tanh(W_{'a' * 60} @ x_{'b' * 60}[t] + U_h @ h_{'c' * 60}[t-1] + b_{'d' * 60})"
    ),
}
ZOO = gg.pipeline.zoo()
FEW = (
    "lstm",
    "gru_reset_after",
    "fastgrnn",
    "both_inputs",
    "right_to_left",
    "heads",
    "derived_matrix",
    "kinks",
)


def cell(name: str) -> gg.Cell:
    return gg.parse(NAMES[name], name) if name in NAMES else cells.cell(name)


def written(name: str, folder: Path) -> list[str]:
    """Header and sources of a cell on disk; the names of the sources."""
    texts = c_programs.files(cell(name))
    for file, text in texts.items():
        (folder / file).write_text(text)
    return [file for file in texts if file.endswith(".c")]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_compiles_without_a_warning(name: str, compiler: str, tmp_path: Path) -> None:
    c_programs.compiled(tmp_path, written(name, tmp_path), [compiler, *c_programs.STRICTER, "-O3"])


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_other_cell_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    sources = [written(name, tmp_path)[-1] for name in (*cells.TRICKY, *NAMES)]
    c_programs.compiled(tmp_path, sources, [compiler, *c_programs.STRICTER, "-O1"])


@pytest.mark.parametrize("name", [*NAMES, *ZOO[::5]])
def test_the_header_serves_cpp(name: str, tmp_path: Path) -> None:
    written(name, tmp_path)
    (tmp_path / "use.cpp").write_text(f'#include "{name}.h"\n#include "{name}.h"\n')
    strict = ["-std=c++98", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-long-long"]
    for version in (strict, ["-std=c++20", *strict[1:]]):
        c_programs.run(["g++", *version, "-fsyntax-only", "use.cpp"], tmp_path)


def test_all_kernels_in_one_program(tmp_path: Path) -> None:
    """No symbol is defined twice, nothing is kept between calls, and little is asked of the C library."""
    sources = [source for name in ZOO for source in written(name, tmp_path)]
    kernels = [(cells.cell(name), dtype) for name in ZOO for dtype in ("float32", "float64")]
    (tmp_path / "main.c").write_text(c_programs.main(kernels))
    command = ["gcc", "-std=c99", "-O0"]
    objects = c_programs.compiled(tmp_path, sources, command)
    c_programs.run([*command, "main.c", *map(str, objects), "-o", "program", "-lm"], tmp_path)
    printed = c_programs.run(["./program"], tmp_path)
    assert printed.count("\n") == len(kernels)
    for path in objects:
        symbols = [line.split() for line in c_programs.run(["nm", path.name], tmp_path).splitlines()]
        kinds = {kind for *_, kind, _ in symbols}
        assert kinds <= {"T", "t", "r", "R", "U"}, f"{path.name} has writable data: {kinds}"
        asked = {name for *_, kind, name in symbols if kind == "U"}
        assert not {name for name in asked if not re.fullmatch(r"mem(cpy|set|move)|\w*f?", name)}
        assert asked <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset", *LIBRARY, *(f"{n}f" for n in LIBRARY)}


LIBRARY = {"rint", "fabs", "copysign", "pow", "log", "log1p", "sqrt", "sin", "cos", "erf", "floor"}


def test_optimization_changes_no_bit(tmp_path: Path) -> None:
    """Without contraction every operation is as IEEE 754 has it, in whatever order the compiler works."""
    sources = [source for name in FEW for source in written(name, tmp_path)]
    kernels = [(cells.cell(name), dtype) for name in FEW for dtype in ("float32", "float64")]
    (tmp_path / "main.c").write_text(c_programs.main(kernels))
    printed = []
    for command in (["gcc", "-O0"], ["gcc", "-O3"], ["clang", "-O2", "-ffp-contract=off"]):
        objects = c_programs.compiled(tmp_path, [*sources, "main.c"], [*command, "-std=c99"])
        c_programs.run([command[0], *map(str, objects), "-o", "program", "-lm"], tmp_path)
        printed.append(c_programs.run(["./program"], tmp_path))
    assert printed[0] == printed[1] == printed[2]


@pytest.mark.parametrize("name", NAMES)
def test_names_change_nothing(name: str) -> None:
    """The compiled kernel and the NumPy reference agree whatever the author called his values."""
    named = cell(name)
    program = gg.derive(named).program
    found = []
    for backend in ("numpy", "c-portable"):
        kernel = gg.compile(named, "float64", backend)
        assert kernel.backend == backend
        given = draw(named, program, Setting(5, 4, (2, 3, 5), lengths=(5, 0, 3, 4)), seed=1)
        run = kernel.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
        found.append(solution(run, kernel.backward(run, given.d_outputs, given.d_final), given))
    for key, array in found[0].items():
        assert relative_error(found[1][key], array) < 1e-13, key


def test_members_keep_the_authors_names() -> None:
    header = c.header(gg.derive(cell("words_of_c")).schedule, cell("words_of_c"))
    assert "float *gamma_;" in header and "float *double_;" in header and "float *W;" in header
    assert "float *h_initial;" in c.header(gg.derive(cell("lstm")).schedule, cell("lstm"))
    manifest = gg.pipeline.manifest(gg.derive(cell("members")), "float64", "c-portable")
    assert [state.start for state in manifest.states] == ["h_final_initial", "h_initial_"]
    assert [state.final for state in manifest.states] == ["h_final_final", "h_final_"]


def test_no_text_can_leave_its_comment() -> None:
    plain = cell("rnn")
    named = gg.Cell('a */ "; int\nb', plain.equations, plain.declarations, "*/ int main(void) { } /* x\n*/")
    assert gg.compile(named, "float32").backend == "c-portable"
    texts = c_programs.files(named)
    assert sorted(texts) == ["a_______int_b.h", "a_______int_b_f32.c", "a_______int_b_f64.c"]
    for text in texts.values():
        assert not re.search(r"\bmain\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_no_word_of_c_is_a_name(name: str) -> None:
    assert c_name(name) == f"{name}_"
    assert c_name(name, {f"{name}_"}) == f"{name}__"


@pytest.mark.parametrize("name", [*ZOO, *cells.TRICKY, *NAMES])
def test_the_text_is_laid_out(name: str) -> None:
    for file, text in c_programs.files(cell(name)).items():
        lines = text.splitlines()
        # A line that is one long name cannot be broken.
        assert not [line for line in lines if len(line) > WIDTH and name != "long_names"], file
        assert not [line for line in lines if line != line.rstrip() or "\t" in line], file
        assert text.isascii() and text.endswith("\n") and "\n\n\n" not in text, file
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(r"\(1\) \*|\* 1[;,) ]|\+ 0[;,) ]", code), file


def test_long_lines_are_broken_at_the_bracket() -> None:
    call = f"    gg_call({', '.join(f'argument_{n}' for n in range(12))});"
    first, second = laid_out(f"{{\n{call}\n}}").splitlines()[1:3]
    assert len(first) <= WIDTH and first.endswith(",") and second.startswith("            argument_")
    condition = f"    if ({' || '.join(f'!argument_{n}' for n in range(9))}) {{"
    assert laid_out(condition).splitlines()[1].startswith("        || !argument_")


FUNCTIONS = """
#include <stdint.h>
#include <math.h>
#include <string.h>
typedef {real} real;
{definitions}
{calls}
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exponential_functions_are_exact_to_a_few_bits(dtype: str, compiler: str, tmp_path: Path) -> None:
    """At most 2.6 units in the last place of the true value; limits, signs and NaN as IEEE 754 has them."""
    parts: dict[str, str] = {}
    for name in c_math.OWN:
        parts |= c_math.definitions(name, dtype == "float32")
    calls = [
        f"void all_{n}(long count, const real *x, real *y)\n"
        f"{{\n    for (long k = 0; k < count; k++) y[k] = gg_{n}(x[k]);\n}}"
        for n in c_math.OWN
    ]
    text = FUNCTIONS.format(
        real=c.TYPES[dtype], definitions="\n".join(parts.values()), calls="\n".join(calls)
    )
    (tmp_path / "functions.c").write_text(text)
    c_programs.run(
        [compiler, "-std=c99", "-O3", "-shared", "-fPIC", "functions.c", "-o", "functions.so", "-lm"],
        tmp_path,
    )
    library = np.ctypeslib.load_library("functions", tmp_path)
    rng = np.random.default_rng(0)
    scales = [rng.uniform(-s, s, 20_000) for s in (1e-6, 0.3, 0.6, 1.0, 4.0, 20.0, 90.0, 700.0)]
    edges = [
        0.0,
        -0.0,
        1e-300,
        -1e-42,
        88.7,
        89.5,
        -103.9,
        709.7,
        710.5,
        -745.1,
        -800.0,
        np.inf,
        -np.inf,
        np.nan,
    ]
    x = np.concatenate([*scales, edges]).astype(dtype)
    for name in c_math.OWN:
        y = np.empty_like(x)
        pointer = np.ctypeslib.ndpointer(dtype, flags="C_CONTIGUOUS")
        function = library[f"all_{name}"]
        function.argtypes, function.restype = [np.ctypeslib.ctypes.c_long, pointer, pointer], None
        function(len(x), x, y)
        with np.errstate(all="ignore"):
            exact = getattr(np, name)(x.astype(np.longdouble))
            unit = np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)
            error = np.abs(y - exact) / unit
            same = (y == exact.astype(dtype)) | (np.isnan(y) & np.isnan(exact))
        assert np.all(same | (error <= 2.6)), name
        if name == "tanh":
            assert np.array_equal(np.signbit(y[:-1]), np.signbit(x[:-1]))


def test_no_compiler_is_left_out() -> None:
    for compiler in ("gcc", "clang", "g++"):
        assert subprocess.run([compiler, "--version"], capture_output=True).returncode == 0
