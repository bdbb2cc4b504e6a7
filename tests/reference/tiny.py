"""Tiny configs of every family kvlib reads, in several variants, for comparison with the real modules."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from kvlib.fields import tables

SIZES = {
    "hidden_size": 128, "num_hidden_layers": 8, "num_attention_heads": 8, "vocab_size": 300, "intermediate_size": 192,
    "max_position_embeddings": 512, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
    "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32, "shared_expert_intermediate_size": 80,
    "shared_intermediate_size": 64, "moe_shared_expert_intermediate_size": 96, "index_head_dim": 32, "index_n_heads": 4,
    "index_topk": 8, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 32,
    "linear_head_dim": 16, "linear_num_heads": 4, "mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16,
    "mamba_n_groups": 2, "mamba_dt_rank": 16, "altup_num_inputs": 3, "laurel_rank": 8, "hidden_size_per_layer_input": 32,
    "vocab_size_per_layer_input": 280, "hc_mult": 4, "o_groups": 4, "o_lora_rank": 32, "intermediate_size_mlp": 200, "ffn_dim": 160,
    "attention_chunk_size": 32, "conv_L_cache": 3, "pad_token_id": 0,
}  # fmt: skip
CHOICES: dict[str, list[Any]] = {
    "head_dim": [16, 32], "num_key_value_heads": [1, 2, 4, 8], "q_lora_rank": [24, None], "sliding_window": [16, 40],
    "first_k_dense_replace": [0, 1, 3], "num_shared_experts": [1, 2], "max_window_layers": [0, 3, 8], "num_kv_shared_layers": [0, 2],
    "word_embed_proj_dim": [128, 64], "moe_latent_size": [None, 32], "num_global_key_value_heads": [None, 2],
}  # fmt: skip
# What a family's code needs beyond the common sizes, or does not offer.
OWN: dict[str, dict[str, Any]] = {
    "axk1": {"q_lora_rank": 24},
    "bamba": {"attn_layer_indices": [2, 5]},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0}, "tie_word_embeddings": False,
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "cohere2_moe": {"prefix_dense_intermediate_size": 176, "first_k_dense_replace": 2},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v32": {"q_lora_rank": 24},
    "deepseek_v4": {
        "q_lora_rank": 24, "compress_ratios": [128, 128, 4, 128, 4, 0, 4, 128, 0], "num_key_value_heads": 1, "head_dim": 32,
        "n_shared_experts": 1, "tie_word_embeddings": False,
    },
    "diffllama": {"num_key_value_heads": 2},
    "falcon_h1": {"mamba_d_ssm": 256, "mamba_rms_norm": True},
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"] * 4},
    "gemma4_text": {"layer_types": ["sliding_attention", "full_attention"] * 4, "global_head_dim": 64},
    "gemma4_unified_text": {"layer_types": ["sliding_attention", "full_attention"] * 4, "global_head_dim": 64},
    "glm_moe_dsa": {"q_lora_rank": 24},
    "gpt_neo": {"attention_types": [[["global", "local"], 4]]},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention", "mamba"] * 2},
    "helium": {"head_dim": 16},
    "hyperclovax": {"head_dim": 16},
    "internlm3": {"attention_bias": False, "mlp_bias": False, "bias": True, "qkv_bias": True},
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {"tie_word_embeddings": False, "q_lora_rank": None},
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2},
    "lfm3": {"layer_types": ["conv", "sliding_attention", "full_attention", "conv"] * 2, "use_attention_gate": True},
    "longcat_flash": {"q_lora_rank": 24, "zero_expert_num": 3, "ffn_hidden_size": 160, "expert_ffn_hidden_size": 48, "moe_topk": 2},
    "mamba2": {"num_heads": 8, "head_dim": 32},
    "minimax": {"sliding_window": None},
    "mllama_text_model": {"cross_attention_layers": [1, 5], "tie_word_embeddings": False},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 4},
    "mpt": {"no_bias": True},
    "olmo_hybrid": {"layer_types": None},
    "qwen2_moe": {"use_sliding_window": False},
    "smollm3": {"use_sliding_window": False},
    "recurrent_gemma": {"lru_width": 128},
    "nemotron_h": {
        "layers_block_type": ["mamba", "moe", "attention", "mlp"] * 2, "mamba_proj_bias": False, "use_bias": False,
        "sliding_window": None, "attention_bias": False, "tie_word_embeddings": False,
    },
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba", "mamba", "hybrid", "hybrid"], "n_mamba_heads": 8,
        "mamba_ngroups": 2, "num_mem_blocks": 2, "adapter_rank": 16, "use_conv_bias": True,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
SWITCHES = (
    "bias",
    "tie",
    "qk",
    "use_sliding",
    "multi_query",
    "parallel",
    "double",
    "k_eq_v",
    "enable_moe",
    "new_decoder",
    "do_layer",
    "use_post_norm",
    "use_sandwich",
    "use_shared_attention",
    "rms_norm",
)


FAMILIES = tables()["family"]


def variants(family: str, config_class: Any, count: int) -> Iterator[dict[str, Any]]:
    """`count` configs of a family: the sizes above, with heads, windows and switches drawn from a fixed seed."""
    fields = {field.name for field in dataclasses.fields(config_class)}
    rng = random.Random(family)
    names: dict[str, list[str]] = {name: [name, *others] for name, others in tables()["aliases"].items()}
    for key, name in FAMILIES.get(family, {}).get("names", {}).items():
        names.setdefault(name, [name]).append(key)
    for _ in range(count):
        drawn = {**SIZES, **{name: rng.choice(values) for name, values in CHOICES.items()}}
        config: dict[str, Any] = {"model_type": family}
        for name, value in drawn.items():
            key = next((key for key in names.get(name, [name]) if key in fields), None)
            if key:
                config[key] = value
        for field in sorted(fields):
            if isinstance(getattr(config_class, field, None), bool) and any(word in field for word in SWITCHES):
                config[field] = rng.choice([True, False])
        config.update(OWN.get(family, {}))
        if family in ("mamba", "falcon_mamba"):
            config.pop("intermediate_size", None)
        if family == "nemotron_h":
            config.pop("num_hidden_layers", None)
        yield config
