import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvlib.anchors import anchor, owner
from kvlib.catalogue import model
from kvlib.cost import (
    _crossing,
    break_even,
    cost_per_million,
    joules_per_token,
    keep_usd_per_hour,
    margin,
    markup,
    usd_per_day,
)
from kvlib.owning import Api, Ownership, Rent
from kvlib.units import GB

CARD = 5_000_000 / 151.16
BARE = Ownership(CARD, 4, kilowatts=1.73, usd_per_kwh=0.0865)

# ---------------------------------------------------------------- what a token costs


def test_a_token_by_hand():
    # 3.60 USD an hour are 0.001 USD a second; 1,000 tokens a second half of the time: 2 USD per million
    price = cost_per_million(3.60, utilisation=0.5, output_per_second=1_000)
    assert price.output.point == pytest.approx(2)
    assert price.input is None and price.cached_input is None
    assert cost_per_million(3.60, utilisation=0.5, output_per_second=1_000, gpus=8).output.point == pytest.approx(16)


def test_each_kind_of_token_has_its_own_speed():
    price = cost_per_million(
        3.60, utilisation=1, input_per_second=10_000, cached_per_second=1e6, output_per_second=500, keeping_usd=0.01
    )
    assert price.input.point == pytest.approx(0.10)
    assert price.cached_input.point == pytest.approx(0.011)
    assert price.output.point == pytest.approx(2)
    assert price.request(1_000_000, 500_000).point == pytest.approx(0.10 + 1)
    assert price.request(1_000_000, 500_000, cached_tokens=1_000_000).point == pytest.approx(0.011 + 1)


def test_published_serving_costs():
    # LMSYS: 0.20 USD per million at 22,300 tokens/s is 16.06 USD for a node of eight, about 2 USD per GPU
    node = anchor("sglang-decode-price").value * anchor("sglang-decode-speed").value * 3_600 / 1e6
    assert round(node, 2) == 16.06
    price = cost_per_million(node / 8, gpus=8, utilisation=1, output_per_second=anchor("sglang-decode-speed").value)
    assert price.output.point == pytest.approx(0.20)
    # MLPerf 4.1, eight H100 at 1.70 USD: 0.175 USD per million
    speed = anchor("mlperf-llama-2-70b").value
    assert round(cost_per_million(1.70, gpus=8, utilisation=1, output_per_second=speed).output.point, 3) == 0.175


def test_an_owned_gpu_saves_power_while_it_idles():
    mine = Ownership(8_760, 1, kilowatts=1, usd_per_kwh=1)
    half = cost_per_million(mine, utilisation=0.5, output_per_second=1_000 / 3.6)
    assert half.output.point == pytest.approx((1 + 0.5) / 0.5)
    assert cost_per_million(Rent(2), utilisation=0.5, output_per_second=1_000 / 3.6).output.point == pytest.approx(4)


@given(st.floats(0, 100), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(1, 1e6))
def test_more_use_never_makes_a_token_dearer(usd, used, more, speed):
    few, many = sorted((used, more))
    dear, cheap = (cost_per_million(usd, utilisation=u, output_per_second=speed).output.point for u in (few, many))
    assert cheap <= dear * (1 + 1e-12)


def test_the_tornado_of_a_token_names_every_assumption_of_the_chain():
    price = cost_per_million(owner("honest"), gpus=8, utilisation=(0.2, 0.8), output_per_second=(10_000, 21_600))
    names = [bar.name for bar in price.output.tornado()]
    assert names[0] == "utilisation"
    assert set(names) > {"output per second", "own: years of use", "own: price of the card"}
    assert math.fsum(bar.share for bar in price.output.tornado()) == pytest.approx(1)
    assert price.output.least < price.output.low < price.output.point < price.output.high < price.output.most


def test_a_request_needs_a_price_for_what_it_has():
    price = cost_per_million(2, utilisation=1, input_per_second=1_000)
    assert price.request(500).point == pytest.approx(500 * 2 / 3.6e6)
    with pytest.raises(ValueError, match=r"output tokens have no price here.*got 9"):
        price.request(500, 9)
    with pytest.raises(ValueError, match=r"cached_tokens must be at most input_tokens \(500\); got 501"):
        price.request(500, cached_tokens=501)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utilisation": 0}, "utilisation must be a number above 0 and at most 1.*got 0"),
        ({"utilisation": 1.01}, "utilisation must be.*at most 1.*got 1.01"),
        ({"utilisation": 60}, "utilisation must be.*got 60"),
        ({"utilisation": (0.0, 0.5)}, "utilisation must be"),
        ({"utilisation": math.nan}, "utilisation must be.*got nan"),
        ({"hour": -2}, "hour must be a number 0 or more.*got -2"),
        ({"hour": "2"}, "hour must be.*got '2'"),
        ({"output_per_second": 0}, "output_per_second must be a number above 0.*got 0"),
        ({"keeping_usd": -1}, "keeping_usd must be"),
        ({"gpus": 0}, "gpus must be a whole number, 1 or more; got 0"),
        ({"gpus": 1.5}, "gpus must be a whole number"),
        ({"output_per_second": None}, "give at least one of input_per_second"),
    ],
)
def test_bad_costs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        cost_per_million(**{"hour": 2, "utilisation": 0.5, "output_per_second": 100, **change})


# ---------------------------------------------------------------- keeping a cache


def test_what_a_storage_price_can_keep():
    per_gb = keep_usd_per_hour(1 * GB, 1.70, 80 * GB).point
    assert [round(usd / per_gb) for usd in (4.50, 1.00, 0.50)] == [212, 47, 24]


@pytest.mark.parametrize(("name", "usd"), [("llama-3.1-70b", 6.96), ("deepseek-v3", 1.49), ("llama-3.1-8b", 2.79)])
def test_what_keeping_a_million_tokens_costs(name, usd):
    held = model(name).growth("bf16") * 10**6
    assert round(keep_usd_per_hour(held, 1.70, 80 * GB).point, 2) == usd


# ---------------------------------------------------------------- break-even


def test_buying_the_bare_card_against_renting():
    found = break_even(BARE, Rent(1.70))
    assert round(found.hours.point) == 21_335
    assert round(found.hours.point / 8_760, 2) == 2.44
    assert found.utilisation.point == pytest.approx(2.4356 / 4, abs=1e-4)
    assert found.tokens_per_day is None
    assert round(break_even(BARE, Rent(2.65)).hours.point / 8_760, 2) == 1.51


def test_the_hours_of_a_bare_card_do_not_depend_on_how_long_it_is_kept():
    ranged = Ownership(CARD, (3, 6), kilowatts=1.73, usd_per_kwh=0.0865)
    hours = break_even(ranged, Rent(1.70)).hours
    assert hours.tornado()[0].swing == pytest.approx(0, abs=1e-6)
    assert round(hours.point) == 21_335


def test_renting_all_day_against_an_api_by_hand():
    # 24 h x 2 USD a day for one GPU; 0.50 USD per million: 96 million tokens a day, of 172.8 million at 2,000 a second
    found = break_even(Rent(2, "always"), Api(0.50), tokens_per_second=2_000)
    assert found.tokens_per_day.point == pytest.approx(96e6)
    assert found.utilisation.point == pytest.approx(96 / 172.8)
    assert found.hours.point == pytest.approx(96 / 172.8 * 8_760)
    eight = break_even(Rent(2, "always"), Api(0.50), tokens_per_second=16_000, gpus=8)
    assert eight.tokens_per_day.point == pytest.approx(8 * 96e6)


def test_owning_against_an_api_by_hand():
    # 1 USD an hour idle or not, 0.20 USD more in use; 1,000 tokens/s x 3,600 s sell for 3.60 USD: 1 / 3.40
    mine = Ownership(8_760 * 4, 4, kilowatts=2, usd_per_kwh=0.1)
    assert break_even(mine, Api(1.0), tokens_per_second=1_000).utilisation.point == pytest.approx(1 / 3.4)


def test_a_day_by_hand():
    assert usd_per_day(Rent(2, "always"), 0.5, gpus=8).point == 24 * 2 * 8
    assert usd_per_day(Rent(2), 0.5, gpus=8).point == 12 * 2 * 8
    # 1,000 tokens a second, half of 86,400 seconds, at 2 USD per million
    assert usd_per_day(Api(2), 0.5, tokens_per_second=1_000, gpus=8).point == pytest.approx(43.2 * 2)


def test_never_and_always():
    assert break_even(BARE, Rent(0.10)).utilisation.point == math.inf
    assert "never" in repr(break_even(BARE, Rent(0.10)))
    assert break_even(Ownership(0, 4), Rent(1.0)).utilisation.point == 0
    assert break_even(Rent(1, "always"), Rent(2, "always")).utilisation.point == 0
    assert break_even(Rent(2, "always"), Rent(1, "always")).utilisation.point == math.inf
    assert break_even(Rent(1.0), Api(0), tokens_per_second=1).utilisation.point == math.inf


def test_the_chance_that_owning_pays():
    assert break_even(BARE, Rent(1.70)).chance == 1
    assert break_even(BARE, Rent(0.90)).chance == 0
    # it pays where the rent is above 0.944 + 0.150 = 1.0936 USD: 90.6 % of the range
    assert break_even(BARE, Rent((1.0, 2.0))).chance == pytest.approx(0.906, abs=0.002)


costs = st.floats(0.01, 50)


@given(costs, costs, costs, st.floats(1, 1e5), st.integers(1, 16))
@settings(deadline=None)
def test_the_formula_finds_what_a_search_finds(capital, power, price, speed, gpus):
    mine = Ownership(capital * 8_760, 1, kilowatts=power, usd_per_kwh=1)
    theirs = Api(price)
    sold = price * speed * 3_600 / 1e6 / gpus  # USD of tokens per GPU-hour
    assume(abs(sold - power) > 1e-3 * power)
    found = break_even(mine, theirs, tokens_per_second=speed, gpus=gpus).utilisation.point

    def owning_is_dearer(used):
        each = {"tokens_per_second": speed, "gpus": gpus}
        return usd_per_day(mine, used, **each).point > usd_per_day(theirs, used, **each).point

    if not 1e-6 < found <= 1:
        assert owning_is_dearer(1.0) == (found > 1)
        return
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if owning_is_dearer(middle) else (low, middle)
    assert found == pytest.approx(high, rel=1e-6, abs=1e-9)


@given(st.floats(1, 5), st.floats(0, 5))
def test_a_dearer_rent_is_met_sooner(rent, more):
    before, after = (break_even(BARE, Rent(usd)).hours.point for usd in (rent, rent + more))
    assert after <= before


def test_a_break_even_of_ranges_keeps_shared_inputs_together():
    found = break_even(owner("honest"), Rent((1.70, 2.65)), tokens_per_second=(1_500, 2_700))
    assert found.utilisation.least < found.utilisation.low < found.utilisation.high < found.utilisation.most
    assert 0 < found.chance < 1
    assert "rent: price of an hour" in found.utilisation.inputs
    assert "tokens per second" not in str(found.utilisation.inputs)
    assert found.tokens_per_day.low < found.tokens_per_day.high


def test_two_owners_need_two_names():
    cheap, dear = Ownership((20_000, 30_000), 4), Ownership((30_000, 40_000), 4, kilowatts=1, usd_per_kwh=0.1)
    with pytest.raises(ValueError, match=r"'own: price of the card'.*different names"):
        break_even(cheap, dear)
    other = Ownership((30_000, 40_000), 4, kilowatts=1, usd_per_kwh=0.1, name="other")
    assert break_even(cheap, other).utilisation.least == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: break_even(BARE, Api(1)), "tokens_per_second must be given.*'api'"),
        (lambda: break_even(BARE, 1.70), "an option must be an Ownership, a Rent or an Api; got 1.7"),
        (lambda: break_even(BARE, Rent(1), years=0), "years must be a number above 0"),
        (lambda: break_even(BARE, Rent(1), tokens_per_second=0), "tokens_per_second must be a number above 0"),
        (lambda: break_even(BARE, Rent(1), gpus=0), "gpus must be"),
        (lambda: usd_per_day(BARE, 1.5), "utilisation must be.*got 1.5"),
        (lambda: joules_per_token(100, 0), "tokens_per_second must be"),
        (lambda: joules_per_token(-1, 10), "watts must be"),
        (lambda: keep_usd_per_hour(1, 1, 0), "gpu_bytes must be"),
        (lambda: markup(1, 0), "cost_usd must be a number above 0.*got 0"),
        (lambda: margin(0, 1), "revenue_usd must be"),
        (lambda: margin((1, 2), 1), "revenue_usd must be one number"),
    ],
)
def test_bad_comparisons_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- markup and margin


def test_545_percent_is_a_markup():
    assert round(100 * markup(562_027, 87_072), 1) == 545.5
    assert round(100 * margin(562_027, 87_072), 1) == 84.5


@given(st.floats(0.01, 1e9), st.floats(0.01, 1e9))
def test_a_margin_follows_from_a_markup(revenue, cost):
    gain = markup(revenue, cost)
    assume(gain > -0.99)
    assert margin(revenue, cost) == pytest.approx(gain / (1 + gain), rel=1e-6, abs=1e-6)
    assert margin(revenue, cost) < 1


def test_owning_below_a_standing_contract_pays_at_every_use():
    """1.00 fixed and 0.20 per busy hour never reach 2.00; 1.00 and 1.50 do, and then more use does not help owning."""
    contract = (2.0, 0.0)
    assert _crossing(1.0, 0.2, *contract) == 0
    assert _crossing(1.0, 1.0, *contract) == 0
    assert _crossing(1.0, 1.5, *contract) == math.inf
    assert _crossing(2.5, 0.2, *contract) == math.inf
