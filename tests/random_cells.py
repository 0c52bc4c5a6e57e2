"""Cells that nobody has written: random equations over the whole language, by Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

SMOOTH = (
    "sigmoid({})",
    "tanh({})",
    "softsign({})",
    "sin({})",
    "exp(-({})**2)",
    "softplus({})",
    "stop_gradient({})",
)
REDUCED = (
    *("softmax({})", "layer_norm({})", "layer_norm({}, g_a, b_b)", "sum({}) * b_a", "mean({}) * {}"),
    *("dot({}, {}) * b_b", "var({}) + {}", "logsumexp({}) * b_a", "cumsum({})"),
)
PAIRS = ("{} + {}", "{} - {}", "{} * {}", "{} / (1 + ({})**2)")
# Where a derivative jumps, the argument is a sum of products: nothing makes that exactly zero.
JUMPS = ("relu({0})", "abs({0})", "where({0} > 0.1, {1}, {2})", "max({0}, {1})", "min({1}, {0})")
# No state grows without bounds.
UPDATES = ("tanh({1})", "0.5 * {0} + tanh({1})", "{0} - 0.1 * tanh({1})")
KINDS = ("leaf", "product", "smooth", "pair", "jump", "number", "reduced", "arranged")
ARRANGED = (
    *("{2}[0] * {0}", "[{0}, {1}][1:3][1] * b_a", "flatten(reshape([{0}, {1}], 2))[2:3][0] * {0}"),
    *("split([{0}, {1}], 2)[1]", "split(repeat({0}, 2), 2)[0]", "cos(t + b_a) * {0}", "m_s * {0}"),
    *("(S[t-1] @ {0})", "({2} @ S[t-1])", "sum(S[t-1] * ({0})[:, None], 0)", "sum(S[t-1] * M_s, 1)"),
    *("mean(S[t-1] * ({0})[:, None], axis=0)", "logsumexp(S[t-1] + ({0})[None, :], 1)"),
    *("dot(S[t-1], M_s, axis=1) * {0}", "var(M_s - S[t-1], 0)", "max(S[t-1] + M_s, axis=1) * {0}"),
    *("(S[t-1] @ {2}) * ({2} @ S[t-1])", "sum(outer({0}, {1}) - ({0})[None, :], 1)"),
)
MATRICES = (
    "0.5 * S[t-1] + 0.2 * tanh(outer({0}, {1}))",
    "tanh(({0})[:, None] * S[t-1] + ({1})[None, :] * M_s)",
    "tanh(S[t-1] + outer({0} - S[t-1] @ {2}, {2}))",
    "0.5 * S[t-1] + softmax(S[t-1] * ({0})[:, None] - ({1})[None, :], axis=1)",
    "tanh(0.2 * cumsum(S[t-1] + M_s, 0) + layer_norm(S[t-1] + ({0})[None, :], 2, ({1})[:, None], axis=1))",
)
NUMBERS = ("2", "0.5", "-1.25", "1e-1", "3")


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The text of a cell with one or two states, some gates, and shared weights now and then."""
    return _Author(draw).cell()


class _Author:
    """Writes one cell, everything of one width but the input."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.values: list[str] = []

    def cell(self) -> str:
        states = ["h", "c"][: self.draw(st.integers(1, 2))]
        self.values = [f"{state}[t-{delay}]" for state in states for delay in self.delays()]
        gates = ["z", "g", "q"][: self.draw(st.integers(0, 3))]
        names = self.draw(st.permutations([*gates, *states]))
        lines = []
        for name in names:
            right = self.vector(self.draw(st.integers(1, 3)))
            if name in states:
                right = self.draw(st.sampled_from(UPDATES)).format(f"{name}[t-1]", right)
            timed = name in states or self.draw(st.booleans())
            lines.append(f"{name}[t] = {right}" if timed else f"{name} = {right}")
            self.values.append(f"{name}[t]" if timed else name)
        outputs = self.draw(st.lists(st.sampled_from(gates), max_size=2, unique=True)) if gates else []
        if not any("x[t]" in line for line in lines):
            lines[-1] += " + W_x @ x[t]"
        # A state that no vector meets would be a number.
        read = [name for name in states if any(f"{name}[t-" in line for line in lines)]
        declared = ["x: input", *(f"{name}: state[n]" for name in read)]
        # What nothing carries on is a result only if that is said.
        outputs += [] if read or outputs else [states[-1]]
        declared += [f"{name}: output" for name in outputs]
        if any("S[t-1]" in line for line in lines):
            lines.append(f"S[t] = {self.filled(self.draw(st.sampled_from(MATRICES)), 1)}")
            declared.append("S: state[n, n]")
        if any("m_s" in line for line in lines):
            declared.append("m_s: sequence")
        if any("alpha" in line for line in lines):
            declared.append("alpha: scalar")
        return "\n".join([*declared, *lines])

    def filled(self, form: str, depth: int) -> str:
        """A form with two expressions and a value."""
        return form.format(
            self.vector(depth - 1), self.vector(depth - 1), self.draw(st.sampled_from(self.values))
        )

    def delays(self) -> list[int]:
        """How many steps back a state may be read."""
        return [1, *self.draw(st.lists(st.integers(2, 5), max_size=2, unique=True))]

    def vector(self, depth: int) -> str:
        """An expression of the states' width."""
        kind = self.draw(st.sampled_from(KINDS if depth else KINDS[:2]))
        if kind == "smooth":
            return self.draw(st.sampled_from(SMOOTH)).format(self.vector(depth - 1))
        if kind == "pair":
            return (
                "("
                + self.draw(st.sampled_from(PAIRS)).format(self.vector(depth - 1), self.vector(depth - 1))
                + ")"
            )
        if kind == "jump":
            parts = (self.sum_of_products(), self.vector(depth - 1), self.vector(depth - 1))
            return self.draw(st.sampled_from(JUMPS)).format(*parts)
        if kind == "reduced":
            form = self.draw(st.sampled_from(REDUCED))
            return f"({form.format(*(self.vector(depth - 1) for _ in range(2)))})"
        if kind == "arranged":
            return f"({self.filled(self.draw(st.sampled_from(ARRANGED)), depth)})"
        if kind == "number":
            return f"({self.draw(st.sampled_from(NUMBERS))} * {self.vector(depth - 1)})"
        return self.product() if kind == "product" else self.leaf()

    def leaf(self) -> str:
        return self.draw(st.sampled_from([*self.values, "b_a", "b_b", "(alpha * b_a)"]))

    def sum_of_products(self) -> str:
        return f"({self.product()} + b_j)"

    def product(self) -> str:
        which = self.draw(st.sampled_from(("a", "b", "c")))
        kind = self.draw(st.sampled_from(("input", "state", "state", "past", "long past", "both", "twice")))
        value = self.draw(st.sampled_from(self.values))
        return {
            "input": f"(W_{which} @ x[t])",
            "past": f"(W_{which} @ x[t-1])",
            "long past": f"(W_{which} @ x[t-3])",
            "state": f"(U_{which} @ {value})",
            "twice": f"(U_{which} @ (U_a @ {value}))",
            "both": f"(V_{which} @ [x[t], {value}])",
        }[kind]
