"""The needle network with its gradient, in numpy: forward for a whole batch of sequences, and backward by hand.

Each step returns its result and a function from the gradient of the result to the gradients of what went in. The tests
compare them with finite differences in float64, and with torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvlib.lab.tinylm import SLOPES
from kvlib.lab.tinyweights import HEAD_DIM as HEAD
from kvlib.lab.tinyweights import HEADS, MLP, VOCABULARY, WIDTH, WINDOW

Array = NDArray[Any]
Back = Callable[[Array], tuple[Array, ...]]

EPS = 1e-6


def first_weights(seed: int) -> dict[str, Array]:
    """Weights that already look for what resembles the question and copy what stands there (a mimetic start).

    The global layer's keys start as its queries, and its output as the transpose of its values: what is attended to is
    added as itself. The head starts as the embedding, so a copied word is a likely answer. In the local layer every
    distance belongs to one head (a comb), so the three key words are collected from the first step on.
    """
    rng = np.random.default_rng(seed)
    w: dict[str, Array] = {"embedding": rng.normal(size=(VOCABULARY, WIDTH))}
    w["head"] = 0.3 * w["embedding"] / math.sqrt(WIDTH)
    w["local_bias"] = rng.normal(size=(HEADS, WINDOW)) * 0.2
    w["local_bias"] += 3.0 * (np.arange(WINDOW) % HEADS == np.arange(HEADS)[:, None])
    w["final_gain"] = np.ones(WIDTH)
    for i in range(2):
        for name in "qkvo":
            w[f"{name}{i}"] = rng.normal(size=(WIDTH, WIDTH)) / 8
        w[f"up{i}"] = rng.normal(size=(MLP, WIDTH)) / 8
        w[f"down{i}"] = rng.normal(size=(WIDTH, MLP)) * 0.025
        w[f"attention_gain{i}"] = w[f"mlp_gain{i}"] = np.ones(WIDTH)
    w["k1"], w["o1"] = w["q1"], w["v1"].T
    return {name: value.astype(np.float32) for name, value in w.items()}


def rms(z: Array, gain: Array) -> tuple[Array, Back]:
    """z / sqrt(mean z²) * gain, per position."""
    scale = 1 / np.sqrt(np.mean(z * z, axis=-1, keepdims=True) + EPS)

    def back(d: Array) -> tuple[Array, ...]:
        scaled = gain * d
        dz = scaled * scale - z * scale**3 * np.mean(scaled * z, axis=-1, keepdims=True)
        return dz, np.sum(d * z * scale, axis=(0, 1))

    return z * scale * gain, back


def linear(x: Array, weight: Array) -> tuple[Array, Back]:
    """x Wᵀ, with the weight stored as (outputs, inputs)."""

    def back(d: Array) -> tuple[Array, ...]:
        return d @ weight, d.reshape(-1, d.shape[-1]).T @ x.reshape(-1, x.shape[-1])

    return x @ weight.T, back


def attend(scores: Array, q: Array, k: Array, v: Array) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """softmax(scores) V for scores that already hold q·k/4, a bias and a mask; back gives those of scores, q, k, v."""
    scores -= scores.max(axis=-1, keepdims=True)
    p = np.exp(scores, out=scores)
    p /= p.sum(axis=-1, keepdims=True)
    out = p @ v

    def back(d: Array) -> tuple[Array, ...]:
        dp = d @ v.swapaxes(-1, -2)
        dp -= np.sum(d * out, axis=-1, keepdims=True)
        dp *= p
        quarter = 1 / math.sqrt(HEAD)
        return dp, dp @ k * quarter, dp.swapaxes(-1, -2) @ q * quarter, p.swapaxes(-1, -2) @ d

    return out, back


DISTANCE = (
    np.arange(WINDOW)[:, None] + WINDOW - np.arange(2 * WINDOW)
)  # query in a block, key in the block or the one before
NEAR = (DISTANCE >= 0) & (DISTANCE < WINDOW)


def local(q: Array, k: Array, v: Array, bias: Array) -> tuple[Array, Back]:
    """Attention to the last 16 tokens, with a bias per head and distance, in blocks of 16 queries."""
    shape = q.shape
    blocks = q.reshape(*shape[:2], -1, WINDOW, HEAD)
    keys, values = _with_previous(k), _with_previous(v)
    seen = np.where(NEAR, bias[:, DISTANCE.clip(0, WINDOW - 1)], -np.inf).astype(q.dtype)
    scores = blocks @ keys.swapaxes(-1, -2) / q.dtype.type(math.sqrt(HEAD)) + seen[:, None]
    scores[:, :, 0, :, :WINDOW] = -np.inf  # nothing comes before the first block
    out, attend_back = attend(scores, blocks, keys, values)

    def back(d: Array) -> tuple[Array, ...]:
        ds, dq, dk, dv = attend_back(d.reshape(blocks.shape))
        total = ds.sum(axis=(0, 2))
        dbias = np.stack([total[:, distance == DISTANCE].sum(axis=-1) for distance in range(WINDOW)], axis=-1)
        return dq.reshape(shape), _undo_previous(dk, shape), _undo_previous(dv, shape), dbias

    return out.reshape(shape), back


def _with_previous(x: Array) -> Array:
    blocks = x.reshape(*x.shape[:2], -1, WINDOW, HEAD)
    before = np.concatenate([np.zeros_like(blocks[:, :, :1]), blocks[:, :, :-1]], axis=2)
    return np.concatenate([before, blocks], axis=3)


def _undo_previous(d: Array, shape: tuple[int, ...]) -> Array:
    own = d[:, :, :, WINDOW:].copy()
    own[:, :, :-1] += d[:, :, 1:, :WINDOW]
    return own.reshape(shape)


def far(q: Array, k: Array, v: Array, scheme: str) -> tuple[Array, Back]:
    """Causal attention to all tokens. Position is nothing (nope), a price per distance (alibi), or a turn (rope)."""
    length = q.shape[2]
    distance = np.arange(length)[:, None] - np.arange(length)
    seen = np.where(distance >= 0, 0.0, -np.inf)[None]
    if scheme == "alibi":
        seen = seen - SLOPES[:, None, None] * distance.clip(0)
    if scheme == "rope":
        q, k = turn(q), turn(k)
    scores = q @ k.swapaxes(-1, -2) / q.dtype.type(math.sqrt(HEAD))
    scores += seen.astype(q.dtype)
    out, attend_back = attend(scores, q, k, v)

    def back(d: Array) -> tuple[Array, ...]:
        _, dq, dk, dv = attend_back(d)
        return (turn(dq, -1), turn(dk, -1), dv) if scheme == "rope" else (dq, dk, dv)

    return out, back


def turn(x: Array, direction: int = 1) -> Array:
    """RoPE with base 10,000: the first half of a head and the second are the two axes that turn with the position."""
    half = HEAD // 2
    angle = np.arange(x.shape[2])[:, None] * 10_000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angle).astype(x.dtype), direction * np.sin(angle).astype(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def split(x: Array) -> Array:
    """(batch, tokens, 64) -> (batch, heads, tokens, 16)."""
    return x.reshape(*x.shape[:2], HEADS, HEAD).swapaxes(1, 2)


def join(x: Array) -> Array:
    """(batch, heads, tokens, 16) -> (batch, tokens, 64)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], WIDTH)


def block(
    w: dict[str, Array], i: int, z: Array, scheme: str
) -> tuple[Array, Callable[[Array, dict[str, Array]], Array]]:
    """One layer: z + attention(rms z), then z + mlp(rms z). Its back adds to `grads` and returns the gradient of z."""
    a, a_back = rms(z, w[f"attention_gain{i}"])
    (q, q_back), (k, k_back), (v, v_back) = (linear(a, w[f"{name}{i}"]) for name in "qkv")
    parts = (split(q), split(k), split(v))
    mixed, mix_back = local(*parts, w["local_bias"]) if i == 0 else far(*parts, scheme)
    added, o_back = linear(join(mixed), w[f"o{i}"])
    middle = z + added
    m, m_back = rms(middle, w[f"mlp_gain{i}"])
    up, up_back = linear(m, w[f"up{i}"])
    active = np.maximum(up, 0)
    down, down_back = linear(active, w[f"down{i}"])

    def back(d: Array, grads: dict[str, Array]) -> Array:
        dactive, grads[f"down{i}"] = down_back(d)
        dm, grads[f"up{i}"] = up_back(dactive * (up > 0))
        dmiddle, grads[f"mlp_gain{i}"] = m_back(dm)
        d = d + dmiddle
        dmixed, grads[f"o{i}"] = o_back(d)
        dq, dk, dv, *dbias = mix_back(split(dmixed))
        if dbias:
            grads["local_bias"] = dbias[0]
        da = np.zeros_like(z)
        for name, part, part_back in (("q", dq, q_back), ("k", dk, k_back), ("v", dv, v_back)):
            more, grads[f"{name}{i}"] = part_back(join(part))
            da += more
        dz, grads[f"attention_gain{i}"] = a_back(da)
        return d + dz

    return middle + down, back


def loss_and_gradients(
    w: dict[str, Array], scheme: str, ids: Array, targets: Array, row_weights: Array
) -> tuple[float, dict[str, Array]]:
    """Sum of weight * cross-entropy over all positions, and its gradient by every weight.

    Args:
        w: the weights, by name.
        scheme: nope, alibi or rope.
        ids: (batch, tokens), a multiple of 16 tokens.
        targets: the next token of each position, same shape.
        row_weights: weight of each position, same shape; positions of weight 0 never meet the head.
    """
    loss, grads, _ = backpropagate(w, scheme, ids, targets, row_weights)
    return loss, grads


def backpropagate(
    w: dict[str, Array], scheme: str, ids: Array, targets: Array, row_weights: Array
) -> tuple[float, dict[str, Array], Array]:
    """As `loss_and_gradients`, and which positions the network got right: those of weight above 0."""
    z, back0 = block(w, 0, w["embedding"][ids], scheme)
    z, back1 = block(w, 1, z, scheme)
    y, y_back = rms(z, w["final_gain"])
    counted = row_weights > 0
    rows, target, weight = y[counted], targets[counted], row_weights[counted]
    logits = rows @ w["head"].T
    best = logits.argmax(axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    p = np.exp(logits)
    total = p.sum(axis=-1, keepdims=True)
    each = np.arange(len(target))
    loss = float(np.sum(weight * (np.log(total[:, 0]) - logits[each, target])))
    p /= total
    p[each, target] -= 1
    p *= weight[:, None]

    grads = {"head": p.T @ rows}
    dy = np.zeros_like(y)
    dy[counted] = p @ w["head"]
    dz, grads["final_gain"] = y_back(dy)
    dz = back0(back1(dz, grads), grads)
    grads["embedding"] = np.zeros_like(w["embedding"])
    np.add.at(grads["embedding"], ids, dz)
    right = np.zeros(ids.shape, dtype=bool)
    right[counted] = best == target
    return loss, grads, right
