"""Calls at once: their order, their number and their errors."""

import threading
import time

import pytest

from cdnet_tf.deploy import parallel


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items(threads):
    def slow(i):
        time.sleep(0.01 * (3 - i % 4))
        return -i

    found = list(parallel.in_order(slow, iter(range(9)), threads))
    assert found == [0, -1, -2, -3, -4, -5, -6, -7, -8]


def test_calls_overlap():
    # Each call waits for the other one.
    barrier = threading.Barrier(2, timeout=10)
    assert sorted(parallel.in_order(lambda _: barrier.wait(), "ab", 2)) == [0, 1]


def test_few_items_are_drawn_ahead():
    drawn = []

    def items():
        for i in range(20):
            drawn.append(i)
            yield i

    next(parallel.in_order(abs, items(), 2))
    assert len(drawn) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_arrive_as_they_are(threads):
    def items():
        yield 1
        raise ValueError("a.jpg cannot be read")

    with pytest.raises(ValueError, match="a.jpg cannot be read"):
        list(parallel.in_order(abs, items(), threads))
    with pytest.raises(ZeroDivisionError):
        list(parallel.in_order(lambda x: 1 / x, [1, 0, 1, 1, 1], threads))


def test_there_is_a_thread_at_least():
    assert parallel.threads() >= 1
