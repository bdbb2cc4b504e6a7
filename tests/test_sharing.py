"""The car sharing: against a step-by-step reference, against recursions, against theory, and what it refuses."""

import heapq
import math
from collections import deque
from functools import cache, lru_cache

import numpy as np
import pytest

from kvlib.batching import Epoch
from kvlib.demand import Demand, Geometric, LogNormal, poisson_demand
from kvlib.efficiency import calibration
from kvlib.placement import place
from kvlib.queueing import erlang_c, many_servers_wait, single_server_wait
from kvlib.replica import replica
from kvlib.serving import serve
from kvlib.sharing import share
from kvlib.traffic import cache_read

MODEL, GPU = "llama-3.1-8b", "h100-sxm"


@lru_cache
def car(gpu=GPU, model=MODEL, **settings):
    return replica(model, gpu, **settings)


def demand(rate, requests, prompt, output, seed=1):
    return poisson_demand(rate, requests, prompt, output, np.random.default_rng(seed))


# ---------------------------------------------------------------- one step after the other


def step_by_step(demand, car):
    """First and last tokens, and preemptions, of one replica: every step by itself, times from the placement."""
    placed, shares, room = car.placed, car.efficiency, car.placed.room()
    memory = shares.memory_group if placed.tp > 1 else shares.memory_alone
    step = placed.decode(1, 1)
    product = shares.compute * (shares.experts if step.experts else 1)
    prompts, outputs = demand.prompts.tolist(), demand.outputs.tolist()
    count = len(prompts)
    first, last, written, length, done = [None] * count, [None] * count, [0] * count, {}, {}
    waiting, reading, running = deque(), [], []
    now, coming, preemptions = 0.0, 0, 0

    @cache
    def occupied(tokens):
        blocks = -(-tokens // car.block_tokens)
        return int(placed.model.cache_bytes(blocks * car.block_tokens, placed.kv, placed.tp))

    def goal(i):
        return prompts[i] + written[i]

    def used():
        return sum(occupied(length[i] + 1) for i in running) + sum(occupied(goal(i)) for i in reading)

    @cache
    def cache_seconds(tokens):
        return float(cache_read(placed.model, tokens, placed.kv, placed.tp)) / placed.gpu.bandwidth

    decode, prefill = cache(placed.decode), cache(placed.prefill)

    while coming < count or waiting or reading or running:
        if not (waiting or reading or running):
            now = max(now, demand.arrivals[coming])
        while coming < count and demand.arrivals[coming] <= now:
            waiting.append(coming)
            coming += 1
        while (
            waiting
            and len(running) + sum(goal(i) - done[i] for i in reading) < car.chunk_tokens
            and len(running + reading) < car.max_batch
            and used() + occupied(goal(waiting[0])) <= room
        ):
            reading.append(waiting.popleft())
            done[reading[-1]] = 0
        while used() > room:
            preemptions += not reading or done[reading[-1]] > 0
            waiting.appendleft((reading or running).pop())
        batch, budget, pieces = len(running), car.chunk_tokens - len(running), []
        for i in reading:
            pieces.append((i, min(budget, goal(i) - done[i])))
            budget -= pieces[-1][1]
            if not budget:
                break
        caches = sum(cache_seconds(length[i] + 1) for i in running)
        attention = sum(decode(1, length[i] + 1).attention for i in running)
        if pieces:
            whole_step = prefill(batch + sum(new for _, new in pieces))
            prompt_steps = [prefill(new, done[i]) for i, new in pieces]
            read = whole_step.read + caches
            linear = batch * decode(1, 1).linear + sum(piece.linear for piece in prompt_steps)
            attention += sum(piece.attention for piece in prompt_steps)
        else:
            whole_step = decode(batch, 1)
            read = whole_step.read - batch * cache_seconds(1) + caches
            linear = whole_step.linear
        now += max(read / memory, linear / product + attention / shares.compute)
        now += whole_step.launches * shares.layer + batch * shares.sequence
        now += whole_step.moved / shares.link + whole_step.waits
        for i in list(running):
            written[i] += 1
            length[i] += 1
            if written[i] == outputs[i]:
                last[i] = now
                running.remove(i)
        for i, new in pieces:
            done[i] += new
            if done[i] == goal(i):
                reading.remove(i)
                length[i] = goal(i)
                written[i] += 1
                first[i] = now if first[i] is None else first[i]
                if written[i] == outputs[i]:
                    last[i] = now
                else:
                    running.append(i)
    return np.array(first), np.array(last), preemptions


LENGTHS = LogNormal(400, 300, 2000), LogNormal(100, 60, 900)


@pytest.mark.parametrize(
    ("settings", "rate", "preempted"),
    [
        ({}, 10, False),
        ({"chunk_tokens": 300}, 20, False),
        ({"max_batch": 3}, 20, False),
        ({"gpu": "l4", "block_tokens": 64}, 30, True),
        ({"gpu": "l4", "max_batch": 200, "chunk_tokens": 2000}, 30, True),
        ({"model": "gemma-3-27b", "tp": 2}, 10, False),  # windows: a Line ends
        ({"model": "qwen3-30b-a3b"}, 10, False),  # a mixture of experts
    ],
    ids=str,
)
def test_taking_many_steps_at_once_changes_nothing(settings, rate, preempted):
    asked = demand(rate, 120 if preempted else 60, *LENGTHS, seed=3)
    served = car(longest=4096, **settings)
    first, last, preemptions = step_by_step(asked, served)
    seen = share(asked, served)
    assert np.abs(seen.first - first).max() < 1e-9
    assert np.abs(seen.finished - last).max() < 1e-9
    assert seen.preemptions == preemptions
    assert (preemptions > 0) == preempted


def test_steps_change_sides_of_the_roofline_at_the_right_moment():
    served, count = car(max_batch=512), 400
    early, late = (served.placed.decode(count, 10 + k) for k in (1, 150))
    shares = served.efficiency
    assert early.read / shares.memory_alone < early.work / shares.compute  # many sequences: computing takes longer,
    assert late.read / shares.memory_alone > late.work / shares.compute  # until their caches have grown
    asked = Demand(np.zeros(count), np.full(count, 10), np.full(count, 150))
    assert np.abs(share(asked, served).finished - step_by_step(asked, served)[1]).max() < 1e-9


def test_an_empty_replica_answers_at_the_speed_of_kvlib_speed():
    placed, shares = place(MODEL, GPU), calibration().efficiency
    seen = share(Demand([0.0], [1000], [50]), car())
    assert seen.ttft[0] == pytest.approx(placed.prefill(1000).seconds(shares))
    steps = [placed.decode(1, 1000 + k).seconds(shares) for k in range(1, 50)]
    assert seen.tpot[0] == pytest.approx(np.mean(steps))


@pytest.mark.parametrize(("tokens_in", "tokens_out"), [(1000, 200), (128, 1024)])
def test_a_full_replica_is_about_as_fast_as_kvlib_throughput_says(tokens_in, tokens_out):
    count = 2000
    seen = share(Demand(np.zeros(count), np.full(count, tokens_in), np.full(count, tokens_out)), car(max_batch=1024))
    began, ended = np.quantile(seen.finished, (0.3, 0.8))
    predicted = serve(place(MODEL, GPU), tokens_in, tokens_out, None, calibration())
    assert predicted.low < 0.5 * count * tokens_out / (ended - began) < predicted.ceiling


@pytest.mark.parametrize("growth", [0.0, 1e-3, 0.7, -1e-3])
def test_an_epoch_knows_which_of_its_steps_is_under_way(growth):
    epoch = Epoch(40, 1.0, growth)
    ends = np.cumsum(1.0 + growth * np.arange(40))
    assert [epoch.seconds(k + 1) for k in range(40)] == pytest.approx(ends)
    for k in range(40):
        assert epoch.begun(ends[k] - 1e-6) == k + 1
    assert epoch.begun(0.0) == 1
    assert epoch.begun(1e9) == 40


# ---------------------------------------------------------------- theory


def lindley(arrivals, service):
    """Waits before one server: each waits as long as the one before, plus its work, less the gap."""
    gains = np.cumsum(np.r_[0.0, service[:-1] - np.diff(arrivals)])
    return gains - np.minimum.accumulate(gains)


def earliest_free(arrivals, service, servers):
    """Waits before several servers, first come, first served: each takes the server that is free first."""
    free, waits = [0.0] * servers, []
    for at, work in zip(arrivals, service, strict=True):
        began = max(at, heapq.heappop(free))
        waits.append(began - at)
        heapq.heappush(free, began + work)
    return np.array(waits)


def work_of(outputs, prompt):
    """Seconds of work of answers of these lengths, one at a time."""
    placed, shares = place(MODEL, GPU), calibration().efficiency
    lengths = (prompt + np.arange(1, outputs.max())).astype(object)
    steps = placed.decode(1, lengths).seconds(shares).astype(float)
    return np.cumsum(np.r_[placed.prefill(prompt).seconds(shares), steps])[outputs - 1]


def one_at_a_time(load, requests, seed):
    """Requests whose work is all but exponential (coefficient of variation 0.99), at a load, and that work."""
    asked = demand(1.0, requests, 1, Geometric(100), seed)
    work = work_of(asked.outputs, 1)
    return Demand(asked.arrivals * work.mean() / load, asked.prompts, asked.outputs), work


@pytest.mark.parametrize(("load", "requests"), [(0.3, 50_000), (0.5, 50_000), (0.8, 100_000)])
def test_one_at_a_time_with_equal_work_is_m_d_1(load, requests):
    work = work_of(np.array([100]), 800)[0]
    asked = demand(load / work, requests, 800, 100)
    seen = share(asked, car(max_batch=1))
    assert np.abs(seen.wait - lindley(asked.arrivals, np.full(len(asked), work))).max() < 1e-6
    assert seen.wait.mean() == pytest.approx(single_server_wait(asked.rate, work), rel=0.03)
    assert seen.utilisation == pytest.approx(load, rel=0.02)
    assert seen.stable


def test_one_at_a_time_with_unequal_work_is_m_g_1():
    ratios = []
    for seed in range(1, 13):
        asked, work = one_at_a_time(0.6, 50_000, seed)
        expected = lindley(asked.arrivals, work)
        ratios.append(expected.mean() / single_server_wait(asked.rate, work.mean(), work.var()))
        if seed == 1:
            assert np.abs(share(asked, car(max_batch=1)).wait - expected).max() < 1e-6
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.4), (10, 8.0)])
def test_several_replicas_with_one_queue_are_served_in_order(servers, load):
    asked, work = one_at_a_time(load, 20_000, seed=1)
    seen = share(asked, car(max_batch=1), servers)
    assert np.abs(seen.wait - earliest_free(asked.arrivals, work, servers)).max() < 1e-6


@pytest.mark.parametrize(("servers", "load"), [(2, 1.4), (10, 8.0)])
def test_what_is_served_in_that_order_is_m_m_c(servers, load):
    waits, chances = [], []
    for seed in range(1, 13):
        asked, work = one_at_a_time(load, 50_000, seed)
        seen = earliest_free(asked.arrivals, work, servers)
        waits.append(seen.mean() / many_servers_wait(asked.rate, work.mean(), servers))
        chances.append((seen > 1e-9).mean() / erlang_c(servers, asked.rate * work.mean()))
    assert np.mean(waits) == pytest.approx(1, abs=0.03)
    assert np.mean(chances) == pytest.approx(1, abs=0.01)


def test_littles_law_holds_for_the_whole_run_and_for_its_middle():
    asked = demand(15, 20_000, LogNormal(1155, 1020, 16_000), LogNormal(211, 129, 16_000))
    seen = share(asked, car(), 2)
    stay = seen.finished - asked.arrivals
    assert seen.in_system == pytest.approx(seen.requests_per_second * stay.mean(), rel=1e-9)
    # In a window the law is not an identity: those inside at its edges are counted differently.
    began, ended = np.quantile(asked.arrivals, (0.2, 0.9))
    spent = np.minimum(seen.finished, ended) - np.maximum(asked.arrivals, began)
    inside = np.clip(spent, 0, None).sum() / (ended - began)
    came = (asked.arrivals >= began) & (asked.arrivals < ended)
    assert inside == pytest.approx(came.sum() / (ended - began) * stay[came].mean(), rel=0.01)


# ---------------------------------------------------------------- what a pool is for


def test_the_same_seed_gives_the_same_result_to_the_last_bit():
    one, other = (share(demand(12, 2_000, *LENGTHS, seed=5), car(), 2) for _ in range(2))
    assert one.finished.tobytes() == other.finished.tobytes()
    assert one.byte_seconds == other.byte_seconds
    assert share(demand(12, 2_000, *LENGTHS, seed=6), car(), 2).seconds != one.seconds


def test_a_recorded_trace_may_begin_anywhere():
    gaps = np.array([0.0, 0.5, 0.5, 3.0])
    early, late = (share(Demand(start + gaps, [500] * 4, [20] * 4), car()) for start in (0.0, 1.7e9))
    assert late.ttft == pytest.approx(early.ttft, abs=1e-5)
    assert late.utilisation == pytest.approx(early.utilisation, rel=1e-5)


def test_every_token_is_written_and_nothing_happens_before_its_cause():
    asked = demand(40, 3_000, *LENGTHS)
    seen = share(asked, car("l4"), 3)
    assert (asked.arrivals <= seen.started).all()
    assert (seen.started < seen.first).all()
    assert (seen.first <= seen.finished).all()
    assert 0 < seen.memory <= 1
    assert seen.output_per_second * seen.seconds == pytest.approx(asked.outputs.sum())


@pytest.mark.parametrize(("load", "stable"), [(0.9, True), (1.1, False)])
def test_overload_is_reported_and_ends(load, stable):
    work = work_of(np.array([20]), 100)[0]
    seen = share(demand(load / work, 5_000, 100, 20), car(max_batch=1))
    assert seen.stable is stable
    assert ("NO STEADY STATE" in repr(seen)) is not stable
    assert np.isfinite(seen.finished).all()


def test_overload_of_batching_replicas_is_reported_too():
    assert not share(demand(100, 5_000, *LENGTHS), car()).stable
    assert not share(Demand(np.zeros(3_000), np.full(3_000, 900), np.full(3_000, 90)), car()).stable


def test_more_replicas_wait_less_and_cost_more():
    asked = demand(30, 4_000, LogNormal(1155, 1020, 16_000), LogNormal(211, 129, 16_000))
    two, four = (share(asked, car(), n) for n in (2, 4))
    assert np.quantile(four.ttft, 0.95) < np.quantile(two.ttft, 0.95)
    assert four.usd_per_million(2.0).point > 1.5 * two.usd_per_million(2.0).point


def test_tokens_pay_for_every_hour_of_every_gpu():
    seen = share(demand(1, 300, 1000, 100), car(model="llama-3.1-70b", tp=4), 2)
    usd = 2.0 * seen.gpus * seen.seconds / 3600
    assert seen.gpus == 8
    assert seen.usd_per_million(2.0).point == pytest.approx(usd / seen.demand.outputs.sum() * 1e6)
    assert seen.usd_per_million((1.0, 3.0)).low < seen.usd_per_million(2.0).point


def test_a_result_says_that_it_is_simulated():
    assert repr(share(demand(5, 50, 100, 10), car())).startswith("simulated:")
    assert "not defined" in repr(share(demand(5, 50, 100, 1), car()))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: demand(0, 10, 100, 10), "rate .* above 0"),
        (lambda: demand(-1, 10, 100, 10), "rate"),
        (lambda: demand(math.nan, 10, 100, 10), "rate"),
        (lambda: demand(math.inf, 10, 100, 10), "rate"),
        (lambda: demand(True, 10, [1] * 9, 10), "prompts"),
        (lambda: demand(1, 0, 100, 10), "requests"),
        (lambda: demand(1, 10, 0, 10), "prompt"),
        (lambda: demand(1, 10, 100, -5), "output"),
        (lambda: demand(1, 10, 100, 2.5), "output"),
        (lambda: poisson_demand(1, 10, 100, 10, 1), "rng"),
        (lambda: Demand([], [], []), "arrivals"),
        (lambda: Demand([1.0, 0.5], [1, 1], [1, 1]), "arrivals .* in order"),
        (lambda: Demand([0.0, math.nan], [1, 1], [1, 1]), "arrivals"),
        (lambda: Demand([-1.0], [1], [1]), "arrivals"),
        (lambda: Demand([0.0], [-1], [1]), "prompts .* 1 or more"),
        (lambda: Demand([0.0], [1], [1.5]), "outputs .* whole"),
        (lambda: LogNormal(100, 200), "median"),
        (lambda: LogNormal(math.inf, 200), "mean"),
        (lambda: LogNormal(200, 100, 50), "median .* most"),
        (lambda: Geometric(0.5), "mean"),
        (lambda: replica(MODEL, GPU, max_batch=0), "max_batch"),
        (lambda: replica(MODEL, GPU, chunk_tokens=256), "chunk_tokens .* above max_batch"),
        (lambda: replica(MODEL, GPU, chunk_tokens=10_000), "chunk_tokens .* at most 8,192"),
        (lambda: replica(MODEL, GPU, longest=10**12), "longest"),
        (lambda: replica("llama-3.1-70b", GPU), "gpu must hold the weights"),
        (lambda: share(demand(1, 10, 100, 10), car(), 0), "replicas"),
        (lambda: share(Demand([0.0], [40_000], [1]), car()), "longest = 32,768"),
        (lambda: share(Demand([0.0, 1.0], [10, 50_000], [1, 9]), car("l4", longest=100_000)), r"request 1 has 50,000"),
    ],
)
def test_what_cannot_be_simulated_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_request_that_just_fits_is_served():
    small = car("l4", longest=100_000)
    most = int(small.room // 131_072 // 16 * 16)
    seen = share(Demand([0.0, 0.0], [most - 99, 500], [100, 50]), small)
    assert np.isfinite(seen.finished).all()
    with pytest.raises(ValueError, match="must fit into the cache memory"):
        share(Demand([0.0], [most - 98], [100]), small)


def test_lengths_have_the_mean_and_the_median_that_were_asked_for():
    drawn = LogNormal(1154.7, 1020).draw(np.random.default_rng(1), 200_000)
    assert drawn.mean() == pytest.approx(1154.7, rel=0.01)
    assert np.median(drawn) == pytest.approx(1020, rel=0.01)
    assert Geometric(50).draw(np.random.default_rng(1), 200_000).mean() == pytest.approx(50, rel=0.01)
    assert LogNormal(100, 50, 80).draw(np.random.default_rng(1), 10_000).max() == 80
