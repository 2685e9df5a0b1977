"""The real program on generated pedestrians: what it writes, and leaves alone.

One process for each run, because programs define flags of the same names.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from cdnet_tf import export_tflite
from cdnet_tf.data import datasets, image_files, preprocess
from cdnet_tf.deploy import (
    embedders,
    measurements,
    network_file,
    readme,
    tflite_file,
)
from cdnet_tf.nn import counting
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking, verification
from tests import tiny

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    writer.write_pedestrians(
        folder, train_identities=4, test_identities=3, height=64, width=32
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.keras"
    tiny.network(shallow=True).save(path)
    return path


@pytest.fixture(scope="module")
def run(data_dir, model):
    def run(program, output_dir, *more):
        command = [sys.executable, *program, f"--model={model}"]
        command += [f"--data_dir={data_dir}", f"--output_dir={output_dir}"]
        command += ["--calibration_images=8", *more]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A folder in which one run passed, and then another failed on the same file.

    The second run also trains an epoch, which saves one start of the program.
    """
    folder = tmp_path_factory.mktemp("out")
    as_tool = ["tools/export_tflite.py"]
    first = run(as_tool, folder, "--variants=int8,uint8", "--max_map_drop=100")
    assert first.returncode == 0, first.stderr
    good = (folder / "cdnet_int8.tflite").read_bytes()
    more = ["--variants=int8", "--qat_epochs=1", "--batch_size=8", "--gate_images=10"]
    # An earlier file has the name that the trained file will get.
    (folder / "cdnet_int8_qat.tflite").write_bytes(good)
    as_module = ["-m", "cdnet_tf.export_tflite"]
    second = run(as_module, folder, *more, "--max_map_drop=-100", "--keep_failed")
    return folder, first, second, good


def _rows(folder, kind="files"):
    record = json.loads((folder / "export_report.json").read_text())
    return {row["file"]: row for row in record[kind]}


def test_reports_what_the_file_does(exported, data_dir, model):
    folder, first, *_ = exported
    row = _rows(folder)["cdnet_uint8.tflite"]
    data = datasets.read("market1501", data_dir)
    found, wanted = [], []
    for path, into in ((folder / row["file"], found), (model, wanted)):
        embedder = embedders.open_model(path)
        for split in (data.query, data.gallery):
            images = image_files.ImageBatches(split.paths, 64, 32)
            into.append(np.concatenate([embedder.embed(b) for b in images]))
    scores = ranking.evaluate(found[0], data.query, found[1], data.gallery)
    assert row["rank1"] == pytest.approx(scores.rank1, abs=1e-6)
    assert row["mean_ap"] == pytest.approx(scores.mean_ap, abs=1e-6)
    cosines = tiny.cosines(np.concatenate(found), np.concatenate(wanted))
    assert row["cosine_mean"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert row["cosine_min"] == pytest.approx(cosines.min(), abs=1e-5)
    reference = ranking.evaluate(wanted[0], data.query, wanted[1], data.gallery)
    assert row["map_drop"] == pytest.approx(
        100 * (reference.mean_ap - scores.mean_ap), abs=1e-4
    )
    assert row["bytes"] == (folder / row["file"]).stat().st_size
    # Each of 64 x 32 x 3 values is multiplied once and shifted once.
    macs = counting.macs(tiny.network(shallow=True))
    assert row["macs"] == macs + 2 * 64 * 32 * 3
    assert set(row["seconds"]) == {"calibrate", "convert", "check", "gate"}
    assert all(took > 0 for took in row["seconds"].values())
    assert row["latency_ms"] > 0 and row["cpu"] and "one thread" in row["runtime"]
    assert f"{'cdnet_uint8.tflite':<18}" in first.stdout


def test_prints_what_a_user_wants_and_nothing_else(exported):
    folder, first, second, _ = exported
    assert first.stderr == second.stderr == ""
    lines = first.stdout.splitlines()
    assert lines[0] == "Judging on 136 images of market1501."
    assert lines[1].startswith("cdnet_int8.tflite: passes, ")
    assert f"2 of 2 files passed. Files and report: {folder}" in lines
    assert f"  python -m cdnet_tf.evaluate --model={folder}/cdnet_uint8" in lines[-1]


def test_a_failing_run_says_so_and_destroys_nothing(exported):
    folder, _, second, good = exported
    assert second.returncode == 1
    assert "FAILED  cdnet_int8_qat.failed.tflite: loses" in second.stdout
    assert (folder / "cdnet_int8_qat.tflite").read_bytes() == good
    assert {path.name for path in folder.iterdir()} == {
        "README.txt",
        "cdnet_int8.tflite",
        "cdnet_int8_qat.failed.tflite",
        "cdnet_int8_qat.tflite",
        "cdnet_uint8.tflite",
        "export_report.json",
    }
    assert set(_rows(folder)) == {"cdnet_int8.tflite", "cdnet_uint8.tflite"}
    assert set(_rows(folder, "failed")) == {"cdnet_int8_qat.failed.tflite"}


def test_thresholds_are_the_files_own(exported, data_dir):
    folder, *_ = exported
    data = datasets.read("market1501", data_dir)
    row = _rows(folder)["cdnet_int8.tflite"]
    embed = embedders.open_model(folder / row["file"]).embed
    query, gallery = (
        np.concatenate([embed(b) for b in image_files.ImageBatches(x.paths, 64, 32)])
        for x in (data.query, data.gallery)
    )
    found = verification.thresholds(query, data.query, gallery, data.gallery)
    assert row["thresholds"] == json.loads(json.dumps(dataclasses.asdict(found)))
    measured = measurements.conditions(
        measurements.sha256(folder / row["file"]), "market1501", 18, 118, 100
    )
    assert row["measured"] == measured
    text = (folder / "README.txt").read_text()
    assert f"distance < {found.at_rates[0].distance:.4f} at 1.00% false acc" in text
    assert text.count("100 distractors among them") == 2
    failed = _rows(folder, "failed")["cdnet_int8_qat.failed.tflite"]
    assert failed["measured"]["subset"].startswith("whole people drawn by seed 0 for")
    assert failed["measured"]["distractors"] == 0
    # No row describes the file that is left under this name.
    assert "--model=cdnet_int8_qat.tflite measures one" in text


def test_readme_runs(exported, data_dir, tmp_path):
    folder, *_ = exported
    text = (folder / "README.txt").read_text()
    title, program = next(iter(readme.PROGRAMS.items()))
    start = text.index(program.strip())
    script = tmp_path / "program.py"
    script.write_text(text[start : start + len(program)])
    assert "python" in title.lower()
    query = datasets.read("market1501", data_dir).query
    embedder = embedders.open_model(folder / "cdnet_int8.tflite")
    # The files have the network's size, so nothing is resized on the way.
    images = image_files.ImageBatches(query.paths[:2], 64, 32)
    a, b = embedder.embed(next(iter(images)))
    wanted = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
    found = subprocess.run(
        [sys.executable, script, folder / "cdnet_int8.tflite", *query.paths[:2]],
        capture_output=True,
        text=True,
        check=True,
    )
    # Another JPEG decoder may be a level off here and there.
    assert float(found.stdout.split()[-1]) == pytest.approx(wanted, abs=0.05)


def test_a_trained_export(exported):
    folder, _, second, good = exported
    assert "Quantisation-aware training, epoch 1 of 1: error 0." in second.stdout
    content = (folder / "cdnet_int8_qat.failed.tflite").read_bytes()
    tflite_file.check(content, "int8", "nhwc")
    assert content != good
    (row,) = _rows(folder, "failed").values()
    assert row["cosine_min"] > 0.9
    assert row["export"]["qat_epochs"] == 1


@pytest.mark.parametrize("given", [False, True])
def test_calibrates_on_training_images_or_a_folder(
    data_dir, monkeypatch, tmp_path, given
):
    data = datasets.read("market1501", data_dir)
    own = tmp_path / "camera"
    shutil.copytree(pathlib.Path(data.query.paths[0]).parent, own)
    flags.FLAGS.unparse_flags()
    arguments = [f"--calibration_dir={tmp_path}"] if given else []
    flags.FLAGS(["export_tflite", "--model=x", "--calibration_images=8", *arguments])
    asked = []
    monkeypatch.setattr(
        image_files,
        "ImageBatches",
        lambda paths, *_: asked.extend(paths) or [np.ones(1)],
    )
    export_tflite._calibration(tiny.network(shallow=True), data)
    assert len(set(asked)) == 8
    wanted = map(str, own.iterdir()) if given else data.train.paths
    assert set(asked) <= set(wanted)


def test_names_a_calibration_folder_without_images(data_dir, tmp_path):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["export_tflite", "--model=x", f"--calibration_dir={tmp_path}"])
    data = datasets.read("market1501", data_dir)
    with pytest.raises(export_tflite.app.UsageError, match="holds no image; pass a"):
        export_tflite._calibration(tiny.network(shallow=True), data)


@pytest.mark.parametrize("arguments", [[], ["--qat_epochs=1", "--calibration_dir=x"]])
def test_says_what_does_without_a_training_split(data_dir, arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["export_tflite", "--model=x", *arguments])
    data = datasets.read("market1501", data_dir)
    data = dataclasses.replace(data, train=data.train.take(np.arange(0)))
    with pytest.raises(export_tflite.app.UsageError, match="--calibration_dir=FOLDER"):
        export_tflite._calibration(tiny.network(shallow=True), data)


@pytest.mark.parametrize("megabytes, decodes_again", [(0, True), (1, False)])
def test_decodes_once_if_memory_allows(data_dir, monkeypatch, megabytes, decodes_again):
    data = datasets.read("market1501", data_dir)
    paths = [data.query.paths, data.gallery.paths]
    batches = image_files.in_one_cache(paths, 64, 32, megabytes)
    first = [np.concatenate(list(each)) for each in batches]
    decoded = []
    decode = image_files.decoded
    monkeypatch.setattr(
        image_files, "decoded", lambda *args: decoded.append(args) or decode(*args)
    )
    again = [np.concatenate(list(each)) for each in batches]
    assert bool(decoded) == decodes_again
    assert all(np.array_equal(*pair) for pair in zip(first, again))


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--variants=int4"], "--variants=int4"),
        (["--selective=stem", "--qat_epochs=1"], "use one of the two"),
        (["--rewrite=stem"], "--rewrite=stem: use pool, shortcut, mean"),
        (["--rewrite=pool", "--qat_epochs=1"], "leave it out beside --qat_epochs"),
        ([], "--output_dir"),
    ],
)
def test_refuses_flags_that_make_no_sense(arguments, complaint):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["export_tflite", "--model=x", *arguments])
    with pytest.raises(export_tflite.app.UsageError, match=complaint):
        export_tflite._check_flags()


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--npu=ethos-u65-256", "--variants=float32,int8_float_io"], "whole-integer"),
        (["--npu=ethos-u65-256", "--batch=dynamic"], "without --selective and --batch"),
        (["--npu_memory_mode=Sram_Only"], "Name the chip, too, as in --npu="),
        (["--npu=ethos-u66"], "npu=ethos-u66: use ethos-u55-32"),
    ],
)
def test_refuses_chips_that_cannot_be_had(arguments, complaint):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["export_tflite", "--model=x", *arguments])
    with pytest.raises(ValueError, match=complaint):
        export_tflite._chips()


def test_a_rewritten_file_embeds_alike_and_says_so(data_dir, tmp_path, capsys):
    """The network was trained with CIFAR's normalisation, which the file keeps."""
    model = tmp_path / "model.keras"
    network_file.save(tiny.network(shallow=True), model, preprocess.CIFAR)
    tmp_path = tmp_path / "out"
    arguments = [f"--model={model}", f"--data_dir={data_dir}"]
    arguments += [f"--output_dir={tmp_path}", "--variants=int8", "--gate_images=10"]
    arguments += ["--calibration_images=8", "--max_map_drop=100"]
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        arguments += ["--npu=ethos-u65-256"]
        flags.FLAGS(["export_tflite", *arguments])
        assert export_tflite.main(["export_tflite"]) == 0
    (row,) = _rows(tmp_path).values()
    assert row["file"] == "cdnet_int8.tflite"
    assert row["rewrite"] == ["pool", "shortcut", "mean"]  # The last for the chip.
    assert "AVERAGE_POOL_2D" not in row["ops"]
    assert row["whole_integer"]
    assert row["cosine_min"] > 0.95
    said = tflite_file.describe((tmp_path / row["file"]).read_bytes())["input"]
    assert said["mean"] == pytest.approx([129.3, 124.1, 112.4])
    text = (tmp_path / "README.txt").read_text()
    assert "mean 129.3 124.1 112.4, std 68.2 65.4 70.4" in text
    (chip,) = row["npu"]
    assert chip["file"] == "cdnet_int8_ethos-u65-256_vela.tflite"
    assert chip["cpu_operators"] == [] and (tmp_path / chip["file"]).exists()
    line = f"{chip['file']}\n    from {row['file']}, for ethos-u65-256"
    assert line in text and f"{chip['file']}   " in capsys.readouterr().out
    assert "README.txt leaves out" not in text
