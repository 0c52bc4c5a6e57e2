"""The certificate: what it holds, and that it catches what is wrong."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import cells
import numpy as np
import pytest
import sympy
from click.testing import CliRunner

import gategen as gg
from gategen.calculus.ir import Assign, Contract, Island, Node, OuterRows, flatten
from gategen.calculus.program import Program
from gategen.check import BACK_ENDS, DTYPES, NOT_RUN, Certificate, CheckRow
from gategen.cli import main
from gategen.language.functions import FUNCTIONS
from gategen.pipeline import Derivation
from gategen.runtime.engines import CEngine
from gategen.runtime.numpy_engine import NumpyEngine

ENGINES = [f"{backend} {dtype}" for backend in BACK_ENDS for dtype in DTYPES]


@pytest.fixture(autouse=True)
def no_memory() -> Iterator[None]:
    gg.pipeline._derived.cache_clear()
    yield
    gg.pipeline._derived.cache_clear()


def failed(certificate: Certificate) -> set[tuple[str, str]]:
    return {(row.test, row.subject) for row in certificate.rows if not row.passed}


@pytest.mark.parametrize(
    "name", ["lstm", "gru", "heads", "kinks", "frozen", "right_to_left_shifted", "powers"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_right_passes(name: str, seed: int) -> None:
    certificate = gg.check(cells.cell(name), seed)
    assert certificate.passed and not certificate.left_out
    assert not failed(certificate)
    assert {row.test for row in certificate.rows} == {
        "adjoint identity",
        "central differences",
        "NaN in the padding",
        *(f"schedule after {change}" for change in ("hoist", "sink", "defer", "keep", "fuse")),
        *ENGINES,
        *(["complex step"]),
    }
    assert all(0 <= row.error <= row.bound for row in certificate.rows)
    padding = [row.subject for row in certificate.rows if row.test == "NaN in the padding"]
    assert padding == ["interpreter", *ENGINES]


def test_every_gradient_has_its_row() -> None:
    rows = gg.check("lstm").rows
    subjects = {row.subject for row in rows if row.test == "complex step"}
    params = {f"d params {name}" for name in cells.cell("lstm").parameters}
    assert subjects == {"d inputs x", "d initial h", "d initial c", *params}
    assert {row.bound for row in rows if row.test == "complex step"} == {1e-12}


def test_bounds_know_the_dtype_and_stay_tight() -> None:
    for row in gg.check("gru").rows:
        if row.test.endswith(" float64"):
            assert 32 * 2.2e-16 < row.bound < 1e-11
        if row.test.endswith(" float32"):
            assert 32 * 1.1e-7 < row.bound < 1e-2


def test_the_same_seed_gives_the_same_certificate() -> None:
    assert gg.check("rnn", seed=3) == gg.check("rnn", seed=3)
    assert gg.check("rnn", seed=3) != gg.check("rnn", seed=4)


def test_names_paths_and_cells(tmp_path: Any) -> None:
    path = tmp_path / "mine.cell"
    path.write_text("h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])\n")
    assert gg.check(path).cell == gg.check(str(path)).cell == "mine"
    assert gg.check(gg.load("rnn")) == gg.check("rnn")


def changed(program: Program, change: Callable[[Node], Node | None], phase: str = "adjoint") -> Program:
    nodes = [change(node) for node in flatten(getattr(program, phase))]
    return replace(program, **{phase: tuple(node for node in nodes if node is not None)})


def turned(target: str) -> Callable[[Node], Node]:
    def change(node: Node) -> Node:
        if isinstance(node, Island) and node.assigns[0].target.name == target:
            (assign,) = node.assigns
            assert isinstance(assign, Assign)
            return Island((replace(assign, expr=-assign.expr),))
        return node

    return change


def check_with(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[[Program], Program]
) -> Certificate:
    cell = cells.cell(name)
    program = wrong(gg.derive(cell).program)
    monkeypatch.setattr("gategen.pipeline.derive", lambda cell: Derivation(cell, program))
    return gg.check(cell)


def test_a_turned_sign_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = check_with(monkeypatch, "lstm", lambda program: changed(program, turned("d_a_f")))
    assert not certificate.passed
    wrong = failed(certificate)
    assert {("complex step", f"d params {name}") for name in ("W_f", "U_f", "b_f")} <= wrong
    assert ("adjoint identity", "<J u, v> = <u, J^T v>") in wrong
    assert ("central differences", "random directions") in wrong
    assert ("complex step", "d params W_i") in wrong, "the error goes back through h"


def test_a_wrong_gradient_that_nothing_reads_has_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(node: Node) -> Node | None:
        return None if isinstance(node, OuterRows) and node.target.name == "d_W_f" else node

    certificate = check_with(monkeypatch, "lstm", lambda program: changed(program, drop))
    wrong = failed(certificate)
    assert {subject for test, subject in wrong if test == "complex step"} == {"d params W_f"}


def test_a_small_gradient_that_is_a_little_wrong_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding of large gradients may hide errors of a small one, but nothing larger than rounding."""
    cell = gg.parse("h[t] = tanh(W_h @ x[t] + U_h @ h[t-1]) + 1e-6 * (V_h @ x[t])", "small")
    program = gg.derive(cell).program
    assert gg.check(cell).passed
    (left,) = (n.left.name for n in program.adjoint if isinstance(n, OuterRows) and n.target.name == "d_V_h")

    def change(node: Node) -> Node:
        if isinstance(node, Island) and node.assigns[0].target.name == left:
            assign = node.assigns[0]
            assert isinstance(assign, Assign)
            return Island((replace(assign, expr=assign.expr * 1.00001),))
        return node

    wrong = changed(program, change)
    monkeypatch.setattr("gategen.pipeline.derive", lambda cell: Derivation(cell, wrong))
    assert ("complex step", "d params V_h") in failed(gg.check(cell))


def test_a_dropped_product_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(node: Node) -> Node | None:
        return None if isinstance(node, Contract) and node.products[0].weight.name == "U_r" else node

    assert ("complex step", "d initial h") in failed(
        check_with(monkeypatch, "gru", lambda program: changed(program, drop))
    )


def test_a_wrong_derivative_in_the_table_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    row = FUNCTIONS["tanh"].row
    monkeypatch.setattr(FUNCTIONS["tanh"], "row", replace(row, derivatives=(lambda y, x: 1 - y,)))
    sympy.core.cache.clear_cache()
    certificate = gg.check(gg.parse("h[t] = tanh(W_h @ x[t] + 0.5 * h[t-1])", "wrong_table"))
    monkeypatch.undo()
    sympy.core.cache.clear_cache()
    assert ("complex step", "d params W_h") in failed(certificate)
    assert ("central differences", "random directions") in failed(certificate)


def test_a_pass_that_loses_something_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(plan: Any) -> Any:
        return replace(plan, forward=replace(plan.forward, loop=plan.forward.loop[1:]))

    # The package hands out the function of this name, not the module.
    monkeypatch.setattr(sys.modules["gategen.check"], "PASSES", (lossy,))
    assert "schedule after lossy" in {test for test, _ in failed(gg.check("lstm"))}


@pytest.mark.parametrize("engine", [NumpyEngine, CEngine])
def test_a_back_end_that_is_off_is_caught(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    backward = engine.backward

    def wrong(self: Any, *arguments: Any) -> Any:
        slopes = backward(self, *arguments)
        slopes.params["U_h"] *= 1 + 1e-4
        return slopes

    monkeypatch.setattr(engine, "backward", wrong)
    tests = ENGINES[:2] if engine is NumpyEngine else ENGINES[2:]
    assert failed(gg.check("rnn")) == {(test, "d params U_h") for test in tests}


def test_padding_that_leaks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = NumpyEngine.forward

    def leaky(self: Any, call: Any, *rest: Any) -> Any:
        result = forward(self, call, *rest)
        result[0]["h"] += 0 * call.inputs["x"].sum()
        return result

    monkeypatch.setattr(NumpyEngine, "forward", leaky)
    assert failed(gg.check("rnn")) == {("NaN in the padding", engine) for engine in ENGINES[:2]}


def test_without_a_compiler_nothing_is_claimed_for_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEGEN_CC", "no-such-compiler")
    certificate = gg.check("rnn")
    assert certificate.left_out == tuple(ENGINES[2:])
    rows = [row for row in certificate.rows if row.test in ENGINES[2:]]
    assert [(row.test, row.subject, row.passed) for row in rows] == [(t, NOT_RUN, None) for t in ENGINES[2:]]
    assert json.loads(certificate.json())["left_out"] == ENGINES[2:]
    result = CliRunner().invoke(main, ["check", "rnn"])
    assert result.exit_code == 0
    assert f"left out, because there is no C compiler: {', '.join(ENGINES[2:])}" in result.stderr
    assert f"{ENGINES[2]}\t{NOT_RUN}\t-\t-\t-\n" in result.stdout


def test_json_is_plain() -> None:
    rows = (
        CheckRow("one", "a", 0.5, 1.0, True),
        CheckRow("two", "b", math.inf, 1.0, False),
        CheckRow("three", "c", math.nan, math.nan, None),
    )
    certificate = Certificate("mine", 7, rows)
    assert json.loads(certificate.json(), parse_constant=pytest.fail) == {
        "cell": "mine",
        "seed": 7,
        "passed": False,
        "left_out": ["three"],
        "rows": [
            {"test": "one", "subject": "a", "error": 0.5, "bound": 1.0, "passed": True},
            {"test": "two", "subject": "b", "error": None, "bound": 1.0, "passed": False},
            {"test": "three", "subject": "c", "error": None, "bound": None, "passed": None},
        ],
    }
    assert certificate.table() == [
        ("one", "a", "5.0e-01", "1.0e+00", "ok"),
        ("two", "b", "inf", "1.0e+00", "FAILED"),
        ("three", "c", "-", "-", "-"),
    ]


def test_the_command_line_fails_on_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CliRunner().invoke(main, ["check", "rnn", "--json"])
    assert right.exit_code == 0
    assert json.loads(right.stdout)["passed"] is True
    program = changed(gg.derive(gg.load("rnn")).program, turned("d_a_h"))
    monkeypatch.setattr("gategen.pipeline.derive", lambda cell: Derivation(cell, program))
    wrong = CliRunner().invoke(main, ["check", "rnn"])
    assert wrong.exit_code == 1
    assert "complex step\td params W_h\t" in wrong.stdout and "FAILED" in wrong.stdout
    assert "checks failed" in wrong.stderr


def test_divisors_roots_and_logarithms_stay_away_from_zero() -> None:
    cell = gg.parse("h[t] = tanh(h[t-1] / tau_h + log(b_l) * sqrt(b_r) + g_h * x[t] + 1 / m[t])", "divisors")
    program = gg.derive(cell).program
    for seed in range(20):
        given = cells.draw(cell, program, cells.Setting(5, 3, (7,)), seed)
        for name in ("tau_h", "b_l", "b_r"):
            assert given.params[name].min() >= 0.49
        assert np.abs(given.params["g_h"]).min() >= 0.49
        assert given.inputs["m"].min() >= 0.49
    assert gg.check(cell).passed


def test_declared_values_are_disturbed() -> None:
    cell = gg.load("fastgrnn")
    given = cells.draw(cell, gg.derive(cell).program, cells.LENGTHS, 0)
    assert 0.7 <= given.params["zeta"] <= 1.3 and given.params["zeta"] != 1
    assert -5.1 <= given.params["nu"] <= -3.1 and given.params["nu"] != -4


def test_cells_that_diverge_are_checked_on_small_numbers() -> None:
    certificate = gg.check(gg.parse("h[t] = h[t-1]**3 + exp(h[t-1]) + x[t]", "explosive"))
    assert certificate.passed


def test_cells_that_are_never_finite_say_so(tmp_path: Any) -> None:
    path = tmp_path / "never.cell"
    path.write_text("h[t] = log(h[t-1] - 10) + x[t]\n")
    with pytest.raises(gg.GategenError, match="never cannot be checked: from random numbers it leaves"):
        gg.check(path)
    assert CliRunner().invoke(main, ["check", str(path)]).exit_code == 2


@pytest.mark.parametrize(
    "text", ["h[t] = floor(20 * x[t]) + 0.5 * h[t-1]", "h[t] = abs(5 * h[t-1] - 2) - x[t]"]
)
def test_kinks_are_stepped_around(text: str) -> None:
    for seed in range(3):
        certificate = gg.check(gg.parse(text, "kinky"), seed)
        assert not failed(certificate)


NAMED = """
s = W_s @ x[t] + b_s
z = sigmoid(s)
h[t] = z * h[t-1] + tanh(U_h @ h[t-1])
"""


HEAD_ON_THE_PAST = """
h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])
y[t] = W_y @ h[t-1] + b_y
"""


@pytest.mark.parametrize("train", [False, True])
def test_a_head_on_the_past_state_sees_all_steps(train):
    """Without a tape a state takes two steps of memory, but not when something reads it after the loop."""
    found = {}
    for backend in ("numpy", "c-portable"):
        k = gg.compile(gg.parse(HEAD_ON_THE_PAST, "past"), dtype="float64", backend=backend)
        x = np.random.default_rng(0).standard_normal((9, 3, 2))
        found[backend] = k.forward(x, k.init({"x": 2, "h": 5, "y": 3}), train=train).outputs["y"]
    np.testing.assert_allclose(found["c-portable"], found["numpy"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["named", "lstm", "gru_reset_after", "janet"])
def test_every_value_of_a_step_can_be_an_output(name):
    """A hoisted value shares the plane of its gate, unless the caller wants to see it."""
    cell = gg.parse(NAMED, "named") if name == "named" else gg.load(name)
    values = [equation.left.signal for equation in cell.equations]
    assert gg.check(cell.with_outputs(values)).passed
