"""Published cells: the shapes that inference finds, and what becomes of all 108 of the catalogue."""

import ast
import re
import statistics

import pytest
from c_programs import RENDERINGS, quickly
from catalogue import CATALOGUE, WRITTEN

import gategen as gg
from gategen.calculus.recurrence import recurrence
from gategen.check import DTYPES


def axis(text, letters):
    """The width an axis such as ``d+n`` stands for, its terms sorted: a sum has no order."""
    return sorted(letters[letter] for letter in text.strip().split("+"))


def axes(text, letters):
    """The axes of ``n×d``."""
    return [axis(part, letters) for part in text.split("×") if part.strip()]


def expected_parameters(entry):
    return {
        name: axes(shape, entry.letters)
        for shape, names in (row.split(":") for row in entry.parameters.split(";"))
        for name in names.split()
    }


def expected_vectors(pairs, entry):
    named = (pair.split(":") for pair in pairs.split(","))
    return {name.strip(): axes(shape, entry.letters) for name, shape in named}


def inferred(variables):
    return {
        name: [sorted(str(width).split(" + ")) for width in variable.shape]
        for name, variable in variables.items()
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_inferred_shapes(name):
    entry = WRITTEN[name]
    cell = gg.parse(entry.text, name=name)
    assert inferred(cell.parameters) == expected_parameters(entry)
    assert inferred(cell.states) == expected_vectors(entry.states, entry)
    assert sorted(cell.outputs) == sorted(entry.outputs)
    assert inferred(cell.inputs) == expected_vectors(entry.inputs, entry)


@pytest.mark.parametrize("name", WRITTEN)
def test_text_form_comes_back(name):
    cell = gg.parse(WRITTEN[name].text, name=name)
    assert gg.parse(str(cell), name=name) == cell


EXPRESSIBLE = {number: cell for number, cell in CATALOGUE.items() if not cell.missing}
REFUSED = {number: cell for number, cell in CATALOGUE.items() if cell.missing}
# What no cell of the zoo has: compiled as a user has it. So are the zoo's float64 kernels, for the tests of
# agreement; the text of all others is at stake, and one that is not optimized takes half a second less.
OPTIMIZED = ("plrnn", "zoneout_lstm", "lru", "gated_antisymmetric_rnn", "layer_norm_gru_joint", "ltc_circuit")


def read(cell):
    return gg.load(cell.zoo) if cell.zoo else gg.parse(WRITTEN[cell.entry].text, name=cell.entry)


def written(cell):
    """How many equations a person writes, loops not unrolled."""
    text = (gg.pipeline.ZOO / f"{cell.zoo}.cell").read_text() if cell.zoo else WRITTEN[cell.entry].text
    return sum(isinstance(node, ast.Assign) for node in ast.walk(ast.parse(text)))


def test_the_catalogue_is_whole():
    assert list(CATALOGUE) == list(range(1, 109))
    assert (len(EXPRESSIBLE), len(REFUSED)) == (98, 10)
    assert all(bool(cell.zoo) != bool(cell.entry) for cell in EXPRESSIBLE.values())
    lines = [written(cell) for cell in EXPRESSIBLE.values()]
    assert statistics.median(lines) <= 5 and max(lines) <= 16


@pytest.mark.parametrize("number", EXPRESSIBLE)
def test_what_can_be_written_is_derived(number):
    published = CATALOGUE[number]
    cell = read(published)
    assert gg.parse(str(cell), name=cell.name) == cell
    found = recurrence(gg.derive(cell).program)
    assert (found.depth, found.linear) == (published.found or (published.depth, published.linear))


@pytest.mark.parametrize("number", EXPRESSIBLE)
def test_what_can_be_written_is_certified(number):
    published = CATALOGUE[number]
    quick = () if published.entry in OPTIMIZED else ("float32",) if published.zoo else DTYPES
    with quickly(*RENDERINGS, dtypes=quick):
        certificate = gg.check(read(published))
    assert certificate.passed and not certificate.left_out
    seen = {row.test for row in certificate.rows}
    assert {f"{b} {d}" for b in ("numpy", "c-portable", "c") for d in ("float64", "float32")} <= seen


@pytest.mark.parametrize("number", REFUSED)
def test_what_cannot_be_written_says_why(number):
    for missing in CATALOGUE[number].missing:
        with pytest.raises(gg.GategenError, match=re.escape(missing.error)):
            gg.parse(missing.text)
