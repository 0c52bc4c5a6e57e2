"""Two cells side by side: names matched by use, equations that differ, numbers that show it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

import gategen as gg
from gategen.cli import main
from gategen.diff import Difference
from gategen.errors import GategenError
from gategen.language.cell import Cell
from gategen.language.roles import Role
from gategen.matching import match

GRU = """
z = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)
r = sigmoid(W_r @ x[t] + U_r @ h[t-1] + b_r)
g = tanh(W_g @ x[t] + U_g @ (r * h[t-1]) + b_g)
h[t] = (1 - z) * h[t-1] + z * g
"""


def by_another_author(cell: Cell) -> Cell:
    """The same cell in other letters; the number of the step has only one name."""
    weights = (Role.PARAMETER, Role.FROZEN, Role.DERIVED, Role.CONSTANT)
    letters = {
        name.partition("[")[0]: f"q_{place}" if variable.role in weights else f"s{place}"
        for place, (name, variable) in enumerate(cell.variables.items())
        if name != "t"
    }
    text = re.sub(r'^""".*?"""', "", str(cell), flags=re.DOTALL)
    words = "|".join(sorted(map(re.escape, letters), key=len, reverse=True))
    return gg.parse(re.sub(rf"\b({words})\b", lambda found: letters[found[1]], text), "other")


@pytest.mark.parametrize("name", gg.pipeline.zoo())
def test_other_letters_make_no_difference(name: str) -> None:
    cell = gg.load(name)
    found = gg.diff(cell, by_another_author(cell))
    assert (found.whole, found.equal, found.under, found.alone) == (True, True, (), ((), ()))
    assert found.same_equations


@pytest.mark.parametrize("name", gg.pipeline.zoo())
def test_a_cell_is_itself(name: str) -> None:
    cell = gg.load(name)
    assert match(cell, cell) == {n: n for n in cell.variables}


def lines(found: Difference) -> list[tuple[str, str]]:
    return [pair for pair in found.lines if pair[0] != pair[1]]


def test_the_reset_gate_before_and_after_the_product() -> None:
    found = gg.diff("gru_update_as_reset_before", "gru_update_as_reset_after")
    assert lines(found) == [
        (
            "g = tanh(W_g @ x[t] + U_g @ ((1 - z) * h[t-1]) + b_g)",
            "g = tanh(W_g @ x[t] + (U_g @ h[t-1]) * (1 - z) + b_g)",
        )
    ]
    assert not found.equal
    assert "1 of 4 equations differ" in found.text()


def test_the_two_gated_units() -> None:
    found = gg.diff("gru", "gru_reset_after")
    assert {n: ours for n, ours in found.names.items() if n != ours} == {
        "n": "g",
        "W_n": "W_g",
        "U_n": "U_g",
        "b_n": "b_g",
    }
    assert found.alone == ((), ("c_n",))
    assert lines(found) == [
        (
            "g = tanh(W_g @ x[t] + U_g @ (r * h[t-1]) + b_g)",
            "g = tanh(W_g @ x[t] + b_g + r * (U_g @ h[t-1] + c_n))",
        ),
        ("h[t] = (1 - z) * h[t-1] + z * g", "h[t] = (1 - z) * g + z * h[t-1]"),
    ]
    assert not found.equal


def test_the_two_peepholes() -> None:
    found = gg.diff("lstm_peephole", "lstm_peephole_full")
    assert [one[0] for one, _ in lines(found)] == ["i", "f", "o"]
    assert found.alone == (("p_i", "p_f", "p_o"), ("P_i", "P_f", "P_o"))
    assert not found.equal


def test_a_counterexample_holds() -> None:
    found = gg.diff("gru", "mgu")
    point = found.point
    assert point is not None
    cell = gg.load("gru")
    k = gg.compile(cell, dtype="float64", backend="numpy")
    run = k.forward(dict(point.inputs), dict(point.params), dict(point.initial))
    assert np.allclose(run.outputs[point.name][point.step], point.values[0], rtol=1e-12)
    assert not np.allclose(*point.values, rtol=1e-6)
    text = found.text()
    assert f"{point.name}[t]" in text
    assert "of mgu" in text


SAME = {
    "the order of terms": (GRU.replace("U_z @ h[t-1] + b_z", "b_z + U_z @ h[t-1]"), ()),
    "multiplied out": (GRU.replace("(1 - z) * h[t-1] + z * g", "h[t-1] + z * (g - h[t-1])"), ()),
    "concatenated": (GRU.replace("W_r @ x[t] + U_r @ h[t-1]", "W_r @ [x[t], h[t-1]]"), ()),
    "another function": (
        GRU.replace(
            "tanh(W_g @ x[t] + U_g @ (r * h[t-1]) + b_g)",
            "2 * sigmoid(2 * (W_g @ x[t] + U_g @ (r * h[t-1]) + b_g)) - 1",
        ),
        (),
    ),
    "turned": (GRU.replace("(1 - z) * h[t-1] + z * g", "z * h[t-1] + (1 - z) * g"), ("z of other is 1 - z",)),
    "two biases": (GRU.replace("U_r @ h[t-1] + b_r", "U_r @ h[t-1] + b_r + c_r"), ("c_r = 0",)),
    "a scale": (GRU.replace("z * g\n", "z * g * a_g\n"), ("a_g = 1",)),
    "turned and two biases": (
        GRU.replace("(1 - z) * h[t-1] + z * g", "z * h[t-1] + (1 - z) * g").replace("+ b_r", "+ b_r + c_r"),
        ("z of other is 1 - z", "c_r = 0"),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_equal_cells(case: str) -> None:
    text, under = SAME[case]
    found = gg.diff(gg.parse(GRU, "one"), gg.parse(text, "other"))
    assert (found.equal, found.whole, found.under, found.point) == (True, True, under, None)
    told = " and ".join(under)
    assert found.verdict == "equal on 1,000 random points" + (f" where {told}" if told else "")
    assert found.same_equations == (case in ("the order of terms", "multiplied out", "concatenated"))


OTHER = {
    "a sign": GRU.replace("(1 - z)", "(1 + z)"),
    "a step": GRU.replace("U_r @ h[t-1]", "U_r @ x[t-1]"),
    "a function": GRU.replace("tanh", "softsign"),
    "a constant": GRU.replace("z * g\n", "z * g * 0.999\n"),
    "a shared weight": GRU.replace("U_r", "U_z"),
    "another gate": GRU.replace("(r * h[t-1])", "(z * h[t-1])"),
}


@pytest.mark.parametrize("case", OTHER)
def test_different_cells(case: str) -> None:
    found = gg.diff(gg.parse("x: input\n" + GRU, "one"), gg.parse("x: input\n" + OTHER[case], "other"))
    assert not found.equal
    assert not found.same_equations
    assert found.point is not None
    assert found.point.name == "h"


def test_constants_are_part_of_a_cell() -> None:
    one = gg.load("lif")
    found = gg.diff(one, one.with_constants({"beta": 0.8}))
    assert not found.equal


def test_what_only_one_has() -> None:
    more = GRU + "y[t] = V_y @ h[t]\ny: output\nh: output\n"
    found = gg.diff(gg.parse(GRU, "one"), gg.parse(more, "other"))
    assert (found.equal, found.whole) == (True, False)
    assert found.lines[-1] == ("", "y[t] = V_y @ h[t]")
    assert found.verdict.startswith("what they have in common is equal")
    assert "+ y[t] = V_y @ h[t]" in found.text().splitlines()


def test_nothing_in_common() -> None:
    one = gg.parse("h[t] = tanh(W_h @ x[t] + h[t-1])", "one")
    other = gg.parse("y[t] = tanh(W_y @ x[t])", "other")
    with pytest.raises(GategenError, match="one and other have no state or output in common"):
        gg.diff(one, other)


def test_a_large_power_is_not_multiplied_out() -> None:
    one = "h[t] = (x[t] + h[t-1] + b_h + c_h)**40 * 1e-30"
    found = gg.diff(gg.parse(one, "one"), gg.parse(one.replace("40", "41"), "other"))
    assert not found.same_equations


def test_the_command() -> None:
    runner = CliRunner()
    same = runner.invoke(main, ["diff", "gru", "gru"])
    assert same.exit_code == 0
    assert "0 of 4 equations differ" in same.output
    other = runner.invoke(main, ["diff", "gru", "mgu", "--json"])
    assert other.exit_code == 1
    told = json.loads(other.output)
    assert told["equal"] is False
    assert told["names"]["U_h"] == "U_g"
    assert len(told["point"]["values"]) == 2
    wrong = runner.invoke(main, ["diff", "gru", "grru"])
    assert wrong.exit_code == 2
