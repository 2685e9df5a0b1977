r"""Shows how large gradients are along a network, relative to the weights they move.

This prints a JSON line for each convolution of stem, blocks and neck, from the input
on: the norm of its gradient over the norm of its weights, on one training batch, after
--steps steps of the recipe. If the ratio differs by orders of magnitude between layers,
no single learning rate suits all of them.

  python tools/gradient_scales.py --flagfile=flags/photographs.cfg --data_dir=DIR
  python tools/gradient_scales.py --flagfile=flags/photographs.cfg --data_dir=DIR \
      --nozero_init_residual --genotype=cdnet
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import cdnet_tf  # isort: skip  # noqa: F401  (quiets TensorFlow)
import tensorflow as tf
from absl import app, flags

from cdnet_tf import recipes, shared_flags, train, training_run
from cdnet_tf.data import pipeline
from cdnet_tf.learn import devices, training


def define_flags() -> None:
    # At import, the name would clash with that of other programs in one process.
    flags.DEFINE_integer("steps", 0, "Training steps before the measurement.", 0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    with shared_flags.refusing():
        settings = train.read_settings()
        settings.check()
    devices.set_threads()
    devices.begin(settings.seed, "float32")
    data = shared_flags.read_data()
    batches = pipeline.train_batches(data.train, **settings.batch_options())
    model = training_run.build_model(batches, settings)
    step = tf.function(model.train_step, autograph=False)
    images = iter(batches.dataset)
    with devices.unrewritten():
        for _ in range(flags.FLAGS.steps):
            step(next(images))
    for name, ratio in ratios(model, *next(images)):
        print(json.dumps({"layer": name, "gradient_over_weights": ratio}))


def ratios(
    model: training.ReidTraining, images: tf.Tensor, labels: tf.Tensor
) -> Iterator[tuple[str, float]]:
    """Yields the names of convolutions and |gradient| / |weights|, from the input on.

    Args:
      model: the network and its loss.
      images: normalised RGB, (b, h, w, 3).
      labels: (b,) int32.
    """
    kernels = {
        layer.name: layer.kernel
        for layer in model.network.layers
        if isinstance(layer, tf.keras.layers.Conv2D) and "/gate/" not in layer.name
    }
    with tf.GradientTape() as tape:
        outputs = model.network(images, training=True)
        loss = tf.add_n(model.loss_function(labels, outputs))
    gradients = tape.gradient(loss, list(kernels.values()))
    for (name, kernel), gradient in zip(kernels.items(), gradients):
        yield name, round(float(tf.norm(gradient) / tf.norm(kernel)), 4)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=recipes.parse)
