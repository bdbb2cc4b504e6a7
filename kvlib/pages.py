"""Bytes of one token and of one state, as a serving engine stores them on one rank.

`model.cache_bytes` counts the numbers a model needs. An engine adds what its kernels need around them: scales, padding,
heads that every rank repeats. These functions hold those rules, one per kind of layer.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from kvlib.dtypes import DType, dtype
from kvlib.model import Full, Latent, Layer, Recurrent

# Stored with one fp32 scale per token and head, for keys and again for values: payload format and bytes of the scale.
_PER_HEAD = {"int8_pth": "int8", "fp8_pth": "fp8", "int4_pth": "int4"}
_SCALE = 4
_SPARSE_MLA = "fp8_ds_mla"
_ALIASES = {
    "int8_per_token_head": "int8_pth",
    "fp8_per_token_head": "fp8_pth",
    "int4_per_token_head": "int4_pth",
}
KV_DTYPES = ("bf16", "fp16", "fp32", "fp8", "int8", *_PER_HEAD, "nvfp4", _SPARSE_MLA, "q8_0", "q4_0")


def kv_format(name: str | DType) -> str:
    """The name under which `entry_bytes` knows a KV format (`fp8_e5m2` is "fp8"); a ValueError lists what there is."""
    if isinstance(name, DType):
        return name.name
    known = _ALIASES.get(name, name) if isinstance(name, str) else name
    if known in (*_PER_HEAD, _SPARSE_MLA):
        return str(known)
    try:
        return dtype(known).name
    except ValueError:
        raise ValueError(f"kv_dtype must be one of {', '.join(KV_DTYPES)}; got {name!r}") from None


def entry_bytes(layer: Layer, kv_dtype: str | DType, tp: int = 1) -> int:
    """Bytes that one token takes in one attention layer on one of `tp` ranks.

    Heads are divided over the ranks, and repeated when there are more ranks than heads. An MLA latent is whole on every
    rank: no factor 2 for keys and values, no number of heads. Formats with a name of their own:

    * `int8_pth`, `fp8_pth`, `int4_pth`: one fp32 scale per token and head for K and one for V, 8 bytes a head.
    * `nvfp4`, `q8_0`, ...: blocks with a scale inside, whole blocks per head vector.
    * `fp8_ds_mla`: the latent in fp8, an fp32 scale per 128 of it, the rotary key in bf16: 512 + 16 + 128 = 656 bytes.
    * an indexer key is stored beside the latent: in bf16, or in fp8 with an fp32 scale per 128: 132 bytes.

    Args:
        layer: Full, Sliding, Chunked or Latent.
        kv_dtype: one of KV_DTYPES.
        tp: tensor parallelism.

    Raises:
        ValueError: if the format does not exist for this kind of layer, or tp does not fit the number of heads.

    Source: vllm/v1/kv_cache_interface.py; the vLLM blog on DeepSeek-V3.2 (656 and 128 + 4 bytes).
    """
    name = kv_format(kv_dtype)
    if isinstance(layer, Latent):
        return _latent_bytes(layer, name)
    if isinstance(layer, Full):
        return _heads_on_rank(layer.kv_heads, tp) * _head_bytes(layer, name)
    raise ValueError(f"layer must be an attention layer (full, sliding, chunked or latent); got {layer.kind}")


def _heads_on_rank(kv_heads: int, tp: int) -> int:
    """KV heads of one rank: a whole share, or one head that several ranks repeat."""
    if kv_heads % tp and tp % kv_heads:
        raise ValueError(f"tp must divide the {kv_heads} KV heads or be a multiple of them; got {tp}")
    return max(1, kv_heads // tp)


def _head_bytes(layer: Full, name: str) -> int:
    """Bytes of one key and one value vector."""
    if name == _SPARSE_MLA:
        raise ValueError(f"kv_dtype {_SPARSE_MLA} is for MLA layers; got a layer with {layer.kv_heads} KV heads")
    stored = dtype(_PER_HEAD.get(name, name))
    scales = 2 * _SCALE if name in _PER_HEAD else 0
    return int(stored.nbytes(layer.key_dim) + stored.nbytes(layer.value_dim)) + scales


def _latent_bytes(layer: Latent, name: str) -> int:
    """Bytes of one latent, its rotary key and its indexer key."""
    if name in _PER_HEAD:
        raise ValueError(f"kv_dtype {name} scales each head, and an MLA latent has none; use fp8 or {_SPARSE_MLA}")
    if name == _SPARSE_MLA:
        latent = layer.rank + _SCALE * -(-layer.rank // 128) + 2 * layer.rope_dim
    else:
        latent = int(dtype(name).nbytes(layer.rank + layer.rope_dim))
    if not layer.indexer_dim:
        return latent
    wide = name != _SPARSE_MLA and dtype(name).bits >= Fraction(16)
    scale = _SCALE * -(-layer.indexer_dim // 128)
    return latent + (2 * layer.indexer_dim if wide else layer.indexer_dim + scale)


def state_bytes(layer: Recurrent, tp: int = 1, spec_tokens: int = 0, state_dtype: str = "fp32") -> int:
    """Bytes of one recurrent state with its convolution window, on one of `tp` ranks.

    The window holds the last `kernel - 1` inputs of each channel, and `spec_tokens` more so that rejected guesses can
    be taken back. Heads, and with them state and channels, are divided over the ranks.

    Args:
        layer: the layer; `layer.conv` counts channels x kernel.
        tp: tensor parallelism.
        spec_tokens: tokens guessed ahead.
        state_dtype: format of the state; the window keeps `layer.conv_dtype`.

    Raises:
        ValueError: if tp does not divide the state or the channels, or conv is not channels x kernel.

    Source: vllm/model_executor/layers/mamba/mamba_utils.py.
    """
    channels, rest = divmod(layer.conv, layer.kernel) if layer.kernel else (0, layer.conv)
    if rest:
        raise ValueError(f"conv must be channels x kernel; got conv {layer.conv} and kernel {layer.kernel}")
    channels += _repeated_channels(layer, tp)
    if layer.state % tp or channels % tp:
        raise ValueError(f"tp must divide the state ({layer.state:,}) and its {channels:,} channels; got {tp}")
    window = channels // tp * (layer.kernel - 1 + (spec_tokens if _optional(layer, "conv_grows", True) else 0))
    return int(dtype(state_dtype).nbytes(layer.state // tp) + dtype(layer.conv_dtype).nbytes(max(0, window)))


def _repeated_channels(layer: Recurrent, tp: int) -> int:
    """Channels added so that each rank owns whole B and C groups (Mamba-2): `groups` becomes a multiple of tp."""
    groups = _optional(layer, "groups", 0)
    if not groups or groups % tp == 0:
        return 0
    return int((tp - groups) * _optional(layer, "group_channels", 0) // groups)


def _optional(layer: Layer, name: str, default: Any) -> Any:
    """A field that not every description of a layer has."""
    return getattr(layer, name, default)
