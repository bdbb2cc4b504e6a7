"""A model is a tuple of layers, and each kind of layer knows what it caches.

The KV cache of one sequence is the sum over the layers. A new architecture is a new kind of layer here, never an
`if` in a formula. Sizes are in elements (numbers); a dtype turns them into bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from kvlib.dtypes import DType, dtype
from kvlib.units import whole


@dataclass(frozen=True)
class Layer:
    """One decoder layer, seen from its cache. `tokens` is an int or an array, `tp` the GPUs that share the layer."""

    kind: ClassVar[str] = "layer"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        """Numbers that one GPU keeps of a sequence of `tokens` tokens to generate the next one."""
        raise NotImplementedError

    def growth_elements(self, tp: int = 1) -> int:
        """Numbers that one more token adds at long context; 0 where the layer stops growing."""
        return 0

    def cache_bytes(self, tokens: Any, kv_dtype: DType, tp: int = 1) -> Any:
        """Bytes of `cached_elements` when they are stored as `kv_dtype`."""
        return kv_dtype.nbytes(self.cached_elements(tokens, tp))

    def state_bytes(self, tp: int = 1) -> int:
        """Bytes that do not depend on the number of tokens."""
        return 0


@dataclass(frozen=True)
class Full(Layer):
    """Attention over every earlier token: MHA, GQA or MQA, depending on `kv_heads` (arXiv 2305.13245)."""

    kv_heads: int
    key_dim: int
    value_dim: int
    kind: ClassVar[str] = "full"

    def per_token(self, tp: int = 1) -> int:
        """A key and a value for each KV head. Heads are shared out over `tp` GPUs; a GPU never holds less than one."""
        return -(-self.kv_heads // tp) * (self.key_dim + self.value_dim)

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return tokens * self.per_token(tp)

    def growth_elements(self, tp: int = 1) -> int:
        return self.per_token(tp)


@dataclass(frozen=True)
class Sliding(Full):
    """Attention over the last `window` tokens only (Mistral 7B, arXiv 2310.06825)."""

    window: int
    kind: ClassVar[str] = "sliding"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return at_most(tokens, self.window) * self.per_token(tp)

    def growth_elements(self, tp: int = 1) -> int:
        return 0


@dataclass(frozen=True)
class Chunked(Full):
    """Attention inside the current chunk of `chunk` tokens (Llama 4): never more than one chunk is kept."""

    chunk: int
    kind: ClassVar[str] = "chunked"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return at_most(tokens, self.chunk) * self.per_token(tp)

    def growth_elements(self, tp: int = 1) -> int:
        return 0


@dataclass(frozen=True)
class Latent(Layer):
    """MLA: one latent vector and one rotary key per token, shared by all heads (DeepSeek-V2, arXiv 2405.04434).

    Every GPU of a tensor-parallel group needs the whole latent, so `tp` divides nothing. `indexer_dim` is the extra key
    of DeepSeek sparse attention (V3.2).
    """

    rank: int
    rope_dim: int
    indexer_dim: int = 0
    kind: ClassVar[str] = "latent"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return tokens * self.growth_elements(tp)

    def growth_elements(self, tp: int = 1) -> int:
        return self.rank + self.rope_dim + self.indexer_dim


@dataclass(frozen=True)
class Compressed(Layer):
    """DeepSeek-V4: the last `window` tokens in full, plus one vector (and indexer key) per `ratio` earlier tokens.

    Keys and values are the same vector, and all heads share it, so `tp` divides nothing. `ratio` 0 means window only.
    """

    dim: int
    window: int
    ratio: int = 0
    indexer_dim: int = 0
    kind: ClassVar[str] = "compressed"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        compressed = tokens // self.ratio if self.ratio else 0
        return at_most(tokens, self.window) * self.dim + compressed * (self.dim + self.indexer_dim)

    def growth_elements(self, tp: int = 1) -> int:
        """Elements per further token on average (a whole number in every published config)."""
        return (self.dim + self.indexer_dim) // self.ratio if self.ratio else 0


@dataclass(frozen=True)
class Recurrent(Layer):
    """Linear attention or a state-space mixer: a fixed state, however long the text (Mamba-2, arXiv 2405.21060).

    `state` and `conv` are elements; the short convolution remembers `kernel` inputs per channel. Both keep their own
    dtype, whatever the KV cache uses: vLLM and transformers hold the state in fp32 and the convolution in bf16.
    """

    state: int
    conv: int = 0
    kernel: int = 0
    state_dtype: str = "fp32"
    conv_dtype: str = "bf16"
    kind: ClassVar[str] = "recurrent"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return -(-self.state // tp) - (-self.conv // tp) + 0 * tokens

    def cache_bytes(self, tokens: Any, kv_dtype: DType, tp: int = 1) -> Any:
        return self.state_bytes(tp) + 0 * tokens

    def state_bytes(self, tp: int = 1) -> int:
        state, conv = dtype(self.state_dtype), dtype(self.conv_dtype)
        return int(state.nbytes(-(-self.state // tp)) + conv.nbytes(-(-self.conv // tp)))


@dataclass(frozen=True)
class Shared(Layer):
    """Attention that reads an earlier layer's cache and keeps nothing of its own (Gemma 3n, Gemma 4 E models)."""

    kind: ClassVar[str] = "shared"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return 0 * tokens


@dataclass(frozen=True)
class NoCache(Layer):
    """A layer without text attention: the MLP blocks of a hybrid, or cross-attention to an image."""

    kind: ClassVar[str] = "no cache"

    def cached_elements(self, tokens: Any, tp: int = 1) -> Any:
        return 0 * tokens


@dataclass(frozen=True)
class Model:
    """A language model: its layers, and its weights by part.

    `weights` holds (part, number of weights) pairs; a part called "experts" holds the routed experts of an MoE, of
    which `experts_per_token` in `experts` are used for each token.
    """

    name: str
    layers: tuple[Layer, ...]
    weights: tuple[tuple[str, int], ...] = ()
    hidden_size: int = 0
    query_heads: int = 0
    vocab_size: int = 0
    experts: int = 0
    experts_per_token: int = 0
    max_context: int | None = None
    title: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    as_of: str = field(default="", compare=False)

    def cache_bytes(self, tokens: Any, dtype: str | DType = "bf16", tp: int = 1) -> Any:
        """Bytes that one sequence of `tokens` tokens keeps on each GPU to generate the next token.

        Args:
            tokens: length so far, a whole number or a numpy array of them.
            dtype: format of keys and values; recurrent state keeps its own.
            tp: tensor parallelism, GPUs that share each layer. The fullest GPU is counted.

        Returns:
            An exact int, or an array of the shape of `tokens`.

        Raises:
            ValueError: if tokens is negative or not whole, dtype is unknown, or tp is not a positive whole number.
        """
        tokens, tp, kv_dtype = whole("tokens", tokens), whole("tp", tp, 1), _dtype(dtype)
        total = sum(count * layer.cache_bytes(tokens, kv_dtype, tp) for layer, count in self.layer_counts.items())
        return _narrow(total + 0 * tokens)

    def growth(self, dtype: str | DType = "bf16", tp: int = 1) -> int:
        """Bytes that each further token adds at long context, on each GPU: the slope of `cache_bytes`."""
        tp, kv_dtype = whole("tp", tp, 1), _dtype(dtype)
        return sum(count * kv_dtype.nbytes(layer.growth_elements(tp)) for layer, count in self.layer_counts.items())

    @property
    def state_bytes(self) -> int:
        """Bytes of `cache_bytes` that do not depend on the length: recurrent and convolution state."""
        return sum(count * layer.state_bytes() for layer, count in self.layer_counts.items())

    @property
    def parameters(self) -> int:
        """Every weight of the language model, embeddings included; of a multimodal model, its text part."""
        return sum(count for _, count in self.weights)

    @property
    def active_parameters(self) -> int:
        """Weights that one token uses: all but the routed experts that are not chosen."""
        routed = sum(count for part, count in self.weights if part == "experts")
        used = routed * self.experts_per_token // self.experts if self.experts else 0
        return self.parameters - routed + used

    def weight_bytes(self, dtype: str | DType = "bf16", tp: int = 1) -> int:
        """Bytes of all weights on each of `tp` GPUs when every weight is stored as `dtype` and split evenly."""
        total: int = _dtype(dtype).nbytes(self.parameters)
        return -(-total // int(whole("tp", tp, 1)))

    @property
    def layer_counts(self) -> Counter[Layer]:
        """How many layers of each kind and shape there are: `{Full(8, 128, 128): 32}`."""
        return Counter(self.layers)

    def __repr__(self) -> str:
        kinds = Counter(layer.kind for layer in self.layers)
        layers = " + ".join(f"{count} {kind}" for kind, count in kinds.items())
        slope = f"{self.growth():,} B of bf16 cache per token"
        return f"{self.name}: {self.parameters:,} parameters, {layers} layers, {slope}"


def at_most(tokens: Any, limit: int) -> Any:
    """The smaller of the two, for an int or for each item of an array."""
    return tokens.clip(None, limit) if hasattr(tokens, "clip") else min(tokens, limit)


def _narrow(total: Any) -> Any:
    """An array of Python ints as int64 where all of them fit; an int as it is."""
    if hasattr(total, "dtype") and total.size and max(total.flat) < 2**63:
        return total.astype("int64")
    return total


def _dtype(name: str | DType) -> DType:
    """`dtype(name)` where an argument called dtype hides the function."""
    return dtype(name)
