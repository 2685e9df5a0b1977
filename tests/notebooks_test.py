"""The notebooks run from the first cell to the last, at a size for seconds.

docs/python.md shows the same search and training. Its examples run in the notebook's
folder, on the runs that the notebook has finished, so that nothing is trained twice.
"""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_NOTEBOOKS = sorted((_ROOT / "docs" / "notebooks").glob("*.ipynb"))
_SMALL = {
    "ranked_list": {"PEOPLE": 4, "HEIGHT": 64, "WIDTH": 32},
    "search_train_export": {
        **{"TRAIN_PEOPLE": 4, "TEST_PEOPLE": 4, "SPACE": "cs", "TOP_K": 1},
        "SIZE": {"height": 64, "width": 32, "width_multiplier": 0.25, "batch_size": 8},
        # So little training leaves a network whose few ranks turn on the last bit.
        **{"SEARCH_EPOCHS": 1, "TRAIN_EPOCHS": 1, "MAX_MAP_DROP": 100.0},
    },
}
# What docs/python.md says, and the same with the settings of the notebook.
_OF_NOTEBOOK = {
    'datasets.read("market1501", "data")': "data",
    'space="cds", top_k=2, epochs=240': "**vars(search_settings)",
    'genotype="runs/cds", epochs=350': "**vars(train_settings)",
}
# A line that begins with `!` is one of the shell's; `{name}` in it is a variable.
_SHELL = """
import subprocess
def _shell(line):
    subprocess.run(line, shell=True, check=True)
"""


def _code(name):
    """A notebook as a program with small values in place of its parameters."""
    book = json.loads((_ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [i for i, c in enumerate(cells) if c["metadata"].get("tags")] == [0]
    first, *others = ("".join(cell["source"]) for cell in cells)
    small = [f"{key} = {value!r}" for key, value in _SMALL[name].items()]
    assigned = {
        node.id
        for node in ast.walk(ast.parse(first))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert set(_SMALL[name]) < assigned
    shell = re.compile(r"^!((?:.*\\\n)*.*)$", re.MULTILINE)
    others = [shell.sub(r"_shell(f'''\1''')", cell) for cell in others]
    return "\n".join([_SHELL, first, *small, *others])


def _run(code, folder):
    """Runs code in a process of its own, as Jupyter does; returns what it printed."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_notebook_is_run():
    assert [path.stem for path in _NOTEBOOKS] == sorted(_SMALL)


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_without_outputs(path):
    book = json.loads(path.read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_from_images_to_a_ranked_list(tmp_path):
    printed = _run(_code("ranked_list"), tmp_path)
    assert "-> 192, sha256" in printed
    rank1, mean_ap = re.search(r"rank-1 ([\d.]+)%, mAP ([\d.]+)%", printed).groups()
    assert float(rank1) <= 100 and 0 < float(mean_ap) <= 100
    distances = [float(line.split()[0]) for line in printed.splitlines()[-5:]]
    assert distances == sorted(distances)
    assert (tmp_path / "runs" / "ranked_lists.png").read_bytes()[:4] == b"\x89PNG"


def test_search_train_export_and_the_examples_of_python_md(tmp_path):
    page = (_ROOT / "docs" / "python.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = "\n".join(each for each in examples if "runs/" in each)
    for said, small in _OF_NOTEBOOK.items():
        assert said in code
        code = code.replace(said, small)
    printed = _run(
        _code("search_train_export") + '\nprint("python.md")\n' + code, tmp_path
    )
    of_notebook, of_page = printed.split("python.md\n")
    runs = tmp_path / "runs"
    assert "1 of 1 files passed" in of_notebook
    assert (runs / "tflite" / "README.txt").exists()
    assert re.search(r"int8.tflite: \d\.\d\d MB, distance \d\.\d{3}\n", of_notebook)
    assert of_page.count("holds a finished") == 2
    (found,) = re.findall(r"^\(.*\)$", of_page, re.MULTILINE)
    layers = json.loads((runs / "cds" / "genotype.json").read_text())["layers"]
    assert len(layers) == found.count("(") == 6
    trained = json.loads((runs / "found" / "evaluation.json").read_text())["scores"]
    line = f"{trained['rank1']} {trained['mean_ap']}"
    assert line in of_page.splitlines()
    reranked = [float(text) for text in of_page.splitlines()[-1].split()]
    assert len(reranked) == 2 and all(0 < share <= 1 for share in reranked)
