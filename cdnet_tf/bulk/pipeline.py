"""The Beam pipeline: numbers of shards go in, a Parquet file for each comes out.

Only workers import TensorFlow, so that starting a job is quick.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import apache_beam as beam
import numpy as np
import pyarrow
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from pyarrow import parquet

from cdnet_tf.bulk import files
from cdnet_tf.bulk.images import Image
from cdnet_tf.bulk.plan import Plan
from cdnet_tf.gallery import parquet as gallery_parquet

if TYPE_CHECKING:
    from cdnet_tf.bulk.embedding import Embedded

_LOOK_S = 2.0  # between two looks at the output folder


class EmbedShard(beam.DoFn):
    """Writes the file of a shard, whole, under its final name.

    A runner may give a shard to two workers, or again to another after a failure. They
    write the same file.
    """

    def __init__(self, plan: Plan, model: str, threads: int | None):
        self._plan = plan
        self._model = model
        self._threads = threads

    def setup(self) -> None:
        """Opens the network; Beam calls this once in a worker's thread.

        Raises:
          ValueError: this worker has another network than the plan.
        """
        from cdnet_tf.bulk import embedding

        self._embedder = embedding.opened(self._model, self._threads)
        checksum = self._embedder.network.checksum
        if checksum != self._plan.network.checksum:
            raise ValueError(
                f"{self._model} on this worker has the SHA-256 {checksum}, and "
                f"{self._plan.network.checksum} where the job was started; copy the "
                "file there."
            )

    def process(self, shard: int) -> Iterator[int]:
        """Embeds a shard and yields its number."""
        images = self._plan.images(shard)
        found = self._embedder.embed([image.path for image in images])
        table = _table(self._plan, images, found)
        with files.replacing(self._plan.path(shard)) as file:
            parquet.write_table(table, file)
        yield shard


def run(
    plan: Plan,
    model: str,
    threads: int | None,
    options: PipelineOptions,
    progress: Callable[[int, int], None] = lambda done, images: None,
) -> None:
    """Embeds the shards that are missing, and waits until they are written.

    Args:
      plan: of all shards.
      model: of the network's file, which every worker opens.
      threads: batches that a worker process embeds at once; None for one a core.
      options: name the runner and say what it needs; DirectRunner by default.
      progress: called every two seconds with the shards and images that are written.

    Raises:
      OSError: the runner says that it has done all, and shards are missing.
      Exception: whatever the runner raises.
    """
    missing = plan.missing()
    if missing:
        pipeline = beam.Pipeline(_runner(options), options)
        # Beam shuffles what `Create` makes, so that all workers get some.
        numbers = pipeline | "Shards" >> beam.Create(missing)
        numbers | "Embed" >> beam.ParDo(EmbedShard(plan, model, threads))
        with _watching(plan, progress):
            pipeline.run().wait_until_finish()
    if left := plan.missing():
        raise OSError(
            f"The runner is done, but {len(left)} of {len(plan.sizes)} shards are not "
            f"in {plan.folder}; do all workers see that folder?"
        )


def _runner(options: PipelineOptions) -> fn_runner.FnApiRunner | str:
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    if name != "DirectRunner":
        return name
    # What DirectRunner ends with; but first it would try to download Prism.
    said = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=said)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(info))


@contextlib.contextmanager
def _watching(plan: Plan, progress: Callable[[int, int], None]) -> Iterator[None]:
    """Reports the shards that appear in the folder, whichever machine writes them."""
    ended = threading.Event()

    def tell() -> None:
        missing = plan.missing()
        images = sum(plan.sizes) - sum(plan.sizes[shard] for shard in missing)
        progress(len(plan.sizes) - len(missing), images)

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            with contextlib.suppress(OSError):  # The next look may do.
                tell()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            tell()


def _table(plan: Plan, images: list[Image], found: Embedded) -> pyarrow.Table:
    keys, paths, cameras, times, tracks = zip(*images)
    bad = np.array([error is not None for error in found.errors])
    lengths = np.where(bad, 0, found.embeddings.shape[1])
    embeddings = pyarrow.ListArray.from_arrays(
        np.append(0, np.cumsum(lengths)).astype(np.int32),
        found.embeddings[~bad].ravel(),
        mask=pyarrow.array(bad),
    )
    nothing = [None] * len(images)
    columns = {
        "key": keys,
        "embedding": embeddings,
        "camera": cameras,
        "time": times,
        "track": tracks,
        "picture_path": paths,
        "picture": nothing,
        "metadata": ["{}"] * len(images),
        "error": found.errors,
    }
    return pyarrow.table(columns, schema=gallery_parquet.bulk_schema(plan.network))
