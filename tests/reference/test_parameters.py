"""Parameter counts against the real modules of transformers, built on the meta device (no memory, no weights)."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from tiny import variants

import kvlib as kv
from kvlib.fields import tables, text_part

torch = pytest.importorskip("torch", reason="torch is not installed here; `make test-reference` has it")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed here; `make test-reference` has it"
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402
from transformers.models.mllama.configuration_mllama import MllamaTextConfig  # noqa: E402
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel  # noqa: E402
from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerTextModel  # noqa: E402

pytestmark = pytest.mark.reference
ROOT = Path(__file__).resolve().parents[2]
TEXT_PARTS = [name for name in tables()["model_types"] if name.endswith("_text")]
CLASSES = {name: CONFIG_MAPPING[name] for name in [*tables()["family"], *TEXT_PARTS] if name in CONFIG_MAPPING}
CLASSES["mllama_text_model"] = MllamaTextConfig
HEADLESS = {"qwen2_5_omni_text": Qwen2_5OmniThinkerTextModel, "qwen3_omni_moe_text": Qwen3OmniMoeThinkerTextModel}
# MiMo's sliding layers have fields of their own that no tiny variant has: its full-size config is compared below.
TINY = sorted(set(CLASSES) - {"mimo_v2_flash"})


def real_parameters(config) -> int:
    """Numbers in all parameters of the language model that transformers builds from this config."""
    name, head = config.model_type, 0
    with torch.device("meta"):
        if name == "mllama_text_model":
            model = transformers.MllamaForCausalLM._from_config(config)
        elif type(config) in transformers.AutoModelForCausalLM._model_mapping:
            model = transformers.AutoModelForCausalLM.from_config(config)
        else:  # a text part without a head: that belongs to the multimodal model around it
            model = (
                HEADLESS[name]._from_config(config) if name in HEADLESS else transformers.AutoModel.from_config(config)
            )
            head = 0 if getattr(config, "tie_word_embeddings", False) else config.vocab_size * config.hidden_size
    # LongCat's modules hold a first matrix for experts that do nothing; the checkpoint has none.
    unused = (
        getattr(config, "zero_expert_num", 0) * 2 * getattr(config, "expert_ffn_hidden_size", 0) * config.hidden_size
    )
    unused *= getattr(config, "num_layers", 0)
    return sum(weight.numel() for weight in model.parameters()) + head - unused


def build(config: dict):
    """transformers' config object for a text config, with the names of text parts that it does not register resolved."""
    name = config["model_type"]
    name = name if name in CLASSES else tables()["model_types"].get(name, name)
    fields = {key: value for key, value in copy.deepcopy(config).items() if key != "model_type"}
    return CLASSES[name](**fields)


@pytest.mark.parametrize("family", TINY)
def test_every_weight_of_tiny_variants(family):
    for config in variants(family, CLASSES[family], 8):
        assert kv.from_config(config).parameters == real_parameters(build(config)), config


CATALOGUE = {
    name: json.loads((files("kvlib") / "data/models" / f"{name}.json").read_text(encoding="utf-8"))["config"]
    for name in kv.models()
}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_weight_of_published_models(name):
    config = text_part(CATALOGUE[name])[0]
    if config.get("max_position_embeddings", 0) is None:  # not known, and no weight depends on it
        del config["max_position_embeddings"]
    if config["model_type"] == "internlm2":
        pytest.skip("transformers has no InternLM2; its code came with the checkpoint and matches Llama's shapes")
    assert kv.model(name).parameters == real_parameters(build(config))


def test_class_defaults_are_current():
    command = [sys.executable, str(ROOT / "tools/family_defaults.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
