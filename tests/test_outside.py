"""The zoo against other people's code and against cells written by hand in PyTorch."""

import functools
import statistics

import pytest
from oracles.compare import PACKABLE, PADDED, check_init, differences, problem, run_kernel, solve
from oracles.torch_cells import ORACLES
from oracles.torch_modules import MODULES

import gategen as gg

BOUND = 1e-10
BACKENDS = ("numpy", "c-portable", "c")

# The two cells with an unused reset gate say so, and must.
pytestmark = pytest.mark.filterwarnings("ignore::gategen.errors.GategenWarning")


@functools.cache
def kernel(name, backend):
    return gg.compile(name, dtype="float64", backend=backend)


def test_every_cell_of_the_zoo_has_an_oracle():
    assert set(gg.pipeline.zoo()) == set(ORACLES)


def test_the_zoo_is_short():
    lengths = [len(gg.load(name).equations) for name in gg.pipeline.zoo()]
    assert statistics.median(lengths) <= 5


@pytest.mark.parametrize("name", ORACLES)
def test_text_form_comes_back(name):
    cell = gg.load(name)
    assert gg.parse(str(cell), name=name) == cell


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ORACLES)
def test_parameter_shapes(name, backend):
    assert check_init(kernel(name, backend), ORACLES[name]) == {}


@pytest.mark.parametrize("lengths", [None, PADDED], ids=["whole", "padded"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ORACLES)
def test_against_the_loop(name, backend, lengths):
    given = problem(ORACLES[name], lengths)
    wanted = solve(ORACLES[name], given)
    assert differences(run_kernel(kernel(name, backend), given), wanted, BOUND) == {}


@pytest.mark.parametrize("lengths", [None, PACKABLE], ids=["whole", "packed"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODULES)
def test_against_the_module(name, backend, lengths):
    given = problem(ORACLES[name], lengths, seed=1)
    wanted = solve(MODULES[name], given)
    assert differences(run_kernel(kernel(name, backend), given), wanted, BOUND) == {}
