"""The start-up messages of vLLM, SGLang and llama.cpp, as patterns. A list to read, and nothing else.

Every pattern begins with literal text and has no open-ended gap, so that a log of 10 MB takes one pass per pattern. A
blank stands for any white space (a copied log is often wrapped), `<name:kind>` for a figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"(-?\d[\d,]{0,18}(?:\.\d{1,8})?)"
_WORD = r"([\w./+:-]{1,200})"
_KINDS = {"gib": _NUMBER, "mib": _NUMBER, "num": _NUMBER, "int": r"(\d[\d,]{0,18})", "text": _WORD}


@dataclass(frozen=True)
class Pattern:
    """A message: the engine that prints it, its regular expression, and whether it opens or closes a start."""

    engine: str
    regex: re.Pattern[str]
    keyword: str
    role: str = ""


def _pattern(engine: str, keyword: str, template: str, role: str = "") -> Pattern:
    """Compile a template in which `<name:kind>` stands for a figure and a blank for any white space."""

    def group(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}__{found[2]}>{_KINDS[found[2]][1:-1]})"

    spaced = re.sub(r" +", lambda _: r"\s{1,200}", template)
    word = max(keyword.split(), key=len)  # one word, because a copied log may break the line between two
    return Pattern(engine, re.compile(re.sub(r"<(\w+):(\w+)>", group, spaced), re.ASCII), word, role)


def _setting(engine: str, name: str, *spellings: str, kind: str = "int") -> list[Pattern]:
    """A setting in its spellings: `name=1`, `'name': 1`, `--name 1`, `--name=1`."""
    made = []
    for spelling in spellings:
        joint = r"['\"]?\s?[=:]\s?['\"]?" if not spelling.startswith("-") else r"[=\s]['\"]?"
        word = spelling if spelling.startswith("-") else rf"(?<![\w-]){spelling}"
        made.append(
            _pattern(
                engine,
                spelling,
                rf"{word}{joint}<{name}:{kind}>(?!\w|\.\d)" if kind == "int" else rf"{word}{joint}<{name}:{kind}>",
            )
        )
    return made


_G = r"\s?G[iI]?[bB]"
PATTERNS = [
    # vLLM, up to about 0.6.3, and the lines that stayed
    _pattern("vllm", "model weights took", rf"oading model weights took <weights:gib>{_G}", "open"),
    _pattern("vllm", "Model loading took", rf"Model loading took <weights:gib>{_G}", "open"),
    _pattern("vllm", " blocks:", r"# (?:GPU|cuda|CUDA) blocks: <blocks:int>", "close"),
    _pattern("vllm", "CPU blocks", r"# CPU blocks: <cpu_blocks:int>"),
    _pattern(
        "vllm", "Maximum concurrency", r"Maximum concurrency for <length:int> tokens per request: <concurrency:num>x"
    ),
    # about 0.6.4: one line with everything, peak_torch_memory includes the weights
    _pattern("vllm", "total_gpu_memory", rf"total_gpu_memory\s?[=(]\s?<total:gib>{_G}", "open"),
    _pattern("vllm", "peak_torch_memory", rf"peak_torch_memory=<peak_torch:gib>{_G}"),
    _pattern("vllm", "non_torch_memory", rf"non_torch_memory(?:=| takes )<non_torch:gib>{_G}"),
    _pattern("vllm", "kv_cache_size", rf"kv_cache_size=<kv:gib>{_G}"),
    # about 0.6.6
    _pattern("vllm", "gpu_memory_utilization (", rf"gpu_memory_utilization \(<utilisation:num>\) = <limit:gib>{_G}"),
    _pattern("vllm", "model weights take", rf"model weights take <weights:gib>{_G}"),
    _pattern("vllm", "activation peak memory", rf"activation peak memory takes <activation:gib>{_G}"),
    _pattern("vllm", "reserved for KV Cache", rf"reserved for KV Cache is <kv:gib>{_G}"),
    # V1
    _pattern("vllm", "KV cache memory:", rf"Available KV cache memory: <kv:gib>{_G}", "open"),
    _pattern("vllm", "GPU KV cache size", r"GPU KV cache size: <tokens:int> tokens", "close"),
    _pattern("vllm", "Estimated CUDA graph", rf"Estimated CUDA graph memory: <graphs_estimated:gib>{_G}"),
    _pattern(
        "vllm", "Graph capturing", rf"Graph capturing finished in [\d.]{{1,12}} secs?, took <graphs_actual:gib>{_G}"
    ),
    _pattern(
        "vllm",
        "CUDA graph pool",
        rf"CUDA graph pool memory: <graphs_actual:gib>{_G} \(actual\), "
        rf"<graphs_estimated:gib>{_G}",
    ),
    _pattern(
        "vllm",
        "is equivalent to",
        r"utilization=<utilisation:num> is equivalent to "
        r"--gpu-memory-utilization=<equivalent:num>",
    ),
    _pattern("vllm", "attention block size", r"attention block size to <block:int> tokens"),
    _pattern("vllm", "mamba page size", r"Padding mamba page size by <state_padding:num>%"),
    _pattern(
        "vllm", "padding layers", r"Add <padding_layers:int> padding layers, may waste at most <padding_waste:num>%"
    ),
    _pattern("vllm", "cache mode is set", r"cache mode is set to '<state_mode:text>'"),
    _pattern("vllm", "num_gpu_blocks_override", r"num_gpu_blocks_override=<blocks:int>", "close"),
    _pattern("vllm", "cp_world_size", r"KV cache size by the d?cp_world_size <dcp:int>"),
    _pattern("vllm", "memory for KV Cache as", rf"reserved <kv:gib>{_G} memory for KV Cache as specified", "open"),
    # debug lines of V1
    _pattern("vllm", "Requested memory", rf"Requested memory: <utilisation:num> \(util\), <limit:gib>{_G}"),
    _pattern("vllm", "peak memory increase", rf"torch peak memory increase: <activation:gib>{_G}"),
    _pattern("vllm", "forward increase", rf"non-torch forward increase memory: <non_torch:gib>{_G}"),
    _pattern("vllm", "weights memory:", rf"weights memory: <weights:gib>{_G}"),
    # the summary line of newer builds
    _pattern("vllm", "Free memory on device", rf"Free memory on device(?: \S{{1,20}})? \(<free:gib>/<total:gib>{_G}\)"),
    _pattern(
        "vllm",
        "GPU memory utilization",
        rf"esired GPU memory utilization (?:is )?"
        rf"\(<utilisation:num>, <limit:gib>{_G}\)",
    ),
    _pattern(
        "vllm",
        "Actual usage is",
        rf"Actual usage is <consumed:gib>{_G} for consumed memory"
        rf"(?: \(weights \+ non-torch\))?, <activation:gib>{_G} for peak activation"
        rf"(?:,? and <graphs_actual:gib>{_G} for CUDAGraph)?",
    ),
    _pattern(
        "vllm",
        "Actual usage is",
        rf"Actual usage is <weights:gib>{_G} for weights?, <activation:gib>{_G} for peak "
        rf"activation, <non_torch:gib>{_G} for non-torch memory"
        rf"(?:,? and <graphs_actual:gib>{_G} for CUDAGraph)?",
    ),
    _pattern("vllm", "to fit into", rf"--kv-cache-memory=<advised_fit:int>`? \([\d.]{{1,12}}{_G}\) to fit"),
    _pattern("vllm", "kv cache memory in use", rf"Current kv cache memory in use is <kv:gib>{_G}"),
    # refusals
    _pattern(
        "vllm", "KV cache is needed", rf"max seq len \(<length:int>\),? \(?<needed:gib>{_G} KV cache is needed", "close"
    ),
    _pattern("vllm", "available KV cache memory", rf"available KV cache memory \(<kv:gib>{_G}\)"),
    _pattern("vllm", "estimated maximum model", r"estimated maximum model length is <estimated:int>"),
    _pattern(
        "vllm",
        "stored in KV cache",
        r"max seq len \(<length:int>\) is larger than the maximum number of tokens that "
        r"can be stored in KV cache \(<tokens:int>\)",
        "close",
    ),
    # settings
    _pattern("vllm", "API server version", r"vLLM API server version <version:text>"),
    _pattern("vllm", "LLM engine (", r"LLM engine \(v?<version:text>\)"),
    _pattern("vllm", "store kv cache", r"Using <kv_dtype:text> data type to store kv cache"),
    *_setting("vllm", "length", "max_model_len", "max_seq_len", "--max-model-len"),
    *_setting("vllm", "utilisation", "gpu_memory_utilization", kind="num"),
    _pattern("vllm", "--gpu-memory-utilization", r"(?<!to\s)--gpu-memory-utilization[=\s]<utilisation:num>"),
    *_setting("vllm", "tp", "tensor_parallel_size", "--tensor-parallel-size", "-tp"),
    *_setting("vllm", "pp", "pipeline_parallel_size", "--pipeline-parallel-size"),
    *_setting("vllm", "dcp", "decode_context_parallel_size", "--decode-context-parallel-size"),
    *_setting("vllm", "spec_tokens", "num_speculative_tokens", "num_spec_tokens"),
    *_setting("vllm", "batched", "max_num_batched_tokens", "--max-num-batched-tokens"),
    *_setting("vllm", "block_size", "block_size", "--block-size"),
    *_setting("vllm", "kv_dtype", "kv_cache_dtype", "--kv-cache-dtype", kind="text"),
    *_setting("vllm", "state_dtype", "mamba_ssm_cache_dtype", "--mamba-ssm-cache-dtype", kind="text"),
    *_setting("vllm", "state_mode", "mamba_cache_mode", kind="text"),
    *_setting("vllm", "kv_exact", "kv_cache_memory_bytes"),
    _pattern("vllm", "--kv-cache-memory", r"(?<!`)--kv-cache-memory(?:-bytes)?[=\s]<kv_exact:int>(?![\d`])(?!\s?\()"),
    *_setting("vllm", "prefix_caching", "enable_prefix_caching", kind="text"),
    *_setting("vllm", "model", "model", "model_tag", "--model", kind="text"),
    _pattern("vllm", "vllm serve", r"vllm serve <model:text>"),
    # SGLang: "GB" there is GiB
    _pattern(
        "sglang",
        "KV Cache is allocated",
        r"KV Cache is allocated\. (?:dtype: (?:torch\.)?<kv_dtype:text>, )?"
        rf"#tokens: <tokens:int>, (?:K size: <kv_keys:gib>{_G}, V size: <kv_values:gib>|KV size: <kv:gib>){_G}",
    ),
    _pattern(
        "sglang",
        "Mamba Cache",
        r"Mamba Cache is allocated\. max_mamba_cache_size: <state_slots:int>, "
        rf"conv_state size: <conv_state:gib>{_G}, ssm_state size: <ssm_state:gib>{_G}",
    ),
    _pattern("sglang", "max_total_num_tokens", r"max_total_num_tokens=<tokens_total:int>"),
    _pattern("sglang", "max_running_requests", r"max_running_requests=<requests:int>"),
    _pattern("sglang", "context_len=", r"context_len=<length:int>"),
    _pattern("sglang", "available_gpu_mem", rf"available_gpu_mem=<free_end:gib>{_G}"),
    _pattern("sglang", "Load weight begin", rf"Load weight begin\. avail mem=<free_start:gib>{_G}", "open"),
    _pattern(
        "sglang",
        "Load weight end",
        r"Load weight end\.(?: \w{1,20}=[\w.]{1,60}(?: s)?,){0,5} "
        rf"avail mem=<free_loaded:gib>{_G}, mem usage=<weights:gib>{_G}",
    ),
    _pattern("sglang", "Memory pool end", rf"Memory pool end\. avail mem=<free_pool:gib>{_G}"),
    _pattern("sglang", "Using KV cache dtype", r"Using KV cache dtype: (?:torch\.)?<kv_dtype:text>"),
    *_setting("sglang", "fraction", "mem_fraction_static", "--mem-fraction-static", kind="num"),
    *_setting("sglang", "tp", "tp_size", "--tp-size", "--tp"),
    *_setting("sglang", "model", "model_path", "--model-path", kind="text"),
    # llama.cpp: MiB, and the cache is allocated whole at the start
    _pattern(
        "llama.cpp",
        "llama_kv_cache",
        r"llama_kv_cache\w{0,20}: size = <kv:mib> MiB \(\s{0,20}<tokens:int> cells, "
        r"<kv_layers:int> layers(?:, [\d/ ]{1,20}seqs)?(?:\), K \(<kv_dtype:text>\))?",
    ),
    _pattern("llama.cpp", "KV self size", r"KV self size = <kv:mib> MiB, K \(<kv_dtype:text>\)"),
    _pattern(
        "llama.cpp",
        "llama_memory_recurrent",
        r"llama_memory_recurrent: size = <state:mib> MiB \(\s{0,20}<state_slots:int> cell",
    ),
    _pattern("llama.cpp", "n_ctx", r"n_ctx = <length:int>"),
    _pattern("llama.cpp", "model buffer size", r"model buffer size = <weights:mib> MiB"),
    _pattern("llama.cpp", "compute buffer size", r"compute buffer size = <activation:mib> MiB"),
]
