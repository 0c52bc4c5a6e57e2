"""What is read some steps back: what a run starts from and hands on, however it is cut into pieces."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import cells
import numpy as np
import pytest
from click.testing import CliRunner

import gategen as gg
from gategen import training
from gategen.calculus.problem import Array, Problem, Setting
from gategen.cli import main
from gategen.errors import ArgumentError, CellError, UnknownName
from gategen.runtime.kernel import Kernel

BACKENDS = ("numpy", "c-portable", "c")
CELLS = (
    *("delays", "only_a_long_delay", "delays_of_two_states", "long_past_inputs", "only_long_past_input"),
    *("right_to_left_delays", "delays_in_one_product", "delayed_scalar", "delay_by_a_constant"),
    *("right_to_left_delayed_heads", "delayed_heads", "longer_than_any_sequence"),
)
GROUPS = ("inputs", "params", "initial")


@cache
def kernel(name: str, backend: str = "c", **options: Any) -> Kernel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gg.GategenWarning)
        return gg.compile(cells.cell(name), "float64", backend, **options)


def solved(made: Kernel, given: Problem, d_final: dict[str, Array] | None = None) -> tuple[Any, Any]:
    run = made.forward(given.inputs, given.params, given.initial, given.lengths, train=True)
    return run, made.backward(run, given.d_outputs, given.d_final if d_final is None else d_final)


def steps_of(made: Kernel) -> dict[str, int]:
    return {spec.name: spec.steps for spec in made.manifest.carried}


def close(found: Array, expected: Array, name: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_read_k_steps_back_has_k_steps(backend: str) -> None:
    made = kernel("delays_of_two_states", backend)
    assert steps_of(made) == {"c": 4, "h": 2}
    p = made.init({"x": 5})
    run = made.forward(np.ones((6, 2, 5)), p)
    assert {name: array.shape for name, array in run.final.items()} == {"c": (4, 2, 5), "h": (2, 2, 5)}
    # The oldest comes first.
    np.testing.assert_array_equal(run.final["h"], run.outputs["h"][-2:])
    alone = made.forward(np.ones((6, 5)), p)
    assert {name: array.shape for name, array in alone.final.items()} == {"c": (4, 5), "h": (2, 5)}
    again = made.forward(np.ones((6, 5)), p, alone.final, train=True)
    grad = made.backward(again, np.ones((6, 5)), alone.final)
    assert {name: array.shape for name, array in grad.initial.items()} == {"c": (4, 5), "h": (2, 5)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_step_back_has_no_axis_of_time(backend: str) -> None:
    made = kernel("past_input", backend)
    run = made.forward(np.ones((3, 2, 4)), made.init({"x": 4, "h": 5}))
    assert {name: array.shape for name, array in run.final.items()} == {"h": (2, 5), "x": (2, 4)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [name for name in CELLS if not cells.cell(name).reverse])
def test_windows_are_one_long_run(name: str, backend: str) -> None:
    """Windows shorter than the delays, with every gradient handed back from window to window."""
    made = kernel(name, backend)
    given = cells.problem(name, Setting(9, 3, (3, 5, 2)))
    whole, slopes = solved(made, given)
    cuts = [slice(0, 1), slice(1, 3), slice(3, 7), slice(7, 9)]
    runs, state = [], given.initial
    for cut in cuts:
        inputs = {key: array[cut] for key, array in given.inputs.items()}
        runs.append(made.forward(inputs, given.params, state, train=True))
        state = runs[-1].final
    for key, array in whole.outputs.items():
        np.testing.assert_array_equal(np.concatenate([run.outputs[key] for run in runs]), array)
    for key, array in whole.final.items():
        np.testing.assert_array_equal(state[key], array)
    arriving = given.d_final
    d_params = {key: np.zeros_like(array) for key, array in given.params.items()}
    d_inputs = {key: np.zeros_like(array) for key, array in given.inputs.items()}
    for cut, run in zip(cuts[::-1], runs[::-1], strict=True):
        part = made.backward(run, {key: array[cut] for key, array in given.d_outputs.items()}, arriving)
        arriving = part.initial
        for key, array in part.params.items():
            d_params[key] += array
        for key, array in part.inputs.items():
            d_inputs[key][cut] += array
    for key, array in slopes.params.items():
        close(d_params[key], array, key)
    for key, array in slopes.inputs.items():
        close(d_inputs[key], array, key)
    for key, array in slopes.initial.items():
        close(arriving[key], array, key)


def test_training_windows_carry_every_step() -> None:
    text = "y: output\nh[t] = tanh(W_h @ x[t] + V_h @ x[t-3] + U_h @ h[t-5])\ny[t] = V_y @ h[t] + b_y"
    made = gg.compile(gg.parse(text, "windowed"), "float64", "c")
    ids, p = np.random.default_rng(0).integers(0, 4, 41), made.init({"x": 4, "h": 6, "y": 4}, seed=1)
    whole, short = (
        training.evaluate_windows(made, p, training.windows(ids, 2, steps), 4) for steps in (20, 3)
    )
    assert short == pytest.approx(whole, rel=1e-14)
    vocabulary = training.Vocabulary("abcd")
    assert len(training.sample(made, p, vocabulary, "ab", 9, np.random.default_rng(2))) == 9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CELLS)
def test_short_sequences_of_a_batch_are_sequences_alone(name: str, backend: str) -> None:
    """Lengths around the delays, none of them and zero among them."""
    lengths = (6, 0, 1, 2, 3, 4, 5)
    made = kernel(name, backend)
    given = cells.problem(name, Setting(6, 7, (3, 5, 2), lengths=lengths))
    batch, slopes = solved(made, given)
    for row, length in enumerate(lengths):
        parts = {
            group: {k: v[:length, [row]] for k, v in getattr(given, group).items()}
            for group in ("inputs", "d_outputs")
        }
        starts = {
            group: {k: v[..., [row], :] for k, v in getattr(given, group).items()}
            for group in ("initial", "d_final")
        }
        run = made.forward(parts["inputs"], given.params, starts["initial"], train=True)
        alone = made.backward(run, parts["d_outputs"], starts["d_final"])
        for key, array in run.outputs.items():
            close(batch.outputs[key][:length, [row]], array, key)
        for key, array in run.final.items():
            close(batch.final[key][..., [row], :], array, key)
        for key, array in alone.inputs.items():
            close(slopes.inputs[key][:length, [row]], array, key)
        for key, array in alone.initial.items():
            close(slopes.initial[key][..., [row], :], array, key)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CELLS)
def test_no_step_hands_on_what_it_started_from(name: str, backend: str) -> None:
    made = kernel(name, backend)
    given = cells.problem(name, Setting(0, 2, (3, 5, 2)))
    run, slopes = solved(made, given)
    for key, array in given.initial.items():
        np.testing.assert_array_equal(run.final[key], array)
        np.testing.assert_array_equal(slopes.initial[key], given.d_final.get(key, np.zeros_like(array)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_into_the_last_inputs(backend: str) -> None:
    """``final`` of an input is the input itself, or what the sequence started from."""
    made = kernel("long_past_inputs", backend)
    given = cells.problem("long_past_inputs", Setting(4, 3, (3, 5), lengths=(4, 1, 0)))
    d_last = np.random.default_rng(1).standard_normal((3, 3, given.inputs["x"].shape[-1]))
    run, slopes = solved(made, given)
    _, more = solved(made, given, {**given.d_final, "x": d_last})
    np.testing.assert_array_equal(run.final["x"][:, 0], given.inputs["x"][1:, 0])
    np.testing.assert_array_equal(run.final["x"][2, 1], given.inputs["x"][0, 1])
    np.testing.assert_array_equal(run.final["x"][:2, 1], given.initial["x"][1:, 1])
    np.testing.assert_array_equal(run.final["x"][:, 2], given.initial["x"][:, 2])
    d_x, d_start = more.inputs["x"] - slopes.inputs["x"], more.initial["x"] - slopes.initial["x"]
    close(d_x[1:, 0], d_last[:, 0], "a whole sequence")
    close(d_x[0, 1], d_last[2, 1], "one step")
    close(d_start[1:, 1], d_last[:2, 1], "what it started from")
    close(d_start[:, 2], d_last[:, 2], "no step")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dilated_network_is_several_side_by_side(backend: str) -> None:
    """h[t-3] alone: every third step belongs to one of three plain networks."""
    dilated = gg.compile("rnn_dilated", "float64", backend)
    plain = gg.compile("rnn", "float64", backend)
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((11, 2, 4)), dilated.init({"x": 4, "h": 6}, seed=2)
    start, d_h = rng.standard_normal((3, 2, 6)), rng.standard_normal((11, 2, 6))
    run = dilated.forward(x, p, {"h": start}, train=True)
    slopes = dilated.backward(run, d_h)
    total = {key: np.zeros_like(array) for key, array in p.items()}
    for first in range(3):
        one = plain.forward(x[first::3].copy(), p, {"h": start[first]}, train=True)
        close(run.outputs["h"][first::3], one.outputs["h"], "outputs")
        part = plain.backward(one, d_h[first::3].copy())
        close(slopes.inputs["x"][first::3], part.inputs["x"], "inputs")
        close(slopes.initial["h"][first], part.initial["h"], "initial")
        for key, array in part.params.items():
            total[key] += array
    for key, array in slopes.params.items():
        close(array, total[key], key)


@pytest.mark.parametrize("name", cells.ALL)
def test_a_cell_tells_its_delays(name: str) -> None:
    """The cell, what is derived from it, and the kernel agree; what no step needs is not asked for."""
    told, begins = cells.cell(name).delays, cells.program(name).begins
    assert begins == {key: steps for key, steps in told.items() if key in begins}
    assert set(cells.cell(name).states) <= set(begins)


def test_a_constant_sets_the_delay() -> None:
    for s in (1, 2, 5):
        made = gg.compile(gg.load("rnn_dilated", constants={"s": s}), "float64", "numpy")
        assert steps_of(made) == {"h": s}
    same = gg.parse("s: constant = 3\nh[t] = tanh(x[t] + h[t-s])", "same")
    assert str(same).endswith("h[t] = tanh(x[t] + h[t-3])\n")
    assert gg.parse(str(same), "same") == same
    with pytest.raises(UnknownName, match="s was fixed when same was read"):
        same.with_constants({"s": 4})


def test_the_symbols_of_python_take_any_delay() -> None:
    from gategen import Cell, Eq, signals, t, tanh, weights

    x, h = signals("x h")
    U_h, W_h = weights("U_h W_h")
    made = Cell("made", [Eq(h[t], tanh(U_h @ h[t - 3] + W_h @ x[t - 2] + x[t]))])
    assert made == gg.parse("h[t] = tanh(U_h @ h[t-3] + W_h @ x[t-2] + x[t])", "made")
    with pytest.raises(CellError, match="h\\[t-100000\\] reads 100000 steps away"):
        Cell("far", [Eq(h[t], tanh(h[t - 100_000] + x[t]))])


def test_a_delay_takes_no_memory_per_step() -> None:
    """The tape keeps a state once, however often and far back it is read."""
    _, plan = cells.plans("delays")
    assert [slot.value.name for slot in plan.tape] == ["h"]
    _, plan = cells.plans("longer_than_any_sequence")
    assert "h_prev" not in {slot.value.name for slot in plan.tape}


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(
    "name", ["delays_of_two_states", "right_to_left_delays", "right_to_left_long_inputs"]
)
def test_threads_change_no_bit(name: str, threads: int) -> None:
    """Few wide sequences share the units of a step, many have threads of their own."""
    for batch, widths in ((2, (130, 260)), (24, (40, 70))):
        lengths = tuple(int(n) for n in np.random.default_rng(0).integers(0, 7, batch))
        given = cells.problem(name, Setting(6, batch, widths, lengths=lengths))
        one, two = (solved(kernel(name, threads=count), given) for count in (1, threads))
        for first, second in ((one[0].outputs, two[0].outputs), (one[0].final, two[0].final)):
            assert all(array.tobytes() == second[key].tobytes() for key, array in first.items())
        for group in GROUPS:
            other = getattr(two[1], group)
            assert all(
                array.tobytes() == other[key].tobytes() for key, array in getattr(one[1], group).items()
            )


def test_wrong_histories_are_explained() -> None:
    made = kernel("delays")
    p = made.init({"x": 5})
    with pytest.raises(ArgumentError) as caught:
        made.forward(np.ones((4, 2, 5)), p, {"h": np.zeros((2, 5))})
    told = (
        "initial['h']: has shape (2, 5); expected (3, 2, 5), that is (3, B, n_x) with B = 2 from inputs['x']"
    )
    assert str(caught.value).startswith(told)
    run = made.forward(np.ones((4, 2, 5)), p, train=True)
    with pytest.raises(ArgumentError, match="final\\['h'\\]: has shape \\(2, 2, 5\\)"):
        made.backward(run, None, {"h": np.zeros((2, 2, 5))})
    with pytest.raises(ArgumentError, match="has shape"):
        made.stream(p, initial={"h": np.zeros((2, 5))})


def test_what_comes_later_is_named_as_it_is_read() -> None:
    made = kernel("long_next_inputs")
    p = made.init({"x": 5, "h": 5})
    with pytest.raises(gg.GategenError, match="a step reads x\\[t\\+1\\], which comes later"):
        made.stream(p)
    later = gg.compile("h[t] = tanh(x[t] + x[t+3] + h[t-1])", "float64", "numpy")
    with pytest.raises(ArgumentError, match="a segment cannot see x\\[t\\+3\\] in the next one"):
        later.forward(np.ones((9, 2, 3)), later.init({"x": 3}), train=True, tape="sqrt")


def test_the_command_line_tells_delays() -> None:
    shown = CliRunner().invoke(main, ["show", "narx"]).output
    assert "# delays      h 3 steps\n" in shown
    assert "delays" not in CliRunner().invoke(main, ["show", "gru"]).output


def test_documents_write_delays_as_papers_do() -> None:
    derivation = gg.derive(cells.cell("delays"))
    latex, text = derivation.latex(), derivation.text()
    assert "h_{t-3}" in latex and r"\delta h_{t-3}" in latex and "h_{t-2}" in latex
    assert "from the states of steps $t-1$ to $t-3$" in latex
    assert "steps $t+1$ to $t+3$ have handed" in latex
    assert "A step reads the states of steps t-1 to t-3" in text
    back = gg.derive(cells.cell("right_to_left_delays")).markdown()
    assert "h_{t+3}" in back and "steps $`t+1`$ to $`t+3`$" in back
