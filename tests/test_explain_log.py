import random
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlib.log import Explanation, LogError, explain_log
from kvlib.model import Full, Model
from tests.engine_rows import GIB, ROWS, SHAPES, ids, model_of, settings_of, shape

TEXTS = tomllib.loads((Path(__file__).parent / "data" / "startup_logs.toml").read_text(encoding="utf-8"))["log"]
BY_ID = {row["id"]: row for row in ROWS}
DERIVED = [row for row in ROWS if row.get("derive")]
HYBRID = [row for row in DERIVED if "expected" in row]
GIVEN = ("kv_dtype", "tp", "block", "in_flight", "spec_tokens", "state_mode", "state_dtype", "definition")


def render(row):
    """The figures of a row as the lines of the engine that printed them, with the noise of a real log around them."""
    makers = {"sglang": sglang_lines, "llama.cpp": llama_lines}
    lines = makers.get(row["engine"], vllm_lines)(row)
    noisy = [
        f"(EngineCore pid=12{i}) INFO 05-0{i % 9} 17:1{i % 6}:33 [x.py:{i}] {line}" for i, line in enumerate(lines)
    ]
    return "\n".join(["$ serve some model", *noisy, "INFO:     Application startup complete.", ""])


def vllm_lines(row):
    has = row.get
    lines = []
    if has("total_gpu_gib") and has("gpu_memory_utilization") and has("peak_torch_gib"):
        lines.append(
            f"Memory profiling results: total_gpu_memory={row['total_gpu_gib']}GiB "
            f"peak_torch_memory={row['peak_torch_gib']}GiB non_torch_memory={row['non_torch_gib']}GiB "
            f"kv_cache_size={row['available_kv_gib']}GiB gpu_memory_utilization={row['gpu_memory_utilization']:.2f}"
        )
        lines.append(f"Loading model weights took {row['weights_gib']} GB")
    elif {"weights_gib", "non_torch_gib", "activation_gib", "available_kv_gib"} <= set(row):
        if has("total_gpu_gib") and has("gpu_memory_utilization"):
            limit = has("limit_gib") or round(row["total_gpu_gib"] * row["gpu_memory_utilization"], 2)
            lines.append(
                f"the current vLLM instance can use total_gpu_memory ({row['total_gpu_gib']:.2f}GiB) x "
                f"gpu_memory_utilization ({row['gpu_memory_utilization']:.2f}) = {limit:.2f}GiB"
            )
        lines.append(
            f"model weights take {row['weights_gib']:.2f}GiB; non_torch_memory takes {row['non_torch_gib']:.2f}GiB; "
            f"PyTorch activation peak memory takes {row['activation_gib']:.2f}GiB; the rest of the memory reserved for "
            f"KV Cache is {row['available_kv_gib']:.2f}GiB."
        )
    else:
        lines += [f"Model loading took {row['weights_gib']} GiB memory and 5.4 seconds"] if has("weights_gib") else []
        lines += (
            [f"Available KV cache memory: {round(row['available_kv_gib'], 2)} GiB"] if has("available_kv_gib") else []
        )
    lines += [
        f"Chunked prefill is enabled with max_num_batched_tokens={n}." for n in [has("max_num_batched_tokens")] if n
    ]
    lines += [f"# GPU blocks: {row['blocks']}, # CPU blocks: 2048"] if has("blocks") else []
    lines += [f"GPU KV cache size: {row['tokens']:,} tokens"] if has("tokens") and not has("blocks") else []
    if has("max_concurrency") and has("max_model_len"):
        lines.append(
            f"Maximum concurrency for {row['max_model_len']:,} tokens per request: {row['max_concurrency']:.2f}x"
        )
    if has("needed_kv_gib"):
        estimated = (
            f"the estimated maximum model length is {row['estimated_max_len']}." if has("estimated_max_len") else ""
        )
        lines.append(
            f"ValueError: To serve at least one request with the models's max seq len ({has('max_model_len')}), "
            f"({row['needed_kv_gib']} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({has('available_kv_gib', 1.0)} GiB). Based on the available memory, {estimated} Try increasing"
        )
    lines += [f"Graph capturing finished in 1 secs, took {row['cudagraph_gib']} GiB"] if has("cudagraph_gib") else []
    return lines


def sglang_lines(row):
    keys, values = row["k_gib"], row["v_gib"]
    lines = [f"KV Cache is allocated. #tokens: {row['tokens']}, K size: {keys:.2f} GB, V size: {values:.2f} GB"]
    if "state_slots" in row:
        lines.append(
            f"Mamba Cache is allocated. max_mamba_cache_size: {row['state_slots']}, "
            f"conv_state size: {row['conv_gib']}GB, ssm_state size: {row['ssm_gib']}GB"
        )
    return [*lines, f"max_total_num_tokens={row['tokens']}, max_running_requests=48, context_len=16384"]


def llama_lines(row):
    mib = row["available_kv_gib"] * 1024
    return [f"llama_kv_cache: size = {mib:.2f} MiB ({row['tokens']} cells, 61 layers, 1/1 seqs), K (f16): 1 MiB"]


def known(row):
    """The settings of a row's `derive`, without those that say nothing."""
    options = settings_of(row)
    length = {"max_model_len": options["max_model_len"]} if row["derive"].get("max_model_len") else {}
    return {name: options[name] for name in GIVEN if options[name] is not None} | length


# --- the texts as they were printed


@pytest.mark.parametrize("log", TEXTS, ids=lambda log: log["id"])
def test_printed_log_is_explained(log):
    told = explain_log(log["text"], model_named(log.get("shape")))
    assert told.agrees or not told.checks, repr(told)
    assert told.used_lines
    printed = log["text"].splitlines()
    for number, text in told.used_lines:
        assert text in printed[number - 1] or len(text) >= 290
    for term in told.terms:
        assert term.line is None or term.line in dict(told.used_lines)
    assert "<table>" in told._repr_html_()
    assert all(item in repr(told) for item in told.missing)


def model_named(name):
    """A shape of engine_logs.json, or else a model of the catalogue."""
    return name if name not in SHAPES else shape(name)


def text_of(name):
    return next(log["text"] for log in TEXTS if log["id"] == name)


def test_the_complete_hybrid_log():
    told = explain_log(text_of("v1-hybrid"), shape("qwen3.5-35b-a3b"))
    assert told["tokens"].predicted == told["tokens"].logged == 2_158_880
    assert told["concurrency"].predicted == pytest.approx(108.5)
    assert told["block size"].verdict == "exact"
    assert told.pool.blocks == 4_123
    assert told.settings["kv_dtype"] == ("fp8", "found")
    assert told.settings["state_mode"] == ("align", "found")
    assert told.settings["definition"] == ("old", "found")
    terms = {term.name: (round(term.bytes / GIB, 2), term.line) for term in told.terms}
    assert terms == {
        "weights": (21.86, 1),
        "CUDA graphs (estimate, reserved)": (0.43, 9),
        "KV cache": (82.42, 4),
    }
    assert any("implies a total of 116 to 123 GiB" in note for note in told.notes)  # it was a GB10 with 119.6
    assert any("total memory" in item for item in told.missing)
    assert any("activation" in item for item in told.missing)


def test_logs_that_were_not_used_to_write_the_rules():
    told = explain_log(text_of("unseen-qwen3-next"), "qwen3-next-80b-a3b")
    assert told["tokens"].predicted == told["tokens"].logged == 767_552
    assert told.settings["state_dtype"] == ("bf16", "found")
    assert told.settings["state_mode"] == ("none", "log")  # the engine switched prefix caching off after all
    # three lines are enough to find what the others state: fp8 KV, two ranks, no prefix caching, blocks of 1,072
    lines = text_of("unseen-qwen3-next").splitlines()
    brief = explain_log("\n".join(lines[-4:-1]), "qwen3-next-80b-a3b")
    found = {name: value for name, (value, how) in brief.settings.items() if how == "found"}
    assert (found["kv_dtype"], found["tp"], found["state_mode"]) == ("fp8", 2, "none")
    assert brief.pool.block_tokens == 1_072
    told = explain_log(text_of("unseen-27b-hybrid"), "qwen3.5-27b")
    assert told["tokens"].predicted == told["tokens"].logged == 313_650
    assert told.total_bytes == pytest.approx(80 * GIB, abs=1)


def test_every_gib_of_an_h100_is_attributed():
    told = explain_log(text_of("summary-h100"), "llama-3.1-8b")
    assert told.total_bytes == pytest.approx(79.25 * GIB, abs=1)
    terms = {term.name: term.bytes / GIB for term in told.terms}
    assert terms["non-torch"] == pytest.approx(15.26 - 15.0)
    assert terms["outside the utilisation limit"] == pytest.approx(79.25 - 72.91 - 0.23)
    assert told["KV memory"].predicted / GIB == pytest.approx(72.91 - 15.26 - 1.44)
    assert told["tokens"].verdict == "rounding"
    assert told["tokens"].low <= 460_496 <= told["tokens"].high
    assert told["tokens"].difference == 460_496 - told["tokens"].predicted


def test_advice_of_the_engine_is_recomputed():
    told = explain_log(text_of("summary-gb10"))
    margin = 110.06 - 55.99 - 3.78 - 0.94 - 52_830_620_611 / GIB
    assert margin == pytest.approx(150 / 1024, abs=0.02)
    assert told["advised --kv-cache-memory"].agrees
    assert told["KV memory"].verdict == "exact"


def test_a_subtracted_graph_estimate_is_recognised_by_the_sum():
    row = BY_ID["L122"]
    text = (
        "Requested memory: 0.955 (util), 29.98 GiB\nModel loading took 18.19 GiB memory\n"
        "torch peak memory increase: 1.78GiB; non-torch forward increase memory: 0.27GiB\n"
        "Estimated CUDA graph memory: 0.45 GiB total\nAvailable KV cache memory: 9.28 GiB\n"
    )
    told = explain_log(text, model_of(row))
    assert any("subtracts the estimate" in note for note in told.notes)
    assert told["KV memory"].predicted / GIB == pytest.approx(9.29)
    on_top = explain_log(text.replace("9.28", "9.74"), model_of(row))
    assert on_top["KV memory"].agrees
    assert not any("subtracts the estimate" in note for note in on_top.notes)


def test_a_rounded_utilisation_is_named():
    text = vllm_lines({**BY_ID["L046"], "limit_gib": None})
    text[0] = "total_gpu_memory=79.15GiB gpu_memory_utilization=0.70"
    told = explain_log("\n".join(text), shape("phi-4"))
    assert told["KV memory"].verdict == "rounding"
    assert "0.6960" in told["KV memory"].why


def test_sglang_pools_and_states():
    told = explain_log(text_of("sglang-hybrid"), shape("nemotron-nano-9b-v2"))
    assert told.engine == "sglang"
    # max_mamba_cache_size + 1 slots of 27 layers x 128 x 80 x 128 x 4 B
    assert told["recurrent state"].predicted == 49 * 27 * 128 * 80 * 128 * 4
    assert told["convolution window"].predicted == 49 * 27 * (128 * 80 + 2 * 8 * 128) * 3 * 2
    assert told["tokens"].agrees


def test_llama_cpp_keeps_states_in_fp32():
    text = "llama_memory_recurrent: size =  598.50 MiB (     4 cells,  64 layers,  4 seqs), R (f32)"
    told = explain_log(text, shape("qwen3.5-27b"))
    assert told["recurrent state"].predicted == 4 * 48 * (48 * 128 * 128 + 3 * 10_240) * 4 == 598.5 * 2**20
    assert told["recurrent state"].verdict == "exact"
    assert any("KV cache" in item for item in told.missing)


def test_sliding_pools_of_llama_cpp_are_told_apart():
    gemma = shape("gemma-4-31b")
    full, window = 10 * 2 * 4 * 512 * 2 * 8_192 / 2**20, 50 * 2 * 16 * 256 * 2 * 1_536 / 2**20
    told = explain_log(
        f"llama_kv_cache: size = {full:.2f} MiB (  8192 cells,  10 layers,  1/1 seqs), K (f16):\n"
        f"llama_kv_cache: size = {window:.2f} MiB (  1536 cells,  50 layers,  1/1 seqs), K (f16):\n",
        gemma,
    )
    assert told.agrees
    assert any("the full layers" in note for note in told.notes)
    assert any("the window layers" in note for note in told.notes)


# --- the public rows as text


@pytest.mark.parametrize("row", HYBRID, ids=ids)
def test_hybrid_rows_to_the_token(row):
    told = explain_log(render(row), model_of(row), **known(row))
    assert told["tokens"].logged == row["tokens"]
    assert told.pool.reported_tokens == row["tokens"]
    assert told.pool.blocks == row["expected"]["N"]
    assert told.agrees, repr(told)
    if "max_concurrency" in row and "max_model_len" in row:
        assert told["concurrency"].verdict == "exact"


@pytest.mark.parametrize("row", HYBRID, ids=ids)
def test_hybrid_rows_without_being_told_the_settings(row):
    told = explain_log(render(row), model_of(row))
    assert told.agrees, repr(told)
    assert told.pool.reported_tokens == row["tokens"]
    assert "found" in {how for _, how in told.settings.values()}


@pytest.mark.parametrize("row", [row for row in DERIVED if "expected" not in row], ids=ids)
def test_uniform_rows_and_refusals(row):
    told = explain_log(render(row), model_of(row), **known(row))
    assert told.checks
    assert told.agrees, repr(told)
    if row["id"] == "L004":
        assert told["tokens"].verdict == "minimum over ranks"
        assert "one rank's" in told["tokens"].why
    elif "tokens" in told and "tokens" in row:
        assert told["tokens"].verdict in ("exact", "rounding")


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_every_public_row_gets_an_answer(row):
    told = explain_log(render(row))
    assert told.used_lines
    assert told.model is None
    assert told.missing or told.notes


def test_the_recipe_says_fp8_and_the_tokens_say_bf16():
    row = BY_ID["L118"]
    text = (
        render(row)
        + "\nINFO non-default args: {'kv_cache_dtype': 'fp8', 'max_model_len': 262144, 'tensor_parallel_size': 2}"
    )
    told = explain_log(text, model_of(row))
    assert told.settings["kv_dtype"] == ("bf16", "contradicts log")
    assert told.pool.reported_tokens == row["tokens"]
    assert any("states another kv_dtype" in note for note in told.notes)


def test_the_pipeline_bug_is_named():
    row = BY_ID["L010"]
    text = render(row) + "\n--pipeline-parallel-size 2"
    told = explain_log(text, model_of(row))
    assert told["needed memory"].verdict == "exact"
    assert any("vllm#34076" in note for note in told.notes)


def test_settings_are_read_from_the_engine_lines():
    text = (
        "INFO vLLM API server version 0.20.1\n"
        "INFO non-default args: {'model_tag': 'nvidia/Qwen3.5-27B-NVFP4', 'max_model_len': 153500, "
        "'kv_cache_dtype': 'fp8_e4m3', 'tensor_parallel_size': 2, 'speculative_config': "
        "{'method': 'mtp', 'num_speculative_tokens': 3}, 'enable_prefix_caching': True}\n" + render(BY_ID["L143"])
    )
    told = explain_log(text)
    assert told.model.name == "qwen3.5-27b"
    assert any("recognised by the name" in note for note in told.notes)
    stated = {name: value for name, (value, how) in told.settings.items() if how == "log"}
    assert stated == {
        "tp": 2,
        "kv_dtype": "fp8",
        "spec_tokens": 3,
        "state_mode": "align",
        "max_model_len": 153_500,
    }
    assert told.settings["definition"] == ("old", "found")
    assert told.pool.tokens_old == 46_400
    assert told.agrees


def test_asynchronous_scheduling_doubles_what_is_in_flight():
    row = BY_ID["L166"]
    text = render(row) + "\nAsynchronous scheduling is enabled.\nmax_num_batched_tokens=2496"
    told = explain_log(text, model_of(row))
    assert told.settings["in_flight"][0] == 4_992
    assert told.pool.reported_tokens == row["tokens"]


def test_a_pinned_cache_is_exact_to_the_byte():
    row = BY_ID["L169"]
    text = f"vllm serve x --kv-cache-memory={row['kv_bytes']} --block-size 64\n" + render(row)
    told = explain_log(text, model_of(row), in_flight=4_096)
    assert told["tokens"].predicted == told["tokens"].logged == 338_928
    assert told["tokens"].verdict == "exact"


# --- ranks, starts, contradictions


def test_the_poorest_rank_counts():
    lines = [
        f"(Worker_TP{rank}) Available KV cache memory: {gib} GiB" for rank, gib in enumerate((8.11, 8.02, 8.2, 8.11))
    ]
    told = explain_log("\n".join([*lines, "GPU KV cache size: 178,880 tokens"]), model_of(BY_ID["L004"]), tp=4)
    assert told["tokens"].verdict in ("rounding", "exact")  # 8.02 GiB is the poorest, and explains the tokens
    assert any("one line per rank" in note for note in told.notes)
    assert next(term.bytes for term in told.terms if term.name == "KV cache") == round(8.02 * GIB)


def test_of_two_starts_the_last_counts():
    text = render(BY_ID["L139"]) + render({**BY_ID["L139"], "available_kv_gib": 26.6, "tokens": 809_733})
    told = explain_log(text, model_of(BY_ID["L139"]), **known(BY_ID["L139"]))
    assert told.starts == 2
    assert told["tokens"].logged == 809_733
    assert told.pool.blocks == 556
    assert any("one decimal" in note for note in told.notes)


def test_a_contradiction_is_shown_not_hidden():
    told = explain_log(
        "Available KV cache memory: 10.0 GiB\nGPU KV cache size: 900,000 tokens", "llama-3.1-8b", tp=1, kv_dtype="bf16"
    )
    assert not told.agrees
    (wrong,) = told.unexplained
    assert wrong.name == "tokens"
    assert wrong.predicted == 10 * GIB // 2_097_152 * 16
    assert wrong.difference == 900_000 - wrong.predicted
    assert "off" in repr(told)


def test_wrapped_coloured_and_windows_lines():
    text = text_of("v1-hybrid")
    plain = explain_log(text, shape("qwen3.5-35b-a3b"))
    wrapped = text.replace("GPU KV cache size: ", "GPU KV\n    cache size:\n").replace("\n", "\r\n")
    coloured = "".join(f"\x1b[36m{line}\x1b[0m\n" for line in text.splitlines())
    for variant in (wrapped, coloured, text.encode(), "\ufeff" + text + "\x00\x01"):
        told = explain_log(variant, shape("qwen3.5-35b-a3b"))
        assert [(c.name, c.verdict) for c in told.checks] == [(c.name, c.verdict) for c in plain.checks]


def test_an_unknown_model_still_gets_ratios():
    told = explain_log("GPU KV cache size: 32,768 tokens\nMaximum concurrency for 4,096 tokens per request: 8.00x")
    assert told.pool is None
    assert told["concurrency"].verdict == "exact"
    hybrid = explain_log("GPU KV cache size: 53,328 tokens\nMaximum concurrency for 4,096 tokens per request: 36.91x")
    assert "hybrid" in hybrid["concurrency"].why


def test_a_model_the_engine_could_not_start():
    told = explain_log("tensor_parallel_size=3\nGPU KV cache size: 32,768 tokens", Model("m", (Full(8, 128, 128),)))
    assert told.pool is None
    assert any("could not lay this model out" in note for note in told.notes)


# --- nothing but LogError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "got an empty text"),
        ({"text": " \n\t"}, "got an empty text"),
        ({"text": None}, "text must be the text of a start-up log; got NoneType"),
        ({"text": 17}, "got int"),
        ({"text": "Hello, world"}, "found none in 12 characters"),
        ({"text": "--max-model-len 4096"}, "found none"),
        ({"text": b"\x00\xff\xfe" * 1_000}, "found none"),
        ({"text": "GPU KV cache size: 1 tokens", "model": "gpt-9"}, "model must be .*gpt-9"),
        ({"text": "GPU KV cache size: 1 tokens", "model": 5}, "model must be a Model"),
        ({"text": "GPU KV cache size: 1 tokens", "model": ()}, "model must be a Model"),
        ({"text": "GPU KV cache size: 1 tokens", "speed": 5}, "settings must be among max_model_len.*got speed"),
        ({"text": "GPU KV cache size: 1 tokens", "model": "llama-3.1-8b", "tp": 3}, "tp must divide the 8 KV heads"),
        ({"text": "GPU KV cache size: 1 tokens", "model": "llama-3.1-8b", "definition": 1}, "definition must be"),
    ],
)
def test_what_cannot_be_explained(arguments, message):
    with pytest.raises(LogError, match=message):
        explain_log(**arguments)
    assert issubclass(LogError, ValueError)


EVERY = [log["text"] for log in TEXTS] + [render(row) for row in DERIVED]
NAMES = ("llama-3.1-8b", "qwen3.5-27b", "gemma-4-31b", "deepseek-v3.2")


def survives(text, model=None):
    """Explain, or refuse with a LogError; everything about the answer can be shown."""
    try:
        told = explain_log(text, model)
    except LogError:
        return
    assert isinstance(told, Explanation)
    assert repr(told)
    assert told._repr_html_()
    assert told.used_lines or "refused" in " ".join(told.notes)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.integers(0, 10**9))
def test_fuzz_random_text_around_real_lines(noise, seed):
    rng = random.Random(seed)
    lines = rng.choice(EVERY).splitlines()
    rng.shuffle(lines)
    lines.insert(rng.randrange(len(lines) + 1), noise)
    survives("\n".join(lines[: rng.randrange(1, len(lines) + 1)]), shape(rng.choice(NAMES)))
    survives(noise)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_fuzz_damaged_logs(seed):
    rng = random.Random(seed)
    text = "\n".join(rng.sample(EVERY, rng.randint(1, 3)))
    text = text[rng.randrange(len(text)) :] if rng.random() < 0.3 else text[: rng.randrange(1, len(text))]
    text = "".join(rng.choice("0123456789.,-x ()\n\x00é٣") if rng.random() < 0.03 else letter for letter in text)
    survives(text, rng.choice([None, *map(shape, NAMES)]))


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 10**18),
    length=st.integers(0, 10**18),
    gib=st.floats(-1e9, 1e9),
    ratio=st.floats(0, 1e9),
    blocks=st.integers(0, 10**18),
    name=st.sampled_from([None, "llama-3.1-8b", "qwen3.5-27b"]),
)
def test_fuzz_absurd_figures(tokens, length, gib, ratio, blocks, name):
    text = (
        f"Available KV cache memory: {gib:.2f} GiB\nGPU KV cache size: {tokens:,} tokens\n"
        f"Maximum concurrency for {length:,} tokens per request: {ratio:.2f}x\n"
    )
    model = shape(name) if name else None
    survives(text, model)
    survives(text + f"# GPU blocks: {blocks}, # CPU blocks: 0\ntensor_parallel_size={length}", model)


def test_ten_megabytes_take_seconds():
    filler = "INFO 01-01 00:00:00 [loggers.py:1] Engine 000: Avg throughput: 0.0 tokens/s, GPU KV cache usage: 1.0%\n"
    text = filler * (10_000_000 // len(filler) // 2)
    text = text + text_of("v1-hybrid") + text
    assert len(text) > 9_900_000
    began = time.perf_counter()
    told = explain_log(text, shape("qwen3.5-35b-a3b"))
    assert time.perf_counter() - began < 10
    assert told.agrees


@pytest.mark.parametrize(
    "unit", ["GPU KV cache size: ", "# GPU blocks: 7 ", " ", "model weights take 1", "\x1b[", "max seq len ("]
)
def test_time_grows_with_the_text_and_no_faster(unit):
    def seconds(length):
        text = unit * (length // len(unit)) + "GPU KV cache size: 16 tokens"
        began = time.perf_counter()
        survives(text)
        return time.perf_counter() - began

    small, large = min(seconds(200_000) for _ in range(3)), seconds(2_000_000)
    assert large < 40 * small + 0.5  # ten times the text; a quadratic scan would take a hundred times as long


def test_repeated_lines_by_the_hundred_thousand():
    text = "GPU KV cache size: 42,656 tokens\nAvailable KV cache memory: 6.51 GiB\n" * 70_000
    began = time.perf_counter()
    told = explain_log(text, "qwen3-8b")
    assert time.perf_counter() - began < 20
    assert told["tokens"].logged == 42_656
