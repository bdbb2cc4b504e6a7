"""The formulas of waiting, against tables, limits, and each other."""

import math

import pytest

from kvlib.queueing import chance_to_wait, erlang_c, many_servers_wait, servers_needed, single_server_wait


# Erlang C with as many servers as erlangs offered: 8 erlangs on 10 servers wait with probability 0.409 in every table.
@pytest.mark.parametrize(("servers", "load", "expected"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 8.0, 0.409180)])
def test_erlang_c_is_that_of_the_tables(servers, load, expected):
    assert erlang_c(servers, load) == pytest.approx(expected, abs=1e-6)


def test_erlang_c_is_its_defining_sum():
    servers, load = 7, 5.5
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    assert erlang_c(servers, load) == pytest.approx(
        last / (last + sum(load**k / math.factorial(k) for k in range(servers)))
    )


def test_one_server_of_many_is_pollaczek_khinchine():
    assert many_servers_wait(0.8, 1.0, 1) == pytest.approx(single_server_wait(0.8, 1.0, variance=1.0)) == 4.0


def test_constant_work_waits_half_as_long_as_exponential_work():
    assert single_server_wait(0.8, 1.0) == pytest.approx(2.0)


def test_full_servers_never_catch_up():
    assert single_server_wait(1.0, 1.0) == many_servers_wait(3.0, 1.0, 3) == math.inf
    assert erlang_c(3, 3.5) == chance_to_wait(4.0, 1.0, 3, 100) == 1.0


@pytest.mark.parametrize("load", [0.3, 8, 1000, 99_999.5])
def test_servers_needed_is_the_fewest(load):
    servers = servers_needed(load, 1.0, 0.5, 0.95)
    assert chance_to_wait(load, 1.0, servers, 0.5) <= 0.05
    assert servers - 1 <= load or chance_to_wait(load, 1.0, servers - 1, 0.5) > 0.05


def test_a_pool_of_a_thousand_needs_less_reserve_than_a_thousand_alone():
    assert servers_needed(0.01, 1.0, 0.0) * 1000 == 1000
    assert servers_needed(10.0, 1.0, 0.0) < 20


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: single_server_wait(0, 1), "rate"),
        (lambda: single_server_wait(math.nan, 1), "rate"),
        (lambda: single_server_wait(1, -1), "service_seconds"),
        (lambda: single_server_wait(0.5, 1, -1), "variance"),
        (lambda: erlang_c(0, 1), "servers"),
        (lambda: erlang_c(10**8, 1), "servers"),
        (lambda: erlang_c(2, math.inf), "load"),
        (lambda: chance_to_wait(1, 1, 2, -1), "seconds"),
        (lambda: servers_needed(1, 1, 1, 1.0), "share"),
        (lambda: servers_needed(1e9, 1, 1), "servers"),
    ],
)
def test_what_makes_no_sense_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
