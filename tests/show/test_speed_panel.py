import math
import re
from html import unescape
from xml.etree import ElementTree

import pytest
from traitlets import TraitError

import kvlib as kv
from kvlib.flops import decode_flops, prefill_flops
from kvlib.lab.machine import Machine, Rate
from kvlib.lab.transformer import Comparison, Prediction, Race
from kvlib.show import roof, roofline
from kvlib.show.cluster_panel import CARDS
from kvlib.show.panels import TOKENS
from kvlib.show.speed_panel import BATCHES, EXAMPLE, PRECISIONS, MachineView, RooflinePanel
from kvlib.speed import decode_seconds, prefill_seconds
from kvlib.traffic import cache_read, weights_read

SVG = "{http://www.w3.org/2000/svg}"
SMALL = kv.Model("small", (kv.Full(8, 128, 128),) * 32, (("attention", 8 * 10**9),), 4096, 32, max_context=131_072)
LARGE = kv.Model("large", (kv.Full(4, 128, 128),) * 96, (("attention", 175 * 10**9),), 8192, 64, title="Large & 175B")


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def marks(svg):
    found = [c for c in ElementTree.fromstring(svg).iter(f"{SVG}circle") if c.get("class") == "mark"]
    return {c.get("data-letter"): (float(c.get("cx")), float(c.get("cy"))) for c in found}


def roof_path(svg):
    """The roof's path as x, y of its start, its ridge and its end."""
    (path,) = [p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.get("class") == "roof"]
    x1, y1, x2, y2, x3 = map(
        float, re.fullmatch(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)H([\d.]+)", path.get("d")).groups()
    )
    return (x1, y1), (x2, y2), (x3, y2)


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


def under_test(batch=64, context=8_192, weights="bf16", kv_dtype="bf16", card="h100-sxm", name="llama-3.1-8b"):
    return roofline.operation(kv.model(name), card, batch, context, weights, kv_dtype)


@pytest.fixture
def panel():
    return RooflinePanel(models=[SMALL, LARGE])


@pytest.fixture
def revealed(panel):
    panel.prediction.value = 5
    panel.button.click()
    return panel


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "deepseek-v3", "gemma-3-27b", "mamba2-2.7b"])
@pytest.mark.parametrize(("batch", "context"), [(1, 1_024), (64, 8_192), (1_024, 131_072)])
def test_an_operation_is_what_the_formulas_say(name, batch, context):
    m, op = kv.model(name), under_test(batch, context, name=name)
    assert op.flops == pytest.approx(batch * decode_flops(m, context), rel=1e-9)
    assert op.prompt_flops == pytest.approx(prefill_flops(m, context), rel=1e-9)
    assert op.read == pytest.approx(weights_read(m, batch) + batch * cache_read(m, context), rel=1e-9)
    assert op.decode == decode_seconds(m, "h100-sxm", context, batch)
    assert op.prefill == prefill_seconds(m, "h100-sxm", context)
    assert op.decode.ideal == pytest.approx(max(op.read / op.card.bandwidth, op.flops / op.peak))
    assert (op.decode.bound == "memory") == (op.intensity < op.ridge)


def test_the_ridge_is_that_of_the_dense_peak():
    assert under_test().ridge == pytest.approx(989e12 / 3.35e12, rel=1e-3)
    assert under_test(weights="fp8", kv_dtype="fp8").ridge == pytest.approx(1979e12 / 3.35e12, rel=1e-3)
    mixed = under_test(weights="fp8", kv_dtype="bf16").ridge
    assert 989 / 3.35 < mixed < 1979 / 3.35


def test_an_operation_that_does_not_fit_says_how_much_it_is():
    full = under_test(1_024, 131_072)
    assert not full.fits
    assert (
        "Careful: this does not fit, it is 17.6 TB (16 TiB) and the card shows 85.5 GB"
        in roofline.operation_sentence(full)
    )
    assert under_test(1).fits
    assert "Careful" not in roofline.operation_sentence(under_test(1))


# ---------------------------------------------------------------- the picture


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize(("batch", "context"), [(1, 1_024), (1_024, 1_024), (64, 2_000_000)])
def test_decode_and_prefill_lie_on_the_roof_and_inside_the_picture(card, batch, context):
    svg = roofline.operation_picture(under_test(batch, context, card=card)).svg
    (x1, y1), (x2, y2), (x3, _) = roof_path(svg)
    wide, tall = (float(n) for n in ElementTree.fromstring(svg).get("viewBox").split()[2:])
    for x, y in marks(svg).values():
        assert x1 - 1 <= x <= x3 + 1 <= wide
        assert 0 < y < tall
        on_roof = y1 + (y2 - y1) * (x - x1) / (x2 - x1) if x < x2 else y2
        assert y == pytest.approx(on_roof, abs=1.5)


def test_more_readers_move_the_point_towards_the_ridge_and_longer_contexts_away():
    few, many, long = (
        marks(roofline.operation_picture(under_test(*at)).svg)["D"] for at in ((1, 1_024), (64, 1_024), (64, 8_192))
    )
    assert few[0] < long[0] < many[0]
    assert few[1] > long[1] > many[1]


def test_a_prediction_that_is_too_slow_lies_below_the_point_and_one_too_fast_above():
    op = under_test()
    for factor, below in ((2, True), (0.5, False)):
        found = marks(roofline.operation_picture(op, factor * float(op.decode.ideal)).svg)
        assert (found["?"][1] > found["D"][1]) == below
        assert found["?"][0] == found["D"][0]


def test_the_picture_has_its_axes_its_units_and_a_reading():
    drawn = roofline.operation_picture(under_test())
    text = " ".join(t.text or "" for t in ElementTree.fromstring(drawn.svg).iter(f"{SVG}text"))
    for words in ("FLOPs per byte read from memory", "1 PFLOP/s", "ridge: 295", "3.35 TB/s", "memory", "computing"):
        assert words in text
    assert label(drawn.svg) == drawn.text
    assert "reads 83.7 GB (78 GiB), 14.8 FLOPs per byte, left of the ridge: memory sets the speed" in drawn.text


@pytest.mark.parametrize("bad", [0, -1.0, math.inf, math.nan])
def test_a_roof_needs_rates_above_zero(bad):
    mark = roof.Mark("D", "decode", 1.0, 1.0)
    for peak, bandwidth, points in (
        (bad, 1.0, [mark]),
        (1.0, bad, [mark]),
        (1.0, 1.0, [roof.Mark("D", "d", 1.0, bad)]),
    ):
        with pytest.raises(ValueError, match="must be a finite number above 0"):
            roof.roof_picture(peak, bandwidth, points, "title", "reading")


@pytest.mark.parametrize(
    ("x", "words"),
    [(989e12, "989 TFLOP/s"), (2.5e15, "2.5 PFLOP/s"), (64e9, "64 GFLOP/s"), (1e12, "1 TFLOP/s"), (5, "5 FLOP/s")],
)
def test_rates_as_people_read_them(x, words):
    assert roof.rate(x) == words


@pytest.mark.parametrize(
    ("x", "words"), [(4.562e-3, "4.56 ms"), (1088.4, "1,090 s"), (12.3e-6, "12.3 µs"), (1.0, "1 s"), (0.99996, "1 s")]
)
def test_durations_as_people_read_them(x, words):
    assert roof.duration(x) == words


# ---------------------------------------------------------------- the verdict

W, CACHE = 15_009_849_344, 64 * 8_192 * 131_072


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [
        (W + CACHE, "right."),
        (1.04 * (W + CACHE), "right."),
        (W, "you forgot the caches"),
        (2 * 8_030_261_248, "you read the weights only"),
        (64 * W + CACHE, "you read the weights for each of the 64 sequences"),
        (64 * W, "you read the weights for each of the 64 sequences"),
        (W + CACHE / 64, "you read one sequence's cache"),
        (3 * (W + CACHE), "3 times too high."),
        ((W + CACHE) / 2.5, "2.5 times too low."),
    ],
)
def test_the_verdict_names_the_usual_mistake_in_bytes(nbytes, words):
    said = roofline.verdict(under_test(), nbytes / 3.35e12)
    assert words in said
    assert said.startswith("You predicted ")


def test_the_verdict_names_the_usual_mistake_in_flops():
    op = under_test()
    assert "you computed only" in roofline.verdict(op, float(op.step.work))
    assert "with sparsity" in roofline.verdict(op, float(op.step.work) / 2)
    bound = under_test(1_024, 1_024, name="llama-2-7b", card="h100-sxm", weights="bf16")
    assert "you added reading and computing" in roofline.verdict(bound, float(bound.step.work + bound.step.read))
    small = under_test(1_024, 1, name="llama-3.1-8b")
    assert small.decode.bound == "compute"
    assert "with sparsity" in roofline.verdict(small, float(small.step.work) / 2)


def test_the_verdict_knows_the_embedding():
    op = under_test(1)
    nbytes = kv.model("llama-3.1-8b").weight_bytes() + 8_192 * 131_072
    assert "you read the embedding as well" in roofline.verdict(op, nbytes / 3.35e12)


def test_the_verdict_knows_total_and_active_weights():
    m, op = kv.model("deepseek-v3"), under_test(8, name="deepseek-v3")
    cache = 8 * cache_read(m, 8_192)
    assert "you read every expert" in roofline.verdict(op, (m.weight_bytes() + cache) / 3.35e12)
    assert "you read the experts of one token" in roofline.verdict(op, (weights_read(m, 1) + cache) / 3.35e12)


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_a_verdict_needs_a_time(bad):
    with pytest.raises(ValueError, match="predicted must be seconds above 0; got"):
        roofline.verdict(under_test(), bad)


# ---------------------------------------------------------------- the panel


def test_no_number_is_shown_before_the_prediction(panel):
    for move in (lambda: None, lambda: setattr(panel.batch, "value", 8), panel.button.click):
        move()
        assert (panel.svg.value, panel.details.value) == ("", "")
        assert "GiB" not in status(panel)
    assert status(panel).startswith("Write your prediction first")


def test_writing_the_prediction_alone_reveals_nothing(panel):
    panel.prediction.value = 4
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert "press Reveal" in status(panel)


@pytest.mark.parametrize("wrong", [0, -3, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(panel, wrong):
    panel.prediction.value = wrong
    panel.button.click()
    assert not panel.revealed
    assert status(panel).startswith("Write your prediction first")


def test_reveal_shows_roof_table_and_verdict_then_follows_every_control(revealed):
    assert status(revealed) == revealed.text
    assert status(revealed).startswith("You predicted 5 ms; ")
    assert "<caption" in revealed.details.value
    assert set(marks(revealed.svg.value)) == {"D", "P", "?"}
    moves = (
        ("tokens", 131_072),
        ("batch", 64),
        ("precision", "fp8 weights, fp8 cache"),
        ("gpu", "b200"),
        ("model", "large"),
    )
    for control, value in moves:
        before = label(revealed.svg.value)
        revealed.controls[control].value = value
        assert label(revealed.svg.value) != before, control


def test_the_panel_counts_what_the_formulas_count(revealed):
    revealed.batch.value, revealed.tokens.value, revealed.gpu.value = 32, 32_768, "l40s"
    expected = decode_seconds(SMALL, "l40s", 32_768, 32)
    assert revealed.result.decode == expected
    assert f"takes {roof.duration(expected.ideal)} at best (TPOT)" in status(revealed)
    assert f"about {roof.duration(expected.estimate)} in a real engine" in status(revealed)


def test_the_warning_beyond_the_trained_context(revealed):
    assert "was trained for" not in status(revealed)
    revealed.tokens.value = 200_000
    assert "Careful: small was trained for 131,072 tokens" in status(revealed)


def test_the_table_is_there_without_a_kernel_or_a_button(panel):
    bundle = panel._repr_mimebundle_()
    for text in (unescape(bundle["text/html"]), bundle["text/plain"]):
        assert re.search(r"\d GB \(\d+(\.\d+)? GiB\)", text)
        assert "prefill of one prompt" in text
    assert "<caption" in bundle["text/html"]
    assert "Run this notebook to move the controls." in bundle["text/html"]


@pytest.mark.parametrize("name", ["model", "gpu", "precision", "batch", "tokens"])
def test_the_panel_refuses_what_it_does_not_offer(panel, name):
    with pytest.raises(TraitError):
        panel.controls[name].value = "nonsense"


def test_the_prediction_must_be_a_number(panel):
    with pytest.raises(TraitError):
        panel.prediction.value = "4 ms"


def test_the_panel_refuses_an_empty_catalogue_and_an_unknown_model():
    with pytest.raises(ValueError, match=r"at least one kv\.Model"):
        RooflinePanel(models=[])
    with pytest.raises(TraitError):
        RooflinePanel("nonsense", models=[SMALL])


def test_every_control_has_a_description_with_its_unit_and_the_panel_a_class(panel):
    assert all(control.description for control in (*panel.controls.values(), panel.prediction))
    assert "tokens" in panel.tokens.description
    assert "sequences" in panel.batch.description
    assert "ms" in panel.prediction.description
    assert {"panel", "panel-roofline"} <= set(panel._dom_classes)


def test_every_offer_can_be_chosen():
    panel = RooflinePanel()
    panel.prediction.value = 1
    panel.button.click()
    assert panel.model.value == "llama-3.1-8b"
    assert [value for _, value in panel.model.options] == list(kv.models())
    for name in kv.models():
        panel.model.value = name
        assert set(marks(panel.svg.value)) == {"D", "P", "?"}
    panel.model.value = "llama-3.1-8b"
    for control, values in (("precision", PRECISIONS), ("gpu", CARDS), ("batch", BATCHES), ("tokens", TOKENS)):
        for value in values:
            panel.controls[control].value = value


# ---------------------------------------------------------------- the reader's own machine


def raced(slower=1.0):
    """A race on a made-up machine of 10 GB/s and 100 GFLOP/s."""

    def rate(what, unit, value):
        return Rate(what, unit, value / 2, value / 3, value, 3)

    machine = Machine(rate("copy", "B", 8e9), rate("vector", "B", 1e10), rate("matrix", "FLOP", 1e11))
    phases = [
        Comparison(Prediction(name, n, 0.1, ()), 0.15 * slower, 0.1 * slower, 0.2 * slower)
        for name, n in (("prefill", 128), ("decode", 135))
    ]
    return Race(machine, *phases)


class Fake:
    model = SMALL


def test_the_machine_view_shows_what_was_measured_and_what_the_rates_allow():
    view = MachineView(Fake, raced())
    reading, writing = view.found.phases
    assert reading.flops == prefill_flops(SMALL, 128)
    assert writing.flops == decode_flops(SMALL, 135)
    assert writing.read == weights_read(SMALL, 1, "fp32") + cache_read(SMALL, 135, "fp32")
    assert view.found.ideal(reading) == pytest.approx(reading.flops / 1e11)
    assert view.found.ideal(writing) == pytest.approx(writing.read / 1e10)
    assert "100 ms measured" in status(view)
    assert set(marks(view.svg.value)) == {"D", "P"}
    assert "This machine, a moment ago: 100 GFLOP/s, 10 GB/s" in unescape(view.details.value)
    assert {"panel", "panel-machine"} <= set(view._dom_classes)


def test_what_is_stored_of_the_machine_view_is_the_same_on_every_machine():
    one, other = (MachineView(Fake, raced(slower))._repr_mimebundle_() for slower in (1, 2))
    for kind in ("text/plain", "text/html"):
        assert one[kind] == other[kind]
        assert "An example, not your machine" in one[kind]
    assert "move the controls" not in one["text/html"]
    assert 'aria-label="' in one["text/html"]


def test_the_example_is_within_two_as_the_lesson_says():
    assert len(EXAMPLE.phases) == 2
    for phase in EXAMPLE.phases:
        assert 1 <= phase.seconds / EXAMPLE.ideal(phase) <= 2
