import re
from html import unescape
from xml.etree import ElementTree

import pytest
from traitlets import TraitError

import kvlib as kv
from kvlib.cluster import plan, size_cluster
from kvlib.show import grid
from kvlib.show.cluster_panel import CARDS, KV_FORMATS, LAYOUTS, MAX_CARDS, USERS, ClusterPanel
from kvlib.show.panels import TOKENS, WEIGHT_FORMATS

SVG = "{http://www.w3.org/2000/svg}"
SMALL = kv.Model("small", (kv.Full(8, 128, 128),) * 32, (("attention", 8 * 10**9),), 4096, 32, max_context=131_072)
LARGE = kv.Model("large", (kv.Full(4, 128, 128),) * 96, (("attention", 175 * 10**9),), 8192, 64, title="Large & 175B")


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def rects(svg, css):
    return [rect for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect") if rect.get("class") == css]


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


@pytest.fixture
def panel():
    return ClusterPanel(models=[SMALL, LARGE])


@pytest.fixture
def revealed(panel):
    panel.model.value, panel.prediction.value = "large", 9
    panel.button.click()
    return panel


# ---------------------------------------------------------------- the picture


@pytest.mark.parametrize(
    ("name", "users", "split"),
    [
        ("llama-3.1-70b", 1, {"tp": 4, "pp": 3}),
        ("llama-3.1-405b", 1, {"tp": 8, "pp": 4}),
        ("qwen3-235b-a22b", 7, {"tp": 8, "pp": 2, "dp": 2}),
        ("deepseek-v3", 5, {"dp": 8, "ep": 8}),
        ("llama-3.1-8b", 2, {}),
    ],
)
def test_the_boxes_hold_what_the_plan_holds(name, users, split):
    judged = plan(name, 32_768, users, "h100-sxm", **split)
    kinds = grid.copies(judged)
    assert [kind.first for kind in kinds] == [1, *[kind.last + 1 for kind in kinds][:-1]]
    assert kinds[-1].last == judged.dp
    fullest = max((held for kind in kinds for held in kind.stages), key=sum)
    assert fullest == (
        judged.per_gpu.weights,
        judged.per_gpu.kv_cache,
        judged.per_gpu.activation,
        judged.per_gpu.runtime,
    )
    caches = sum((kind.last + 1 - kind.first) * sum(held[1] for held in kind.stages) for kind in kinds)
    one = judged.question.model.cache_bytes(32_768, tp=judged.tp)
    assert caches == users * one
    svg = grid.plan_picture(judged).svg
    assert len(rects(svg, "card")) == len(kinds) * judged.pp * judged.tp
    assert len(rects(svg, "group")) == len(kinds) * judged.pp
    assert len(rects(svg, "part")) == 4 * len(rects(svg, "card"))


def test_copies_that_hold_the_same_are_drawn_once():
    alike = plan("llama-3.1-8b", 8_192, 8, "h100-sxm", dp=4)
    assert [kind.label(4) for kind in grid.copies(alike)] == ["copies 1 to 4 of 4, all alike; one is drawn"]
    uneven = plan("llama-3.1-8b", 8_192, 9, "h100-sxm", dp=4)
    assert [kind.label(4) for kind in grid.copies(uneven)] == [
        "copy 1 of 4",
        "copies 2 to 4 of 4, all alike; one is drawn",
    ]
    assert "all alike" in grid.plan_picture(alike).svg


@pytest.mark.parametrize("split", [{"tp": 8, "pp": 30}, {"tp": 1, "pp": 80}, {"tp": 4, "pp": 1}, {"tp": 64}])
def test_every_box_is_inside_the_picture_and_none_lies_on_another(split):
    svg = grid.plan_picture(plan("llama-3.1-70b", 200_000, 1, "h100-sxm", domain=64, **split)).svg
    root = ElementTree.fromstring(svg)
    wide, tall = (float(n) for n in root.get("viewBox").split()[2:])
    seen = set()
    for rect in rects(svg, "card"):
        x, y, w, h = (float(rect.get(side)) for side in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + w <= wide
        assert y + h <= tall
        seen.add((x, y))
    assert len(seen) == len(rects(svg, "card"))
    for part in rects(svg, "part"):
        assert float(part.get("y")) >= 0


def test_a_plan_that_does_not_fit_says_so_in_picture_and_reading():
    full = plan("llama-3.1-70b", 2_000_000, 1, "h100-sxm", tp=8)
    picture = grid.plan_picture(full)
    assert "does not fit" in picture.svg
    assert re.search(r"DOES NOT FIT, [\d.]+ GB \([\d.]+ GiB\) over", picture.text)
    tops = [float(part.get("y")) for part in rects(picture.svg, "part")]
    assert min(tops) < min(float(card.get("y")) for card in rects(picture.svg, "card"))


def test_an_impossible_layout_cannot_be_drawn():
    with pytest.raises(ValueError, match="TP 3 does not divide the 64 query heads"):
        grid.plan_picture(plan("llama-3.1-70b", 1_000, 1, "h100-sxm", tp=3))


def test_the_reading_says_copies_stages_and_the_fullest_card():
    text = grid.plan_reading(plan("llama-3.1-70b", 2_000_000, 1, "h100-sxm", tp=4, pp=3))
    assert text.startswith("12 cards, 1 copy of 3 stages of 4 cards each. Fullest card, in stage 1: weights 12.1 GB")
    assert text.endswith("2.53 GB (2.36 GiB) free.")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({}, "no division"),
        ({"tp": 8}, "TP 8"),
        ({"tp": 8, "pp": 2, "dp": 2, "ep": 16, "dcp": 8}, "TP 8 × PP 2 × DP 2, EP 16, DCP 8"),
    ],
)
def test_a_layout_in_words(split, words):
    assert grid.layout_words(plan("deepseek-v3", 1_000, 2, "h200-sxm", **split)) == words


# ---------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    ("predicted", "words"),
    [
        (12, "You predicted 12 cards; right."),
        (10, "2 too few. It looks as if you shared the bytes out over labels"),
        (3, "9 too few. It looks as if you counted the weights only"),
        (50, "the smallest layout has 12: 38 too many."),
        (1, "You predicted 1 card; the smallest layout has 12: 11 too few."),
    ],
)
def test_the_verdict_names_the_usual_mistake(predicted, words):
    ranking = size_cluster("llama-3.1-70b", 2_000_000, 1, "h100-sxm")
    assert grid.verdict(ranking, predicted).endswith(words) or words in grid.verdict(ranking, predicted)


def test_the_verdict_knows_the_mistakes_about_users_and_the_bag():
    many = size_cluster("llama-3.1-8b", 131_072, 16, "h100-sxm")
    assert many.best.gpus != 16
    assert "you gave every user a copy of the weights" in grid.verdict(many, 16)
    assert "you counted one user" in grid.verdict(many, 1)
    loose = size_cluster("llama-3.1-70b", 1_000_000, 1, "h100-sxm", tp=8)
    assert loose.bag < loose.best.gpus
    assert "you cut the memory anywhere" in grid.verdict(loose, loose.bag)


def test_a_verdict_where_nothing_fits_and_one_without_a_prediction():
    nothing = size_cluster("llama-3.1-405b", 2_000_000, 1024, "rtx4090", max_gpus=8)
    assert grid.verdict(nothing, 5) == "You predicted 5 cards; no layout up to 8 cards fits."
    with pytest.raises(ValueError, match="predicted must be a number of cards, 1 or more; got 0"):
        grid.verdict(nothing, 0)


# ---------------------------------------------------------------- the panel


def test_no_number_is_shown_before_the_prediction(panel):
    for move in (lambda: None, lambda: setattr(panel.users, "value", 8), panel.button.click):
        move()
        assert (panel.svg.value, panel.details.value) == ("", "")
        assert "GiB" not in status(panel)
    assert status(panel).startswith("Write your prediction first")


def test_writing_the_prediction_alone_reveals_nothing(panel):
    panel.prediction.value = 4
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert "press Reveal" in status(panel)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(panel, wrong):
    panel.prediction.value = wrong
    panel.button.click()
    assert not panel.revealed
    assert status(panel).startswith("Write your prediction first")


def test_reveal_shows_cards_layouts_and_verdict_then_follows_every_control(revealed):
    assert status(revealed) == revealed.text
    assert status(revealed).startswith("You predicted 9 cards; ")
    assert "<caption" in revealed.details.value
    assert len(rects(revealed.svg.value, "card")) == revealed.result.best.gpus
    moves = (("tokens", 2_000_000), ("users", 16), ("kv_dtype", "fp8"), ("weight_dtype", "nvfp4"), ("gpu", "h200-sxm"))
    for control, value in (*moves, ("division", "TP 8: every group a node of eight"), ("model", "small")):
        before = label(revealed.svg.value)
        revealed.controls[control].value = value
        assert label(revealed.svg.value) != before, control
    assert revealed.result.best.tp == 8


def test_the_panel_counts_what_the_planner_counts(revealed):
    revealed.users.value, revealed.tokens.value, revealed.gpu.value = 32, 32_768, "l40s"
    expected = size_cluster(LARGE, 32_768, 32, "l40s", "bf16", "bf16", MAX_CARDS)
    assert revealed.result == expected
    assert f"{expected.best.gpus} cards" in status(revealed)


def test_where_nothing_fits_the_nearest_layout_is_drawn_too_full(revealed):
    revealed.users.value, revealed.tokens.value, revealed.gpu.value = 1024, 2_000_000, "rtx4090"
    assert revealed.result.best is None
    assert "no layout up to 256 cards holds" in status(revealed)
    assert "DOES NOT FIT" in label(revealed.svg.value)


def test_an_impossible_layout_is_explained_without_a_picture():
    odd = kv.Model("odd", (kv.Full(1, 64, 64),) * 4, (("attention", 10**9),), 71 * 64, 71)
    panel = ClusterPanel(models=[odd])
    panel.prediction.value, panel.division.value = 8, "TP 8: every group a node of eight"
    panel.button.click()
    assert panel.svg.value == ""
    assert "TP 8 does not divide the 71 query heads of odd" in status(panel)
    assert "impossible" in panel.details.value


def test_every_layout_of_the_menu_is_understood(revealed):
    for words in LAYOUTS:
        revealed.division.value = words
        assert revealed.result.tried or revealed.result.refused


def test_striping_helps_a_latent_model():
    panel = ClusterPanel("deepseek-v3", users=64)
    panel.division.value = "TP 8: every group a node of eight"
    without = panel.result.best.gpus
    panel.division.value = "TP 8 with its copies striped (DCP)"
    assert panel.result.best.dcp > 1
    assert panel.result.best.gpus < without / 2


def test_the_warning_beyond_the_trained_context(panel):
    panel.prediction.value = 1
    panel.button.click()
    assert "Careful" not in status(panel)
    panel.tokens.value = 200_000
    assert "Careful: small was trained for 131,072 tokens" in status(panel)


def test_the_layouts_are_there_without_a_kernel_or_a_button(panel):
    bundle = panel._repr_mimebundle_()
    for text in (unescape(bundle["text/html"]), bundle["text/plain"]):
        assert "fits, " in text
        assert re.search(r"\d GB \(\d+(\.\d+)? GiB\)", text)
    assert "<caption" in bundle["text/html"]
    assert "Run this notebook to move the controls." in bundle["text/html"]


@pytest.mark.parametrize("name", ["model", "gpu", "weight_dtype", "kv_dtype", "division", "users", "tokens"])
def test_the_panel_refuses_what_it_does_not_offer(panel, name):
    with pytest.raises(TraitError):
        panel.controls[name].value = "nonsense"


def test_the_prediction_must_be_a_number(panel):
    with pytest.raises(TraitError):
        panel.prediction.value = "12 cards"


def test_the_panel_refuses_an_empty_catalogue_and_an_unknown_model():
    with pytest.raises(ValueError, match=r"at least one kv\.Model"):
        ClusterPanel(models=[])
    with pytest.raises(TraitError):
        ClusterPanel("nonsense", models=[SMALL])


def test_every_control_has_a_description_with_its_unit_and_the_panel_a_class(panel):
    assert all(control.description for control in (*panel.controls.values(), panel.prediction))
    assert "tokens" in panel.tokens.description
    assert "cards" in panel.prediction.description
    assert {"panel", "panel-cluster"} <= set(panel._dom_classes)


def test_every_offer_of_the_catalogue_can_be_chosen():
    panel = ClusterPanel()
    assert panel.model.value == "llama-3.1-70b"
    assert [value for _, value in panel.model.options] == list(kv.models())
    assert all(kv.gpu(card).visible_bytes for card in CARDS)
    for name in kv.models():
        panel.model.value = name
    panel.model.value = "llama-3.1-8b"
    for control, values in (
        ("kv_dtype", KV_FORMATS),
        ("weight_dtype", WEIGHT_FORMATS),
        ("users", USERS),
        ("tokens", TOKENS),
    ):
        for value in values:
            panel.controls[control].value = value
