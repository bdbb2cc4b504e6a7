"""Exercise 07's checks: right answers pass in any form, and every usual mistake is caught and called by its name.

The wrong answers stand here once more, written apart from the checks, so that a slip in a check shows.
"""

import ast
import itertools
import math
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

import kvlib as kv
from kvlib.check import ex07
from kvlib.check.ex07 import counted, maps, model, paid, prompts, retriever, scores, shares
from kvlib.lab import dilution, score
from kvlib.lab.needle import needles as draw
from kvlib.lab.retrievers import THESAURUS, content
from kvlib.lab.tinylm import load
from kvlib.lab.words import FILLER_NOUNS, WORDS
from tests.check import exercise_pages as pages

QUESTIONS = pages.questions(ex07)
TODAY = date(2026, 11, 20)
Z = 1.959963984540054  # two-sided 95 %, from a printed table


def held(accuracy, least, lengths=None):
    """The last of the lengths before the first that falls below `least`; 0 if there is none."""
    walk = itertools.takewhile(lambda tokens: accuracy[tokens] >= least, lengths or sorted(accuracy))
    return max(walk, default=0)


def base(accuracy):
    return accuracy[min(accuracy)]


def interval(right, n, z=Z):
    """Wilson's interval as the two roots of (p - r)² n = z² r (1 - r)."""
    p = right / n
    a, b, c = n + z * z, -(2 * n * p + z * z), n * p * p
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def normal(right, n, z=Z):
    p = right / n
    return p + z * math.sqrt(p * (1 - p) / n)


def law(others, needle):
    """A needle that weighs as much as `needle` other tokens, among `others`."""
    return needle / (needle + others)


def weight(tokens, mass):
    return (tokens - 1) * mass / (1 - mass)


def diluted(tokens, mass, longer):
    return law(longer - 1, weight(tokens, mass))


def paid_for(i, o, right, n, new, out):
    return n * (i * new + o * out) / right / 1e6


RIGHT = {
    "effective_length": lambda accuracy: held(accuracy, 0.85 * base(accuracy)),
    "wilson_high": lambda right, n: interval(right, n)[1],
    "needle_mass": diluted,
    "share_after": lambda share, gone: share / (1 - sum(gone)),
    "usd_per_right": paid_for,
}
REAL = [name for name in RIGHT if name != "effective_length"]

WRONG = {
    "effective_length": {
        "the last that is high enough": lambda a: max(t for t in a if a[t] >= 0.85 * base(a)),
        "85 % of all answers": lambda a: held(a, 0.85),
        "the best for the base": lambda a: held(a, 0.85 * max(a.values())),
        "the first that falls short": lambda a: min((t for t in a if a[t] < 0.85 * base(a)), default=max(a)),
        "the longest measured": max,
        "the line itself left out": lambda a: held(a, 0.85 * base(a) + 1e-6),
        "the order of the table": lambda a: list(
            itertools.takewhile(lambda t: a[t] >= 0.85 * next(iter(a.values())), a)
        )[-1],
        "accuracy for length": lambda a: a[held(a, 0.85 * base(a))],
    },
    "wilson_high": {
        "the normal interval": normal,
        "another z": lambda right, n: interval(right, n, 1.6448536269514722)[1],
        "z rounded": lambda right, n: interval(right, n, 1.96)[1],
        "the lower end": lambda right, n: interval(right, n)[0] if right else 0.0,
        "the middle": lambda right, n: sum(interval(right, n)) / 2,
        "the share itself": lambda right, n: right / n,
        "spread for error": lambda right, n: right / n + Z * math.sqrt(right * (n - right)) / n,
        "two and two": lambda right, n: normal(right + 2, n + 4),
        "percent": lambda right, n: 100 * interval(right, n)[1],
    },
    "needle_mass": {
        "attention frozen": lambda n, m, longer: m,
        "N instead of N - 1": lambda n, m, longer: law(longer, n * m / (1 - m)),
        "in proportion": lambda n, m, longer: m * n / longer,
        "delta with the wrong sign": lambda n, m, longer: law(longer - 1, 1 / weight(n, m)),
        "log with another base": lambda n, m, longer: law(longer - 1, math.exp(math.log10(weight(n, m)))),
        "odds turned over": lambda n, m, longer: law(longer - 1, (n - 1) * (1 - m) / m),
        "length turned over": lambda n, m, longer: law(n - 1, m / (1 - m) * (longer - 1)),
        "the others' attention": lambda n, m, longer: 1 - diluted(n, m, longer),
        "odds for attention": lambda n, m, longer: (longer - 1) / weight(n, m),
        "delta for attention": lambda n, m, longer: math.log(weight(n, m)),
        "percent": lambda n, m, longer: 100 * diluted(n, m, longer),
    },
    "share_after": {
        "nothing changes": lambda share, gone: share,
        "all of it to the needle": lambda share, gone: sum(gone, start=share),
        "a share of the share": lambda share, gone: share + share * sum(gone),
        "smaller instead of larger": lambda share, gone: share - share * sum(gone),
        "old shares, one by one": lambda share, gone: share / math.prod(1 - each for each in gone),
        "the first only": lambda share, gone: share / (1 - (gone[0] if gone else 0)),
        "divided by what has gone": lambda share, gone: share / sum(gone),
        "the needle left out": lambda share, gone: share / (1 - share - sum(gone)),
        "percent": lambda share, gone: share / (0.01 - sum(gone) / 100),
    },
    "usd_per_right": {
        "cost per request": lambda i, o, right, n, new, out: paid_for(i, o, n, n, new, out),
        "divided by the wrong answers": lambda i, o, right, n, new, out: paid_for(i, o, n - right, n, new, out),
        "only the wrong ones paid": lambda i, o, right, n, new, out: paid_for(i, o, right, n - right, new, out),
        "times the accuracy": lambda i, o, right, n, new, out: paid_for(i, o, n, right, new, out),
        "accuracy in percent": lambda *inputs: paid_for(*inputs) / 100,
        "one request's bill": lambda i, o, right, n, new, out: paid_for(i, o, right, 1, new, out),
        "the whole bill": lambda i, o, right, n, new, out: paid_for(i, o, 1, n, new, out),
        "output tokens forgotten": lambda i, o, right, n, new, out: paid_for(i, 0, right, n, new, out),
        "output of the right ones only": lambda i, o, right, n, new, out: (n * i * new / right + o * out) / 1e6,
        "output at the price of input": lambda i, o, right, n, new, out: paid_for(i, o, right, n, new, new),
        "input forgotten": lambda i, o, right, n, new, out: paid_for(0, o, right, n, new, out),
        "price per token": lambda *inputs: paid_for(*inputs) * 1e6,
    },
}
# The same mistake in another form.
ALSO_WRONG = [
    ("wilson_high", "the normal interval", lambda right, n: min(1, normal(right, n))),
    ("wilson_high", "another z", lambda right, n: interval(right, n, 1)[1]),
    ("wilson_high", "z rounded", lambda right, n: interval(right, n, 2)[1]),
    ("needle_mass", "N instead of N - 1", lambda n, m, longer: law(longer, weight(n, m))),
    ("needle_mass", "N instead of N - 1", lambda n, m, longer: law(longer - 1, n * m / (1 - m))),
    ("needle_mass", "in proportion", lambda n, m, longer: m * (n - 1) / (longer - 1)),
    ("needle_mass", "log with another base", lambda n, m, longer: law(longer - 1, math.exp(math.log2(weight(n, m))))),
    ("needle_mass", "log with another base", lambda n, m, longer: law(longer - 1, 10 ** math.log(weight(n, m)))),
    ("needle_mass", "log with another base", lambda n, m, longer: law(longer - 1, 2 ** math.log(weight(n, m)))),
]
EVERY_WRONG = pages.every_mistake(WRONG, ALSO_WRONG)


def run(name, function):
    return getattr(ex07, name)(function)


# ---------------------------------------------------------------- right answers


@pytest.mark.parametrize("name", RIGHT)
@pages.in_each_form(*pages.REAL_FORMS)
def test_a_right_answer_passes_in_any_form(name, form):
    pages.assert_right(run(name, lambda *inputs: form(RIGHT[name](*inputs))), name)


@pytest.mark.parametrize("name", REAL)
def test_an_answer_that_was_rounded_is_not_exact(name):
    result = run(name, lambda *inputs: RIGHT[name](*inputs) * 1.0001)
    assert not result.ok
    assert result.mistake is None


def test_one_token_off_is_wrong():
    assert not ex07.effective_length(lambda accuracy: RIGHT["effective_length"](accuracy) + 1).ok


def test_the_inputs_are_copies():
    def greedy(share, gone):
        while gone:
            share, *gone[:] = [each / (1 - gone[0]) for each in (share, *gone[1:])]
        return share

    assert ex07.share_after(greedy).ok
    assert ex07.share_after(greedy).ok


# ---------------------------------------------------------------- the truth itself


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_counted_slowly_equals_the_formula(name):
    for case in QUESTIONS[name].cases:
        assert QUESTIONS[name].truth(**case.inputs) == pytest.approx(RIGHT[name](*case.inputs.values()), rel=1e-13)


@pytest.mark.parametrize("name", RIGHT)
def test_every_exercise_has_several_cases_and_a_drawn_one(name):
    cases = QUESTIONS[name].cases
    assert len(cases) >= 6
    assert "random" in cases[-1].label


def test_the_library_says_the_same():
    for case in scores.EFFECTIVE_LENGTH.cases:
        assert counted.effective_length(**case.inputs) == score.effective_length(**case.inputs)
    for case in scores.WILSON_HIGH.cases:
        assert counted.wilson_high(**case.inputs) == pytest.approx(score.wilson(**case.inputs)[1], rel=1e-13)
    for case in shares.NEEDLE_MASS.cases:
        tokens, mass, longer = case.inputs.values()
        foretold = dilution.mass(longer, dilution.delta(tokens, mass))
        assert counted.needle_mass(tokens, mass, longer) == pytest.approx(float(foretold), rel=1e-13)
    for case in shares.SHARE_AFTER.cases:
        share, gone = case.inputs.values()
        assert counted.share_after(share, gone) == pytest.approx(float(dilution.after_deleting(share, sum(gone))))


def test_some_answers_are_those_of_the_text_books():
    assert counted.wilson_high(0, 10) == pytest.approx(3.8415 / 13.8415, rel=1e-4)  # z² / (n + z²)
    assert counted.wilson_high(7, 10) == pytest.approx(0.8922, abs=5e-5)
    assert counted.needle_mass(101, 0.5, 201) == pytest.approx(1 / 3)
    assert counted.share_after(0.3, [0.2]) == pytest.approx(3 / 8)
    assert counted.usd_per_right(100_000, 300, 20, 60, 3.0, 15.0) == pytest.approx(3 * 0.3045)


@pytest.mark.parametrize(("case", "name"), [(0, "sonnet"), (2, "sonnet"), (3, "haiku"), (4, "haiku")])
def test_the_bills_are_those_of_the_price_lists(case, name):
    listed = kv.price(f"claude-{name}-4-5", TODAY)
    i, o, right, n, *_ = given = paid.USD_PER_RIGHT.cases[case].inputs.values()
    assert counted.usd_per_right(*given) == pytest.approx(float(n * listed.bill(i, o).usd / right))


# ---------------------------------------------------------------- mistakes are named


@pages.for_each_mistake(EVERY_WRONG)
def test_a_usual_mistake_is_caught_and_named(name, mistake, function):
    pages.assert_named(run(name, function), QUESTIONS[name], mistake, besides="your function stopped")


def test_no_listed_mistake_goes_without_a_wrong_answer():
    listed = {name: {slip.name for slip in question.slips} for name, question in QUESTIONS.items()}
    assert listed == {name: set(wrong) for name, wrong in WRONG.items()}


def test_different_mistakes_give_different_answers_somewhere():
    pages.assert_answers_differ(QUESTIONS, RIGHT, WRONG)


def test_a_line_shows_the_answer_the_truth_and_the_reason():
    result = run("needle_mass", WRONG["needle_mass"]["attention frozen"])
    assert result.lines[0] == "needle_mass: not yet, 0 of 6 cases"
    assert result.lines[1] == (
        "  wrong  half of 101 tokens, then 201: 0.5 of the attention, not 0.333333: you left the attention as it was; "
        "what stays is the needle's score, and there are other tokens now"
    )


# ---------------------------------------------------------------- odd selections


@pytest.mark.parametrize("name", ["retrieve", "cheapest_context"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "your function returned None: is a `return` missing?"),
        ("0, 2", "your function returned '0, 2': return a list of places"),
        (2, "your function returned 2: return a list of places, such as [0, 2]"),
        ({2: "needle"}, "return a list of places"),
        (["the seat of brave doctor is 221 ."], "return places, that is numbers, not sentences"),
        ([2.5], "your list holds 2.5: places are whole numbers, here from 0 to"),
        ([float("nan")], "your list holds nan: places are whole numbers"),
        ([float("inf")], "your list holds inf: places are whole numbers"),
        ([True], "your list holds True: places are whole numbers"),
        ([None], "your list holds None: places are whole numbers"),
        ([-1], "your list holds -1: places are whole numbers"),
        ([10**6], "your list holds 1000000: places are whole numbers"),
        ([2, 2], "place 2 stands in your list more than once"),
        (np.array([[1, 2]]), "your list holds [1, 2]: places are whole numbers"),
    ],
    ids=repr,
)
def test_an_odd_selection_is_explained(name, value, says):
    result = run(name, pages.returning(value))
    assert (result.ok, result.done, result.mistake) == (False, True, None)
    assert says in result.lines[-1]


def test_the_place_after_the_last_is_no_place():
    many = len(prompts.desk().sentences)
    assert f"from 0 to {many - 1}" in ex07.cheapest_context(lambda: [many]).lines[-1]
    assert "places are whole numbers" not in repr(ex07.cheapest_context(lambda: [many - 1]))


# ---------------------------------------------------------------- the model behind exercises 1, 6 and 7


def test_the_answers_are_those_of_a_whole_forward_pass():
    """Every position at once, no cache, no fork: the last one says the same."""
    for seed in range(3):
        hay = prompts._context(seed)
        whole = [int(load().logits(hay.prompt(question))[0, -1].argmax()) for question in range(3)]
        assert model.answers(hay) == whole


def test_each_question_is_put_to_a_copy_of_the_whole_haystack(monkeypatch):
    read = []

    class Listening:
        def prefill(self, ids):
            return SimpleNamespace(ids=tuple(ids), fork=lambda copies: SimpleNamespace(ids=tuple(ids)))

        def read(self, cache, ids):
            read.append((*cache.ids, *ids))
            return SimpleNamespace(answer=[0])

    monkeypatch.setattr(model, "load", Listening)
    hay = prompts._context(0)
    model.answers(hay)
    model.answers(hay.keep([]))
    assert read == [*(tuple(hay.prompt(n)) for n in range(3)), *(asked.ids for asked in hay.questions)]


def test_with_no_sentence_left_the_model_reads_the_question_alone():
    hay = prompts._context(0)
    alone = [int(load().logits(asked.ids)[0, -1].argmax()) for asked in hay.questions]
    assert model.answers(hay.keep([])) == alone


def test_no_other_check_loads_numpy():
    """The pages of the first exercises stay light."""
    code = "import kvlib.check, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------- exercise 1


@pytest.mark.parametrize("rivals", [75, 100])
def test_rivals_lose_the_needle(rivals):
    pages.assert_passes(ex07.lost_needle, prompts.EASY_PROMPT | {"rivals": rivals}, rules=2)


@pytest.mark.parametrize(
    ("change", "mistake", "says"),
    [
        ({}, "nothing changed", "this is the prompt as it was; there the model is right"),
        ({"tokens": 512, "rivals": 5}, "more than one change", "you changed tokens, rivals: one change is enough"),
        ({"tokens": 4_096}, "length alone", "of 20 answers are right with 4,096 tokens"),
        ({"facts_percent": 100}, "facts about strangers", "of 20 answers are right with 100 % facts"),
        ({"rivals": 1}, "too few rivals", "of 20 answers are right with 1 rivals"),
    ],
)
def test_a_prompt_that_the_model_still_gets_right_is_explained(change, mistake, says):
    pages.assert_told(ex07.lost_needle, prompts.EASY_PROMPT | change, mistake, says)


def test_the_easy_prompt_is_easy_and_has_room_for_the_rivals():
    assert prompts.found_in(**prompts.EASY_PROMPT) == prompts.TRIALS
    assert 8 * (1 + prompts.LOST_NEEDLE.fields["rivals"][1]) + 9 <= prompts.EASY_PROMPT["tokens"]


# ---------------------------------------------------------------- exercise 6


FUNCTION = set(WORDS[1 : WORDS.index("code")])


def overlap(question, sentence, *, synonyms=True, ignored=FUNCTION):
    """Words of the question that the sentence has, under one of their names."""
    said = set(sentence.split()) - ignored
    names = [{word, *(THESAURUS.get(word, ()) if synonyms else ())} for word in set(question.split()) - ignored]
    return sum(bool(each & said) for each in names)


def best_of(question, sentences, best, *, least=1, **how):
    shared = [overlap(question, sentence, **how) for sentence in sentences]
    ranked = sorted(range(len(sentences)), key=lambda place: (-shared[place], place))
    return sorted(place for place in ranked[:best] if shared[place] >= least)


WRONG_RETRIEVERS = {
    "exact words only": lambda q, s, best: best_of(q, s, best, synonyms=False),
    "function words counted": lambda q, s, best: best_of(q, s, best, ignored=set()),
    "top-k padded": lambda q, s, best: best_of(q, s, best, least=0),
    "order of the text lost": lambda q, s, best: sorted(best_of(q, s, best), key=lambda p: -overlap(q, s[p])),
    "counted from one": lambda q, s, best: [place + 1 for place in best_of(q, s, best)],
    "more than asked": lambda q, s, best: best_of(q, s, len(s)),
    "needle thrown out": lambda q, s, best: [place for place in best_of(q, s, best + 1) if overlap(q, s[place]) < 3],
    "needle missed": lambda q, s, best: best_of(q, s[:100], best),
}


def test_the_words_of_grammar_are_those_of_the_page():
    source = Path(__file__).parents[2] / "exercises" / "source" / "07_context_drift.md"
    listed = re.search(r"^FUNCTION = (\{.+?\})$", source.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert ast.literal_eval(listed[1]) == FUNCTION
    assert not set(content(" ".join(FUNCTION)))
    assert content(FILLER_NOUNS[0]) == [FILLER_NOUNS[0]]


@pytest.mark.parametrize("form", [list, tuple, np.array, lambda places: list(map(np.int64, places))])
def test_a_retriever_that_knows_synonyms_passes(form):
    result = ex07.retrieve(lambda *inputs: form(best_of(*inputs)))
    assert result.ok, result
    assert result.lines[0] == "retrieve: right, 6 of 6 rules"
    assert "asked in other words, best=1: found in 20 of 20 haystacks, 20 answers right" in result.lines[-1]


def test_the_librarys_retriever_passes_in_the_order_of_the_text():
    pytest.importorskip("rank_bm25")
    from kvlib.lab.retrievers import BM25

    assert ex07.retrieve(lambda q, s, best: sorted(BM25(best, THESAURUS)(q, s))).ok
    assert ex07.retrieve(lambda q, s, best: sorted(BM25(best)(q, s))).mistake == "exact words only"


@pytest.mark.parametrize("mistake", WRONG_RETRIEVERS)
def test_a_retriever_with_a_usual_mistake_is_told(mistake):
    result = ex07.retrieve(WRONG_RETRIEVERS[mistake])
    assert not result.ok
    assert result.mistake == mistake
    assert result.lines[-1].startswith("  wrong  ")


def test_all_usual_mistakes_at_once_are_told_one_after_the_other():
    """What most people write first: the best by common words, in that order, and always `best` of them."""

    def first_try(question, sentences, best):
        asked = set(question.split())
        return sorted(range(len(sentences)), key=lambda place: -len(asked & set(sentences[place].split())))[:best]

    assert ex07.retrieve(first_try).mistake == "function words counted"


def test_a_retriever_may_keep_less_than_it_may():
    assert ex07.retrieve(lambda q, s, best: best_of(q, s, 1)).ok


def test_the_page_has_one_answer_and_three_sentences_on_the_subject():
    shared = [overlap(retriever.QUESTION, sentence) for sentence in retriever.PAGE]
    assert shared.index(3) == retriever.NEEDLE
    assert shared.count(3) == 1
    assert {place for place, many in enumerate(shared) if many} == retriever.MENTIONED


def test_in_the_haystacks_only_the_needle_has_all_three_words():
    for style in retriever.STYLES:
        for hay in retriever.haystacks(style):
            shared = [overlap(hay.questions[0].text, sentence.text) for sentence in hay.sentences]
            assert [place for place, many in enumerate(shared) if many == 3] == [hay.questions[0].needle]


# ---------------------------------------------------------------- exercise 7


def needles():
    return [asked.needle for asked in prompts.desk().hay.questions]


def test_the_context_is_the_hardest_of_forty_and_its_needles_are_enough():
    hay = prompts.desk().hay
    assert model.right_answers(hay) < 3
    assert model.right_answers(hay.keep(needles())) == 3
    assert model.right_answers(hay) <= min(
        model.right_answers(prompts._context(seed))
        for seed in range(prompts.SEEDS)
        if model.right_answers(prompts._context(seed).keep(a.needle for a in prompts._context(seed).questions)) == 3
        and model.right_answers(prompts._context(seed).keep(only_facts(prompts._context(seed)))) < 3
    )


def only_facts(hay):
    return [place for place, sentence in enumerate(hay.sentences) if sentence.key]


def test_no_question_shares_a_name_with_its_needle():
    hay = prompts.desk().hay
    for asked in hay.questions:
        common = set(content(asked.text)) & set(content(hay.sentences[asked.needle].text))
        assert len(common) == 1  # the attribute, which has no synonym


@pytest.mark.parametrize("form", [list, tuple, set, np.array, reversed], ids=lambda form: form.__name__)
def test_the_three_needles_are_the_cheapest_context_in_any_form(form):
    places = needles()
    result = ex07.cheapest_context(lambda: list(form(places)) if form is reversed else form(places))
    assert result.ok, result
    assert result.lines[-1] == "  right  24 of 251 tokens are kept, the fewest with which that is possible"


def test_a_retriever_of_the_library_finds_the_cheapest_context():
    page = prompts.desk()
    found = {place for question in page.questions for place in best_of(question, page.sentences, 1)}
    assert found == set(needles())


def test_a_context_without_a_needle_is_told():
    for number in range(3):
        result = ex07.cheapest_context(lambda number=number: needles()[:number] + needles()[number + 1 :])
        assert result.mistake == "needle thrown out"
        assert f"question {number + 1} is answered" in result.lines[-1]


@pytest.mark.parametrize("keep", ["everything", "facts"])
def test_a_context_that_still_misleads_is_told(keep):
    hay = prompts.desk().hay
    places = {"everything": range(len(hay.sentences)), "facts": only_facts(hay)}[keep]
    result = ex07.cheapest_context(lambda: places)
    assert result.mistake == "still wrong"
    number, answer, *source = map(int, re.findall(r"(?:question|answered|sentence) (\d+)", result.lines[-1]))
    assert answer != int(WORDS[hay.questions[number - 1].answer])
    assert all(f" {answer} " in hay.sentences[place].text for place in source)


def test_a_context_that_holds_more_than_it_must_is_told():
    hay = prompts.desk().hay
    filler = [place for place, sentence in enumerate(hay.sentences) if not sentence.key]
    more = next(place for place in filler if model.right_answers(hay.keep([*needles(), place])) == 3)
    result = ex07.cheapest_context(lambda: [*needles(), more])
    assert result.mistake == "not cheapest"
    assert result.lines[-1].endswith("tokens are kept, and fewer are enough for three answers")


def test_the_page_shows_its_sentences_with_their_places_and_the_verdicts():
    page = prompts.desk()
    lines = repr(page).split("\n")
    assert len(lines) == len(page.sentences) + 3
    assert lines[4] == f" 4  {page.sentences[4]}"
    assert sum("(wrong)" in line for line in lines) == 3 - model.right_answers(page.hay)


# ---------------------------------------------------------------- exercise 9


def verdicts():
    return {letter: claim.verdict for letter, claim in maps.claims().items()}


def named(text):
    """The cells that a claim names, in its order."""
    tokens = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) tokens", text)]
    depths = [int(number) / 100 for number in re.findall(r"(\d+) %", text)]
    return list(itertools.product(tokens, depths))


def ends(cell):
    return interval(maps.drift_map().many[cell], 20)


def test_the_map_is_counted_right():
    """A column of two trials, by full forward passes; the others lie between 0 and 20."""
    alibi = load(maps.SCHEME)
    for seeds in ("exercise 07 0 0", "exercise 07 0 1"):
        hay = draw(Random(f"{seeds} map 512 0"), 512, maps.DEPTHS, facts=0.1)
        whole = [alibi.logits(hay.prompt(n))[0, -1].argmax() == asked.answer for n, asked in enumerate(hay.questions)]
        assert [maps._measured(seeds)[512, depth] for depth in maps.DEPTHS] == list(map(int, whole))
    assert set(maps.drift_map().many) == set(itertools.product(maps.LENGTHS, maps.DEPTHS))
    assert all(one <= maps.drift_map().many[cell] <= 20 for cell, one in maps.drift_map().one.items())


def test_the_claims_have_the_verdicts_that_the_numbers_give():
    many, claims = maps.drift_map().many, maps.claims()
    assert verdicts() == {"a": 3, "b": 1, "c": 4, "d": 3, "e": 2, "f": 5, "g": 4}
    (hole,) = named(claims["a"].text)
    assert maps.drift_map().one[hole] == 0
    assert many[hole] >= 14
    for letter, better in (("b", 1.0), ("e", 0.5)):
        ((tokens, _),) = named(f"{claims[letter].text} 0 %")
        assert ends((tokens, better))[0] > ends((tokens, 0.0))[1]
    assert {many[cell] for cell in named(claims["c"].text)} == {20}
    assert {many[cell] for cell in named(claims["g"].text)} == {0}
    better, worse = named(claims["d"].text)
    assert many[better] > many[worse] > 0
    assert ends(better)[0] < many[worse] / 20
    assert many[better] / 20 < ends(worse)[1]


def test_the_right_verdicts_pass():
    pages.assert_passes(ex07.map_claims, verdicts(), rules=7)


EXPECTED = {
    "a": {1: "one trial", 2: "one trial", 4: "neither full nor empty", 5: "the map does ask that"},
    "b": {2: "the wrong way round"} | dict.fromkeys((3, 4, 5), "a finding thrown away"),
    "c": dict.fromkeys((1, 2), "ceiling read as an effect")
    | {3: "more trials would not help", 5: "the map does ask that"},
    "d": dict.fromkeys((1, 2), "luck read as a finding") | {4: "neither full nor empty", 5: "the map does ask that"},
    "e": {1: "the wrong way round"} | dict.fromkeys((3, 4, 5), "a finding thrown away"),
    "f": dict.fromkeys((1, 2, 3, 4), "two things at once"),
    "g": dict.fromkeys((1, 2), "floor read as an effect")
    | {3: "more trials would not help", 5: "the map does ask that"},
}


@pytest.mark.parametrize(("letter", "given"), [(letter, given) for letter in EXPECTED for given in EXPECTED[letter]])
def test_every_wrong_verdict_has_a_named_mistake(letter, given):
    result = ex07.map_claims(lambda: verdicts() | {letter: given})
    assert not result.ok
    assert result.mistake == EXPECTED[letter][given]
    assert f"claim {letter}, {maps.VERDICTS[given]}?" in result.lines[-1]


def test_the_maps_and_the_claims_are_shown():
    text = repr(ex07.two_maps())
    assert text.count("depth") == 10
    assert "found of 1 " in text
    assert "found of 20 " in text
    assert [line[0] for line in ex07.claims().split("\n")[:7]] == list("abcdefg")
    assert all(len(line) <= 90 for line in ex07.claims().split("\n"))
    assert ex07.claims().count(" = ") == 5


# ---------------------------------------------------------------- what a notebook shows


def every_result():
    yield from pages.all_answers(run, RIGHT, EVERY_WRONG)
    for letter, wrong in EXPECTED.items():
        yield from (ex07.map_claims(lambda change={letter: given}: verdicts() | change) for given in wrong)
    for change in ({"tokens": 2_048}, {"facts_percent": 50}, {"rivals": 2}):
        yield ex07.lost_needle(lambda change=change: prompts.EASY_PROMPT | change)
    for places in ([], needles(), range(len(prompts.desk().sentences))):
        yield ex07.cheapest_context(lambda places=places: places)
    for retrieves in WRONG_RETRIEVERS.values():
        yield ex07.retrieve(retrieves)


def test_results_are_short_deterministic_text_without_code_of_the_answer():
    pages.assert_short_text_without_code(every_result, r"sorted\(", r"exp\(", r"log\(", longest=220)
