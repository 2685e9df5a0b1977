"""The Python API is quick to import, and its examples run as they stand.

They run on few generated people, with a small network. The examples of whole runs run
in notebooks_test.
"""

import ast
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import cdnet_tf
from cdnet_tf import shipped
from cdnet_tf.api import reid
from cdnet_tf.data import datasets, image_files
from cdnet_tf.deploy import embedders
from cdnet_tf.pedestrians import writer
from cdnet_tf.retrieval import ranking

_ROOT = pathlib.Path(__file__).parent.parent
_README, _DOCS = _ROOT / "README.md", _ROOT / "docs" / "python.md"
_SHIPPED = "market1501/cdnet_x0_25_int8"


def _snippets(page):
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "data"
    few = {"train_identities": 4, "test_identities": 4, "distractors": 20}
    writer.write_pedestrians(folder, **few, height=64, width=32)
    return folder


@pytest.fixture
def with_data(data, tmp_path, monkeypatch):
    """A working directory in which `data` is the generated people."""
    (tmp_path / "data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run_small(snippets):
    """Runs snippets in one namespace, with a network that is opened at once."""
    code = "\n".join(snippets)
    assert '"market1501/cdnet_x0_5"' in code
    names = {}
    exec(code.replace("market1501/cdnet_x0_5", _SHIPPED), names)
    return names


def test_snippets_on_networks_run_one_after_the_other(with_data, capsys):
    snippets = [each for each in _snippets(_DOCS) if "runs/" not in each]
    assert len(snippets) == 5
    names = _run_small(snippets)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("<Reid market1501/cdnet_x0_25_int8: 128x64x3 -> 192, ")
    assert lines[1].split()[1:] == ["192)", "float32"]
    assert "data/none.jpg" in names["found"].bad[0]
    # What is scored is what `cdnet_tf.evaluate` scores.
    data = datasets.read("market1501", "data")
    embedder = embedders.open_model(shipped.resolve(_SHIPPED, "a network"))
    query, gallery = (
        embedder.embed_all(image_files.ImageBatches(split.paths, 128, 64))
        for split in (data.query, data.gallery)
    )
    found = ranking.evaluate(query, data.query, gallery, data.gallery)
    assert names["scores"]["scores"]["mean_ap"] == pytest.approx(float(found.mean_ap))


def test_snippet_of_the_readme_runs(with_data, capsys):
    (snippet,) = _snippets(_README)
    (with_data / "gallery").symlink_to("data/bounding_box_test")
    people = sorted((with_data / "data" / "query").iterdir())
    shutil.copy(people[0], "query.jpg")
    names = _run_small([snippet])
    *ranked, verdict = capsys.readouterr().out.splitlines()
    assert len(ranked) == 5 and ranked == sorted(ranked)
    assert re.fullmatch(r"(True|False) 0\.\d+ 0\.000\d+", verdict)
    assert len(names["gallery"].names) == len(
        list(pathlib.Path("gallery").glob("*.jpg"))
    )


def test_programs_are_imported_together_and_read_no_flags():
    code = (
        "from cdnet_tf import evaluate, search, train; from absl import flags;"
        "print(search.SearchSettings().chosen, train.TrainSettings().drops);"
        "print(flags.FLAGS.is_parsed())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.split("\n")[:2] == ["2 [103, 154, 206]", "False"]


def test_import_is_quick_and_a_name_is_imported_when_it_is_used():
    code = (
        "import sys, cdnet_tf;"
        "assert 'load' in dir(cdnet_tf);"
        "print(sorted({'numpy', 'tensorflow', 'keras', 'PIL'} & set(sys.modules)));"
        "cdnet_tf.Network; print('tensorflow' in sys.modules, len(sys.modules) < 400);"
        "cdnet_tf.rank; print('numpy' in sys.modules, 'tensorflow' in sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.splitlines() == ["[]", "False True", "True False"]


def test_names_are_those_that_type_checkers_see():
    tree = ast.parse((_ROOT / "cdnet_tf" / "__init__.py").read_text("utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cdnet_tf.")
        for alias in node.names
    }
    assert sorted(seen) == cdnet_tf.__all__
    for name, module in seen.items():
        assert getattr(cdnet_tf, name) is getattr(sys.modules[module], name)
    assert cdnet_tf.load is reid.load


def test_no_name_hides_a_module():
    folder = _ROOT / "cdnet_tf"
    modules = {path.stem for path in folder.iterdir()}
    assert not modules & set(cdnet_tf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        cdnet_tf.lod  # noqa: B018
