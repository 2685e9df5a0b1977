"""Learning rates by hand, and the exact step at which they change."""

import pytest
import tensorflow as tf

from cdnet_tf.learn import schedules


def test_cosine():
    rate = schedules.cosine(240, 0.025, 1e-4)
    # A cosine is 1, 1/2, 0 and -1/2 at 0, 60, 90 and 120 degrees.
    assert rate(0) == pytest.approx(0.025)
    assert rate(80) == pytest.approx(1e-4 + 0.0249 * 0.75)
    assert rate(120) == pytest.approx(1e-4 + 0.0249 * 0.5)
    assert rate(160) == pytest.approx(1e-4 + 0.0249 * 0.25)
    assert rate(240) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "epoch, expected",
    [
        (0, 0.065),
        (149, 0.065),
        (150, 0.0065),
        (224, 0.0065),
        (225, 0.00065),
        (299, 0.00065),
        (300, 0.000065),
        (349, 0.000065),
    ],
)
@pytest.mark.parametrize("steps", [1, 7])
def test_drops_begin_with_the_milestone_epoch(epoch, expected, steps):
    rate = schedules.multi_step(0.065, (150, 225, 300))
    assert rate(epoch) == pytest.approx(expected)
    schedule = schedules.by_epoch(rate, 350, steps)
    first, last = epoch * steps, epoch * steps + steps - 1
    assert float(schedule(first)) == pytest.approx(expected)
    assert float(schedule(last)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "epochs, expected",
    [
        (350, [150, 225, 300]),
        (35, [15, 23, 30]),  # 15, 22.5, 30
        (240, [103, 154, 206]),  # 102.9, 154.3, 205.7
        (2, [1, 1, 1]),
        (1, []),
    ],
)
def test_milestones_at_the_same_shares(epochs, expected):
    moved = schedules.at_same_shares((150, 225, 300), 350, epochs)
    assert moved == expected
    schedules.check_milestones("milestones", moved, epochs)


@pytest.mark.parametrize(
    "milestones, epochs, never, remedy",
    [
        ((150, 225, 300), 240, "300", "80,160"),
        ((10, 20), 20, "20", "7,13"),  # the last epoch is 19
        ((25, 35), 20, "25,35", "7,13"),
        ((0, 5), 9, "0", "3,6"),
        ((1,), 1, "1", ""),
    ],
)
def test_milestones_that_never_come_are_refused(milestones, epochs, never, remedy):
    message = (
        f"lr_steps=.* epochs={epochs}: no drop can come at {never},.*lr_steps={remedy},"
    )
    with pytest.raises(ValueError, match=message):
        schedules.check_milestones("lr_steps", milestones, epochs)


def test_factor():
    assert schedules.multi_step(2.0, (1, 3), factor=0.5)(3) == pytest.approx(0.5)


def test_exponential():
    rate = schedules.exponential(0.1, 0.97)
    assert rate(0) == pytest.approx(0.1)
    assert rate(2) == pytest.approx(0.1 * 0.97 * 0.97)


@pytest.mark.parametrize(
    "epochs, expected", [(0, [6, 6, 6, 3]), (1, [6, 6, 6, 3]), (3, [2, 4, 6, 3])]
)
def test_linear_warm_up(epochs, expected):
    rate = schedules.warmed_up(schedules.multi_step(6.0, (3,), 0.5), epochs)
    assert [rate(epoch) for epoch in range(4)] == pytest.approx(expected)


def test_every_step_of_three_epochs():
    schedule = schedules.by_epoch(lambda epoch: 10.0 * (epoch + 1), 3, 2)
    rates = [float(schedule(step)) for step in range(8)]
    # After the last epoch the rate stays.
    assert rates == [10, 10, 20, 20, 30, 30, 30, 30]


def test_one_epoch():
    schedule = schedules.by_epoch(lambda epoch: 0.5, 1, 4)
    assert [float(schedule(step)) for step in (0, 3, 4)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_in_a_graph(dtype):
    schedule = schedules.by_epoch(lambda epoch: 10.0 * (epoch + 1), 3, 2)
    rate = tf.function(schedule)(tf.constant(3, dtype))
    assert rate.dtype == tf.float32
    assert float(rate) == 20


def test_config_round_trip():
    schedule = schedules.by_epoch(lambda epoch: 10.0 * (epoch + 1), 3, 2)
    keras = tf.keras.optimizers.schedules
    again = keras.deserialize(keras.serialize(schedule))
    assert isinstance(again, schedules.ByEpoch)
    assert [float(again(step)) for step in (1, 2, 5)] == [10, 20, 30]
