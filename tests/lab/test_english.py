"""The English that a large model reads is the same task; a reply is scored by its first three-digit number."""

from random import Random

import pytest

from kvlib.lab.english import asked, first_number, opening, prose, task_ids, words_and_marks
from kvlib.lab.needle import needles
from kvlib.lab.words import encode

HAY = needles(Random(5), 300, (0.0, 0.4, 1.0), facts=0.4)


def test_sentences_and_questions_by_hand():
    ids = encode("the room of odd performer is 159 . a corner in the tower was bright and pale .")
    assert prose(ids) == "The room of odd performer is 159. A corner in the tower was bright and pale."
    words = HAY.questions[0].text.split()
    thing = " ".join(words[3:7])
    assert HAY.questions[0].text == f"what is the {thing} ? answer"
    assert asked(HAY.questions[0]) == f"What is the {thing}? Answer with the number only."
    assert opening(HAY.questions[0]) == f"The {thing} is"


@pytest.mark.parametrize("number", range(3))
def test_the_way_back_gives_the_same_tokens(number):
    prompt = f"{prose(HAY.ids)}\n\n{asked(HAY.questions[number])}"
    assert task_ids(prompt).tolist() == HAY.prompt(number).tolist()


def test_a_word_outside_the_task_is_named():
    with pytest.raises(ValueError, match="got 'hovercraft'"):
        task_ids("The room of the hovercraft is 159.")


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("221", 221),
        ("The answer is **221**.", 221),
        ("221, not 284", 221),
        ("It is 22 or 2210 or 221", 221),
        ("1,221 or 1.221 or 221.5 or 284", 284),
        ("seat221", 221),
        ("I cannot tell.", None),
        ("12", None),
        ("1234567", None),
        ("", None),
    ],
)
def test_the_first_number_of_three_digits(reply, number):
    assert first_number(reply) == number


def test_words_and_marks():
    assert words_and_marks("The seat is 221.\n\nWhat is it?") == 9
