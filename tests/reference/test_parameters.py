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

pytestmark = pytest.mark.reference
ROOT = Path(__file__).resolve().parents[2]
CLASSES = {name: CONFIG_MAPPING[name] for name in tables()["family"] if name in CONFIG_MAPPING}
CLASSES["mllama_text_model"] = MllamaTextConfig
# MiMo's sliding layers have fields of their own that no tiny variant has: its full-size config is compared below.
TINY = sorted(set(CLASSES) - {"mimo_v2_flash"})


def real_parameters(config) -> int:
    """Numbers in all parameters of the language model that transformers builds from this config."""
    with torch.device("meta"):
        if config.model_type == "mllama_text_model":
            model = transformers.MllamaForCausalLM._from_config(config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


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
    if config["model_type"] == "internlm2":
        pytest.skip("transformers has no InternLM2; its code came with the checkpoint and matches Llama's shapes")
    assert kv.model(name).parameters == real_parameters(build(config))


def test_class_defaults_are_current():
    command = [sys.executable, str(ROOT / "tools/family_defaults.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
