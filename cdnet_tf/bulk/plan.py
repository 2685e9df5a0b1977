"""The plan of a bulk embedding: all of its images in shards, and which are done.

The plan stands in the output folder as `plan.parquet`, with a row group for each shard.
It is written once. A job that is started again does the shards whose files are missing,
and embeds the images of the plan, whatever has happened to the input since. A worker
reads its images from the plan, so that only the shard's number travels through the
pipeline.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow
from apache_beam.io.filesystems import FileSystems
from pyarrow import parquet

from cdnet_tf.bulk import files
from cdnet_tf.bulk.images import Image
from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import rows

_NAME = "plan.parquet"
_SAID = b"cdnet_tf.plan"
_SCHEMA = pyarrow.schema(
    [
        ("key", pyarrow.string()),
        ("path", pyarrow.string()),
        ("camera", pyarrow.string()),
        ("time", pyarrow.timestamp("us", "UTC")),
        ("track", pyarrow.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The shards of a bulk embedding. A worker gets a copy.

    Attributes:
      folder: of the output.
      network: which embeds.
      sizes: images of each shard.
    """

    folder: str
    network: Network
    sizes: tuple[int, ...]

    def path(self, shard: int) -> str:
        """Returns the path of a shard's file, with the number of all shards."""
        name = f"part-{shard:05}-of-{len(self.sizes):05}.parquet"
        return FileSystems.join(self.folder, name)

    def missing(self) -> list[int]:
        """Lists the shards that are not written yet."""
        written = files.below(self.folder, f"part-*-of-{len(self.sizes):05}.parquet")
        numbers = (re.search(r"part-(\d+)-of-\d+\.parquet$", f.path) for f in written)
        done = {int(number[1]) for number in numbers if number}
        return [shard for shard in range(len(self.sizes)) if shard not in done]

    def images(self, shard: int) -> list[Image]:
        """Reads the images of a shard."""
        with files.open_file(_place(self.folder)) as file:
            table = parquet.ParquetFile(file).read_row_group(shard)
        columns = {name: table[name].to_pylist() for name in ("key", "path", "camera")}
        times, tracks = rows.moments(table["time"]), table["track"].to_pylist()
        return [Image(*each) for each in zip(*columns.values(), times, tracks)]


def open_plan(
    folder: str,
    settings: Mapping[str, Any],
    network: Network,
    shard_images: int,
    list_images: Callable[[], Sequence[Image]],
) -> Plan:
    """Reads the plan of an output folder, or writes one where there is none.

    Args:
      folder: of the output; made if it is missing.
      settings: name -> value, ready for JSON, of all that decides what is listed. A
        folder that was begun with others is refused.
      network: which embeds.
      shard_images: images of a shard; the last may have fewer.
      list_images: called for a new plan.

    Raises:
      ValueError: the folder was begun with another network or other settings, or holds
        shards without a plan.
      OSError: the folder cannot be read or written.
    """
    folder = files.absolute(folder)
    said = {**settings, "shard_images": shard_images, "network": network.checksum}
    if not FileSystems.exists(_place(folder)):
        if files.below(folder, "part-*.parquet"):
            raise ValueError(
                f"{folder} holds shards and no {_NAME}; name an empty folder."
            )
        _write(folder, said, list_images(), shard_images)
    with files.open_file(_place(folder)) as file:
        found = parquet.ParquetFile(file)
        _check(folder, json.loads((found.schema_arrow.metadata or {})[_SAID]), said)
        groups = range(found.metadata.num_row_groups)
        sizes = tuple(found.metadata.row_group(i).num_rows for i in groups)
    files.remove_abandoned(folder)
    return Plan(folder, network, sizes)


def _place(folder: str) -> str:
    return FileSystems.join(folder, _NAME)


def _write(
    folder: str, said: dict[str, Any], images: Sequence[Image], shard_images: int
) -> None:
    columns = [pyarrow.array(each, field.type) for each, field in _columns(images)]
    schema = _SCHEMA.with_metadata({_SAID: json.dumps(said).encode()})
    table = pyarrow.table(columns, schema=schema)
    with files.replacing(_place(folder)) as file:
        parquet.write_table(table, file, row_group_size=shard_images)


def _columns(images: Sequence[Image]):
    return zip(zip(*images), _SCHEMA)


def _check(folder: str, found: dict[str, Any], said: dict[str, Any]) -> None:
    # JSON knows lists and no tuples.
    wanted = json.loads(json.dumps(said))
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        lines = (f"{n}={found.get(n)!r} and not {wanted[n]!r}" for n in different)
        raise ValueError(
            f"{folder} was begun with {', '.join(lines)}. Go on with the same values, "
            "or name another folder."
        )
