"""Which batches fit how many replicas."""

import pytest

from cdnet_tf.learn import devices


@pytest.mark.parametrize(
    "batch_size, images_per_id, replicas",
    [(8, 4, 1), (64, 4, 8), (16, 4, 2), (24, 4, 2), (12, 4, 1), (4, 1, 2)],
)
def test_two_identities_on_every_replica_are_enough(
    batch_size, images_per_id, replicas
):
    devices.check_batch(batch_size, images_per_id, replicas)


@pytest.mark.parametrize(
    "batch_size, images_per_id, replicas, remedy",
    [
        # One identity on a replica has no negative there.
        (4, 4, 1, "use 8 or 12"),
        (8, 4, 2, "use 16 or 24"),
        (64, 4, 16, "use 128 or 192"),
        # Not whole identities, or not the same number of them.
        (10, 4, 1, "use 8 or 12"),
        (20, 4, 2, "use 16 or 24"),
        (1, 1, 1, "use 2 or 3"),
    ],
)
def test_other_batches_are_refused_with_two_that_fit(
    batch_size, images_per_id, replicas, remedy
):
    message = f"batch_size={batch_size} .*each of {replicas} replica.*{remedy}"
    with pytest.raises(ValueError, match=message):
        devices.check_batch(batch_size, images_per_id, replicas)


def test_threads_count_the_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: {1}, raising=False)
    assert devices._cores() == 1
    monkeypatch.delattr(devices.os, "sched_getaffinity")
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 3)
    assert devices._cores() == 3
