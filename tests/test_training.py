"""Losses, updates, initialisers, windows and loops against differences, closed forms and each other."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from gategen import training as tr
from gategen.errors import ArgumentError, GategenWarning
from gategen.runtime import initialise

Array = NDArray[Any]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def differences(
    function: Callable[[Array], float], point: Array, direction: Array, step: float = 1e-3
) -> float:
    """Fourth-order central difference along a direction."""
    near = function(point + step * direction) - function(point - step * direction)
    far = function(point + 2 * step * direction) - function(point - 2 * step * direction)
    return (8 * near - far) / (12 * step)


CLASSES = rng(1).integers(0, 4, (5, 3))
REALS = rng(2).standard_normal((5, 3, 4))
BITS = rng(3).integers(0, 2, (5, 3, 4))
LOSSES = {
    "mse": (tr.mean_squared_error, REALS),
    "softmax": (tr.softmax_cross_entropy, CLASSES),
    "sigmoid": (tr.sigmoid_binary_cross_entropy, BITS),
    "sigmoid soft": (tr.sigmoid_binary_cross_entropy, rng(4).random((5, 3, 4))),
}
MASKS: dict[str, Any] = {
    "none": None,
    "steps": rng(5).random((5, 3)) < 0.6,
    "times": np.array([True, False, True, True, False]),
    "weights": rng(6).random((5, 3)),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize(("loss", "target"), LOSSES.values(), ids=LOSSES.keys())
def test_loss_gradients_against_differences(loss: Any, target: Array, mask: Any) -> None:
    point = 2 * rng(7).standard_normal((5, 3, 4))
    _, gradient = loss(frozen(point), frozen(target), mask)
    assert gradient.shape == point.shape and gradient.dtype == np.float64
    for seed in range(5):
        direction = rng(seed).standard_normal(point.shape)
        wanted = differences(lambda z: loss(z, target, mask)[0], point, direction)
        assert abs(np.sum(gradient * direction) - wanted) <= 1e-10 * max(1, abs(wanted))


@pytest.mark.parametrize(("loss", "target"), LOSSES.values(), ids=LOSSES.keys())
def test_masked_losses_equal_the_selection_and_never_leak(loss: Any, target: Array) -> None:
    point = rng(8).standard_normal((5, 3, 4))
    mask = MASKS["steps"]
    value, gradient = loss(point[mask], target[mask])
    dirty, meaningless = point.copy(), target.astype(target.dtype)
    dirty[~mask] = [np.nan, np.inf, -np.inf, 1e300]
    meaningless[~mask] = np.nan if target.dtype.kind == "f" else -7
    for weights in (mask, 3.0 * mask, mask.astype(np.int8)):
        masked, full = loss(dirty, meaningless, weights)
        assert masked == pytest.approx(value, rel=1e-14)
        np.testing.assert_allclose(full[mask], gradient, rtol=1e-14)
        assert not full[~mask].any()


@pytest.mark.parametrize(("loss", "target"), LOSSES.values(), ids=LOSSES.keys())
def test_losses_keep_float32_and_count_nothing_as_zero(loss: Any, target: Array) -> None:
    point = rng(9).standard_normal((5, 3, 4)).astype(np.float32)
    for mask in MASKS.values():
        value, gradient = loss(point, target, mask)
        wide, wide_gradient = loss(point.astype(np.float64), target, mask)
        assert isinstance(value, float) and gradient.dtype == np.float32
        assert value == pytest.approx(wide, rel=1e-5)
        np.testing.assert_allclose(gradient, wide_gradient, rtol=1e-4, atol=1e-7)
    value, gradient = loss(point, target, np.zeros(5, bool))
    assert value == 0.0 and not gradient.any()
    value, gradient = loss(point[:0], target[:0])
    assert value == 0.0 and gradient.shape == (0, 3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_stay_finite_and_exact(dtype: Any) -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, -1e4]], dtype)
    value, gradient = tr.softmax_cross_entropy(logits, np.array([0, 0, 1]))
    assert value == pytest.approx((0 + 2e4 + math.log(2)) / 3, rel=1e-6)
    np.testing.assert_allclose(gradient, np.array([[0, 0, 0], [-1, 1, 0], [0.5, -0.5, 0]]) / 3, atol=1e-7)
    line = np.array([1e4, -1e4, 1e4, -1e4, 0.0], dtype)
    value, gradient = tr.sigmoid_binary_cross_entropy(line, np.array([1, 0, 0, 1, 1]))
    assert value == pytest.approx((2e4 + math.log(2)) / 5, rel=1e-6)
    np.testing.assert_allclose(gradient, np.array([0, 0, 1, -1, -0.5]) / 5, rtol=1e-6)
    infinite = np.array([np.inf, -np.inf], dtype)
    assert tr.sigmoid_binary_cross_entropy(infinite, np.array([1, 0]))[0] == 0.0
    assert tr.sigmoid_binary_cross_entropy(infinite, np.array([0, 0]))[0] == np.inf
    barred = np.array([[0.0, -np.inf]], dtype)
    assert tr.softmax_cross_entropy(barred, np.array([0]))[0] == 0.0
    assert tr.softmax_cross_entropy(barred, np.array([1]))[0] == np.inf
    assert math.isnan(tr.softmax_cross_entropy(np.array([[np.nan, 0.0]], dtype), np.array([1]))[0])
    assert tr.mean_squared_error(np.array([1e300]), np.array([-1e300]))[0] == np.inf


def test_small_losses_are_not_lost_to_cancellation() -> None:
    value, gradient = tr.softmax_cross_entropy(np.array([[0.0, -60.0]]), np.array([0]))
    assert value == pytest.approx(math.exp(-60), rel=1e-14)
    np.testing.assert_allclose(gradient, [[-math.exp(-60), math.exp(-60)]], rtol=1e-14)
    value, gradient = tr.sigmoid_binary_cross_entropy(np.array([60.0]), np.array([1]))
    assert value == pytest.approx(math.exp(-60), rel=1e-14)
    assert gradient[0] == pytest.approx(-math.exp(-60), rel=1e-14)


def test_metrics() -> None:
    logits = np.array([[[2.0, 1.0], [0.0, 3.0]], [[1.0, 0.0], [np.nan, 1.0]]])
    target = np.array([[0, 0], [0, 99]])
    mask = np.array([[True, True], [True, False]])
    assert tr.accuracy(logits, target, mask) == pytest.approx(2 / 3)
    assert tr.accuracy(logits[:1], target[:1]) == 0.5
    assert tr.accuracy(logits, target, np.zeros((2, 2))) == 0.0
    assert tr.binary_accuracy(np.array([1.0, -1.0, 2.0, -3.0]), np.array([1, 0, 0, 0])) == 0.75


def test_weight_penalty() -> None:
    parameters = {"W": rng().standard_normal((3, 2)), "b": np.ones(3), "s": np.array(2.0)}
    value, gradient = tr.weight_penalty(parameters, 0.1)
    assert value == pytest.approx(0.1 * np.sum(parameters["W"] ** 2)) and set(gradient) == {"W"}
    direction = rng(1).standard_normal((3, 2))
    wanted = differences(lambda w: tr.weight_penalty({"W": w}, 0.1)[0], parameters["W"], direction)
    assert np.sum(gradient["W"] * direction) == pytest.approx(wanted, rel=1e-11)
    value, gradient = tr.weight_penalty(parameters, 0.5, ["b", "s"])
    assert value == 3.5 and gradient["s"] == 2.0


def test_updates_change_in_place_only_what_has_a_gradient() -> None:
    parameters = {"W": np.ones((2, 2), np.float32), "s": np.array(1.0), "frozen": frozen(np.ones(3))}
    kept = dict(parameters)
    descent, update = tr.SGD(0.1, momentum=0.9), tr.Adam(0.1)
    for rule in (descent, update):
        for _ in range(2):
            rule.step(parameters, {"W": frozen(np.ones((2, 2), np.float32)), "s": np.array(2.0)})
    assert all(parameters[name] is kept[name] for name in kept)
    assert parameters["W"].dtype == np.float32 and (parameters["W"] < 0.6).all() and parameters["s"] < 0.6
    assert (parameters["frozen"] == 1).all()
    assert update.steps == {"W": 2, "s": 2} and update.first["W"].dtype == np.float32
    update.step(parameters, {"s": np.array(1.0)})
    assert update.steps == {"W": 2, "s": 3}
    update.step({}, {})


def test_sgd_decay_is_decoupled_from_momentum() -> None:
    parameter = {"w": np.array([2.0])}
    update = tr.SGD(0.1, momentum=0.5, weight_decay=0.2)
    wanted, velocity = 2.0, 0.0
    for _ in range(3):
        update.step(parameter, {"w": np.array([1.0])})
        velocity = 0.5 * velocity + 1.0
        wanted = wanted * (1 - 0.1 * 0.2) - 0.1 * velocity
    assert parameter["w"][0] == pytest.approx(wanted, rel=1e-15)
    assert update.velocity["w"][0] == pytest.approx(velocity)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e200])
def test_clip_by_norm(scale: float) -> None:
    gradients = {"a": scale * np.array([3.0, 0.0]), "b": np.array(scale * 4.0)}
    assert tr.clip_by_norm(gradients, 6 * scale) == pytest.approx(5 * scale, rel=1e-15)
    np.testing.assert_array_equal(gradients["a"], scale * np.array([3.0, 0.0]))
    assert tr.clip_by_norm(gradients, scale) == pytest.approx(5 * scale, rel=1e-15)
    np.testing.assert_allclose(gradients["a"], scale * np.array([0.6, 0.0]), rtol=1e-15)
    assert gradients["b"] == pytest.approx(scale * 0.8, rel=1e-15)


def test_clip_by_norm_of_nothing_and_of_no_number() -> None:
    assert tr.clip_by_norm({}, 1.0) == 0.0
    assert tr.clip_by_norm({"a": np.zeros((0, 2)), "b": np.zeros(2)}, 1.0) == 0.0
    for bad in (np.nan, np.inf):
        gradients = {"a": np.array([1.0, bad]), "b": np.array([5.0])}
        assert not math.isfinite(tr.clip_by_norm(gradients, 1.0))
        np.testing.assert_array_equal(gradients["b"], [5.0])


def test_clip_by_value() -> None:
    gradients = {"a": np.array([3.0, -0.5, -np.inf, np.nan], np.float32)}
    tr.clip_by_value(gradients, 1.0)
    np.testing.assert_array_equal(gradients["a"], np.array([1.0, -0.5, -1.0, np.nan], np.float32))
    tr.clip_by_value(gradients, 1e300)
    assert gradients["a"][0] == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "variance"),
    [
        (initialise.glorot_uniform, 2 / 700),
        (initialise.glorot_normal, 2 / 700),
        (initialise.he_uniform, 2 / 400),
        (initialise.he_normal, 2 / 400),
        (initialise.uniform, 1 / 300 / 3),
    ],
)
def test_initialisers_have_their_variance(function: Any, variance: float, dtype: Any) -> None:
    values = function((300, 400), rng(), dtype)
    assert values.shape == (300, 400) and values.dtype == dtype
    # The sample variance of 120,000 draws is within 2 % of the true one at 4.9 standard deviations (normal).
    assert np.var(values) == pytest.approx(variance, rel=0.02)
    assert abs(np.mean(values)) < 5 * math.sqrt(variance / values.size)
    if "uniform" in function.__name__:
        assert np.abs(values).max() <= math.sqrt(3 * variance) * (1 + 1e-6)
    np.testing.assert_array_equal(values, function((300, 400), rng(), np.float64).astype(dtype))
    assert function((0, 0), rng(), dtype).shape == (0, 0)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 1), (0, 3)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    values = initialise.orthogonal(shape, rng(), np.float64, gain=2.0)
    product = values @ values.T if shape[0] < shape[1] else values.T @ values
    np.testing.assert_allclose(product, 4 * np.eye(min(shape)), atol=1e-14)
    assert values.shape == shape and values.flags.c_contiguous


def test_orthogonal_is_uniform_over_signs() -> None:
    source = rng()
    draws = np.array([initialise.orthogonal((3, 3), source, np.float64) for _ in range(4000)])
    # Haar: every entry has mean 0 and variance 1/3; without the sign correction its diagonal is negative.
    assert np.abs(draws.mean(axis=0)).max() < 5 * math.sqrt(1 / 3 / 4000)
    np.testing.assert_allclose(draws.var(axis=0), 1 / 3, rtol=0.1)


def test_uniform_takes_units_and_vectors() -> None:
    assert np.abs(initialise.uniform((1000,), rng(), np.float64)).max() <= 1 / math.sqrt(1000)
    assert 0.45 < np.abs(initialise.uniform((1000,), rng(), np.float64, units=4)).max() <= 0.5
    assert initialise.uniform((), rng()).shape == ()


def test_vocabulary() -> None:
    text = "déjà vu, naïve 🙂 \ud800\n"
    vocabulary = tr.Vocabulary(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.characters == "".join(sorted(set(text))) and len(vocabulary) == len(set(text))
    assert tr.Vocabulary(vocabulary.characters) == vocabulary
    assert [vocabulary.characters[i] for i in vocabulary.encode("vu")] == ["v", "u"]
    assert vocabulary.encode("").shape == (0,) and vocabulary.decode([]) == ""
    with pytest.raises(ArgumentError, match=r"character 'Z' at 1 is not"):
        vocabulary.encode("vZ")
    with pytest.raises(ArgumentError, match="holds 99"):
        vocabulary.decode([0, 99])
    with pytest.raises(ArgumentError, match="float64"):
        vocabulary.decode([0.5])


def test_split_text() -> None:
    text = "".join(map(chr, range(100)))
    train, held_out = tr.split_text(text, 0.2)
    assert train + held_out == text and len(held_out) == 20
    assert tr.split_text(text, 0) == (text, "") and tr.split_text("") == ("", "")


@pytest.mark.parametrize(
    ("length", "batch", "steps"), [(101, 4, 7), (97, 1, 10), (5, 4, 3), (64, 3, 64), (9, 2, 1)]
)
def test_windows_reproduce_the_streams(length: int, batch: int, steps: int) -> None:
    ids = frozen(rng().integers(0, 50, length))
    cut = tr.windows(ids, batch, steps)
    assert all(window.inputs.shape == (steps, batch) for window in cut[:-1])
    inputs = np.concatenate([window.inputs for window in cut])
    targets = np.concatenate([window.targets for window in cut])
    streams = (length - 1) // batch
    assert inputs.shape == targets.shape == (streams, batch)
    np.testing.assert_array_equal(inputs.T.reshape(-1), ids[: streams * batch])
    np.testing.assert_array_equal(targets.T.reshape(-1), ids[1 : streams * batch + 1])
    assert length - 1 - streams * batch < batch


def test_sliding_windows() -> None:
    series = np.arange(14.0).reshape(7, 2)
    inputs, targets = tr.sliding_windows(series, 3)
    assert inputs.shape == (3, 4, 2) and targets.shape == (4, 2)
    for start in range(4):
        np.testing.assert_array_equal(inputs[:, start], series[start : start + 3])
        np.testing.assert_array_equal(targets[start], series[start + 3])
    assert tr.sliding_windows(series[:, 0], 3)[0].shape == (3, 4, 1)
    assert tr.sliding_windows(series[:, :0], 3)[0].shape == (3, 4, 0)


def test_one_hot_and_embed() -> None:
    ids = rng().integers(0, 6, (4, 3))
    table = rng(1).standard_normal((6, 5))
    vectors = tr.one_hot(frozen(ids), 6)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 3, 6)
    np.testing.assert_array_equal(vectors.argmax(-1), ids)
    assert (vectors.sum(-1) == 1).all()
    np.testing.assert_allclose(tr.embed(table, ids), vectors @ table)
    incoming = rng(2).standard_normal((4, 3, 5))
    wanted = np.einsum("tbv,tbd->vd", vectors, incoming)
    np.testing.assert_allclose(tr.embed_gradient(table, ids, incoming), wanted, atol=1e-14)


def test_pad_and_by_length() -> None:
    sequences = [np.full((length, 2), float(length)) for length in (3, 1, 4, 1, 5, 9, 2, 6)]
    batches = tr.by_length(sequences, 3)
    assert [list(batch.members) for batch in batches] == [[1, 3, 6], [0, 2, 4], [7, 5]]
    for values, lengths, members in batches:
        assert values.shape == (lengths.max(), len(members), 2)
        for column, member in enumerate(members):
            np.testing.assert_array_equal(values[: lengths[column], column], sequences[member])
            assert not values[lengths[column] :, column].any()
    shuffled = [list(tr.by_length(sequences, 2, rng(seed))[0].members) for seed in range(8)]
    assert [1, 3] in shuffled and [3, 1] in shuffled
    assert tr.by_length([], 3) == []
    values, lengths = tr.pad([[1, 2], [3]], value=-1)
    np.testing.assert_array_equal(values, [[1, 3], [2, -1]])
    np.testing.assert_array_equal(tr.length_mask(lengths, 3), [[1, 1], [1, 0], [0, 0]])


def test_dropout_mask() -> None:
    mask = tr.dropout_mask((300, 300), 0.25, rng())
    assert mask.dtype == np.float32 and set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
    assert mask.mean() == pytest.approx(1.0, abs=0.01)
    assert (tr.dropout_mask((3,), 0.0, rng()) == 1).all()


def test_draw_follows_the_softmax() -> None:
    logits, source = np.array([1.0, 0.0, -np.inf, 2.0]), rng()
    counts = np.bincount([tr.draw(logits, source, 0.5) for _ in range(20000)], minlength=4) / 20000
    wanted = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum()
    np.testing.assert_allclose(counts, wanted, atol=0.02)
    assert counts[2] == 0
    for temperature in (0.0, 1e-320):
        assert tr.draw(1e4 * logits, source, temperature) == 3
    with pytest.raises(ArgumentError, match="maximum nan"):
        tr.draw(np.array([0.0, np.nan]), source)


class Elman:
    """``h[t] = tanh(W @ x[t] + U @ h[t-1])``, ``y[t] = V @ h[t] + b``, as a kernel behaves."""

    def forward(
        self, inputs: Any, params: Any, initial: Any = None, lengths: Any = None, train: bool = False
    ) -> Any:
        x, p = inputs["x"], params
        hidden = [np.zeros((x.shape[1], len(p["U"]))) if initial is None else initial["h"]]
        for row in x:
            hidden.append(np.tanh(row @ p["W"].T + hidden[-1] @ p["U"].T))
        states = np.array(hidden)
        outputs = {"y": states[1:] @ p["V"].T + p["b"]}
        return SimpleNamespace(outputs=outputs, final={"h": states[-1]}, tape=(x, states, p))

    def backward(self, run: Any, d_outputs: Any) -> Any:
        x, states, p = run.tape
        dy = d_outputs["y"]
        dx, da = np.zeros_like(x), np.zeros_like(states[1:])
        carried = np.zeros_like(states[0])
        for t in reversed(range(len(x))):
            da[t] = (dy[t] @ p["V"] + carried) * (1 - states[t + 1] ** 2)
            carried, dx[t] = da[t] @ p["U"], da[t] @ p["W"]
        pairs = {"W": (da, x), "U": (da, states[:-1]), "V": (dy, states[1:])}
        params = {name: np.einsum("tbi,tbj->ij", left, right) for name, (left, right) in pairs.items()}
        return SimpleNamespace(
            params=params | {"b": dy.sum((0, 1))}, inputs={"x": dx}, initial={"h": carried}
        )


def model(size: int, units: int = 12) -> dict[str, Array]:
    shapes = {"W": (units, size), "U": (units, units), "V": (size, units)}
    source = rng()
    parameters: dict[str, Array] = {
        name: initialise.glorot_uniform(shape, source, np.float64) for name, shape in shapes.items()
    }
    return parameters | {"b": np.zeros(size)}


def test_a_character_model_learns_and_continues_its_text() -> None:
    text = "the gate opens, " * 120
    vocabulary, kernel = tr.Vocabulary(text), Elman()
    parameters, update = model(len(vocabulary), 24), tr.Adam(0.01)
    train, held_out = (tr.windows(vocabulary.encode(part), 4, 16) for part in tr.split_text(text))
    before = tr.evaluate_windows(kernel, parameters, held_out, len(vocabulary))
    assert before == pytest.approx(math.log(len(vocabulary)), abs=0.5)
    for _ in range(12):
        steps = list(tr.train_windows(kernel, parameters, train, len(vocabulary), update, clip=1.0))
    assert len(steps) == len(train) and all(step.norm > 0 for step in steps)
    assert tr.evaluate_windows(kernel, parameters, held_out, len(vocabulary)) < 0.2
    continued = tr.sample(kernel, parameters, vocabulary, "the gate", 24, rng(), temperature=0)
    assert continued == " opens, the gate opens, "
    warm = [tr.sample(kernel, parameters, vocabulary, "t", 5, rng(3)) for _ in range(2)]
    assert warm[0] == warm[1] and len(warm[0]) == 5


def test_windows_carry_the_state() -> None:
    ids, kernel, parameters = rng().integers(0, 5, 41), Elman(), model(5)
    whole = tr.evaluate_windows(kernel, parameters, tr.windows(ids, 2, 20), 5)
    assert tr.evaluate_windows(kernel, parameters, tr.windows(ids, 2, 3), 5) == pytest.approx(
        whole, rel=1e-14
    )
    frozen_rate = tr.SGD(0.0)
    steps = list(tr.train_windows(kernel, parameters, tr.windows(ids, 2, 4), 5, frozen_rate))
    assert np.mean([step.loss for step in steps]) == pytest.approx(whole, rel=1e-14)


def test_train_step_clips_penalises_and_reports() -> None:
    kernel, parameters = Elman(), model(3)
    x, target = rng(1).standard_normal((4, 2, 3)), rng(2).standard_normal((4, 2, 3))

    def loss(y: Array) -> tuple[float, Array]:
        return tr.mean_squared_error(y, target)

    old = {name: array.copy() for name, array in parameters.items()}
    step = tr.train_step(kernel, {"x": x}, parameters, loss, tr.SGD(1.0), clip=0.01, penalty=0.3)
    moved = {name: old[name] - parameters[name] for name in old}
    assert math.sqrt(sum(np.sum(array**2) for array in moved.values())) == pytest.approx(0.01, rel=1e-10)
    run = kernel.forward({"x": x}, old)
    value, slope = loss(run.outputs["y"])
    raw = kernel.backward(run, {"y": slope})
    assert step.loss == value
    np.testing.assert_array_equal(step.d_inputs["x"], raw.inputs["x"])
    wanted = {name: raw.params[name] + (0.6 * old[name] if name != "b" else 0) for name in old}
    np.testing.assert_allclose(moved["U"], wanted["U"] * 0.01 / step.norm, rtol=1e-10, atol=1e-15)


def test_train_step_skips_a_gradient_that_is_no_number() -> None:
    kernel, parameters = Elman(), model(3)
    old = {name: array.copy() for name, array in parameters.items()}
    x = np.full((2, 1, 3), np.nan)
    with pytest.warns(GategenWarning, match="norm is nan: no update"):
        tr.train_step(kernel, {"x": x}, parameters, lambda y: tr.mean_squared_error(y, x), tr.Adam())
    assert all((parameters[name] == old[name]).all() for name in old)


W = np.ones((2, 2))
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "mse shape": (
        lambda: tr.mean_squared_error(np.ones((4, 1)), np.ones(4)),
        r"target: has shape \(4,\); expected \(4, 1\)",
    ),
    "mse dtype": (lambda: tr.mean_squared_error(np.ones(4, int), np.ones(4)), "prediction: has dtype int64"),
    "mse complex": (
        lambda: tr.mean_squared_error(np.ones(4), 1j * np.ones(4)),
        "target: has dtype complex128",
    ),
    "ragged": (
        lambda: tr.mean_squared_error([[1.0], [1.0, 2.0]], W),
        "prediction: cannot be read as an array",
    ),
    "class range": (
        lambda: tr.softmax_cross_entropy(W, np.array([0, 2])),
        "target: holds 2; expected integers from 0 to 1",
    ),
    "class below": (lambda: tr.softmax_cross_entropy(W, np.array([0, -1])), "target: holds -1"),
    "class dtype": (
        lambda: tr.softmax_cross_entropy(W, np.ones(2)),
        "target: has dtype float64; expected integers",
    ),
    "class shape": (
        lambda: tr.softmax_cross_entropy(W, np.ones((2, 2), int)),
        r"has shape \(2, 2\); expected \(2,\)",
    ),
    "no classes": (lambda: tr.softmax_cross_entropy(np.ones((2, 0)), np.zeros(2, int)), "target: holds 0"),
    "scalar logits": (lambda: tr.accuracy(np.float64(1), 1), r"logits: has shape \(\)"),
    "probability": (
        lambda: tr.sigmoid_binary_cross_entropy(W, 2 * W),
        "target: holds 2.0; expected numbers from 0",
    ),
    "NaN target": (lambda: tr.sigmoid_binary_cross_entropy(W, np.nan * W), "target: holds nan"),
    "mask shape": (lambda: tr.mean_squared_error(W, W, np.ones(3, bool)), r"mask: has shape \(3,\)"),
    "mask sign": (
        lambda: tr.mean_squared_error(W, W, np.array([1, -1])),
        "mask: holds a weight that is negative",
    ),
    "mask dtype": (lambda: tr.mean_squared_error(W, W, ["a", "b"]), "mask: has dtype"),
    "penalty name": (lambda: tr.weight_penalty({"W_z": W}, 1, ["W_Z"]), "did you mean W_z"),
    "penalty rate": (lambda: tr.weight_penalty({"W_z": W}, math.nan), "rate: is nan"),
    "gradient name": (
        lambda: tr.SGD().step({"W_z": W}, {"Wz": W}),
        r"gradients\['Wz'\]: unknown name; expected one of W_z; did you mean W_z\?",
    ),
    "gradient shape": (lambda: tr.Adam().step({"W": W}, {"W": W[0]}), r"gradients\['W'\]: has shape \(2,\)"),
    "gradient dtype": (
        lambda: tr.Adam().step({"W": W}, {"W": W.astype(np.float32)}),
        r"has dtype float32; expected float64, as the parameter: .astype\(np.float64\)",
    ),
    "read-only parameter": (
        lambda: tr.SGD().step({"W": frozen(np.ones(2))}, {"W": np.ones(2)}),
        r"parameters\['W'\]: is read-only",
    ),
    "parameter no array": (
        lambda: tr.SGD().step({"W": cast(Any, 1.0)}, {"W": np.ones(())}),
        "is a float; expected an array",
    ),
    "integer parameter": (
        lambda: tr.SGD().step({"W": np.ones(2, int)}, {"W": np.ones(2)}),
        "has dtype int64",
    ),
    "rate": (lambda: tr.SGD(-1.0), "learning_rate: is -1.0"),
    "momentum": (lambda: tr.SGD(momentum=1.0), "momentum: is 1.0"),
    "beta": (lambda: tr.Adam(beta2=math.nan), "beta2: is nan"),
    "rate type": (lambda: tr.Adam(cast(Any, "fast")), "learning_rate: is 'fast'"),
    "clip limit": (
        lambda: tr.clip_by_norm({}, 0.0),
        "limit: is 0.0; expected a finite number of more than 0",
    ),
    "clip read-only": (
        lambda: tr.clip_by_norm({"W": frozen(np.ones(2))}, 1.0),
        r"gradients\['W'\]: is read-only",
    ),
    "clip value": (lambda: tr.clip_by_value({"W": W}, -1.0), "limit: is -1.0"),
    "windows short": (
        lambda: tr.windows(np.arange(4), 4, 2),
        r"ids: has shape \(4,\); expected .* more than 4",
    ),
    "windows float": (lambda: tr.windows(np.ones(9), 2, 2), "ids: has dtype float64"),
    "windows steps": (lambda: tr.windows(np.arange(9), 2, 0), "steps: is 0"),
    "windows batch": (lambda: tr.windows(np.arange(9), cast(Any, 2.0), 1), "batch: is 2.0"),
    "sliding": (lambda: tr.sliding_windows(np.ones(3), 3), r"series: has shape \(3,\)"),
    "one_hot": (lambda: tr.one_hot([0, 3], 3), "ids: holds 3; expected integers from 0 to 2"),
    "embed range": (lambda: tr.embed(W, [2]), "ids: holds 2"),
    "embed table": (lambda: tr.embed(W[0], [0]), r"table: has shape \(2,\)"),
    "embed rows": (lambda: tr.embed_gradient(W, [0], W), r"d_rows: has shape \(2, 2\); expected \(1, 2\)"),
    "pad nothing": (lambda: tr.pad([]), "sequences: is empty"),
    "pad widths": (lambda: tr.pad([W, np.ones((2, 3))]), r"sequences\[1\]: has shape \(2, 3\)"),
    "pad rank": (lambda: tr.pad([np.ones(())]), r"sequences\[0\]: has shape \(\)"),
    "pad value": (lambda: tr.pad([[1]], value=math.nan), "value: is nan"),
    "pad value lost": (
        lambda: tr.pad([[1]], value=0.5),
        "value: is 0.5; expected a number that int64 can hold",
    ),
    "by_length rank": (lambda: tr.by_length([1.0], 2), r"sequences\[0\]: has shape \(\)"),
    "length_mask": (lambda: tr.length_mask([4], 3), "lengths: holds 4; expected integers from 0 to 3"),
    "length_mask rank": (lambda: tr.length_mask(2, 3), r"lengths: has shape \(\)"),
    "dropout": (lambda: tr.dropout_mask((2,), 1.0, rng()), "rate: is 1.0"),
    "split": (lambda: tr.split_text("abc", 1.5), "fraction: is 1.5"),
    "vocabulary": (lambda: tr.Vocabulary(""), "characters: is ''"),
    "draw shape": (lambda: tr.draw(W, rng()), r"logits: has shape \(2, 2\)"),
    "temperature": (lambda: tr.draw(W[0], rng(), -1.0), "temperature: is -1.0"),
    "prompt": (lambda: tr.sample(Elman(), model(3), tr.Vocabulary("abc"), "", 1, rng()), "prompt: is empty"),
    "output": (
        lambda: tr.evaluate_windows(Elman(), model(3), tr.windows([0, 1, 2], 1, 1), 3, output="Y"),
        r"outputs\['Y'\]: unknown name; expected one of y; did you mean y\?",
    ),
    "no windows": (lambda: tr.evaluate_windows(Elman(), model(3), [], 3), "windows: is empty"),
    "fan": (lambda: initialise.he_normal((3,), rng()), r"shape: \(3,\) has no fan-in"),
    "size": (lambda: initialise.uniform((-1,), rng()), r"shape: is \(-1,\)"),
    "size type": (lambda: initialise.uniform(cast(Any, 3), rng()), "shape: is 3"),
    "dtype": (lambda: initialise.uniform((3,), rng(), np.int64), "dtype: is .*; expected float32 or float64"),
    "dtype name": (lambda: initialise.uniform((3,), rng(), "float33"), "dtype: is 'float33'"),
    "units": (lambda: initialise.uniform((3,), rng(), units=0), "units: is 0"),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES.keys())
def test_mistakes_are_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


def test_a_failed_step_changes_nothing() -> None:
    parameters = {"a": np.ones(2), "b": np.ones(2)}
    for update in (tr.SGD(momentum=0.9), tr.Adam()):
        with pytest.raises(ArgumentError):
            update.step(parameters, {"a": np.ones(2), "b": np.ones(3)})
        assert (parameters["a"] == 1).all() and vars(update) == vars(type(update)(**_options(update)))
        update.step(parameters, {"a": np.zeros(2)})
        with pytest.raises(ArgumentError, match="as in the steps before"):
            update.step({"a": np.ones(5)}, {"a": np.ones(5)})


def _options(update: Any) -> dict[str, Any]:
    return {"momentum": 0.9} if isinstance(update, tr.SGD) else {}
