"""Published cells as declared text, with the shapes that inference must find.

The shapes are given in the letters of the papers: n units, d inputs, o outputs, p projected units. Every cell
says which of the language's widths each letter is.
"""

from dataclasses import dataclass, field

import pytest

import gategen as gg


@dataclass(frozen=True)
class Entry:
    """A cell, its states by width letter, and ``shape: names; shape: names`` of its parameters."""

    text: str
    states: str
    parameters: str
    letters: dict[str, str] = field(default_factory=lambda: {"n": "n_h", "d": "n_x"})
    outputs: tuple[str, ...] = ("h",)


WITH_OUTPUT = {"n": "n_h", "d": "n_x", "o": "n_y"}

CATALOGUE = {
    "elman": Entry(
        "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "jordan": Entry(
        """
h = sigmoid(W_h @ x[t] + R_h @ y[t-1] + b_h)
y[t] = sigmoid(V_y @ h + b_y)
""",
        states="y:o",
        parameters="n×o: R_h; o×n: V_y; o: b_y; n×d: W_h; n: b_h",
        letters=WITH_OUTPUT,
        outputs=("y",),
    ),
    "narx": Entry(
        "h[t] = tanh(W_h @ x[t] + U_1 @ h[t-1] + U_2 @ h[t-2] + U_3 @ h[t-3] + b_h)",
        states="h:n",
        parameters="n×n: U_1 U_2 U_3; n×d: W_h; n: b_h",
    ),
    "dilated": Entry(
        "s: constant = 3\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-s] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "irnn": Entry(
        "h[t] = relu(W_h @ x[t] + U_h @ h[t-1] + b_h)",
        states="h:n",
        parameters="n×n: U_h; n×d: W_h; n: b_h",
    ),
    "indrnn": Entry(
        "h[t] = relu(W_h @ x[t] + u_h*h[t-1] + b_h)",
        states="h:n",
        parameters="n×d: W_h; n: b_h u_h",
    ),
    "echo_state_network": Entry(
        """
W_h: frozen
U_h: frozen
b_h: frozen
h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + b_h)
y[t] = V_y @ concat(x[t], h[t])
""",
        states="h:n",
        parameters="o×d+n: V_y; n×n: U_h; n×d: W_h; n: b_h",
        letters=WITH_OUTPUT,
        outputs=("h", "y"),
    ),
    "leaky_echo_state_network": Entry(
        """
alpha: constant = 0.3
W_h: frozen
U_h: frozen
R_h: frozen
b_h: frozen
hc = tanh(W_h @ x[t] + U_h @ h[t-1] + R_h @ y[t-1] + b_h)
h[t] = (1 - alpha)*h[t-1] + alpha*hc
y[t] = V_y @ concat(x[t], h[t])
""",
        states="h:n, y:o",
        parameters="o×d+n: V_y; n×o: R_h; n×n: U_h; n×d: W_h; n: b_h",
        letters=WITH_OUTPUT,
        outputs=("y",),
    ),
    "ct_rnn": Entry(
        """
dt: constant = 0.1
tau: vector = 1.0
h[t] = h[t-1] + (dt/tau)*(-h[t-1] + tanh(W_h @ x[t] + U_h @ h[t-1] + b_h))
""",
        states="h:n",
        parameters="n: tau b_h; n×n: U_h; n×d: W_h",
    ),
    "lstm_no_forget": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_g U_i U_o; n×d: W_g W_i W_o; n: b_g b_i b_o",
    ),
    "lstm": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    # Chrono initialisation: the graph of the LSTM, written as papers do, every gate with its time.
    "chrono_lstm": Entry(
        """
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g[t] = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f[t]*c[t-1] + i[t]*g[t]
h[t] = o[t]*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    "cifg": Entry(
        """
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + (1 - f)*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_o; n×d: W_f W_g W_o; n: b_f b_g b_o",
    ),
    "peephole": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "peephole_full": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + P_i @ c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + P_f @ c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + P_o @ c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: P_i P_f P_o U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
    ),
    "no_input_gate": Entry(
        """
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_o; n×d: W_f W_g W_o; n: b_f b_g b_o p_f p_o",
    ),
    "no_forget_gate": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_g U_i U_o; n×d: W_g W_i W_o; n: b_g b_i b_o p_i p_o",
    ),
    "no_output_gate": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
h[t] = tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i; n×d: W_f W_g W_i; n: b_f b_g b_i p_f p_i",
    ),
    "no_input_activation": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = W_g @ x[t] + U_g @ h[t-1] + b_g
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "no_output_activation": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + b_o)
h[t] = o*c[t]
""",
        states="h:n, c:n",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
    ),
    "full_gate_recurrence": Entry(
        """
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + p_i*c[t-1] + R_ii @ i[t-1] + R_fi @ f[t-1] + R_oi @ o[t-1] + b_i)
f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + p_f*c[t-1] + R_if @ i[t-1] + R_ff @ f[t-1] + R_of @ o[t-1] + b_f)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
c[t] = f[t]*c[t-1] + i[t]*g
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + p_o*c[t] + R_io @ i[t-1] + R_fo @ f[t-1] + R_oo @ o[t-1] + b_o)
h[t] = o[t]*tanh(c[t])
""",
        states="h:n, c:n, i:n, f:n, o:n",
        parameters=(
            "n×n: R_ii R_fi R_oi R_if R_ff R_of R_io R_fo R_oo U_f U_g U_i U_o; "
            "n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o"
        ),
    ),
    "lstmp": Entry(
        """
i = sigmoid(W_i @ x[t] + R_i @ r[t-1] + p_i*c[t-1] + b_i)
f = sigmoid(W_f @ x[t] + R_f @ r[t-1] + p_f*c[t-1] + b_f)
g = tanh(W_g @ x[t] + R_g @ r[t-1] + b_g)
c[t] = f*c[t-1] + i*g
o = sigmoid(W_o @ x[t] + R_o @ r[t-1] + p_o*c[t] + b_o)
r[t] = P_r @ (o*tanh(c[t]))
""",
        states="r:p, c:n",
        parameters="n×p: R_i R_f R_g R_o; p×n: P_r; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o p_f p_i p_o",
        letters={"n": "n_c", "d": "n_x", "p": "n_r"},
        outputs=("r",),
    ),
    "janet": Entry(
        """
beta: constant = 1.0
s = W_f @ x[t] + U_f @ h[t-1] + b_f
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
h[t] = sigmoid(s)*h[t-1] + (1 - sigmoid(s - beta))*g
""",
        states="h:n",
        parameters="n×n: U_f U_g; n×d: W_f W_g; n: b_f b_g",
    ),
    # The paper makes the mixed signal as wide as the state; the equations alone leave it free.
    "multiplicative_lstm": Entry(
        """
U_m: weight[n, n]
m = (W_m @ x[t])*(U_m @ h[t-1])
i = sigmoid(W_i @ x[t] + V_i @ m + b_i)
f = sigmoid(W_f @ x[t] + V_f @ m + b_f)
o = sigmoid(W_o @ x[t] + V_o @ m + b_o)
g = tanh(W_g @ x[t] + V_g @ m + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: V_i V_f V_o V_g U_m; n×d: W_f W_g W_i W_m W_o; n: b_f b_g b_i b_o",
        letters={"n": "n", "d": "n_x"},
    ),
    "multiplicative_lstm_free": Entry(
        """
m = (W_m @ x[t])*(U_m @ h[t-1])
i = sigmoid(W_i @ x[t] + V_i @ m + b_i)
f = sigmoid(W_f @ x[t] + V_f @ m + b_f)
o = sigmoid(W_o @ x[t] + V_o @ m + b_o)
g = tanh(W_g @ x[t] + V_g @ m + b_g)
c[t] = f*c[t-1] + i*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×k: V_i V_f V_o V_g; k×n: U_m; k×d: W_m; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o",
        letters={"n": "n_h", "d": "n_x", "k": "n_m"},
    ),
    "scrn": Entry(
        """
alpha: constant = 0.95
s[t] = (1 - alpha)*(B_s @ x[t]) + alpha*s[t-1]
h[t] = sigmoid(P_h @ s[t] + W_h @ x[t] + U_h @ h[t-1])
y[t] = softmax(V_y @ h[t] + Q_y @ s[t])
""",
        states="s:q, h:n",
        parameters="q×d: B_s; n×q: P_h; o×n: V_y; o×q: Q_y; n×n: U_h; n×d: W_h",
        letters={"n": "n_h", "d": "n_x", "o": "n_y", "q": "n_s"},
        outputs=("h", "y"),
    ),
    "on_lstm": Entry(
        """
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
mf = cumsum(softmax(Z_a @ x[t] + R_a @ h[t-1] + b_a))
mi = 1 - cumsum(softmax(Z_b @ x[t] + R_b @ h[t-1] + b_b))
w = mf*mi
c[t] = (f*w + mf - w)*c[t-1] + (i*w + mi - w)*g
h[t] = o*tanh(c[t])
""",
        states="h:n, c:n",
        parameters="n×n: R_a R_b U_f U_g U_i U_o; n×d: Z_a Z_b W_f W_g W_i W_o; n: b_a b_b b_f b_g b_i b_o",
    ),
    "skip_lstm": Entry(
        """
du: state = 1
b_p: scalar
uc = cu[t-1] + min(du[t-1], 1 - cu[t-1])
u = round_ste(uc)
i = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
o = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
g = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
cc = f*c[t-1] + i*g
c[t] = u*cc + (1 - u)*c[t-1]
h[t] = u*(o*tanh(cc)) + (1 - u)*h[t-1]
du[t] = u*sigmoid(dot(w_p, cc) + b_p) + (1 - u)*du[t-1]
cu[t] = (1 - u)*uc
h: output
""",
        states="h:n, c:n, du:, cu:",
        parameters="n×n: U_f U_g U_i U_o; n×d: W_f W_g W_i W_o; n: b_f b_g b_i b_o w_p; : b_p",
    ),
    "gated_feedback": Entry(
        """
g11 = sigmoid(dot(a_11, x[t]) + dot(c_11, h1[t-1]) + dot(d_11, h2[t-1]))
g21 = sigmoid(dot(a_21, x[t]) + dot(c_21, h1[t-1]) + dot(d_21, h2[t-1]))
h1[t] = tanh(W_1 @ x[t] + g11*(U_11 @ h1[t-1]) + g21*(U_21 @ h2[t-1]))
g12 = sigmoid(dot(a_12, h1[t]) + dot(c_12, h1[t-1]) + dot(d_12, h2[t-1]))
g22 = sigmoid(dot(a_22, h1[t]) + dot(c_22, h1[t-1]) + dot(d_22, h2[t-1]))
h2[t] = tanh(V_2 @ h1[t] + g12*(U_12 @ h1[t-1]) + g22*(U_22 @ h2[t-1]))
""",
        states="h1:n, h2:m",
        parameters=(
            "d: a_11 a_21; n: c_11 c_21 a_12 c_12 a_22 c_22; m: d_11 d_21 d_12 d_22; "
            "n×d: W_1; n×n: U_11; n×m: U_21; m×n: V_2 U_12; m×m: U_22"
        ),
        letters={"n": "n_h1", "m": "n_h2", "d": "n_x"},
        outputs=("h2",),
    ),
    "layer_norm_gru": Entry(
        """
z = sigmoid(layer_norm(U_z @ h[t-1], g_1, b_1) + layer_norm(W_z @ x[t], g_2, b_2))
r = sigmoid(layer_norm(U_r @ h[t-1], g_5, b_5) + layer_norm(W_r @ x[t], g_6, b_6))
g = tanh(layer_norm(W_h @ x[t], g_3, b_3) + r*layer_norm(U_h @ h[t-1], g_4, b_4))
h[t] = (1 - z)*h[t-1] + z*g
""",
        states="h:n",
        parameters="n×n: U_z U_r U_h; n×d: W_z W_r W_h; n: g_1 b_1 g_2 b_2 g_3 b_3 g_4 b_4 g_5 b_5 g_6 b_6",
    ),
    "lmu": Entry(
        """
A_m: frozen
B_m: frozen
u = dot(e_x, x[t]) + dot(e_h, h[t-1]) + dot(e_m, m[t-1])
m[t] = A_m @ m[t-1] + B_m*u
h[t] = tanh(W_h @ x[t] + U_h @ h[t-1] + V_h @ m[t])
""",
        states="h:n, m:q",
        parameters="d: e_x; n: e_h; q: e_m B_m; n×q: V_h; n×n: U_h; n×d: W_h; q×q: A_m",
        letters={"n": "n_h", "d": "n_x", "q": "n_m"},
    ),
}


def axis(text, letters):
    """The width an axis such as ``d+n`` stands for, its terms sorted: a sum has no order."""
    return sorted(letters[letter] for letter in text.split("+"))


def expected_parameters(entry):
    return {
        name: [axis(part, entry.letters) for part in shape.strip().split("×") if part]
        for shape, names in (row.split(":") for row in entry.parameters.split(";"))
        for name in names.split()
    }


def expected_states(entry):
    pairs = (pair.split(":") for pair in entry.states.split(","))
    return {name.strip(): [axis(letter, entry.letters)] if letter else [] for name, letter in pairs}


def inferred(variables):
    return {
        name: [sorted(str(width).split(" + ")) for width in variable.shape]
        for name, variable in variables.items()
    }


@pytest.mark.parametrize("name", CATALOGUE)
def test_inferred_shapes(name):
    entry = CATALOGUE[name]
    cell = gg.parse(entry.text, name=name)
    assert inferred(cell.parameters) == expected_parameters(entry)
    assert inferred(cell.states) == expected_states(entry)
    assert sorted(cell.outputs) == sorted(entry.outputs)
    assert inferred(cell.inputs) == {"x": [["n_x"]]}


@pytest.mark.parametrize("name", CATALOGUE)
def test_text_form_comes_back(name):
    cell = gg.parse(CATALOGUE[name].text, name=name)
    assert gg.parse(str(cell), name=name) == cell
