"""The bilevel search (Algorithm 1): weights on D_train, alpha on D_val, every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from tensorflow import Tensor

from cdnet_tf.learn import losses, supernet_training
from cdnet_tf.nn import genotype
from cdnet_tf.supernet import supernet


@dataclasses.dataclass(frozen=True)
class Exploration:
    """How a step's branches are chosen.

    Attributes:
      kind: `none`, the paper's rule: the k largest alpha. `gumbel`: the k largest
        log p + T * Gumbel noise, with T falling linearly from `temperature` to 0 over
        the run (k = 1 is GDAS). `uniform_warmup`: k branches drawn at random for
        `warmup_steps`, in which only the weights learn; then the paper's rule.
      total_steps: of the run.
      warmup_steps: see `uniform_warmup`.
      temperature: T of `gumbel` at the start.
      seed: of the draws, the same on every replica.
    """

    kind: str = "none"
    total_steps: int = 1
    warmup_steps: int = 0
    temperature: float = 1.0
    seed: int = 0

    KINDS = ("none", "gumbel", "uniform_warmup")

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(
                f"exploration={self.kind!r} is unknown; use one of {self.KINDS}."
            )

    def scores(self, log_p: Tensor, step: Tensor) -> Tensor:
        """Scores that rank the branches, (6, n), from log p, (6, n)."""
        if self.kind == "none":
            return log_p
        uniform = tf.random.stateless_uniform(
            log_p.shape, tf.stack([tf.cast(self.seed, step.dtype), step]), 1e-20, 1.0
        )
        if self.kind == "uniform_warmup":
            return tf.where(self.warming_up(step), uniform, log_p)
        left = tf.maximum(0.0, 1 - tf.cast(step, tf.float32) / self.total_steps)
        return log_p - self.temperature * left * tf.math.log(-tf.math.log(uniform))

    @property
    def first_alpha_step(self) -> int:
        """The first step in which alpha learns."""
        return self.warmup_steps if self.kind == "uniform_warmup" else 0

    def warming_up(self, step: Tensor) -> Tensor:
        return step < self.warmup_steps


def check_top_k(top_k: int, space: Sequence[genotype.Branch]) -> None:
    """Raises ValueError if that many branches of a space cannot run."""
    if not 1 <= top_k <= len(space):
        raise ValueError(
            f"top_k={top_k} is out of range; this space has {len(space)} branches, so "
            f"use 1 to {len(space)}."
        )


class BilevelSearch(supernet_training.SupernetTraining):
    """Top-k Sample Search as a Keras model: `compile`, then `fit`.

    Batches are ((w images, w labels), (alpha images, alpha labels)). Where alpha's
    images show people for whom the classifier has no class, only the triplet loss
    counts.

    Args:
      net: the supernet.
      top_k: branches that run in each block, 1 to n.
      exploration: how the branches are chosen.
      loss: triplet and softmax loss.
      alpha_l2: L2 penalty of alpha, added to its gradient.

    Attributes:
      gradient_norms: norm of alpha's gradient in each block, as a mean over the epoch.
        With k = 1 it is 0 in a block that feeds a convolution and BN, because these
        cancel the block's scale; weight decay alone then changes the selection. With
        k = 2 the two gradients of such a block are equal and opposite.

    Raises:
      ValueError: if top_k is not in 1..n.
    """

    def __init__(
        self,
        net: supernet.Supernet,
        top_k: int,
        exploration: Exploration | None = None,
        loss: losses.ReidLoss | None = None,
        alpha_l2: float = 1e-3,
    ) -> None:
        super().__init__(net, loss, "search")
        check_top_k(top_k, net.space)
        self.top_k = top_k
        self.exploration = exploration or Exploration()
        self.alpha_l2 = alpha_l2
        self.means["alpha_loss"] = tf.keras.metrics.Mean("alpha_loss")
        self.gradient_norms = [
            tf.keras.metrics.Mean(f"alpha_gradient_{i + 1}")
            for i in range(len(net.blocks))
        ]

    def compile(self, w_optimizer, alpha_optimizer) -> None:
        """Sets the optimizers of the weights and of alpha (legacy Keras optimizers).

        Makes their slots, too, so that a checkpoint can be restored before a step.
        """
        super().compile(optimizer=w_optimizer)
        self.alpha_optimizer = alpha_optimizer
        for optimizer, variables in (
            (w_optimizer, self.net.trainable_variables),
            (alpha_optimizer, [self.net.alpha]),
        ):
            supernet_training.create_slots(optimizer, variables)

    @property
    def metrics(self) -> list:
        return [*self.means.values(), *self.gradient_norms]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data) -> dict[str, Tensor]:
        """Takes one step of Algorithm 1: choose branches, update w, update alpha."""
        train_batch, val_batch = data
        chosen = self.choose()
        self.count(chosen)
        self.update_weights(train_batch, chosen)
        self._update_alpha(val_batch, chosen)
        return {name: mean.result() for name, mean in self.means.items()}

    def choose(self) -> Tensor:
        """Returns the branches of this step, (6, k) int32."""
        log_p = tf.nn.log_softmax(self.net.alpha)
        scores = self.exploration.scores(log_p, self._step())
        return tf.math.top_k(scores, self.top_k).indices

    def _step(self) -> Tensor:
        return tf.identity(self.alpha_optimizer.iterations)

    def _update_alpha(self, batch, chosen: Tensor) -> None:
        images, labels = batch

        def learn():
            return self._alpha_gradient(images, labels, chosen)

        if self.exploration.kind == "uniform_warmup":
            idle = tf.zeros([]), tf.zeros(self.net.alpha.shape)
            loss, gradient = tf.cond(
                self.exploration.warming_up(self._step()), lambda: idle, learn
            )
        else:
            loss, gradient = learn()
        # Not summed by the optimizer, because the sum's norm is logged here.
        replicas = tf.distribute.get_replica_context()
        gradient = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradient)
        self.alpha_optimizer.apply_gradients(
            [(gradient, self.net.alpha)], experimental_aggregate_gradients=False
        )
        self.means["alpha_loss"].update_state(loss)
        norms = tf.norm(gradient, axis=1)
        # A step that loss scaling will skip (float16) must not spoil the epoch's mean.
        finite = tf.cast(tf.math.is_finite(norms), tf.float32)
        norms = tf.math.multiply_no_nan(norms, finite)
        for metric, norm, weight in zip(
            self.gradient_norms, tf.unstack(norms), tf.unstack(finite)
        ):
            metric.update_state(norm, weight)

    def _alpha_gradient(self, images, labels, chosen):
        """Returns the loss on D_val, and this replica's part of its gradient (6, n)."""
        alpha = tf.identity(self.net.alpha)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(alpha)
            probabilities = tf.nn.softmax(alpha)
            outputs = self.net(images, chosen, True, probabilities)
            loss = tf.add_n(self.loss_function(labels, outputs))
            scaled = self.scaled(loss, self.alpha_optimizer)
        (gradient,) = self.unscaled(
            [tape.gradient(scaled, alpha)], self.alpha_optimizer
        )
        penalty = self.alpha_l2 * alpha / self.replicas()
        return loss, gradient + penalty
