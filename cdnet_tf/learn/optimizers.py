"""SGD with coupled L2 that leaves unused rows alone, and Adam with a late start."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="cdnet_tf")
class CoupledSGD(tf.keras.optimizers.legacy.SGD):
    """SGD with momentum whose L2 penalty joins the gradient before the momentum.

    Keras' `weight_decay` acts on the weights outside of the momentum. The legacy class
    is used because its sparse update touches the momentum of the given rows only. The
    newer class decays the momentum of all rows, so branches that no step chose would
    move.

    Args:
      learning_rate: a number or a schedule.
      momentum: 0 to 1.
      l2: coefficient of the penalty l2 / 2 * |w|^2, on every weight; with a sparse
        gradient, on its rows.
    """

    def __init__(
        self, learning_rate=0.01, momentum=0.9, l2=0.0, name="CoupledSGD", **options
    ) -> None:
        super().__init__(learning_rate, momentum, name=name, **options)
        self.l2 = l2

    def _resource_apply_dense(self, grad, var, apply_state=None):
        return super()._resource_apply_dense(grad + self.l2 * var, var, apply_state)

    def _resource_apply_sparse_duplicate_indices(self, grad, var, indices, **options):
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            # The branches of a step are distinct, so no row occurs twice.
            return self._resource_apply_sparse(grad, var, indices, **options)
        return super()._resource_apply_sparse_duplicate_indices(
            grad, var, indices, **options
        )

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        grad += self.l2 * tf.gather(var, indices)
        return super()._resource_apply_sparse(grad, var, indices, apply_state)

    def get_config(self) -> dict:
        return {**super().get_config(), "l2": self.l2}


@tf.keras.utils.register_keras_serializable(package="cdnet_tf")
class LateAdam(tf.keras.optimizers.legacy.Adam):
    """Adam whose moments begin to fill at step `start`.

    Before `start` all gradients must be zero, as alpha's are during a warm-up. Plain
    Adam corrects for empty moments in its first steps only. By step `start` that
    correction has worn off, and the next steps would be a dozen times too long.

    Args:
      learning_rate, beta_1, beta_2: as for Adam; a schedule counts from step 0.
      start: the first step with a gradient.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        start=0,
        name="LateAdam",
        **options,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, name=name, **options)
        self.start = start

    def _prepare_local(self, var_device, var_dtype, apply_state) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        state = apply_state[(var_device, var_dtype)]
        step = tf.cast(tf.maximum(self.iterations + 1 - self.start, 1), var_dtype)
        power_1, power_2 = state["beta_1_t"] ** step, state["beta_2_t"] ** step
        state.update(
            lr=state["lr_t"] * tf.sqrt(1 - power_2) / (1 - power_1),
            beta_1_power=power_1,
            beta_2_power=power_2,
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "start": self.start}


def for_policy(
    optimizer: tf.keras.optimizers.legacy.Optimizer,
) -> tf.keras.optimizers.legacy.Optimizer:
    """Adds loss scaling where Keras' global policy computes in float16."""
    if tf.keras.mixed_precision.global_policy().compute_dtype != "float16":
        return optimizer
    return tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
