"""Necks: from feature maps to the retrieval embedding and the training heads.

A neck returns the embedding for retrieval and, if the number of identities is given,
one or more heads: pairs of a feature for the triplet loss and logits for the softmax
loss. Their losses are summed (Eq. 10). Heads are dropped at inference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import Tensor
from tensorflow.keras import layers

from cdnet_tf.nn import blocks

BRIDGE = 512  # width of the Dense layer between the two embedding spaces


class Neck(NamedTuple):
    """Tensors that a neck adds to the graph.

    Attributes:
      embedding: retrieval feature, (b, d), not normalised.
      features: one (b, d_i) tensor per triplet loss; none without `num_classes`.
      logits: one (b, num_classes) tensor per softmax loss; none without
        `num_classes`.
    """

    embedding: Tensor
    features: list[Tensor]
    logits: list[Tensor]


def _dense(units: int, name: str, **options: Any) -> layers.Layer:
    init = tf.keras.initializers.RandomNormal(stddev=1e-3)
    return layers.Dense(units, kernel_initializer=init, name=name, **options)


def _classifier(x: Tensor, num_classes: int, name: str) -> Tensor:
    # A softmax over many classes needs float32 even under mixed precision.
    return _dense(num_classes, f"{name}/classifier", dtype="float32")(x)


def _bridge(feature: Tensor, num_classes: int, name: str) -> Tensor:
    """Leads from triplet space to softmax space: Dense, BN, ReLU, classifier."""
    x = _dense(BRIDGE, f"{name}/fc")(feature)
    x = blocks.relu(blocks.batch_norm(x, f"{name}/bn"), f"{name}/relu")
    return _classifier(x, num_classes, name)


def _balanced(
    pooled: Tensor, num_classes: int | None, dropout: float, name: str
) -> Neck:
    if not num_classes:
        return Neck(pooled, [], [])
    feature = layers.Dropout(dropout, name=f"{name}/dropout")(pooled)
    return Neck(pooled, [feature], [_bridge(feature, num_classes, name)])


def bl_neck(
    fmap3: Tensor, num_classes: int | None, dropout: float = 0.2, name: str = "neck"
) -> Neck:
    """BLNeck (Fig. 5, upper half): global feature, bridge, classifier.

    Args:
      fmap3: output of stage 3, (b, h, w, c).
      num_classes: identities in training; None builds the embedding alone.
      dropout: rate before the triplet feature, 0 to 1.
      name: prefix of the layers' names.
    """
    pooled = layers.GlobalAveragePooling2D(name=f"{name}/global/pool")(fmap3)
    return _balanced(pooled, num_classes, dropout, f"{name}/global")


def f_neck(
    fmap2: Tensor,
    parts: int,
    channels: int,
    num_classes: int | None,
    dropout: float = 0.2,
    name: str = "neck",
) -> Neck:
    """FNeck (Fig. 5, lower half): `parts` horizontal stripes of fmap2, top to bottom.

    Where p parts do not divide the height h, as 3 parts of 16 rows in Table 5,
    neighbours share a row: stripe i spans rows floor(i h / p) to ceil((i + 1) h / p).

    Args:
      fmap2: output of DownSample 2, (b, h, w, c).
      parts: stripes, 1 to h.
      channels: width of each stripe's feature.
      num_classes: identities in training; None builds the embedding alone.
      dropout: rate before the triplet feature, 0 to 1.
      name: prefix of the layers' names.

    Raises:
      ValueError: if there are more stripes than rows.
    """
    height = fmap2.shape[1]
    if not 1 <= parts <= height:
        raise ValueError(
            f"parts={parts} is not in 1..{height}, the height of fmap2; choose fewer "
            "parts or a taller input."
        )
    x = blocks.conv1x1(fmap2, channels, f"{name}/squeeze")
    pooled = []
    for i in range(parts):
        top, bottom = i * height // parts, height - -(-(i + 1) * height // parts)
        # Cropped instead of sliced, because quantisation-aware training refuses slices.
        crop = layers.Cropping2D(((top, bottom), (0, 0)), name=f"{name}/crop{i}")(x)
        pooled.append(layers.GlobalAveragePooling2D(name=f"{name}/local/pool{i}")(crop))
    local = pooled[0]
    if parts > 1:
        local = layers.Concatenate(name=f"{name}/local/concat")(pooled)
    return _balanced(local, num_classes, dropout, f"{name}/local")


def fbl_neck(
    fmap2: Tensor,
    fmap3: Tensor,
    num_classes: int | None,
    parts: int = 2,
    channels: int = 128,
    dropout: float = 0.2,
    name: str = "neck",
) -> Neck:
    """FBLNeck (section 3.3): BLNeck and FNeck, with embedding [global | local].

    The arguments are those of both; without `parts` it is the BLNeck alone.
    """
    glob = bl_neck(fmap3, num_classes, dropout, name)
    if parts == 0:
        return glob
    local = f_neck(fmap2, parts, channels, num_classes, dropout, name)
    embedding = layers.Concatenate(name=f"{name}/embedding")(
        [glob.embedding, local.embedding]
    )
    return Neck(embedding, glob.features + local.features, glob.logits + local.logits)


def bn_neck(fmap3: Tensor, num_classes: int | None, name: str = "neck") -> Neck:
    """BNNeck (Table 6's baseline): triplet loss before BN, softmax and retrieval after.

    This is the published neck ([22] of the paper), except that BN keeps its shift and
    the classifier its bias. The authors' code reverses the two losses.
    """
    pooled = layers.GlobalAveragePooling2D(name=f"{name}/global/pool")(fmap3)
    embedding = blocks.batch_norm(pooled, f"{name}/bn")
    if not num_classes:
        return Neck(embedding, [], [])
    return Neck(embedding, [pooled], [_classifier(embedding, num_classes, name)])


def fc_neck(fmap3: Tensor, num_classes: int | None, name: str = "neck") -> Neck:
    """OSNet's head: Dense 512, BN, ReLU, then both losses and retrieval."""
    pooled = layers.GlobalAveragePooling2D(name=f"{name}/global/pool")(fmap3)
    x = _dense(BRIDGE, f"{name}/fc")(pooled)
    embedding = blocks.relu(blocks.batch_norm(x, f"{name}/bn"), f"{name}/relu")
    if not num_classes:
        return Neck(embedding, [], [])
    return Neck(embedding, [embedding], [_classifier(embedding, num_classes, name)])
