"""Where work runs changes nothing but the time."""

import pytest

from matscout.engine import n_workers, parallel_map
from matscout.errors import ParameterError


def square(value):
    return value * value


def fail_on_three(value):
    if value == 3:
        raise ValueError("three")
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_their_order(workers):
    assert parallel_map(square, range(20), workers=workers, description="squares") == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="three"):
        parallel_map(fail_on_three, range(5), workers=workers, description="fails")


def test_the_number_of_workers_can_be_set(monkeypatch):
    monkeypatch.setenv("MATSCOUT_WORKERS", "3")
    assert n_workers() == 3
    monkeypatch.setenv("MATSCOUT_WORKERS", "many")
    with pytest.raises(ParameterError, match="MATSCOUT_WORKERS='many'"):
        n_workers()
