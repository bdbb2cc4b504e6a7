"""What queueing theory says about waiting, exactly: one server (Pollaczek-Khinchine), many servers (Erlang C).

Arrivals are Poisson; one server works on one request at a time, first come, first served. An engine that batches is
more than that, but with a batch of one it is exactly that: so these formulas check the simulation.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from kvlib.units import whole

_MOST_SERVERS = 10**7


def single_server_wait(rate: float, service_seconds: float, variance: float = 0.0) -> float:
    """Mean seconds in the queue before one server: rate x (s^2 + variance) / (2 (1 - load)), load = rate x s.

    With variance 0 it is M/D/1, with s^2 it is M/M/1, in general M/G/1. Infinite at a load of 1 or more.

    Args:
        rate: requests per second.
        service_seconds: mean seconds of work of a request.
        variance: variance of these seconds, in s^2.

    Raises:
        ValueError: if rate or service_seconds is not above 0, or variance is negative.

    Source: the Pollaczek-Khinchine formula (Kleinrock 1975, Queueing Systems 1, section 5.6).
    """
    load = offered_load(rate, service_seconds)
    if not 0 <= variance < math.inf:
        raise ValueError(f"variance must be 0 or more and finite; got {variance!r}")
    if load >= 1:
        return math.inf
    return rate * (service_seconds**2 + variance) / (2 * (1 - load))


def erlang_c(servers: int, load: float) -> float:
    """The chance that a request must wait for one of `servers` servers, if exponential work keeps `load` of them busy.

    1 if the load reaches the servers. Computed by Erlang B's recursion, which neither overflows nor cancels.

    Raises:
        ValueError: if servers is not a whole number from 1 to ten million, or load not a finite number above 0.

    Source: Erlang 1917; recursion in Cooper 1981, Introduction to Queueing Theory, section 3.3.
    """
    count: int = whole("servers", servers, 1)
    if count > _MOST_SERVERS:
        raise ValueError(f"servers must be at most {_MOST_SERVERS:,}; got {count:,}")
    if not 0 < load < math.inf:
        raise ValueError(f"load must be the mean number of busy servers, above 0 and finite; got {load!r}")
    if load >= count:
        return 1.0
    blocked: float = 1.0  # Erlang B: the chance that all servers are busy if nobody may wait
    for servers_so_far in range(1, count + 1):
        blocked = load * blocked / (servers_so_far + load * blocked)
    return blocked / (1 - load / count * (1 - blocked))


def many_servers_wait(rate: float, service_seconds: float, servers: int) -> float:
    """Mean seconds in the queue of M/M/c: Erlang C x s / (servers - load); infinite if the load reaches the servers.

    Raises:
        ValueError: if an argument is not above 0.
    """
    load = offered_load(rate, service_seconds)
    late = erlang_c(servers, load)
    return math.inf if load >= servers else late * service_seconds / (servers - load)


def chance_to_wait(rate: float, service_seconds: float, servers: int, seconds: float) -> float:
    """The chance that a request of M/M/c waits longer than `seconds`: Erlang C x exp(-(servers - load) seconds / s)."""
    load = offered_load(rate, service_seconds)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds must be 0 or more and finite; got {seconds!r}")
    late = erlang_c(servers, load)
    return 1.0 if load >= servers else late * math.exp(-(servers - load) * seconds / service_seconds)


def servers_needed(rate: float, service_seconds: float, seconds: float, share: float = 0.95) -> int:
    """The fewest servers of M/M/c with which this `share` of the requests waits at most `seconds`.

    It grows like load + constant x sqrt(load): the reserve that a pool needs grows slower than the pool. That is the
    whole arithmetic of sharing.

    Raises:
        ValueError: if rate, service_seconds are not above 0, seconds is negative, or share is not inside (0, 1).

    Source: Halfin and Whitt 1981, Heavy-traffic limits for queues with many exponential servers (square-root staffing).
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be inside (0, 1), such as 0.95; got {share!r}")
    few = math.floor(offered_load(rate, service_seconds))  # too few: their load is 1 or more
    more = 1
    while chance_to_wait(rate, service_seconds, few + more, seconds) > 1 - share:
        more *= 2
    first = bisect_left(
        range(more + 1), share - 1, lo=1, key=lambda extra: -chance_to_wait(rate, service_seconds, few + extra, seconds)
    )
    return few + first


def offered_load(rate: float, service_seconds: float) -> float:
    """Work that arrives per second, in seconds: the mean number of busy servers."""
    for name, value in (("rate", rate), ("service_seconds", service_seconds)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite; got {value!r}")
    return rate * service_seconds
