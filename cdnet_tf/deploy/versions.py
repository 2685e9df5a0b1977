"""Writes folders that TensorFlow Serving polls: numbered versions and models.config.

A server loads every folder whose name is a number as soon as it sees the folder. So a
version is written under a hidden name and renamed when it is whole, and no version is
ever written twice.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from cdnet_tf import atomic_files

# The `docker run` of docs/serving.md mounts the folder of the models here.
_MOUNT = "/models"
_HEADER = "# For tensorflow_model_server --model_config_file; see docs/serving.md.\n"


def check_free(directory: str | os.PathLike) -> None:
    """Checks that a new version can be written to a folder.

    Raises:
      ValueError: the name is not a number as TensorFlow Serving writes it.
      FileExistsError: the version exists; the error names the next free number.
    """
    directory = pathlib.Path(directory)
    if not _is_version(directory.name):
        raise ValueError(
            f"output_dir={directory} does not end in a version number, and TensorFlow "
            f"Serving takes no other name. Use {_next(directory)}."
        )
    if os.path.lexists(directory):
        raise FileExistsError(
            f"output_dir={directory} exists, and a server may be reading it; a version "
            f"is never written twice. Use {_next(directory)}."
        )


@contextlib.contextmanager
def new_version(directory: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields an empty folder that becomes `directory` once it is filled.

    If an error is raised meanwhile, nothing is left behind.

    Args:
      directory: the version's, `.../NAME/NUMBER`; folders above it are made.

    Raises:
      ValueError, FileExistsError: as `check_free`, which is called before and after.
    """
    directory = pathlib.Path(directory)
    check_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=directory.parent) as hidden:
        # An inner folder is used, because the hidden one is closed to other users.
        partial = pathlib.Path(hidden, directory.name)
        partial.mkdir()
        yield partial
        check_free(directory)
        partial.rename(directory)


def set_label(config: str | os.PathLike, name: str, version: int, label: str) -> None:
    """Adds a version to a server's configuration, under a label.

    Other models, versions and labels stay as they are; comments do not. A model whose
    policy is not a list of versions (`latest`, `all`) keeps its policy.

    Args:
      config: `models.config`; it is made if missing.
      name: of the model, and of the folder that holds its versions.
      version: number of the version.
      label: for clients, such as `stable`. An empty label stands for `stable` if the
        model has no label yet, else `canary`, so that no traffic moves by itself.

    Raises:
      ValueError: the file cannot be parsed.
    """
    config = pathlib.Path(config)
    servers = read_config(config)
    models = servers.model_config_list.config
    model = next((model for model in models if model.name == name), None)
    if model is None:
        model = models.add(name=name, base_path=f"{_MOUNT}/{name}")
        model.model_platform = "tensorflow"
        model.model_version_policy.specific.SetInParent()
    if model.model_version_policy.HasField("specific"):
        versions = model.model_version_policy.specific.versions
        versions[:] = sorted({*versions, version})
    label = label or ("canary" if model.version_labels else "stable")
    model.version_labels[label] = version
    atomic_files.write_text(config, _HEADER + text_format.MessageToString(servers))


def read_config(config: str | os.PathLike) -> model_server_config_pb2.ModelServerConfig:
    """Reads `models.config`; a missing file reads as an empty one.

    Raises:
      ValueError: the file cannot be parsed.
    """
    config = pathlib.Path(config)
    servers = model_server_config_pb2.ModelServerConfig()
    if config.exists():
        try:
            text_format.Parse(config.read_text("utf-8"), servers)
        except text_format.ParseError as error:
            raise ValueError(
                f"{config} is not a model server's configuration ({error}); repair it, "
                "or move it away for a new one."
            ) from error
    return servers


def _is_version(name: str) -> bool:
    return name.isdecimal() and str(int(name)) == name


def _next(directory: pathlib.Path) -> pathlib.Path:
    """Returns the version after the highest one beside `directory`."""
    names = os.listdir(directory.parent) if directory.parent.is_dir() else []
    taken = [int(name) for name in names if _is_version(name)]
    return directory.with_name(str(max(taken, default=0) + 1))
