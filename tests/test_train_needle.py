"""The trainer: gradients against finite differences, a run that is interrupted, and the sequences it learns from."""

from random import Random

import numpy as np
import pytest
from needle_network import first_weights, loss_and_gradients
from needle_sequences import STAGES, batch, sequence
from train_needle import Training

from kvlib.lab.sentences import VALUE_AT
from kvlib.lab.tinylm import SCHEMES
from kvlib.lab.words import VALUES, decode


def _small_batch():
    ids, targets, weights, _ = batch(Random("a batch"), STAGES[0])
    return ids[:2, :48], targets[:2, :48], weights[:2, :48].astype(np.float64) + 0.01


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_backward_pass_agrees_with_finite_differences(scheme):
    ids, targets, row_weights = _small_batch()
    weights = {name: value.astype(np.float64) for name, value in first_weights(3).items()}
    _, grads = loss_and_gradients(weights, scheme, ids, targets, row_weights)
    rng = np.random.default_rng(0)
    step = 1e-5
    assert grads.keys() == weights.keys()
    for name, value in weights.items():
        for _ in range(4):
            place = tuple(rng.integers(size) for size in value.shape)
            if name == "embedding":
                place = (rng.choice(ids.ravel()), place[1])
            before = value[place]
            losses = []
            for moved in (before + step, before - step):
                value[place] = moved
                losses.append(loss_and_gradients(weights, scheme, ids, targets, row_weights)[0])
            value[place] = before
            slope = (losses[0] - losses[1]) / (2 * step)
            assert grads[name][place] == pytest.approx(slope, rel=1e-5, abs=1e-8), (name, place)


def test_a_wrong_backward_pass_would_be_noticed():
    """A gradient that is off by one part in a thousand lies outside of what the test above allows."""
    ids, targets, row_weights = _small_batch()
    weights = {name: value.astype(np.float64) for name, value in first_weights(3).items()}
    loss, grads = loss_and_gradients(weights, "nope", ids, targets, row_weights)
    step = 1e-5
    weights["final_gain"] += step
    slope = (loss_and_gradients(weights, "nope", ids, targets, row_weights)[0] - loss) / step
    assert grads["final_gain"].sum() == pytest.approx(slope, rel=1e-4)
    assert 1.001 * grads["final_gain"].sum() != pytest.approx(slope, rel=1e-4)


def test_the_first_loss_is_that_of_a_blind_guess():
    """Cross-entropy of a guess among 433 words is ln 433; an untrained network with small logits is near it."""
    ids, targets, weights, _ = batch(Random(0), STAGES[2])
    flat = {name: value * (name != "head") for name, value in first_weights(0).items()}
    loss, _ = loss_and_gradients(flat, "nope", ids, targets, weights)
    assert loss == pytest.approx(1.05 * np.log(433), rel=1e-4)


def test_a_run_from_its_checkpoint_ends_at_the_same_weights(tmp_path):
    whole = Training("rope", seed=1, steps=6)
    for _ in range(6):
        whole.advance()
    part = Training("rope", seed=1, steps=6)
    for _ in range(3):
        part.advance()
    part.save(tmp_path / "run.npz")
    rest = Training.load(tmp_path / "run.npz")
    for _ in range(3):
        rest.advance()
    assert rest.step == whole.step == 6
    for name, value in whole.weights.items():
        assert np.array_equal(rest.weights[name], value), name


def test_training_lowers_the_loss():
    run = Training("nope", seed=0, steps=1600)
    ids, targets, weights, _ = batch(Random("held out"), STAGES[0])
    before, _ = loss_and_gradients(run.weights, "nope", ids, targets, weights)
    for _ in range(25):
        run.advance()
    after, _ = loss_and_gradients(run.weights, "nope", ids, targets, weights)
    assert after < 0.97 * before


@pytest.mark.parametrize("stage", STAGES)
def test_every_answer_was_told_before_it_is_asked_for(stage):
    for seed in range(50):
        ids, answers = sequence(Random(seed), stage, length := stage.lengths[-1])
        assert len(ids) == length + 1
        for place in answers:
            asked = decode(ids[place - 8 : place + 1]).split()
            assert (asked[0], asked[-1]) == ("what", "answer")
            assert ids[place + 1] in VALUES
            told = [ids[at - VALUE_AT + 1] for at in range(VALUE_AT, place - 8) if ids[at] == ids[place + 1]]
            assert ids[place - 5] in told, "the attribute stands with its value, further up"


def test_a_batch_counts_answers_once_and_other_words_at_a_twentieth():
    ids, targets, weights, answers = batch(Random(5), STAGES[1])
    assert ids.shape == targets.shape == weights.shape
    assert 4096 - 128 < ids.size <= 4096
    assert weights[answers].sum() == pytest.approx(1, rel=1e-5)
    assert weights[~answers].sum() == pytest.approx(0.05, rel=1e-5)
    assert not weights[targets == 0].any()
