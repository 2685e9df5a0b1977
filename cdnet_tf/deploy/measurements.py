"""Decides which measurements may be shipped with an exported file.

A threshold holds for the embeddings of one file, of images that are not mirrored, and
was chosen on one data set. So each measurement names the file by its checksum, the data
set and the number of images. Only measurements of the very file, or of the network that
became the file unchanged, are shipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

# A threshold is a distance of vectors of length 1, although the file's are not.
EMBEDDING = "the file's output, L2-normalised"


def sha256(path: str | os.PathLike) -> str:
    """Returns the checksum by which measurements name their file.

    The checksum of a directory covers the names and contents of its files, in order.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def conditions(
    checksum: str,
    dataset: str,
    query_images: int,
    gallery_images: int,
    distractors: int | None = None,
    subset: str | None = None,
) -> dict[str, Any]:
    """Returns the conditions that a measurement has to name, ready for JSON.

    Args:
      checksum: of the file whose embeddings were measured.
      dataset: name of the data set.
      query_images, gallery_images: number of images, including distractors.
      distractors: number of gallery images of people that no query shows; None if they
        were not counted.
      subset: the part of the data set that was used, None for everything.
    """
    return {
        "sha256": checksum,
        "dataset": dataset,
        "query_images": query_images,
        "gallery_images": gallery_images,
        "distractors": distractors,
        "subset": subset,
        "flip": False,
        "embedding": EMBEDDING,
    }


def of_network(model: pathlib.Path) -> tuple[dict[str, Any], str]:
    """Returns what was measured on a network that is exported unchanged.

    Candidates are the evaluations that `cdnet_tf.evaluate` and the training write
    beside the network's file, and the record of shipped weights. The first one with the
    network's checksum and without mirrored images is taken.

    Args:
      model: the network's file.

    Returns:
      `scores`, `thresholds` and `measured` (see `conditions`), or an empty dict; and a
      phrase that says where they come from, or why there are none.
    """
    checksum = sha256(model)
    reasons = []
    for path in (
        model.parent / "evaluation" / "evaluation.json",
        model.parent / "evaluation.json",
        model.with_suffix(".json"),
    ):
        if not path.exists():
            continue
        record = json.loads(path.read_text("utf-8"))
        reason = _misfit(record, checksum)
        if not reason:
            return _shipped(record, checksum), f"from {path}"
        reasons.append(f"{path} {reason}")
    why = "; ".join(reasons) or f"no evaluation.json stands beside {model}"
    return {}, (
        f"none, because {why}. `python -m cdnet_tf.evaluate --model={model}`, without "
        "--flip, measures them."
    )


def _misfit(record: dict[str, Any], checksum: str) -> str:
    """Says why an evaluation does not describe a file; empty if it does."""
    measured = record.get("model", {}).get("sha256")
    if measured is None:
        return "does not say which file it measured"
    if measured != checksum:
        return "measured another file"
    if record.get("flip") is not False:
        return "added the mirrored images (--flip), which an exported file does not"
    if "thresholds" not in record:
        return "holds no thresholds"
    return ""


def _shipped(record: dict[str, Any], checksum: str) -> dict[str, Any]:
    provenance = record["provenance"]
    data = provenance["dataset"]
    query, gallery = data["counts"]["query"], data["counts"]["gallery"]
    held_out = provenance["flags"].get("holdout_identities")
    people = f"{query['identities']} people held out of training"
    measured = conditions(
        checksum,
        data["name"],
        query["images"],
        gallery["images"],
        subset=people if held_out else None,
    )
    return {
        "scores": record["scores"],
        "thresholds": record["thresholds"],
        "measured": measured,
    }
