"""What the pictures of lesson 06 say: every bar and cell is compared with the bill or the data file it comes from."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import kvlib as kv
from kvlib.show.context_pictures import prompts_picture, rules_table

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parents[2]
TALK = kv.conversation(10_000, 100, 400, 5, pause=60, mark="both")
PRO = kv.price("gemini-2.5-pro")


def bars(picture):
    """(line, part, tokens) of every bar, in the order of drawing."""
    found = [r for r in ElementTree.fromstring(str(picture)).iter(f"{SVG}rect") if r.get("class") == "part"]
    return [(bar.get("data-line"), bar.get("data-part"), int(bar.get("data-tokens"))) for bar in found]


def words(picture):
    return ["".join(text.itertext()) for text in ElementTree.fromstring(str(picture)).iter(f"{SVG}text")]


def test_without_a_cache_each_prompt_is_one_bar_as_long_as_the_prompt():
    drawn = prompts_picture(kv.session_bill(TALK, PRO))
    assert bars(drawn) == [(f"request {n}", "new", 10_100 + 500 * (n - 1)) for n in range(1, 6)]
    widths = [float(width) for width in re.findall(r'class="part"[^>]* width="([\d.]+)"', str(drawn))]
    assert widths == pytest.approx([widths[-1] * tokens / 12_100 for _, _, tokens in bars(drawn)], abs=0.01)


def test_with_a_cache_the_known_part_stands_first():
    drawn = prompts_picture(kv.session_bill(TALK, PRO, "gemini-implicit", ttl=600))
    assert bars(drawn)[:5] == [
        ("request 1", "new", 10_100),  # its whole prompt is known to the second, whose answer and question are new
        *(("request 2", "cached", 10_100), ("request 2", "new", 500)),
        *(("request 3", "cached", 10_600), ("request 3", "new", 500)),
    ]
    assert "gemini-2.5-pro, Gemini, implicit: 5 requests" in drawn.text
    assert f"{10_100 + 4 * 500:,} new" in drawn.text and f"{10_100 + 10_600 + 11_100 + 11_600:,} cached" in drawn.text


def test_what_is_written_at_a_price_of_its_own_is_told_apart():
    drawn = prompts_picture(kv.session_bill(TALK, kv.price("claude-sonnet-4-5"), "anthropic-5m"))
    assert bars(drawn)[0] == ("request 1", "written", 10_100)
    assert bars(drawn)[1:3] == [("request 2", "cached", 10_100), ("request 2", "written", 500)]
    assert not any(part == "new" for _, part, _ in bars(drawn))


def test_an_explicit_cache_is_created_and_kept():
    bill = kv.session_bill(TALK, PRO, "gemini-explicit")
    drawn = prompts_picture(bill)
    assert bars(drawn)[0] == ("create the cache", "new", 10_000)
    assert "10,000 tokens for 4 min" in words(drawn)  # five requests, one a minute
    assert drawn.text.endswith("with what it costs to create the cache and to keep the cache")
    assert drawn.text.count("5 requests") == 1  # the two other lines are no requests


def test_every_line_says_its_price_and_the_reading_their_sum():
    bill = kv.session_bill(TALK, PRO, "gemini-explicit")
    drawn = prompts_picture(bill)
    printed = [float(word) for word in words(drawn) if re.fullmatch(r"\d+\.\d{4}", word)]
    assert printed == pytest.approx([float(line.bill.usd) for line in bill.lines], abs=5e-5)
    assert f"{float(bill.usd):.4f} USD" in drawn.text


def test_lines_beyond_the_limit_are_counted():
    drawn = prompts_picture(kv.session_bill(TALK, PRO), most=2)
    assert len(bars(drawn)) == 2
    assert "and 3 lines more" in words(drawn)
    assert "5 requests" in drawn.text


def test_a_picture_has_its_reading_as_its_name():
    drawn = prompts_picture(kv.session_bill(TALK, PRO))
    root = ElementTree.fromstring(str(drawn))
    assert root.get("role") == "img" and root.get("aria-label") == drawn.text
    assert str(drawn) == str(prompts_picture(kv.session_bill(TALK, PRO)))


def test_a_bill_without_lines_and_a_limit_of_none_are_refused():
    with pytest.raises(ValueError, match="bill must have a line and most be 1 or more; got 0 lines"):
        prompts_picture(kv.session_bill([], PRO))
    with pytest.raises(ValueError, match="most=0"):
        prompts_picture(kv.session_bill(TALK, PRO), most=0)


# ---------------------------------------------------------------- the rules


def cells(models):
    """{rule: cells after the model}, read from the HTML."""
    found = re.findall(r"<tr>(.*?)</tr>", rules_table(models).html, re.DOTALL)[1:]
    lines = [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in found]
    return {line[0]: line[2:] for line in lines}


def test_the_rules_as_their_pages_have_them():
    """Read on the providers' pages, not in the data file."""
    rows = cells(["gemini-2.5-pro", "claude-sonnet-4-5", "gpt-5", "gpt-6.1-sol", "deepseek-v4-flash"])
    anew = ", anew with each use"
    assert rows["Anthropic, 5 minutes"][1:] == ["1,024", "1", f"5 min{anew}", "1.25", "0.1", "", "2026-11"]
    assert rows["Anthropic, 1 hour"][1:] == ["1,024", "1", f"1 h{anew}", "2", "0.1", "", "2026-11"]
    assert rows["OpenAI, automatic (before GPT-5.6)"][1:4] == ["1,024", "128", f"5 min to 1 h{anew}"]
    assert rows["Gemini, explicit"][3:] == ["1 h, or what you ask for", "1", "0.1", "4.50", "2026-09"]
    assert rows["OpenAI, from GPT-5.6"][4:6] == ["1.25", "0.05"]
    assert rows["DeepSeek, from V4"][0] == "whole earlier prompt"


def test_what_is_not_verified_has_a_question_mark_and_nothing_else_has():
    data = tomllib.loads((ROOT / "kvlib/data/context_caches.toml").read_text(encoding="utf-8"))
    rows = cells(["deepseek-chat", "gemini-2.5-pro", "gpt-5", "claude-sonnet-4-5"])
    columns = {"minimum": 1, "increment": 2, "renewed": 3}
    for rule in data["rules"]:
        if rule["title"] in rows:
            for field, column in columns.items():
                assert rows[rule["title"]][column].endswith(" ?") == (field in rule.get("unverified", [])), rule["name"]


def test_a_table_of_nothing_is_refused():
    with pytest.raises(ValueError, match="models must name at least one model with a cached price"):
        rules_table([])
    with pytest.raises(ValueError, match="model must be one of"):
        rules_table(["gemini-2.5-por"])
