"""The table of functions: every derivative, every kink and limit, every spelling."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from oracles.torch_cells import Step

import gategen as gg
from gategen.calculus.evaluation import Lines, compiled
from gategen.language.functions import ALIASES, FUNCTIONS
from gategen.runtime.kernel import Kernel

Array = NDArray[Any]
COMPARISONS = [name for name, made in FUNCTIONS.items() if made.row.infix]
CALLS = [name for name in FUNCTIONS if name not in COMPARISONS]
POSITIVE = ("log", "log1p", "sqrt")
# Steps: derivatives are zero wherever they exist.
FLAT = (*COMPARISONS, "floor", "sign", "stop_gradient")


class Surrogate(torch.autograd.Function):
    """The value of one, the gradient of the other."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:  # type: ignore[override]
        return None, gradient


LIKE_TORCH = [
    *("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "erf", "abs", "floor"),
    *("sign", "sigmoid", "relu", "where", "maximum", "minimum"),
]
# What PyTorch calls the function; its softplus is linear beyond a threshold.
TORCH: dict[str, Callable[..., torch.Tensor]] = {
    **{n: getattr(torch, n) for n in LIKE_TORCH},
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "softplus": lambda x: F.softplus(x, threshold=40),
    "logsigmoid": F.logsigmoid,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "softsign": F.softsign,
    "clip": torch.clamp,
    "hard_tanh": F.hardtanh,
    "hard_sigmoid": F.hardsigmoid,
    "mod": torch.remainder,
    "stop_gradient": torch.clone,
    "surrogate": Surrogate.apply,
    "round_ste": lambda x: Surrogate.apply(torch.round(x), x),
    "spike": Step.apply,
}

# Values and derivatives at minus and plus infinity: the limits. PyTorch gives NaN for some.
LIMITS = {
    "exp": ((0, np.inf), (0, np.inf)),
    "expm1": ((-1, np.inf), (0, np.inf)),
    "log": ((np.nan, np.inf), (0, 0)),
    "log1p": ((np.nan, np.inf), (0, 0)),
    "sqrt": ((np.nan, np.inf), (np.nan, 0)),
    "sin": ((np.nan, np.nan), (np.nan, np.nan)),
    "cos": ((np.nan, np.nan), (np.nan, np.nan)),
    "tanh": ((-1, 1), (0, 0)),
    "erf": ((-1, 1), (0, 0)),
    "abs": ((np.inf, np.inf), (-1, 1)),
    "floor": ((-np.inf, np.inf), (0, 0)),
    "sign": ((-1, 1), (0, 0)),
    "sigmoid": ((0, 1), (0, 0)),
    "softplus": ((0, np.inf), (0, 1)),
    "logsigmoid": ((-np.inf, 0), (1, 0)),
    "relu": ((0, np.inf), (0, 1)),
    "leaky_relu": ((-np.inf, np.inf), (0.01, 1)),
    "elu": ((-1, np.inf), (0, 1)),
    "silu": ((0, np.inf), (0, 1)),
    "gelu": ((0, np.inf), (0, 1)),
    "softsign": ((-1, 1), (0, 0)),
    "hard_tanh": ((-1, 1), (0, 0)),
    "hard_sigmoid": ((0, 1), (0, 0)),
    "stop_gradient": ((-np.inf, np.inf), (0, 0)),
    "round_ste": ((-np.inf, np.inf), (1, 1)),
    "spike": ((0, 1), (0, 0)),
}
UNARY = list(LIMITS)
OTHERS = ("where", "clip", "maximum", "minimum", "mod", "surrogate")
KINKS = {
    "abs": (0.0,),
    "relu": (0.0,),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (-3.0, 3.0),
    "sign": (0.0,),
    "floor": (0.0, 2.0),
    "softsign": (0.0,),
    "softplus": (0.0,),
    "logsigmoid": (0.0,),
    "sigmoid": (0.0,),
    "round_ste": (-1.5, -0.5, 0.5, 1.5, 2.5, 0.49999999999999994),
    "spike": (0.0,),
}
FAR = (-1e4, -800.5, -90.0, -45.0, -30.0, -6.5, 6.5, 30.0, 45.0, 90.0, 800.5, 1e4)
RNG = np.random.default_rng(0)


def symbols(name: str) -> tuple[sympy.Symbol, ...]:
    return sympy.symbols(f"u0:{FUNCTIONS[name].row.arity}", real=True)


def evaluate(expr: sympy.Expr, arguments: tuple[Any, ...], lines: Lines | None = None) -> Array:
    values = {f"u{place}": value for place, value in enumerate(arguments)}
    with np.errstate(all="ignore"):
        result = compiled(sympy.sympify(expr))(values.__getitem__, lines)
    return np.broadcast_to(result, np.broadcast(*arguments).shape)


def value(name: str, *arguments: Any, lines: Lines | None = None) -> Array:
    return evaluate(FUNCTIONS[name](*symbols(name)), arguments, lines)


def slope(name: str, place: int, *arguments: Any) -> Array:
    made = symbols(name)
    return evaluate(sympy.diff(FUNCTIONS[name](*made), made[place]), arguments)


def generic(name: str, count: int = 200) -> tuple[Array, ...]:
    """Arguments away from every kink; conditions are 0 or 1, limits in order."""
    row = FUNCTIONS[name].row
    drawn = [3 * RNG.standard_normal(count) + 0.123 for _ in range(row.arity)]
    if name in POSITIVE:
        drawn = [np.abs(array) + 0.1 for array in drawn]
    if name == "where":
        drawn[0] = np.asarray(drawn[0] > 0, float)
    if name == "mod":
        drawn[1] = np.abs(drawn[1]) + 1
    if name == "clip":
        drawn[1:] = [np.minimum(drawn[1], drawn[2]), np.maximum(drawn[1], drawn[2])]
    return tuple(drawn)


def test_every_row_is_tested() -> None:
    assert set(FUNCTIONS) == set(TORCH)
    assert set(FUNCTIONS) == {*UNARY, *COMPARISONS, *OTHERS}
    assert set(ALIASES.values()) <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_complex_steps(name: str) -> None:
    arguments = generic(name)
    for place, argument in enumerate(arguments):
        if name == "where" and place == 0:
            continue
        moved = (*arguments[:place], argument + 1e-30j, *arguments[place + 1 :])
        expected = np.imag(value(name, *moved)) / 1e-30
        if name in FLAT:
            assert not expected.any()
        # The interpreter's error function of complex arguments is a series.
        atol = 1e-13 if name in ("erf", "gelu") else 1e-15
        np.testing.assert_allclose(slope(name, place, *arguments), expected, rtol=1e-13, atol=atol)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_differences(name: str) -> None:
    """Those of a straight line where another derivative is declared."""
    arguments, h = generic(name), 1e-3
    lines = Lines()
    value(name, *arguments, lines=lines)
    for place, argument in enumerate(arguments):
        if name == "where" and place == 0:
            continue

        def at(k: int, place: int = place, argument: Array = argument) -> Array:
            lines.restart()
            moved = (*arguments[:place], argument + k * h, *arguments[place + 1 :])
            return value(name, *moved, lines=lines).astype(float)

        expected = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
        # A branch that flips within the step shows in second differences.
        smooth = np.abs(at(2) - at(1) - at(0) + at(-1) - (at(1) - at(0) - at(-1) + at(-2))) < 1e-5
        smooth &= np.abs(at(1) - 2 * at(0) + at(-1)) < 1e-4 * (1 + np.abs(at(0)))
        assert smooth.mean() > 0.9
        found = slope(name, place, *arguments)
        np.testing.assert_allclose(found[smooth], expected[smooth], rtol=2e-8, atol=2e-8)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_are_those_of_pytorch(name: str) -> None:
    arguments = [torch.tensor(a, requires_grad=True) for a in generic(name)]
    given = list(arguments)
    if name == "where":
        given[0] = arguments[0] > 0
    found = TORCH[name](*given)
    plain = tuple(a.detach().numpy() for a in arguments)
    np.testing.assert_allclose(value(name, *plain), found.detach().numpy(), rtol=2e-15, atol=1e-15)
    if name in FLAT:
        return
    slopes = torch.autograd.grad(found.sum(), arguments, allow_unused=True)
    for place, expected in enumerate(slopes):
        if expected is not None:
            got = slope(name, place, *plain)
            # PyTorch's slope of hardsigmoid is 1/6 in float32.
            rtol = 1e-7 if name == "hard_sigmoid" else 1e-13
            np.testing.assert_allclose(got, expected.numpy(), rtol=rtol, atol=1e-15)


@pytest.mark.parametrize("name", UNARY)
def test_far_away_nothing_overflows(name: str) -> None:
    points = np.array([x for x in FAR if x > 0 or name not in POSITIVE])
    tensor = torch.tensor(points, requires_grad=True)
    found = TORCH[name](tensor)
    np.testing.assert_allclose(value(name, points), found.detach().numpy(), rtol=1e-13, atol=1e-15)
    if name not in FLAT:
        (expected,) = torch.autograd.grad(found.sum(), tensor)
        np.testing.assert_allclose(slope(name, 0, points), expected.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", UNARY)
def test_limits(name: str) -> None:
    ends = np.array([-np.inf, np.inf])
    values, slopes = LIMITS[name]
    np.testing.assert_array_equal(value(name, ends), values)
    np.testing.assert_array_equal(slope(name, 0, ends), slopes)


@pytest.mark.parametrize("name", CALLS)
def test_not_a_number_reaches_the_value(name: str) -> None:
    arguments = [1.5, 0.5, 2.5][: FUNCTIONS[name].row.arity]
    for place in range(len(arguments)):
        if name in ("where", "clip", "surrogate") and place != (name == "where"):
            continue
        given = [*arguments[:place], np.nan, *arguments[place + 1 :]]
        assert np.isnan(value(name, *map(np.array, given)))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_order_nan_as_ieee_754_does(name: str) -> None:
    for left, right in ((np.nan, 1.0), (1.0, np.nan), (np.nan, np.nan)):
        assert bool(value(name, np.array(left), np.array(right))) == (name == "not_equal")


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_those_of_pytorch(name: str) -> None:
    points = np.array(KINKS[name])
    tensor = torch.tensor(points, requires_grad=True)
    found = TORCH[name](tensor)
    np.testing.assert_array_equal(value(name, points), found.detach().numpy())
    (expected,) = torch.autograd.grad(found.sum(), tensor)
    np.testing.assert_array_equal(slope(name, 0, points), expected.numpy())


def test_documented_kinks() -> None:
    tie = np.array(0.7)
    assert slope("relu", 0, np.array(0.0)) == slope("abs", 0, np.array(0.0)) == 0
    for name in ("maximum", "minimum"):
        assert slope(name, 0, tie, tie) == slope(name, 1, tie, tie) == 0.5
    for point in (-1.0, 2.0):
        assert slope("clip", 0, np.array(point), np.array(-1.0), np.array(2.0)) == 1
    outside = slope("clip", 0, np.array([-1.001, 2.001]), np.array(-1.0), np.array(2.0))
    np.testing.assert_array_equal(outside, [0, 0])


CASES = {
    **{name: f"{name}(x_{name}[t])" for name in UNARY},
    **{name: f"where(x_{name}[t] {FUNCTIONS[name].row.infix} v[t], 1, 0)" for name in COMPARISONS},
    "maximum": "max(x_maximum[t], v[t])",
    "minimum": "min(x_minimum[t], v[t])",
    "clip": "clip(x_clip[t], -0.75, w[t])",
    "where": "where(v[t] > 0.25, x_where[t], w[t])",
    "mod": "mod(x_mod[t], w[t])",
    "surrogate": "surrogate(v[t], x_surrogate[t])",
}
ENGINES = [(backend, dtype) for backend in ("numpy", "c-portable", "c") for dtype in ("float64", "float32")]
SPECIAL = (0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-8, -1e-8)


@cache
def everything(backend: str, dtype: str) -> Kernel:
    """One cell, and so one C file, with every function; each has an input of its own."""
    inputs = ["v", "w", *(f"x_{name}" for name in CASES)]
    lines = [f"{name}: input[n]" for name in inputs]
    lines += [f"y_{name}[t] = {call}" for name, call in CASES.items()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gg.GategenWarning)
        made = gg.compile(gg.parse("\n".join(lines), "functions"), dtype, backend)
    assert made.backend == backend
    return made


def arguments(dtype: str) -> dict[str, Array]:
    """One plane (1, 1, n) for each input: ordinary, extreme and special arguments."""
    rng = np.random.default_rng(1)
    points = np.array([*SPECIAL, *FAR, *(4 * rng.standard_normal(301))])
    limits = np.abs(rng.standard_normal(len(points))) + 0.1
    other = np.where(np.arange(len(points)) % 5 == 0, points, rng.standard_normal(len(points)))
    planes = {"v": np.nan_to_num(other, nan=0.5), "w": limits}
    for name in CASES:
        planes[f"x_{name}"] = (
            points if name not in POSITIVE else np.where(points > -1, np.abs(points), points)
        )
    return {name: plane.astype(dtype)[None, None] for name, plane in planes.items()}


def expected_of(name: str, planes: dict[str, Array]) -> tuple[Array, Array]:
    """Value and derivative in double precision at the same arguments."""
    x, v, w = (np.asarray(planes[key][0, 0], float) for key in (f"x_{name}", "v", "w"))
    given: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(UNARY, (x,)),
        **dict.fromkeys((*COMPARISONS, "maximum", "minimum"), (x, v)),
        "clip": (x, np.array(-0.75), w),
        "where": (np.asarray(v > 0.25, float), x, w),
        "mod": (x, w),
        "surrogate": (v, x),
    }
    place = 1 if name in ("where", "surrogate") else 0
    return np.asarray(value(name, *given[name]), float), np.asarray(slope(name, place, *given[name]), float)


def close(found: Array, expected: Array, dtype: str, reach: Array) -> NDArray[np.bool_]:
    """Equal up to a few units in the last place of the greatest number that the definition passes through."""
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        bound = 8 * float(np.finfo(dtype).eps) * np.maximum(np.maximum(np.abs(expected), reach), 1e-30)
        near = np.abs(found.astype(float) - expected) <= bound
        tiny = np.abs(found.astype(float) - expected) <= 4 * float(np.finfo(dtype).tiny)
    return near | tiny | (found == rounded) | (np.isnan(found) & np.isnan(rounded))


@pytest.mark.parametrize(("backend", "dtype"), ENGINES)
@pytest.mark.parametrize("name", CASES)
def test_every_spelling(name: str, backend: str, dtype: str) -> None:
    made, planes = everything(backend, dtype), arguments(dtype)
    run = made.forward(planes, {}, train=True)
    ones = {f"y_{key}": np.ones_like(planes["v"]) for key in CASES}
    grad = made.backward(run, ones)
    value_, slope_ = expected_of(name, planes)
    x = planes[f"x_{name}"][0, 0]
    reach = np.minimum(1.0, np.abs(np.nan_to_num(np.asarray(x, float), posinf=1.0, neginf=1.0)))
    if name == "mod":
        reach = np.abs(np.nan_to_num(np.asarray(x, float), posinf=1.0, neginf=1.0))
    found = run.outputs[f"y_{name}"][0, 0]
    wrong = ~close(found, value_, dtype, reach)
    assert not wrong.any(), list(zip(x[wrong], found[wrong], value_[wrong], strict=True))[:5]
    found = grad.inputs[f"x_{name}"][0, 0]
    wrong = ~close(found, slope_, dtype, np.ones_like(reach))
    assert not wrong.any(), list(zip(x[wrong], found[wrong], slope_[wrong], strict=True))[:5]
