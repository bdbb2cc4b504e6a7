import math
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from traitlets import TraitError

import kvlib as kv
from kvlib.anchors import assumed
from kvlib.cost import break_even, usd_per_day
from kvlib.owning import Api, Ownership, Rent
from kvlib.show import cars, cost_pictures, rivals
from kvlib.show.cost_panels import (
    API_CENTS,
    AROUND_USD,
    CARD_USD,
    PER_HOUR,
    RENT_CENTS,
    SPEEDS,
    USERS,
    CostPanel,
    SharingPanel,
    money_slider,
)
from kvlib.speed import throughput

SVG = "{http://www.w3.org/2000/svg}"
HONEST = kv.owner("honest")
BASE = {
    "rival": "rent",
    "card_usd": 30_000,
    "around_usd": 13_000,
    "years": 4,
    "power_cents": 9,
    "rent_cents": 265,
    "api_cents": 30,
    "speed": 5_000,
    "used_percent": 30,
}
EIGHT_B, SEVENTY_B = cars.MACHINES


def choice(**change):
    return rivals.Rivals(**(BASE | change))


def ride(users=100, machine=EIGHT_B, per_hour=30, machines=1, rent_cents=170):
    return cars.Cars(machine=machine, users=users, per_hour=per_hour, machines=machines, rent_cents=rent_cents)


def status(panel):
    return unescape(re.fullmatch(r'<p role="status"[^>]*>(.*)</p>', panel.status.value)[1])


def marks(svg, tag, css):
    return [item for item in ElementTree.fromstring(svg).iter(f"{SVG}{tag}") if item.get("class") == css]


def label(svg):
    return ElementTree.fromstring(svg).get("aria-label")


def points(path):
    return [tuple(map(float, point.split())) for point in path.get("d").strip("MZ").split("L")]


@pytest.fixture
def cost():
    panel = CostPanel()
    panel.prediction.value = 50
    panel.button.click()
    return panel


@pytest.fixture
def sharing():
    panel = SharingPanel()
    panel.prediction.value = 1
    panel.button.click()
    return panel


# ---------------------------------------------------------------- an owner, line by line


def test_the_inputs_of_an_owner_are_listed_and_assumed_ones_marked():
    text = cost_pictures.inputs_table(HONEST, assumed()).text
    rows = {line.split()[0]: line for line in text.splitlines()[3:]}
    assert set(rows) == {name for name, value in vars(kv.owner("honest")).items() if value and name != "name"}
    assert "25,000 – 30,000 – 40,000" in rows["price_usd"] and "assumed" not in rows["price_usd"]
    assert {name for name, line in rows.items() if line.endswith("assumed")} == set(assumed())


def test_the_parts_of_an_hour_end_with_the_hour():
    lines = cost_pictures.parts_table(HONEST).text.splitlines()[3:]
    assert lines[-1].split() == ["an", "hour", "1.47", "1.83", "2.51"]
    assert len(lines) == 7  # no overhead: this owner has none
    assert sum(float(line.split()[-2]) for line in lines[:-1]) == pytest.approx(1.83, abs=0.03)


# ---------------------------------------------------------------- the tornado


def test_the_tornado_draws_the_bars_of_the_estimate():
    hour = HONEST.usd_per_gpu_hour
    picture = cost_pictures.tornado(hour, "An hour", keep=5)
    drawn = marks(picture.svg, "rect", "swing")
    bars = hour.tornado()[:5]
    assert [rect.get("data-input") for rect in drawn[::2]] == [bar.name for bar in bars]
    for bar, low, high in zip(bars, drawn[::2], drawn[1::2], strict=True):
        assert float(low.get("data-result")) == pytest.approx(bar.at_low, rel=1e-5)
        assert float(high.get("data-result")) == pytest.approx(bar.at_high, rel=1e-5)
    widths = [
        float(low.get("width")) + float(high.get("width")) for low, high in zip(drawn[::2], drawn[1::2], strict=True)
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] / widths[3] == pytest.approx(bars[0].swing / bars[3].swing, rel=1e-3)


def test_the_tornado_says_in_words_what_it_shows():
    text = cost_pictures.tornado(HONEST.usd_per_gpu_hour, "An hour", keep=5).text
    assert text.startswith(
        "An hour, 1.83 USD per GPU-hour with every input in the middle: years of use from 3 to 6 moves"
    )
    assert "from 2.21 to 1.45 (23% of all swings)" in text
    assert text.endswith("5 narrower bars are not drawn.")
    assert label(cost_pictures.tornado(HONEST.usd_per_gpu_hour, "An hour", keep=5).svg) == text


@pytest.mark.parametrize(("option", "keep"), [(kv.owner("article"), 5), (HONEST, 0)])
def test_a_tornado_needs_a_range_and_room(option, keep):
    with pytest.raises(ValueError, match="a tornado needs an estimate with a range"):
        cost_pictures.tornado(option.usd_per_gpu_hour, "An hour", keep=keep)


def test_every_bar_of_a_tornado_lies_inside_the_picture():
    svg = cost_pictures.tornado(HONEST.usd_per_gpu_hour, "An hour", keep=20).svg
    wide, tall = (float(n) for n in ElementTree.fromstring(svg).get("viewBox").split()[2:])
    for rect in marks(svg, "rect", "swing"):
        x, y, w, h = (float(rect.get(side)) for side in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= wide and y + h <= tall


# ---------------------------------------------------------------- the lines


OPTIONS = {"own": HONEST, "rent": Rent(2.65), "contract": Rent(1.70, "always"), "API": Api(0.308)}


def test_a_line_is_what_the_day_costs():
    for line in cost_pictures.lines(OPTIONS, 41_212, gpus=8):
        for share, middle, low, high in zip(cost_pictures.SHARES, line.middle, line.low, line.high, strict=True):
            day = usd_per_day(OPTIONS[line.name], share, tokens_per_second=41_212, gpus=8)
            assert (middle, low, high) == pytest.approx((day.point, day.low, day.high))


def test_the_crossings_are_the_break_evens():
    found = {
        (one, other): share for one, other, share in cost_pictures.crossings(cost_pictures.lines(OPTIONS, 41_212, 8))
    }
    for one, other in (("own", "rent"), ("own", "API"), ("contract", "rent"), ("contract", "API")):
        even = break_even(OPTIONS[one], OPTIONS[other], tokens_per_second=41_212, gpus=8).utilisation.point
        assert found[one, other] == pytest.approx(even)
    assert ("own", "contract") not in found
    assert list(found.values()) == sorted(found.values())


def test_lines_stay_in_the_frame_and_marks_lie_on_them():
    drawn = cost_pictures.lines(OPTIONS, 41_212, gpus=8)
    svg = cost_pictures.lines_picture(drawn, "Eight H100", "in words", used=0.4).svg
    paths = {path.get("data-option"): points(path) for path in marks(svg, "path", "line")}
    assert set(paths) == set(OPTIONS)
    for path in [*paths.values(), *(points(band) for band in marks(svg, "path", "band"))]:
        for x, y in path:
            assert cost_pictures._LEFT <= x <= 720
            assert cost_pictures._TOP - 0.01 <= y <= cost_pictures._TOP + cost_pictures._TALL
    assert max(x for x, _ in paths["API"]) < max(x for x, _ in paths["own"])  # it leaves at the top
    assert len(marks(svg, "circle", "crossing")) == len(cost_pictures.crossings(drawn))
    assert len(marks(svg, "path", "used")) == 1
    assert len(marks(svg, "path", "band")) == 1  # only the owner is uncertain


@pytest.mark.parametrize("used", [-0.1, 1.1])
def test_a_use_outside_the_day_is_refused(used):
    with pytest.raises(ValueError, match="used between 0 and 1"):
        cost_pictures.lines_picture(cost_pictures.lines(OPTIONS, 1), "a", "b", used)
    with pytest.raises(ValueError, match="at least one line"):
        cost_pictures.lines_picture([], "a", "b")


@pytest.mark.parametrize(("top", "marks_"), [(1.0, 6), (660, 7), (47, 5), (0.03, 7), (12_000, 7)])
def test_the_axis_has_a_few_round_marks(top, marks_):
    ticks = cost_pictures._ticks(top)
    assert len(ticks) == marks_
    assert ticks[0] == 0
    assert ticks[-1] <= top


# ---------------------------------------------------------------- own, or


def test_the_owner_is_the_honest_one_with_the_controls_set():
    own = choice(card_usd=40_000, around_usd=20_000, years=5, power_cents=20).own
    assert isinstance(own, Ownership)
    assert own.capex_usd.point == 60_000
    assert (own.years, own.usd_per_kwh, own.pue, own.interest) == (5, 0.2, HONEST.pue, HONEST.interest)


def test_the_break_even_is_that_of_the_library():
    for rival in rivals.RIVALS:
        c = choice(rival=rival)
        even = break_even(c.own, c.others[rival], tokens_per_second=c.speed)
        assert c.even.utilisation.point == even.utilisation.point
        assert c.even_span == pytest.approx((even.utilisation.low, even.utilisation.high), rel=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "Owning is cheaper than renting on demand above 68 % of all hours"),
        (
            {"rent_cents": 100},
            "Owning never pays: to be cheaper than renting on demand it would need 198 % of all hours",
        ),
        ({"rival": "api", "api_cents": 1, "speed": 50}, "Owning never pays: it is dearer than calling an API at every"),
        ({"rival": "api"}, "Owning is cheaper than calling an API above 32 % of all hours"),
    ],
)
def test_the_sentence_says_from_when_owning_pays(change, words):
    text = rivals.rivals_sentence(choice(**change))
    assert words in text
    assert re.search(r"\$0\.0\d+ for each GB of its 85\.5 GB \(79\.6 GiB\)", text)


def test_the_cheapest_at_your_use_is_the_lowest_line():
    for percent in (1, 30, 60, 100):
        c = choice(used_percent=percent)
        days = {name: usd_per_day(o, percent / 100, tokens_per_second=5_000).point for name, o in c.options.items()}
        name, day = rivals.cheapest(c)[0]
        assert name == min(days, key=days.get)
        assert day == pytest.approx(days[name])


def test_the_table_prices_a_token_at_your_use():
    text = rivals.rivals_table(choice(used_percent=50)).text
    own, rent, api = (line for line in text.splitlines() if line.split("  ")[0] in ("own", "rent on demand", "API"))
    assert "$0.20" in own  # 1.78 of fixed and half of 0.15 USD, over half of 18 million tokens
    assert "$0.15" in rent and "$0.00" in rent  # idle hours cost nothing, so use does not matter
    assert "$0.30" in api
    assert "85.5 GB (79.6 GiB)" in text


@pytest.mark.parametrize(
    ("change", "predicted", "words"),
    [
        ({}, 65, "You predicted 65 %; inside the range."),
        ({}, 20, "the middle is 68 %"),
        ({}, 47, "It looks as if you counted the purchase only"),
        ({}, 52, "It looks as if you bought the bare card"),
        ({}, 34, "It looks as if you counted the bare card and nothing else"),
        ({}, 144, "the wrong way round"),
        ({}, 185, "It looks as if you divided the purchase by the rent of one year"),
        ({"rent_cents": 100}, 150, "right, never"),
        ({"rent_cents": 100}, 20, "it is never cheaper"),
    ],
)
def test_the_verdict_names_the_usual_mistake(change, predicted, words):
    assert words in rivals.verdict(choice(**change), predicted)


def test_a_verdict_needs_a_prediction():
    with pytest.raises(ValueError, match="predicted must be a share of all hours in %, above 0; got 0"):
        rivals.verdict(choice(), 0)


# ---------------------------------------------------------------- the cars


def test_the_price_is_the_rent_over_the_tokens():
    c = ride(users=1_000)
    tokens = c.rate * float(c.result.demand.outputs.mean())
    assert c.price == pytest.approx(1.70 / 3_600 / tokens * 1e6, rel=0.05)  # another sample of the same answers
    assert c.price == pytest.approx(c.result.usd_per_million(1.70).point, rel=0.15)  # the run also empties at its end
    assert c.alone == pytest.approx(1_000 * c.price)


def test_more_users_wait_longer_and_pay_less_until_the_machine_is_full():
    rides = [ride(users=users) for users in (1, 100, 1_000, 2_500)]
    assert [r.overloaded for r in rides] == [False] * 4
    assert [r.price for r in rides] == sorted((r.price for r in rides), reverse=True)
    late = [float(np.quantile(r.result.ttft, 0.95)) for r in rides]
    assert late == sorted(late)
    assert all(r.full < r.price < r.alone * 1.001 for r in rides)


def test_twice_the_machines_halve_the_load():
    assert ride(users=2_000, machines=2).rate == ride(users=1_000).rate
    assert ride(users=2_000, machines=2).load == pytest.approx(ride(users=2_000).load / 2)


def test_a_machine_serves_what_theory_of_batches_allows():
    """The capacity lies between the estimate of kvlib.speed at the mean lengths and its ceiling."""
    speed = throughput("llama-3.1-8b", "h100-sxm", 1_150, 209, concurrency=256)
    output = cars.capacity(EIGHT_B) * 209
    assert speed.low < output < speed.ceiling


def test_overload_is_said_and_never_simulated_for_ever():
    c = ride(users=20_000)
    assert c.overloaded
    assert "OVERLOAD" in cars.cars_sentence(c)
    assert "the queue grows for ever" in cars.cars_sentence(c)
    assert c.price == c.full
    assert "grows for ever" in cars.cars_table(c).text
    assert not [b for b in marks(cars.cars_picture(c).svg, "rect", "block") if b.get("data-what") == "wait"]


@pytest.mark.parametrize("users", [1, 100, 1_000, 2_500, 20_000])
@pytest.mark.parametrize("machine", [EIGHT_B, SEVENTY_B])
def test_every_block_lies_inside_the_picture(users, machine):
    svg = cars.cars_picture(ride(users=users, machine=machine)).svg
    for rect in marks(svg, "rect", "block"):
        assert float(rect.get("x")) >= cars._LEFT - 4
        assert float(rect.get("x")) + float(rect.get("width")) <= 720


def test_everything_is_called_simulated_and_has_both_units():
    c = ride()
    for words in (cars.cars_sentence(c), cars.cars_table(c).text, cars.cars_picture(c).svg):
        assert "Simulated" in words
        assert re.search(r"[\d.]+ [GM]B \([\d.]+ [GM]iB\) of 55\.6 GB \(51\.8 GiB\)", words)


@pytest.mark.parametrize(
    ("given", "predicted", "words"),
    [
        ({}, 2.7, "near enough"),
        ({}, 0.085, "It looks as if you let the machines be full all the time"),
        ({}, 270, "It looks as if you gave everybody a machine of their own"),
        ({"machines": 4}, 2.7, "It looks as if you paid for one machine"),
        ({"machine": SEVENTY_B}, 2.7, "It looks as if you paid for one GPU of the machine"),
        ({}, 27, "times too high."),
    ],
)
def test_the_verdict_on_a_price(given, predicted, words):
    assert words in cars.verdict(ride(**given), predicted)


def test_the_cars_refuse_nonsense():
    with pytest.raises(ValueError, match="predicted must be USD per million tokens, above 0"):
        cars.verdict(ride(), -1)
    with pytest.raises(ValueError, match="machine must be one of Llama"):
        cars.machine("a bicycle")


# ---------------------------------------------------------------- both panels


@pytest.mark.parametrize("kind", [CostPanel, SharingPanel])
def test_no_number_is_shown_before_the_prediction(kind):
    panel = kind()
    last = list(panel.controls.values())[-1]
    for move in (lambda: None, lambda: setattr(last, "value", 20), panel.button.click):
        move()
        assert (panel.svg.value, panel.details.value) == ("", "")
    assert status(panel).startswith("Write your prediction first")
    panel.prediction.value = 3
    assert (panel.svg.value, panel.details.value) == ("", "")
    assert "press Reveal" in status(panel)


@pytest.mark.parametrize("kind", [CostPanel, SharingPanel])
@pytest.mark.parametrize("wrong", [0, -3, float("nan"), float("inf")])
def test_reveal_asks_for_a_prediction(kind, wrong):
    panel = kind()
    panel.prediction.value = wrong
    panel.button.click()
    assert not panel.revealed
    assert status(panel).startswith("Write your prediction first")


def test_the_cost_panel_follows_every_control(cost):
    assert status(cost) == cost.text
    assert status(cost).startswith("You predicted 50 %; ")
    moves = (("card_usd", 40_000), ("around_usd", 20_000), ("years", 3), ("power_cents", 30), ("rent_cents", 350))
    for control, value in (*moves, ("api_cents", 50), ("speed", 10_000), ("used_percent", 99), ("rival", "api")):
        before = cost.svg.value
        cost.controls[control].value = value
        assert cost.svg.value != before, control
        assert "<caption" in cost.details.value
    assert cost.result == choice(
        rival="api", card_usd=40_000, around_usd=20_000, years=3, power_cents=30, rent_cents=350, api_cents=50,
        speed=10_000, used_percent=99,
    )  # fmt: skip


def test_the_sharing_panel_follows_every_control(sharing):
    assert status(sharing) == sharing.text
    moves = (("users", 1_000), ("machines", 2), ("rent_cents", 265), ("per_hour", 60), ("machine", SEVENTY_B))
    for control, value in moves:
        before = label(sharing.svg.value)
        sharing.controls[control].value = value
        assert label(sharing.svg.value) != before, control
    assert sharing.result == ride(1_000, SEVENTY_B, 60, 2, 265)


@pytest.mark.parametrize("kind", [CostPanel, SharingPanel])
def test_the_table_is_there_without_a_kernel_or_a_button(kind):
    bundle = kind()._repr_mimebundle_()
    for text in (unescape(bundle["text/html"]), bundle["text/plain"]):
        assert re.search(r"\d GB \(\d+(\.\d+)? GiB\)", text)
    assert "<caption" in bundle["text/html"]
    assert "Run this notebook to move the controls." in bundle["text/html"]


@pytest.mark.parametrize("kind", [CostPanel, SharingPanel])
def test_a_panel_refuses_what_it_does_not_offer(kind):
    panel = kind()
    for name, control in panel.controls.items():
        with pytest.raises(TraitError):
            control.value = "nonsense"
        if name not in ("rival", "machine"):
            with pytest.raises(TraitError):
                control.value = 10**9


@pytest.mark.parametrize("kind", [CostPanel, SharingPanel])
def test_every_control_has_a_description_with_its_unit_and_the_panel_a_class(kind):
    panel = kind()
    assert all(control.description for control in (*panel.controls.values(), panel.prediction))
    assert {"panel", panel.css} <= set(panel._dom_classes)
    assert label_of(panel).startswith("Your prediction (")


def label_of(panel):
    return panel.prediction.description


def test_every_offer_can_be_chosen(cost, sharing):
    offers = {"card_usd": CARD_USD, "around_usd": AROUND_USD, "rent_cents": RENT_CENTS, "api_cents": API_CENTS}
    for name, values in (offers | {"speed": SPEEDS, "rival": rivals.RIVALS}).items():
        for value in values:
            cost.controls[name].value = value
            assert math.isfinite(cost.result.own.usd_per_gpu_hour.point)
    for name, values in (("users", USERS), ("per_hour", PER_HOUR), ("rent_cents", RENT_CENTS)):
        for value in values:
            sharing.controls[name].value = value


def test_a_money_slider_shows_dollars_and_holds_cents():
    slider = money_slider("Rent", (75, 1_000), 1_000)
    assert [words for words, _ in slider.options] == ["$0.75", "$10.00"]
    assert slider.value == 1_000
    with pytest.raises(TraitError):
        slider.value = 100
