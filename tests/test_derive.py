"""Derived adjoints against complex step, their text, and the warnings."""

from __future__ import annotations

import cells
import numpy as np
import pytest
from sympy.printing.str import StrPrinter

import gategen as gg
from gategen.calculus.differences import gradients
from gategen.calculus.ir import (
    Assign,
    Contract,
    Island,
    Node,
    OuterRows,
    Reduce,
    SumRows,
    flatten,
)
from gategen.calculus.problem import relative_error, solve
from gategen.calculus.program import Program
from gategen.calculus.schedule import product_text


@pytest.mark.parametrize("setting", [cells.LENGTHS, cells.WIDTH_ONE], ids=["lengths", "width 1"])
@pytest.mark.parametrize("name", cells.ALL)
def test_every_gradient_is_the_complex_step(name: str, setting: cells.Setting) -> None:
    plan, _ = cells.plans(name)
    given = cells.problem(name, setting)
    found = solve(plan, given)
    cell = cells.cell(name)
    expected = {f"d {part} {key}": array for (part, key), array in gradients(plan, given).items()}
    for key, variable in cell.parameters.items():
        if variable.role == "frozen":
            expected.pop(f"d params {key}")
    assert {key for key in found if key.startswith("d ")} == expected.keys()
    errors = {key: relative_error(found[key], array) for key, array in expected.items()}
    assert max(errors.values()) <= 1e-12, errors


def test_random_arguments_leave_no_gradient_zero() -> None:
    for name in cells.ALL:
        known = {warning.split()[3] for warning in cells.program(name).warnings if "zero" in warning}
        if name == "clockwork_rnn":  # the number of the step only decides
            known.add("t")
        for key, array in solve(cells.plans(name)[0], cells.problem(name, cells.LENGTHS)).items():
            assert array.any() or key.split()[-1] in known, f"{name}: {key}"


def lines(program: Program) -> list[str]:
    """The derived adjoint as text, one line for each node."""
    return [_line(node) for node in flatten(program.adjoint)]


def _line(node: Node) -> str:
    text = StrPrinter({"order": "none"}).doprint
    match node:
        case Island(assigns=(Assign(target=target, expr=expr),)):
            return f"{target.name} += {text(expr)}"
        case Contract():
            products = " + ".join(product_text(p.weight, p.operand, p.transposed) for p in node.products)
            return f"{node.target.name} += {products}"
        case OuterRows():
            return f"{node.target.name} += outer({node.left.name}, {node.right.shown})"
        case SumRows() | Reduce():
            return f"{node.target.name} += sum({text(node.expr)})"
    raise AssertionError(node)


def element_wise(program: Program) -> list[str]:
    """The lines without the matrix products and the sums over steps."""
    return [_line(node) for node in flatten(program.adjoint) if isinstance(node, Island)]


def gate(name: str, *operands: tuple[str, str, str]) -> list[str]:
    """What every gate hands on: to each operand, to the weight in front of it, and to its bias."""
    both = [
        (f"d_{to} += T({weight}_{name}) @ d_a_{name}", f"d_{weight}_{name} += outer(d_a_{name}, {shown})")
        for to, weight, shown in operands
    ]
    return [*(line for pair in both for line in pair), f"d_b_{name} += sum(d_a_{name})"]


X, H = ("x", "W", "x[t]"), ("h_prev", "U", "h[t-1]")


def test_lstm_is_eleven_short_lines() -> None:
    assert element_wise(cells.program("lstm")) == [
        "d_h += seed_h",
        "d_o += d_h*tanh(c)",
        "d_c += d_h*o*(1 - tanh(c)**2)",
        "d_f += d_c*c_prev",
        "d_c_prev += d_c*f",
        "d_i += d_c*g",
        "d_g += d_c*i",
        "d_a_g += d_g*(1 - g**2)",
        "d_a_o += d_o*o*(1 - o)",
        "d_a_f += d_f*f*(1 - f)",
        "d_a_i += d_i*i*(1 - i)",
    ]


def test_lstm_products() -> None:
    program = cells.program("lstm")
    barriers = [_line(node) for node in flatten(program.adjoint) if not isinstance(node, Island)]
    assert barriers == [*gate("g", X, H), *gate("o", X, H), *gate("f", X, H), *gate("i", X, H)]


def test_gru_line_by_line() -> None:
    assert lines(cells.program("gru")) == [
        "d_h += seed_h",
        "d_z += d_h*(g - h_prev)",
        "d_h_prev += d_h*(1 - z)",
        "d_g += d_h*z",
        "d_a_g += d_g*(1 - g**2)",
        *gate("g", X, ("v_g", "U", "v_g")),
        "d_r += d_v_g*h_prev",
        "d_h_prev += d_v_g*r",
        "d_a_r += d_r*r*(1 - r)",
        *gate("r", X, H),
        "d_a_z += d_z*z*(1 - z)",
        *gate("z", X, H),
    ]


def test_scalars_in_vectors_are_summed() -> None:
    program = cells.program("scalar_state")
    found = lines(program)
    assert "d_q += sum(d_a_h*h_prev)" in found
    assert "d_s += d_q" in found


WARNINGS = {
    "h[t] = where(b_q > x[t], 1, 0) * h[t-1] + floor(b_r) * x[t]": (
        "the gradient of b_q is identically zero",
        "the gradient of b_r is identically zero",
    ),
    "z = sigmoid(W_z @ x[t])\nh[t] = h[t-1] + x[t]": (
        "z is computed and never used",
        "the gradient of W_z is identically zero",
    ),
    "q = W_q @ x[t]\ns = 2 * q\nh[t] = tanh(h[t-1] + x[t])": (
        "the equation of q has no effect on any state or output",
        "s is computed and never used",
        "the gradient of W_q is identically zero",
    ),
    "m = exp(b_m)\nh[t] = tanh(h[t-1] + x[t])": (
        "the equation of m has no effect on any state or output",
        "the gradient of b_m is identically zero",
    ),
    "U_h: frozen\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-1])": (),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_warnings(text: str) -> None:
    assert gg.derive(gg.parse(text)).warnings == WARNINGS[text]


def test_published_cells_warn_only_where_their_text_says_so() -> None:
    found = {name: cells.program(name).warnings for name in gg.pipeline.zoo()}
    unused = (
        "r is computed and never used",
        "the gradient of W_r is identically zero",
        "the gradient of U_r is identically zero",
        "the gradient of b_r is identically zero",
    )
    assert {name: warnings for name, warnings in found.items() if warnings} == {
        "gru_update_as_reset_after": unused,
        "gru_update_as_reset_before": unused,
    }


def test_gradients_that_are_zero_are_exactly_so() -> None:
    found = solve(cells.plans("zero_gradient")[0], cells.problem("zero_gradient", cells.LENGTHS))
    assert np.array_equal(found["d params b_q"], np.zeros(2))
    assert np.array_equal(found["d params b_r"], np.zeros(2))


def test_other_outputs_let_other_gradients_in() -> None:
    cell = gg.load("gru").with_outputs(["z", "h"])
    assert list(gg.derive(cell).program.seeds) == ["z", "h"]
    assert "d_z += seed_z" in lines(gg.derive(cell).program)
