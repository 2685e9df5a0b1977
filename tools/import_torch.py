"""Turns a checkpoint of the authors' PyTorch code into a Keras model.

The model maps normalised RGB images, 256x128 unless --height and --width say otherwise,
to embeddings. PyTorch is needed to read the file; its CPU build is enough.

python tools/import_torch.py --checkpoint=cdnet.pth --network=cdnet --output=cdnet.keras
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags

from cdnet_tf import next_steps, shared_flags
from cdnet_tf.deploy import network_file, torch_weights
from cdnet_tf.nn import counting

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The authors' .pth file.")
_NETWORK = flags.DEFINE_enum(
    "network", None, torch_weights.NETWORKS, "The network in the checkpoint."
)
_OUTPUT = flags.DEFINE_string("output", None, "The .keras file to write.")
_HEADS = flags.DEFINE_boolean(
    "heads",
    False,
    "Keep the training heads; the model then returns a dict of embedding, features and "
    "logits.",
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; flags begin with --.")
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix != ".keras":
        raise app.UsageError(f"--output={output} must end in .keras.")
    size = (shared_flags.HEIGHT.value, shared_flags.WIDTH.value, 3)
    try:
        state = read_state(pathlib.Path(_CHECKPOINT.value))
        model = torch_weights.restore(state, _NETWORK.value, _HEADS.value, size)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"{_CHECKPOINT.value} was not imported: {error}")
    output.parent.mkdir(parents=True, exist_ok=True)
    network_file.save(model, output, torch_weights.normalisation(state))
    print(f"{output}: {_NETWORK.value}, {counting.parameters(model):,} parameters")
    if not _HEADS.value:
        print(next_steps.after_export(output))


def read_state(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict without running any code that the file may hold.

    Args:
      path: written by `torch.save`, in the zip format or the format before PyTorch 1.6;
        it holds a state dict, or a dict with a state dict in it.

    Raises:
      ImportError: PyTorch is not installed.
      OSError: the file cannot be read.
      ValueError: the file holds no state dict, or more than tensors and plain values.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading it takes PyTorch; install the extra `torch`, see "
            "docs/dependencies.md."
        ) from error
    path.open("rb").close()
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can raise errors of many classes.
        raise ValueError(
            f"PyTorch does not read it as tensors alone ({_first_line(error)}). Other "
            "objects could run code: save model.state_dict(), not the model."
        ) from error
    state = _find_state(checkpoint, torch.is_tensor)
    return {name: tensor.detach().float().numpy() for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


def _find_state(checkpoint: Any, is_tensor) -> Mapping[str, Any]:
    """Finds the dict of tensors: the checkpoint itself, or the only such value in it.

    Raises:
      ValueError: there is no such dict, or more than one.
    """

    def is_state(value: Any) -> bool:
        return bool(
            isinstance(value, Mapping) and value and all(map(is_tensor, value.values()))
        )

    if is_state(checkpoint):
        return checkpoint
    held = checkpoint if isinstance(checkpoint, Mapping) else {}
    found = [key for key, value in held.items() if is_state(value)]
    if len(found) != 1:
        what = ", ".join(map(repr, found)) or "none"
        raise ValueError(
            f"it should be a state dict or hold one; it holds {what}. Save the one you "
            "want by itself."
        )
    return held[found[0]]


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "network", "output"])
    app.run(main)
