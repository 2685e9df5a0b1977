"""Describes a finished bulk embedding in one sentence."""

from __future__ import annotations

from pyarrow import parquet

from cdnet_tf.bulk import files
from cdnet_tf.bulk.plan import Plan
from cdnet_tf.data import datasets

_NAMED = 3


def of(plan: Plan) -> str:
    """Counts images and errors of all shards, and names the first errors.

    Raises:
      OSError: a shard cannot be read.
    """
    errors = [
        error for shard in range(len(plan.sizes)) for error in _errors(plan, shard)
    ]
    shards = f"{len(plan.sizes)} shard{'s' if len(plan.sizes) > 1 else ''}"
    text = f"{plan.folder}: {sum(plan.sizes):,} images in {shards}"
    if not errors:
        return f"{text}, all embedded by {plan.network.name}."
    named = datasets.named(errors, _NAMED)
    return f"{text}, {len(errors):,} of them without an embedding: {named}."


def _errors(plan: Plan, shard: int) -> list[str]:
    with files.open_file(plan.path(shard)) as file:
        errors = parquet.ParquetFile(file).read(["error"])["error"]
        return errors.drop_null().to_pylist()
