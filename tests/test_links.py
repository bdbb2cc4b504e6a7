"""Communication times against a ring played through and against published measurements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlib.hardware import gpu
from kvlib.links import HOP, NETWORK, START, all_reduce_seconds, all_to_all_seconds, bubble, link_bandwidth


def ring(arrays):
    """A ring all-reduce played through: (every GPU's result, numbers that one GPU sent, steps)."""
    n = len(arrays)
    held, sent, steps = [list(a) for a in arrays], 0, 0
    for phase in ("reduce", "gather"):
        for step in range(n - 1):
            moving = [(g, (g - step + (phase == "gather")) % n) for g in range(n)]
            values = {(g, c): held[g][c] for g, c in moving}
            for g, c in moving:
                target = held[(g + 1) % n]
                target[c] = values[g, c] + (target[c] if phase == "reduce" else 0)
            sent, steps = sent + 1, steps + 1
    return held, sent, steps


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_ring_all_reduce_sends_what_the_formula_says(n):
    arrays = [[10**g + c for c in range(n)] for g in range(n)]
    results, sent, steps = ring(arrays)
    wanted = [sum(column) for column in zip(*arrays, strict=True)]
    assert all(result == wanted for result in results)
    # an array of n numbers of a byte, one number sent a second
    assert all_reduce_seconds(n, n, bandwidth=1, latency=False) == pytest.approx(sent)
    assert all_reduce_seconds(0, n, bandwidth=1) == pytest.approx(START + steps * HOP)


def test_small_all_reduce_is_between_the_measurements_for_two_and_eight_gpus():
    # H100 with NVLink: about 6 us for two (nccl#1259), 20-25 us for eight (marin#6736)
    two, eight = (all_reduce_seconds(8192, n, gpu("h100-sxm").link.per_direction) for n in (2, 8))
    assert two == pytest.approx(6e-6, rel=0.5) and eight == pytest.approx(22e-6, rel=0.5) and two < eight


@pytest.mark.parametrize(("gpus", "sent", "returned"), [(32, 155e-6, 273e-6), (64, 173e-6, 314e-6)])
def test_all_to_all_over_the_network_as_deepep_measured(gpus, sent, returned):
    # 128 tokens, 8 experts each, 7,168 wide, fp8 there and bf16 back (DeepEP, docs/legacy.md)
    there = all_to_all_seconds(128 * 8 * 7168, gpus, NETWORK)
    back = all_to_all_seconds(2 * 128 * 8 * 7168, gpus, NETWORK)
    assert there == pytest.approx(sent, rel=0.2) and back == pytest.approx(returned, rel=0.2)


def test_one_gpu_talks_to_nobody():
    assert all_reduce_seconds(10**9, 1, 1.0) == all_to_all_seconds(10**9, 1, 1.0) == 0


def test_bubble_of_four_stages_and_eight_parts():
    assert bubble(4, 8) == 3 / 11
    assert bubble(1, 5) == 0 and bubble(4, 1) == 0.75


def test_the_link_ends_where_the_domain_does():
    assert link_bandwidth(gpu("h100-sxm"), 8) == 450e9  # 900 both ways
    assert link_bandwidth(gpu("h100-sxm"), 16) == NETWORK
    assert link_bandwidth(gpu("gb200"), 72) == 900e9
    assert link_bandwidth(gpu("l4"), 16) == 32e9  # PCIe is slower than the network card it would feed


@given(st.floats(0, 1e12), st.integers(2, 64), st.floats(1e9, 1e12))
def test_more_bytes_and_more_gpus_take_longer_and_faster_links_do_not(nbytes, gpus, bandwidth):
    for seconds in (all_reduce_seconds, all_to_all_seconds):
        one = seconds(nbytes, gpus, bandwidth)
        assert one <= seconds(nbytes * 2, gpus, bandwidth) and one <= seconds(nbytes, gpus + 1, bandwidth)
        assert one >= seconds(nbytes, gpus, bandwidth * 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: all_reduce_seconds(-1, 2, 1), "nbytes must be a number of bytes, 0 or more; got -1"),
        (lambda: all_reduce_seconds(1, 0, 1), "gpus must be a whole number, 1 or more; got 0"),
        (lambda: all_to_all_seconds(1, 2, 0), "bandwidth must be bytes per second above 0; got 0"),
        (lambda: all_to_all_seconds(float("nan"), 2, 1), "nbytes must be a number of bytes, 0 or more; got nan"),
        (lambda: bubble(0, 1), "stages must be a whole number, 1 or more; got 0"),
        (lambda: bubble(2, 0), "microbatches must be a whole number, 1 or more; got 0"),
        (lambda: link_bandwidth(gpu("mi455x"), 2), "gpu must have a recorded link to work with others; mi455x"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
