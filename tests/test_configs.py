"""kvlib.configs: exact numbers for every published model, and a clear refusal of everything that is not understood."""

import copy
import json
import math
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvlib as kv
from kvlib.configs import from_config
from kvlib.fields import ConfigError, tables
from kvlib.model import Chunked, Full, Latent, NoCache, Recurrent, Shared, Sliding

FACTS = json.loads((Path(__file__).parent / "data/measured_models.json").read_text(encoding="utf-8"))
MEASURED = FACTS["models"]
CONFIGS = {
    name: json.loads((files("kvlib") / "data/models" / f"{name}.json").read_text(encoding="utf-8"))["config"]
    for name in kv.models()
}
LLAMA = CONFIGS["llama-3.1-8b"]


@pytest.mark.parametrize("fact", MEASURED, ids=lambda fact: fact["name"])
def test_every_byte_and_every_parameter_of_a_published_model(fact):
    model = kv.model(fact["name"])
    assert model.parameters == fact["parameters"]
    assert model.growth() == fact["growth_bf16"]
    for tokens, expected in fact["kv_bytes_bf16"].items():
        assert model.cache_bytes(int(tokens)) - model.state_bytes == expected
    if fact["name"] != "minimax-text-01":  # its linear state was not captured there; tests/reference weighs it
        assert model.state_bytes == fact["state_bytes"]
    if fact["active_parameters"]:
        assert model.active_parameters == pytest.approx(fact["active_parameters"], rel=0.01)
    else:
        assert model.active_parameters == model.parameters


def test_the_catalogue_covers_every_kind_and_names_its_sources():
    models = [kv.model(name) for name in kv.models()]
    assert len(models) >= 24
    assert all(model.source and model.as_of and model.title for model in models)
    kinds = {layer.kind for model in models for layer in model.layers}
    assert kinds >= {"full", "sliding", "chunked", "latent", "recurrent", "shared", "compressed", "no cache"}
    one_head = [m for m in models if isinstance(m.layers[0], Full) and m.layers[0].kv_heads == 1]
    all_heads = [m for m in models if isinstance(m.layers[0], Full) and m.layers[0].kv_heads == m.query_heads]
    assert one_head and all_heads


def test_lightning_attention_keeps_a_matrix_per_head():
    assert kv.model("minimax-text-01").state_bytes == 2 * 73_400_320  # 70 layers x 64 heads x 128 x 128, in bf16


# Models outside the catalogue, most of them of families whose code came with the checkpoint: published totals stand in
# for modules to compare with.
PUBLISHED = {fact["name"]: fact for fact in FACTS["published"]}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals_of_models_outside_the_catalogue(name):
    fact = PUBLISHED[name]
    model = from_config(fact["config"])
    assert (model.parameters, model.growth()) == (fact["parameters"], fact["growth_bf16"])
    assert fact["source"]


def test_cross_layer_attention_shares_every_second_cache():
    layers = from_config(PUBLISHED["Hunyuan-Large"]["config"]).layers
    assert layers == (Full(8, 80, 80), Shared()) * 32


def test_a_layer_may_have_two_caches():
    falcon = from_config(PUBLISHED["Falcon-H1-0.5B"]["config"])
    assert [layer.kind for layer in falcon.layers] == ["full", "recurrent"] * 36
    longcat = {"model_type": "longcat_flash", "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64,
               "vocab_size": 131072, "ffn_hidden_size": 12288, "q_lora_rank": 1536, "kv_lora_rank": 512, "moe_topk": 12,
               "n_routed_experts": 512, "zero_expert_num": 256, "expert_ffn_hidden_size": 2048}  # fmt: skip
    model = from_config(longcat)
    assert model.layers == (Latent(512, 64),) * 56
    assert model.experts_per_token == 8  # of 12 choices, a third are experts that do nothing (arXiv 2509.01322)
    assert 560e9 < model.parameters < 562e9 and 27e9 < model.active_parameters < 28e9


# ---------------------------------------------------------------- fields, not names


def variant(base=LLAMA, drop=(), **changes):
    """A copy of a config with some fields changed or left out."""
    config = {**copy.deepcopy(base), **changes}
    for field in drop:
        config.pop(field)
    return config


def test_an_explicit_head_dim_wins_over_the_quotient():
    assert from_config(variant(head_dim=64)).layers[0] == Full(8, 64, 64)
    assert from_config(LLAMA).layers[0] == Full(8, 128, 128)
    assert from_config(variant(head_dim=None)).layers[0] == Full(8, 128, 128)


def test_missing_kv_heads_mean_the_documented_default_of_the_family():
    assert from_config(variant(drop=["num_key_value_heads"])).layers[0].kv_heads == 32  # Llama: as many as queries
    assert from_config(variant(CONFIGS["mistral-7b-v0.3"], drop=["num_key_value_heads"])).layers[0].kv_heads == 8
    assert from_config(variant(CONFIGS["gpt2"])).layers[0].kv_heads == 12


def test_null_and_missing_are_not_the_same():
    lite = CONFIGS["deepseek-v2-lite"]
    assert lite["q_lora_rank"] is None
    more = from_config(variant(lite, drop=["q_lora_rank"])).parameters - from_config(lite).parameters
    assert more == 42_508_800  # what the class default of 1536 adds, as reported for a copy without the key
    window = variant(CONFIGS["mistral-7b-v0.1"], sliding_window=None)
    assert isinstance(from_config(window).layers[0], Full) and not isinstance(from_config(window).layers[0], Sliding)
    assert from_config(variant(window, drop=["sliding_window"])).layers[0] == Sliding(8, 128, 128, 4096)


def test_layer_types_decide_layer_by_layer():
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    model = from_config(variant(CONFIGS["qwen3-8b"], num_hidden_layers=4, layer_types=types, sliding_window=100))
    assert [layer.kind for layer in model.layers] == ["full", "sliding", "sliding", "full"]


def test_windows_that_only_some_layers_use():
    qwen = variant(CONFIGS["qwen2.5-7b"], use_sliding_window=True, sliding_window=1000, max_window_layers=20)
    assert [layer.kind for layer in from_config(qwen).layers] == ["full"] * 20 + ["sliding"] * 8
    gemma = kv.model("gemma-3-27b")
    assert [i for i, layer in enumerate(gemma.layers) if not isinstance(layer, Sliding)] == list(range(5, 62, 6))


def test_per_layer_kv_heads():
    config = variant(num_hidden_layers=2, num_key_value_heads=[8, 4])
    assert [layer.kv_heads for layer in from_config(config).layers] == [8, 4]
    with pytest.raises(ConfigError, match="num_key_value_heads must be a list of 2 items"):
        from_config(variant(num_hidden_layers=2, num_key_value_heads=[8, 4, 4]))


def test_keys_and_values_of_different_width_and_heads_by_kind():
    mimo = kv.model("mimo-v2-flash")
    assert mimo.layers[0] == Full(4, 192, 128)
    assert mimo.layers[1] == Sliding(8, 192, 128, 129)  # 128 before the current token, and itself


def test_shared_chunked_latent_and_mixed_layers():
    assert kv.model("gemma-3n-e4b-text").layers[-15:] == (Shared(),) * 15
    assert kv.model("llama-4-scout").layers[:4] == (Chunked(8, 128, 128, 8192),) * 3 + (Full(8, 128, 128),)
    assert set(kv.model("deepseek-v3").layers) == {Latent(512, 64)}
    assert kv.model("deepseek-v3.2").layers[0] == Latent(512, 64, 128)
    assert kv.model("llama-3.2-11b-vision").layers[3] == NoCache()
    assert isinstance(kv.model("jamba-v0.1").layers[0], Recurrent)


def test_the_text_part_of_a_multimodal_config():
    inner = {"model_type": "mistral", "sliding_window": None, "vocab_size": 32064}  # saved: only what differs
    model = from_config({"model_type": "llava_next", "text_config": inner, "tie_word_embeddings": False})
    assert model.growth() == 131_072 and model.vocab_size == 32_064
    tied = from_config({**CONFIGS["qwen3-vl-8b"], "tie_word_embeddings": True})
    assert kv.model("qwen3-vl-8b").parameters - tied.parameters == 151_936 * 4_096


def test_what_a_text_part_leaves_out_has_the_default_of_its_own_class():
    """Qwen2.5-VL's text part has 80 layers by default, Qwen2 has 32."""
    model = from_config({"model_type": "qwen2_5_vl", "text_config": {"model_type": "qwen2_5_vl_text"}})
    assert (len(model.layers), model.hidden_size) == (80, 8192)
    named = from_config({"model_type": "qwen2_5_vl", "text_config": {"vocab_size": 152064}})
    assert named.layers == model.layers


def test_a_text_part_two_objects_deep():
    inner = {**CONFIGS["qwen3-30b-a3b"], "model_type": "qwen3_omni_moe_text"}
    inner = {key: value for key, value in inner.items() if key != "max_window_layers"}
    omni = {"model_type": "qwen3_omni_moe", "thinker_config": {"model_type": "thinker", "text_config": inner}}
    assert from_config(omni).layers == kv.model("qwen3-30b-a3b").layers


def test_a_quantised_checkpoint_has_the_same_weights():
    quantised = variant(quantization_config={"quant_method": "gptq", "bits": 4})
    assert from_config(quantised).weights == from_config(LLAMA).weights


def test_json_as_python_writes_it():
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, math.inf], "注": "名", "eps": math.nan})
    assert "Infinity" in text and "NaN" in text
    assert from_config(text) == from_config(LLAMA)
    assert from_config(variant(num_hidden_layers=10_000, vocab_size=10**9)).parameters > 10**12


def test_a_path_and_a_text_and_a_dict_are_the_same(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    assert from_config(path) == from_config(str(path)) == from_config(json.dumps(LLAMA)) == from_config(LLAMA)
    assert from_config(LLAMA, name="mine").name == "mine"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "model_type must name a model family"),
        ({"model_type": 7}, "model_type must name"),
        ({"model_type": "transformer9000"}, "model_type 'transformer9000' is not a family"),
        ({"model_type": "t5", "d_model": 1024}, "encoder-decoder"),
        ({"model_type": "whisper"}, "encoder-decoder"),
        ({**LLAMA, "is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": "llama"}, "num_hidden_layers is missing"),
        ({"model_type": "llama", "text_config": {"hidden_size": 64}}, "model_type must name a model family"),
        ({"model_type": [], "text_config": {"hidden_size": 64}}, "model_type must name a model family"),
        ({"text_config": {"text_config": {"text_config": {"text_config": LLAMA}}}}, "more than two objects deep"),
        ({"model_type": "llava", "text_config": "llama"}, "text_config must be an object"),
        ("{", "not valid JSON"),
        ("[1, 2]", "must be a JSON object"),
        ("no/such/file.json", "must be a readable file"),
        ('{"model_type": "llama", "hidden_size": 64, "hidden_size": 128}', "hidden_size stands twice, with 64 and 128"),
        (b"{}", "must be a dict, a path or JSON text"),
        (None, "must be a dict, a path or JSON text"),
        ({**LLAMA, "num_hidden_layers": -1}, "num_hidden_layers must be a whole number from 1 to 10,000"),
        ({**LLAMA, "num_hidden_layers": 31.5}, "num_hidden_layers must be a whole number"),
        ({**LLAMA, "num_hidden_layers": 10**9}, "num_hidden_layers must be a whole number from 1 to 10,000"),
        ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads must be a whole number"),
        ({**LLAMA, "num_key_value_heads": 0}, "num_key_value_heads must be a whole number"),
        ({**LLAMA, "num_key_value_heads": 5}, "num_key_value_heads must be a divisor of the 32 query heads"),
        ({**LLAMA, "num_attention_heads": 48, "num_key_value_heads": 48}, "heads must be a divisor of hidden_size"),
        ({**LLAMA, "hidden_size": "4096"}, "hidden_size must be a whole number .* '4096'"),
        ({**LLAMA, "hidden_size": math.nan}, "hidden_size must be a whole number"),
        ({**LLAMA, "vocab_size": None}, "vocab_size must be a whole number"),
        ({**LLAMA, "vocab_size": True}, "vocab_size must be a whole number"),
        ({**LLAMA, "tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({**LLAMA, "layer_types": ["full_attention"]}, "layer_types must be a list of 32 items"),
        ({**LLAMA, "layer_types": ["psychic_attention"] * 32}, "layer_types must be a list of .*psychic_attention"),
        ({**LLAMA, "layer_types": ["linear_attention"] * 32}, "llama has no recurrent layers"),
        ({**LLAMA, "sliding_window": 4096}, "sliding_window must be left out"),
        ({**LLAMA, "kv_lora_rank": 512}, "kv_lora_rank must be left out"),
        ({**LLAMA, "use_cla": True}, "use_cla must be left out"),
        ({**LLAMA, "num_kv_shared_layers": 4}, "num_kv_shared_layers must be left out"),
        ({**LLAMA, "n_routed_experts": 64}, "n_routed_experts must be left out"),
        (
            {**CONFIGS["mixtral-8x7b"], "num_experts_per_tok": 9},
            "num_experts_per_tok must be a whole number from 1 to 8",
        ),
        ({**CONFIGS["gpt-oss-20b"], "experts_per_token": 8}, "these fields mean the same and differ"),
        ({**CONFIGS["deepseek-v3"], "kv_lora_rank": None}, "kv_lora_rank must be a whole number"),
        (
            {**CONFIGS["deepseek-v3"], "qk_head_dim": 128},
            "qk_head_dim must be qk_nope_head_dim . qk_rope_head_dim = 192",
        ),
        ({**CONFIGS["deepseek-v3"], "layer_types": ["sliding_attention"] * 61}, "layer_types must be without windows"),
        ({**CONFIGS["deepseek-v2-lite"], "use_mla": False}, "use_mla must be True"),
        ({**CONFIGS["mixtral-8x7b"], "num_local_experts": 0}, "num_local_experts must be a whole number from 1"),
        ({**CONFIGS["mistral-7b-v0.1"], "sliding_window": 0}, "sliding_window must be a whole number from 1"),
        (
            {**CONFIGS["smollm3-3b"], "use_sliding_window": True, "sliding_window": 64},
            "use_sliding_window must be False",
        ),
        ({**CONFIGS["gpt2"], "add_cross_attention": True}, "add_cross_attention must be left out"),
        ({**CONFIGS["opt-13b"], "_remove_final_layer_norm": True}, "_remove_final_layer_norm must be False"),
        ({**CONFIGS["mpt-30b"], "expansion_ratio": 8}, "expansion_ratio must be 4"),
        (
            {**PUBLISHED["MiniCPM4-8B"]["config"], "sparse_config": {"kernel_size": 32}},
            "sparse_config must be left out",
        ),
        ({**PUBLISHED["Qwen-7B"]["config"], "no_bias": False}, "no_bias must be True"),
        ({**PUBLISHED["Step-3"]["config"], "moe_layers_enum": "4,x"}, "moe_layers_enum must be the numbers of layers"),
        ({**PUBLISHED["Falcon-H1-0.5B"]["config"], "mamba_n_heads": 12}, "mamba_n_heads must be heads x head size"),
        ({**CONFIGS["deepseek-v3"], "moe_layer_freq": 2}, "moe_layer_freq must be 1"),
        ({**CONFIGS["nemotron-3-nano-30b-a3b"], "hybrid_override_pattern": "MEMX"}, "hybrid_override_pattern must be"),
        ({**CONFIGS["deepseek-v4-pro"], "compress_ratios": [4, 128, 7] * 30}, "compress_ratios must be"),
        ({**CONFIGS["gpt-oss-20b"], "sliding_window": "128"}, "sliding_window must be a whole number"),
        ({**CONFIGS["gpt-oss-20b"], "sliding_window": None}, "sliding_window must be a whole number"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(config, says):
    with pytest.raises(ConfigError, match=says):
        from_config(config)


ALL = {**CONFIGS, **{name: fact["config"] for name, fact in PUBLISHED.items()}}
HOSTILE = st.one_of(
    st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers(-5, 5), st.integers(10**9, 10**30),
    st.lists(st.one_of(st.integers(-2, 9), st.text(max_size=3), st.none(), st.just([]), st.just({})), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(ALL)), st.data())
def test_a_mutated_config_gives_a_config_error_or_a_sane_model(name, data):
    """Whatever happens to one or two fields: no crash, no nonsense. What is read exactly is an exact model."""
    config = copy.deepcopy(ALL[name])
    target = config["text_config"] if "text_config" in config and data.draw(st.booleans()) else config
    for field in data.draw(st.lists(st.sampled_from(sorted(target)), min_size=1, max_size=2, unique=True)):
        if data.draw(st.booleans()):
            del target[field]
        else:
            target[field] = data.draw(HOSTILE)
    try:
        model = from_config(config)
    except ConfigError:
        return
    assert 0 < model.active_parameters <= model.parameters
    assert 0 <= model.cache_bytes(1) <= model.cache_bytes(1000) <= model.cache_bytes(10**18)
    assert all(isinstance(count, int) and count > 0 for _, count in model.weights)


@settings(max_examples=100, deadline=None)
@given(st.recursive(HOSTILE, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8))
def test_garbage_is_a_config_error(garbage):
    config = garbage if isinstance(garbage, dict) else json.dumps(garbage, default=str)
    with pytest.raises(ConfigError):
        from_config(config)


def test_every_family_names_only_fields_and_rules_that_exist():
    """A slip in families.toml (a trait nobody reads) would be silent: every key must appear in the code."""
    modules = [
        Path(kv.__file__).parent / f"{name}.py"
        for name in ("fields", "patterns", "mixers", "recurrent", "experts", "weights", "configs")
    ]
    code = "".join(module.read_text(encoding="utf-8") for module in modules)
    for family, traits in tables()["family"].items():
        for trait in traits:
            assert f'"{trait}"' in code, f"[family.{family}] {trait}"
