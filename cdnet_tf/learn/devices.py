"""The devices of a training, and whether its batch fits them."""

from __future__ import annotations


def check_batch(batch_size: int, images_per_id: int, replicas: int) -> None:
    """Raises ValueError unless every replica gets two or more whole identities.

    Triplets are mined on each replica alone. With one identity there, no image has a
    negative, the triplet loss is its constant margin, and its gradient is zero.

    Args:
      batch_size: images of all replicas together, P x K.
      images_per_id: K; 1 for a data set of classes.
      replicas: of all machines together.
    """
    unit = images_per_id * replicas
    if batch_size % unit or batch_size < 2 * unit:
        lower = max(batch_size // unit, 2) * unit
        raise ValueError(
            f"batch_size={batch_size} does not give each of {replicas} replica(s) the "
            f"same number of whole identities, two or more, with {images_per_id} "
            f"image(s) of each; use {lower} or {lower + unit}."
        )
