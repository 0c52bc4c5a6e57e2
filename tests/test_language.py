"""What an author may write, and what is understood: design, section 1, row by row."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import sympy
from catalogue import WRITTEN as CATALOGUE
from cells import TRICKY

import gategen as gg
from gategen import Cell, Eq, declare, sigmoid, signals, t, tanh, weights
from gategen.errors import CellError, RoleError, ShapeError, UnknownName
from gategen.language.notation import At, MatVec, Parameter, Signal
from gategen.language.roles import Declaration, Role
from gategen.language.shapes import Width

ROOT = Path(__file__).resolve().parents[1]


def roles(text: str, **options: Mapping[str, float]) -> dict[str, str]:
    return {name: role.value for name, role in gg.parse(text, **options).roles.of.items()}


def shapes(text: str) -> dict[str, str]:
    """Every name with its widths, as ``n_h, n_x``."""
    return {name: ", ".join(map(str, v.shape)) for name, v in gg.parse(text).variables.items()}


# ---- text and back


@pytest.mark.parametrize("name", gg.pipeline.zoo())
def test_the_zoo_prints_as_it_is_written(name: str) -> None:
    cell = gg.load(name)
    text = (gg.pipeline.ZOO / f"{name}.cell").read_text(encoding="utf-8")
    if "\nfor " in text or re.search(r"\[t[-+0-9]*[a-z]|\brepeat\(.*, [a-z]+\)\n", text):
        # A loop is written out, and a constant in a delay or a number of times is a number.
        assert gg.parse(str(cell), name) == cell
    else:
        assert str(cell) == text
    assert gg.parse(str(cell), name) == cell


WRITTEN = [
    "h[t] = (1 - z_z) * h[t-1] + z_z * x[t]",
    "h[t] = z_z * x[t] + h[t-1] * (1 - z_z)",
    "h[t] = x[t] - (h[t-1] - b) - (x[t] + b)",
    "h[t] = x[t] + (h[t-1] + (b_h + x[t]))",
    "h[t] = x[t] * (h[t-1] * b) / (2 * b_h) / b",
    "h[t] = x[t] / h[t-1] * b / (x[t] / b)",
    "h[t] = -x[t] * h[t-1] - -b + (-x[t])**2 - -x[t]**2",
    "h[t] = -(x[t] + h[t-1]) * -b",
    "h[t] = -(x[t] * h[t-1])",
    "h[t] = 2 * x[t]**3 - 0.5 * h[t-1] + 1e-07 * b - 1 / 3",
    "h[t] = (x[t] + h[t-1])**2 + (2 * x[t])**2 + (x[t]**2)**3",
    "h[t] = x[t]**0.5 + x[t]**(1 / 2) + sqrt(x[t])",
    "h[t] = (W_x @ x[t]) * (U_h @ h[t-1])",
    "h[t] = W_x @ (x[t] * h[t-1]) + W_x @ -x[t] + V_h @ (U_h @ h[t-1])",
    "h[t] = -(W_x @ x[t]) - U_h @ h[t-1]",
    "h[t] = W_h @ [h[t-1], x[t], 2 * x[t-1]]",
    "h[t] = where(x[t] > 0, h[t-1], where(x[t] <= h[t-1], -1, 0.5))",
    "h[t] = where(x[t] == h[t-1], 1, where(x[t] != 0, clip(x[t], -1, 1), x[t]))",
    "z = sigmoid(W_z @ x[t])\nz = z * z\nh[t] = z + h[t-1]",
    "L: constant = 3\ntau: vector[n] = 1.0\nh: state[n] = -0.5\nh[t] = L * tau * h[t-1] + x[t]",
    "W_h: weight[n, 4*d + 2]\nx: input[4*d + 2]\nh[t] = W_h @ x[t]",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_order_and_parentheses_are_the_authors(text: str) -> None:
    cell = gg.parse(text)
    assert str(cell) == f"{text}\n"
    assert gg.parse(str(cell)) == cell


@pytest.mark.parametrize("name", [*CATALOGUE, *TRICKY])
def test_every_text_comes_back(name: str) -> None:
    text = CATALOGUE[name].text if name in CATALOGUE else TRICKY[name]
    cell = gg.parse(text, name)
    again = gg.parse(str(cell), name)
    assert again == cell
    assert hash(again) == hash(cell)
    assert str(again) == str(cell)


@pytest.mark.parametrize(
    "doc", ["One line.", "Two\nlines.", 'a "quoted"', 'ends in "', '"""', "back\\slash\\", "\x1b[0m\t"]
)
def test_any_doc_comes_back(doc: str) -> None:
    x, h = signals("x h")
    cell = Cell("c", [Eq(h[t], x[t])], doc=doc)
    assert gg.parse(str(cell), "c").doc == doc.expandtabs()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("h[t] = x[t] * h[t-1] + b", "h[t] = b + h[t-1] * x[t]"),
        ("h[t] = x[t] - h[t-1]", "h[t] = -h[t-1] + x[t]"),
        ("h[t] = max(x[t], h[t-1])", "h[t] = maximum(x[t], h[t-1])"),
        ("h[t] = min(x[t], h[t-1])", "h[t] = minimum(x[t], h[t-1])"),
        ("h[t] = W_h @ [x[t], h[t-1]]", "h[t] = W_h @ concat(x[t], h[t-1])"),
        ("h[t] = W_h @ [x[t], [h[t-1], x[t-1]]]", "h[t] = W_h @ concat(concat(x[t], h[t-1]), x[t-1])"),
        ("h[t] = -W_h @ x[t]", "h[t] = -(W_h @ x[t])"),
        ("z = W_z @ x[t]\nh[t] = z * h[t-1]", "z[t] = W_z @ x[t]\nh[t] = z[t] * h[t-1]"),
        ("h[t] = x[t] + x[t] + h[t-1]", "h[t] = 2 * x[t] + h[t-1]"),
        ("h[t] = x[t]**2 + h[t-1]", "h[t] = x[t] * x[t] + h[t-1]"),
        ("tau_h: vector\nh[t] = tau_h * x[t]", "h[t] = tau_h * x[t]"),
        ("h: state\nh[t] = x[t] + h[t-1]", "h[t] = x[t] + h[t-1]"),
        ("s = x[t]\ns = s * b\nh[t] = s", "s_1 = x[t]\ns = s_1 * b\nh[t] = s"),
        ("# a remark\nh[t] = (x[t]\n    + h[t-1])  # another", "h[t] = x[t] + h[t-1]"),
    ],
)  # fmt: skip
def test_equal_cells(one: str, other: str) -> None:
    assert gg.parse(one) == gg.parse(other)
    assert hash(gg.parse(one)) == hash(gg.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("h[t] = x[t] + h[t-1]", "h[t] = x[t] - h[t-1]"),
        ("h[t] = x[t] + h[t-1]", "h[t] = x[t] + h[t+1]"),
        ("h[t] = W_h @ [x[t], h[t-1]]", "h[t] = W_h @ [h[t-1], x[t]]"),
        ("h[t] = b_h * x[t]", "b_h: scalar\nh[t] = b_h * x[t]"),
        ("h[t] = b_h * x[t]", "b_h: vector = 1.0\nh[t] = b_h * x[t]"),
        ("h[t] = b_h * x[t]", "b_h: frozen\nh[t] = b_h * x[t]"),
        ("dt: constant = 0.1\nh[t] = dt * x[t]", "dt: constant = 0.2\nh[t] = dt * x[t]"),
        ("h: state = 0\nh[t] = x[t] + h[t-1]", "h: state = 1\nh[t] = x[t] + h[t-1]"),
        ("z[t] = x[t]\nh[t] = z[t] + h[t-1]", "z: output\nz[t] = x[t]\nh[t] = z[t] + h[t-1]"),
        ("a[t] = x[t]\nh[t] = x[t]", "h[t] = x[t]\na[t] = x[t]"),
    ],
)
def test_different_cells(one: str, other: str) -> None:
    assert gg.parse(one) != gg.parse(other)


def test_the_name_counts_and_the_doc_does_not() -> None:
    assert gg.parse("h[t] = x[t]", "a") != gg.parse("h[t] = x[t]", "b")
    assert gg.parse("'''One.'''\nh[t] = x[t]") == gg.parse("'''Two.'''\nh[t] = x[t]")
    assert gg.parse("h[t] = x[t]") != "h[t] = x[t]\n"


# ---- the same cell in Python


def api_gru() -> Cell:
    x, h, z, r, g = signals("x h z r g")
    W_z, U_z, b_z, W_r, U_r, b_r, W_g, U_g, b_g = weights("W_z U_z b_z W_r U_r b_r W_g U_g b_g")
    return Cell(
        "gru",
        [
            Eq(z[t], sigmoid(W_z @ x[t] + U_z @ h[t - 1] + b_z)),
            Eq(r[t], sigmoid(W_r @ x[t] + U_r @ h[t - 1] + b_r)),
            Eq(g[t], tanh(W_g @ x[t] + U_g @ (r[t] * h[t - 1]) + b_g)),
            Eq(h[t], (1 - z[t]) * h[t - 1] + z[t] * g[t]),
        ],
    )


def api_lstm(name: str, step: int, joint: bool) -> Cell:
    x, h, c, i, f, o, g = signals("x, h, c, i, f, o, g")
    equations = []
    for gate, letter, function in ((i, "i", sigmoid), (f, "f", sigmoid), (o, "o", sigmoid), (g, "g", tanh)):
        if joint:
            W, b = weights(f"W_{letter if letter != 'g' else 'c'} b_{letter if letter != 'g' else 'c'}")
            equations.append(Eq(gate[t], function(W @ [h[t + step], x[t]] + b)))
        else:
            W, U, b = weights(f"W_{letter} U_{letter} b_{letter}")
            equations.append(Eq(gate[t], function(W @ x[t] + U @ h[t + step] + b)))
    equations += [Eq(c[t], f[t] * c[t + step] + i[t] * g[t]), Eq(h[t], o[t] * tanh(c[t]))]
    return Cell(name, equations)


@pytest.mark.parametrize(
    "cell",
    [
        api_gru(),
        api_lstm("lstm", -1, joint=False),
        api_lstm("lstm_reverse", 1, joint=False),
        api_lstm("lstm_concat", -1, joint=True),
    ],
    ids=lambda cell: cell.name,
)
def test_both_forms_give_equal_cells(cell: Cell) -> None:
    written = gg.load(cell.name)
    assert cell == written
    assert hash(cell) == hash(written)
    assert cell.reverse == written.reverse
    assert cell.widths.keys() == written.widths.keys()
    assert gg.parse(str(cell), cell.name) == cell


def test_declarations_by_program() -> None:
    x, h = signals("x h")
    W, alpha, tau, dt = weights("W alpha tau dt")
    equation = Eq(h[t], h[t - 1] + dt / tau * (tanh(W @ x[t]) - alpha * h[t - 1]))
    lines = (
        "dt: constant = 0.1",
        "alpha: scalar = 1.0",
        "tau: vector[n] = 2",
        "x: input[d]",
        "h: state[n] = 0.5",
    )
    cell = Cell("leaky", [equation], declare(*lines))
    assert cell == gg.parse("\n".join([*lines, str(cell).splitlines()[-1]]), "leaky")
    assert cell == Cell("leaky", [equation], declare("\n".join(lines)))
    assert {n: v.value for n, v in cell.variables.items() if v.value is not None} == {
        "h": 0.5, "dt": 0.1, "tau": 2.0, "alpha": 1.0,
    }  # fmt: skip
    assert declare("W: weight[n, 2*d + 1]") == (
        Declaration("W", "weight", (Width.of("n"), Width.of("d").times(2) + Width((), 1))),
    )
    with pytest.raises(CellError, match="<declare>:2:1: 'h\\[t\\] = x\\[t\\]' is no declaration"):
        declare("x: input", "h[t] = x[t]")


def test_what_a_program_names_freely_is_declared_in_the_text() -> None:
    x, h = signals("x h")
    V, u, gain, scale = weights("V u gain scale[0]")
    cell = Cell("free", [Eq(h[t], V @ x[t] + u * h[t - 1] + gain + scale)])
    assert str(cell).startswith("u: vector\ngain: vector\nh[t] = ") or "gain: vector" in str(cell)
    assert gg.parse(str(cell), "free") == cell


def test_a_bare_name_by_program() -> None:
    x, h, A = signals("x h A")
    (B,) = [weights("B_s")]
    cell = Cell("c", [Eq(A, gg.exp(B)), Eq(h[t], A[t] @ x[t] + h[t - 1])])
    assert cell == gg.parse("A = exp(B_s)\nh[t] = A @ x[t] + h[t-1]", "c")
    assert cell.roles.of["A"] is Role.DERIVED


SCRIPT = """
from gategen import Cell, Eq, maximum, sigmoid, signals, t, tanh, weights
x, h, z, g, c = signals("x h z g c")
W, U, b, V, p, s = weights("W_z U_z b_z V_z p_z s_z")
print(Cell("c", [
    Eq(z[t], sigmoid(W @ x[t] + U @ h[t-1] + b + p * c[t-1] + s)),
    Eq(g[t], tanh(V @ [x[t], h[t-1], z[t] * h[t-1]]) * p * s / (1 + z[t]**2)),
    Eq(c[t], z[t] * c[t-1] + (1 - z[t]) * g[t] + 3 * maximum(z[t], g[t]) - p * s),
    Eq(h[t], -z[t] * tanh(c[t]) + 2 * (p + s + b) * g[t] - c[t] * z[t] * g[t] * p),
]))
"""


def test_a_cell_by_program_prints_in_one_order() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "4711")
    }
    assert len(printed) == 1
    assert gg.parse(printed.pop()).states


def test_cells_can_be_pickled() -> None:
    for cell in (gg.load("lstm_concat"), api_gru()):
        again = pickle.loads(pickle.dumps(cell))
        assert again == cell
        assert str(again) == str(cell)


x_, h_ = signals("x h")
W_, a_ = weights("W_x a_x")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Eq(h_[t + 1], x_[t]), "cannot assign to h[t+1]"),
        (lambda: Eq(W_, x_[t]), "cannot assign to W_x"),
        (lambda: Eq(h_[t], "x[t] + 1"), "'x[t] + 1' is no expression"),
        (lambda: Eq(h_[t], "__import__('os').system('true')"), "is no expression"),
        (lambda: Eq(h_[t], None), "None is no expression"),
        (lambda: Eq(h_[t], x_), "x is a signal and has a value at a time"),
        (lambda: tanh(x_), "x is a signal and has a value at a time"),
        (lambda: W_ @ x_, "x is a signal and has a value at a time"),
        (lambda: a_ * x_, "x is a signal and has a value at a time"),
        (lambda: x_["t-1"], "'t-1' is no expression"),
        (lambda: x_[t / 2], "x[t/2] is not a time"),
        (lambda: x_[0], "x[0] is not a time"),
        (lambda: (W_ @ x_[t]) @ x_[t], "stands left of @"),
        (lambda: Eq(h_[t], sympy.tanh(x_[t])), "expected: gategen.tanh"),
        (lambda: Eq(h_[t], sympy.Max(x_[t], 0)), "Max(0, x[t]) is not part of the language"),
        (lambda: Eq(h_[t], sympy.Symbol("q") * x_[t]), "q is neither a signal nor a parameter"),
        (lambda: Eq(h_[t], sympy.pi * x_[t]), "pi is not part of the language"),
        (lambda: Eq(h_[t], sympy.I * x_[t]), "I is not part of the language"),
        (lambda: Eq(h_[t], x_[t] / sympy.Integer(0)), "zoo is not part of the language"),
        (lambda: Eq(h_[t], x_[t] * float("nan")), "nan is not part of the language"),
        (lambda: Eq(h_[t], x_[t] > 0), "is not part of the language"),
        (lambda: Eq(h_[t], x_[t] ** h_[t - 1]), "the exponent h[t-1] is not a number"),
        (lambda: Eq(h_[t], gg.where(x_[t], 1, 0)), "where needs one comparison"),
        (lambda: Eq(h_[t], gg.greater(x_[t], 1)), "a comparison stands only inside where"),
        (lambda: Cell("c", [Eq(h_[t], [x_[t], h_[t - 1]])]), "widths differ: 'h[t]' has width h"),
        (lambda: Eq(h_[t], W_ @ []), "the concatenation is empty"),
        (lambda: Eq(h_[t], x_[t] * sympy.Integer(10) ** 300), "more than a float holds"),
        (lambda: Cell("c", []), "the cell has no equations"),
        (lambda: Cell("c", [Eq(Signal("class")[t], x_[t])]), "'class' is a word of Python"),
        (lambda: Cell("c", [Eq(Signal("h; exit")[t], x_[t])]), "'h; exit' cannot be a name"),
        (lambda: Cell("c", [Eq(h_[t], x_[t] * Parameter("__import__"))]), "'__import__' cannot be a name"),
        (lambda: Cell("c", [Eq(h_[t], x_[t] * Parameter("tanh"))]), "'tanh' is the name of a function"),
        (lambda: Cell("c", [Eq(h_[t], x_[t] * Parameter("U_h[0][1]"))]), "cannot be a name"),
        (lambda: Cell("c", [Eq(h_[t], x_[t])], declare("u: vector")), "u is declared but never used"),
        (lambda: Cell("c", [Eq(h_[t], x_[t]), Eq(h_[t], x_[t])]), "h[t] is assigned twice"),
        (lambda: Cell("c", [Eq(h_[t], x_[t] * a_ + W_ @ x_[t] + W_)]), "'W_x' is a matrix"),
        (lambda: Cell("c", [Eq(h_[t], x_[t])], declare("x: input") * 2), "x is declared twice"),
    ],
)  # fmt: skip
def test_mistakes_by_program(build, said):
    with pytest.raises(CellError) as caught:
        build()
    assert said in str(caught.value)


# ---- the table of roles


def test_a_name_read_and_never_assigned_is_an_input() -> None:
    assert roles("h[t] = x[t] + u[t-1] + u[t]") == {"x": "input", "u": "input", "h": "output"}
    assert gg.parse("h[t] = x[t] + u[t-1] + u[t]").roles.offsets == {"x": (0,), "u": (-1, 0)}
    assert gg.parse("h[t] = x[t] + x[t+1]").roles.offsets == {"x": (0, 1)}


def test_a_name_assigned_and_read_at_another_time_is_a_state() -> None:
    cell = gg.parse("h[t] = x[t] + h[t-1]\ny[t] = h[t] * h[t-1]")
    assert cell.roles.of["h"] is Role.STATE
    assert list(cell.states) == ["h"]
    assert not cell.reverse


def test_a_new_state_value_is_seen_in_the_same_step() -> None:
    kernel = gg.compile(gg.parse("c[t] = c[t-1] + x[t]\nh[t] = 10 * c[t]"), "float64", "numpy")
    x = np.ones((3, 1, 2))
    np.testing.assert_array_equal(kernel.forward({"x": x}, {}).outputs["h"][:, 0, 0], [10, 20, 30])


def test_a_name_read_at_t_only_is_an_intermediate() -> None:
    assert roles("f[t] = sigmoid(W_f @ x[t])\nh[t] = f[t] * h[t-1]")["f"] == "intermediate"
    assert roles("f = sigmoid(W_f @ x[t])\nh[t] = f * h[t-1]")["f"] == "intermediate"


def test_a_name_never_read_is_an_output() -> None:
    assert roles("y[t] = W_y @ x[t]\nh[t] = x[t] + h[t-1]")["y"] == "output"
    assert roles("z = W_z @ x[t]\nh[t] = x[t] + h[t-1]")["z"] == "intermediate"


def test_a_future_state_makes_the_cell_run_from_right_to_left() -> None:
    cell = gg.parse("h[t] = tanh(W_h @ x[t] + U_h @ h[t+1])")
    assert cell.reverse
    assert cell.roles.of["h"] is Role.STATE
    assert gg.parse("h[t] = x[t+1] + h[t+1] + x[t-1] + x[t]").reverse
    with pytest.raises(RoleError, match="both directions"):
        gg.parse("h[t] = h[t+1] + c[t-1]\nc[t] = x[t] + h[t]")


def test_a_bare_name_that_depends_on_parameters_only_is_derived() -> None:
    found = roles("a_s = exp(a_h)\nb_s = a_s * 2\nz = b_s * x[t]\nh[t] = z + h[t-1]")
    assert (found["a_s"], found["b_s"], found["z"]) == ("derived", "derived", "intermediate")
    assert roles("dt: constant = 0.1\nk = dt * 2\nh[t] = k * x[t]")["k"] == "derived"
    assert roles("a_s: output\na_s = exp(a_h)\nh[t] = a_s * x[t]")["a_s"] == "output"


def test_a_bare_name_may_be_assigned_again() -> None:
    cell = gg.parse("s = x[t]\ns = s * b_s\ns = tanh(s) + s\nh[t] = s + h[t-1]")
    assert [e.left.signal for e in cell.roles.equations] == ["s_1", "s_2", "s", "h"]
    assert str(cell) == "s = x[t]\ns = s * b_s\ns = tanh(s) + s\nh[t] = s + h[t-1]\n"
    taken = gg.parse("s_1 = x[t]\ns = s_1\ns = s + s_1\nh[t] = s")
    assert [e.left.signal for e in taken.roles.equations] == ["s_1", "s_2", "s", "h"]
    kernel = gg.compile(gg.parse("s = x[t]\ns = 2 * s\ns = s + 1\nh[t] = s"), "float64", "numpy")
    np.testing.assert_array_equal(kernel.forward({"x": np.full((1, 1, 1), 3.0)}, {}).outputs["h"], [[[7.0]]])


def test_what_stands_left_of_a_product_is_a_matrix() -> None:
    assert shapes("h[t] = V @ x[t] + U_h @ h[t-1]") == {
        "x": "n_x", "h": "n_h", "V": "n_h, n_x", "U_h": "n_h, n_h",
    }  # fmt: skip


def test_bare_names_with_an_underscore_or_plain_b_are_parameters() -> None:
    found = roles("h[t] = b * x[t] + p_h * h[t-1]")
    assert found["b"] == found["p_h"] == "parameter"
    with pytest.raises(UnknownName, match="unknown name 'bias'"):
        gg.parse("h[t] = bias * x[t]")


def test_a_past_that_nothing_assigns() -> None:
    with pytest.raises(RoleError, match=r"c\[t-1\] is read but c\[t\] is never assigned"):
        gg.parse("h[t] = x[t] + c[t-1]")
    assert roles("c: input\nh[t] = x[t] + c[t-1]")["c"] == "input"


def test_products_are_element_wise_and_scalars_fit_anything() -> None:
    found = shapes("a: scalar\ns: input[1]\nh[t] = a * x[t] + 2 * s[t] - b_h / s[t]")
    assert found == {"x": "n_x", "s": "", "h": "n_x", "a": "", "b_h": "n_x"}
    assert shapes("s: input[1]\na: scalar\nq[t] = a * s[t] + q[t-1]")["q"] == ""
    assert shapes("s: input[1]\nh[t] = W_h @ s[t]")["W_h"] == "n_h, 1"


# ---- declarations


def test_every_kind_of_declaration() -> None:
    cell = gg.parse(
        "dt: constant = 0.1\nalpha: scalar = 1.0\ntau: vector[n] = 2\n"
        "A: weight[n, d]\nM: frozen[n, n]\nf_b: frozen\nx: input[d]\nh: state[n] = 0.5\ny: output\n"
        "h[t] = dt / tau * (A @ x[t] + M @ h[t-1]) + f_b\ny[t] = alpha * h[t]"
    )
    kinds = {name: v.role.value for name, v in cell.variables.items()}
    assert kinds == {
        "x": "input", "h": "state", "y": "output", "dt": "constant", "tau": "parameter", "A": "parameter",
        "M": "frozen", "f_b": "frozen", "alpha": "parameter",
    }  # fmt: skip
    assert cell.widths == {"d": ("x",), "n": ("h", "y", "tau", "f_b")}
    assert cell.variables["h"].value == 0.5
    assert cell.variables["tau"].multiplied
    assert list(cell.outputs) == ["y"]
    assert cell.constants["dt"].value == 0.1


def test_a_width_as_a_number() -> None:
    cell = gg.parse("x: input[d]\nh[t] = W_h @ x[t] / sqrt(d) + h[t-1]")
    assert cell.roles.of["d"] is Role.SIZE
    kernel = gg.compile(cell, "float64", "numpy")
    run = kernel.forward({"x": np.ones((1, 1, 4))}, {"W_h": np.ones((1, 4))})
    np.testing.assert_allclose(run.outputs["h"], [[[2.0]]])


def test_one_declaration_serves_all_keys() -> None:
    cell = gg.parse("U_h: weight[n, n]\nh: state[n]\nh[t] = U_h[0] @ h[t-1] + U_h[1] @ (x[t] * u_h[2])")
    assert list(cell.parameters) == ["U_h[0]", "U_h[1]", "u_h[2]"]
    assert [str(w) for w in cell.parameters["U_h[1]"].shape] == ["n", "n"]
    frozen = gg.parse("g_h: frozen\nh[t] = g_h[3] * x[t]")
    assert frozen.parameters["g_h[3]"].role is Role.FROZEN


def test_initial_values_of_states() -> None:
    kernel = gg.compile(gg.parse("h: state = 2\nh[t] = h[t-1] + 0 * x[t]"), "float64", "numpy")
    np.testing.assert_array_equal(kernel.forward({"x": np.zeros((1, 1, 1))}, {}).outputs["h"], [[[2.0]]])


# ---- shapes and names of widths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h[t] = W_h @ x[t] + h[t-1]", {"n_x": ("x",), "n_h": ("h",)}),
        ("h[t] = x[t] + h[t-1] + b", {"n_x": ("x", "h", "b")}),
        ("c[t] = W_c @ x[t] + c[t-1]\nh[t] = c[t] + h[t-1]", {"n_x": ("x",), "n_h": ("c", "h")}),
        ("y[t] = V_y @ (W_h @ x[t] + b_h)", {"n_x": ("x",), "n_y": ("y",), "n_b_h": ("b_h",)}),
        ("z = W_z @ x[t]\ny[t] = V_y @ z", {"n_x": ("x",), "n_y": ("y",), "n_z": ("z",)}),
        ("x: input[d]\nh: state[n]\nh[t] = W_h @ x[t] + h[t-1]", {"d": ("x",), "n": ("h",)}),
        ("x: input[3]\nh[t] = W_h @ x[t] + h[t-1]", {"n_h": ("h",)}),
        ("x: input[h]\nh[t] = x[t] + h[t-1]", {"h": ("x", "h")}),
        ("h[t] = W_h @ (V_h @ x[t])", {"n_x": ("x",), "n_h": ("h",), "n_W_h": ()}),
        ("n_x = W_n @ x[t]\nh[t] = n_x + h[t-1]", {"n_x_": ("x",), "n_h": ("h", "n_x")}),
        ("a[t] = x[t] + a[t-1]\nu[t] = W_u @ x[t]\nh[t] = u[t]", {"n_x": ("x", "a"), "n_h": ("u", "h")}),
    ],
)  # fmt: skip
def test_names_of_widths(text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert {w: tuple(sorted(m)) for w, m in gg.parse(text).widths.items()} == {
        w: tuple(sorted(m)) for w, m in expected.items()
    }


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("h[t] = W_h @ [h[t-1], x[t]]", "W_h", "n_h, n_h + n_x"),
        ("h[t] = W_h @ [h[t-1], h[t-1], x[t]]", "W_h", "n_h, 2*n_h + n_x"),
        ("s: input[1]\nh[t] = W_h @ [x[t], s[t], 1]", "W_h", "n_h, n_x + 2"),
        ("W_h: weight[n, 4*n + d + 3]\nh[t] = W_h @ x[t]", "x", "d + 4*n + 3"),
        ("W_h: weight[n, n + d]\nh[t] = W_h @ [h[t-1], x[t]]", "x", "d"),
        ("W_h: weight[n, n]\nh[t] = W_h @ (W_h @ x[t])", "x", "n"),
        ("k: constant = 3\nW_h: weight[2*k, k]\nh[t] = W_h @ x[t]", "W_h", "6, 3"),
        ("W_h: weight[2*k, k]\nk: constant = 3\nh[t] = W_h @ x[t]", "x", "3"),
        ("W_s = W_a + W_b * W_b\nh[t] = W_s @ x[t]", "W_b", "n_h, n_x"),
        ("W_s = W_a * 2\nW_r = W_s * W_c\nh[t] = W_r @ x[t]", "W_a", "n_h, n_x"),
        ("v_s = W_v @ b_v\nh[t] = W_h @ x[t] + v_s", "W_v", "n_h, n_b_v"),
        ("h[t] = W_h @ x[t-1] + b_h\nx: input[7]", "W_h", "n_h, 7"),
        ("h_1[t] = h_2[t-1] + 0\nh_2[t] = h_3[t-1] + 0\nh_3[t] = x[t] + h_1[t]", "h_1", "n_x"),
        ("h[t] = sigmoid(b_h) * x[t] + max(c_h, 0)", "c_h", "n_x"),
        ("h[t] = x[t] + h[t-1]\ny[t] = W_y @ h[t]", "W_y", "n_y, n_x"),
    ],
)  # fmt: skip
def test_inferred_shapes(text: str, name: str, expected: str) -> None:
    assert shapes(text)[name] == expected


def test_two_brackets_are_never_equal() -> None:
    with pytest.raises(ShapeError, match="'x\\[t\\]' has width n, 'y\\[t\\]' has width m"):
        gg.parse("x: input[n]\ny: input[m]\nh[t] = x[t] * y[t]")


# ---- constants, loops, conditions


RHN = """
L: constant = 3
s = h[t-1]
for k in range(L):
    a = U_s[k] @ s + b_s[k]
    if k == 0:
        a = W_s @ x[t] + a
    s = tanh(a) if k % 2 == 0 else sigmoid(a)
h[t] = s
"""


def test_loops_are_unrolled_and_conditions_decided() -> None:
    cell = gg.parse(RHN)
    assert list(cell.parameters) == ["U_s[0]", "b_s[0]", "W_s", "U_s[1]", "b_s[1]", "U_s[2]", "b_s[2]"]
    assert str(cell).splitlines()[1:] == [
        "s = h[t-1]",
        "a = U_s[0] @ s + b_s[0]",
        "a = W_s @ x[t] + a",
        "s = tanh(a)",
        "a = U_s[1] @ s + b_s[1]",
        "s = sigmoid(a)",
        "a = U_s[2] @ s + b_s[2]",
        "s = tanh(a)",
        "h[t] = s",
    ]
    assert gg.parse(str(cell)) == cell


def test_constants_given_by_the_caller() -> None:
    assert list(gg.parse(RHN, constants={"L": 1}).parameters) == ["U_s[0]", "b_s[0]", "W_s"]
    text = "L: constant\nM: constant = L * 2\nx: input[M]\nh[t] = x[t]**L * U_h[M - L] + L * h[t-1]"
    cell = gg.parse(text, constants={"L": 2})
    assert cell.constants["L"].value == 2.0
    assert str(cell.inputs["x"].shape[0]) == "4"
    assert "x[t]**2 * U_h[2] + L * h[t-1]" in str(cell)


def test_other_values_for_constants() -> None:
    cell = gg.parse("dt: constant = 0.1\nL: constant = 2\nh[t] = dt * x[t]**L", "c")
    assert cell.with_constants({"dt": 0.5}).constants["dt"].value == 0.5
    with pytest.raises(UnknownName, match=r"c has no constant 'dT'(.|\n)*did you mean: dt"):
        cell.with_constants({"dT": 0.5})
    with pytest.raises(UnknownName, match=r"L was fixed when c was read(.|\n)*constants={'L': 3}"):
        cell.with_constants({"L": 3})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("1 < 2", True), ("not 1 < 2", False), ("1 < 2 < 3", True), ("1 < 3 < 2", False), ("2 != 2", False),
        ("L == 3 and L > 2", True), ("L == 4 or L <= 3", True), ("L // 2 == 1 and L % 2 == 1", True),
        ("L - 3", False), ("True", True), ("not (L > 1 and L < 3) and -L < +0.5", True),
    ],
)  # fmt: skip
def test_conditions(condition: str, holds: bool) -> None:
    cell = gg.parse(f"L: constant = 3\nif {condition}:\n    h[t] = x[t]\nelse:\n    h[t] = u[t]")
    assert list(cell.inputs) == (["x"] if holds else ["u"])
    assert list(gg.parse(f"L: constant = 3\nh[t] = x[t] if {condition} else u[t]").inputs) == list(
        cell.inputs
    )


def test_delays_may_be_computed() -> None:
    assert gg.parse("h[t] = x[t-(2-1)] + x[t]").roles.offsets["x"] == (-1, 0)
    cell = gg.parse("s = 0 * x[t]\nfor k in range(1, -1, -1):\n    s = s + x[t-k] * k\nh[t] = s")
    assert str(cell).splitlines()[1:3] == ["s = s + x[t-1] * 1", "s = s + x[t] * 0"]


# ---- outputs


def test_outputs_are_the_signals_never_read_and_the_last_state() -> None:
    assert list(gg.parse("c[t] = x[t] + c[t-1]\nh[t] = c[t] + h[t-1]\ny[t] = W_y @ h[t]").outputs) == [
        "h",
        "y",
    ]
    assert list(gg.load("lstm").outputs) == ["h"]
    assert list(gg.parse("y: output\nh[t] = x[t] + h[t-1]\ny[t] = W_y @ h[t]\nq[t] = x[t]").outputs) == ["y"]
    assert list(gg.parse("z: output\nh: output\nz[t] = W_z @ x[t]\nh[t] = z[t] + h[t-1]").outputs) == [
        "z",
        "h",
    ]


def test_any_assigned_name_can_be_given_back() -> None:
    cell = gg.load("lstm")
    assert list(cell.with_outputs(["f", "c"]).outputs) == ["f", "c"]
    assert cell.with_outputs(["c"]) != cell
    assert cell.with_outputs(["h"]) == cell
    with pytest.raises(
        UnknownName, match=r"output 'ff' is not assigned per step by lstm(.|\n)*did you mean: f"
    ):
        cell.with_outputs(["ff"])
    with pytest.raises(UnknownName):
        cell.with_outputs(["x"])
    with pytest.raises(UnknownName):
        gg.parse("a_s = exp(a_h)\nh[t] = a_s * x[t]").with_outputs(["a_s"])
    kernel = gg.compile("gru", "float64", "numpy", outputs=["h", "z"])
    run = kernel.forward({"x": np.zeros((2, 1, 3))}, kernel.init({"x": 3, "h": 2}, seed=0))
    np.testing.assert_array_equal(run.outputs["z"], np.full((2, 1, 2), 0.5))


# ---- how the text is read


def test_the_parser_builds_unevaluated_nodes() -> None:
    (equation,) = gg.parse("h[t] = W_h @ x[t] + x[t] - x[t]").equations
    product = MatVec(Parameter("W_h"), At("x"))
    assert equation.right.args[0].args == (product, At("x"))
    assert equation.positions[product].column == 8
    assert equation.position().column == 1  # type: ignore[union-attr]


def test_line_ends_comments_and_tabs_do_not_matter() -> None:
    plain = gg.parse("z = W_z @ x[t]\nif 1:\n    h[t] = z + h[t-1]\n")
    assert gg.parse("z = W_z @ x[t]\r\nif 1:\r\n\th[t] = z + h[t-1]\r\n") == plain
    assert gg.parse("z = W_z @ x[t]\rif 1:\r    h[t] = z + h[t-1]") == plain
    assert gg.parse("\n# Δ\nz = W_z @ x[t]; # none\nif 1: h[t] = z + h[t-1]\npass") == plain


def test_names_that_only_other_languages_reserve() -> None:
    """Words of C and of the mathematical library are names like others."""
    cell = gg.parse("int = W_int @ x[t]\nstatic[t] = tanh(int) + static[t-1]\nfloat[t] = V_f @ static[t]\n")
    assert list(cell.outputs) == ["static", "float"]
    for backend in ("numpy", "c-portable"):
        kernel = gg.compile(cell, "float64", backend)
        run = kernel.forward(
            {"x": np.ones((2, 1, 3))}, kernel.init({"x": 3, "static": 2, "float": 1}, seed=0)
        )
        assert np.all(np.isfinite(run.outputs["float"]))
