import re
from html import unescape
from xml.etree import ElementTree

import pytest
from traitlets import TraitError

import kvlib as kv
from kvlib.public_logs import logs
from kvlib.show import log_view as views
from kvlib.show import one_gpu as plans
from kvlib.show.memory_panels import ACTIVATIONS, KV_FORMATS, LogPanel, MemoryPanel
from kvlib.show.panels import TOKENS

SVG = "{http://www.w3.org/2000/svg}"
GiB, MiB = 2**30, 2**20


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def parts(svg):
    rects = ElementTree.fromstring(svg).iter(f"{SVG}rect")
    return {rect.get("data-part"): int(rect.get("data-bytes")) for rect in rects if rect.get("class") == "part"}


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


@pytest.fixture(scope="module")
def memory():
    return MemoryPanel()


@pytest.fixture
def panel(memory):
    """One panel for all tests, since its catalogue takes a while; every test begins with a fresh question."""
    memory.revealed = False
    start = {"model": "llama-3.1-8b", "card": "h100-sxm", "weight_dtype": "bf16", "kv_dtype": "bf16"}
    for name, value in (
        start | {"graphs": "inside", "utilisation": 90, "activation": 1_536, "tokens": 131_072}
    ).items():
        memory.controls[name].value = value
    memory.prediction.value = -1
    memory.redraw()
    return memory


# ---------------------------------------------------------------- one GPU, by hand

LLAMA = kv.model("llama-3.1-8b")


def test_the_card_is_shared_out_as_the_formula_says():
    plan = plans.one_gpu(LLAMA, "h100-sxm")
    total = round(79.10 * GiB)
    left = int(0.9 * total) - 16_060_522_496 - round(0.26 * GiB) - 1_536 * MiB - round(0.23 * GiB)
    assert plan.budget.kv_bytes == pytest.approx(left, abs=2)
    assert plan.pool.blocks == plan.budget.kv_bytes // (16 * 131_072)
    assert plan.requests == plan.pool.blocks // 8_192 == 3


def test_graphs_on_top_leave_more_for_the_cache():
    inside, above = (plans.one_gpu(LLAMA, "h100-sxm", graphs=where).budget for where in ("inside", "on top"))
    assert above.kv_bytes - inside.kv_bytes == plans.GRAPHS
    assert sum(part for _, part in above.parts) == sum(part for _, part in inside.parts) == above.total


@pytest.mark.parametrize(
    ("card", "bytes_", "how"),
    [
        ("h100-sxm", round(79.10 * GiB), "engines printed"),
        ("b200", 183_359 * MiB, "driver shows"),
    ],
)
def test_the_memory_of_a_card_has_a_source(card, bytes_, how):
    seen, why = plans.visible(kv.gpu(card))
    assert seen == bytes_
    assert how in why


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card": "tpu-v5e"}, "nobody recorded what the driver shows for tpu-v5e"),
        ({"card": "h1000"}, "gpu must be one of"),
        ({"utilisation": 0}, "utilisation must be a share"),
        ({"graphs": "somewhere"}, 'graphs must be "inside" or "on top"; got \'somewhere\''),
        ({"weight_dtype": "fp7"}, "dtype must be one of"),
        ({"activation": -1}, "activation must be a number of bytes"),
        ({"tokens": 0}, None),
    ],
)
def test_bad_settings_are_named(change, message):
    arguments = {"model": LLAMA, "card": "h100-sxm", **change}
    if message is None:  # what a pool refuses is an answer, not an error
        assert "max_model_len must be a whole number" in plans.one_gpu(**arguments).problem
    else:
        with pytest.raises(ValueError, match=message):
            plans.one_gpu(**arguments)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"tokens": 1_000_000}, r"1,000,000 tokens needs 122\.07 GiB, and 54\.\d\d GiB are left\. The longest"),
        ({"card": "l4", "model": "llama-3.1-70b"}, "no room for a cache, .* GiB are missing"),
        ({"kv_dtype": "fp8_ds_mla"}, "This cannot be laid out: kv_dtype fp8_ds_mla is for MLA layers"),
        ({"model": "deepseek-v4-pro", "card": "b300"}, "The engine refuses to start"),
    ],
)  # fmt: skip
def test_a_server_that_would_not_start_says_why(arguments, problem):
    given = {"model": "llama-3.1-8b", "card": "h100-sxm", **arguments}
    plan = plans.one_gpu(kv.model(given.pop("model")), **given)
    assert plan.pool is None
    assert plan.requests == 0
    assert re.search(problem, plan.problem)
    assert plans.one_gpu_sentence(plan) == f"{plan.problem}."
    assert "no pool" in plans.one_gpu_table(plan).text
    assert plans.verdict(plan, 0).endswith("it is 0: right.")
    assert plans.verdict(plan, 3) == "You predicted 3, it is 0."


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        (3, "right."),
        (3.39, "right."),
        (3.3, "right."),
        (3.9, "right."),  # three whole ones
        (4, "used the whole card, not the engine's share of it."),
        (5, "used the whole card, not the engine's share of it."),
        (44, "left out the weights."),
        (20, "You predicted 20, it is 33."),
        (37, "took the label for GB, and all of it for weights and cache."),
    ],
)
def test_a_verdict_names_the_usual_mistake(predicted, words):
    tokens = 131_072 if predicted < 10 else 13_107
    said = plans.verdict(plans.one_gpu(LLAMA, "h100-sxm", tokens=tokens), predicted)
    if predicted == 5:
        assert said == "You predicted 5, it is 3."
    else:
        assert said.endswith(words), said


def test_every_slip_of_the_verdict_is_reached():
    plan = plans.one_gpu(LLAMA, "h100-sxm", utilisation=60, activation=8_192, tokens=8_192)
    for name, left in plans._slips(plan).items():
        assert plans.verdict(plan, left // plan.pool.needed_bytes).endswith(f"It looks as if you {name}."), name


@pytest.mark.parametrize("predicted", [-1, float("nan"), float("inf")])
def test_a_verdict_needs_a_prediction(predicted):
    with pytest.raises(ValueError, match="predicted must be a number of requests"):
        plans.verdict(plans.one_gpu(LLAMA, "h100-sxm"), predicted)


# ---------------------------------------------------------------- the panel of the card


def test_no_number_of_the_answer_is_shown_before_the_prediction(panel):
    for move in (lambda: None, lambda: setattr(panel.utilisation, "value", 80), panel.button.click):
        move()
        assert (panel.svg.value, panel.details.value) == ("", "")
        assert "blocks" not in status(panel)
    assert status(panel).startswith("Write your prediction first")


def test_the_question_holds_what_is_needed_for_it(panel):
    for needed in ("Llama 3.1 8B", "8.03 billion weights", "79.10 GiB", "90%", "131,072 tokens", "press Reveal"):
        assert needed in status(panel)


def test_reveal_shows_bar_sum_and_verdict_then_follows_the_controls(panel):
    panel.prediction.value = 3
    panel.button.click()
    assert "You predicted 3, it is 3: right." in status(panel)
    assert parts(panel.svg.value)["KV cache: 3 full requests"] == 3 * 16 * GiB
    assert "limit 76.4 GB" in label(panel.svg.value)
    panel.kv_dtype.value = "fp8"
    assert parts(panel.svg.value)["KV cache: 6 full requests"] == 6 * 8 * GiB
    panel.prediction.value = -1
    assert "You predicted" not in status(panel)
    assert panel.svg.value


def test_zero_is_a_prediction(panel):
    panel.tokens.value = 1_000_000
    panel.prediction.value = 0
    panel.button.click()
    assert "You predicted 0, it is 0: right." in status(panel)
    assert "The longest that fits has" in status(panel)


@pytest.mark.parametrize("wrong", [-3, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(panel, wrong):
    panel.prediction.value = wrong
    panel.button.click()
    assert not panel.revealed
    assert status(panel).startswith("Write your prediction first")


def test_every_control_counts(panel):
    panel.prediction.value = 1
    panel.button.click()
    other = {"model": "qwen3-8b", "card": "h200-sxm", "weight_dtype": "fp8", "kv_dtype": "int8_pth", "graphs": "on top",
             "utilisation": 70, "activation": 4_096, "tokens": 8_192}  # fmt: skip
    for name, value in other.items():
        before = label(panel.svg.value)
        panel.controls[name].value = value
        assert label(panel.svg.value) != before, name


def test_the_bar_is_as_long_as_the_card_for_every_model_that_starts(panel):
    panel.prediction.value = 1
    panel.button.click()
    panel.card.value, panel.tokens.value = "b300", 8_192
    started = 0
    for name in kv.models():
        panel.model.value = name
        if panel.result.pool:
            started += 1
            assert sum(parts(panel.svg.value).values()) == panel.result.budget.total
            assert panel.result.requests >= 1
        else:
            assert panel.result.problem
    assert started > 50


@pytest.mark.parametrize("kv_dtype", KV_FORMATS)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v2-lite", "qwen3.5-27b"])
def test_every_format_gives_an_answer(panel, model, kv_dtype):
    panel.model.value, panel.kv_dtype.value = model, kv_dtype
    assert panel.result.pool or panel.result.problem


def test_the_numbers_are_there_without_a_kernel_or_a_button(panel):
    bundle = panel._repr_mimebundle_()
    for text in (bundle["text/html"], bundle["text/plain"]):
        for needed in ("84.9 GB (79.1 GiB)", "58.2 GB (54.2 GiB)", "3.39", "16 tokens each"):
            assert needed in text
    assert "<caption" in bundle["text/html"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "gpt-9"), ("card", "tpu-v5e"), ("weight_dtype", "fp7"), ("kv_dtype", "q4_0"), ("graphs", ""),
     ("utilisation", 100), ("utilisation", 49), ("activation", 5), ("tokens", 7)],
)  # fmt: skip
def test_the_panel_refuses_what_it_does_not_offer(panel, name, value):
    with pytest.raises(TraitError):
        panel.controls[name].value = value


def test_every_control_has_a_description_with_a_unit_and_the_panel_a_class(panel):
    assert all(control.description for control in (*panel.controls.values(), panel.prediction))
    for name, unit in (("utilisation", "%"), ("activation", "MiB"), ("tokens", "tokens")):
        assert unit in panel.controls[name].description
    assert {"panel", "panel-memory"} <= set(panel._dom_classes)
    assert {value for _, value in panel.tokens.options} == set(TOKENS)
    assert ACTIVATIONS[0] == 0


def test_a_wrong_start_is_refused():
    with pytest.raises(TraitError):
        MemoryPanel(model="gpt-9")
    with pytest.raises(ValueError, match="gpu must be one of"):
        MemoryPanel(card="h1000")


# ---------------------------------------------------------------- the log


def test_the_question_comes_first():
    panel = LogPanel()
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert status(panel).startswith("5 lines in the box. Which part takes most of the memory")
    panel.button.click()
    assert "Tokens: predicted 460,464, logged 460,496 (rounding)" in status(panel)
    assert "Every difference has a name." in status(panel)


@pytest.mark.parametrize("log", logs(), ids=lambda log: log.id)
def test_every_example_is_explained(log):
    panel = LogPanel(log.id)
    panel.button.click()
    assert panel.result.explained.agrees
    terms = {term.name: term.bytes for term in panel.result.explained.terms}
    assert parts(panel.svg.value) == {name: n for name, n in terms.items() if n > 0}
    assert "Where the memory is" in panel.details.value
    assert "Prediction beside the log" in panel.details.value


def test_another_example_asks_again():
    panel = LogPanel()
    panel.button.click()
    panel.example.value = "hybrid-80gb"
    assert panel.model.value == "qwen3.5-27b"
    assert "Which part" in status(panel)
    assert panel.svg.value == ""
    panel.button.click()
    assert "Tokens: predicted 313,650, logged 313,650 (exact)" in status(panel)
    assert label(panel.svg.value).startswith("Memory in the log: vLLM, Qwen3.5 27B: weights")


def test_an_empty_box_says_what_to_do():
    panel = LogPanel(None)
    assert panel.paste.value == ""
    panel.button.click()
    assert status(panel).startswith("Paste the start-up lines")
    assert panel._repr_mimebundle_()["text/plain"]


@pytest.mark.parametrize("garbage", ["Killed", "<script>alert(1)</script>", "\x00\x01", "9" * 100_000, "\n\n x \n"])
def test_garbage_gets_a_sentence_and_no_picture(garbage):
    panel = LogPanel(None)
    panel.paste.value = garbage
    panel.button.click()
    assert status(panel).startswith("Nothing to explain: text must contain start-up lines")
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert "<script>" not in panel.status.value
    assert "Nothing to explain" in panel._repr_mimebundle_()["text/html"]


def test_the_static_page_escapes_what_was_pasted():
    panel = LogPanel(None)
    panel.paste.value = "GPU KV cache size: 42,656 tokens\nmodel='<img src=x onerror=alert(1)>'\ndtype <script>"
    panel.button.click()
    assert "<img" not in panel.details.value + panel.status.value + panel._repr_mimebundle_()["text/html"]


def test_a_log_without_bytes_has_no_bar_but_an_answer():
    panel = LogPanel(None)
    panel.paste.value = "GPU KV cache size: 70,240 tokens, Maximum concurrency for 2,048 tokens per request: 34.30x"
    panel.button.click()
    assert panel.svg.value == ""
    assert "Concurrency: predicted 34.30x, logged 34.30x (exact)" in status(panel)
    assert "missing from this log" in status(panel)


def test_a_figure_that_nothing_explains_is_called_so():
    panel = LogPanel("hybrid-80gb")
    panel.paste.value = panel.paste.value.replace("313,650", "413,650")
    panel.button.click()
    assert "Not explained: " in status(panel)
    assert "tokens" in status(panel).split("Not explained: ")[1]
    assert "Every difference has a name" not in status(panel)


def test_a_model_can_be_given_or_looked_for():
    panel = LogPanel("dense-80gb")
    panel.button.click()
    panel.model.value = None
    assert "model not known" in status(panel)
    panel.model.value = "llama-3.1-8b"
    assert "Llama 3.1 8B" in status(panel)
    with pytest.raises(TraitError):
        panel.model.value = "gpt-9"


def test_a_negative_cache_is_told_and_not_drawn():
    panel = LogPanel(None)
    panel.paste.value = (
        "model weights take 6.59GiB; non_torch_memory takes 8.29GiB; PyTorch activation peak memory takes 4.93GiB; "
        "the rest of the memory reserved for KV Cache is -7.83GiB.\n"
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
    )
    panel.button.click()
    assert "KV cache" not in parts(panel.svg.value)
    assert "-8.41 GB (-7.83 GiB)" in panel.details.value


def test_the_explanation_is_there_without_a_kernel_or_a_button():
    bundle = LogPanel("hybrid-80gb")._repr_mimebundle_()
    for text in (bundle["text/html"], bundle["text/plain"]):
        for needed in ("Where the memory is", "Prediction beside the log", "What to know about it", "313,650"):
            assert needed in text


def test_every_control_of_the_log_has_a_description_and_the_panel_a_class():
    panel = LogPanel()
    assert all(control.description for control in panel.controls.values())
    assert {"panel", "panel-log"} <= set(panel._dom_classes)
    assert panel.button.description == "Explain"


def test_nothing_is_explained_as_nothing():
    empty = views.log_view("")
    assert empty.explained is None
    assert views.log_picture(empty) == ""
    assert views.log_table(empty) is None
    assert views.log_question(empty).startswith("Paste")
