"""Own cars against the pool: simulated, and what others measured."""

import numpy as np
import pytest

from kvlib.demand import Geometric, poisson_demand
from kvlib.pooling import Target, fewest, pool_users, pooling_result, pooling_results, published_lengths
from kvlib.replica import replica
from kvlib.sharing import share

CAR = replica("llama-3.1-8b", "h100-sxm")
ONE_SEAT = replica("llama-3.1-8b", "h100-sxm", max_batch=1)


def test_one_user_gains_nothing():
    alone = pool_users(1, 20, CAR, 1000, 200, requests=500)
    assert alone.gpus_alone == alone.gpus_pooled == 1
    assert alone.saved == 0


def test_a_pool_saves_by_sharing_time_and_again_by_sharing_weights():
    seats, batches = (pool_users(500, 20, car, *published_lengths(), requests=2_000) for car in (ONE_SEAT, CAR))
    assert seats.gpus_alone == batches.gpus_alone == 500
    assert 500 > seats.gpus_pooled > batches.gpus_pooled
    assert seats.alone.utilisation < 0.01 < seats.pooled.utilisation
    assert "simulated" in repr(seats)


def test_the_pool_is_the_smallest_that_meets_the_target():
    asked = poisson_demand(3.0, 2_000, 100, Geometric(200), np.random.default_rng(1))
    target = Target(ttft=0.5, share=0.9)
    best = fewest(asked, ONE_SEAT, target)
    assert best.replicas > 2
    assert target.met_by(best)
    assert not target.met_by(share(asked, ONE_SEAT, best.replicas - 1))


def test_a_target_for_the_pace_needs_more_replicas():
    asked = poisson_demand(40.0, 2_000, 500, 200, np.random.default_rng(1))
    slow, fluent = (fewest(asked, CAR, Target(tpot=tpot)) for tpot in (None, 0.012))
    assert fluent.replicas > slow.replicas


def test_an_endless_queue_meets_no_target():
    overloaded = share(poisson_demand(100.0, 3_000, 400, 100, np.random.default_rng(1)), CAR)
    assert overloaded.ttft.max() < 1e6
    assert not Target(ttft=1e6).met_by(overloaded)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Target(ttft=0), "ttft"),
        (lambda: Target(tpot=-1), "tpot"),
        (lambda: Target(share=1), "share"),
        (lambda: pool_users(0, 20, CAR, 10, 10), "users"),
        (lambda: pool_users(1, 0, CAR, 10, 10), "requests_per_hour"),
        (lambda: pool_users(1, 20, CAR, 20_000, 10, Target(ttft=0.1)), "ttft must be at least the time to read"),
        (lambda: pool_users(1, 20, CAR, 10, 10, Target(tpot=1e-6), requests=20), "within reach"),
        (lambda: pooling_result("nobody"), "aegaeon-before"),
        (lambda: published_lengths("nobody"), "azure-2023-conversation"),
    ],
)
def test_what_cannot_be_met_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_what_others_measured_is_kept_with_its_source():
    before, after = (pooling_result(f"aegaeon-{when}").value for when in ("before", "after"))
    assert 1 - after / before == pytest.approx(0.82, abs=0.005)  # the "82 %" of the headlines
    assert all(result.source.title and result.mechanism for result in pooling_results())
    load = pooling_result("aegaeon-idle-requests").value / pooling_result("aegaeon-idle-gpus").value
    assert load == pytest.approx(1 / 13, rel=0.01)  # those GPUs had a thirteenth of the mean work
