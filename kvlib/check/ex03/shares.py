"""Exercises 2, 3 and 5: what one GPU keeps under tensor and pipeline parallelism, of KV heads and of a latent."""

from __future__ import annotations

from kvlib.check.base import Case, Question, Slip
from kvlib.check.ex03 import counted

# ---------------------------------------------------------------- exercise 2: one token on one GPU


def _heads(label: str, layers: int, kv_heads: int, head_dim: int, tp: int) -> Case:
    """One model and its GPUs, for exercise 2."""
    return Case(label, {"layers": layers, "kv_heads": kv_heads, "head_dim": head_dim, "tp": tp})


TOKEN_ON_GPU = Question(
    "token_on_gpu",
    "bytes",
    cases=(
        _heads("Llama 3.1 70B on 8 GPUs", 80, 8, 128, 8),
        _heads("Llama 3.1 70B on 2 GPUs", 80, 8, 128, 2),
        _heads("Qwen3 235B-A22B on 4 GPUs", 94, 4, 128, 4),
        _heads("Qwen3 235B-A22B on 8 GPUs", 94, 4, 128, 8),
        _heads("Nemotron-style, 2 KV heads on 16 GPUs", 6, 2, 128, 16),
        _heads("Falcon 7B on 1 GPU", 32, 1, 64, 1),
    ),
    truth=counted.token_on_gpu,
    slips=(
        Slip(
            "zero heads",
            lambda layers, kv, dim, tp: 4 * layers * (kv // tp) * dim,
            "{kv_heads} heads on {tp} GPUs rounded down to none; a GPU without a key cannot attend, so it gets a copy",
        ),
        Slip(
            "a part of a head",
            lambda layers, kv, dim, tp: 4 * layers * kv * dim / tp,
            "you cut {kv_heads} heads into {tp} pieces; a head is not cut, it is copied",
        ),
        Slip(
            "TP ignored",
            lambda layers, kv, dim, tp: 4 * layers * kv * dim,
            "that is all {kv_heads} heads; TP deals them out over {tp} GPUs",
        ),
        Slip(
            "one head always",
            lambda layers, kv, dim, tp: 4 * layers * dim,
            "you gave each GPU one head; {kv_heads} heads on {tp} GPUs can make more",
        ),
        Slip(
            "all GPUs together",
            lambda layers, kv, dim, tp: 4 * layers * max(kv, tp) * dim,
            "that is the sum over the {tp} GPUs, copies included; wanted is one GPU",
        ),
        Slip(
            "K without V",
            lambda layers, kv, dim, tp: 2 * layers * -(-kv // tp) * dim,
            "you counted keys or values, and the cache holds both",
        ),
        Slip(
            "layers divided",
            lambda layers, kv, dim, tp: 4 * layers * -(-kv // tp) * dim / tp,
            "you divided by TP twice; every GPU works on all {layers} layers",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 3: a latent on every GPU


def _latent(label: str, free: int, layers: int, tp: int, dcp: int) -> Case:
    """A model with latents of 512 + 64 numbers on `tp` GPUs, for exercise 3."""
    shape = {"layers": layers, "rank": 512, "rope_dim": 64, "tp": tp, "dcp": dcp}
    return Case(label, {"free_bytes": free, **shape})


def _token(layers: int, rank: int, rope: int) -> int:
    """Bytes of one token in bf16."""
    return 2 * layers * (rank + rope)


LATENT_TOKENS = Question(
    "latent_tokens",
    "tokens",
    cases=(
        _latent("DeepSeek-V3 on 8 GPUs", 40_000_000_000, 61, 8, 1),
        _latent("DeepSeek-V3 on 8 GPUs, DCP 8", 40_000_000_000, 61, 8, 8),
        _latent("DeepSeek-V3 on 16 GPUs, DCP 4", 25_000_000_000, 61, 16, 4),
        _latent("DeepSeek-V2-Lite on 2 GPUs", 30_000_000_000, 27, 2, 1),
    ),
    truth=counted.latent_tokens,
    slips=(
        Slip(
            "latent divided by TP",
            lambda free, n, rank, rope, tp, dcp: tp * free // _token(n, rank, rope),
            "you let the {tp} GPUs keep different tokens; under TP each keeps a copy of every latent",
        ),
        Slip(
            "latent divided by TP",
            lambda free, n, rank, rope, tp, dcp: tp * (free // _token(n, rank, rope)),
            "you let the {tp} GPUs keep different tokens; under TP each keeps a copy of every latent",
        ),
        Slip(
            "DCP ignored",
            lambda free, n, rank, rope, tp, dcp: free // _token(n, rank, rope),
            "that is one GPU; with DCP {dcp} the tokens are dealt out over {dcp} of them",
        ),
        Slip(
            "TP times DCP",
            lambda free, n, rank, rope, tp, dcp: tp * dcp * (free // _token(n, rank, rope)),
            "DCP {dcp} uses the same {tp} GPUs, it does not bring new ones",
        ),
        Slip(
            "MLA doubled for K and V",
            lambda free, n, rank, rope, tp, dcp: dcp * (free // (2 * _token(n, rank, rope))),
            "you counted a key and a value; a latent is both",
        ),
        Slip(
            "MLA without its rope part",
            lambda free, n, rank, rope, tp, dcp: dcp * (free // _token(n, rank, 0)),
            "you left out the rotary key of {rope_dim} numbers",
        ),
        Slip(
            "numbers for bytes",
            lambda free, n, rank, rope, tp, dcp: dcp * (free // (_token(n, rank, rope) // 2)),
            "you counted numbers; in bf16 each takes 2 bytes",
        ),
        Slip(
            "a token in pieces",
            lambda free, n, rank, rope, tp, dcp: dcp * free // _token(n, rank, rope),
            "you put the rests of {dcp} GPUs together; a token lies on one rank as a whole",
        ),
        Slip(
            "a part of a token",
            lambda free, n, rank, rope, tp, dcp: dcp * free / _token(n, rank, rope),
            "a part of a token cannot be used: whole tokens only",
        ),
    ),
)

# ---------------------------------------------------------------- exercise 5: the fullest stage


def _stage(label: str, layers: int, pp: int, tp: int, kv_heads: int, tokens: int) -> Case:
    """A pipeline, for exercise 5; all heads have 128 numbers."""
    shape = {"layers": layers, "pp": pp, "tp": tp, "kv_heads": kv_heads, "head_dim": 128}
    return Case(label, {**shape, "tokens": tokens})


def _held(layers: float, heads: float, dim: int, tokens: int) -> float:
    """Bytes of keys and values in bf16."""
    return 4 * layers * heads * dim * tokens


def _whole_heads(kv: int, tp: int) -> int:
    """KV heads on each GPU."""
    return max(1, kv // tp)


STAGE_BYTES = Question(
    "stage_bytes",
    "bytes",
    cases=(
        _stage("Qwen3 30B-A3B, 2 stages of 1 GPU", 48, 2, 1, 4, 262_144),
        _stage("Llama 3.1 405B, 4 stages of 8 GPUs", 126, 4, 8, 8, 131_072),
        _stage("Qwen3 235B-A22B, 4 stages of 8 GPUs", 94, 4, 8, 4, 40_960),
        _stage("Llama 3.1 8B, 1 stage of 2 GPUs", 32, 1, 2, 8, 8_192),
        _stage("made up, 10 layers in 4 stages of 2 GPUs", 10, 4, 2, 4, 1_000),
    ),
    truth=counted.stage_bytes,
    slips=(
        Slip(
            "all layers on every stage",
            lambda n, pp, tp, kv, dim, t: _held(n, _whole_heads(kv, tp), dim, t),
            "you kept the cache of all {layers} layers; a stage has its own layers only",
        ),
        Slip(
            "a fraction of a layer",
            lambda n, pp, tp, kv, dim, t: _held(n / pp, _whole_heads(kv, tp), dim, t),
            "{layers} layers do not make {pp} equal stages; the fullest stage decides",
        ),
        Slip(
            "layers rounded down",
            lambda n, pp, tp, kv, dim, t: _held(n // pp, _whole_heads(kv, tp), dim, t),
            "{layers} layers in {pp} stages, rounded down: that is the emptiest stage",
        ),
        Slip(
            "TP ignored",
            lambda n, pp, tp, kv, dim, t: _held(-(-n // pp), kv, dim, t),
            "that is the whole stage; its KV heads are dealt out over {tp} GPUs",
        ),
        Slip(
            "a part of a head",
            lambda n, pp, tp, kv, dim, t: _held(-(-n // pp), kv / tp, dim, t),
            "you cut {kv_heads} heads into {tp} pieces; a head is not cut, it is copied",
        ),
        Slip(
            "zero heads",
            lambda n, pp, tp, kv, dim, t: _held(-(-n // pp), kv // tp, dim, t),
            "{kv_heads} heads on {tp} GPUs rounded down to none; each GPU gets a copy of one",
        ),
        Slip(
            "K without V",
            lambda n, pp, tp, kv, dim, t: _held(-(-n // pp), _whole_heads(kv, tp), dim, t) / 2,
            "you counted keys or values, and the cache holds both",
        ),
        Slip(
            "PP divides heads too",
            lambda n, pp, tp, kv, dim, t: _held(-(-n // pp), _whole_heads(kv, tp * pp), dim, t),
            "you dealt the heads out over all {pp} x {tp} GPUs; stages share layers, not heads",
        ),
    ),
)
