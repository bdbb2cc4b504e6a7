"""Published deployments against the planner: what runs is called possible, and what failed is not called fitting."""

import pytest

import kvlib as kv
from kvlib.deployments import deployments
from kvlib.units import GiB

EVERY = deployments()


@pytest.mark.parametrize("deployment", EVERY, ids=lambda deployment: deployment.id)
def test_the_planner_agrees_with_what_was_published(deployment):
    judged = deployment.plan()
    assert judged.per_gpu is not None, judged.why
    assert judged.fits == deployment.runs, judged.why
    assert judged.gpus == deployment.gpus


@pytest.mark.parametrize("deployment", [d for d in EVERY if d.weights_gib], ids=lambda deployment: deployment.id)
def test_the_weights_on_each_card_are_the_logged_ones_within_three_percent(deployment):
    assert deployment.plan().per_gpu.weights / GiB == pytest.approx(deployment.weights_gib, rel=0.03)


def test_each_record_names_a_source_a_date_and_things_that_exist():
    assert len(EVERY) >= 10
    assert len({d.id for d in EVERY}) == len(EVERY)
    assert any(not d.runs for d in EVERY)
    for d in EVERY:
        assert d.source.strip()
        assert d.as_of.year >= 2024
        assert d.model in kv.models()
        assert kv.gpu(d.gpu).name == d.gpu


def test_a_deployment_in_words():
    assert EVERY[1].what == "Llama 3.1 405B, bf16, 8,192 tokens, 16 x h100-sxm, TP 8 x PP 2"
    assert next(d for d in EVERY if d.id == "gpt-oss-120b-1").what.endswith("bf16 + mxfp4, 8,192 tokens, 1 x h100-sxm")


def test_settings_reach_the_planner():
    cards = next(d for d in EVERY if d.id == "qwen2.5-32b-2-l40s")
    assert cards.plan(runtime=0.3 * GiB).per_gpu.runtime == round(0.3 * GiB)
