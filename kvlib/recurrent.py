"""Mixers that keep a fixed state instead of keys and values: state-space models, linear attention, short convolutions.

Each function takes the fields (and the layer's number and kind) and returns (Layer, weights), as in `mixers.py`. Shapes
are those of the family's code in transformers 5.23.0 (`modeling_*.py`).
"""

from __future__ import annotations

from kvlib.fields import Fields, head_dim
from kvlib.model import Layer, Recurrent

DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def linear(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """A recurrent mixer: which one is a trait of the family."""
    mixers = {"mamba": mamba, "mamba2": mamba2, "gdn": gated_delta_net, "kda": kimi_delta}
    mixers |= {"lightning": lightning, "rg_lru": gated_lru}
    return mixers[f.family["linear"]](f)


def gated_delta_net(f: Fields) -> tuple[Layer, int]:
    """Gated DeltaNet (arXiv 2412.06464) as in Qwen3-Next: one key_dim x value_dim matrix per value head."""
    hidden, kernel = f.whole("hidden_size"), f.whole("linear_conv_kernel_dim")
    key_heads, value_heads = f.whole("linear_num_key_heads"), f.whole("linear_num_value_heads")
    key_dim, value_dim = f.whole("linear_key_head_dim"), f.whole("linear_value_head_dim")
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    weights = hidden * (2 * keys + 2 * values + 2 * value_heads) + channels * kernel + 2 * value_heads + value_dim
    weights += values * hidden
    return Recurrent(value_heads * key_dim * value_dim, channels * kernel, kernel, state_dtype(f)), weights


def kimi_delta(f: Fields) -> tuple[Layer, int]:
    """Kimi Delta Attention (arXiv 2510.26692): a dim x dim matrix per head, three short convolutions."""
    inner = f.get("linear_attn_config", None) or {}
    if not isinstance(inner, dict):
        raise f.error("linear_attn_config", inner, "an object")
    dim, heads, kernel = (
        f._whole(key, inner[key], 1) if key in inner else f.whole(name)
        for key, name in (
            ("head_dim", "linear_head_dim"),
            ("num_heads", "linear_num_heads"),
            ("short_conv_kernel_size", "linear_conv_kernel_dim"),
        )
    )
    hidden, wide = f.whole("hidden_size"), heads * dim
    weights = 3 * hidden * wide + 3 * wide * kernel + wide + heads + 2 * (hidden * dim + dim * wide)
    weights += hidden * heads + dim + wide * hidden
    return Recurrent(heads * dim * dim, 3 * wide * kernel, kernel, state_dtype(f)), weights


def lightning(f: Fields) -> tuple[Layer, int]:
    """Lightning attention (MiniMax-01, arXiv 2501.08313): a dim x dim matrix per head, kept in the model's dtype."""
    hidden, heads = f.whole("hidden_size"), f.whole("num_attention_heads")
    dim = f.maybe("head_dim") or head_dim(f, heads)
    wide = heads * dim
    return Recurrent(heads * dim * dim, state_dtype="bf16"), 5 * hidden * wide + wide


def mamba(f: Fields) -> tuple[Layer, int]:
    """Mamba (arXiv 2312.00752): `mamba_d_state` numbers for each of expand x hidden channels."""
    hidden, state, kernel = f.whole("hidden_size"), f.whole("mamba_d_state"), f.whole("mamba_d_conv")
    inner, rank = f.whole("mamba_expand") * hidden, f.get("mamba_dt_rank", "auto")
    rank = -(-hidden // 16) if rank == "auto" else f.whole("mamba_dt_rank")
    weights = hidden * 2 * inner + inner * kernel + inner * (rank + 2 * state) + rank * inner + inner
    weights += inner * state + inner + inner * hidden
    weights += inner if f.flag("mamba_conv_bias", True) else 0
    weights += 2 * inner + hidden if f.flag("mamba_proj_bias", False) else 0
    weights += rank + 2 * state if f.trait("ssm_norms") else 0
    return Recurrent(inner * state, inner * kernel, kernel, state_dtype(f)), weights


def mamba2(f: Fields) -> tuple[Layer, int]:
    """Mamba-2 (arXiv 2405.21060): a head_dim x state matrix per head, one short convolution over x, B and C."""
    hidden, state, kernel = f.whole("hidden_size"), f.whole("mamba_d_state"), f.whole("mamba_d_conv")
    heads, groups = f.whole("mamba_n_heads"), f.whole("mamba_n_groups")
    dim = f.get("mamba_d_head", "auto")
    expanded = f.maybe("mamba_inner") or f.whole("mamba_expand", default=0, least=0) * hidden
    if dim == "auto" or (f.trait("inner_is_expand") and expanded != heads * f.whole("mamba_d_head")):
        if not expanded or expanded % heads or dim not in ("auto", expanded // heads):
            raise f.error("mamba_n_heads", heads, f"heads x head size = expand x hidden_size = {expanded}")
        dim = expanded // heads
    inner = heads * f._whole("mamba_d_head", dim, 1)
    channels = inner + 2 * groups * state
    weights = hidden * (inner + channels + heads) + channels * kernel + 3 * heads + inner * hidden
    weights += inner if f.trait("mamba_norm_if", True) else 0
    weights += channels if f.flag("mamba_conv_bias", True) else 0
    biased = f.flag("mamba_proj_bias", False)
    weights += inner + channels + heads if biased else 0
    weights += hidden if (f.trait("mamba_out_bias") if "mamba_out_bias" in f.family else biased) else 0
    return Recurrent(inner * state, channels * kernel, kernel, state_dtype(f)), weights


def gated_lru(f: Fields) -> tuple[Layer, int]:
    """RG-LRU (Griffin, arXiv 2402.19427): one number per channel, gates in blocks of a head, a short convolution."""
    hidden, heads, kernel = f.whole("hidden_size"), f.whole("num_attention_heads"), f.whole("conv1d_width")
    width = f.maybe("lru_width") or hidden
    if width != hidden or width % heads:
        raise f.error("lru_width", width, f"hidden_size {hidden:,}, and a multiple of the {heads} heads")
    weights = 3 * width * hidden + 2 * width + hidden + width * kernel + width
    weights += width + 2 * (width * (width // heads) + width)
    return Recurrent(width, width * (kernel - 1), kernel - 1), weights


def short_conv(f: Fields, i: int, kind: str) -> tuple[Layer, int]:
    """LFM2's gated short convolution: it remembers a few inputs per channel and nothing else."""
    hidden, kernel, bias = f.whole("hidden_size"), f.whole("conv_L_cache"), f.flag("conv_bias", False)
    return Recurrent(0, hidden * kernel, kernel), 4 * hidden**2 + hidden * kernel + (5 * hidden if bias else 0)


def state_dtype(f: Fields) -> str:
    """The format of the recurrent state: fp32 unless the config says otherwise."""
    value = f.get("mamba_ssm_cache_dtype", None) or "float32"
    if not isinstance(value, str) or value not in DTYPES:
        raise f.error("mamba_ssm_cache_dtype", value, f"one of {', '.join(DTYPES)}")
    return DTYPES[value]
