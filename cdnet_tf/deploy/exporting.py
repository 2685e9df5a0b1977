"""Makes one TFLite file: converts, checks and judges it, and only then names it."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cdnet_tf import atomic_files
from cdnet_tf.data import preprocess
from cdnet_tf.deploy import gate, npu, rewrite, tflite, tflite_file

# What is offered of `rewrite.STEPS`: `stem` brings a RESHAPE, which no check passes.
REWRITES = ("pool", "shortcut", "mean")


def usual_rewrite(variant: str, for_npu: bool = False) -> tuple[str, ...]:
    """Steps of a variant where nobody asks for others: those that make it faster.

    Float files gain nothing by them, and only an NPU gains by `mean`
    (docs/inference.md).

    Args:
      variant: one of `tflite.VARIANTS`.
      for_npu: the file is to be compiled for an NPU.
    """
    if for_npu and variant in npu.VARIANTS:
        return REWRITES
    return ("pool", "shortcut") if tflite_file.is_integer(variant) else ()


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a file.

    Attributes:
      variant: one of `tflite.VARIANTS`.
      layout: of the input, one of `tflite.LAYOUTS`.
      dynamic_batch: leave the batch size free, instead of 1.
      keep_float: layers of an integer variant to leave in float.
      marks: further parts of the name, which tell how the network was changed.
      rewrite: steps of `rewrite.rewrite`, some of `REWRITES`.
    """

    variant: str
    layout: str = "nhwc"
    dynamic_batch: bool = False
    keep_float: Sequence[str] = ()
    marks: Sequence[str] = ()
    rewrite: Sequence[str] = ()

    def file_name(self, network: str) -> str:
        """Returns a name that tells what is unusual about the file."""
        parts = [network, self.variant, *self.marks]
        parts += ["selective"] if self.keep_float else []
        usual = [set(usual_rewrite(self.variant, each)) for each in (False, True)]
        if len(parts) == 2 and set(self.rewrite) not in usual:
            parts += ["fast"] if self.rewrite else ["plain"]
        parts += ["nchw"] if self.layout == "nchw" else []
        parts += ["batch"] if self.dynamic_batch else []
        return "_".join(parts) + ".tflite"


def export(
    network: tf.keras.Model,
    form: Form,
    directory: pathlib.Path,
    *,
    images: np.ndarray,
    judge: gate.Gate,
    max_map_drop: float,
    keep_failed: bool = False,
    or_plain: bool = False,
    normalisation: preprocess.Normalisation = preprocess.IMAGENET,
) -> dict:
    """Converts and judges a network, and writes the file to a folder if it passes.

    If it fails, a file of that name from an earlier export stays.

    Args:
      network: to convert; see `tflite.convert`.
      form: of the file.
      directory: for the file.
      images: (n, h, w, 3) uint8, for calibration.
      judge: of the float network.
      max_map_drop: points of mAP that the file may lose.
      keep_failed: keep a file that fails, as NAME.failed.tflite.
      or_plain: where a rewritten file fails, make one that is not rewritten.
      normalisation: what the network expects, see `network_file`.

    Returns:
      The file's row of the report, ready for JSON. `failure` says why it fails, and
      `rewritten_failure` why a rewritten one failed before; None if it passes.
    """
    more: dict[str, Any] = {"images": images, "judge": judge}
    more |= {"max_map_drop": max_map_drop, "normalisation": normalisation}
    again = or_plain and bool(form.rewrite)
    row = _exported(network, form, directory, keep_failed and not again, **more)
    if not (again and row["failure"]):
        return row | {"rewritten_failure": None}
    plain = dataclasses.replace(form, rewrite=())
    found = _exported(network, plain, directory, keep_failed, **more)
    return found | {"rewritten_failure": row["failure"]}


def _exported(
    network: tf.keras.Model,
    form: Form,
    directory: pathlib.Path,
    keep_failed: bool,
    *,
    images: np.ndarray,
    judge: gate.Gate,
    max_map_drop: float,
    normalisation: preprocess.Normalisation,
) -> dict:
    """As `export`, one form alone."""
    name = form.file_name(network.name)
    seconds: dict[str, float] = {}
    content = _converted(network, form, images, normalisation, seconds)
    row: dict[str, Any] = {
        "file": name,
        "variant": form.variant,
        "layout": form.layout,
        "rewrite": list(form.rewrite),
        "seconds": seconds,
        "failure": None,
    }
    try:
        row |= _examined(content, form, judge, seconds)
        _check_drop(row["map_drop"], max_map_drop)
    except tflite_file.RefusedError as error:
        row["failure"] = str(error)
        if not keep_failed:
            return row
        row["file"] = f"{pathlib.Path(name).stem}.failed.tflite"
    with atomic_files.replacing(directory / row["file"]) as partial:
        partial.write_bytes(content)
    return row


def _converted(
    network: tf.keras.Model,
    form: Form,
    images: np.ndarray,
    normalisation: preprocess.Normalisation,
    seconds: dict[str, float],
) -> bytes:
    """Returns the file's content; notes in `seconds` what each step took."""
    if form.rewrite:
        network = rewrite.rewrite(network, form.rewrite)
    return tflite.convert(
        network,
        form.variant,
        layout=form.layout,
        dynamic_batch=form.dynamic_batch,
        images=images,
        keep_float=form.keep_float,
        seconds=seconds,
        normalisation=normalisation,
    )


def _examined(
    content: bytes, form: Form, judge: gate.Gate, seconds: dict[str, float]
) -> dict:
    """Returns the properties of a converted file, and its scores.

    Raises:
      tflite_file.RefusedError: the file does not keep what its variant promises.
    """
    start = time.perf_counter()
    tflite_file.check(content, form.variant, form.layout, form.keep_float)
    checked = time.perf_counter()
    row = {
        "batch": "dynamic" if form.dynamic_batch else "1",
        "whole_integer": tflite_file.is_integer(form.variant) and not form.keep_float,
        "kept_in_float": list(form.keep_float),
        "bytes": len(content),
        "macs": judge.macs(form.variant),
        "ops": tflite_file.op_counts(content),
        "latency_ms": 1e3 * tflite.latency(content),
        "runtime": f"TensorFlow Lite {tf.__version__}, one thread",
        "cpu": tflite.processor(),
        **_judged(content, judge),
        "float": judge.reference,
    }
    seconds.update(check=checked - start, gate=time.perf_counter() - checked)
    return row


def _judged(content: bytes, judge: gate.Gate) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, "judged.tflite")
        path.write_bytes(content)
        return judge.judge(path)


def _check_drop(map_drop: float, max_map_drop: float) -> None:
    if map_drop > max_map_drop:
        raise tflite_file.RefusedError(
            f"loses {map_drop:.2f} points of mAP, more than "
            f"max_map_drop={max_map_drop:g}; try more --calibration_images, "
            "--qat_epochs, or --debug_layers and --selective."
        )
