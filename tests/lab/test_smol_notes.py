"""The task in English: prompts of the right length, one right answer each, and wrong ones told apart."""

import itertools
import re

import pytest

from kvlib.lab.smol_notes import (
    ALL,
    ALONE,
    ARMS,
    CITIES,
    DID,
    ONE,
    QUOTES,
    START,
    TEN,
    THINGS,
    WHAT,
    WHEN,
    WHO,
    Code,
    code_in,
    notes,
    questions_per,
    quoted,
)


def encode(text):
    """A stand-in for the tokenizer: words, marks and single digits."""
    return re.findall(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]", text)


def prompt(hay, code):
    return [*hay.prefix(encode), *encode(code.question)]


@pytest.mark.parametrize("tokens", [220, 256, 1024])
@pytest.mark.parametrize("arm", ARMS)
def test_prompts_fill_their_room(arm, tokens):
    for haystack in range(5):
        hay = notes(arm, tokens, haystack, encode)
        lengths = [len(prompt(hay, code)) for code in hay.asked]
        assert max(lengths) <= tokens and min(lengths) > tokens - 16  # less than one more sentence


@pytest.mark.parametrize(("arm", "asked"), [(ALONE, 1), (ONE, 1), (TEN, 10), (ALL, 10)])
def test_each_question_has_one_right_answer(arm, asked):
    hay = notes(arm, 512, 3, encode)
    text = " ".join(hay.sentences)
    assert len(hay.asked) == asked == questions_per(arm)
    assert len({code.number for code in hay.codes}) == len({code[:2] for code in hay.codes}) == len(hay.codes)
    assert set(hay.asked) <= set(hay.codes)
    for code in hay.codes:
        assert text.count(code.opening) == text.count(code.number) == hay.sentences.count(code.note) == 1


def test_what_the_arms_are_made_of():
    told = {arm: notes(arm, 512, 0, encode) for arm in (ALONE, *ARMS)}
    assert [len(told[arm].codes) for arm in (ALONE, ONE, TEN)] == [1, 1, 10]
    assert told[ALONE].sentences == (told[ALONE].codes[0].note,)
    assert tuple(code.note for code in told[ALL].codes) == told[ALL].sentences
    assert len(told[ONE].sentences) > 30 and len(told[ALL].sentences) > 30
    assert told[ONE].asked[0] == told[TEN].asked[0] == told[ALL].asked[0]  # the arms ask the same things


def test_codes_stand_at_ten_depths():
    for arm in (TEN, ALL):
        hay = notes(arm, 1024, 0, encode)
        assert [hay.depth(code) for code in hay.asked] == pytest.approx([place / 9 for place in range(10)], abs=0.07)
    singles = [notes(ONE, 1024, haystack, encode) for haystack in range(12)]
    depths = [hay.depth(hay.asked[0]) for hay in singles]
    assert depths == pytest.approx([*(place / 9 for place in range(10)), 0, 1 / 9], abs=0.02)


def test_the_prompt_is_a_chat_that_ends_in_the_opening_words():
    code = Code("Oslo", "safe", "4821")
    assert code.note == "The code of the safe in Oslo is 4821."
    asked = "What is the code of the safe in Oslo?<|im_end|>\n<|im_start|>assistant\nThe code of the safe in Oslo is"
    assert code.question == "\n\n" + asked
    assert START.startswith("<|im_start|>system\n") and START.count("<|im_end|>") == 1 and "<|im_start|>user\n" in START


def test_haystacks_are_drawn_by_number_and_seeds():
    assert notes(TEN, 256, 1, encode) == notes(TEN, 256, 1, encode)
    others = [notes(TEN, 256, 2, encode), notes(TEN, 257, 1, encode), notes(TEN, 256, 1, encode, "other")]
    assert all(notes(TEN, 256, 1, encode).asked != hay.asked for hay in others)


def test_chatter_tells_nothing():
    assert len(set(CITIES)) == len(set(THINGS)) == 20
    words = {word.lower() for part in (WHO, DID, WHAT, WHEN) for entry in part for word in entry.split()}
    assert not words & {name.lower() for name in (*CITIES, *THINGS)}
    assert not any(digit in word for word, digit in itertools.product(words, "0123456789"))


@pytest.mark.parametrize(
    ("reply", "source"),
    [
        (" 4821.", "needle"),
        (" **4821**", "needle"),
        (" 1111.", "1 of 2"),
        (" 2222.", "1 of 2"),
        (" 3333.", "0 of 2"),
        (" 4822.", "nothing"),
        (" 48211", "no code"),
        (" 482", "no code"),
        (" not known.", "no code"),
        (" 1111, or 4821", "1 of 2"),  # the first number counts
    ],
)
def test_where_an_answer_was_taken_from(reply, source):
    asked = Code("Oslo", "safe", "4821")
    codes = [Code("Oslo", "gate", "1111"), Code("Lima", "safe", "2222"), Code("Lima", "gate", "3333"), asked]
    assert quoted(asked, reply, codes) == source
    assert source == "needle" or source in QUOTES


def test_code_in_a_reply():
    assert [code_in(reply) for reply in ("12345 678", "a1234b", "1,234", "٤٨٢١")] == [None, "1234", None, None]


@pytest.mark.parametrize(
    ("arm", "tokens", "message"),
    [
        ("two codes", 256, "arm must be one of the code alone, one code in chatter, ten codes in chatter, codes only"),
        (TEN, 100, "or more for the codes of this arm; got 100"),
        (ALL, 9000, "tokens must be fewer: 400 codes do not fill them; got 9,000"),
        (ONE, 0.5, "tokens must be a whole number, 1 or more; got 0.5"),
    ],
)
def test_impossible_haystacks_are_refused(arm, tokens, message):
    with pytest.raises(ValueError, match=message):
        notes(arm, tokens, 0, encode)


def test_the_least_length_in_the_message_is_the_least():
    with pytest.raises(ValueError, match="or more") as refused:
        notes(TEN, 100, 0, encode)
    # another length draws other codes; with this stand-in all of them take the same room
    least = int(re.search(r"must be (\d+) or more", str(refused.value))[1])
    assert len(notes(TEN, least, 0, encode).sentences) == 10
