"""The NumPy reference against the interpreter, and what its text promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, meta
from problems import Problem, interpret, problem, worst

from gategen.backends import numpy as backend
from gategen.backends.numpy_pass import PassView
from gategen.calculus.derive import derive
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule, naive, schedule
from gategen.language.cell import Cell
from gategen.language.functions import FUNCTIONS
from gategen.language.parse import parse

ROOT = Path(__file__).resolve().parents[1]
ZOO = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "gategen" / "zoo").glob("*.cell"))}


def cells(**texts: str) -> dict[str, str]:
    """Cell texts by name, a semicolon for each new line."""
    return {name: text.replace("; ", "\n") for name, text in texts.items()}


CELLS = cells(
    past_input="h[t] = tanh(W_h @ x[t] + V_h @ x[t-1] + U_h @ h[t-1])",
    next_input="h[t] = tanh(W_h @ x[t] + V_h @ x[t+1] + U_h @ h[t-1])",
    both_inputs="h[t] = tanh(0.5 * x[t-1] * x[t] + W_h @ x[t+1] + U_h @ h[t-1])",
    only_past_input="x: input; h[t] = tanh(W_h @ x[t-1] + U_h @ h[t-1])",
    right_to_left="h[t] = tanh(W_h @ x[t-1] + x[t] + 2 * x[t+1] + U_h @ h[t+1])",
    past_input_in_a_product="h[t] = tanh(W_h @ (x[t] - x[t-1]) + U_h @ h[t-1])",
    concatenation="h[t] = tanh(W_h @ [h[t-1], x[t], 2 * s[t]] + b_h)",
    scalars="alpha: scalar; beta: scalar; h[t] = alpha * tanh(W_h @ x[t] + beta * h[t-1]) - beta",
    scalar_input="s: input[1]; h[t] = s[t] * tanh(W_h @ x[t] + s[t]**2 * h[t-1])",
    scalar_state="s: input[1]; q[t] = 0.9 * q[t-1] + s[t]; h[t] = tanh(W_h @ x[t] + q[t] * h[t-1])",
    scalar_operand="s: input[1]; h[t] = tanh(W_h @ s[t] + U_h @ h[t-1]) + s[t] * x[t]",
    derived_scalar="nu: scalar; m = sigmoid(nu); g = W_h @ x[t]; h[t] = m * h[t-1] + (1 - m) * g",
    derived_vector="d_s = exp(-b_s); h[t] = d_s * h[t-1] + W_h @ x[t]",
    frozen="U_h: frozen; h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])",
    constants="dt: constant = 0.25; h[t] = h[t-1] + dt * tanh(W_h @ x[t] + U_h @ h[t-1]) / (1 + dt)",
    function_of_constants="dt: constant = 0.5; h[t] = exp(-dt) * h[t-1] + softplus(dt) * x[t] * erf(dt)",
    size="h: state[n]; h[t] = tanh(x[t] + U_h @ h[t-1] / sqrt(n)) * log(n + 1) + exp(1) / sqrt(2)",
    kinks="h[t] = where(x[t] > 0, h[t-1], 0.5 * x[t]) + max(x[t], h[t-1]) - abs(h[t-1]) / 2",
    numbers="g = where(x[t] > 0.5, 1, where(x[t] < -0.5, -1, 0.5)); h[t] = g * h[t-1] + x[t] * sign(h[t-1])",
    clips="g = clip(W_h @ x[t] + h[t-1], -0.5, 0.7); h[t] = g + relu(h[t-1]) - min(x[t], g) * hard_tanh(g)",
    shared_weights="g = tanh(W_h @ x[t] + W_h @ h[t-1]); h[t] = tanh(W_h @ g + b_h) * b_h",
    loop="v = x[t]\nfor k in range(3):\n    v = tanh(U_h[k] @ v + b_h[k])\nh[t] = v + h[t-1]",
    heads="h[t] = tanh(W_h @ x[t] + U_h @ h[t-1]); y[t] = sigmoid(V_y @ h[t] + b_y); p[t] = V_p @ h[t-1]",
    no_state="y[t] = W_y @ x[t] + b_y",
    no_state_nor_product="y[t] = tanh(x[t] + b_y) * x[t]",
    hidden_state="c[t] = 0.5 * c[t-1] + x[t]; y[t] = 2 * c[t-1] + x[t]; y: output",
    state_of_inputs="s[t] = W_s @ x[t]; h[t] = tanh(s[t-1] + h[t-1])",
    copied_input="s[t] = x[t]; h[t] = s[t-1] + 0.5 * h[t-1]",
    zero_gradient="h[t] = where(b_q > x[t], 1, 0) * h[t-1] + floor(b_r) * x[t]",
    unused_gate="z = sigmoid(W_z @ x[t]); h[t] = h[t-1] + x[t]",
    same_for_all="z[t] = 2 * b_z; h[t] = tanh(x[t] + z[t] * h[t-1]); z: output; h: output",
    powers="h[t] = (x[t]**2 + 1)**-1 * h[t-1]**3 + x[t] / (1 + h[t-1]**2) - -x[t]",
)

# What is computed once per sequence, from parameters only, against differences of the reference itself.
DERIVED = cells(
    scalar_in_a_vector="nu: scalar; v_s = exp(nu) * b_v; h[t] = tanh(W_h @ x[t] + v_s * h[t-1])",
    matrix="W_s = W_a + W_b; h[t] = tanh(W_s @ x[t] + W_s @ h[t-1])",
    product="v_s = W_v @ b_v; h[t] = tanh(W_h @ x[t] + v_s * h[t-1])",
    product_in_a_sum="h[t] = tanh(W_h @ x[t] + U_h @ c_0 + h[t-1])",
    product_returned="z[t] = W_z @ b_z; h[t] = tanh(x[t] + z[t] * h[t-1]); z: output; h: output",
    scalar_in_a_concatenation="nu: scalar; h[t] = tanh(W_h @ [h[t-1], x[t], nu])",
)

CLASHES = cells(
    modules="np: vector; math: vector; h[t] = erf(W_h @ x[t] + np * h[t-1]) + math * len[t]",
    arguments="sizes: vector; params: vector; lengths: vector; keep: vector; tape: vector; "
    "d_outputs: vector; g = sizes * params * inputs[t] + lengths * keep * initial[t] * h[t-1]; "
    "h[t] = tanh(g) + tape * d_outputs",
    locals="B: vector; active: vector; dtype: vector; h[t] = tanh(B * x[t] + active * dtype * h[t-1])",
    adjoints="h[t] = tanh(d_h * a_h * h_prev * h[t-1] + d_h_carry * seed_h * d_x + x[t])",
    results="g = final[t] + d_inputs[t] * d_params[t] + d_initial[t]; "
    "outputs[t] = tanh(g + d_final[t] * outputs[t-1])",
    builtins="float: vector; forward[t] = tanh(backward[t] + float * forward[t-1]) * print[t] + zip[t]",
    width_like_a_value="x: input[h]; h[t] = tanh(x[t] + h[t-1]) / sqrt(2)",
    width_like_a_number="x: input[n]; h[t] = tanh(x[t] + h[t-1]) / sqrt(n)",
    soft_keywords="match[t] = tanh(type[t] + case_b * match[t-1])",
)

SETTINGS: list[dict[str, Any]] = [
    {"T": 0, "B": 3},
    {"T": 1, "B": 1, "widths": (3, 2)},
    {"T": 5, "B": 3},
    {"T": 5, "B": 3, "lengths": (5, 0, 2), "padding": np.nan},
    {"T": 5, "B": 1, "widths": (1,), "lengths": (3,), "padding": np.inf},
    {"T": 1, "B": 3, "lengths": (1, 0, 1), "padding": np.nan},
]

# What is divided by its length, or by itself, is a sign where it has one unit: its gradient is rounding.
NOT_OF_ONE = ("deltanet", "linear_attention")

ALL = ZOO | CELLS | CLASHES


@cache
def program_of(text: str) -> tuple[Cell, Program]:
    cell = parse(text, "mine")
    return cell, derive(cell)


@cache
def module_of(text: str, full: bool = True) -> tuple[Schedule, str, Any]:
    cell, program = program_of(text)
    plan = schedule(program) if full else naive(program)
    written = backend.module(plan, cell)
    namespace: dict[str, Any] = {}
    exec(compile(written, "mine.py", "exec"), namespace)
    return plan, written, namespace


def run(module: Any, given: Problem, keep: bool = True) -> tuple[Any, Any]:
    arguments = (given.sizes, given.inputs, given.params, given.initial, given.lengths)
    results = module["forward"](*arguments, keep)
    if not keep:
        return results, None
    return results, module["backward"](*arguments, results[2], given.d_outputs, given.d_final)


@pytest.mark.parametrize("full", [False, True], ids=["naive", "full"])
@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_interpreter(name: str, full: bool) -> None:
    plan, _, module = module_of(ALL[name], full)
    for setting in SETTINGS:
        if name in NOT_OF_ONE and setting.get("widths") == (1,):
            setting = {**setting, "widths": (2,)}
        given = problem(plan.program, **setting)
        (outputs, final, tape), (d_inputs, d_params, d_initial) = run(module, given)
        # The oracle never sees the padding, so that nothing can leak on both sides.
        clean = problem(plan.program, **{**setting, "padding": 0.0})
        expected, gradients = interpret(plan, clean)
        assert set(tape) == {slot.value.name for slot in plan.tape}
        assert worst(outputs, expected.outputs) <= 1e-13
        assert worst(final, expected.final) <= 1e-13
        assert worst(d_inputs, gradients.inputs) <= 1e-13
        assert worst(d_params, gradients.params) <= 1e-13
        assert worst(d_initial, gradients.initial) <= 1e-13


CALLS = {
    "mod": "mod(2 * x[t] - h[t-1], 0.75)",
    "surrogate": "surrogate(2 * x[t] - h[t-1], tanh(x[t] * h[t-1]))",
    "where": "where(x[t] > h[t-1], x[t], h[t-1])",
    "clip": "clip(h[t-1], -1, x[t])",
    "maximum": "max(h[t-1], x[t]) + max(x[t], x[t])",
    "minimum": "min(h[t-1], x[t]) + min(x[t], x[t])",
    "log": "log(2 + tanh(x[t] - h[t-1]))",
    "log1p": "log1p(x[t]**2 + h[t-1]**2)",
    "sqrt": "sqrt(2 + tanh(x[t] - h[t-1]))",
}


@pytest.mark.parametrize("name", [name for name, made in FUNCTIONS.items() if not made.row.infix])
def test_every_function(name: str) -> None:
    call = CALLS.get(name, f"{name}(2 * x[t] - h[t-1])")
    plan, _, module = module_of(f"h[t] = 0.5 * h[t-1] + {call}")
    for dtype in (np.float64, np.float32):
        given = problem(plan.program, T=3, dtype=dtype)
        found = run(module, given)
        expected = interpret(plan, given)
        bound = 1e-13 if dtype is np.float64 else 2e-5
        assert found[0][0]["h"].dtype == dtype
        assert worst(found[0][0], expected[0].outputs) <= bound
        assert worst(found[1][0], expected[1].inputs) <= bound


@pytest.mark.parametrize("name", DERIVED)
def test_agrees_with_differences(name: str) -> None:
    plan, _, module = module_of(DERIVED[name])
    given = problem(plan.program, lengths=(4, 0, 2))
    _, (d_inputs, d_params, d_initial) = run(module, given)

    def loss(group: dict[str, Any], key: str, array: Any) -> float:
        kept = group[key]
        group[key] = array
        (outputs, final, _), _ = run(module, given, keep=False)
        group[key] = kept
        total = sum(float((given.d_outputs[n] * v).sum()) for n, v in outputs.items())
        return total + sum(float((given.d_final[n] * v).sum()) for n, v in final.items())

    for group, gradients in ((given.inputs, d_inputs), (given.params, d_params), (given.initial, d_initial)):
        for key, value in group.items():
            way = np.random.default_rng(7).standard_normal(np.shape(value))
            steps = [loss(group, key, value + k * 1e-3 * way) for k in (-2, -1, 1, 2)]
            slope = (steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / 12e-3
            assert np.shape(gradients[key]) == np.shape(value)
            assert abs(float((gradients[key] * way).sum()) - slope) <= 1e-8 * max(1, abs(slope))


@pytest.mark.parametrize("name", ALL | DERIVED)
def test_keeps_float32(name: str) -> None:
    plan, _, module = module_of((ALL | DERIVED)[name])
    given = problem(plan.program, dtype=np.float32)
    forward, backward = run(module, given)
    for group in (*forward, *backward):
        for key, array in group.items():
            assert isinstance(array, np.ndarray) and array.dtype == np.float32, key


@pytest.mark.parametrize("name", ["lstm", "lstm_peephole_full", "kinks", "heads", "zero_gradient"])
def test_absent_gradients_are_zero(name: str) -> None:
    plan, _, module = module_of(ALL[name])
    given = problem(plan.program)
    arguments = (given.sizes, given.inputs, given.params, given.initial, None)
    _, _, tape = module["forward"](*arguments, True)
    for group in module["backward"](*arguments, tape, {}, {}):
        assert all(not array.any() for array in group.values())
    assert module["forward"](*arguments, False)[2] == {}


def test_extreme_values_do_not_warn() -> None:
    plan, _, module = module_of(
        "h[t] = sigmoid(x[t]) * h[t-1] + softplus(x[t]) + silu(x[t]) + exp(x[t]) / x[t]"
    )
    given = problem(plan.program, T=6, B=1, widths=(2,))
    given.inputs["x"] = np.array([1e4, -1e4, np.inf, -np.inf, 0, np.nan])[:, None, None] * np.ones((6, 1, 2))
    outputs, _, _ = run(module, given)[0]
    expected = np.array([1e4, -1e4, np.inf, -np.inf, 0, np.nan])
    assert np.isnan(outputs["h"][-1]).all()
    assert outputs["h"].shape == (len(expected), 1, 2)


def test_names_say_where_they_come_from() -> None:
    _, written, _ = module_of(ZOO["gru"])
    assert "generated by gategen from mine.cell; `gategen generate` rewrites it" in written.splitlines()[0]
    assert "# h[t] = (1 - z) * h[t-1] + z * g\n        h[t] = (1 - z[t]) * h_prev + z[t] * g[t]\n" in written
    assert "# from h[t] = (1 - z) * h[t-1] + z * g\n        d_z = d_h * (g[t] - h_prev[t])\n" in written
    assert "def sigmoid(x):" in written and "import math" not in written


@pytest.mark.parametrize("name", ALL)
def test_text_is_clean(name: str) -> None:
    written = module_of(ALL[name])[1]
    assert written.endswith("\n") and not written.endswith("\n\n")
    assert not re.search(r"[ \t]+$", written, re.MULTILINE)
    assert "\n\n\n\n" not in written
    assert written.startswith("# generated by gategen from mine.cell")


def test_documentation_cannot_end_the_docstring() -> None:
    doc = 'A "cell" \\d with """quotes""" and \\N{nothing} """'
    cell = Cell("mine", parse(CELLS["frozen"]).equations, doc=doc)
    written = backend.module(schedule(derive(cell)), cell)
    namespace: dict[str, Any] = {}
    exec(compile(written, "mine.py", "exec"), namespace)
    assert namespace["__doc__"].startswith(doc)


STABLE = """
import sys
from gategen.backends import numpy as backend
from gategen.calculus.derive import derive
from gategen.calculus.schedule import schedule
from gategen.language.parse import parse
sys.stdout.reconfigure(encoding="utf-8")
for text in sys.stdin.read().split("\\0"):
    cell = parse(text, "mine")
    print(backend.module(schedule(derive(cell)), cell))
"""


def test_text_is_stable_under_hash_seeds() -> None:
    chosen = [ZOO["lstm_peephole_full"], ZOO["fastgrnn"], CELLS["clips"], CELLS["heads"], CLASHES["locals"]]
    texts = set()
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", STABLE],
            input="\0".join(chosen).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        texts.add(done.stdout)
    assert len(texts) == 1


def test_template_knows_exactly_the_fields() -> None:
    source = (ROOT / "templates" / "numpy" / "reference.py.j2").read_text("utf-8")
    names = meta.find_undeclared_variables(Environment(autoescape=False).parse(source))
    assert names == {field.name for field in fields(backend.ReferenceView)}
    for function in ("forward", "backward"):
        parts = set(re.findall(rf"\b{function}\.(\w+)", source))
        assert parts == {field.name for field in fields(PassView)}
