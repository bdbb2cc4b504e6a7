import math
import re
from html import unescape
from itertools import pairwise
from random import Random
from xml.etree import ElementTree

import pytest

from kvlib.lab.dilution import OddsLine
from kvlib.lab.published_drift import length_results
from kvlib.lab.score import wilson
from kvlib.show import drift_axes, drift_maps
from kvlib.show import drift_pictures as pictures
from kvlib.show.svg import luminance

SVG = "{http://www.w3.org/2000/svg}"
LENGTHS = (64, 256, 1024, 4096)


def cell(right, n, **more):
    low, high = wilson(right, n)
    return {"n": n, "right": right, "accuracy": right / n, "low": low, "high": high, **more}


def arm(name, rights, n=20):
    return [cell(right, n, arm=name, tokens=tokens) for tokens, right in zip(LENGTHS, rights, strict=True)]


PLAIN, FACTS = arm("plain filler", (20, 20, 20, 20)), arm("100 % facts", (20, 19, 16, 3))
MAP = [cell(right, 12, tokens=t, depth=d) for (t, d), right in zip(
    [(t, d) for t in (256, 1024) for d in (0.0, 0.125, 1.0)], (12, 12, 11, 6, 0, 12), strict=True)]  # fmt: skip
DILUTED = [
    {"arm": name, "tokens": n, "mass": m, "theory": t, "odds": (1 - m) / m}
    for name, rows in {
        "plain": ((64, 0.98, 0.97), (4096, 0.8, 0.7)),
        "facts": ((64, 0.9, 0.89), (4096, 0.05, 0.1)),
    }.items()
    for n, m, t in rows
]
PRICES = [
    {"kind": "plain", "n": 900, "median": 1e-5, "mean": 2e-4, "low": 1e-4, "high": 5e-4},
    {"kind": "fact 2 of 3", "n": 240, "median": 0.03, "mean": 0.1, "low": 0.08, "high": 0.13},
    {"kind": "question and padding", "n": 60, "median": 0.02, "mean": 0.03, "low": 0.02, "high": 0.04},
]


def bill(way, right, usd, recall=1.0, n=20):
    row = cell(right, n, way=way, recall=recall)
    price = {"usd_per_right": usd / (right / n) if right else None, "usd_per_right_low": usd / row["high"]}
    return row | price | {"usd_per_right_high": usd / row["low"] if row["low"] else None}


BILLS = [bill("everything", 8, 4e-4), bill("BM25 <top> 1", 20, 2e-6), bill("own embeddings", 0, 2e-6, recall=0.05)]
OTHERS = [
    {"benchmark": name, "model": who, "short_tokens": s, "short": a, "long_tokens": t, "long": b, **said}
    for (name, who, s, a, t, b), said in zip(
        (("RULER", "Model A", 4096, 96.6, 131_072, 81.2), ("NoLiMa", "Model B", 1000, 99.3, 32_768, 69.7)),
        (
            {"source": "paper A", "as_of": "2024-04"},
            {"source": "paper B", "as_of": "2025-02", "effective_tokens": 8192},
        ),
        strict=True,
    )
]  # fmt: skip

ALL = {
    "heatmap": lambda: pictures.heatmap(MAP, "A map"),
    "accuracy": lambda: pictures.accuracy([*PLAIN, *FACTS], "Accuracy", ceiling=cell(200, 200)),
    "rivals": lambda: pictures.accuracy(
        [cell(20 - 3 * i, 20, rivals=r, shared="2 of 3") for i, r in enumerate((0, 1, 2, 4, 8, 16))],
        "Rivals", x="rivals", by="shared", xlabel="rivals in 256 tokens",
    ),
    "mass": lambda: pictures.mass(DILUTED, "Mass", curves={"mine": [(64, 0.9), (1024, 0.5), (9999, 0.1)]}),
    "odds": lambda: pictures.odds(DILUTED, "Odds", fits={"facts": OddsLine(0.1, 0.005)}),
    "price_list": lambda: pictures.price_list(PRICES, "Two fees", 4096),
    "invoice": lambda: pictures.invoice(BILLS, "The bill"),
    "published": lambda: pictures.published(OTHERS, "Large models"),
}  # fmt: skip


def marks(drawn, tag, css):
    return [item for item in ElementTree.fromstring(drawn.svg).iter(f"{SVG}{tag}") if item.get("class") == css]


def words(drawn):
    return " ".join("".join(item.itertext()) for item in ElementTree.fromstring(drawn.svg).iter(f"{SVG}text"))


def points(path):
    return [tuple(map(float, point.split())) for point in path.get("d").strip("MZ").split("L")]


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ALL)
def test_a_picture_is_small_deterministic_and_says_its_reading(name):
    drawn = ALL[name]()
    assert drawn.svg == ALL[name]().svg
    assert len(drawn.svg.encode()) <= 40_000
    root = ElementTree.fromstring(drawn.svg)
    assert root.get("role") == "img" and root.get("aria-label") == drawn.text
    assert drawn.text.endswith(".") and re.search(r"\d", drawn.text)


@pytest.mark.parametrize("name", ALL)
def test_everything_stays_inside_the_picture(name):
    drawn = ALL[name]()
    _, _, wide, tall = map(float, ElementTree.fromstring(drawn.svg).get("viewBox").split())
    for item in ElementTree.fromstring(drawn.svg).iter():
        if item.tag == f"{SVG}text":
            x, y = float(item.get("x")), float(item.get("y"))
            long = 0.58 * 13 * len("".join(item.itertext()))
            start = x - {"start": 0, "middle": long / 2, "end": long}[item.get("text-anchor")]
            assert start >= 0 and start + long <= wide, "".join(item.itertext())
            assert 0 < y <= tall
        if item.tag == f"{SVG}rect":
            x, y, across, down = (float(item.get(key)) for key in ("x", "y", "width", "height"))
            assert x >= 0 and x + across <= wide and y >= 0 and y + down <= tall
        if item.tag == f"{SVG}circle":
            assert 0 < float(item.get("cx")) < wide and 0 < float(item.get("cy")) < tall


def test_real_grids_stay_under_the_limit():
    full = [cell(7, 12, tokens=t, depth=d / 8) for t in (256, 512, 1024, 2048, 4096, 8192) for d in range(9)]
    assert len(pictures.heatmap(full, "Nine by six, all hatched", chance=1.0).svg.encode()) <= 40_000
    lengths = [64 * 2**n for n in range(9)]
    rows = [cell(10, 20, arm=f"arm {a}", tokens=t) for a in range(6) for t in lengths]
    runs = [row | {"run": seed} for row in rows for seed in range(5)]
    assert len(pictures.accuracy(rows, "Six arms", runs=runs).svg.encode()) <= 40_000


@pytest.mark.parametrize("name", ["accuracy", "mass", "odds", "heatmap", "price_list", "invoice", "published"])
def test_nothing_to_draw_is_refused(name):
    more = (4096,) if name == "price_list" else ()
    with pytest.raises(ValueError, match=r"record"):
        getattr(pictures, name)([], "empty", *more)


# ---------------------------------------------------------------- the map


def test_every_cell_has_its_number_and_its_colour_agrees():
    drawn = pictures.heatmap(MAP, "A map")
    cells = marks(drawn, "rect", "cell")
    found = {(int(c.get("data-tokens")), float(c.get("data-depth"))): c for c in cells}
    assert len(found) == len(MAP)
    for row in MAP:
        mine = found[row["tokens"], row["depth"]]
        assert float(mine.get("data-accuracy")) == pytest.approx(row["accuracy"], abs=1e-4)
    numbers = [
        t.text for t in ElementTree.fromstring(drawn.svg).iter(f"{SVG}text") if re.fullmatch(r"\d\.\d\d", t.text or "")
    ]
    assert sorted(numbers) == sorted(f"{row['accuracy']:.2f}" for row in MAP)
    brightness = [luminance(found[256, d].get("fill")) for d in (0.0, 1.0)]
    assert brightness[0] > brightness[1] > luminance(found[1024, 0.125].get("fill"))


def test_depth_runs_down_and_length_across():
    cells = {
        (int(c.get("data-tokens")), float(c.get("data-depth"))): c
        for c in marks(pictures.heatmap(MAP, "m"), "rect", "cell")
    }
    assert float(cells[256, 0.0].get("y")) < float(cells[256, 0.125].get("y")) < float(cells[256, 1.0].get("y"))
    assert float(cells[256, 0.0].get("x")) < float(cells[1024, 0.0].get("x"))


def test_ceiling_and_floor_are_marked_by_shape_and_counted():
    drawn = pictures.heatmap(MAP, "A map")
    assert len(marks(drawn, "path", "at-ceiling")) == 3  # 12 of 12 three times
    assert len(marks(drawn, "path", "at-floor")) == 1  # 0 of 12
    assert "n = 12 answers in each cell" in words(drawn)
    assert "3 without a wrong answer, 1 no better than guessing. Lowest at 1,024 tokens and depth 12.5 %" in drawn.text
    assert "Mean of all depths: 0.97 at 256 tokens, 0.50 at 1,024" in drawn.text  # 35 and 18 of 36


def test_a_cell_is_at_the_floor_when_guessing_could_explain_it():
    one = [cell(1, 12, tokens=64, depth=0.0)]  # the interval of 1 of 12 begins at 1.5 %
    assert not marks(pictures.heatmap(one, "m", chance=0.005), "path", "at-floor")
    assert marks(pictures.heatmap(one, "m", chance=0.05), "path", "at-floor")


def test_trained_columns_are_marked():
    (line,) = marks(pictures.heatmap(MAP, "m"), "path", "trained")
    first = next(c for c in marks(pictures.heatmap(MAP, "m"), "rect", "cell") if c.get("data-tokens") == "256")
    long = float(re.search(r"h([\d.]+)", line.get("d"))[1])
    assert long < float(first.get("width"))
    assert not marks(pictures.heatmap(MAP, "m", trained=None), "path", "trained")
    assert not marks(pictures.heatmap(MAP, "m", trained=128), "path", "trained")


@pytest.mark.parametrize("bad", [MAP[1:], [*MAP, MAP[0]], [*MAP, cell(1, 2, tokens=512, depth=0.5)]])
def test_a_map_must_be_a_full_grid(bad):
    with pytest.raises(ValueError, match="one cell for each of"):
        pictures.heatmap(bad, "m")


@pytest.mark.parametrize(("share", "colour"), [(0.0, "#00224E"), (1.0, "#FEE838"), (0.2, "#35456C")])
def test_the_colour_scale_hits_its_steps(share, colour):
    assert drift_maps._colour(share) == colour


def test_numbers_in_the_cells_can_be_read():
    for share in range(101):
        fill = drift_maps._colour(share / 100)
        light = luminance(fill)
        contrast = 1.05 / (light + 0.05) if light < 0.18 else (light + 0.05) / 0.05
        assert contrast >= 4.5, share


# ---------------------------------------------------------------- accuracy


def test_the_points_lie_where_their_numbers_say():
    drawn = pictures.accuracy([*PLAIN, *FACTS], "Accuracy")
    lines = {path.get("data-name"): points(path) for path in marks(drawn, "path", "line")}
    assert set(lines) == {"plain filler", "100 % facts"}
    flat, falling = lines["plain filler"], lines["100 % facts"]
    assert len({y for _, y in flat}) == 1
    height = {row["tokens"]: y for row, (_, y) in zip(FACTS, falling, strict=True)}
    assert height[64] == flat[0][1]
    down = {n: y - flat[0][1] for n, y in height.items()}
    assert down[4096] / down[1024] == pytest.approx((1 - 3 / 20) / (1 - 16 / 20), rel=0.01)
    xs = [x for x, _ in flat]
    assert xs[2] - xs[1] == pytest.approx(xs[1] - xs[0], abs=0.2)  # 64, 256, 1,024: equal ratios


def test_the_band_is_the_interval_of_the_record():
    drawn = pictures.accuracy(FACTS, "Accuracy")
    (band,), (line,) = marks(drawn, "path", "band"), marks(drawn, "path", "line")
    edge, middle = points(band), points(line)
    low, high = edge[:4], edge[:3:-1]
    assert [x for x, _ in low] == [x for x, _ in high] == [x for x, _ in middle]
    per_one = (middle[3][1] - middle[0][1]) / (1 - 3 / 20)
    for row, lower, upper, (_, y) in zip(FACTS, low, high, middle, strict=True):
        assert lower[1] - y == pytest.approx(per_one * (row["accuracy"] - row["low"]), abs=0.2)
        assert y - upper[1] == pytest.approx(per_one * (row["high"] - row["accuracy"]), abs=0.2)


def test_the_effective_length_is_ringed_and_said():
    drawn = pictures.accuracy([*PLAIN, *FACTS], "Accuracy")
    assert [int(ring.get("data-tokens")) for ring in marks(drawn, "circle", "effective")] == [4096, 256]
    assert "n = 20; effective length 4,096 or more" in drawn.text
    assert drawn.text.count("or more") == 1  # 16 of 20 is below 85 % of 20 of 20
    assert not marks(pictures.accuracy(FACTS, "A", effective=False), "circle", "effective")


def test_the_reading_gives_both_ends_with_their_intervals():
    low, high = wilson(3, 20)
    text = pictures.accuracy(FACTS, "Accuracy").text
    assert f"100 % facts: 1.00 [0.84, 1.00] at 64 to 0.15 [{low:.2f}, {high:.2f}] at 4,096" in text
    uneven = [cell(200, 200, arm="a", tokens=64), cell(30, 40, arm="a", tokens=4096)]
    assert "n = 200 to 40" in pictures.accuracy(uneven, "A").text


def test_chance_and_ceiling_are_lines():
    drawn = pictures.accuracy(FACTS, "Accuracy", ceiling=cell(190, 200))
    (chance,), (ceiling,) = marks(drawn, "path", "chance"), marks(drawn, "path", "ceiling")
    assert float(chance.get("data-value")) == 0.005  # one of 200 values
    assert float(ceiling.get("data-value")) == 0.95
    assert "no haystack 0.95 (n = 200)" in words(drawn)
    assert not marks(pictures.accuracy(FACTS, "Accuracy"), "path", "ceiling")


def test_the_trained_lengths_are_shaded_up_to_the_right_place():
    drawn = pictures.accuracy(FACTS, "Accuracy")
    (field,) = marks(drawn, "rect", "trained")
    (line,) = marks(drawn, "path", "line")
    assert float(field.get("x")) + float(field.get("width")) == pytest.approx(points(line)[1][0], abs=0.2)  # 256
    assert not marks(ALL["rivals"](), "rect", "trained")
    assert not marks(pictures.accuracy(FACTS, "A", trained=None), "rect", "trained")


def test_all_runs_are_thin_lines_in_their_arm_colour_and_in_the_reading():
    runs = [
        row | {"run": seed}
        for seed, rights in ((1, (20, 20, 18, 9)), (2, (20, 17, 9, 0)))
        for row in arm("100 % facts", rights)
    ]
    extra = [cell(1, 20, arm="100 % facts", tokens=999, run=1), cell(1, 20, arm="unknown", tokens=64, run=1)]
    drawn = pictures.accuracy([*PLAIN, *FACTS], "Accuracy", runs=iter([*runs, *extra]))
    thin = marks(drawn, "path", "run")
    assert [path.get("data-name") for path in thin] == ["100 % facts, run 1", "100 % facts, run 2"]
    assert all(len(points(path)) == 4 and path.get("stroke-width") == "1" for path in thin)
    mine = next(path for path in marks(drawn, "path", "line") if path.get("data-name") == "100 % facts")
    assert {path.get("stroke") for path in thin} == {mine.get("stroke")}
    assert "100 % facts in 2 training runs: 0.00 to 0.45 at the longest" in drawn.text


def test_rivals_stand_in_even_steps():
    (line,) = marks(ALL["rivals"](), "path", "line")
    xs = [x for x, _ in points(line)]
    assert all(b - a == pytest.approx(xs[1] - xs[0], abs=0.2) for a, b in pairwise(xs))
    assert "rivals in 256 tokens" in words(ALL["rivals"]())
    assert "at 0 to 0.25" in ALL["rivals"]().text  # 5 of 20


def test_lines_differ_in_more_than_colour():
    rows = [cell(10 + a, 20, arm=f"arm {a}", tokens=t) for a in range(6) for t in (64, 256)]
    drawn = pictures.accuracy(rows, "Six arms")
    assert len({path.get("stroke-dasharray") for path in marks(drawn, "path", "line")}) == 6
    shapes = {re.sub(r"^M[\d.]+ [\d.]+", "", path.get("d")) for path in marks(drawn, "path", "point")}
    assert len(shapes) == 6


def test_two_records_at_the_same_place_are_refused():
    with pytest.raises(ValueError, match="records of arm '100 % facts' must have one for each tokens"):
        pictures.accuracy([*FACTS, FACTS[0]], "A")


def test_a_record_that_lacks_a_key_is_refused():
    with pytest.raises(ValueError, match="missing low in"):
        pictures.accuracy([{k: v for k, v in FACTS[0].items() if k != "low"}], "A")


# ---------------------------------------------------------------- mass and odds


def test_mass_is_drawn_on_two_logarithmic_axes_with_its_theory():
    drawn = ALL["mass"]()
    lines = {path.get("data-name"): points(path) for path in marks(drawn, "path", "line")}
    theory = {path.get("data-name"): points(path) for path in marks(drawn, "path", "theory")}
    assert set(lines) == {"plain", "facts"} and set(theory) == {"plain", "facts", "mine"}
    (_, y1), (_, y2) = lines["facts"]
    (_, z1), (_, z2) = lines["plain"]
    assert (y2 - y1) / (z2 - z1) == pytest.approx(math.log(0.9 / 0.05) / math.log(0.98 / 0.8), rel=0.02)
    assert theory["facts"][1][1] < y2  # the theory was too hopeful: it lies above
    assert theory["plain"][1][1] > z2
    assert len(theory["mine"]) == 2  # 9,999 is outside the picture
    assert "facts: 0.900 at 64, 0.050 at 4,096 (theory 0.100)" in drawn.text


def test_records_without_an_arm_are_one_line():
    rows = [{key: row[key] for key in ("tokens", "mass")} for row in DILUTED[:2]]
    assert "measured: 0.980 at 64" in pictures.mass(rows, "Mass").text
    assert not marks(pictures.mass(rows, "Mass"), "path", "theory")


def test_a_mass_of_nothing_cannot_stand_on_a_logarithmic_axis():
    with pytest.raises(ValueError, match=r"mass must be above 0 on a logarithmic axis; got 0\.0"):
        pictures.mass([{"tokens": 64, "mass": 0.0}], "Mass")


def test_the_odds_and_their_line_share_their_axes():
    rows = [{"tokens": n, "odds": 0.5 + 0.01 * n} for n in (100, 200, 400)]
    drawn = pictures.odds(rows, "Odds", fits={"measured": OddsLine(0.5, 0.01)})
    (fit,) = marks(drawn, "path", "fit")
    (x1, y1), (x2, y2) = points(fit)[0], points(fit)[-1]
    for point in marks(drawn, "path", "point")[:3]:
        share = float(point.get("data-x")) / 400
        top = [float(n) for n in re.match(r"M([\d.]+) ([\d.]+)", point.get("d")).groups()]
        assert top[0] + 4.5 == pytest.approx(x1 + share * (x2 - x1), abs=0.2)
        assert top[1] == pytest.approx(y1 + share * (y2 - y1), abs=0.2)
    assert "measured: 4.5 at 400 tokens; line 0.5 + 0.01 × tokens" in drawn.text
    assert not marks(drawn, "path", "line")


def test_odds_come_from_the_mass_where_they_are_not_given():
    drawn = pictures.odds([{"tokens": 64, "mass": 0.8}, {"tokens": 128, "mass": 0.5}], "Odds")
    assert [float(point.get("data-y")) for point in marks(drawn, "path", "point")[:2]] == [0.25, 1.0]
    assert len(marks(drawn, "path", "line")) == 1


def test_a_fit_for_no_arm_is_refused():
    with pytest.raises(ValueError, match="fits must be for plain, facts; got rivals"):
        pictures.odds(DILUTED, "Odds", fits={"rivals": OddsLine(0, 1)})


# ---------------------------------------------------------------- bars


def test_every_sentence_has_the_same_memory_and_its_own_price():
    drawn = pictures.price_list(PRICES, "Two fees", 4096)
    memory, prices = marks(drawn, "rect", "memory"), marks(drawn, "rect", "price")
    assert len(memory) == 2  # the constant is no sentence
    assert {(m.get("width"), m.get("data-bytes")) for m in memory} == {(memory[0].get("width"), "4096")}
    wide = {p.get("data-kind"): float(p.get("width")) for p in prices}
    step = wide["fact 2 of 3"] - wide["plain"]
    floor = 1e-5  # the axis begins at the power of ten below the smallest number, a median of 1e-5
    assert step / wide["plain"] == pytest.approx(math.log(0.1 / 2e-4) / math.log(2e-4 / floor), rel=0.01)
    assert "Every 8 tokens cost the same memory, 4.1 kB (4 KiB)" in drawn.text
    assert "One fact 2 of 3 costs as much as 500 of plain" in drawn.text  # .1 / .0002


def test_a_price_list_needs_prices():
    for bad in ([PRICES[0] | {"mean": 0.0}], PRICES):
        with pytest.raises(ValueError, match="prices above 0"):
            pictures.price_list(bad, "Two fees", 4096 if bad is not PRICES else 0)


def test_the_bill_of_a_right_answer_with_recall_beside_it():
    drawn = pictures.invoice(BILLS, "The bill")
    found = {b.get("data-way"): b for b in marks(drawn, "rect", "bill")}
    assert float(found["everything"].get("data-usd")) == pytest.approx(1e-3)  # 4e-4 / .4
    assert float(found["everything"].get("width")) > float(found["BM25 <top> 1"].get("width"))
    never = found["own embeddings"]
    assert never.get("data-usd") == "inf" and never.get("stroke-dasharray") and "never right" in words(drawn)
    for said in (
        "everything $0.001, recall 1.00, accuracy 0.40 [0.22, 0.61]",
        "own embeddings never right, recall 0.05",
    ):
        assert said in drawn.text
    assert "BM25 <top> 1" in unescape(drawn.svg) and "<top>" not in drawn.svg
    assert len(marks(drawn, "path", "interval")) == 2


def test_a_bill_without_a_right_answer_is_refused():
    with pytest.raises(ValueError, match="one with a right answer"):
        pictures.invoice(BILLS[2:], "The bill")


# ---------------------------------------------------------------- what others published


def test_what_others_published_says_so_and_is_framed():
    drawn = pictures.published(OTHERS, "Large models")
    assert "Published by others" in words(drawn) and "Not measured here" in words(drawn)
    assert "Published by others, not measured here, in %: RULER, Model A: 96.6 at 4K, 81.2 at 128K" in drawn.text
    (frame,) = marks(drawn, "rect", "others")
    assert frame.get("stroke-dasharray")
    dots = marks(drawn, "path", "point")
    assert [(d.get("data-x"), float(d.get("data-y")), d.get("fill") == "none") for d in dots] == [
        ("4096", 96.6, True), ("131072", 81.2, False), ("1000", 99.3, True), ("32768", 69.7, False),
    ]  # fmt: skip


def test_benchmarks_stay_together_in_the_order_of_their_first_record():
    mixed = [OTHERS[0], OTHERS[1], OTHERS[0] | {"model": "Model C"}]
    text = pictures.published(mixed, "Large models").text
    assert text.index("Model A") < text.index("Model C") < text.index("Model B")


@pytest.mark.parametrize("score", [-1, 100.5])
def test_scores_are_percent(score):
    with pytest.raises(ValueError, match="from 0 to 100 %"):
        pictures.published([OTHERS[0] | {"long": score}], "Large models")


def test_the_table_of_published_results_has_a_source_and_a_date_in_every_row():
    shown = pictures.published_table(OTHERS, "Large models")
    assert "published by others, not measured here" in shown.text
    assert re.search(r"RULER +Model A +96.6 at 4K +81.2 at 128K +– +paper A +2024-04", shown.text)
    assert re.search(r"NoLiMa +Model B +99.3 at 1K +69.7 at 32K +8K +paper B +2025-02", shown.text)
    short = pictures.published_table([OTHERS[1] | {"effective_tokens": 0}], "Large models")
    assert "below 1K" in short.text
    for key in ("source", "as_of"):
        with pytest.raises(ValueError, match="must have source and as_of"):
            pictures.published_table([OTHERS[0] | {key: ""}], "Large models")


# ---------------------------------------------------------------- axes


def test_axes_name_round_numbers_and_hold_their_values():
    rng = Random(7)
    for _ in range(300):
        top = 10 ** rng.uniform(-6, 6)
        axis = drift_axes.from_zero([top])
        assert axis.at(0) == 0 and axis.at(top) < 1
        assert 3 <= len(axis.ticks) <= 10
        for tick in axis.ticks[1:]:
            assert re.fullmatch(r"[1-9]\d?e[+-]\d\d", f"{tick:.1e}".replace(".", ""))  # two digits at most
        low, high = sorted((10 ** rng.uniform(-6, 6), top))
        log = drift_axes.decades([low, high])
        assert 0 <= log.at(low) <= log.at(high) <= 1 and log.at(log.low) == 0 and log.at(log.high) == pytest.approx(1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (16384, "16,384"),
        (0.25, "0.25"),
        (1e-6, "0.000001"),
        (96.6, "96.6"),
        (1, "1"),
        (0.98765, "0.988"),
        (250, "250"),
    ],
)
def test_numbers_without_exponents(value, text):
    assert drift_axes.number(value) == text


def test_what_the_course_quotes_fits_the_picture():
    records = [result.record for result in length_results()]
    assert len(records) >= 10
    drawn = pictures.published(records, "Large models")
    assert len(marks(drawn, "path", "point")) == 2 * len(records)
    assert len(drawn.svg.encode()) <= 40_000
    assert all(record["model"] in pictures.published_table(records, "Large models").text for record in records)
