"""The kernels of the whole zoo under the sanitizers: no access out of bounds, no undefined behaviour."""

from __future__ import annotations

import re
from pathlib import Path

import c_programs
import cells
import pytest

import gategen as gg
from gategen.runtime import team

COMPILER = ("gcc", "-g1", "-O0", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
SANITIZED = (*COMPILER, "-fsanitize=address,undefined")
# What has code of its own: shifts, right to left, scalars, derived parameters, blocks of weights, heads.
MORE = (
    *("past_input", "both_inputs", "right_to_left_shifted", "scalars", "derived_product", "derived_matrix"),
    *("scalar_state", "heads", "low_rank", "loop", "concatenation", "frozen", "hidden_state", "copied_input"),
    *("delays_of_two_states", "long_past_inputs", "right_to_left_delays", "right_to_left_delayed_heads"),
    *("longer_than_any_sequence", "right_to_left_past_inputs", "delayed_heads"),
    *("extremes", "layer_norms", "running_sums"),
    *("matrix_state", "matrix_left_and_right", "matrix_of_columns_and_rows", "matrix_some_steps_back"),
    *(
        "matrix_right_to_left",
        "matrix_of_inputs",
        "matrix_along_its_axes",
        "extremes_along_axes",
        "parameters_along_their_axes",
        "matrices_of_parameters",
        "split_values",
        "constant_widths",
    ),
    *("some_elements", "rows_of_a_vector", "joined_values", "repeated_values", "clock", "same_in_all_steps"),
)
HALVES = {"zoo": gg.pipeline.zoo(), "more": MORE}


PORTABLE = ("-std=c99",)
FAST = ("-std=gnu11", "-fopenmp-simd")
# The fast rendering with the widest vectors for some of the zoo, for others with those of every processor.
RUNS = {
    "zoo portable": (HALVES["zoo"], PORTABLE),
    "more portable": (HALVES["more"], PORTABLE),
    "zoo fast": (HALVES["zoo"][::4], (*FAST, "-march=native")),
    "more fast": (HALVES["more"], (*FAST, "-march=native")),
    "short vectors": ((*HALVES["zoo"][2::4], *MORE[::3]), FAST),
}


@pytest.mark.parametrize("names", RUNS)
def test_nothing_is_out_of_bounds_or_undefined(names: str, tmp_path: Path) -> None:
    chosen, flags = RUNS[names]
    kernels = [(cells.cell(name), "float64" if i % 2 else "float32") for i, name in enumerate(chosen)]
    fast = flags is not PORTABLE
    texts = {"main.c": c_programs.main(kernels, fast), **c_programs.files_of(kernels, fast)}
    link(texts, [*SANITIZED, *flags], tmp_path)
    assert c_programs.run(["./program"], tmp_path).count("\n") == len(kernels)


def link(texts: dict[str, str], command: list[str], folder: Path) -> None:
    """Leave the program that the texts make in their folder."""
    for name, text in texts.items():
        (folder / name).write_text(text)
    objects = c_programs.compiled(folder, [name for name in texts if name.endswith(".c")], command)
    c_programs.run([*command, *map(str, objects), "-o", "program", "-lm"], folder)


RACING = (
    *("lstm", "gru", "lstm_peephole", "lstmp", "jordan", "both_inputs", "right_to_left_shifted", "heads"),
    *("derived_product", "derived_matrix", "concatenated_scalar", "scalar_state"),
    *("delays_of_two_states", "right_to_left_past_inputs", "right_to_left_delayed_heads"),
    *("layer_norms", "running_sums", "extremes", "sum_of_a_number"),
    *("matrix_left_and_right", "matrix_of_columns_and_rows", "rows_of_a_vector", "repeated_values"),
    "matrix_along_its_axes",
)


def test_threads_do_not_race_and_change_no_bit(tmp_path: Path) -> None:
    """Three threads for however little work, all steps shared or sequences apart."""
    kernels = [(cells.cell(name), "float64" if i % 2 else "float32") for i, name in enumerate(RACING)]
    texts = {"main.c": c_programs.main(kernels, fast=True, threads=3), "team.c": team.text()}
    for name, text in c_programs.files_of(kernels, fast=True).items():
        texts[name], count = re.subn(r"(gg_least_\w+ =) 1 << \d+", r"\1 1", text)
        assert count == (0 if name.endswith(".h") else 2)
    link(texts, [*COMPILER, "-fsanitize=thread", "-pthread", *FAST], tmp_path)
    alone, together = (c_programs.run(["./program", *more], tmp_path) for more in ([], ["threads"]))
    assert alone.count("\n") == len(kernels)
    assert together == alone
