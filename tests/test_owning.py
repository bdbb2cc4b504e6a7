from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.anchors import anchor, anchors, assumed, energy, owner, ownership_table
from kvlib.currency import Rate, exchange_rate, exchange_rates, from_usd, to_usd
from kvlib.hardware import Source
from kvlib.owning import Api, Ownership, Rent, capital_per_year
from kvlib.show.receipt import rough_prices

ARTICLE_DAY = date(2025, 10, 21)
YEN = Rate("USD", "JPY", 151.16, ARTICLE_DAY)


# ---------------------------------------------------------------- money


def test_the_articles_five_million_yen_in_dollars():
    assert round(to_usd(5_000_000, "JPY", YEN).point) == 33_078


def test_dollars_for_euros_multiply_where_yen_divide():
    assert to_usd(100, "EUR", Rate("EUR", "USD", 1.16, ARTICLE_DAY)).point == pytest.approx(116)
    assert from_usd(116, "EUR", Rate("EUR", "USD", 1.16, ARTICLE_DAY)).point == pytest.approx(100)
    assert to_usd(7, "USD").point == from_usd(7, "USD").point == 7


@given(st.floats(0, 1e9), st.floats(0.01, 1e4))
def test_there_and_back_is_the_same_money(money, value):
    rate = Rate("USD", "JPY", value, ARTICLE_DAY)
    assert from_usd(to_usd(money, "JPY", rate), "JPY", rate).point == pytest.approx(money)


def test_a_range_of_yen_is_a_range_of_dollars():
    power = to_usd((17, 25), "JPY", YEN, label="price of electricity")
    assert (power.least, power.most) == pytest.approx((17 / 151.16, 25 / 151.16))
    assert list(power.inputs) == ["price of electricity"]


def test_the_recorded_rate_is_the_last_one_on_or_before_the_day():
    assert exchange_rate("JPY", ARTICLE_DAY).value == 151.16
    assert exchange_rate("JPY", date(2025, 10, 22)).value == 151.16
    assert exchange_rate("JPY", date(2026, 1, 1)).value == 152.46
    assert exchange_rate("EUR", date(2026, 1, 1)).unverified
    assert all(rate.source for rate in exchange_rates())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_usd(1, "GBP", YEN), "currency must be one of EUR, JPY, USD; got 'GBP'"),
        (lambda: to_usd(1, "EUR", YEN), "rate must be a rate of EUR.*got USD/JPY 151.16"),
        (lambda: to_usd(1, "JPY"), "rate must be a rate of JPY.*got None"),
        (lambda: to_usd(1, "USD", YEN), "rate must be None"),
        (lambda: to_usd(-1, "JPY", YEN), "money must be a number 0 or more.*got -1"),
        (lambda: to_usd("1", "JPY", YEN), "money must be a number.*got '1'"),
        (lambda: exchange_rate("JPY", date(2020, 1, 1)), "on must be 2025-10-20 or later.*got 2020-01-01"),
        (lambda: exchange_rate("USD", ARTICLE_DAY), "currency must be one with a rate"),
        (lambda: exchange_rate("yen", ARTICLE_DAY), "currency must be one of"),
        (lambda: Rate("USD", "JPY", 0, ARTICLE_DAY), "value of the rate must be a number above 0.*got 0"),
        (lambda: Rate("USD", "JPY", (150, 152), ARTICLE_DAY), "value of the rate must be one number"),
        (lambda: Rate("EUR", "JPY", 175, ARTICLE_DAY), "between USD and another"),
        (lambda: Rate("USD", "USD", 1, ARTICLE_DAY), "between USD and another"),
    ],
)
def test_bad_money_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- owning: published and hand-made figures

CARD = 5_000_000 / 151.16


@pytest.mark.parametrize(("years", "per_hour"), [(4, 0.944), (5, 0.755), (6, 0.629)])
def test_straight_line_capital_of_the_card(years, per_hour):
    assert round(Ownership(CARD, years).usd_per_gpu_hour.point, 3) == per_hour


@pytest.mark.parametrize(("years", "per_hour"), [(4, 1.191), (5, 0.996), (6, 0.867)])
def test_annuity_at_ten_percent(years, per_hour):
    assert round(Ownership(CARD, years, interest=0.10).usd_per_gpu_hour.point, 3) == per_hour


def test_power_and_room_of_an_h100():
    room = Ownership(0, 4, kilowatts=1.73, usd_per_kwh=0.0865, colocation_usd_per_kw_month=217.30)
    assert round(room.parts["power"].point, 3) == 0.150
    assert round(room.parts["colocation"].point, 3) == 0.515
    europe = to_usd(0.1902, "EUR", Rate("EUR", "USD", 1.16, ARTICLE_DAY))
    assert round(Ownership(0, 4, kilowatts=1.73, usd_per_kwh=europe).usd_per_gpu_hour.point, 2) == 0.38
    japan = to_usd(20, "JPY", YEN)
    assert round(Ownership(0, 4, kilowatts=1.73, usd_per_kwh=japan).usd_per_gpu_hour.point, 2) == 0.23


def test_a_dgx_at_its_launch_price():
    box = Ownership(anchor("dgx-h100").value / 8, 4)
    assert round(box.capex_usd.point) == 60_250
    assert round(box.usd_per_gpu_hour.point, 2) == 1.72


def test_the_parts_of_an_hour_by_hand():
    mine = Ownership(
        8_760,
        2,
        server_usd=17_520,
        network_usd=4_380,
        residual=0.5,
        kilowatts=2,
        pue=1.5,
        usd_per_kwh=0.1,
        colocation_usd_per_kw_month=73,
        staff_usd_per_year=876,
        overhead=0.1,
    )
    expected = {"card": 0.25, "server": 0.5, "network": 0.125, "power": 0.3, "colocation": 0.2, "staff": 0.1}
    expected["overhead"] = 0.1 * sum(expected.values())
    assert {name: part.point for name, part in mine.parts.items()} == pytest.approx(expected)
    assert mine.usd_per_gpu_hour.point == pytest.approx(sum(expected.values()))
    assert mine.variable.point == pytest.approx(0.3 * 1.1)
    assert mine.fixed.point == pytest.approx(sum(expected.values()) - 0.33)


def test_an_idle_gpu_still_draws_its_share():
    busy, idle = (Ownership(0, 4, kilowatts=1, usd_per_kwh=0.1, idle_power=share) for share in (0, 0.3))
    assert (busy.fixed.point, busy.variable.point) == pytest.approx((0, 0.1))
    assert (idle.fixed.point, idle.variable.point) == pytest.approx((0.03, 0.07))


@pytest.mark.parametrize("residual", [0, 0.2])
@pytest.mark.parametrize("years", [1, 3, 6])
def test_an_annuity_pays_the_price_back_with_interest(years, residual):
    payment = capital_per_year(10_000, years, residual, 0.08)
    worth = sum(payment / 1.08**year for year in range(1, years + 1)) + residual * 10_000 / 1.08**years
    assert worth == pytest.approx(10_000)


@given(st.floats(0.5, 20), st.floats(0, 1))
def test_a_tiny_interest_is_nearly_a_straight_line(years, residual):
    line, annuity = (capital_per_year(10_000, years, residual, interest) for interest in (0, 1e-9))
    assert annuity == pytest.approx(line, rel=1e-6, abs=1e-4)


AXES = {
    "price_usd": (1_000, 90_000, 1),
    "server_usd": (0, 50_000, 1),
    "years": (1, 10, -1),
    "residual": (0, 0.9, -1),
    "interest": (0, 0.5, 1),
    "kilowatts": (0, 5, 1),
    "pue": (1, 3, 1),
    "usd_per_kwh": (0, 1, 1),
    "colocation_usd_per_kw_month": (0, 500, 1),
    "staff_usd_per_year": (0, 9_000, 1),
    "overhead": (0, 1, 1),
}
terms = st.fixed_dictionaries({name: st.floats(low, high) for name, (low, high, _) in AXES.items()})


@given(terms, st.sampled_from(sorted(AXES)), st.floats(0, 1))
def test_an_hour_moves_with_each_input_in_the_known_direction(base, name, step):
    _, high, sign = AXES[name]
    moved = base[name] + step * (high - base[name])
    before, after = (Ownership(**{**base, name: value}).usd_per_gpu_hour.point for value in (base[name], moved))
    assert sign * (after - before) >= -1e-9 * max(before, 1)


@given(terms, terms, st.floats(0, 1))
def test_a_range_of_inputs_holds_every_owner_inside_it(one, other, p):
    ranged = {name: (min(one[name], other[name]), max(one[name], other[name])) for name in one}
    inside = {name: low + p * (high - low) for name, (low, high) in ranged.items()}
    hour, single = Ownership(**ranged).usd_per_gpu_hour, Ownership(**inside).usd_per_gpu_hour.point
    assert hour.least * (1 - 1e-9) <= single <= hour.most * (1 + 1e-9)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"years": 0}, "years must be a number above 0.*got 0"),
        ({"years": (0, 4)}, r"years must be a number above 0.*got \(0, 4\)"),
        ({"price_usd": -1}, "price_usd must be a number 0 or more.*got -1"),
        ({"price_usd": float("nan")}, "price_usd must be.*got nan"),
        ({"price_usd": "33,078"}, "price_usd must be.*got '33,078'"),
        ({"price_usd": None}, "price_usd must be.*got None"),
        ({"residual": 1.2}, "residual must be a number 0 or more and at most 1.*got 1.2"),
        ({"interest": 10}, "interest must be.*at most 1.*got 10"),
        ({"pue": 0.9}, "pue must be a number 1 or more.*got 0.9"),
        ({"usd_per_kwh": -0.1}, "usd_per_kwh must be.*got -0.1"),
        ({"idle_power": 2}, "idle_power must be"),
        ({"overhead": True}, "overhead must be.*got True"),
    ],
)
def test_bad_terms_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        Ownership(**{"price_usd": 30_000, "years": 4, **terms})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rent(-1), "usd_per_gpu_hour must be a number 0 or more.*got -1"),
        (lambda: Rent(1.7, "monthly"), "paid must be 'used' or 'always'; got 'monthly'"),
        (lambda: Api(float("nan")), "usd_per_million must be"),
        (lambda: anchor("h100-rent"), "did you mean h100-rent-"),
        (lambda: owner("best"), "id must be one of article, honest; got 'best'"),
    ],
)
def test_other_bad_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- the recorded figures


@pytest.mark.parametrize(
    "record", [*anchors(), *energy(), *ownership_table()], ids=lambda record: getattr(record, "id", None) or record.gpu
)
def test_every_figure_has_a_source_a_date_and_a_value(record):
    assert isinstance(record.source, Source)
    assert "2022" <= record.as_of < "2026-11-26"
    if hasattr(record, "amount"):
        assert (record.value is None) == (record.low is not None) == (record.high is not None)
        assert record.unit and record.what
        assert record.unverified or "general knowledge" not in record.source.title


def test_what_was_read_only_through_secondary_pages_is_marked():
    assert all(item.unverified for item in anchors() if "secondary" in item.source.title)
    assert str(anchor("h100-rent-2025-10")).endswith("1.7 USD per GPU-hour (2025-10, unverified)")


def test_no_two_figures_share_an_id():
    names = [item.id for item in anchors()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("price", rough_prices(), ids=lambda price: price.name)
def test_the_rough_receipt_of_lesson_00_uses_the_same_rents(price):
    assert anchor(price.name.replace("h100-", "h100-rent-")).value == price.usd_per_gpu_hour


@pytest.mark.parametrize("row", [row for row in ownership_table() if row.placeholder_of], ids=lambda row: row.gpu)
def test_a_placeholder_is_its_model_times_1_2(row):
    base = next(other for other in ownership_table() if other.gpu == row.placeholder_of)
    assert row.kilowatts == base.kilowatts
    for figure in ("hyperscaler", "neocloud", "rent_3y"):
        assert getattr(row, figure) == pytest.approx(1.2 * getattr(base, figure), abs=0.002)


@pytest.mark.parametrize("row", ownership_table(), ids=lambda row: row.gpu)
def test_power_is_a_small_part_of_published_ownership(row):
    # the publisher says that room and power are below 20 %; power alone at US prices must be below that
    power = Ownership(0, 4, kilowatts=row.kilowatts, usd_per_kwh=anchor("electricity-us-2025-10").value)
    assert power.usd_per_gpu_hour.point < anchor("room-share-of-tco").value * row.hyperscaler
    assert row.hyperscaler < row.neocloud


def test_the_article_owner_and_the_honest_one():
    article = owner("article")
    assert article.usd_per_gpu_hour.point == pytest.approx(0.944 + 0.150 + 0.515, abs=0.001)
    assert not article.usd_per_gpu_hour.inputs
    h100 = next(row for row in ownership_table() if row.gpu == "H100")
    honest = owner("honest").usd_per_gpu_hour
    assert honest.least < h100.hyperscaler < h100.neocloud < honest.most
    assert honest.tornado()[0].swing > 10 * honest.tornado()[-1].swing
    assert {bar.name.removeprefix("own: ") for bar in honest.tornado()[-3:]} >= {"PUE", "price of electricity"}
    assert set(assumed("honest")) <= set(vars(owner("honest")))


@pytest.mark.parametrize("item", energy(), ids=lambda item: item.id)
def test_energy_per_token_is_power_over_speed(item):
    from kvlib.cost import joules_per_token

    printed = item.joules_per_token
    assert joules_per_token(item.watts, item.tokens_per_second).point == pytest.approx(printed, rel=0.006)
