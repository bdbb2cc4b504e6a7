"""The needle model against torch: the same network from torch's own parts, over full masks; logits, loss and gradients.

Nothing here knows of blocks, caches or chunks. Each layer sees all tokens at once through a bias of tokens x tokens:
minus infinity where it must not look, a learned number or ALiBi's slope where it may.
"""

from __future__ import annotations

import numpy as np
import pytest
from train_needle import loss_and_gradients

from kvlib.lab.tinylm import SCHEMES, SHAPES, TinyLM, load

torch = pytest.importorskip("torch", reason="torch is not installed here; `make test-reference` has it")
F = pytest.importorskip("torch.nn.functional")

pytestmark = pytest.mark.reference


def random_weights(seed, dtype):
    """Of the scale that training starts from, with keys near the queries, so that the global layer picks out tokens."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in SHAPES.items():
        if "gain" in name:
            weights[name] = rng.uniform(0.8, 1.2, shape)
        elif name in ("embedding", "local_bias"):
            weights[name] = rng.standard_normal(shape)
        else:
            weights[name] = rng.standard_normal(shape) / shape[1] ** 0.5
    weights["k1"] = weights["q1"] + 0.1 * weights["k1"]
    return {name: weight.astype(dtype) for name, weight in weights.items()}


def biases(weights, scheme, tokens):
    """What is added to the scores of each block: (heads, tokens, tokens)."""
    behind = torch.arange(tokens)[:, None] - torch.arange(tokens)[None]
    never = torch.tensor(-torch.inf, dtype=weights["local_bias"].dtype)
    near = torch.where((behind >= 0) & (behind <= 15), weights["local_bias"][:, behind.clamp(0, 15)], never)
    slopes = torch.tensor([1 / 4, 1 / 16, 1 / 64, 1 / 256], dtype=near.dtype) * (scheme == "alibi")
    far = torch.where(behind >= 0, -slopes[:, None, None] * behind, never)
    return near, far


def turned(x):
    """RoPE over complex numbers: number i and number i + 8 are one of them, turned by position / 10,000^(i / 8)."""
    tokens, half = x.shape[-2], x.shape[-1] // 2
    angle = torch.outer(torch.arange(tokens).double(), 10_000.0 ** (-torch.arange(half).double() / half))
    point = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([point.real, point.imag], dim=-1).to(x.dtype)


def in_torch(weights, scheme, ids):
    """Logits (batch, tokens, vocabulary) of ids (batch, tokens)."""
    x = F.embedding(ids, weights["embedding"])
    for block, bias in enumerate(biases(weights, scheme, ids.shape[1])):
        own = {name.removesuffix(str(block)): weight for name, weight in weights.items() if name.endswith(str(block))}
        normed = F.rms_norm(x, (64,), own["attention_gain"], eps=1e-6)
        q, k, v = (F.linear(normed, own[name]).unflatten(-1, (4, 16)).transpose(1, 2) for name in "qkv")
        if block == 1 and scheme == "rope":
            q, k = turned(q), turned(k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # scale: 1 / sqrt(16)
        x = x + F.linear(mixed.transpose(1, 2).flatten(-2), own["o"])
        hidden = F.relu(F.linear(F.rms_norm(x, (64,), own["mlp_gain"], eps=1e-6), own["up"]))
        x = x + F.linear(hidden, own["down"])
    return F.linear(F.rms_norm(x, (64,), weights["final_gain"], eps=1e-6), weights["head"])


def tensors(weights):
    return {name: torch.tensor(weight, requires_grad=True) for name, weight in weights.items()}


def words(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 433, shape)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_logits_equal_torch_at_700_tokens(scheme, dtype, tolerance):
    weights, ids = random_weights(0, dtype), words(2, 700)
    expected = in_torch(tensors(weights), scheme, torch.tensor(ids)).detach().numpy()
    model, scale = TinyLM(weights, scheme), abs(expected).max()
    assert abs(model.logits(ids) - expected).max() < tolerance * scale
    reading = model.read(model.prefill(ids[:, :600], chunk=128), ids[:, 600:])
    assert abs(reading.logits - expected[:, -1]).max() < tolerance * scale


@pytest.mark.parametrize("scheme", SCHEMES)
def test_trained_weights_equal_torch_as_well(scheme):
    """Trained scores are larger than random ones, and so are rounding errors."""
    model, ids = load(scheme), words(1, 700)
    expected = in_torch(tensors(model.weights), scheme, torch.tensor(ids)).detach().numpy()
    assert abs(model.logits(ids) - expected).max() < 1e-4 * abs(expected).max()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float64", 1e-9)])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_loss_and_gradients_of_the_trainer_equal_torch(scheme, dtype, tolerance):
    weights, ids, targets = random_weights(2, dtype), words(3, 64), words(3, 64, seed=2)
    rng = np.random.default_rng(3)
    row_weights = (rng.random((3, 64)) * (rng.random((3, 64)) < 0.3)).astype(dtype)  # most positions count for nothing
    row_weights /= row_weights.sum()

    leaves = tensors(weights)
    each = F.cross_entropy(
        in_torch(leaves, scheme, torch.tensor(ids)).transpose(1, 2), torch.tensor(targets), reduction="none"
    )
    expected = (each * torch.tensor(row_weights)).sum()
    expected.backward()

    loss, grads = loss_and_gradients(weights, scheme, ids, targets, row_weights)
    assert loss == pytest.approx(expected.item(), rel=tolerance)
    assert set(grads) == set(SHAPES)
    for name, leaf in leaves.items():
        gradient = leaf.grad.numpy()
        assert abs(grads[name] - gradient).max() < tolerance * abs(gradient).max(), name
