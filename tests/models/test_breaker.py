"""A circuit breaker by a clock of the test's own."""

import pytest

from ringfence.models.breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(failures=2, pause=10, clock=clock)


def fail(breaker):
    breaker.end(breaker.begin(), well=False)


def test_it_opens_after_failures_in_a_row(breaker):
    fail(breaker)
    breaker.end(breaker.begin(), well=True)
    fail(breaker)
    assert (breaker.state, breaker.wait) == ("closed", 0)
    fail(breaker)
    assert (breaker.state, breaker.wait, breaker.begin()) == ("open", 10, None)


def test_one_at_a_time_finds_out_whether_it_is_back(breaker, clock):
    fail(breaker)
    fail(breaker)
    clock.now = 10
    assert (breaker.state, breaker.wait) == ("half_open", 0)
    probe = breaker.begin()
    assert breaker.begin() is None
    breaker.end(probe, well=False)
    assert (breaker.state, breaker.wait) == ("open", 10)
    clock.now = 20
    breaker.end(breaker.begin(), well=True)
    assert breaker.state == "closed"


def test_one_that_leaves_lets_the_next_one_try(breaker, clock):
    late = breaker.begin()
    fail(breaker)
    fail(breaker)
    clock.now = 10
    probe = breaker.begin()
    breaker.end(late, well=None)  # which tells nothing of the probe
    assert breaker.begin() is None
    breaker.end(probe, well=None)
    assert (breaker.state, breaker.begin() is None) == ("half_open", False)
