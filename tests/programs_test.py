"""The real programs on generated pedestrians, small enough for seconds."""

import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import app, flags
from absl.testing import flagsaver

from cdnet_tf import run_directory, search, shared_flags, train
from cdnet_tf.data import datasets
from cdnet_tf.learn import fitting
from cdnet_tf.nn import genotype, networks, transfer
from cdnet_tf.pedestrians import writer
from tools import benchmark

ROOT = pathlib.Path(__file__).parent.parent
SIZE = {"height": 64, "width": 32, "width_multiplier": 0.25, "batch_size": 8}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    writer.write_pedestrians(
        folder, train_identities=8, test_identities=4, height=64, width=32
    )
    return folder


def _parse(*arguments):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["search", *arguments])


@pytest.fixture(autouse=True)
def restored_flags():
    with flagsaver.flagsaver():
        _parse()
        yield


def _arguments(data_dir, run_dir, **more):
    values = {
        **SIZE,
        "space": "cs",
        "epochs": 3,
        "alpha_lr": 0.01,
        "data_dir": data_dir,
        "run_dir": run_dir,
        **more,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def _run(arguments, **options):
    command = [sys.executable, "-m", "cdnet_tf.search", *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def whole_run(data_dir, tmp_path_factory):
    """Searches undisturbed; returns (run directory, console output)."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    process = _run(_arguments(data_dir, run_dir))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return run_dir, output


def test_search_writes_a_genotype_with_provenance(whole_run):
    run_dir, output = whole_run
    searched = genotype.load(run_dir)
    record = json.loads((run_dir / "genotype.json").read_text())
    assert record["top_k"] == 2
    assert record["branches"] == [list(branch) for branch in genotype.CS]
    best = np.argmax(record["alpha"], axis=1)
    assert searched.layers == tuple(genotype.CS[j] for j in best)
    provenance = record["provenance"]
    assert provenance["seed"] == 0
    assert provenance["flags"]["width_multiplier"] == 0.25
    assert provenance["dataset"]["counts"]["train"]["identities"] == 8
    assert provenance["versions"]["tensorflow"] == tf.__version__
    assert re.search(rf"found genotype +{re.escape(str(searched))}\n", output)


def test_search_shows_its_progress(whole_run):
    _, output = whole_run
    lines = output.splitlines()
    assert lines[0].startswith("First step ended")
    for epoch in (1, 2, 3):
        values = (
            r"loss \d.*, triplet \d.*, accuracy \d.*%, alpha_loss \d.*, \d+ images/s"
        )
        assert re.match(rf"Epoch {epoch}/3: {values}", lines[epoch])
    assert " left" in lines[2] and " left" not in lines[3]


def test_search_leaves_alpha_choices_pictures_and_weights(whole_run):
    run_dir, _ = whole_run
    with open(run_dir / "alpha.csv", newline="") as file:
        epochs = {int(row["epoch"]) for row in csv.DictReader(file)}
    assert epochs == {0, 1, 2, 3}
    with open(run_dir / "choices.csv", newline="") as file:
        steps = [int(row["steps"]) for row in csv.DictReader(file)]
    # 8 identities of 8 images to train on: 8 x 2 groups of 4, 2 groups a batch, so 8
    # steps an epoch; 3 epochs, 6 blocks, 2 branches each.
    assert sum(steps) == 8 * 3 * 6 * 2
    assert (
        "of 6 blocks stayed with their first pick"
        in (run_dir / "collapse.txt").read_text()
    )
    assert (run_dir / "alpha.png").read_bytes()[:4] == b"\x89PNG"
    assert list((run_dir / "tensorboard").glob("**/events*"))
    network = networks.build(genotype.load(run_dir), (64, 32, 3), 0.25)
    transfer.take_weights(network, run_dir)
    derived = tf.keras.models.load_model(run_dir / "derived.keras", compile=False)
    images = tf.random.stateless_normal((2, 64, 32, 3), (0, 0))
    width = derived.output_shape[1]  # of the BLNeck, the first half of an FBLNeck's
    np.testing.assert_allclose(
        network(images)[:, :width], derived(images), rtol=1e-4, atol=1e-5
    )
    assert not list(run_dir.glob("*.part*"))


def test_killed_search_resumes_to_the_same_bits(whole_run, data_dir, tmp_path):
    whole, _ = whole_run
    arguments = _arguments(data_dir, tmp_path / "killed")
    process = _run(arguments)
    for line in process.stdout:
        if line.startswith("Epoch 2/3"):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "genotype.json").exists()

    resumed = _run(arguments)
    output, _ = resumed.communicate()
    assert resumed.returncode == 0, output
    assert "Going on after epoch" in output
    records = [
        json.loads((folder / "genotype.json").read_text())
        for folder in (whole, tmp_path / "killed")
    ]
    assert records[0]["alpha"] == records[1]["alpha"]
    assert records[0]["layers"] == records[1]["layers"]
    for name in ("alpha.csv", "choices.csv"):
        assert (whole / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_finished_search_is_not_run_again(whole_run, data_dir, capsys):
    _parse(*_arguments(data_dir, whole_run[0]))
    search.main(["search"])
    assert "holds a finished search" in capsys.readouterr().out


@pytest.mark.parametrize("flag, value", [("w_lr", 0.5), ("top_k", 3), ("seed", 1)])
def test_changed_flag_is_refused_by_name(whole_run, data_dir, flag, value):
    _parse(*_arguments(data_dir, whole_run[0], **{flag: value}))
    with pytest.raises(ValueError, match=f"begun with --{flag} ="):
        search.main(["search"])


def test_search_killed_before_its_results_writes_them_at_once(
    whole_run, data_dir, tmp_path, capsys
):
    whole, run_dir = whole_run[0], tmp_path / "run"
    shutil.copytree(whole, run_dir)
    for name in ("genotype.json", "derived.keras", "collapse.txt"):
        (run_dir / name).unlink()
    _parse(*_arguments(data_dir, run_dir))
    search.main(["search"])
    output = capsys.readouterr().out
    assert "has had its 3 epochs" in output and "Epoch" not in output
    records = [json.loads((d / "genotype.json").read_text()) for d in (whole, run_dir)]
    assert records[0] == records[1]
    for name in ("alpha.csv", "choices.csv", "collapse.txt"):
        assert (run_dir / name).read_bytes() == (whole / name).read_bytes()


def test_other_data_are_refused(whole_run, tmp_path):
    writer.write_pedestrians(
        tmp_path / "other", train_identities=9, test_identities=4, height=64, width=32
    )
    _parse(*_arguments(tmp_path / "other", whole_run[0]))
    with pytest.raises(ValueError, match="begun with the data's train split"):
        search.main(["search"])


def test_data_may_move(whole_run, data_dir, tmp_path, capsys):
    os.symlink(data_dir, tmp_path / "moved")
    _parse(*_arguments(tmp_path / "moved", whole_run[0]))
    search.main(["search"])
    assert "holds a finished search" in capsys.readouterr().out


def test_missing_data_say_how_to_lay_them_out(tmp_path):
    _parse(*_arguments(tmp_path / "nothing", tmp_path / "run"))
    with pytest.raises(SystemExit, match=r"does not exist.*demo\.cfg"):
        search.main(["search"])


def test_a_search_in_the_table_needs_no_data(tmp_path, capsys):
    limits = ["--device=ethos-u65-256", "--max_ms=0.5", "--data_dir=/nowhere"]
    _parse("--flagfile=flags/table.cfg", *limits, f"--run_dir={tmp_path}")
    search.main(["search"])
    printed = capsys.readouterr().out
    assert "117 trainings of 70 networks, each of 60 epochs on 301 people" in printed
    assert f"--genotype={tmp_path} --front=12" in printed
    provenance = json.loads((tmp_path / "genotype.json").read_text())["provenance"]
    assert provenance["dataset"]["name"] == "space.csv of the package"
    assert json.loads((tmp_path / "front" / "12.json").read_text())["ms"] <= 0.5


def test_unwritable_run_dir_fails_at_the_start(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    _parse(*_arguments(data_dir, tmp_path / "file" / "run"))
    with pytest.raises(OSError, match="run_dir=.* cannot be written"):
        search.main(["search"])


def test_full_disk_fails_before_training(tmp_path, monkeypatch):
    usage = fitting.shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(fitting.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="has 1 MB free, and the run needs 500 MB"):
        fitting.check_space(tmp_path, 500 * 10**6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 10}, "batch_size=10 .* 4 image.s. of each; use 8 or 12"),
        ({"batch_size": 4}, "batch_size=4 .*; use 8 or 12"),
        ({"height": 60}, "Input 60x32 is not divisible by 16"),
        ({"top_k": 7}, "top_k=7 is out of range"),
        (
            {"exploration": "uniform_warmup", "warmup_epochs": 3},
            "warmup_epochs=3 leaves alpha no epoch of epochs=3",
        ),
        ({"alpha_milestones": "1,3"}, "alpha_milestones=1,3 .* epochs=3: .*e.g. "),
        ({"alpha_milestones": "one"}, "alpha_milestones=.*one.*must be epochs"),
        ({"top_k": "x"}, "top_k=x: must be a number of branches"),
        ({"width_multiplier": 0}, "width_multiplier=0.0 must be positive"),
        ({"dataset": "cifar100"}, "dataset=cifar100 shows classes, not people"),
    ],
)
def test_bad_flags_are_named_before_data_are_read(tmp_path, change, message):
    with pytest.raises((app.UsageError, flags.IllegalFlagValueError), match=message):
        _parse(*_arguments(tmp_path / "no_data", tmp_path / "run", **change))
        search.main(["search"])
    _parse()


def test_more_identities_than_the_data_have(data_dir, tmp_path):
    _parse(*_arguments(data_dir, tmp_path / "run", batch_size=64))
    with pytest.raises(ValueError, match="8 identities"):
        search.main(["search"])


def test_bad_flag_may_be_put_right_in_the_same_run_dir(data_dir, tmp_path):
    data = datasets.read("market1501", str(data_dir))
    for top_k in (7, 2):
        _parse(*_arguments(data_dir, tmp_path / "run", top_k=top_k))
        values = shared_flags.flag_values("cdnet_tf.search")
        # A flag of a program that is imported beside it.
        assert "genotype" in shared_flags.flag_values(train.__name__)
        assert "genotype" not in values
        record = run_directory.open_run(tmp_path / "run", values, data) / "run.json"
        assert json.loads(record.read_text())["flags"]["top_k"] == str(top_k)


def _settings():
    return search.SearchSettings(**shared_flags.values(search.SearchSettings))


@pytest.mark.parametrize("name", ["cs", "cds"])
def test_flag_files_parse_and_demo_stands_on_top(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    _parse(f"--flagfile=flags/{name}.cfg")
    assert flags.FLAGS.space == name
    assert (flags.FLAGS.epochs, flags.FLAGS.batch_size) == (240, 64)
    options = _settings().batch_options()
    assert (options["erasing"], options["pad"]) == (0.5, None)
    _parse("--random_erasing=0.1", "--crop_padding=3")
    options = _settings().batch_options()
    assert (options["erasing"], options["pad"]) == (0.1, 3)
    _parse(f"--flagfile=flags/{name}.cfg", "--flagfile=flags/demo.cfg")
    assert flags.FLAGS.space == name
    assert flags.FLAGS.dataset == "pedestrians"
    assert _settings().random_erasing == 0


def test_unknown_argument_is_refused():
    with pytest.raises(app.UsageError, match="'cds'"):
        search.main(["search", "cds"])


def test_make_pedestrians_prints_baselines_and_draws_a_sheet(tmp_path):
    command = [sys.executable, "tools/make_pedestrians.py", "--baselines"]
    command += [f"--output_dir={tmp_path / 'p'}", "--train_identities=2"]
    command += ["--test_identities=4", f"--contact_sheet={tmp_path / 'sheet.jpg'}"]
    output = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(output[0])["query"] == 24
    names = [line[:20].strip() for line in output[2:]]
    assert names == ["chance", "raw pixels", "colour histograms"]
    assert (tmp_path / "sheet.jpg").exists()


def test_benchmark_size_prints_a_json_line_a_network(capsys):
    _parse("--networks=cnet,cdnet_std", "--height=256", "--width=128")
    benchmark.main(["benchmark", "size"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"network": "cnet", "parameters": 1436240, "macs": 821423520},
        {"network": "cdnet_std", "parameters": 1750976, "macs": 954974208},
    ]
