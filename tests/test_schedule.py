"""Each pass of the schedule keeps the values and moves exactly what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import cells
import pytest

from gategen.calculus.invariants import MalformedProgram
from gategen.calculus.ir import (
    Contract,
    Island,
    Kind,
    Node,
    OuterRows,
    Product,
    SumRows,
    flatten,
    sources,
    writes,
)
from gategen.calculus.problem import Setting, relative_error, solve
from gategen.calculus.schedule import (
    Phases,
    Schedule,
    check_schedule,
    defer,
    fuse,
    hoist,
    keep,
    naive,
    product_text,
    schedule,
    sink,
)
from gategen.calculus.storage import Placement, place
from gategen.language.notation import symbols_in_order

PASSES: dict[str, Callable[[Schedule], Schedule]] = {
    "hoist": hoist,
    "sink": sink,
    "defer": defer,
    "keep": keep,
    "fuse": fuse,
    "all": lambda plan: schedule(plan.program),
}
SETTINGS = (cells.LENGTHS, cells.WIDTH_ONE, Setting(1, 1, (2, 3), started=False), Setting(0, 2, (2, 3)))


@pytest.mark.parametrize("change", PASSES)
@pytest.mark.parametrize("name", cells.ALL)
def test_each_pass_alone_keeps_the_values(name: str, change: str) -> None:
    plan, _ = cells.plans(name)
    changed = PASSES[change](plan)
    check_schedule(changed)
    for setting in SETTINGS:
        given = cells.problem(name, setting)
        found = solve(changed, given)
        errors = {key: relative_error(found[key], array) for key, array in solve(plan, given).items()}
        assert max(errors.values()) <= 1e-12, (setting, errors)


def products(nodes: Iterable[Node]) -> set[str]:
    found = [p for node in flatten(nodes) if isinstance(node, Contract) for p in node.products]
    return {product_text(p.weight, p.operand, p.transposed) for p in found}


def of(names: str, weight: str, operand: str) -> set[str]:
    return {f"{weight}_{name} @ {operand}" for name in names.split()}


# What runs before, inside and after the forward loop.
PLACES = {
    "lstm": (of("i f o g", "W", "x[t]"), of("i f o g", "U", "h[t-1]"), set()),
    "gru": (of("z r g", "W", "x[t]"), {"U_z @ h[t-1]", "U_r @ h[t-1]", "U_g @ v_g"}, set()),
    "lstm_concat": (of("i f o c", "W", "x[t]"), of("i f o c", "W", "h[t-1]"), set()),
    "lstmp": (of("i f o g", "W", "x[t]"), {*of("i f o g", "R", "r[t-1]"), "P_r @ v_r"}, set()),
    "lstm_reverse": (of("i f o g", "W", "x[t]"), of("i f o g", "U", "h[t+1]"), set()),
    "indrnn": ({"W_h @ x[t]"}, set(), set()),
    "jordan": ({"W_h @ x[t]"}, {"R_h @ y[t-1]", "V_y @ h"}, set()),
    "heads": ({"W_h @ x[t]"}, {"U_h @ h[t-1]"}, {"V_y @ h[t]", "V_p @ v_p"}),
    "low_rank": ({"W_h @ x[t]"}, {"B_h @ h[t-1]", "A_h @ m_h"}, set()),
    "low_rank_input": ({"B_h @ x[t]", "A_h @ m_h"}, set(), set()),
    "loop": ({"U_h[0] @ v_1", "U_h[1] @ v_2", "U_h[2] @ v_3"}, set(), set()),
    "past_input": ({"W_h @ x[t]", "V_h @ x[t-1]"}, {"U_h @ h[t-1]"}, set()),
    "two_widths": ({"W_c @ x[t]"}, {"U_c @ h[t-1]", "V_h @ c[t]"}, set()),
    "no_state": ({"W_y @ x[t]"}, set(), set()),
}


@pytest.mark.parametrize("name", PLACES)
def test_products_run_where_they_should(name: str) -> None:
    forward = sink(hoist(naive(cells.program(name)))).forward
    assert (products(forward.before), products(forward.loop), products(forward.after)) == PLACES[name]


def test_hoist_leaves_products_with_states_in_the_loop_for_every_cell() -> None:
    for name in cells.ALL:
        forward = hoist(naive(cells.program(name))).forward
        bound = set(cells.program(name).pasts)
        for node in flatten((*forward.before, *forward.loop)):
            read = {value.name for value in cells.program(name).reads(node)}
            if read & bound:
                bound.update(value.name for value in writes(node))
        free = [p for n in forward.loop if isinstance(n, Contract) for p in n.products]
        assert not [p for p in free if p.operand.name not in bound], name


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_concat"])
def test_gradients_of_inputs_leave_the_backward_loop(name: str) -> None:
    backward = cells.plans(name)[1].backward
    gates = "W_i W_f W_o W_g" if name == "lstm" else "W_z W_r W_g" if name == "gru" else "W_i W_f W_o W_c"
    assert {text.split()[0] for text in products(backward.after)} == {f"T({w})" for w in gates.split()}
    into_x = [n for n in backward.loop if isinstance(n, Contract) and n.target.name == "d_x"]
    assert not into_x and products(backward.loop)


def test_gradients_of_heads_run_before_the_backward_loop() -> None:
    assert products(cells.plans("heads")[1].backward.before) == {"T(V_y) @ d_a_y", "T(V_p) @ d_p"}


@pytest.mark.parametrize("name", cells.ALL)
def test_no_weight_gradient_is_left_in_the_loop(name: str) -> None:
    plan = cells.plans(name)[1]
    weights = {v.name for v in plan.program.gradients.values() if len(v.shape) == 2}
    inside = {v.name for node in plan.backward.loop for v in writes(node)}
    assert not weights & inside
    outer = [node for node in plan.backward.after if isinstance(node, OuterRows)]
    assert len(outer) == sum(isinstance(node, OuterRows) for node in flatten(plan.program.adjoint))


@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_peephole"])
def test_bias_gradients_are_sums_after_the_loop(name: str) -> None:
    plan = cells.plans(name)[1]
    sums = {n.target.name for n in flatten(plan.backward.after) if isinstance(n, SumRows)}
    biases = {f"d_{key}" for key in cells.cell(name).parameters if key.startswith("b_")}
    assert biases <= sums


TAPES = {
    "rnn": "h",
    "lstm": "h c i f o g",
    "gru": "h z r v_g g",
    "gru_reset_after": "h r m_n_ z n",
    "lstmp": "r c i f o g v_r",
    "indrnn": "h",
    "heads": "h y v_p",
    "linear": "h",
    "same_for_all": "h",
}


@pytest.mark.parametrize("name", TAPES)
def test_the_tape_keeps_what_the_adjoint_reads(name: str) -> None:
    assert {slot.value.name for slot in cells.plans(name)[1].tape} == set(TAPES[name].split())


@pytest.mark.parametrize("name", cells.ALL)
def test_every_loop_is_as_large_as_it_can_be(name: str) -> None:
    for passed in (cells.plans(name)[1].forward, cells.plans(name)[1].backward):
        for nodes in (passed.before, passed.loop, passed.after):
            for one, two in pairwise(nodes):
                both = isinstance(one, Island) and isinstance(two, Island)
                assert not both or one.shape != two.shape or reads_a_sum(one, two)


def reads_a_sum(one: Island, two: Island) -> bool:
    """Whether the second loop needs a sum that the first one makes."""
    sums = {assign.target.name for assign in one.assigns if assign.target.shape != one.shape}
    return any(symbol.name in sums for a in two.assigns for symbol in symbols_in_order(a.expr))


def without(nodes: tuple[Node, ...], target: str) -> tuple[Node, ...]:
    return tuple(n for n in flatten(nodes) if all(v.name != target for v in writes(n)))


def tampered(plan: Schedule) -> dict[str, Schedule]:
    """Schedules of an LSTM with one thing wrong each."""
    forward, backward = plan.forward, plan.backward
    last = forward.loop[-1]
    late = next(n for n in forward.loop if isinstance(n, Contract))
    width = cells.program("lstm").values["x"]
    other = Island((replace(first_assign(last), expr=width.symbol + first_assign(last).expr),))
    return {
        "a step before its operands": replace(plan, forward=Phases(forward.before, forward.loop[::-1], ())),
        "nothing hoisted computed": replace(plan, forward=Phases((), without(forward.loop, "a_i"), ())),
        "no forget gate": replace(
            plan, forward=Phases(forward.before, without(forward.loop, "f"), forward.after)
        ),
        "a recurrent product too late": replace(
            plan,
            forward=Phases(forward.before, tuple(n for n in forward.loop if n is not late), (late,)),
        ),
        "a slot too few": replace(plan, tape=plan.tape[:-1]),
        "sums before the loop": replace(
            plan, backward=Phases(backward.after, backward.loop, backward.before)
        ),
        "widths that do not fit": replace(plan, forward=Phases(forward.before, (*forward.loop, other), ())),
        "a contribution after the read": replace(
            plan, backward=Phases(backward.before, (*backward.loop, *backward.loop[:1]), backward.after)
        ),
    }


def first_assign(node: Node) -> object:
    assert isinstance(node, Island)
    return node.assigns[0]


@pytest.mark.parametrize("what", tampered(cells.plans("lstm")[1]))
def test_a_tampered_schedule_is_malformed(what: str) -> None:
    plan = cells.plans("lstm")[1]
    check_schedule(plan)
    with pytest.raises(MalformedProgram):
        check_schedule(tampered(plan)[what])


def accesses(node: Node) -> Iterable[tuple[list[str], list[str]]]:
    """What is read and what is written, one element-wise assignment after the other."""
    if isinstance(node, Island):
        for assign in node.assigns:
            yield [symbol.name for symbol in symbols_in_order(assign.expr)], [assign.target.name]
    elif isinstance(node, Contract):
        yield [*(v.name for v in node.addends), *(p.operand.name for p in node.products)], [node.target.name]
    else:
        yield [value.name for value in sources(node)], [node.target.name]


def play(placement: Placement, reverse: bool, holds: dict[tuple[str, int], str], fixed: set[str]) -> None:
    """Walk through three steps and see to it that every plane still holds the value that is read from it."""
    steps = (2, 1, 0) if reverse else (0, 1, 2)

    def run(nodes: Iterable[Node], step: int) -> None:
        for node in nodes:
            for reads, targets in accesses(node):
                for name in reads:
                    plane = placement.alias.get(name, name)
                    if name not in fixed:
                        found = holds.get((plane, step), name)
                        assert found == name, f"{name} is read from {plane}, which holds {found}"
                for name in targets:
                    holds[placement.alias.get(name, name), step] = name

    for phase in ("before", "loop", "after"):
        nodes = getattr(placement.phases, phase)
        # Barriers and loops of all steps go node by node, the loop step by step.
        if phase == "loop":
            for step in steps:
                run(nodes, step)
        else:
            for node in nodes:
                for step in steps:
                    run((node,), step)


@pytest.mark.parametrize("change", ["fuse", "all"])
@pytest.mark.parametrize("name", cells.ALL)
def test_shared_planes_are_never_read_too_late(name: str, change: str) -> None:
    plan = PASSES[change](cells.plans(name)[0])
    storage, program = place(plan), plan.program
    timeless = {value.name for value in program.values.values() if value.timeless}
    taped = {slot.value.name for slot in plan.tape}
    holds: dict[tuple[str, int], str] = {}
    play(storage.forward, program.reverse, holds, timeless)
    for step in range(3):
        assert {holds.get((name, step), name) for name in taped} == taped
    play(storage.backward, not program.reverse, {(n, t): n for n in taped for t in range(3)}, timeless)


def test_gates_are_kept_in_place() -> None:
    storage = place(cells.plans("lstm")[1])
    assert {storage.forward.alias[f"a_{gate}"] for gate in "ifog"} == set("ifog")
    assert {storage.backward.alias[f"d_a_{gate}"] for gate in "ifog"} == set("ifog")


def test_products_with_one_operand_are_packed() -> None:
    packs = {
        (pack.phase, pack.operand.name): [weight.name for weight in pack.weights]
        for pack in cells.plans("lstm")[1].packs
    }
    assert packs["forward before", "x"] == ["W_i", "W_f", "W_o", "W_g"]
    assert packs["forward loop", "h_prev"] == ["U_i", "U_f", "U_o", "U_g"]


def test_choices_say_why() -> None:
    texts = {(choice.decision, choice.why) for choice in cells.plans("gru")[1].choices}
    assert ("hoist W_z @ x[t] into a_z", "depends on no state") in texts
    assert ("sink T(W_g) @ d_a_g into d_x", "no later step needs it") in texts
    assert ("defer d_U_g", "a sum over all steps and the batch") in texts
    assert ("keep v_g on the tape", "the adjoint reads it") in texts


def test_what_is_cheap_is_recomputed() -> None:
    for name, value in {"same_for_all": "z", "derived_returned": "z", "reassigned": "g"}.items():
        plan = cells.plans(name)[1]
        assert value not in {slot.value.name for slot in plan.tape}
        assert value in {v.name for node in plan.backward.loop for v in writes(node)}
        found = [choice.why for choice in plan.choices if choice.decision == f"recompute {value}"]
        assert found == ["cheaper than a store and a load"]


def test_adjoints_of_constants_are_not_kept() -> None:
    for name in ("frozen", "constants", "sizes"):
        program = cells.program(name)
        fixed = {v.name for v in program.parameters if v.kind is not Kind.PARAMETER}
        assert fixed and not fixed & set(program.gradients)


def test_blocks_of_a_concatenation_are_used_separately() -> None:
    found = [p for n in cells.program("lstm_concat").step if isinstance(n, Contract) for p in n.products]
    assert {type(p) for p in found} == {Product}
    assert {(p.weight.name, p.operand.name, str(p.block and p.block.start)) for p in found[:2]} == {
        ("W_i", "h_prev", "0"),
        ("W_i", "x", "n_h"),
    }
