"""Callbacks: resuming, the guard against NaN, throughput."""

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.learn import callbacks


def _model():
    tf.keras.backend.experimental.enable_tf_random_generator()
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Dropout(0.5, input_shape=(2,)),
            tf.keras.layers.Dense(1),
        ]
    )
    model.compile(tf.keras.optimizers.legacy.SGD(0.1, 0.9), "mse")
    return model


def _fit(model, epochs, initial_epoch, *extra):
    x, y = np.ones((4, 2), "f"), np.ones((4, 1), "f")
    model.fit(
        x, y, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[*extra]
    )


def test_restored_run_ends_with_the_same_weights(tmp_path):
    whole = _model()
    start = whole.get_weights()
    _fit(whole, 4, 0)

    halves = [_model(), _model()]
    for model, epochs in zip(halves, (2, 4)):
        model.set_weights(start)
        checkpoint = callbacks.EpochCheckpoint(tmp_path / "checkpoint", model)
        checkpoint.restore()
        first = callbacks.last_epoch(tmp_path / "checkpoint")
        _fit(model, epochs, first, checkpoint)

    assert callbacks.last_epoch(tmp_path / "checkpoint") == 4
    for expected, found in zip(whole.get_weights(), halves[1].get_weights()):
        np.testing.assert_array_equal(found, expected)


def test_no_checkpoint_is_epoch_zero(tmp_path):
    assert callbacks.last_epoch(tmp_path / "nothing") == 0


def test_only_the_last_checkpoint_is_kept(tmp_path):
    model = _model()
    _fit(model, 3, 0, callbacks.EpochCheckpoint(tmp_path, model))
    assert len(list(tmp_path.glob("*.index"))) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_names_loss_step_epoch_and_remedy(value):
    guard = callbacks.StopOnNaN({"alpha_loss": "Lower --alpha_lr."})
    guard.on_epoch_begin(4)
    guard.on_train_batch_end(0, {"alpha_loss": 1.0})
    with pytest.raises(FloatingPointError, match=r"step 3 of epoch 5\. Lower --alpha"):
        guard.on_train_batch_end(2, {"alpha_loss": value})


def test_throughput_leaves_out_the_first_step(monkeypatch, capsys):
    clock = iter([10.0, 20.0, 20.0, 20.0, 22.0, 24.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    meter = callbacks.Throughput(images_per_step=8, launched=5.0)
    logs = {}
    meter.on_epoch_begin(0)  # at 10 s
    meter.on_train_batch_end(0, logs)  # at 20 s: the step that traces
    assert "First step ended 15.0 s after launch." in capsys.readouterr().out
    meter.on_train_batch_end(1, logs)  # at 22 s, counted from 20 s
    assert logs["images_per_s"] == pytest.approx(4.0)
    meter.on_train_batch_end(2, logs)  # at 24 s
    assert logs["images_per_s"] == pytest.approx(4.0)
