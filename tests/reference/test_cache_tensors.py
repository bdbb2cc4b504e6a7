"""Cache bytes against the cache tensors of transformers: tiny random models generate tokens, and the tensors are weighed.

A DynamicCache holds what is past: of a sliding layer the last window - 1 tokens, because the next token brings the
last one of its window along. kvlib counts that one too (`min(tokens, window)`), as a StaticCache and a serving engine
allocate it. Both are compared: the dynamic tensors with windows one shorter, the static ones as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_parameters import build

import kvlib as kv
from kvlib.model import Chunked, Model, Recurrent, Sliding

torch = pytest.importorskip("torch", reason="torch is not installed here; `make test-reference` has it")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed here; `make test-reference` has it"
)

pytestmark = pytest.mark.reference

COMMON = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 101, "intermediate_size": 96,
    "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
MOE = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1}
GROUPS = {"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
ALTERNATE = ["sliding_attention", "full_attention"] * 2

ARCHITECTURES = {
    "MHA": {"model_type": "llama", "num_key_value_heads": 4},
    "GQA, wide heads": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 32},
    "MQA": {"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256, "multi_query": True},
    "MQA, Falcon": {"model_type": "falcon", "multi_query": True, "new_decoder_architecture": False},
    "sliding": {"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 16},
    "sliding and full": {"model_type": "gemma3_text", "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 16, "layer_types": ALTERNATE},
    "sliding and full, sinks": {"model_type": "gpt_oss", "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "chunked": {"model_type": "llama4_text", "num_key_value_heads": 2, "head_dim": 16, "attention_chunk_size": 16, "intermediate_size_mlp": 96, "num_local_experts": 2},
    "MLA": {"model_type": "deepseek_v3", **MLA, **MOE, **GROUPS},
    "MLA without a query rank": {"model_type": "deepseek_v2", **MLA, **MOE, **GROUPS, "q_lora_rank": None},
    "MLA with an indexer": {"model_type": "deepseek_v32", **MLA, **MOE, **GROUPS, "index_head_dim": 32, "index_n_heads": 2, "index_topk": 8},
    "hybrid, Gated DeltaNet": {"model_type": "qwen3_next", "num_key_value_heads": 2, "head_dim": 32, **DELTA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    "hybrid, Mamba": {"model_type": "jamba", "num_key_value_heads": 2, "attn_layer_period": 4, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 8, "num_experts": 4, "use_mamba_kernels": False},
    "hybrid, Mamba-2 and experts": {"model_type": "nemotron_h", "num_key_value_heads": 2, "head_dim": 16, "layers_block_type": ["mamba", "moe", "attention", "mlp"], "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 2, **MOE, "moe_shared_expert_intermediate_size": 32},
    "hybrid, Kimi Delta Attention": {"model_type": "kimi_linear", **MLA, "q_lora_rank": None, "linear_attn_config": {"full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 4, "head_dim": 16, "short_conv_kernel_size": 4}, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "hybrid, short convolutions": {"model_type": "lfm2", "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"] * 2},
    "hybrid, lightning attention": {"model_type": "minimax", "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention"] * 2},
    "no attention at all": {"model_type": "mamba2", "num_heads": 4, "head_dim": 32, "state_size": 16, "n_groups": 2},
    "shared cache": {"model_type": "gemma3n_text", "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 16, "layer_types": ALTERNATE, "num_kv_shared_layers": 2, "laurel_rank": 8, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 101, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 4},
    "shared cache, wide full heads": {"model_type": "gemma4_text", "num_key_value_heads": 1, "head_dim": 32, "global_head_dim": 64, "sliding_window": 16, "layer_types": ALTERNATE, "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 101},
    "windows that the cache ignores": {"model_type": "gpt_neo", "attention_types": [[["global", "local"], 2]], "window_size": 16},
    "sliding and full, first full": {"model_type": "granite_swa", "num_key_value_heads": 2, "sliding_window": 16},
    "sliding and full, after a prefix": {"model_type": "cohere2_moe", "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16, "first_k_dense_replace": 1, "sliding_window_pattern": 2, "num_experts": 4, "num_experts_per_tok": 2},
    "GQA with an indexer": {"model_type": "minimax_m3_vl_text", "num_key_value_heads": 2, "head_dim": 16, "index_n_heads": 2, "index_head_dim": 32, "index_block_size": 4, "layer_types": ["full_attention", "minimax_m3_sparse"] * 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "MLA, two in a layer": {"model_type": "longcat_flash", **MLA, "head_dim": 16, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2, "expert_ffn_hidden_size": 32, "ffn_hidden_size": 96, "num_layers": 2},
    "attention beside Mamba-2": {"model_type": "falcon_h1", "num_key_value_heads": 2, "mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16},
    "attention before Mamba-2": {"model_type": "zamba2", "num_key_value_heads": 2, "n_mamba_heads": 4, "mamba_d_state": 16, "adapter_rank": 8, "layers_block_type": ["mamba", "hybrid"] * 2, "use_mamba_kernels": False},
    "hybrid, Gated DeltaNet in OLMo": {"model_type": "olmo_hybrid", "num_key_value_heads": 2, **DELTA, "layer_types": ["linear_attention", "full_attention"] * 2},
    "sliding, full and convolutions": {"model_type": "lfm3", "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 16, "layer_types": ["conv", "sliding_attention", "conv", "full_attention"]},
    "MoE in two objects": {"model_type": "dbrx", "d_model": 64, "n_layers": 4, "n_heads": 4, "max_seq_len": 256, "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0}, "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2}},
    "MoE": {"model_type": "mixtral", "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
}  # fmt: skip
TOKENS = (5, 15, 16, 40)  # before, at and beyond the window of 16


OTHER_NAMES = {  # common sizes that an architecture has under another name, or not at all
    "gpt_bigcode": set(COMMON) - {"vocab_size"},
    "mamba2": {"num_attention_heads"},
    "nemotron_h": {"num_hidden_layers"},
    "longcat_flash": {"num_hidden_layers", "intermediate_size"},
    "dbrx": set(COMMON) - {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"},
}


def full_config(name: str) -> dict:
    """One architecture's config, with the common sizes where it has no other names for them."""
    own = ARCHITECTURES[name]
    left_out = OTHER_NAMES.get(own["model_type"], set())
    return {**{key: value for key, value in COMMON.items() if key not in left_out}, **own}


def run(config: dict, tokens: int, cache=None):
    """The cache after `tokens` tokens: a prompt of two, then one by one, as in generation."""
    torch.manual_seed(0)
    built = build(config)
    built._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(built, dtype=torch.bfloat16).eval()
    ids = torch.randint(2, 100, (1, tokens))
    with torch.no_grad():
        out = model(ids[:, :2], use_cache=True, **({"past_key_values": cache(built)} if cache else {}))
        for i in range(2, tokens):
            out = model(ids[:, i : i + 1], past_key_values=cache_of(out), use_cache=True)
    return cache_of(out)


def cache_of(out):
    """Attention models call it past_key_values, pure state-space models cache_params."""
    found = getattr(out, "past_key_values", None)
    return found if found is not None else out.cache_params


def tensors(thing, seen: set[int] | None = None) -> Iterator:
    """Every floating-point tensor that a cache object holds, each once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        if thing.is_floating_point():
            yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from tensors(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from tensors(value, seen)
    elif type(thing).__module__.startswith("transformers.cache_utils") or type(thing).__name__.endswith(
        ("Cache", "Layer")
    ):
        yield from tensors(vars(thing), seen)


def past_only(model: Model) -> Model:
    """The same model with each window one token shorter: what a DynamicCache holds between two steps."""
    shorter = {
        layer: replace(layer, **{"window" if isinstance(layer, Sliding) else "chunk": size - 1})
        for layer in set(model.layers)
        if isinstance(layer, Sliding | Chunked)
        for size in [layer.window if isinstance(layer, Sliding) else layer.chunk]
    }
    return replace(model, layers=tuple(shorter.get(layer, layer) for layer in model.layers))


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dynamic_cache_tensors_weigh_what_kvlib_says(name, tokens):
    config = full_config(name)
    weighed = sum(tensor.numel() * tensor.element_size() for tensor in tensors(run(config, tokens)))
    assert weighed == past_only(kv.from_config(config)).cache_bytes(tokens)


STATIC = ["MHA", "GQA, wide heads", "sliding", "sliding and full", "sliding and full, sinks", "MLA", "MoE"]


@pytest.mark.parametrize("length", [10, 40])
@pytest.mark.parametrize("name", STATIC)
def test_static_cache_tensors_weigh_what_kvlib_says(name, length):
    config = full_config(name)
    cache = run(config, 4, lambda built: transformers.StaticCache(config=built, max_cache_len=length))
    weighed = sum(tensor.numel() * tensor.element_size() for tensor in tensors(cache))
    assert weighed == kv.from_config(config).cache_bytes(length)


def test_recurrent_state_has_the_dtypes_kvlib_gives_it():
    config = full_config("hybrid, Gated DeltaNet")
    model = kv.from_config(config)
    state = next(layer for layer in model.layers if isinstance(layer, Recurrent))
    found = sorted({str(tensor.dtype) for tensor in tensors(run(config, 5))})
    assert (state.state_dtype, state.conv_dtype, found) == ("fp32", "bf16", ["torch.bfloat16", "torch.float32"])
