"""Cells that no paper has: each leans on one thing that a derivation can get wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gategen as gg
from gategen.calculus.problem import Problem, Setting, draw
from gategen.calculus.program import Program
from gategen.calculus.schedule import Schedule, naive, schedule

TRICKY = {
    "shared_weight": "g = tanh(W_h @ x[t] + W_h @ h[t-1])\nh[t] = tanh(W_h @ g + b_h) * b_h",
    "reused_gate": (
        "z = sigmoid(W_z @ x[t] + U_z @ h[t-1] + b_z)\n"
        "g = tanh(W_g @ (x[t] * z) + U_g @ (z * h[t-1]))\n"
        "h[t] = z * h[t-1] + (1 - z) * g + z * z"
    ),
    "surrogates": (
        "p = W_p @ x[t]\nu[t] = 0.9 * u[t-1] + p + U_u @ s[t-1] - stop_gradient(s[t-1])\n"
        "s[t] = surrogate(where(u[t] > 0.25, 1, 0), tanh(u[t])) + 0.1 * round_ste(3 * p) + mod(p, 0.7)"
    ),
    # The adjoint of x[t-1] has another name where the author took the usual one.
    "past_input_and_a_namesake": (
        "x: input\nd_x_prev = tanh(W_d @ x[t-1])\nh[t] = tanh(U_h @ h[t-1] + W_h @ x[t-1]) * d_x_prev"
    ),
    "products_apart": (
        "a = W_a @ x[t]\nz = sigmoid(W_z @ x[t] + U_z @ h[t-1])\nb = W_b @ x[t]\n"
        "h[t] = z * h[t-1] + tanh(a + b * h[t-1])"
    ),
    "bias_twice": "h[t] = tanh(W_h @ x[t] + b_h + b_h + U_h @ h[t-1]) + b_h",
    "derived_scalar": "nu: scalar\nm = sigmoid(nu)\ng = W_h @ x[t]\nh[t] = m * h[t-1] + (1 - m) * g",
    "derived_vector": "d_s = exp(-b_s)\nh[t] = d_s * h[t-1] + W_h @ x[t]",
    "derived_matrix": "W_s = W_a + W_b * W_b\nh[t] = tanh(W_s @ x[t] + W_s @ h[t-1])",
    "derived_product": "v_s = W_v @ b_v\nh[t] = tanh(W_h @ x[t] + v_s * h[t-1])",
    "derived_sum_of_products": "v_s = W_v @ b_v + V_v @ c_v + b_s\nh[t] = tanh(W_h @ x[t] + v_s * h[t-1])",
    "derived_from_derived": (
        "nu: scalar\na_s = exp(nu)\nv_s = a_s * b_v\nw_s = v_s * v_s + a_s\n"
        "h[t] = tanh(W_h @ x[t] + w_s * h[t-1])"
    ),
    "derived_in_a_product": "v_s = tanh(b_v)\nh[t] = tanh(W_h @ x[t] + U_h @ v_s + h[t-1])",
    "derived_returned": "z[t] = W_z @ b_z\nh[t] = tanh(x[t] + z[t] * h[t-1])\nz: output\nh: output",
    "scalars": "alpha: scalar\nbeta: scalar\nh[t] = alpha * tanh(W_h @ x[t] + beta * h[t-1]) - beta",
    "scalar_gate": (
        "s: input[1]\nu[t] = sigmoid(s[t] + 0.5 * u[t-1])\n"
        "h[t] = u[t] * h[t-1] + (1 - u[t]) * tanh(W_h @ x[t])"
    ),
    "scalar_input": "s: input[1]\nh[t] = s[t] * tanh(W_h @ x[t] + s[t]**2 * h[t-1])",
    "scalar_state": "s: input[1]\nq[t] = 0.9 * q[t-1] + s[t]\nh[t] = tanh(W_h @ x[t] + q[t] * h[t-1])",
    "scalar_operand": "s: input[1]\nh[t] = tanh(W_h @ s[t] + U_h @ h[t-1]) + s[t] * x[t]",
    "scalar_only": "s: input[1]\nw_q: scalar\nq: state[1]\nq[t] = tanh(w_q * q[t-1] + s[t])",
    "kinks": "h[t] = where(x[t] > 0, h[t-1], 0.5 * x[t]) + max(x[t], h[t-1]) - abs(h[t-1]) / 2",
    "branches": (
        "g = where(x[t] > 0.5, 1, where(x[t] < -0.5, -1, 0.5))\nh[t] = g * h[t-1] + x[t] * sign(h[t-1])"
    ),
    "clips": (
        "g = clip(W_h @ x[t] + h[t-1], -0.5, 0.7)\nh[t] = g + relu(h[t-1]) - min(x[t], g) * hard_tanh(g)"
    ),
    "learned_limits": "h[t] = clip(W_h @ x[t] + h[t-1], b_l - 1, b_u + 1) + max(b_l, h[t-1])",
    "past_input": "h[t] = tanh(W_h @ x[t] + V_h @ x[t-1] + U_h @ h[t-1])",
    "next_input": "h[t] = tanh(W_h @ x[t] + V_h @ x[t+1] + U_h @ h[t-1])",
    "both_inputs": "h[t] = tanh(0.5 * x[t-1] * x[t] + W_h @ x[t+1] + U_h @ h[t-1])",
    "only_past_input": "x: input\nh[t] = tanh(W_h @ x[t-1] + U_h @ h[t-1])",
    "past_input_in_a_product": "h[t] = tanh(W_h @ (x[t] - x[t-1]) + U_h @ h[t-1])",
    "past_input_in_a_sum": "h[t] = x[t-1] + 0.5 * h[t-1] + x[t]",
    "right_to_left": "h[t] = tanh(W_h @ x[t] + U_h @ h[t+1] + b_h)",
    "right_to_left_shifted": "h[t] = tanh(W_h @ x[t-1] + x[t] + 2 * x[t+1] + U_h @ h[t+1])",
    "heads": (
        "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])\n"
        "y[t] = sigmoid(V_y @ h[t] + b_y)\np[t] = V_p @ (h[t-1] * y[t]) + x[t]"
    ),
    "two_widths": (
        "c[t] = tanh(W_c @ x[t] + U_c @ h[t-1] + p_c * c[t-1])\nh[t] = V_h @ c[t] + 0.5 * h[t-1] * h[t-1]"
    ),
    "low_rank": "h[t] = tanh(W_h @ x[t] + A_h @ (B_h @ h[t-1]) + b_h)",
    "low_rank_input": "h[t] = tanh(A_h @ (B_h @ x[t]) + u_h * h[t-1])",
    "loop": "v = x[t]\nfor k in range(3):\n    v = tanh(U_h[k] @ v + b_h[k])\nh[t] = v + h[t-1]",
    # The widths between the factors have the names of parameters with keys.
    "loop_of_low_rank": (
        "s = x[t]\nfor k in range(2):\n    s = tanh(A_s[k] @ (B_s[k] @ s + b_s[k]))\nh[t] = s + 0.5 * h[t-1]"
    ),
    "loop_over_gates": (
        "L: constant = 2\ns = h[t-1]\n"
        "for k in range(L):\n"
        "    q = sigmoid(W_q[k] @ x[t] + R_q[k] @ s)\n"
        "    s = q * tanh(R_s[k] @ s) + (1 - q) * s\n"
        "h[t] = s"
    ),
    "reassigned": "g = W_h @ x[t]\ng = tanh(g + h[t-1])\ng = g * g + g\nh[t] = g * h[t-1] + x[t] * 0.1 - g",
    "division": "h[t] = (x[t] + h[t-1]) / (2 + tanh(h[t-1])) / tau_h + 1 / (1 + x[t]**2)",
    "powers": "h[t] = (x[t]**2 + 1)**-1 * tanh(h[t-1])**3 + x[t] / (1 + h[t-1]**2) - -x[t]",
    # What C would take for integers, and cut.
    "whole_numbers": (
        "h[t] = h[t-1] * (3 / 2) / (1 + 1) + 1 / 2 * x[t] + (5 - 2) / 2 + 2**-1\n"
        "y[t] = where(x[t] > 0, 1, 3) / where(h[t] < 1, 2, 4) + 2 * where(x[t] > 0, 1, 0) / (2 + x[t]**2)\n"
        "z[t] = (where(x[t] > 0, 1, 2) + 1) / 3 - h[t] * (where(h[t] > 0, 1, where(x[t] > 1, 3, 5)) / 2)"
    ),
    "roots": "h[t] = sqrt(1 + h[t-1]**2) - log(2 + tanh(x[t])) + (1 + x[t]**2)**0.5 / sqrt(tau_h)",
    "concatenation": "s: input\nh[t] = tanh(W_h @ [h[t-1], x[t], 2 * s[t]] + b_h)",
    "concatenated_scalar": "nu: scalar\nh[t] = tanh(W_h @ [h[t-1], x[t], nu])",
    "frozen": "U_h: frozen\nm_h: frozen\nh[t] = tanh(W_h @ x[t] + U_h @ (m_h * h[t-1]))",
    "constants": "dt: constant = 0.25\nh[t] = h[t-1] + dt * tanh(W_h @ x[t] + U_h @ h[t-1]) / (1 + dt)",
    "sizes": "h: state[n]\nh[t] = tanh(x[t] + U_h @ h[t-1] / sqrt(n)) * log(n + 1) + exp(1) / sqrt(2)",
    "declared_start": (
        "h: state[n] = 0.75\nc: state = -2\nc[t] = 0.5 * c[t-1] + x[t]\nh[t] = tanh(U_h @ h[t-1] + c[t])"
    ),
    "no_state": "y[t] = tanh(W_y @ x[t] + b_y)",
    "hidden_state": "c[t] = 0.5 * c[t-1] + x[t]\ny[t] = 2 * c[t-1] + x[t]\ny: output",
    "state_of_inputs": "s[t] = W_s @ x[t]\nh[t] = tanh(s[t-1] + h[t-1])",
    "copied_input": "s[t] = x[t]\nh[t] = s[t-1] + 0.5 * h[t-1]",
    "same_for_all": "z[t] = 2 * b_z\nh[t] = tanh(x[t] + z[t] * h[t-1])\nz: output\nh: output",
    "zero_gradient": "h[t] = where(b_q > x[t], 1, 0) * h[t-1] + floor(b_r) * x[t]",
    "unused_gate": "z = sigmoid(W_z @ x[t])\nh[t] = h[t-1] + x[t]",
    "nested_functions": (
        "h[t] = sigmoid(tanh(W_h @ x[t]) + softplus(h[t-1] * b_h)) * gelu(silu(h[t-1]) + x[t])"
    ),
    "head_without_gradient": "h[t] = tanh(x[t] + U_h @ h[t-1])\ny[t] = floor(3 * h[t])",
    "gate_and_its_argument": "s = W_s @ x[t]\nz = sigmoid(s)\nh[t] = z + 0.5 * s + 0.5 * h[t-1]",
    "linear": "h[t] = a_h * h[t-1] + W_h @ x[t]",
    "delays": "h[t] = tanh(W_h @ x[t] + U_h[0] @ h[t-1] + U_h[1] @ h[t-3] + 0.3 * h[t-2] * x[t])",
    "only_a_long_delay": "h[t] = tanh(W_h @ x[t] + U_h @ h[t-2] + b_h)",
    "delays_of_two_states": (
        "c[t] = 0.5 * c[t-4] + tanh(W_c @ x[t] + U_c @ h[t-1])\nz = sigmoid(V_z @ c[t-1] + x[t])\n"
        "h[t] = z * h[t-2] + (1 - z) * c[t]"
    ),
    "long_past_inputs": "h[t] = tanh(W_h @ x[t] + V_h @ x[t-3] + x[t-1] * h[t-1]) + 0.5 * x[t-2]",
    "long_next_inputs": "x: input\nh[t] = tanh(W_h @ x[t+2] + V_h @ x[t-2] + U_h @ h[t-1]) * x[t+1]",
    "only_long_past_input": "x: input\nh[t] = tanh(W_h @ x[t-2] + U_h @ h[t-1])",
    "right_to_left_delays": "h[t] = tanh(W_h @ x[t] + U_h @ h[t+3] + b_h) + 0.5 * h[t+1] * tanh(h[t+2])",
    "right_to_left_long_inputs": (
        "h[t] = tanh(W_h @ x[t+3] + x[t-2] + x[t] * x[t+1] + U_h @ h[t+1]) - 0.1 * h[t+2]"
    ),
    "right_to_left_past_inputs": "h[t] = tanh(W_h @ x[t] + V_h @ x[t+4] + x[t+1] * h[t+2]) + 0.5 * x[t+2]",
    "delayed_heads": (
        "h[t] = tanh(W_h @ x[t] + U_h @ h[t-1])\ny[t] = V_y @ h[t-2] + sigmoid(V_p @ h[t-3]) * h[t-3]"
    ),
    "right_to_left_delayed_heads": (
        "h[t] = tanh(W_h @ x[t] + U_h @ h[t+1])\ny[t] = V_y @ h[t+3] + sigmoid(V_p @ h[t+2]) * h[t+2]"
    ),
    "delays_in_one_product": "h[t] = tanh(W_h @ [x[t], x[t-2], h[t-1], h[t-3]] + b_h)",
    "delayed_scalar": "s: input[1]\nq[t] = 0.9 * q[t-2] + s[t-2]\nh[t] = tanh(W_h @ x[t] + q[t-1] * h[t-2])",
    "delayed_start": "h: state[n] = 0.75\nh[t] = 0.5 * h[t-3] + tanh(U_h @ h[t-2] + x[t])",
    "delay_by_a_constant": (
        "d: constant = 2\nh[t] = tanh(W_h @ x[t] + U_h @ h[t-d] + 0.5 * h[t-2*d] + x[t-d+1])"
    ),
    "longer_than_any_sequence": "h[t] = tanh(W_h @ x[t] + U_h @ h[t-20]) + 0.1 * x[t-17] * h[t-1]",
    "delay_without_effect": "q = 0 * h[t-5]\nh[t] = tanh(W_h @ x[t] + h[t-1]) + where(h[t-3] > 0, 1, 0)",
    "sums": "s = sum(W_s @ x[t] + U_s @ h[t-1])\nh[t] = tanh(s * x[t] + h[t-1]) + mean(h[t-1] * x[t]) * b_h",
    "sums_of_functions": (
        "s = sum(exp(-x[t]**2)) + mean(tanh(h[t-1]))\n"
        "h[t] = tanh(U_h @ h[t-1] + s * x[t]) / (1 + sum(abs(h[t-1])))"
    ),
    # Nothing in the sum of a number over the units is a vector.
    "sum_of_a_number": (
        "alpha: scalar\ns = 0.1 * sum(alpha * h[t-1] + alpha)\n"
        "m[t] = 0.3 * m[t-1] + 0.05 * sum(x[t] + m[t-1] + b_m)\n"
        "h[t] = tanh(s + U_h @ x[t] + m[t])"
    ),
    "scalar_of_vectors": (
        "i = dot(a_i, x[t]) + max(h[t-1])\nm[t] = max(m[t-1] - 1, i)\n"
        "h[t] = exp(i - m[t]) * tanh(W_h @ x[t]) + 0.5 * h[t-1] * exp(m[t-1] - 1 - m[t])"
    ),
    "dots": "h[t] = (W_h @ x[t] + dot(x[t] * 2, b_x) * h[t-1]) / (2 + dot(h[t-1], h[t-1]))",
    "normed": (
        "k = W_k @ x[t] + U_k @ h[t-1]\nh[t] = k / (1 + norm(k)) + 0.5 * h[t-1] * norm(x[t]) + var(h[t-1])"
    ),
    "norm_of_zero": "h[t] = norm(relu(-1 - x[t]**2)) * x[t] + tanh(U_h @ h[t-1] + x[t])",
    "extremes": "h[t] = tanh(W_h @ x[t] + max(h[t-1]) * x[t]) - 0.5 * min(x[t] * h[t-1]) + max(b_h)",
    "ties": "g = clip(x[t], -0.2, 0.2)\nh[t] = tanh(U_h @ h[t-1]) + max(g) * x[t] - min(g) * h[t-1]",
    "softmaxes": (
        "a = softmax(V_a @ x[t] + R_a @ h[t-1] + b_a)\n"
        "h[t] = tanh(V_h @ a) + 0.1 * h[t-1] * logsumexp(tanh(U_h @ h[t-1]))"
    ),
    "running_sums": (
        "m = cumsum(softmax(W_m @ x[t] + U_m @ h[t-1]))\nh[t] = m * h[t-1] + (1 - m) * cumsum(x[t])"
    ),
    "layer_norms": (
        "a = layer_norm(W_a @ x[t], g_w) + layer_norm(U_a @ h[t-1], g_u) + b_a\n"
        "c[t] = sigmoid(a) * c[t-1] + tanh(W_c @ x[t])\nh[t] = tanh(layer_norm(c[t], g_c, b_c))"
    ),
    "layer_norm_of_inputs": (
        "u: input\nh[t] = tanh(V_h @ u[t] + W_h @ layer_norm(x[t]) + U_h @ h[t-1])\n"
        "y[t] = V_y @ layer_norm(h[t], 2, b_y)"
    ),
    "reduced_parameters": (
        "s = softmax(b_s)\nh[t] = s * tanh(W_h @ x[t]) + layer_norm(b_h) * h[t-1] / norm(b_h) + mean(g_s * s)"
    ),
    "reduction_right_to_left": "h[t] = softmax(x[t-1] + U_h @ h[t+1]) * mean(h[t+1]) + cumsum(x[t])",
    "matrix_state": (
        "S[t] = 0.9 * S[t-1] + outer(W_k @ x[t], W_v @ x[t])\n"
        "h[t] = tanh(S[t] @ (W_q @ x[t]) + b_h) - 0.1 * x[t]"
    ),
    "matrix_left_and_right": (
        "q = tanh(W_q @ x[t])\ny[t] = q @ S[t-1] + S[t-1] @ (x[t] * b_y)\n"
        "S[t] = tanh(S[t-1] + outer(y[t], x[t]) * sum(q))\ny: output"
    ),
    "matrix_of_columns_and_rows": (
        "a = sigmoid(W_a @ x[t])\n"
        "S[t] = a[:, None] * S[t-1] + exp(-M_s) * tanh(x[t])[None, :]"
        " + b_r[:, None] * (W_c @ x[t])[None, :]\n"
        "h[t] = sum(S[t] * M_s, 0) + sum(S[t-1] * (W_c @ x[t])[None, :], 1) * b_r"
    ),
    "matrix_along_its_axes": (
        "q = softmax(S[t-1] * M_s, axis=1)\n"
        "S[t] = 0.5 * tanh(cumsum(q, axis=0))"
        " + 0.2 * layer_norm(S[t-1] + x[t][None, :], g_s[:, None], axis=1)\n"
        "a = dot(S[t], q, axis=1)\n"
        "h[t] = mean(S[t], 0) * h[t-1] - mean(tanh(S[t] + cumsum(M_s * S[t], axis=1)), 0)"
        " + var(q, 0) * (a @ S[t])\n"
        "y[t] = logsumexp(S[t], axis=1) + c_y"
    ),
    "extremes_along_axes": (
        "S[t] = 0.5 * S[t-1] + outer(W_k @ x[t], h[t-1])\ny[t] = norm(S[t], axis=0) + max(S[t-1], axis=0)\n"
        "h[t] = tanh(max(S[t] * M_s, axis=0) - min(S[t] - S[t-1], axis=0)) * x[t]"
        " + tanh(min(S[t], axis=1)[0]) * h[t-1] / 2\ny: output"
    ),
    "parameters_along_their_axes": (
        "h: state[n]\nA_h = softmax(U_h, axis=1) - layer_norm(V_h, g_h[None, :], axis=1)\n"
        "v_h = logsumexp(A_h * V_h, 0) + max(V_h, axis=1)\n"
        "h[t] = tanh(A_h @ h[t-1] + W_h @ x[t]) + v_h * mean(outer(h[t-1], x[t]) + exp(-M_h), axis=1)\n"
        "V_h: weight[n, n]"
    ),
    "matrix_of_a_vector_twice": (
        "A[t] = 0.5 * A[t-1] + 0.3 * outer(h[t-1], h[t-1])\n"
        "h[t] = tanh(A[t] @ h[t-1] + W_h @ x[t]) * max(x[t])"
    ),
    "matrix_some_steps_back": (
        "S[t] = 0.5 * S[t-3] + 0.2 * tanh(S[t-1]) + outer(x[t], W_s @ x[t-1])\n"
        "h[t] = x[t] @ S[t-2] + h[t-1] / 2"
    ),
    "matrix_right_to_left": (
        "k = W_k @ x[t]\nS[t] = S[t+1] + outer(x[t] - S[t+1] @ k, k) / 4\ny[t] = S[t] @ k"
    ),
    "matrix_of_inputs": "X: input[n, m]\nz[t] = tanh(X[t] @ x[t]) + 0.5 * dot(z[t-1] @ X[t], x[t]) * b_z",
    "matrices_of_parameters": (
        "h: state[n]\nA_h = U_h - T(U_h) - 0.1 * I(n) + outer(b_h, c_h)\nv_h = sum(A_h * A_h, 1)\n"
        "h[t] = tanh(A_h @ h[t-1] + W_h @ x[t]) + v_h * x[t]"
    ),
    "split_values": (
        "z, r = split(sigmoid(W @ x[t] + U @ h[t-1] + b), 2)\n"
        "h[t] = z * h[t-1] + tanh(split(V_h @ x[t], 3)[1] * r) + split(r_h, 2)[0]"
    ),
    "constant_widths": (
        "x: input[3]\nA: state[4, 3]\nh: state[4]\nA[t] = 0.5 * A[t-1] + outer(tanh(U_h @ h[t-1]), x[t])\n"
        "y[t] = h[t-1] @ A[t] + sum(A[t], 0) * x[t]\n"
        "h[t] = tanh(A[t] @ x[t] + W_h @ y[t] + b_h) - sum(A[t-1], 1)\n"
        "y: output"
    ),
    "some_elements": (
        "v = tanh(W_v @ x[t] + U_v @ h[t-1])\ns = h[t-1][0] * v[2] - b_s[1:3][1]\n"
        "h[t] = s * x[t] + W_h @ v[1:3] + [h[t-1][1:], gather(v, 0)]"
    ),
    "rows_of_a_vector": (
        "K = reshape(W_k @ x[t], 3)\nq = W_q @ h[t-1]\n"
        "h[t] = tanh(flatten(K * (K @ q)[:, None]) + flatten(reshape(b_h, 3)))"
        " * sum(stack(x[t], x[t-1]) * E_s, 0)[0]"
    ),
    "joined_values": (
        "b_v: vector[2]\nv = [x[t], h[t-1], b_v]\n"
        "h[t] = tanh(W_h @ (v * sigmoid(c_v)) + dot([h[t-1], x[t]], [x[t], h[t-1]]))"
    ),
    "repeated_values": (
        "m = repeat(softmax(Z_m @ x[t] + R_m @ h[t-1]), 3)\n"
        "h[t] = m * h[t-1] + repeat(b_h, 3) * tanh(W_h @ x[t])"
    ),
    "clock": "h[t] = sin(0.5 * t + b_h) * h[t-1] + where(mod(t, 3) < 1, x[t], 0.1 * x[t])",
    "same_in_all_steps": (
        "m_x: sequence\nm_h: sequence\nh[t] = tanh(W_h @ (m_x * x[t]) + U_h @ (m_h * h[t-1])) * sigmoid(m_h)"
    ),
    "size_with_the_name_of_its_state": "h: state[h]\nh[t] = tanh(layer_norm(x[t] + h[t-1]) + U_h @ h[t-1])",
}

ALL = (*gg.pipeline.zoo(), *TRICKY)


LENGTHS = Setting(4, 3, (2, 3, 5), lengths=(4, 0, 2))
WIDTH_ONE = Setting(3, 2, (3, 1, 2))


@cache
def cell(name: str) -> gg.Cell:
    """A cell of the zoo or of the list above."""
    return gg.parse(TRICKY[name], name) if name in TRICKY else gg.load(name)


@cache
def program(name: str) -> Program:
    """What is derived from it."""
    return gg.derive(cell(name)).program


@cache
def plans(name: str) -> tuple[Schedule, Schedule]:
    """The naive schedule and the full one."""
    return naive(program(name)), schedule(program(name))


# A query of one unit cancels out, and its gradient is mere rounding: the width that has to be more than one.
QUERIES = {"linear_attention": "n_z"}


def problem(name: str, setting: Setting, seed: int = 0) -> Problem:
    """Random arguments."""
    if name in QUERIES:
        widths = {w: setting.widths[i % len(setting.widths)] for i, w in enumerate(cell(name).widths)}
        widths[QUERIES[name]] = max(2, widths[QUERIES[name]])
        setting = replace(setting, widths=tuple(widths.values()))
    return draw(cell(name), program(name), setting, seed)
