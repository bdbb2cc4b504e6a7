"""The figures that ship with kvlib: the same as the golden ones, and reproduced by the rules."""

import re
import statistics
import tomllib
from datetime import date
from pathlib import Path

import pytest

from kvlib import public_logs
from kvlib.public_logs import Startup, log_text, logs, startup, startups
from kvlib.units import GiB, MiB
from tests.engine_rows import ROWS, model_of, settings_of

PRINTED = tomllib.loads((Path(__file__).parent / "data/startup_logs.toml").read_text(encoding="utf-8"))["log"]
GOLDEN = {row["id"]: row for row in ROWS}
FIELDS = {
    "tokens": "tokens",
    "blocks": "blocks",
    "concurrency": "max_concurrency",
    "kv_gib": "available_kv_gib",
    "needed_gib": "needed_kv_gib",
    "longest": "estimated_max_len",
}
SPLIT = {
    "total_gib": "total_gpu_gib",
    "limit_gib": "limit_gib",
    "utilisation": "gpu_memory_utilization",
    "weights_gib": "weights_gib",
    "non_torch_gib": "non_torch_gib",
    "activation_gib": "activation_gib",
    "peak_torch_gib": "peak_torch_gib",
    "graphs_gib": "cudagraph_gib",
}


def name(record):
    return record.id


# ---------------------------------------------------------------- the same figures as in the golden file


@pytest.mark.parametrize("record", startups(), ids=name)
def test_every_figure_is_the_golden_one(record):
    row = GOLDEN[record.id]
    for ours, theirs in FIELDS.items():
        if (value := getattr(record, ours)) is not None and value != 0:
            assert value == row[theirs], ours
    for ours, theirs in SPLIT.items():
        assert record.split.get(ours) == (row.get(theirs) if record.split else None), ours
    if record.kv_mib is not None:
        assert record.kv_mib * MiB == pytest.approx(row["available_kv_gib"] * GiB, abs=1)
    if record.kv_bytes is not None:
        assert record.kv_bytes == row["kv_bytes"]
    assert record.source.split(" ")[0].split(",")[0] in row["source"]
    assert isinstance(record.as_of, date)


@pytest.mark.parametrize("record", [s for s in startups() if s.kind], ids=name)
def test_every_pool_is_laid_out_as_in_the_golden_file(record):
    from kvlib.engine import pool

    row = GOLDEN[record.id]
    ours, theirs = record.pool(1_000), pool(model_of(row), blocks=1_000, **settings_of(row))
    assert (ours.block_bytes, ours.per_request, ours.tokens) == (theirs.block_bytes, theirs.per_request, theirs.tokens)
    if record.kind == "hybrid":
        assert ours.reported_tokens == theirs.reported_tokens
    assert list(record.assumed) == row["derive"].get("assumed", [])


@pytest.mark.parametrize("log", logs(), ids=name)
def test_every_log_is_the_printed_one_without_the_time_of_day(log):
    printed = next(record for record in PRINTED if record["id"] == log.printed)
    assert log.text == re.sub(r" \d\d:\d\d:\d\d", "", printed["text"].strip())
    assert not re.search(r"\b\d\d:\d\d:\d\d\b", log.text)
    assert log.source == printed["source"]


# ---------------------------------------------------------------- the scoreboard


def test_uniform_starts_are_predicted_within_half_a_percent_but_for_one():
    off = {s.id: s.miss for s in startups("uniform") if abs(s.error) > 0.005}
    assert len(startups("uniform")) == 25
    assert list(off) == ["L004"]
    assert "poorest of four ranks" in off["L004"]
    assert statistics.median(abs(s.error) for s in startups("uniform")) < 0.0005


@pytest.mark.parametrize("record", [s for s in startups("uniform") if not s.miss], ids=name)
def test_a_uniform_start_lies_between_its_printed_decimals(record):
    low, high = record.span
    assert low <= record.tokens <= high
    assert low <= record.predicted <= high


@pytest.mark.parametrize("record", startups("hybrid"), ids=name)
def test_a_hybrid_start_is_exact(record):
    assert record.exact_blocks is not None
    assert record.pool(record.exact_blocks).reported_tokens == record.tokens
    if record.concurrency:
        assert f"{record.pool(record.exact_blocks).max_concurrency:.2f}" == f"{record.concurrency:.2f}"


def test_a_wrong_setting_makes_a_hybrid_start_inexact():
    for change in ({"kv_dtype": "bf16"}, {"state_mode": "none"}, {"definition": "new"}, {"spec_tokens": 3}):
        right = startup("L170")
        wrong = Startup(**{**vars(right), "settings": right.settings | change})
        assert wrong.exact_blocks is None, change


@pytest.mark.parametrize("record", startups("refused"), ids=name)
def test_a_refusal_needs_what_it_says(record):
    made = record.pool(0)
    assert f"{made.needed_bytes / GiB:.2f}" == f"{record.needed_gib:.2f}"


@pytest.mark.parametrize("record", startups("split"), ids=name)
def test_a_split_closes_to_three_hundredths_of_a_gib(record):
    assert record.budget().kv_bytes / GiB == pytest.approx(record.kv_gib, abs=0.03)


def test_there_are_as_many_as_the_lesson_says():
    counts = [len(startups(kind)) for kind in ("uniform", "hybrid", "refused", "split")]
    assert counts == [25, 25, 5, 16]


# ---------------------------------------------------------------- what it refuses


def test_starts_without_bytes_or_without_a_split_say_so():
    tokens_only = startup("L128")
    assert (tokens_only.predicted, tokens_only.span, tokens_only.error) == (None, None, None)
    with pytest.raises(ValueError, match="L128 prints no split"):
        tokens_only.budget()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: startups("dense"), "kind must be .* got 'dense'"),
        (lambda: startup("L999"), "id must be one of L001, .* got 'L999'"),
        (lambda: log_text("nothing"), "id must be one of dense-80gb, .* got 'nothing'"),
    ],
)
def test_an_unknown_name_lists_what_there_is(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_models_of_the_file_are_used():
    shapes = {record["name"] for record in public_logs._data()["shapes"]}
    assert shapes <= {model for record in startups() for model in record.models}
