"""Write kvlib/data/family_defaults.json: the defaults of transformers' config classes, for the families kvlib reads.

A config.json may leave a field out; then the default of its class holds, and some published configs lean on that (the
config of Gemma 3 4B has no head count). Run it in the reference environment: `make family-defaults`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAMILIES, TARGET = ROOT / "kvlib/data/families.toml", ROOT / "kvlib/data/family_defaults.json"
# Fields that say nothing about sizes.
NOISE = re.compile(
    r"token_id|dropout|pdrop|initializer|init_|rope|eps|epsilon|_act$|activation|use_cache|dtype$|norm_topk|routed_scal|summary|"
    r"aux_loss|jitter|time_step_(min|max|limit|floor|scale)|chunk_size$|softcap|multiplier|logit|output_|topk_group|n_group$|"
    r"rescale|residual_in|pretraining|scale_attn|reorder|altup_(coef|active)|use_mamba|associative|scoring|topk_method|"
    r"query_pre_attn|use_bidirectional|softmax_in_fp32|id2label|label2id|problem_type|return_dict|chunk_size_feed"
)
KEPT = {"qk_rope_head_dim", "attention_chunk_size", "block_ffn_dim_multiplier", "time_step_rank"}


def config_classes() -> dict[str, Any]:
    """Model type -> config class: those that transformers registers, and the text parts of multimodal ones."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    families = tomllib.loads(FAMILIES.read_text(encoding="utf-8"))
    names = {*families["family"], *families["model_types"]}
    classes = {name: CONFIG_MAPPING[name] for name in names if name in CONFIG_MAPPING}
    for outer in list(classes.values()):
        inner = (getattr(outer, "sub_configs_defaults", None) or {}).get("text_config")
        if getattr(inner, "model_type", None) in names and hasattr(inner, "__dataclass_fields__"):
            classes.setdefault(inner.model_type, inner)
    return {name: classes[name] for name in sorted(classes) if "text_config" not in classes[name].sub_configs}


def defaults(config_class: Any) -> dict[str, Any]:
    """Field -> default of one config class, without nested objects and without what does not size a model."""
    from transformers import PreTrainedConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    common = {field.name for field in dataclasses.fields(PreTrainedConfig)} - {"tie_word_embeddings"}
    if config_class.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:  # a text part without a head ties nothing
        common.add("tie_word_embeddings")
    found = {}
    for field in dataclasses.fields(config_class):
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        sizes = field.name in KEPT or not NOISE.search(field.name)
        if field.name not in common and sizes and isinstance(value, bool | int | float | str | None):
            found[field.name] = value
    return found


def document() -> dict[str, Any]:
    """What the file holds: its source, and the defaults of every family and text part that transformers knows."""
    import transformers

    families = tomllib.loads(FAMILIES.read_text(encoding="utf-8"))
    return {
        "source": f"huggingface/transformers v{transformers.__version__}, src/transformers/models/*/configuration_*.py",
        "as_of": families["source"]["as_of"].isoformat(),
        "families": {name: defaults(found) for name, found in config_classes().items()},
    }


def main() -> None:
    """Write the file, or with --check say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the file is not current")
    text = json.dumps(document(), indent=1) + "\n"
    if parser.parse_args().check:
        raise SystemExit(0 if TARGET.read_text(encoding="utf-8") == text else f"{TARGET.name} is not current")
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
