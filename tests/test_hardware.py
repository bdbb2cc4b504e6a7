import re
import tomllib
from datetime import date
from importlib import resources

import pytest

import kvlib as kv
from kvlib.hardware import Accelerator, gpu, gpus

TODAY = date(2026, 12, 31)
# Headlines WITH sparsity (NVIDIA datasheets): ours must be half of them, give or take rounding.
SPARSE = {
    ("h100-sxm", "bf16"): 1979e12,
    ("h100-sxm", "fp8"): 3958e12,
    ("h100-pcie", "bf16"): 1513e12,
    ("h100-pcie", "fp8"): 3026e12,
    ("l4", "bf16"): 242e12,
    ("l4", "fp8"): 485e12,
    ("l40s", "fp8"): 1466e12,
    ("rtx5090", "fp4"): 3352e12,
}


def test_the_contract_names_of_an_h100():
    card = gpu("h100-sxm")
    assert card.label_gb == 80
    assert card.visible_bytes == 81_559 * 2**20 == 85_520_809_984
    assert card.bandwidth == 3_350 * 10**9
    assert card.flops["bf16"] == 989 * 10**12
    assert card.tdp_watts == 700
    assert "2026-08-22" in card.source


def test_an_80_gb_card_shows_79_65_gib_and_85_52_gb():
    seen = gpu("h100-sxm").visible_bytes
    assert round(seen / 2**30, 2) == 79.65
    assert round(seen / 10**9, 2) == 85.52
    assert kv.size(seen) == "85.5 GB (79.6 GiB)"


@pytest.mark.parametrize(
    ("name", "cores", "fused", "clock", "halved"),
    [
        ("h100-sxm", 528, 512, 1.83e9, 1),
        ("rtx4090", 512, 128, 2.52e9, 2),
        ("rtx5090", 680, 128, 2.407e9, 2),
        ("rtxpro6000", 752, 128, 2.617e9, 1),
    ],
)
def test_dense_bf16_follows_from_tensor_cores_and_clock(name, cores, fused, clock, halved):
    # one multiply-add is two operations; GeForce cards halve the rate when they accumulate in fp32
    assert gpu(name).flops["bf16"] == pytest.approx(cores * fused * 2 * clock / halved, rel=0.001)


@pytest.mark.parametrize(("name", "precision"), SPARSE)
def test_flops_are_half_of_the_sparse_headline(name, precision):
    assert gpu(name).flops[precision] == pytest.approx(SPARSE[name, precision] / 2, rel=0.005)


@pytest.mark.parametrize("name", gpus())
def test_every_record_is_sourced_dated_and_plausible(name):
    card = gpu(name)
    assert card.source
    assert date(2024, 1, 1) < card.as_of < TODAY
    assert card.label_gb > 0
    assert 10**11 < card.bandwidth < 10**14  # bytes per second: a figure left in GB/s or TB/s falls out
    assert all(10**14 < rate < 10**17 for rate in card.flops.values())
    assert card.tdp_watts is None or 50 < card.tdp_watts < 2_000
    for figure in ("label_gb", "visible_bytes", "bandwidth", "flops.bf16", "tdp_watts", "link"):
        source = card.figure_source(figure)
        assert source.title
        assert source.as_of < TODAY


@pytest.mark.parametrize("name", gpus())
def test_visible_memory_is_near_the_label_or_absent(name):
    card = gpu(name)
    if card.visible_bytes is None:
        assert not card.verified("visible_bytes")
    else:
        # between the label in decimal GB and the label in GiB
        assert card.label_gb * 10**9 * 0.99 < card.visible_bytes <= card.label_gb * 2**30
        assert card.visible_bytes % 2**20 == 0  # nvidia-smi prints whole MiB


def test_the_label_is_neither_gb_nor_gib():
    assert gpu("b300").visible_bytes / 2**30 == pytest.approx(268.6, abs=0.05)  # a "288 GB" card
    assert gpu("rtx5090").visible_bytes / 2**30 == pytest.approx(31.84, abs=0.01)
    assert gpu("rtx5090").visible_bytes / 10**9 == pytest.approx(34.19, abs=0.01)


@pytest.mark.parametrize("name", gpus())
def test_a_link_states_both_ways(name):
    link = gpu(name).link
    if link is not None:
        assert link.both_directions == 2 * link.per_direction
        assert link.domain is None or link.domain >= 1


@pytest.mark.parametrize("name", gpus())
def test_lower_precision_is_never_slower_and_a_measurement_never_beats_the_peak(name):
    flops = gpu(name).flops
    rates = [flops[p] for p in ("bf16", "fp8", "fp4") if p in flops]
    assert rates == sorted(rates)
    for precision, measured in gpu(name).measured_flops.items():
        assert measured < flops[precision]


@pytest.mark.parametrize("name", gpus())
def test_unverified_names_real_figures_that_are_present(name):
    card = gpu(name)
    for figure in card.unverified:
        assert not card.verified(figure)
        head, _, precision = figure.partition(".")
        value = getattr(card, head)
        assert (value[precision] if precision else value) is not None


def test_a_figure_without_a_citable_source_is_marked_unverified():
    data = tomllib.loads((resources.files("kvlib") / "data" / "gpus.toml").read_text(encoding="utf-8"))
    weak = {"page_not_kept", "general_knowledge"}
    for record in data["gpu"]:
        overrides = record.get("figure_sources", {})
        for figure in ("visible_bytes", "bandwidth", "flops", "tdp_watts", "link"):
            if figure in record and overrides.get(figure, record["source"]) in weak:
                marked = any(item.partition(".")[0] == figure for item in record.get("unverified", []))
                assert marked, f"{record['name']}.{figure} rests on {overrides.get(figure, record['source'])}"


def test_what_engines_saw_is_a_little_less_than_the_driver_shows():
    seen = [card for card in map(gpu, gpus()) if card.engine_bytes]
    assert len(seen) >= 5
    for card in seen:
        low, high = card.engine_bytes
        assert low <= high < card.visible_bytes
        assert low > 0.98 * card.visible_bytes


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H100 SXM", "h100-sxm"),
        ("RTX 5090", "rtx5090"),
        ("rtx-4090", "rtx4090"),
        ("H200", "h200-sxm"),
        ("gb200", "gb200-nvl72"),
    ],
)
def test_spellings(spelling, name):
    assert gpu(spelling).name == name


def test_a_record_comes_back_as_it_is():
    card = gpu("l4")
    assert isinstance(card, Accelerator)
    assert gpu(card) is card
    assert "24 GB" in repr(card)
    assert hash(card) == hash(gpu("L4"))


@pytest.mark.parametrize("name", ["h1000", "", "tesla", None, 3, "h100"])
def test_an_unknown_name_lists_what_there_is(name):
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}")) as error:
        gpu(name)
    assert all(known in str(error.value) for known in gpus())


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean h100-sxm or h100-pcie or h100-nvl"):
        gpu("h100")
    with pytest.raises(ValueError, match="did you mean mi300x"):
        gpu("mi300")


def test_records_cannot_be_changed():
    with pytest.raises(TypeError):
        gpu("l4").flops["bf16"] = 1
