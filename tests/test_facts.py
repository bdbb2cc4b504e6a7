"""The article's claims and the published figures: sourced, dated, and in step with the pages and with the formulas."""

from datetime import date
from pathlib import Path

import pytest

from kvlib import facts
from kvlib.catalogue import model
from kvlib.units import GB, GiB

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDS = [*facts.lessons(), *facts.article_claims(), *facts.article_ranges(), *facts.published()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: getattr(record, "id", type(record).__name__))
def test_every_record_has_a_source_and_a_date(record):
    assert record.source.strip()
    assert isinstance(record.as_of, date)


@pytest.mark.parametrize("records", [facts.article_claims(), facts.published()], ids=["claims", "figures"])
def test_no_two_records_share_an_id(records):
    names = [record.id for record in records]
    assert len(names) == len(set(names))


def test_every_lesson_settles_a_claim_and_every_claim_has_a_lesson():
    settled = {number for claim in facts.article_claims() for number in claim.lessons}
    assert settled == {lesson.number for lesson in facts.lessons()} == set(range(1, 9))


@pytest.mark.parametrize("lesson", facts.lessons(), ids=str)
def test_a_lesson_is_called_written_when_its_page_exists(lesson):
    pages = list((REPOSITORY / "notebooks/source").glob(f"{lesson.number:02}_*.md"))
    assert lesson.written == bool(pages)


def test_a_claim_says_where_it_is_settled():
    claims = {claim.id: claim.settled_in for claim in facts.article_claims()}
    assert claims["table"] == "01 KV cache"
    assert all(text.count("0") >= 1 for text in claims.values())


# ---------------------------------------------------------------- the article's table, recomputed


def slope(low, high, edge):
    return (getattr(high, edge) - getattr(low, edge)) / (high.tokens - low.tokens)


def test_the_article_s_ranges_are_the_published_ones():
    ranges = [(row.tokens, row.low / GB, row.high / GB) for row in facts.article_ranges()]
    assert ranges == [(200_000, 48, 80), (1_000_000, 100, 256), (2_000_000, 200, 500)]


@pytest.mark.parametrize(
    ("amount", "place"), [(47, "below"), (48, "inside"), (80, "inside"), (81, "above")], ids=lambda value: str(value)
)
def test_an_amount_lies_below_inside_or_above_a_range(amount, place):
    assert facts.article_ranges()[0].place(amount * GB) == place


def test_each_edge_of_the_table_has_two_slopes():
    short, medium, long = facts.article_ranges()
    assert (slope(short, medium, "low"), slope(medium, long, "low")) == (65_000, 100_000)
    assert (slope(short, medium, "high"), slope(medium, long, "high")) == (220_000, 244_000)


def test_the_weights_that_the_table_leaves_room_for():
    _, medium, long = facts.article_ranges()
    assert medium.low - slope(medium, long, "low") * medium.tokens == 0
    assert medium.high - slope(medium, long, "high") * medium.tokens == 12 * GB


# ---------------------------------------------------------------- published figures


def test_a_figure_speaks_in_its_own_unit_and_decimals():
    (figure,) = facts.published("opt-13b-request")
    assert figure.text == "1.6 GiB"
    assert figure.express(2_048 * 819_200) == "1.6 GiB"
    assert figure.express(2 * GiB) == "2.0 GiB"


@pytest.mark.parametrize("figure", facts.published(), ids=lambda figure: figure.id)
def test_a_figure_reads_back_as_it_was_printed(figure):
    assert figure.text.split()[0].replace(",", "") == figure.value


def test_the_rtx_5090_shows_more_than_its_label():
    (card,) = facts.published("rtx-5090-memory")
    assert card.amount == 34_190_917_632
    assert card.text == "32,607 MiB"


def test_no_name_means_every_figure_and_a_wrong_one_is_refused():
    assert len(facts.published()) > 20
    with pytest.raises(ValueError, match=r"id must be one of opt-13b-token.*; got 'opt-13'"):
        facts.published("opt-13")


CACHES = [figure for figure in facts.published() if figure.quantity == "cache"]


def cache_of(figure):
    """Bytes that grow with the text; a server's log names the recurrent state on a line of its own."""
    one = model(figure.model)
    return one.cache_bytes(figure.tokens, figure.dtype) - one.state_bytes


@pytest.mark.parametrize("figure", [f for f in CACHES if not f.differs], ids=lambda figure: figure.id)
def test_our_cache_is_the_published_one(figure):
    assert figure.express(cache_of(figure)) == figure.text


def test_the_one_figure_that_differs_is_exactly_twice_ours():
    (figure,) = [f for f in CACHES if f.differs]
    assert figure.express(2 * cache_of(figure)) == figure.text


@pytest.mark.parametrize("figure", [f for f in facts.published() if f.quantity == "parameters"], ids=lambda f: f.id)
def test_our_parameters_are_the_published_ones(figure):
    assert figure.express(model(figure.model).parameters) == figure.text


def test_our_active_parameters_are_the_published_ones_without_the_embedding():
    for figure in (figure for figure in facts.published() if figure.quantity == "active"):
        one = model(figure.model)
        assert figure.express(one.active_parameters - one.vocab_size * one.hidden_size) == figure.text
