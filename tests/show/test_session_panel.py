import math
import re
from decimal import Decimal
from html import unescape
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from genai_prices import data_snapshot
from traitlets import TraitError

import kvlib as kv
from kvlib.show import session_bills
from kvlib.show.session_bills import ANSWER, KINDS, MODELS, MOST, QUESTION, Session, session_rows, titles
from kvlib.show.session_panel import LIVES, PAUSES, SessionPanel, session_picture
from kvlib.show.session_words import (
    asked,
    duration,
    percent,
    remarks,
    session_reading,
    session_sentence,
    session_table,
    verdict,
)
from kvlib.show.svg import _LETTER, WIDTH

SVG = "{http://www.w3.org/2000/svg}"
HOUR = 3_600
EXPLICIT, IMPLICIT = "Gemini 2.5 Pro, explicit", "Gemini 2.5 Pro, implicit"
SONNET_5M, SONNET_1H = "Claude Sonnet 5, 5 minutes", "Claude Sonnet 5, 1 hour"
GPT, DEEPSEEK = "GPT-5, automatic", "DeepSeek V4 Flash, automatic"


def session(provider=EXPLICIT, document=100_000, questions=10, pause=60, stamp=False, life=HOUR):
    return Session(provider, document, questions, pause, stamp, life)


def row(provider=EXPLICIT, **change):
    return session(provider, **change).row


def parts(found, questions=10):
    return dict(zip(KINDS, found.cached[questions - 1], strict=True))


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def drawn(svg, tag, css=None):
    return [item for item in ElementTree.fromstring(svg).iter(f"{SVG}{tag}") if css in (None, item.get("class"))]


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


@pytest.fixture
def panel():
    panel = SessionPanel()
    panel.prediction.value = 25
    panel.button.click()
    return panel


# ---------------------------------------------------------------- the bills


def test_an_explicit_cache_by_hand():
    """Ten questions about 100,000 tokens, at 1.25 (new), 0.125 (read), 10 (answers), 4.50 an hour (kept) a million."""
    found = row()
    repeated = 10 * 100 + 600 * 45  # ten questions; and 0 + 1 + ... + 9 earlier turns, sent again
    assert parts(found) == {
        "write": Decimal("0.125"),
        "read": Decimal("0.125"),
        "storage": Decimal("4.5") * Decimal("0.1") * 9 * 60 / HOUR,
        "new input": repeated * Decimal("1.25") / 10**6,
        "answers": Decimal("0.05"),
    }
    assert found.bill(10) == Decimal("0.4025")
    assert found.without(10) == (1_000_000 + repeated) * Decimal("1.25") / 10**6 + Decimal("0.05")


def test_a_written_cache_by_hand():
    """Claude Sonnet 5 at 2, 2.50, 0.20 and 10: each question writes what is new, the answer before it included."""
    found = row(SONNET_5M)
    written = 100_100 + 9 * 600
    read = 9 * 100_100 + 600 * 36
    assert parts(found) == {
        "write": written * Decimal("2.5") / 10**6,
        "read": read * Decimal("0.2") / 10**6,
        "storage": 0,
        "new input": 0,
        "answers": Decimal("0.05"),
    }


@pytest.mark.parametrize(
    ("document", "pause", "stamp", "life"),
    [
        (100_000, 60, False, 300),
        (199_000, 600, False, HOUR),
        (271_000, 86_400, False, HOUR),
        (2_000, 2_700, False, 86_400),
        (50_000, 10, True, HOUR),
    ],
)
def test_every_number_of_questions_has_the_bill_of_a_session_of_its_own(document, pause, stamp, life):
    for found in session_rows(document, pause, stamp, life):
        for many in {n for n in (1, 2, 3, 17, MOST) if n <= found.most}:
            if stamp and many == 1 and found.rule.match == "object":
                continue  # one prompt shares all with itself; nobody creates a cache for that
            requests = kv.conversation(document, QUESTION, ANSWER, many, pause, mark="both")
            requests = kv.stamped(requests) if stamp else requests
            bill = kv.session_bill(requests, found.price, found.rule, ttl=None if found.rule.ttl else life)
            assert abs(found.bill(many) - bill.usd) < Decimal("1e-20"), (found.title, many)
            assert found.without(many) == kv.session_bill(requests, found.price).usd
            read = sum(line.bill.usd > 0 and line.tokens("cached input") > 0 for line in bill.lines)
            assert (parts(found, many)["read"] > 0) == (read > 0)


def test_all_rules_that_can_be_billed_have_a_row():
    assert len(titles()) == len(set(titles())) == 8
    assert [found.title for found in session().rows] == list(titles())
    assert {found.price.provider for found in session().rows} == {"google", "anthropic", "openai", "deepseek"}
    for name in MODELS:
        mine = {found.rule.name for found in session().rows if found.price.model == name}
        assert mine == {rule.name for rule in kv.rules_for(kv.price(name))}


def test_a_rule_without_its_price_is_left_out(monkeypatch):
    monkeypatch.setattr(session_bills, "MODELS", {"gemini-2.5-flash-lite": "Lite"})
    assert titles() == ("Lite, implicit",)  # no storage price is recorded, so the explicit cache has no bill


# ---------------------------------------------------------------- break-even


@pytest.mark.parametrize(
    ("provider", "pause", "first"),
    [
        (EXPLICIT, 60, 2),
        (EXPLICIT, 850, 4),  # 1.25 + 0.125 N + 1.0625 (N - 1) < 1.25 N is N > 3, and at 3 they are equal
        (EXPLICIT, 900, None),  # a pause rents for 1.125 what a read saves
        (EXPLICIT, 86_400, None),
        (SONNET_5M, 300, 2),
        (SONNET_5M, 301, None),
        (SONNET_1H, 300, 3),
        (SONNET_1H, HOUR, 3),
        (SONNET_1H, HOUR + 1, None),
        (GPT, 300, 2),
        (GPT, 301, None),
        (IMPLICIT, HOUR, 2),
        (IMPLICIT, HOUR + 1, None),
        (DEEPSEEK, 60, 2),
    ],
)
def test_the_break_even(provider, pause, first):
    found = row(provider, pause=pause)
    assert found.pays_from == first
    if found.rule.match == "marks" and first:
        assert first == kv.requests_to_pay(found.price, found.rule, 100_000)
    words = f"cheaper from question {first} on" if first else "never cheaper within 50 questions"
    assert words in session_sentence(session(provider, pause=pause))


@pytest.mark.parametrize("document", [2_000, 199_000, 271_000, 950_000, 1_000_000])
@pytest.mark.parametrize("pause", [60, 600, 86_400])
def test_from_the_break_even_on_the_cached_bill_is_always_the_lower(document, pause):
    for found in session_rows(document, pause, False, HOUR):
        cheaper = [found.without(n) - found.bill(n) > Decimal("1e-12") for n in range(1, found.most + 1)]
        first = found.pays_from
        assert all(cheaper[first - 1 :]) and not any(cheaper[: first - 1]) if first else not any(cheaper)


# ---------------------------------------------------------------- thresholds, limits, lives


def test_above_the_threshold_the_whole_request_is_dearer():
    """199,000 + 100 + 600 (n - 1) passes 200,000 with the third question."""
    found = row(IMPLICIT, document=199_000)
    assert found.dearer_from == 3
    second, third = (found.without(n) - found.without(n - 1) for n in (2, 3))
    assert second == 199_700 * Decimal("1.25") / 10**6 + 500 * Decimal(10) / 10**6
    assert third == 200_300 * Decimal("2.5") / 10**6 + 500 * Decimal(15) / 10**6
    said = "all of it dearer from question 3 on (over 200,000 tokens)"
    assert said in remarks(session(IMPLICIT, 199_000, 3), found)
    assert said not in remarks(session(IMPLICIT, 199_000, 2), found)
    assert row(IMPLICIT, document=201_000).dearer_from == 1
    assert row(SONNET_5M, document=201_000).dearer_from is None


def test_a_model_whose_limit_is_passed_says_so_instead_of_a_bill():
    s = session(GPT, 271_000, 3)  # 271,000 + 100 + 2 x 600 is the third prompt
    assert s.row.most == 2 and s.fits(s.row) is False and s.fits(session(IMPLICIT, 271_000).row)
    assert session(GPT, 271_000, 2).fits(s.row)
    words = "question 3 makes a prompt of 272,300 tokens, and 272,000 is the most"
    assert f"GPT-5, automatic: no bill, {words}." in session_sentence(s)
    assert session_sentence(s).endswith("Too long for GPT-5.")
    bill, remark = (line for line in session_table(s).text.splitlines() if line.startswith("GPT-5"))
    assert "0." not in bill and remark.endswith(f"no bill: {words}")
    assert f"No bill: {words}." in "".join(item.text or "" for item in drawn(session_picture(s).svg, "text"))


def test_a_prompt_as_long_as_the_limit_still_fits():
    assert [row(GPT, document=document).most for document in (271_900, 271_901)] == [1, 0]
    assert [row(SONNET_1H, document=document).most for document in (999_400, 999_401)] == [1, 0]


def test_a_million_tokens_fit_one_model_only():
    s = session(SONNET_1H, 1_000_000, 1)
    assert {found.price.model for found in s.rows if s.fits(found)} == {"gemini-2.5-pro"}
    assert "question 1 and its answer make 1,000,600 tokens, and 1,000,000 is the most" in session_sentence(s)
    assert "The lowest bill: Gemini 2.5 Pro, implicit" in session_sentence(s)
    forgotten = session(EXPLICIT, 1_000_000, pause=600, life=300)
    assert "The lowest bill: Gemini 2.5 Pro, explicit" in session_sentence(forgotten)
    assert session(document=950_000, questions=MOST).fits(row(SONNET_1H, document=950_000))


def test_no_limit_is_above_the_window_that_the_price_package_knows():
    known = {
        model.id: model.context_window
        for provider in data_snapshot.get_snapshot().providers
        if provider.id in ("anthropic", "deepseek", "google", "openai")
        for model in provider.models
    }
    for name in MODELS:
        limit = session_bills._limits()[name]
        most = limit.get("input") or limit["context"]
        assert most == known[name] or (name, most) in (("gpt-5", 272_000), ("gemini-2.5-pro", 1_048_576))
        assert known[name] is None or most <= known[name]


def test_below_the_minimum_nothing_is_cached():
    s = session(EXPLICIT, 2_000)
    assert s.row.bill(10) == s.row.without(10)
    assert remarks(s, s.row) == ["2,000 tokens are below the minimum of 2,048: nothing is cached"]


def test_a_timestamp_at_the_front_costs_every_read():
    s = session(stamp=True)
    for found in s.rows:
        assert parts(found)["read"] == parts(found)["storage"] == 0
        assert remarks(s, found)[0] == "no two prompts begin alike"
    assert row(SONNET_5M, stamp=True).ratio(10) == pytest.approx(1.25, abs=0.01)
    assert row(SONNET_1H, stamp=True).ratio(10) == pytest.approx(2, abs=0.03)
    assert row(GPT, stamp=True).ratio(10) == 1


@pytest.mark.parametrize(
    ("provider", "pause", "life", "words"),
    [
        (SONNET_5M, 600, HOUR, ["forgotten after 5 min"]),
        (SONNET_5M, 240, HOUR, []),
        (GPT, 600, HOUR, ["forgotten after 5 min (5 min to 1 h published)"]),
        (IMPLICIT, 600, HOUR, ["kept for 1 h (assumed)"]),
        (IMPLICIT, 600, 300, ["forgotten after 5 min (assumed)"]),
        (DEEPSEEK, 86_400, 86_400, ["kept for 24 h (assumed)", "off-peak price"]),
        (EXPLICIT, 86_400, 300, []),
    ],
)
def test_a_life_that_nobody_publishes_is_called_assumed(provider, pause, life, words):
    s = session(provider, pause=pause, life=life)
    assert remarks(s, s.row) == words
    assert (parts(s.row)["read"] == 0) == any("forgotten" in word for word in words)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"), [(10, "10 s"), (60, "1 min"), (2_700, "45 min"), (7_200, "2 h"), (86_400, "24 h")]
)
def test_a_time_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(("share", "words"), [(0.054, "5.4 %"), (0.0996, "10 %"), (0.3015, "30 %"), (41.69, "4,169 %")])
def test_a_share_in_words(share, words):
    assert percent(share) == words


def test_the_sentence_names_the_lowest_bill_and_the_losers():
    text = session_sentence(session(pause=2_700))
    assert text.startswith("Gemini 2.5 Pro, explicit: $3.37 with the cache, $1.33 without (253 %), never cheaper")
    assert "The lowest bill: DeepSeek V4 Flash, automatic, $0.0209." in text
    losers = "Gemini 2.5 Pro, explicit; Claude Sonnet 5, 5 minutes; Claude Opus 5.5, 5 minutes"
    assert f"Dearer with the cache than without: {losers}." in text
    assert "without: none." in session_sentence(session())


def test_the_table_has_every_part_of_every_bill():
    s = session(pause=2_700)
    bills, besides = session_table(s).text.split("\n\n")
    lines = {line.split("  ")[0]: line for line in bills.splitlines()}
    for found in s.rows:
        for amount in (found.without(10), found.bill(10), *found.cached[9]):
            assert f" {amount:,.4f} " in lines[found.title]
    assert "  3.3725  " in lines[EXPLICIT]  # 0.4025 - 0.0675 + 4.5 x 0.1 x 6.75 h
    assert "never within 50" in lines[EXPLICIT] and "from question 3" in lines[SONNET_1H]
    assert "genai-prices" in bills.splitlines()[0] and "2026-" in bills.splitlines()[0]
    assert [line.split("  ")[0] for line in besides.splitlines()[3:]] == [r.title for r in s.rows if remarks(s, r)]


@pytest.mark.parametrize(
    ("change", "predicted", "words"),
    [
        ({}, 30, "near enough to 30 %"),
        ({}, 25.1, "it is 30 %. It looks as if you forgot the rent"),  # (0.4025 - 0.0675) / 1.335
        ({}, 20.8, "you forgot to create the cache"),  # (0.4025 - 0.125) / 1.335
        ({}, 15.7, "you forgot both creating the cache and its rent"),
        ({}, 10, "you took the price of a read for the whole bill"),
        ({}, 13.4, "you read the document before it was ever written"),  # (0.1 x 1.285 + 0.05) / 1.335
        ({}, 100, "you let the cache change nothing"),
        ({}, 60, "it is 30 %."),
        ({"provider": SONNET_1H}, 21.5, "you wrote for nothing: a written token costs 2 new ones"),
        ({"provider": SONNET_1H, "pause": 7_200}, 31.2, "you forgot that the cache lives 1 h without use"),
        ({"stamp": True}, 30.1, "you forgot the timestamp"),
        ({"provider": GPT, "document": 300_000}, 30, "there is no bill to compare it with"),
    ],
)
def test_the_verdict_names_the_usual_mistake(change, predicted, words):
    assert words in verdict(session(**change), predicted)


def test_a_verdict_without_a_mistake_names_none():
    assert verdict(session(), 60) == "You predicted 60 %; it is 30 %."
    with pytest.raises(ValueError, match="predicted must be % of the bill without a cache, above 0; got 0"):
        verdict(session(), 0)


# ---------------------------------------------------------------- the picture


def test_the_bars_are_as_long_as_the_bills():
    s = session(pause=240)
    svg = session_picture(s).svg
    grey = drawn(svg, "rect", "without")
    segments = drawn(svg, "rect", "part")[len(KINDS) :]  # the legend comes first
    assert [float(rect.get("data-usd")) for rect in grey] == [float(found.without(10)) for found in s.rows]
    for found, bar in zip(s.rows, grey, strict=True):
        mine = [rect for rect in segments if 0 < float(rect.get("y")) - float(bar.get("y")) < 20]
        wide = sum(float(rect.get("width")) for rect in mine)
        assert wide / float(bar.get("width")) == pytest.approx(found.ratio(10), abs=1e-3)
        assert [rect.get("data-part") for rect in mine] == [k for k in KINDS if parts(found)[k]]


def test_a_bill_that_explodes_is_cut_off_and_marked():
    assert not drawn(session_picture(session()).svg, "path", "cut")
    svg = session_picture(session(questions=MOST, pause=86_400)).svg
    assert len(drawn(svg, "path", "cut")) == 3  # the rent, and twice a write for an hour at 198 %
    assert max(float(r.get("x")) + float(r.get("width")) for r in drawn(svg, "rect", "part")) <= 540.01
    assert "(7,153 %)" in label(svg)


def test_the_break_even_is_marked_and_the_strip_ends_where_the_model_does():
    s = session(document=271_000, questions=2, pause=600)
    svg = session_picture(s).svg
    pays = [found.pays_from for found in s.rows if found.pays_from]
    assert [int(rect.get("data-from")) for rect in drawn(svg, "rect", "pays")] == pays
    assert len(drawn(svg, "path", "even")) == len(pays) > 0
    two, fifty = (
        float(drawn(session_picture(session(questions=n)).svg, "path", "asked")[0].get("d")[1:].split()[0])
        for n in (2, MOST)
    )
    strip = next(rect for rect in drawn(svg, "rect", "pays"))
    assert float(strip.get("x")) == pytest.approx(two, abs=0.1)
    assert float(strip.get("x")) + float(strip.get("width")) == pytest.approx(fifty, abs=0.1)


@pytest.mark.parametrize("document", [2_000, 199_000, 271_000, 950_000, 1_000_000])
@pytest.mark.parametrize("pause", [60, 600, 86_400])
@pytest.mark.parametrize("stamp", [False, True])
def test_no_text_leaves_the_picture_or_meets_another(document, pause, stamp):
    for questions in (1, MOST):
        s = session(IMPLICIT, document, questions, pause, stamp, 300)
        spans = {}
        for item in drawn(session_picture(s).svg, "text"):
            long, x = len("".join(item.itertext())) * _LETTER, float(item.get("x"))
            left = {"start": x, "middle": x - long / 2, "end": x - long}[item.get("text-anchor")]
            assert left >= 0 and left + long <= WIDTH, "".join(item.itertext())
            spans.setdefault(item.get("y"), []).append((left, left + long))
        for row_ in spans.values():
            ordered = sorted(row_)
            assert all(one[1] <= other[0] + 1 for one, other in pairwise(ordered)), ordered


def test_the_picture_says_every_row_in_words():
    s = session(document=271_000, pause=600)
    text = label(session_picture(s).svg)
    assert text == session_reading(s) == session_picture(s).text
    assert text.startswith(f"Bills of {asked(s)}. Gemini 2.5 Pro, implicit: $")
    assert all(title in text for title in titles())
    assert "GPT-5, automatic: no bill" in text


# ---------------------------------------------------------------- the panel


def test_no_number_is_shown_before_the_prediction():
    panel = SessionPanel()
    for move in (lambda: None, lambda: setattr(panel.questions, "value", 20), panel.button.click):
        move()
        assert (panel.svg.value, panel.details.value) == ("", "")
    assert status(panel).startswith("Write your prediction first")
    panel.prediction.value = 3
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert status(panel).startswith("100,000 tokens, 20 questions, 1 min apart. Gemini 2.5 Pro, explicit: what does")
    assert "$" not in status(panel)


@pytest.mark.parametrize("wrong", [0, -3, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(wrong):
    panel = SessionPanel()
    panel.prediction.value = wrong
    panel.button.click()
    assert not panel.revealed
    assert status(panel).startswith("Write your prediction first")


def test_the_panel_follows_every_control(panel):
    assert status(panel) == panel.text
    assert status(panel).startswith("You predicted 25 %; ")
    moves = (("document", 201_000), ("questions", 20), ("pause", 600), ("stamp", True), ("stamp", False))
    for control, value in (*moves, ("life", 300), ("provider", SONNET_1H)):
        before = panel.svg.value
        getattr(panel, control).value = value
        assert panel.svg.value != before, control
        assert "<caption" in panel.details.value
    assert panel.result == session(SONNET_1H, 201_000, 20, 600, False, 300)


def test_the_panel_starts_where_it_is_told():
    panel = SessionPanel(document=201_000, questions=50, pause=2_700, provider=GPT)
    assert panel.result == session(GPT, 201_000, 50, 2_700)
    assert [value for _, value in panel.pause.options] == list(PAUSES)
    assert [value for _, value in panel.life.options] == list(LIVES)
    with pytest.raises(TraitError):
        SessionPanel(document=123)


def test_every_offer_can_be_chosen(panel):
    panel.questions.value = MOST
    for name in ("provider", "document", "pause", "life"):
        for _, value in getattr(panel, name).options:
            getattr(panel, name).value = value
            assert status(panel) == panel.text


def test_a_panel_refuses_what_it_does_not_offer(panel):
    for name, control in panel.controls.items():
        with pytest.raises(TraitError):
            control.value = "nonsense"
        if name not in ("provider", "stamp"):
            with pytest.raises(TraitError):
                control.value = 10**9


def test_the_table_is_there_without_a_kernel_or_a_button():
    bundle = SessionPanel()._repr_mimebundle_()
    for text in (unescape(bundle["text/html"]), bundle["text/plain"]):
        assert all(title in text for title in titles())
        assert "never within" in text or "from question 2" in text
    assert "<caption" in bundle["text/html"]
    assert "Run this notebook to move the controls." in bundle["text/html"]


def test_every_control_has_a_description_with_its_unit_and_the_panel_a_class(panel):
    assert all(control.description for control in (*panel.controls.values(), panel.prediction))
    assert {"panel", "panel-session"} <= set(panel._dom_classes)
    assert "(tokens)" in panel.document.description
    assert panel.prediction.description == "Your prediction (% of the bill without)"
    assert all(re.fullmatch(r"\d+ (s|min|h)", words) for words, _ in panel.pause.options)
    assert math.isfinite(panel.prediction.value)
