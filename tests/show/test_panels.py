import ast
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from traitlets import TraitError

import kvlib as kv
from kvlib.dtypes import DTYPES
from kvlib.show import receipt as bills
from kvlib.show import shape as shapes
from kvlib.show.panel import Panel, whole_slider
from kvlib.show.panels import KV_FORMATS, TOKENS, WEIGHT_FORMATS, CachePanel, ReceiptPanel
from kvlib.show.tables import table

SVG = "{http://www.w3.org/2000/svg}"
SMALL = kv.Model("small", (kv.Full(8, 128, 128),) * 32, (("all", 8 * 10**9),), max_context=131_072, title="Small & 8B")
LARGE = kv.Model("large", (kv.Full(96, 128, 128),) * 96, (("all", 175 * 10**9),))


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def parts(svg):
    found = {}
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        if rect.get("class") == "part":
            found[rect.get("data-part")] = found.get(rect.get("data-part"), 0) + int(rect.get("data-bytes"))
    return found


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


@pytest.fixture
def panel():
    return ReceiptPanel(models=[SMALL, LARGE])


@pytest.fixture
def cache():
    return CachePanel()


# ---------------------------------------------------------------- the base


class Doubler(Panel):
    def compute(self, n):
        if n == 13:
            raise ValueError("n must not be 13")
        return 2 * n

    def picture(self, result):
        return f'<svg aria-label="{result}"/>'

    def sentence(self, result):
        return f"twice is {result}, <b> & more"

    def table(self, result):
        return table("Twice", ("n",), [(result,)])


def test_moving_a_control_redraws():
    panel = Doubler({"n": whole_slider("Number", 0, 100, 1)})
    panel.controls["n"].value = 21
    assert (panel.result, panel.svg.value, status(panel)) == (42, '<svg aria-label="42"/>', "twice is 42, <b> & more")
    assert "<b>" not in panel.status.value
    assert ">42<" in panel.details.value


def test_an_error_reaches_the_line_that_set_the_value():
    panel = Doubler({"n": whole_slider("Number", 0, 100, 1)})
    before = panel.svg.value
    with pytest.raises(ValueError, match="n must not be 13"):
        panel.controls["n"].value = 13
    assert panel.svg.value == before


@pytest.mark.parametrize("value", [-1, 101, 999])
def test_a_slider_refuses_what_it_does_not_offer(value):
    slider = whole_slider("Number", 0, 100, 1)
    with pytest.raises(TraitError, match=f"Number must be from 0 to 100; got {value}"):
        slider.value = value
    assert slider.value == 1


def test_a_panel_shows_its_table_where_nothing_is_live():
    bundle = Doubler({"n": whole_slider("Number", 0, 100, 4)})._repr_mimebundle_()
    assert ">8<" in bundle["text/html"]
    assert bundle["text/plain"] == "Twice\nn\n-\n8"
    assert "application/vnd.jupyter.widget-view+json" in bundle


# ---------------------------------------------------------------- the receipt


@pytest.mark.parametrize("kv_dtype", KV_FORMATS)
@pytest.mark.parametrize("weight_dtype", WEIGHT_FORMATS)
@pytest.mark.parametrize("tokens", [1_024, 131_072, 2_000_000])
def test_the_receipt_adds_up(tokens, weight_dtype, kv_dtype):
    bill = bills.receipt(SMALL, tokens, weight_dtype, kv_dtype)
    weights = 8 * 10**9 * DTYPES[weight_dtype].bits / 8
    cached = sum(2 * 8 * 128 * tokens * DTYPES[kv_dtype].bits / 8 for _ in range(32))
    assert (bill.weight_bytes, bill.cache_bytes) == (-(-weights // 1), cached)
    assert bill.cards * 80 * 10**9 >= bill.total_bytes > (bill.cards - 1) * 80 * 10**9
    price = bills.rough_prices()[0]
    assert bill.usd_per_month(price) == pytest.approx(bill.cards * 1.70 * 365 * 24 / 12)


def test_the_prices_have_a_date_and_a_source():
    prices = bills.rough_prices()
    assert [(p.usd_per_gpu_hour, p.as_of) for p in prices] == [(1.70, "2025-10"), (2.65, "2026-06")]
    assert all(p.gpu == "H100" and p.terms and "SemiAnalysis" in p.source for p in prices)


@pytest.mark.parametrize(("tokens", "dtype"), [(-1, "bf16"), (1.5, "bf16"), (10, "fp7")])
def test_a_receipt_refuses(tokens, dtype):
    with pytest.raises(ValueError, match=r"got"):
        bills.receipt(SMALL, tokens, kv_dtype=dtype)


def test_the_receipt_panel_says_bytes_cards_and_dated_money(panel):
    assert status(panel) == panel.text
    assert status(panel) == (
        "Small & 8B with 131,072 tokens (131K) of context: weights 16 GB (14.9 GiB) + KV cache 17.2 GB (16 GiB) = "
        "33.2 GB (30.9 GiB). First rough count: 1 card of 80 GB (74.5 GiB). "
        "Renting: $1.70 an hour in October 2025 or $2.65 an hour in June 2026; later lessons refine both."
    )
    panel.tokens.value = 2_000_000
    assert "4 cards of 80 GB" in status(panel)
    assert "$6.80 an hour in October 2025 or $10.60 an hour in June 2026" in status(panel)


def test_the_receipt_panel_warns_beyond_the_trained_context(panel):
    assert "Careful" not in status(panel)
    panel.tokens.value = 200_000
    assert status(panel).endswith(
        "Careful: this model was not trained for this; its configuration ends at 131,072 tokens."
    )
    panel.model.value = "large"  # its longest context is not known
    assert "Careful" not in status(panel)


def test_the_picture_of_the_receipt_holds_its_bytes(panel):
    for tokens in TOKENS:
        for name in ("small", "large"):
            panel.tokens.value, panel.model.value = tokens, name
            bill = panel.result
            assert parts(panel.svg.value) == {"weights": bill.weight_bytes, "KV cache": bill.cache_bytes}
            assert f"{kv.size(bill.total_bytes)}. That fills {bill.cards:,} card" in label(panel.svg.value)


def test_every_control_of_the_receipt_counts(panel):
    panel.tokens.value = 1_000_000
    for control, value in ((panel.kv_dtype, "fp8"), (panel.weight_dtype, "mxfp4"), (panel.model, "large")):
        before = label(panel.svg.value)
        control.value = value
        assert label(panel.svg.value) != before


def test_the_receipt_is_there_without_a_kernel(panel):
    bundle = panel._repr_mimebundle_()
    for text in (unescape(bundle["text/html"]).replace("<span>$</span>", "$"), bundle["text/plain"]):
        for needed in ("16 GB (14.9 GiB)", "17.2 GB (16 GiB)", "$1.70", "October 2025", "SemiAnalysis"):
            assert needed in text
    assert "<caption" in bundle["text/html"]
    panel.tokens.value = 1_024
    assert "134 MB (128 MiB)" in panel._repr_mimebundle_()["text/plain"]


@pytest.mark.parametrize("control", ["model", "tokens", "weight_dtype", "kv_dtype"])
def test_the_receipt_refuses_what_it_does_not_offer(panel, control):
    with pytest.raises(TraitError):
        getattr(panel, control).value = "nonsense"


def test_the_receipt_refuses_an_empty_catalogue_and_an_unknown_model():
    with pytest.raises(ValueError, match=r"at least one kv\.Model"):
        ReceiptPanel(models=[])
    with pytest.raises(TraitError):
        ReceiptPanel(model="nonsense", models=[SMALL])


def test_the_receipt_offers_the_catalogue():
    panel = ReceiptPanel()
    assert [value for _, value in panel.model.options] == list(kv.models())
    for name in kv.models():
        panel.model.value = name
        assert panel.result.weight_bytes == kv.model(name).weight_bytes()


@pytest.mark.parametrize("make", [ReceiptPanel, CachePanel])
def test_every_control_has_a_description_and_the_panel_a_class(make):
    panel = make(models=[SMALL]) if make is ReceiptPanel else make()
    assert all(control.description for control in panel.controls.values())
    assert {"panel", panel.css} <= set(panel._dom_classes)
    assert all("tokens" in c.description for c in (panel.tokens,))


# ---------------------------------------------------------------- the cache


def product(shape):
    """The bytes that the printed formula gives when a reader multiplies it out."""
    left = shapes.formula(shape).split(" = ")[0]
    left = re.sub(r"(?<=\d),(?=\d)", "", left)
    left = re.sub(r"\((key and value|bf16|[a-z0-9_]+)\)", "", left)
    return eval_product(re.sub(r"[A-Za-z]+", "", left).replace("×", "*"))


def eval_product(text):
    def value(node):
        if isinstance(node, ast.BinOp):
            a, b = value(node.left), value(node.right)
            return a * b if isinstance(node.op, ast.Mult) else a + b
        return node.value

    return value(ast.parse(re.sub(r"\s+", " ", text).strip(), mode="eval").body)


@pytest.mark.parametrize("dtype", KV_FORMATS)
@pytest.mark.parametrize("kind", list(shapes.KINDS))
@pytest.mark.parametrize("tokens", [1_024, 32_768, 2_000_000])
def test_the_formula_multiplies_out_to_the_bytes(kind, tokens, dtype):
    shape = shapes.Shape(kind, 61, 8, 4, 128, 4_096, 512, 64, tokens, dtype)
    assert product(shape) == shape.cache_bytes
    assert f"= {shape.cache_bytes:,} bytes" in shapes.formula(shape)


@pytest.mark.parametrize(
    ("kind", "kv_heads", "queries", "name"),
    [
        ("heads", 32, 1, "MHA"),
        ("heads", 8, 4, "GQA"),
        ("heads", 1, 32, "MQA"),
        ("sliding", 8, 4, "GQA, sliding window"),
        ("latent", 8, 4, "MLA"),
    ],
)
def test_an_attention_has_its_name(kind, kv_heads, queries, name):
    assert shapes.Shape(kind, 2, kv_heads, queries, 64, 1_024, 512, 64, 100, "bf16").name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "kind must be one of heads, sliding, latent; got 'magic'"),
        ({"layers": 0}, "layers must be .* got 0"),
        ({"rope_dim": -1}, "rope_dim must be .* got -1"),
        ({"head_dim": 1.5}, "head_dim must be .* got 1.5"),
    ],
)
def test_a_shape_refuses(change, message):
    good = dict(zip(shapes.Shape.__dataclass_fields__, ("heads", 2, 8, 4, 64, 1_024, 512, 64, 9, "bf16"), strict=True))
    with pytest.raises(ValueError, match=message):
        shapes.Shape(**(good | change))


GQA = shapes.Shape("heads", 32, 8, 4, 128, 4_096, 512, 64, 32_768, "bf16")  # exactly 4 GiB


@pytest.mark.parametrize(
    ("kind", "predicted", "words"),
    [
        ("heads", 4.294967296, "right."),
        ("heads", 4.3, "right."),
        ("heads", 4.0, "7 % too low. It looks as if you wrote the number of GiB"),
        ("heads", 17.18, "4 × too high. It looks as if you counted the query heads"),
        ("heads", 2.147, "2 × too low. It looks as if you counted keys or values, not both"),
        ("heads", 0.134, "32.1 × too low. It looks as if you counted one layer"),
        ("heads", 5.0, "16 % too high."),
        ("sliding", 4.295, "8 × too high. It looks as if you counted every token"),
        ("latent", 2.416, "2 × too high. It looks as if you counted a key and a value"),
        ("latent", 1.0737, "11 % too low. It looks as if you left out the rotary key"),
    ],
)
def test_the_verdict_names_the_usual_mistake(kind, predicted, words):
    shape = shapes.Shape(kind, *(getattr(GQA, name) for name in list(GQA.__dataclass_fields__)[1:]))
    said = shapes.verdict(shape, predicted)
    assert words in said
    assert said.endswith(words) or "It looks" in words
    assert kv.size(shape.cache_bytes) in said


def test_a_verdict_on_an_empty_cache_is_possible():
    empty = shapes.Shape("heads", 32, 8, 4, 128, 4_096, 512, 64, 0, "bf16")
    assert "inf" in shapes.verdict(empty, 1.0)


@pytest.mark.parametrize("predicted", [0, -1, float("nan"), float("inf")])
def test_a_verdict_needs_a_prediction(predicted):
    with pytest.raises(ValueError, match="predicted_gb must be a number of GB above 0"):
        shapes.verdict(GQA, predicted)


def test_no_number_is_shown_before_the_prediction(cache):
    for move in (lambda: None, lambda: setattr(cache.layers, "value", 80), cache.button.click):
        move()
        assert (cache.svg.value, cache.details.value) == ("", "")
        assert "bytes" not in status(cache)
        assert "GiB" not in status(cache)
    assert status(cache).startswith("Write your prediction first")


def test_writing_the_prediction_alone_reveals_nothing(cache):
    cache.prediction.value = 4.3
    assert (cache.svg.value, cache.details.value) == ("", "")
    assert "press Reveal" in status(cache)


@pytest.mark.parametrize("wrong", [0, -3, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(cache, wrong):
    cache.prediction.value = wrong
    cache.button.click()
    assert not cache.revealed
    assert status(cache).startswith("Write your prediction first")


def test_reveal_shows_bar_formula_and_verdict_then_follows_the_controls(cache):
    cache.prediction.value = 17.18
    cache.button.click()
    assert "4 × too high. It looks as if you counted the query heads" in status(cache)
    assert "2 (key and value) × 32 layers × 8 KV heads × head size 128 × 32,768 tokens × 2 bytes (bf16)" in status(
        cache
    )
    assert sum(parts(cache.svg.value).values()) == 4 * kv.GiB
    assert "your prediction 17.2 GB" in label(cache.svg.value)
    cache.queries_per_kv.value = 1
    assert sum(parts(cache.svg.value).values()) == 4 * kv.GiB  # query heads cache nothing
    cache.kv_heads.value = 32
    assert sum(parts(cache.svg.value).values()) == 16 * kv.GiB
    assert ": right. MHA, 32 query heads on 32 KV heads" in status(cache)
    cache.kind.value = "latent"
    assert parts(cache.svg.value) == {"latent": 2**10 * 2**20, "rotary key": 2**27}
    cache.prediction.value = 0
    assert "You predicted" not in status(cache)
    assert cache.svg.value


@pytest.mark.parametrize("kind", list(shapes.KINDS))
def test_only_the_controls_that_count_are_shown(cache, kind):
    cache.prediction.value = 1
    cache.button.click()
    cache.kind.value = kind
    shown = {name for name, control in cache.controls.items() if control.layout.display != "none"}
    other = {"tokens": 1_024, "dtype": "fp8", "layers": 7, "kv_heads": 2, "head_dim": 64, "window": 2_048}
    other |= {"rank": 256, "rope_dim": 32}
    for name, value in other.items():
        before = cache.result.cache_bytes
        old = cache.controls[name].value
        cache.controls[name].value = value
        assert (cache.result.cache_bytes != before) == (name in shown)
        cache.controls[name].value = old


def test_the_cache_is_there_without_a_kernel_or_a_button(cache):
    bundle = cache._repr_mimebundle_()
    for text in (bundle["text/html"], bundle["text/plain"]):
        assert "4.29 GB (4 GiB)" in text
        assert "131,072 B" in text


@pytest.mark.parametrize("name", ["kind", "layers", "kv_heads", "head_dim", "window", "rank", "tokens", "dtype"])
def test_the_cache_refuses_what_it_does_not_offer(cache, name):
    with pytest.raises(TraitError):
        cache.controls[name].value = 999 if name not in ("kind", "dtype") else "nonsense"


def test_the_prediction_must_be_a_number(cache):
    with pytest.raises(TraitError):
        cache.prediction.value = "4 GB"
