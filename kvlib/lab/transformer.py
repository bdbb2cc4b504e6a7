"""A small transformer in numpy whose speed is predicted from two numbers of this machine, then measured.

Blocks as in Llama: RMS norm, attention, RMS norm, gated MLP, each added to the stream. Prefill is one pass over the
prompt, limited by FLOP/s; decode is one pass per token, limited by the bytes of the weights. Embeddings and positions
are left out: they cost next to nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Self

import numpy as np

from kvlib.flops import decode_flops, prefill_attention_flops, prefill_flops
from kvlib.lab.attention import Array, Attention, Cache, random_weights
from kvlib.lab.machine import Clock, Machine, Probe, in_turns, one_core, probes
from kvlib.lab.work import Work
from kvlib.model import Model
from kvlib.traffic import cache_read, weights_read
from kvlib.units import whole

SOFTMAX_PASSES = 9  # times that scores go through memory: written, scaled, masked, maximum, difference, exp, sum, ratio


@dataclass(frozen=True, eq=False)
class Block:
    """One layer: attention, then a gated MLP of three matrices, `up` and `gate` in and `down` out."""

    attention: Attention
    gate: Array
    up: Array
    down: Array

    def forward(self, x: Array, cache: Cache, work: Work) -> Array:
        """The stream after this layer, for the new tokens `x` of shape (tokens, width); the cache is extended."""
        x = x + self.attention.attend(rms_norm(x), cache, work)
        normed = rms_norm(x)
        gate, up = work.matmul("mlp", normed, self.gate), work.matmul("mlp", normed, self.up)
        return x + work.matmul("mlp", gate / (1 + np.exp(-gate)) * up, self.down)


@dataclass(frozen=True, eq=False)
class Transformer:
    """A stack of blocks and an output head of shape (width, vocabulary)."""

    blocks: tuple[Block, ...]
    head: Array

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        layers: int = 2,
        width: int = 1024,
        heads: int = 16,
        kv_heads: int = 4,
        mlp: int = 2816,
        vocabulary: int = 4096,
    ) -> Self:
        """Random float32 weights; the default has 27 million of them, 107 MB."""
        sizes = {"layers": layers, "width": width, "heads": heads, "mlp": mlp, "vocabulary": vocabulary}
        for name, value in sizes.items():
            whole(name, value, 1)
        if width % heads:
            raise ValueError(f"heads must divide the width {width}; got {heads}")

        def weights(inputs: int, outputs: int) -> Array:
            return random_weights(rng, (inputs, outputs), "float32")

        def block() -> Block:
            attention = Attention.random(rng, width=width, heads=heads, kv_heads=kv_heads, head_dim=width // heads)
            return Block(attention, weights(width, mlp), weights(width, mlp), weights(mlp, width))

        return cls(tuple(block() for _ in range(layers)), weights(width, vocabulary))

    @property
    def model(self) -> Model:
        """The same transformer as kvlib counts it, so that the formulas for an H100 predict this one too."""
        layers = [block.attention for block in self.blocks]
        attention = sum(a.query.size + a.key.size + a.value.size + a.output.size for a in layers)
        mlp = sum(b.gate.size + b.up.size + b.down.size for b in self.blocks)
        return Model(
            "numpy transformer",
            layers=tuple(a.layer for a in layers),
            weights=(("attention", attention), ("mlp", mlp), ("head", self.head.size)),
            hidden_size=layers[0].width,
            query_heads=layers[0].heads,
            vocab_size=self.head.shape[1],
        )

    def new_caches(self) -> list[Cache]:
        """An empty cache for each layer."""
        return [block.attention.new_cache() for block in self.blocks]

    def forward(self, x: Array, caches: list[Cache], work: Work | None = None) -> Array:
        """Logits of the last token, shape (vocabulary,), from new tokens of shape (tokens, width)."""
        work = work or Work()
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block.forward(x, cache, work)
        logits: Array = work.matmul("head", rms_norm(x[-1:]), self.head)[0]
        return logits


def rms_norm(x: Array) -> Array:
    """Each token divided by the root of its mean square."""
    normed: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    return normed


@dataclass(frozen=True)
class Prediction:
    """Seconds from a machine's two rates: the roofline, and what this program does besides (name, seconds)."""

    phase: str
    tokens: int
    roofline: float
    besides: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """Roofline and the rest together."""
        return self.roofline + sum(extra for _, extra in self.besides)


@dataclass(frozen=True)
class Comparison:
    """A prediction beside what was measured: median, fastest and slowest run, in seconds."""

    prediction: Prediction
    median: float
    fastest: float
    slowest: float

    @property
    def ratio(self) -> float:
        """Measured over the bare roofline: how optimistic the two numbers alone are."""
        return self.median / self.prediction.roofline

    @property
    def explained(self) -> float:
        """Measured over the prediction with everything counted: 1 would explain the whole gap."""
        return self.median / self.prediction.seconds

    def within(self, factor: float) -> bool:
        """Whether the bare roofline is right within this factor: the part of a measurement that repeats."""
        return 1 / factor <= self.ratio <= factor

    def __repr__(self) -> str:
        found = f"{self.median * 1e3:,.1f} ms measured, {self.prediction.roofline * 1e3:,.1f} ms predicted"
        return f"{self.prediction.phase} at {self.prediction.tokens:,} tokens: {found}, ratio {self.ratio:.2f}"


def predict_prefill(transformer: Transformer, tokens: int, machine: Machine) -> Prediction:
    """Seconds to read a prompt: FLOPs / measured FLOP/s.

    Besides: numpy computes the masked half of the scores too, which a causal kernel leaves out, and writes the scores
    to memory, where softmax goes over them several times.
    """
    model = transformer.model
    masked = prefill_attention_flops(model, tokens) * (tokens - 1) // (tokens + 1)
    scores = 4 * model.query_heads * len(model.layers) * tokens**2
    return Prediction(
        "prefill",
        tokens,
        prefill_flops(model, tokens) / machine.matmul.median,
        (
            ("the masked half of the scores", masked / machine.matmul.median),
            ("softmax in memory", SOFTMAX_PASSES * scores / machine.copy.median),
        ),
    )


def predict_decode(transformer: Transformer, context: int, machine: Machine) -> Prediction:
    """Seconds for one token after `context` - 1 others: bytes of weights and cache / measured bytes/s.

    Besides: the cache grows by copying, so its bytes are read and written once more.
    """
    model = transformer.model
    cache = cache_read(model, context, "fp32")
    read = (weights_read(model, 1, "fp32") + cache) / machine.matvec.median
    work = decode_flops(model, context) / machine.matmul.median
    return Prediction("decode", context, max(read, work), (("copying the cache", 2 * cache / machine.copy.median),))


@dataclass(frozen=True)
class Race:
    """The machine, and how a transformer's prefill and decode on it compare with what its two rates predict."""

    machine: Machine
    prefill: Comparison
    decode: Comparison


def race(
    transformer: Transformer,
    tokens: int = 128,
    *,
    runs: int = 11,
    tests: tuple[Probe, Probe, Probe] | None = None,
    clock: Clock = time.perf_counter,
) -> Race:
    """Measure one core and the transformer on it in turns: a prefill of `tokens` tokens, and one token after them.

    Args:
        transformer: it must be larger than the processor's caches, or decode is not limited by memory.
        tokens: length of the prompt, 2 or more.
        runs: how often each is timed.
        tests: the machine's probes; None: `kvlib.lab.machine.probes()`.
        clock: seconds, as `time.perf_counter` gives them.
    """
    whole("tokens", tokens, 2)
    tests = probes() if tests is None else tests
    x = np.random.default_rng(0).standard_normal((tokens, transformer.model.hidden_size), dtype=np.float32)
    filled = transformer.new_caches()
    transformer.forward(x, filled)
    ours = (
        Probe("prefill", "token", tokens, lambda: transformer.forward(x, transformer.new_caches())),
        Probe("decode", "token", 1, lambda: transformer.forward(x[:1], filled)),
    )
    with one_core():
        *found, prefill, decode = in_turns([*tests, *ours], runs, clock)
    machine = Machine(*(test.rate(seconds) for test, seconds in zip(tests, found, strict=True)))
    middle = tokens + 1 + (runs + 1) // 2  # each step finds one token more in the cache
    return Race(
        machine,
        _beside(predict_prefill(transformer, tokens, machine), prefill),
        _beside(predict_decode(transformer, middle, machine), decode),
    )


def _beside(prediction: Prediction, seconds: list[float]) -> Comparison:
    return Comparison(prediction, median(seconds), min(seconds), max(seconds))
