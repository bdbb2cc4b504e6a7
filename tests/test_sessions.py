from itertools import pairwise

import pytest

from kvlib.sessions import Request, block_references, conversation, shared_tokens, stamped


def test_every_request_repeats_all_that_was_said():
    rows = conversation(1_000, [10, 20, 30], [100, 200, 300], pause=60, start=5)
    assert [row.tokens for row in rows] == [1_010, 1_010 + 100 + 20, 1_130 + 200 + 30]
    assert [row.output_tokens for row in rows] == [100, 200, 300]
    assert [row.at for row in rows] == [5, 65, 125]
    assert [shared_tokens(a, b) for a, b in pairwise(rows)] == [1_010, 1_130]
    assert rows[1].parts[2] == (rows[0].answer, 100)


def test_a_change_at_the_front_shares_nothing_and_one_in_the_middle_shares_what_is_before():
    first = Request(0, (("system", 50), ("document", 100), ("question", 9)))
    assert shared_tokens(first, Request(1, (("system", 50), ("document", 100), ("other", 9)))) == 150
    assert shared_tokens(first, Request(1, (("system", 51), ("document", 100), ("question", 9)))) == 0
    assert shared_tokens(first, Request(1, (("document", 100), ("system", 50)))) == 0
    rows = stamped(conversation(1_000, 10, 10, 3), tokens=7)
    assert [row.tokens for row in rows] == [1_017, 1_037, 1_057]
    assert shared_tokens(rows[0], rows[1]) == 0


def test_marks_move_with_the_stamp():
    rows = conversation(1_000, 10, 10, 2, mark="both")
    assert [row.marks for row in rows] == [(1, 2), (1, 4)]
    assert [row.marks for row in stamped(rows)] == [(2, 3), (2, 5)]
    assert conversation(0, 10, 10, 1, mark="document")[0].marks == ()


def test_conversations_with_different_names_share_nothing():
    first, second = conversation(100, 10, 10, 1, name=1), conversation(100, 10, 10, 1, name=2)
    assert shared_tokens(first[0], second[0]) == 0


def test_tokens_and_blocks_agree_on_what_is_equal():
    rows = [
        Request(0, (("a", 5), ("b", 6))),
        Request(1, (("a", 5), ("b", 6), ("c", 4))),
        Request(2, (("a", 5), ("c", 9))),
        Request(3, (("x", 5), ("b", 6), ("c", 4))),  # the same later on, after something else
    ]
    for block in (1, 2, 3, 4, 7):
        numbers = block_references(rows, block)
        for row, mine in zip(rows, numbers, strict=True):
            assert len(mine) == len(set(mine)) == row.tokens // block
            for other, theirs in zip(rows, numbers, strict=True):
                same = sum(x == y for x, y in zip(mine, theirs, strict=False))
                assert same == min(shared_tokens(row, other), row.tokens, other.tokens) // block
    assert [row.tokens for row in rows] == [len(row.token_ids()) for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, [1, 2], [1]), "question and answer must be as many; got 2 and 1"),
        ((100, [1, 2], 5, 3), "question must be a number, or one for each question; got 2 for 3"),
        ((100, [], 5), "question must be a number, or one for each question; got 0"),
        ((100, 5, 5, 0), "questions must be a whole number, 1 or more; got 0"),
        ((-1, 5, 5, 2), "document must be a whole number, 0 or more; got -1"),
        ((100, 0, 5, 2), "tokens of part .* must be a whole number, 1 or more; got 0"),
        ((100, 5, -5, 2), "answer must be a whole number, 0 or more; got -5"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        conversation(*arguments)


def test_bad_requests_are_named():
    for at in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="at must be a number of seconds, 0 or more"):
            Request(at, ())
    for marks in ((0,), (3,), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="marks must rise within 1 to 2, the number of parts"):
            Request(0, (("a", 1), ("b", 1)), marks=marks)
    with pytest.raises(ValueError, match="mark must be"):
        conversation(1, 1, 1, 1, mark="all")
    with pytest.raises(ValueError, match="block_tokens must be a whole number, 1 or more; got 0"):
        block_references([], 0)
