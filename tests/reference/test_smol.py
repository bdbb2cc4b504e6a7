"""SmolLM2 in numpy against transformers' LlamaForCausalLM: random weights always, the real ones where `make smol` ran."""

from __future__ import annotations

import numpy as np
import pytest

from kvlib.lab.smol_llama import Llama
from kvlib.lab.smol_weights import available, gguf_path, load, missing

torch = pytest.importorskip("torch", reason="torch is not installed here; `make test-reference` has it")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed here; `make test-reference` has it"
)

pytestmark = pytest.mark.reference
CONFIG = {
    "model_type": "llama", "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 211, "max_position_embeddings": 512, "tie_word_embeddings": True,
    "rope_theta": 1000.0, "rms_norm_eps": 1e-5,
}  # fmt: skip
TEXT = "<|im_start|>user\nThe code of the safe in Oslo is 4821. It's raining, isn't it? Größe 12.5 €\n\nWhat  now?<|im_end|>\n"


def of_transformers(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def test_random_weights_give_the_same_logits():
    torch.manual_seed(0)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG)).eval()
    for name, weight in reference.named_parameters():  # transformers starts all gains at 1
        if "norm" in name:
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        else:
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    state = reference.state_dict()
    llama = Llama.assemble(CONFIG, lambda name: state[f"model.{name}"].numpy())
    ids = np.random.default_rng(0).integers(0, 211, 300).tolist()
    cache = llama.new_cache(300)
    expected = of_transformers(reference, ids)
    assert abs(llama.forward(ids, cache, every=True) - expected).max() < 1e-4 * abs(expected).max()
    cached = reference(torch.tensor([ids]), use_cache=True).past_key_values
    weighed = sum(t.numel() * t.element_size() for layer in cached.layers for t in (layer.keys, layer.values))
    assert cache.nbytes == weighed == llama.model.cache_bytes(300, "fp32")
    assert np.allclose(cache.keys[2], cached.layers[2].keys[0].detach().numpy(), atol=1e-4)


@pytest.mark.skipif(not available(), reason=f"{', '.join(missing())} not installed here: `make smol` does it")
def test_the_real_weights_and_tokens_are_those_that_transformers_reads():
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = gguf_path()
    config = transformers.LlamaConfig(**load_gguf_checkpoint(str(path), return_tensors=False)["config"])
    with torch.device("meta"):
        shape = transformers.LlamaForCausalLM(config)
    tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=shape)["tensors"]
    reference = transformers.LlamaForCausalLM(config).eval()
    wrong = reference.load_state_dict({name: torch.as_tensor(t) for name, t in tensors.items()}, strict=False)
    reference.tie_weights()
    assert wrong.missing_keys == ["lm_head.weight"] and not wrong.unexpected_keys

    ours = load()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    ids = ours.encode(TEXT * 8)  # more than one chunk
    assert ids == tokenizer(TEXT * 8)["input_ids"] and ours.decode(ids) == TEXT * 8
    expected = of_transformers(reference, ids)
    assert abs(ours.llama.forward(ids, ours.llama.new_cache(len(ids)), every=True) - expected).max() < 1e-3
