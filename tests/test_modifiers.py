"""Modifiers: the equations that they write, what these compute, and how they combine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from click.testing import CliRunner

import gategen as gg
from gategen.calculus.differences import gradients
from gategen.calculus.problem import Setting, draw, relative_error, solve
from gategen.calculus.schedule import naive
from gategen.cli import main
from gategen.errors import ArgumentError, CellSyntaxError, GategenError, UnknownName
from gategen.modifiers import MODIFIERS, noise

# What changes of the equations of the cell: a line that goes, or a line that comes.
CHANGES = {
    "zoneout(gru, h=0.1)": """
        - h[t] = (1 - z) * h[t-1] + z * g
        + u_h: input
        + p_h: constant = 0.1
        + h_new = (1 - z) * h[t-1] + z * g
        + h[t] = where(u_h[t] < p_h, h[t-1], h_new)
    """,
    "zoneout(lstm, c=0.5)": """
        - c[t] = f * c[t-1] + i * g
        - h[t] = o * tanh(c[t])
        + u_c: input
        + p_c: constant = 0.5
        + c_new = f * c[t-1] + i * g
        + c[t] = where(u_c[t] < p_c, c[t-1], c_new)
        + h[t] = o * tanh(c_new)
    """,
    "expected_zoneout(gru, h=0.25)": """
        - h[t] = (1 - z) * h[t-1] + z * g
        + p_h: constant = 0.25
        + h_new = (1 - z) * h[t-1] + z * g
        + h[t] = p_h * h[t-1] + (1 - p_h) * h_new
    """,
    "dropout(lstm, g=0.25)": """
        - g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
        + u_g: input
        + p_g: constant = 0.25
        + g_new = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
        + g = where(u_g[t] < p_g, 0, g_new / (1 - p_g))
    """,
    "padded(gru)": """
        - h[t] = (1 - z) * h[t-1] + z * g
        + m: input[1]
        + h_new = (1 - z) * h[t-1] + z * g
        + h[t] = where(m[t] > 0, h_new, h[t-1])
    """,
    "projected(lstm)": """
        - h[t] = o * tanh(c[t])
        + h_new = o * tanh(c[t])
        + h[t] = P_h @ h_new
    """,
    "residual(gru)": """
        + y: output
        + y[t] = h[t] + x[t]
    """,
    "highway(gru)": """
        + y: output
        + k = sigmoid(W_k @ x[t] + b_k)
        + y[t] = k * h[t] + (1 - k) * x[t]
    """,
    "reverse(rnn)": """
        - h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        + h[t] = tanh(W_h @ x[t] + U_h @ h[t+1] + b_h)
    """,
    "dilated(rnn, 4)": """
        - h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        + h[t] = tanh(W_h @ x[t] + U_h @ h[t-4] + b_h)
    """,
    "dilated(narx, 2)": """
        - h[t] = tanh(W_h @ x[t] + U_1 @ h[t-1] + U_2 @ h[t-2] + U_3 @ h[t-3] + b_h)
        + h[t] = tanh(W_h @ x[t] + U_1 @ h[t-2] + U_2 @ h[t-4] + U_3 @ h[t-6] + b_h)
    """,
    "clipped(lstm, c=3)": """
        - c[t] = f * c[t-1] + i * g
        + c[t] = clip(f * c[t-1] + i * g, -3, 3)
    """,
    "variational(gru, x=0.2, h=0.3)": """
        + u_x: sequence
        + p_x: constant = 0.2
        + u_h: sequence
        + p_h: constant = 0.3
        + x_kept[t] = where(u_x < p_x, 0, x[t] / (1 - p_x))
        + h_kept[t] = where(u_h < p_h, 0, h[t-1] / (1 - p_h))
        - z = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)
        + z = sigmoid(W_z @ x_kept[t] + U_z @ h_kept[t] + b_z)
        - r = sigmoid(W_r @ x[t] + U_r @ h[t-1] + b_r)
        + r = sigmoid(W_r @ x_kept[t] + U_r @ h_kept[t] + b_r)
        - g = tanh(W_g @ x[t] + U_g @ (r * h[t-1]) + b_g)
        + g = tanh(W_g @ x_kept[t] + U_g @ (r * h_kept[t]) + b_g)
    """,
    "coupled(lstm, i=f)": """
        - i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
        + i = 1 - f
    """,
    "hard(rnn)": """
        - h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        + h[t] = hard_tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
    """,
    "layer_norm(rnn)": """
        - h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        + h[t] = tanh(layer_norm(W_h @ x[t], g_W_h) + layer_norm(U_h @ h[t-1], g_U_h) + b_h)
    """,
    "layer_norm(rnn, gates)": """
        - h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
        + h[t] = tanh(layer_norm(W_h @ x[t] + U_h @ h[t-1], g_h) + b_h)
    """,
    "layer_norm(lstm, read)": """
        - h[t] = o * tanh(c[t])
        + h[t] = o * tanh(layer_norm(c[t], g_c, b_c))
    """,
    "layer_norm(lstm, carried)": """
        - c[t] = f * c[t-1] + i * g
        + c[t] = layer_norm(f * c[t-1] + i * g, g_c, b_c)
    """,
    "layer_norm(lstm, carried, state=h)": """
        - h[t] = o * tanh(c[t])
        + h[t] = layer_norm(o * tanh(c[t]), g_h, b_h)
    """,
    "starting(lstm, b_f=1)": """
        + b_f: vector = 1.0
    """,
}
COMBINED = (
    "zoneout({}, h=0.2)",
    "dropout({}, g=0.3)",
    "padded({})",
    "projected({})",
    "clipped({}, h=0.7)",
    "hard({})",
    "residual({})",
    "reverse({})",
    "variational({}, h=0.2)",
)


def equations(cell: gg.Cell) -> list[str]:
    return str(gg.Cell(cell.name, cell.equations, cell.declarations)).splitlines()


@pytest.mark.parametrize("text", CHANGES)
def test_equations(text: str) -> None:
    before = equations(gg.load(text.partition("(")[2].partition(",")[0].rstrip(")")))
    after = equations(gg.load(text))
    wanted = [line.strip() for line in CHANGES[text].strip().splitlines()]
    gone = [f"- {line}" for line in before if line not in after]
    come = [f"+ {line}" for line in after if line not in before]
    assert sorted(gone + come) == sorted(wanted)


def test_every_modifier_has_its_equations_tested() -> None:
    assert {text.partition("(")[0] for text in CHANGES} == set(MODIFIERS)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("coupled(lstm, i=f)", "lstm_cifg"),
        ("projected(lstm)", "lstmp"),
        ("reverse(lstm)", "lstm_reverse"),
        ("layer_norm(layer_norm(lstm), read)", "lstm_layer_norm"),
    ],
)
def test_published_cells_come_out(text: str, other: str) -> None:
    found = gg.diff(gg.load(text), gg.load(other))
    assert found.equal
    assert found.whole


def ran(cell: gg.Cell | str, inputs: dict[str, np.ndarray], initial: dict[str, np.ndarray] | None = None):
    k = gg.compile(gg.load(cell) if isinstance(cell, str) else cell, dtype="float64", backend="numpy")
    p = k.init({"x": 3, "h": 5}, seed=2)
    return k.forward(inputs, p, initial)


X = np.random.default_rng(0).standard_normal((6, 4, 3))
H = np.random.default_rng(1).standard_normal((4, 5))


def test_zoneout_keeps_what_the_noise_says() -> None:
    u = np.random.default_rng(3).random((6, 4, 5))
    found = ran("zoneout(gru, h=0.4)", {"x": X, "u_h": u}, {"h": H}).outputs["h"]
    never = ran("zoneout(gru, h=0.4)", {"x": X, "u_h": np.ones_like(u)}, {"h": H}).outputs["h"]
    assert (never == ran("gru", {"x": X}, {"h": H}).outputs["h"]).all()
    past = np.concatenate([H[None], found[:-1]])
    assert (found[u < 0.4] == past[u < 0.4]).all()
    assert (found[u >= 0.4] != past[u >= 0.4]).all()


@pytest.mark.parametrize("change", ["zoneout", "expected_zoneout"])
def test_a_head_reads_what_is_carried_on(change: str) -> None:
    cell = gg.parse("h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])\ny[t] = V_y @ h[t] + b_y\ny: output", "head")
    assert equations(MODIFIERS[change](cell, h=0.25))[-1] == "y[t] = V_y @ h[t] + b_y"


def test_expected_zoneout_is_the_mean() -> None:
    step = {"x": X[:1], "u_h": np.zeros((1, 4, 5))}
    kept = ran("zoneout(gru, h=0.4)", step, {"h": H}).outputs["h"]
    new = ran("gru", {"x": X[:1]}, {"h": H}).outputs["h"]
    mean = ran("expected_zoneout(gru, h=0.4)", {"x": X[:1]}, {"h": H}).outputs["h"]
    assert np.allclose(mean, 0.4 * kept + 0.6 * new, rtol=1e-14)


def test_dropout_scales_what_stays() -> None:
    u = np.random.default_rng(3).random((1, 4, 5))
    step = {"x": X[:1], "u_g": u}
    found = ran("dropout(gru, g=0.25)", step).outputs["h"]
    plain = ran("gru", {"x": X[:1]}).outputs["h"]
    assert np.allclose(found, np.where(u < 0.25, 0, plain / 0.75), rtol=1e-14)


def test_variational_dropout_drops_the_same_units_in_all_steps() -> None:
    """Against PyTorch's cell by hand, with the masks put in where Gal and Ghahramani do."""
    cell = gg.load("variational(lstm, x=0.4, h=0.3)")
    u = noise(cell, {"x": 3, "h": 5}, 6, 4, seed=1, dtype=np.float64)
    assert {name: array.shape for name, array in u.items()} == {"u_x": (4, 3), "u_h": (4, 5)}
    found = ran(cell, {"x": X, **u}, {"h": H, "c": H}).outputs["h"]
    keep_x, keep_h = (u["u_x"] >= 0.4) / 0.6, (u["u_h"] >= 0.3) / 0.7
    assert 0 < keep_x.astype(bool).mean() < 1
    state = {"h": H, "c": H}
    for t in range(6):
        # What the first step reads of h is what the mask left.
        step = ran("lstm", {"x": X[t : t + 1] * keep_x}, {"h": state["h"] * keep_h, "c": state["c"]})
        state = step.final
        np.testing.assert_allclose(found[t], state["h"], rtol=1e-13)


def test_chrono_biases_span_the_memories() -> None:
    values = gg.modifiers.chrono(20_000, 50, seed=3)
    assert np.array_equal(values["b_i"], -values["b_f"])
    spans = np.exp(values["b_f"])
    assert 1 <= spans.min() < 1.05
    assert 48.9 < spans.max() <= 49
    assert spans.mean() == pytest.approx(25, rel=0.02)
    assert (values["b_f"] != gg.modifiers.chrono(20_000, 50, seed=4)["b_f"]).any()
    assert set(gg.modifiers.chrono(3, 9, forget="b_z", into="")) == {"b_z"}
    k = gg.compile("lstm", backend="numpy")
    p = k.init({"x": 3, "h": 5}, values=gg.modifiers.chrono(5, 50))
    assert p["b_f"].dtype == np.float32 and (p["b_f"] == -p["b_i"]).all()
    with pytest.raises(ArgumentError, match="longest: is 2; expected an integer, at least 3"):
        gg.modifiers.chrono(5, 2)


def test_padded_steps_do_not_count() -> None:
    mask = np.array([1, 0, 1, 1, 0, 1.0])
    m = np.broadcast_to(mask[:, None, None], (6, 4, 1)).copy()
    found = ran("padded(lstm)", {"x": X, "m": m}, {"h": H, "c": H})
    there = ran("lstm", {"x": X[mask > 0]}, {"h": H, "c": H})
    assert np.array_equal(found.outputs["h"][mask > 0], there.outputs["h"])
    assert all(np.array_equal(found.final[name], there.final[name]) for name in ("h", "c"))


def test_reverse_runs_backwards() -> None:
    found = ran("reverse(gru)", {"x": X[::-1].copy()}, {"h": H}).outputs["h"]
    assert np.array_equal(found[::-1], ran("gru", {"x": X}, {"h": H}).outputs["h"])
    assert gg.load("reverse(reverse(gru))").equations == gg.load("gru").equations


def test_dilated_cells_are_interleaved() -> None:
    found = ran("dilated(gru, 3)", {"x": X}).outputs["h"]
    for first in range(3):
        assert np.array_equal(found[first::3], ran("gru", {"x": X[first::3].copy()}).outputs["h"])


def test_starting_values() -> None:
    k = gg.compile("starting(lstm, b_f=1, b_i=-0.5)", dtype="float64", backend="numpy")
    p = k.init({"x": 3, "h": 5})
    assert (p["b_f"] == 1).all()
    assert (p["b_i"] == -0.5).all()
    assert not p["b_o"].any()


def test_noise_for_numbers_and_matrices() -> None:
    cell = gg.load("zoneout(mlstm, m=0.1, C=0.2)")
    found = noise(cell, {"v": 4, "k": 3}, 5, 2)
    assert {name: array.shape for name, array in found.items()} == {"u_m": (5, 2, 1), "u_C": (5, 2, 12)}


def test_noise() -> None:
    cell = gg.load("padded(zoneout(dropout(lstm, g=0.1), h=0.3, c=0.2))")
    found = noise(cell, {"h": 5}, 7, 3, seed=4)
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(
        ("u_g", "u_c", "u_h"), (7, 3, 5)
    )
    again, other = noise(cell, {"h": 5}, 7, 3, seed=4), noise(cell, {"h": 5}, 7, 3, seed=5)
    for name, array in found.items():
        assert array.dtype == np.float32
        assert array.min() >= 0
        assert array.max() < 1
        assert (array == again[name]).all()
        assert (array != other[name]).any()
    assert (found["u_h"] != found["u_c"]).any()
    assert noise(gg.load("lstm"), {}, 7, 3) == {}
    with pytest.raises(ArgumentError, match="do not tell the width of u_g"):
        noise(cell, {"x": 3}, 7, 3)


@pytest.mark.parametrize("pair", list(itertools.permutations(COMBINED, 2)), ids="-".join)
def test_modifiers_combine(pair: tuple[str, str]) -> None:
    text = pair[0].format(pair[1].format("gru"))
    cell = gg.load(text)
    assert gg.parse(str(cell), cell.name) == cell
    plan = naive(gg.derive(cell).program)
    given = draw(cell, plan.program, Setting(3, 2, (2,)), 1)
    solved = solve(plan, given)
    for (part, name), slope in gradients(plan, given).items():
        assert relative_error(solved[f"d {part} {name}"], slope) <= 1e-10 or not slope.any(), name


@pytest.mark.parametrize("name", gg.pipeline.zoo())
def test_every_cell_can_be_modified(name: str) -> None:
    cell = gg.load(name)
    rates = dict.fromkeys(cell.states, 0.25)
    for changed in (
        gg.modifiers.zoneout(cell, **rates),
        gg.modifiers.expected_zoneout(cell, **rates),
        gg.modifiers.padded(cell),
        gg.modifiers.clipped(cell, **rates),
        gg.modifiers.hard(cell),
        *([gg.modifiers.layer_norm(cell, "carried")] if has_vector(cell) else []),
    ):
        assert gg.parse(str(changed), changed.name) == changed
        assert list(changed.outputs) == list(cell.outputs)
        assert list(changed.states) == list(cell.states)
        assert changed.doc.startswith(cell.doc.strip().split("\n")[0])


def has_vector(cell: gg.Cell) -> bool:
    return any(len(variable.shape) == 1 for variable in cell.states.values())


MISTAKES = [
    ("zoneout(lstm, q=0.1)", UnknownName, "q is no value of lstm"),
    ("zoneout(lstm, h=1)", ArgumentError, "h: is 1; expected a rate from 0 up to, not including, 1"),
    ("zoneout(lstm, h=h)", ArgumentError, "h: is 'h'"),
    ("zoneout(lstm)", ArgumentError, "rates: are missing"),
    ("zonout(lstm, h=0.1)", UnknownName, "did you mean: zoneout"),
    ("zoneout(lstmm, h=0.1)", UnknownName, "did you mean: lstm"),
    ("zoneout(lstm, h=0.1", CellSyntaxError, "neither a cell nor a modifier"),
    ("zoneout(lstm + gru, h=0.1)", CellSyntaxError, "neither a cell nor a modifier"),
    ("zoneout(lstm, h=[1])", CellSyntaxError, "[1] in 'zoneout(lstm, h=[1])' is no number and no name"),
    ("dilated(gru, -1)", ArgumentError, "steps: is -1"),
    ("dilated(gru)", CellSyntaxError, "expected: dilated(cell, steps)"),
    ("dilated(gru, 2, 3)", CellSyntaxError, "expected: dilated(cell, steps)"),
    ("clipped(lstm, c=-1)", ArgumentError, "c: is -1"),
    ("clipped(lstm, c=k)", ArgumentError, "c: is 'k'"),
    ("coupled(lstm, i=q)", UnknownName, "q is no gate of lstm"),
    ("starting(lstm, U_i=1)", UnknownName, "U_i is no vector of lstm"),
    ("starting(lstm, b_i=b)", ArgumentError, "b_i: is 'b'"),
    ("layer_norm(lstm, before)", UnknownName, "before is no placement of lstm"),
    ("layer_norm(lstm, read, state=x)", UnknownName, "x is no state of one axis of lstm"),
    ("layer_norm(retnet, carried)", UnknownName, " is no state of one axis of retnet"),
    ("layer_norm(lstm, read, value=c)", CellSyntaxError, "layer_norm takes other arguments"),
    ("projected(lstm, x)", UnknownName, "x is no state of lstm"),
    ("residual(lstm, h, h)", UnknownName, "h is no input of lstm"),
    ("__import__('os').system('false')", CellSyntaxError, "neither a cell nor a modifier"),
    ("__import__('os')", UnknownName, "there is no modifier '__import__'"),
    ("(" * 500 + "lstm" + ")" * 500, CellSyntaxError, "neither a cell nor a modifier"),
]


@pytest.mark.parametrize(("text", "kind", "message"), MISTAKES, ids=[text[:40] for text, _, _ in MISTAKES])
def test_mistakes(text: str, kind: type[GategenError], message: str) -> None:
    with pytest.raises(kind) as caught:
        gg.load(text)
    assert message in str(caught.value)


def test_the_command() -> None:
    shown = CliRunner().invoke(main, ["show", "zoneout(lstm, h=0.1, c=0.5)"])
    assert shown.exit_code == 0
    assert "h[t] = where(u_h[t] < p_h, h[t-1], h_new)" in shown.output
