"""Suggests what to run next: whole commands that work as they are printed.

A command repeats the data and the input size of the program that has ended, where its
recipe says something else.
"""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from cdnet_tf import recipes, shipped
from cdnet_tf.data import own_data

_DATA = (
    *("dataset", "data_dir", "train_identities"),
    *("holdout_identities", "holdout_seed"),
)
_SIZE = ("height", "width", "width_multiplier")
# The recipes of the other data sets have the data set's name.
_RECIPES = {"dukemtmc": "flags/duke.cfg"}
_RECIPES |= dict.fromkeys(own_data.NAMES, "flags/market1501.cfg")
_TRAIN = ("python", "-m", "cdnet_tf.train")


def after_search(run_dir: pathlib.Path, points: int = 0) -> str:
    """Says how to train the network that a search has found.

    Args:
      run_dir: of the search.
      points: on the front that it left, of which the last is the network found.
    """
    recipe = _recipe()
    # A network of a front brings its width multiplier.
    size = _SIZE[:-1] if points else _SIZE
    found = [*recipe, *_repeated((*_DATA, *size), recipe), f"--genotype={run_dir}"]
    if not points:
        command = [*_TRAIN, *found, f"--run_dir={run_dir}_train"]
        return _text("To train the network found", command)
    found += [f"--front={points}", f"--run_dir={run_dir}_front_{points}"]
    return _text("To train the last network of the front", [*_TRAIN, *found])


def after_training(run_dir: pathlib.Path) -> str:
    """Says how to evaluate and export a network that was trained on people."""
    model = run_dir / "model.keras"
    return f"{_evaluate(model)}\n{_export(model)}"


def after_classes(run_dir: pathlib.Path, genotype: str) -> str:
    """Says how to train on people, starting from a network trained on classes."""
    more = [f"--genotype={genotype}", f"--init_from={run_dir}"]
    command = [*_TRAIN, "--flagfile=flags/market1501.cfg", *more]
    command += ["--data_dir=data", f"--run_dir={run_dir}_market1501"]
    return _text("To train it on people, with Market-1501 in data", command)


def after_evaluation(model: pathlib.Path) -> str:
    """Says how to export an evaluated network; "" if it is an exported file already."""
    return _export(model) if model.suffix == ".keras" else ""


def after_export(file: pathlib.Path) -> str:
    """Says how to evaluate a file that was exported or imported."""
    return _evaluate(file)


def after_check() -> str:
    """Says how to train on data in which no errors were found."""
    recipe = _recipe()
    arguments = [*recipe, *_repeated(_DATA, recipe)]
    run_dir = f"--run_dir=runs/{flags.FLAGS['dataset'].value}"
    return _text("To train on these data", [*_TRAIN, *arguments, run_dir])


def _evaluate(model: pathlib.Path) -> str:
    command = ["python", "-m", "cdnet_tf.evaluate", f"--model={shipped.spelled(model)}"]
    return _text("To see what it finds, in pictures", command + _repeated(_DATA))


def _export(model: pathlib.Path) -> str:
    folder = shipped.results_dir(model) / "tflite"
    files = [f"--model={shipped.spelled(model)}", f"--output_dir={folder}"]
    command = ["python", "-m", "cdnet_tf.export_tflite", *files, *_repeated(_DATA)]
    return _text("To export it for phones and cameras", command)


def _text(purpose: str, command: Sequence[str]) -> str:
    return f"{purpose}:\n  {shlex.join(command)}"


def _recipe() -> list[str]:
    """Names the flag file of the data set; programs find it from any directory."""
    name = flags.FLAGS["dataset"].value
    return [f"--flagfile={_RECIPES.get(name, f'flags/{name}.cfg')}"]


def _repeated(names: Sequence[str], recipe: Sequence[str] = ()) -> list[str]:
    """Returns the flags of this program whose values another program lacks.

    Args:
      names: flags that both programs have.
      recipe: arguments that the other program is given.
    """
    said = {name: flags.FLAGS[name].default for name in names}
    for line in recipes.open_flag_files(recipe):
        name, _, text = line.lstrip("-").partition("=")
        if name in said:
            said[name] = flags.FLAGS[name].parser.parse(text)
    changed = [name for name in names if flags.FLAGS[name].value != said[name]]
    return [flags.FLAGS[name].serialize() for name in changed]
