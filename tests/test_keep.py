import math

import numpy as np
import pytest

import kvlib as kv
from kvlib.keep import (
    Option,
    Place,
    affordable,
    affordable_bytes,
    cheapest,
    longest_pause,
    options,
    places,
    session_options,
)
from kvlib.speed import prefill_seconds

MILLION = 10**6
GB = 10**9


@pytest.mark.parametrize(("storage", "kilobytes"), [(4.5, 212), (1.0, 47), (0.5, 24)])
def test_what_a_storage_price_can_pay_for(storage, kilobytes):
    """At 1.70 USD per 80 GB-hour; 4.50 USD buy 212 GB-hours."""
    assert round(affordable_bytes(storage, 1.70) / 1e3) == kilobytes
    assert affordable_bytes(storage, 1.70) * MILLION == pytest.approx(storage / (1.70 / (80 * GB)))


def test_as_a_sentence():
    assert affordable(4.5, 1.70) == "at most 212 kB (207 KiB) per token"


@pytest.mark.parametrize(
    ("model", "dollars"),
    [("llama-3.1-70b", 6.96), ("llama-3.1-8b", 2.79), ("deepseek-v3", 1.49), ("deepseek-v4-pro", 0.21)],
)
def test_what_a_million_tokens_cost_per_hour_in_hbm(model, dollars):
    held = kv.model(model).cache_bytes(MILLION)
    hbm = options(held, 1.0, 1.70, others=())[0]
    assert hbm.name == "HBM" and round(hbm.usd_per_hour, 2) == dollars
    assert (hbm.usd_per_return, hbm.seconds) == (0, 0)


def test_the_model_whose_cache_fits_the_price_is_the_one_that_can_be_rented_out():
    """Gemini Pro's 4.50 USD: MLA and small GQA fit, the cache of a 70B model does not."""
    room = affordable_bytes(4.5, 1.70)
    fits = {name: kv.model(name).growth() <= room for name in ("llama-3.1-8b", "llama-3.1-70b", "deepseek-v3")}
    assert fits == {"llama-3.1-8b": True, "llama-3.1-70b": False, "deepseek-v3": True}


def test_three_ways_by_hand():
    """80 GB on 2 GPUs at 3.60 USD: a second of both costs 0.002 USD."""
    slow = Place("shelf", usd_per_gb_hour=0.01, bandwidth=4e9)
    hbm, shelf, again = options(80 * GB, 60.0, 3.6, gpus=2, others=[slow])
    assert (hbm.usd_per_hour, hbm.usd_per_return) == (3.6, 0)
    assert (shelf.usd_per_hour, shelf.seconds, shelf.usd_per_return) == pytest.approx((0.8, 20, 0.04))
    assert (again.usd_per_hour, again.seconds, again.usd_per_return) == pytest.approx((0, 60, 0.12))
    assert longest_pause(hbm, again) == pytest.approx(0.12 / 3.6)
    assert longest_pause(shelf, again) == pytest.approx(0.08 / 0.8)
    assert longest_pause(hbm, shelf) == pytest.approx(0.04 / 2.8)
    choices = (hbm, shelf, again)
    assert [cheapest(choices, pause).name for pause in (0, 0.01, 0.02, 0.09, 0.11)] == [
        "HBM", "HBM", "shelf", "shelf", "recompute",
    ]  # fmt: skip
    assert shelf.usd(np.array([0, 1])) == pytest.approx([0.04, 0.84])


def test_at_the_longest_pause_both_cost_the_same():
    hbm, *others, again = options(30 * GB, 12.0, 1.7, gpus=4)
    for keep in (hbm, *others):
        pause = longest_pause(keep, again)
        if pause:
            assert keep.usd(pause) == pytest.approx(again.usd(pause))
            assert keep.usd(pause * 0.99) < again.usd(pause * 0.99)
        assert keep.usd(pause * 1.01 + 1e-9) > again.usd(pause * 1.01 + 1e-9)


def test_a_session_of_a_model():
    model = kv.model("llama-3.1-70b")
    found = {option.name: option for option in session_options(model, "h100-sxm", 200_000, 1.70, tp=8)}
    again = prefill_seconds(model, "h100-sxm", 200_000, tp=8, kv_dtype="bf16").estimate
    assert found["recompute"].seconds == again
    assert found["recompute"].usd_per_return == pytest.approx(again * 8 * 1.70 / 3_600)
    assert found["HBM"].usd_per_hour == pytest.approx(200_000 * 327_680 / (80 * GB) * 1.70)
    assert list(found) == ["HBM", "host memory", "disk", "recompute"]


def test_a_cache_that_every_gpu_holds_is_rented_on_every_gpu():
    """MLA is repeated under tensor parallelism."""
    one = session_options(kv.model("deepseek-v3"), "h200", 10_000, 3.0, tp=8, others=())[0]
    assert one.usd_per_hour == pytest.approx(8 * 10_000 * 70_272 / (141 * GB) * 3.0)


def test_recorded_places_have_sources_and_are_marked():
    assert [place.name for place in places()] == ["host memory", "disk"]
    for place in places():
        assert place.source.url and place.as_of and place.unverified == ("usd_per_gb_hour",)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="gpu_bytes must be a number above 0; got 0"):
        options(1, 1, 1, gpu_bytes=0)
    with pytest.raises(ValueError, match="prefill_seconds must be a number of 0 or more; got nan"):
        options(1, math.nan, 1)
    with pytest.raises(ValueError, match="usd_per_gpu_hour must be a number above 0; got 0"):
        affordable_bytes(4.5, 0)
    with pytest.raises(ValueError, match="bandwidth must be a number above 0; got -1"):
        Place("nowhere", 1, -1)
    cheap, dear = Option("a", 1, 0, 0), Option("b", 2, 0, 0)
    with pytest.raises(ValueError, match="keep must be the option with the higher rent; got a before b"):
        longest_pause(cheap, dear)
    assert longest_pause(cheap, Option("c", 1, 5, 0)) == math.inf
    assert longest_pause(cheap, Option("c", 1, 0, 0)) == math.inf
    assert longest_pause(cheap, Option("c", 0, 0, 0)) == 0
    assert longest_pause(Option("d", 1, 1, 0), Option("c", 1, 0, 0)) == 0
