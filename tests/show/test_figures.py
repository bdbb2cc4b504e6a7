import json
import math
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.show import figures
from kvlib.show.svg import EDGE, PALETTE, WIDTH, bar, cards, luminance, picture, shade
from kvlib.show.tables import MismatchError, rows, table
from kvlib.units import GB, size

SVG = "{http://www.w3.org/2000/svg}"
names = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=20)
part_lists = st.lists(st.tuples(names, st.integers(0, 10**15)), min_size=1, max_size=20)


def parse(picture):
    return ElementTree.fromstring(str(picture))


def rects(picture, kind="part"):
    return [rect for rect in parse(picture).iter(f"{SVG}rect") if rect.get("class") == kind]


def words(picture):
    return ["".join(text.itertext()) for text in parse(picture).iter(f"{SVG}text")]


# ---------------------------------------------------------------- bar


@given(part_lists, st.integers(1, 10**15))
def test_the_numbers_of_a_bar_come_back_from_its_svg(parts, capacity):
    drawn = bar(parts, capacity)
    total = sum(n for _, n in parts)
    scale = (WIDTH - 2 * EDGE) / max(total, capacity)
    segments = rects(drawn)
    assert [(s.get("data-part"), int(s.get("data-bytes"))) for s in segments] == parts
    start = 0
    for segment, (_, n) in zip(segments, parts, strict=True):
        assert float(segment.get("x")) == pytest.approx(EDGE + start * scale, abs=0.01)
        seen = max(n * scale, 1) if n else 0
        assert float(segment.get("width")) == pytest.approx(seen, abs=0.01)
        start += n
    (frame,) = rects(drawn, "frame")
    assert float(frame.get("width")) == pytest.approx(capacity * scale, abs=0.01)
    assert any(text.endswith(": does not fit") for text in words(drawn)) == (total > capacity)


def test_a_bar_says_what_it_shows_in_both_units():
    drawn = bar([("weights", 16 * GB), ("KV cache", 4 * GB)], 80 * GB, label="One card")
    assert parse(drawn).get("role") == "img"
    assert parse(drawn).get("aria-label") == drawn.text
    assert drawn.text == (
        "One card: weights 16 GB (14.9 GiB) + KV cache 4 GB (3.73 GiB) = 20 GB (18.6 GiB) of 80 GB (74.5 GiB), "
        "60 GB (55.9 GiB) free"
    )
    assert drawn.svg in drawn.html
    assert repr(drawn) == drawn.text


def test_what_does_not_fit_is_said_and_drawn():
    drawn = bar([("weights", 70 * GB), ("KV cache", 16 * GB)], 80 * GB)
    assert "DOES NOT FIT, 6 GB (5.59 GiB) over" in drawn.text
    assert 'class="over"' in str(drawn)
    assert 'class="over"' not in str(bar([("weights", 80 * GB)], 80 * GB))


def test_every_part_is_in_the_legend_and_none_vanishes():
    parts = [(f"part {i}", (i + 1) * GB) for i in range(3 * len(PALETTE) + 2)]
    drawn = bar(parts, 400 * GB)
    assert len({segment.get("fill") for segment in rects(drawn)}) == len(parts)
    for name, n in parts:
        assert any(text.startswith(f"{name}: {size(n)}") for text in words(drawn))


def test_a_part_too_small_to_see_is_still_drawn():
    tiny = rects(bar([("weights", 10**12), ("one token", 1)]))[1]
    assert float(tiny.get("width")) == 1
    assert any("under 0.1 %" in text for text in words(bar([("weights", 10**12), ("one token", 1)])))


def test_a_bar_of_nothing_has_no_length():
    drawn = bar([("KV cache", 0)], 80 * GB)
    assert [float(s.get("width")) for s in rects(drawn)] == [0]
    assert "80 GB (74.5 GiB) free" in drawn.text
    assert rects(bar([("nothing", 0)]))


def test_a_mark_stands_at_its_bytes_even_beyond_the_capacity():
    drawn = bar([("KV cache", 4 * GB)], 80 * GB, marks=[("your prediction", 160 * GB)])
    (mark,) = [path for path in parse(drawn).iter(f"{SVG}path") if path.get("class") == "mark"]
    assert mark.get("d").startswith(f"M{WIDTH - EDGE}.00 ")
    assert drawn.text.endswith("; your prediction 160 GB (149 GiB)")


@pytest.mark.parametrize(
    ("parts", "capacity", "message"),
    [
        ([("weights", -1)], 80, r"bytes of 'weights' must be .* got -1"),
        ([("weights", math.nan)], 80, "got nan"),
        ([("weights", math.inf)], 80, "got inf"),
        ([("weights", "16 GB")], 80, "got '16 GB'"),
        ([("weights", True)], 80, "got True"),
        ([], 80, "at least one"),
        ([("weights", 1)], 0, "capacity must be more than 0 bytes; got 0"),
        ([("weights", 1)], -80, "capacity must be .* got -80"),
    ],
)
def test_a_bar_refuses(parts, capacity, message):
    with pytest.raises(ValueError, match=message):
        bar(parts, capacity)


def test_markup_in_names_is_text():
    evil = '<script>"&</script>'
    for drawn in (bar([(evil, GB)], 80 * GB, label=evil, marks=[(evil, GB)]), cards([(evil, GB)], label=evil)):
        assert "<script>" not in drawn.html
        assert rects(drawn)[0].get("data-part") == evil
        assert evil in parse(drawn).get("aria-label")


def test_dollars_are_not_taken_for_a_formula():
    shown = table("$1 and $2", ("$a", "$b"), [("$c", "$d")]).html + picture("", 1, "$e and $f").html
    assert shown.replace('aria-label="$e and $f"', "").count("$") == shown.count("<span>$</span>") == 8


@given(part_lists)
def test_the_same_parts_give_the_same_string(parts):
    assert str(bar(parts, 80 * GB)) == str(bar(parts, 80 * GB))
    assert str(cards(parts)) == str(cards(parts))


def test_text_and_frames_follow_the_theme():
    drawn = bar([("a", GB), ("b", GB)], 80 * GB)
    assert all(rect.get("stroke") == "currentColor" for rect in rects(drawn, "frame"))
    inks = {text.get("fill") for text in parse(drawn).iter(f"{SVG}text")}
    assert inks <= {"currentColor", "#fff", "#000"}


@pytest.mark.parametrize("index", range(4 * len(PALETTE)))
def test_words_on_a_colour_can_be_read(index):
    fill, ink = shade(index)
    dark, light = sorted((luminance(fill), 1.0 if ink == "#fff" else 0.0))
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


# ---------------------------------------------------------------- cards


@given(part_lists, st.integers(10**9, 10**12))
def test_cards_pour_every_byte_once(parts, card):
    drawn = cards(parts, card)
    poured = {}
    for rect in rects(drawn):
        poured[rect.get("data-part")] = poured.get(rect.get("data-part"), 0) + int(rect.get("data-bytes"))
    expected = {}
    for name, n in parts:
        expected[name] = expected.get(name, 0) + n
    assert poured == {name: n for name, n in expected.items() if n}
    boxes, count = len(rects(drawn, "frame")), -(-sum(n for _, n in parts) // card)
    assert boxes <= 60
    per_box = next(10**k for k in range(20) if count <= 60 * 10**k)
    assert boxes == -(-count // per_box)
    assert (per_box == 1) == ("One box stands" not in drawn.text)


@pytest.mark.parametrize(
    ("total", "count"),
    [(0, "0 cards"), (1, "1 card"), (80 * GB, "1 card"), (80 * GB + 1, "2 cards"), (10**15, "12,500 cards")],
)
def test_cards_are_rounded_up(total, count):
    assert f"That fills {count} of 80 GB (74.5 GiB)." in cards([("bytes", total)]).text


@pytest.mark.parametrize(
    ("parts", "card", "message"),
    [
        ([("weights", -1)], 80, "got -1"),
        ([("weights", 1.5)], 80, "whole bytes"),
        ([], 80, "at least one"),
        ([("weights", 1)], 0, "card_bytes must be .* got 0"),
        ([("weights", 1)], 80.0, "card_bytes must be .* got 80.0"),
    ],
)
def test_cards_refuse(parts, card, message):
    with pytest.raises(ValueError, match=message):
        cards(parts, card)


# ---------------------------------------------------------------- tables


def test_a_table_has_a_caption_and_heads():
    shown = table("Sizes", ("what", "bytes"), [("a < b", 131_072), ("c", 0.5)])
    tree = ElementTree.fromstring(shown.html)
    assert tree.find("caption").text == "Sizes"
    assert [th.get("scope") for th in tree.iter("th")] == ["col", "col", "row", "row"]
    assert [td.text for td in tree.iter("td")] == ["131,072", "0.5"]
    assert shown.text == "Sizes\nwhat   bytes\n-----  -------\na < b  131,072\nc          0.5"
    assert shown._repr_html_() == shown.html


@pytest.mark.parametrize(
    ("caption", "headers", "body", "message"),
    [
        ("", ("a",), [], "needs a caption"),
        ("c", (), [], "headers"),
        ("c", ("a", "b"), [("x",)], "must have 2 cells"),
    ],
)
def test_a_table_refuses(caption, headers, body, message):
    with pytest.raises(ValueError, match=message):
        table(caption, headers, body)


def test_rows_that_match_are_a_table():
    shown = rows(("bytes of a token", 131_072, 131_072, "config.json"), ("share", 0.5, 0.5, "paper"))
    assert "exact" in shown.text
    assert "131,072" in shown.html


def test_rows_stop_the_page_when_a_number_is_off():
    with pytest.raises(MismatchError, match=r"cache: we see 131,073, published 131,072 \[config.json\]") as caught:
        rows(("fine", 1, 1, "x"), ("cache", 131_073, 131_072, "config.json"))
    assert "fine" not in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_a_tolerance_is_asked_for_and_shows_the_ratio():
    assert "ratio 1.0100" in rows(("a", 101, 100, "x"), tolerance=0.02).text
    assert "both 0" in rows(("a", 0, 0, "x"), tolerance=0.02).text
    assert rows(("a", 102, 100, "x"), tolerance=0.02)
    for see in (103, 97, -100, math.nan):
        with pytest.raises(MismatchError):
            rows(("a", see, 100, "x"), tolerance=0.02)
    with pytest.raises(MismatchError):
        rows(("a", math.nan, math.nan, "x"))


@pytest.mark.parametrize(
    ("facts", "tolerance", "message"),
    [
        ((), None, "at least one"),
        ((("a", 1, 1, " "),), None, "source not empty"),
        ((("a", 1, 1),), None, "what, we_see"),
        ((("a", 1, 1, "x"),), -0.1, "tolerance must be .* got -0.1"),
        ((("a", 1, 1, "x"),), math.nan, "tolerance must be .* got nan"),
    ],
)
def test_rows_refuse(facts, tolerance, message):
    with pytest.raises(ValueError, match=message):
        rows(*facts, tolerance=tolerance)


# ---------------------------------------------------------------- curves


def curve(**more):
    series = {"8 KV heads": ([1, 10, 100], [2, 20, 200]), "32 KV heads": ([1, 10, 100], [8, 80, 800])}
    return figures.line(series, title="It grows", xlabel="tokens", ylabel="bytes", **more)


def test_a_curve_is_its_data():
    axes = curve(log="xy").axes[0]
    assert [list(drawn.get_ydata()) for drawn in axes.lines] == [[2, 20, 200], [8, 80, 800]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("tokens", "bytes", "It grows")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["8 KV heads", "32 KV heads"]
    looks = {(drawn.get_color(), drawn.get_linestyle(), drawn.get_marker()) for drawn in axes.lines}
    assert len(looks) == 2


def test_the_same_curve_gives_the_same_png():
    assert figures.png(curve()) == figures.png(curve())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log": "z"}, "log must be"),
        ({"title": ""}, "must not be empty"),
        ({"series": {}}, "at least one"),
        ({"series": {"a": ([1, 2], [1])}}, "got 2 and 1"),
        ({"series": {"a": ([], [])}}, "at least one"),
    ],
)
def test_a_curve_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        figures.line(**({"series": {"a": ([1], [1])}, "title": "t", "xlabel": "x", "ylabel": "y"} | change))


def test_show_describes_prints_and_closes(monkeypatch, capsys):
    from matplotlib import pyplot

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: shown.append((what, how)))
    before = pyplot.get_fignums()
    figures.show(pyplot.figure(), alt="Nothing yet.")
    figures.show(curve(), alt="It grows tenfold.")
    assert pyplot.get_fignums() == before
    (bundle,), how = shown[1]
    assert how == {"raw": True, "metadata": {"image/png": {"alt": "It grows tenfold."}}}
    assert bundle["text/plain"] == "It grows tenfold."
    assert bundle["image/png"].startswith("iVBOR")
    assert capsys.readouterr().out == "Nothing yet.\nIt grows tenfold.\n"
    with pytest.raises(ValueError, match="alt must say"):
        figures.show(curve(), alt=" ")


def test_strings_need_neither_matplotlib_nor_numpy_nor_widgets():
    program = (
        "import sys, json, kvlib.show.receipt, kvlib.show.shape\n"
        "from kvlib.show.figures import bar, cards, rows\n"
        "str(bar([('a', 1)], 2)), str(cards([('a', 1)])), rows(('a', 1, 1, 'x'))\n"
        "print(json.dumps([name for name in ('matplotlib', 'numpy', 'ipywidgets', 'IPython') if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []
