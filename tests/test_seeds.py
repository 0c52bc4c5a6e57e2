"""The systems of five tutorials, one test per row: from the text as printed to agreement with PyTorch."""

import numpy as np
import pytest
from oracles.compare import PADDED, Arrays, check_init, differences, problem, run_kernel, solve
from oracles.seed_cells import SEEDS

import gategen as gg
from gategen.training import (
    SGD,
    Adam,
    binary_accuracy,
    mean_squared_error,
    sigmoid_binary_cross_entropy,
    train_step,
)

BACKENDS = ("numpy", "c-portable", "c")
BOUND = 1e-10

HEAD = "y[t] = W_hy @ h[t] + b_y\n"

LSTM_JOINT = """
i = sigmoid(W_i @ [h[t-1], x[t]] + b_i)
f = sigmoid(W_f @ [h[t-1], x[t]] + b_f)
o = sigmoid(W_o @ [h[t-1], x[t]] + b_o)
g = tanh(W_c @ [h[t-1], x[t]] + b_c)
c[t] = f * c[t-1] + i * g
h[t] = o * tanh(c[t])
"""

LSTM_SEPARATE = """
i = sigmoid(W_xi @ x[t] + W_hi @ h[t-1] + b_i)
f = sigmoid(W_xf @ x[t] + W_hf @ h[t-1] + b_f)
o = sigmoid(W_xo @ x[t] + W_ho @ h[t-1] + b_o)
g = tanh(W_xg @ x[t] + W_hg @ h[t-1] + b_g)
c[t] = f * c[t-1] + i * g
h[t] = o * tanh(c[t])
"""

# As printed: the input of its own step is never read, so nothing but the declaration tells that x is one.
LSTM_REVERSE = "x: input\n" + LSTM_JOINT.replace("[t-1]", "[t+1]").replace("x[t]", "x[t+1]").lstrip()

LSTM_REVERSE_SHIFTED = LSTM_JOINT.replace("[t-1]", "[t+1]")

LSTM_PEEPHOLE = """
i = sigmoid(W_xi @ x[t] + W_hi @ h[t-1] + W_ci @ c[t-1] + b_i)
f = sigmoid(W_xf @ x[t] + W_hf @ h[t-1] + W_cf @ c[t-1] + b_f)
c[t] = f * c[t-1] + i * tanh(W_xc @ x[t] + W_hc @ h[t-1] + b_c)
o = sigmoid(W_xo @ x[t] + W_ho @ h[t-1] + W_co @ c[t] + b_o)
h[t] = o * tanh(c[t])
"""

GRU_SEPARATE = """
z = sigmoid(W_xz @ x[t] + W_hz @ h[t-1] + b_z)
r = sigmoid(W_xr @ x[t] + W_hr @ h[t-1] + b_r)
g = tanh(W_xg @ x[t] + W_hg @ (r * h[t-1]) + b_g)
h[t] = (1 - z) * h[t-1] + z * g
"""

GRU_JOINT = """
z = sigmoid(W_z @ [h[t-1], x[t]] + b_z)
r = sigmoid(W_r @ [h[t-1], x[t]] + b_r)
g = tanh(W_h @ [r * h[t-1], x[t]] + b_h)
h[t] = (1 - z) * h[t-1] + z * g
"""

GRU_BEFORE = """
r = sigmoid(W_xr @ x[t] + W_hr @ h[t-1] + b_r)
z = sigmoid(W_xz @ x[t] + W_hz @ h[t-1] + b_z)
g = tanh(W_xh @ x[t] + W_hh @ ((1 - z) * h[t-1]) + b_h)
h[t] = (1 - z) * h[t-1] + z * g
"""

GRU_AFTER = """
r = sigmoid(W_xr @ x[t] + W_hr @ h[t-1] + b_r)
z = sigmoid(W_xz @ x[t] + W_hz @ h[t-1] + b_z)
g = tanh(W_xh @ x[t] + (W_hh @ h[t-1]) * (1 - z) + b_h)
h[t] = (1 - z) * h[t-1] + z * g
"""

GRU_ON_INPUT = """
z = sigmoid(W_xz @ x[t] + W_hz @ h[t-1] + b_z)
r = sigmoid(W_xr @ x[t] + W_hr @ h[t-1] + b_r)
g = tanh((W_xg @ x[t]) * r + (W_hg @ h[t-1]) * (1 - z) + b_g)
h[t] = (1 - z) * h[t-1] + z * g
"""

UNUSED = pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")


def confirm(row, text):
    """Declared, derived, documented, certified, compiled, and equal to the hand-written loop."""
    oracle = SEEDS[row]
    cell = gg.parse(text, name=row.lower().replace(" ", "_"))
    derivation = gg.derive(cell)
    assert derivation.latex().strip()
    assert derivation.markdown().strip()
    assert gg.check(cell).passed
    for backend in BACKENDS:
        kernel = gg.compile(cell, dtype="float64", backend=backend)
        assert check_init(kernel, oracle) == {}
        for lengths in (None, PADDED):
            given = problem(oracle, lengths)
            assert differences(run_kernel(kernel, given), solve(oracle, given), BOUND) == {}, backend
    return derivation


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_S1_simple_rnn_with_any_activation_and_head(activation):
    text = f"h[t] = {activation}(W_hh @ h[t-1] + W_xh @ x[t] + b_h)\n" + HEAD
    confirm(f"S1 {activation}", text)


def test_S2_lstm_on_the_concatenation_with_head():
    confirm("S2", LSTM_JOINT + HEAD)


def test_S3_lstm_with_separate_weights():
    confirm("S3", LSTM_SEPARATE)


def test_S4_reverse_lstm_as_printed():
    confirm("S4", LSTM_REVERSE)


@pytest.mark.parametrize("lengths", [None, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_S4_is_the_code_beside_it_one_index_on(backend, lengths):
    """Reading ``x[t+1]`` is reading ``x[t]`` of the sequence moved down by one, zero at its own end."""
    printed = gg.compile(gg.parse(LSTM_REVERSE, name="printed"), dtype="float64", backend=backend)
    code = gg.compile(gg.parse(LSTM_REVERSE_SHIFTED, name="code"), dtype="float64", backend=backend)
    given = problem(SEEDS["S4"], lengths)
    x = given.inputs["x"]
    ends = np.full(x.shape[1], len(x)) if lengths is None else lengths
    moved = np.zeros_like(x)
    for row, end in enumerate(ends):
        moved[: max(end - 1, 0), row] = x[1 : max(end, 1), row]
    first = printed.forward({"x": x}, given.params, initial=given.initial, lengths=lengths)
    second = code.forward({"x": moved}, given.params, initial=given.initial, lengths=lengths)
    np.testing.assert_allclose(first.outputs["h"], second.outputs["h"], rtol=1e-12, atol=1e-14)
    for state in ("h", "c"):
        np.testing.assert_allclose(first.final[state], second.final[state], rtol=1e-12, atol=1e-14)


def test_S5_peephole_lstm_with_full_matrices():
    confirm("S5", LSTM_PEEPHOLE)


def test_S6_gru_reset_before_the_product():
    confirm("S6", GRU_SEPARATE)


def test_S6_gru_on_the_concatenation_with_head():
    confirm("S6 joint", GRU_JOINT + HEAD)


def unused_reset(row, text):
    """``r`` is computed and never used: warned of, and its gradients are zero to the last bit."""
    derivation = confirm(row, text)
    words = " ".join(derivation.warnings).replace("'", " ").replace("`", " ").replace(",", " ").split()
    assert "r" in words, derivation.warnings
    given = problem(SEEDS[row], None)
    for backend in BACKENDS:
        kernel = gg.compile(derivation.cell, dtype="float64", backend=backend)
        gradients: Arrays = run_kernel(kernel, given).arrays
        for name in ("W_xr", "W_hr", "b_r"):
            assert not gradients[f"d params {name}"].any()
        assert gradients["d params W_xz"].any()


@UNUSED
def test_S7_gru_with_the_update_gate_for_reset_before_the_product():
    unused_reset("S7", GRU_BEFORE)


@UNUSED
def test_S8_gru_with_the_update_gate_for_reset_after_the_product():
    unused_reset("S8", GRU_AFTER)


@UNUSED
@pytest.mark.parametrize("backend", BACKENDS)
def test_S8_is_another_cell_than_S7(backend):
    """Same names, same shapes, same numbers in: different numbers out."""
    given = problem(SEEDS["S7"], None)
    before, after = (
        run_kernel(gg.compile(gg.parse(text, name=name), dtype="float64", backend=backend), given).arrays
        for name, text in (("before", GRU_BEFORE), ("after", GRU_AFTER))
    )
    for key in ("output h", "d params W_hh", "d inputs x"):
        assert np.max(np.abs(before[key] - after[key])) > 1e-2 * np.max(np.abs(before[key]))


def test_S9_gru_with_the_reset_gate_on_the_input():
    confirm("S9", GRU_ON_INPUT)


MODELS = {
    "rnn": "h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t] + b_h)\n" + HEAD,
    "lstm": LSTM_SEPARATE + HEAD,
    "gru": GRU_SEPARATE + HEAD,
}
ROUNDS, UNITS, LENGTH, SEQUENCES = 120, 10, 10, 64


def train(model, x, target, loss, update):
    """Full-batch training of the last step's output; the losses and that output after the last update."""

    def at_the_end(y):
        value, slope = loss(y[-1], target)
        whole = np.zeros_like(y)
        whole[-1] = slope
        return value, whole

    kernel = gg.compile(gg.parse(MODELS[model], name=model), dtype="float64", backend="c-portable")
    parameters = kernel.init({"x": 1, "h": UNITS, "y": 1}, seed=0)
    losses = [train_step(kernel, {"x": x}, parameters, at_the_end, update).loss for _ in range(ROUNDS)]
    return losses, kernel.forward({"x": x}, parameters).outputs["y"][-1]


@pytest.mark.parametrize("model", MODELS)
def test_S11_regression_with_adam(model):
    """The next value of a sine wave of unknown phase: a mean squared error of 0.5 without learning."""
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, SEQUENCES)
    wave = np.sin(0.5 * np.arange(LENGTH + 1)[:, None] + phase)[:, :, None]
    losses, predicted = train(model, wave[:-1], wave[-1], mean_squared_error, Adam(learning_rate=0.02))
    assert losses[0] > 0.1
    assert losses[-1] < 0.005
    assert np.mean((predicted - wave[-1]) ** 2) < 0.005


@pytest.mark.parametrize("update", [Adam, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("model", MODELS)
def test_S11_classification(model, update):
    """Whether ten numbers sum to more than zero: a cross-entropy of 0.69 without learning."""
    x = np.random.default_rng(0).standard_normal((LENGTH, SEQUENCES, 1))
    target = (x.sum(axis=0) > 0).astype(float)
    rule = Adam(learning_rate=0.02) if update is Adam else SGD(learning_rate=0.1, momentum=0.9)
    losses, logits = train(model, x, target, sigmoid_binary_cross_entropy, rule)
    assert losses[0] > 0.3
    assert losses[-1] < 0.1
    assert binary_accuracy(logits, target) > 0.95
