"""Published results in long contexts: complete, sourced, and in step with what their authors derive from them."""

from datetime import date

import pytest

from kvlib.lab.published_drift import findings, length_results, place_results

EVERY = [*length_results(), *place_results(), *findings()]
BY_NAME = {(result.benchmark, result.model): result for result in length_results()}


@pytest.mark.parametrize("result", EVERY, ids=lambda result: getattr(result, "model", getattr(result, "benchmark", "")))
def test_every_result_has_a_source_an_address_and_a_date(result):
    assert result.source.title and result.source.url.startswith("https://")
    assert date(2023, 7, 1) < result.as_of == result.source.as_of <= date(2026, 11, 25)


@pytest.mark.parametrize("result", [*length_results(), *place_results()], ids=lambda result: result.model)
def test_scores_are_shares_in_percent_one_for_each_length_or_place(result):
    along = getattr(result, "tokens", None) or result.place
    assert len(result.scores) == len(along) > 1
    assert list(along) == sorted(set(along))
    assert all(0 <= score <= 100 for score in result.scores)


def test_no_model_stands_twice_in_a_benchmark():
    assert len(BY_NAME) == len(length_results()) == 12
    assert {result.benchmark for result in length_results()} == {"RULER", "NoLiMa", "MRCR, 2 needles"}


@pytest.mark.parametrize("result", [one for one in length_results() if one.threshold], ids=lambda one: one.model)
def test_the_benchmark_s_own_rule_gives_the_effective_length_that_was_printed(result):
    assert result.reached == result.effective_tokens


def test_a_benchmark_without_a_threshold_has_no_effective_length():
    assert BY_NAME["MRCR, 2 needles", "GPT-4.1"].reached is None


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("GPT-4o", 99.3),
        ("Llama 3.3 70B", 97.3),
        ("Gemini 1.5 Pro", 92.6),
        ("Claude 3.5 Sonnet", 87.6),
        ("Llama 3.1 8B", 76.7),
    ],
)
def test_nolima_calls_85_percent_of_the_base_score_good(model, base):
    assert BY_NAME["NoLiMa", model].threshold == pytest.approx(0.85 * base, abs=0.1)  # both are rounded


def test_the_abstracts_say_the_same():
    # NoLiMa: "from an almost-perfect baseline of 99.3% to 69.7%" at 32K; RULER: Llama 2 7B at 4K sets 85.6 %.
    assert (BY_NAME["NoLiMa", "GPT-4o"].tokens[-1], BY_NAME["NoLiMa", "GPT-4o"].scores[-1]) == (32_768, 69.7)
    assert {result.threshold for result in length_results() if result.benchmark == "RULER"} == {85.6}


def test_a_record_holds_both_ends():
    record = BY_NAME["RULER", "Qwen2 72B"].record
    assert (record["short_tokens"], record["short"], record["long_tokens"], record["long"]) == (
        4_096,
        96.9,
        131_072,
        53.7,
    )
    assert record["effective_tokens"] == 32_768 and record["source"].startswith("Hsieh et al.")


def test_lost_in_the_middle_is_a_u_for_gpt_and_below_no_document_at_all():
    # Liu et al., section 2.3: worse than without any document (56.1 %) when the answer stands in the middle.
    gpt, *others = place_results()
    assert gpt.middle == 53.8 < gpt.closed_book == 56.1 < min(gpt.scores[0], gpt.scores[-1])
    assert all(one.closed_book < one.middle < one.oracle for one in others)
