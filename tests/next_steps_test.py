"""The commands that programs print at their end parse, and name existing things."""

import json
import pathlib
import shlex
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from cdnet_tf import next_steps, shared_flags

_ROOT = pathlib.Path(__file__).parent.parent
_READ = """
import importlib, json, sys
from absl import flags
importlib.import_module(sys.argv[1])
flags.FLAGS([sys.argv[1], *sys.argv[2:]])
print(json.dumps({name: flags.FLAGS[name].value for name in flags.FLAGS}, default=str))
"""


@pytest.fixture
def after(monkeypatch):
    """Sets this process's flags, as if a program ran from the repository's root."""
    monkeypatch.chdir(_ROOT)

    def parse(*arguments):
        flags.FLAGS(["program", *arguments])

    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        yield parse


def _command(text):
    """Returns the words of the last line of a text."""
    return shlex.split(text.splitlines()[-1])


def _read(command):
    """Returns a command's flags as its program understands them."""
    assert command[:2] == ["python", "-m"]
    done = subprocess.run(
        [sys.executable, "-c", _READ, *command[2:]],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_training_has_the_data_and_the_size_of_the_search(after, tmp_path):
    after("--dataset=pedestrians", f"--data_dir={tmp_path}/two words", "--width=32")
    values = _read(_command(next_steps.after_search(tmp_path / "run")))
    assert values["data_dir"] == f"{tmp_path}/two words"
    # The recipe of generated pedestrians is 128 x 64 pixels at a width of 0.25.
    assert (values["height"], values["width"]) == (256, 32)
    assert values["width_multiplier"] == 1 and values["schedule"] == "cosine"
    assert values["genotype"] == str(tmp_path / "run")


def test_a_network_of_a_front_brings_its_width(after, tmp_path):
    after("--flagfile=flags/demo.cfg", "--width_multiplier=0.5")
    assert _command(next_steps.after_search(pathlib.Path("runs/a"), 3))[3:] == [
        *("--flagfile=flags/pedestrians.cfg", "--genotype=runs/a", "--front=3"),
        "--run_dir=runs/a_front_3",
    ]


def test_what_the_recipe_says_is_not_said_again(after):
    after("--flagfile=flags/demo.cfg")
    assert _command(next_steps.after_search(pathlib.Path("runs/a"))) == [
        *("python", "-m", "cdnet_tf.train", "--flagfile=flags/pedestrians.cfg"),
        *("--genotype=runs/a", "--run_dir=runs/a_train"),
    ]


def test_every_data_set_of_people_has_a_recipe(after):
    for name in shared_flags.datasets.NAMES:
        after(f"--dataset={name}")
        recipe = _command(next_steps.after_search(pathlib.Path("runs/a")))[3]
        assert f"--dataset={name}" in flags.FLAGS.read_flags_from_files([recipe])


def test_recipe_is_named_without_the_repository_too(after, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    after("--dataset=msmt17", "--holdout_identities=9")
    command = _command(next_steps.after_search(pathlib.Path("a")))
    assert command[3:5] == ["--flagfile=flags/msmt17.cfg", "--holdout_identities=9"]


def test_evaluation_and_export_name_the_model_and_the_data(after):
    after("--dataset=pedestrians", "--train_identities=20", "--height=64")
    lines = next_steps.after_training(pathlib.Path("runs/a")).splitlines()
    model = "--model=runs/a/model.keras"
    data = ["--dataset=pedestrians", "--train_identities=20"]
    evaluate, export = (shlex.split(line) for line in lines[1::2])
    assert evaluate == ["python", "-m", "cdnet_tf.evaluate", model, *data]
    assert export[:3] == ["python", "-m", "cdnet_tf.export_tflite"]
    assert export[3:] == [model, "--output_dir=runs/a/tflite", *data]
    model = pathlib.Path("runs/a/model.keras")
    assert next_steps.after_evaluation(model) == "\n".join(lines[2:])
    file = model.with_suffix(".tflite")
    assert not next_steps.after_evaluation(file)
    command = shlex.split(next_steps.after_export(file).splitlines()[1])
    assert command == ["python", "-m", "cdnet_tf.evaluate", f"--model={file}", *data]


def test_shipped_weights_keep_their_name(after, tmp_path, monkeypatch):
    monkeypatch.setattr(next_steps.shipped, "FOLDER", tmp_path)
    after()
    text = next_steps.after_evaluation(tmp_path / "market1501/tiny.keras")
    assert _command(text)[3:] == [
        *("--model=market1501/tiny", "--output_dir=runs/market1501_tiny/tflite"),
    ]


def test_data_that_are_sound_are_trained_on(after):
    after("--data_dir=/data/market")
    assert _command(next_steps.after_check())[3:] == [
        *("--flagfile=flags/market1501.cfg", "--data_dir=/data/market"),
        "--run_dir=runs/market1501",
    ]


def test_network_of_classes_goes_on_to_people(after):
    text = next_steps.after_classes(pathlib.Path("runs/imagenet"), "cdnet")
    values = _read(_command(text))
    assert values["init_from"] == "runs/imagenet" and values["genotype"] == "cdnet"
