"""The language model inside a multimodal config: which head it has, and what the fields it leaves out mean."""

from __future__ import annotations

import itertools
import json

import pytest
from test_parameters import CLASSES
from tiny import variants

import kvlib as kv
from kvlib.fields import tables

torch = pytest.importorskip("torch", reason="torch is not installed here; `make test-reference` has it")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed here; `make test-reference` has it"
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

pytestmark = pytest.mark.reference
OUTER = ["aria", "gemma3", "glm4v", "glm4v_moe", "idefics3", "internvl", "kimi_k25", "llama4", "llava", "mistral3",
         "qwen2_5_vl", "qwen3_vl_moe"]  # fmt: skip


def language_model(config) -> int:
    """Weights of the module that owns the token embedding, and of the head where that is another matrix."""
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    owner = next(module for module in model.modules() if any(child is table for child in module.children()))
    own_head = 0 if head.weight is table.weight else head.weight.numel()
    return sum(weight.numel() for weight in owner.parameters()) + own_head


def text_config(outer: str) -> dict:
    name = tables()["model_types"][outer]
    config = next(variants(tables()["model_types"].get(name, name), CLASSES[name], 1))
    config.pop("tie_word_embeddings", None)
    return {**config, "model_type": name}


@pytest.mark.parametrize("outer", OUTER)
def test_the_head_follows_the_outer_config(outer):
    for stated, inner, named in itertools.product((True, False), (None, True, False), (True, False)):
        text = text_config(outer) | ({} if inner is None else {"tie_word_embeddings": inner})
        if not named:
            del text["model_type"]
        config = {"model_type": outer, "text_config": text, "tie_word_embeddings": stated}
        fields = {key: value for key, value in json.loads(json.dumps(config)).items() if key != "model_type"}
        assert kv.from_config(config).parameters == language_model(CONFIG_MAPPING[outer](**fields)), config


@pytest.mark.parametrize("family", ["deepseek_v3", "gemma3_text", "glm4v_text", "qwen2_5_vl_text", "qwen3", "mistral4"])
def test_fields_left_out_of_a_text_part_have_the_defaults_of_its_own_class(family):
    built = CLASSES[family]()
    cache = kv.from_config({"model_type": "llava", "text_config": {"model_type": family}})
    assert (cache.hidden_size, cache.query_heads) == (built.hidden_size, built.num_attention_heads)
    assert cache.vocab_size == built.vocab_size and len(cache.layers) == built.num_hidden_layers
