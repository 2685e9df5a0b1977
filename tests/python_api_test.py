"""The snippets of docs/python.md run as they stand, at a size for seconds."""

import pathlib
import re
import subprocess
import sys

from cdnet_tf.pedestrians import writer

_DOCS = pathlib.Path(__file__).parent.parent / "docs" / "python.md"
_SIZE = "height=64, width=32, width_multiplier=0.25, batch_size=8, epochs=1"
# The same calls on small data: less of everything, and a top-k that is traced sooner.
_SMALLER = {
    'space="cds", top_k=2, epochs=240': f'space="cs", top_k=1, {_SIZE}',
    "epochs=350": f'schedule="cosine", {_SIZE}',
}


def test_snippets_run_one_after_the_other(tmp_path):
    writer.write_pedestrians(
        tmp_path / "data", train_identities=4, test_identities=4, height=64, width=32
    )
    snippets = re.findall(r"```python\n(.*?)```", _DOCS.read_text("utf-8"), re.DOTALL)
    code = "\n".join(snippets)
    assert len(snippets) == 3
    for said, smaller in _SMALLER.items():
        assert said in code
        code = code.replace(said, smaller)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^\(.*\)$", done.stdout, re.MULTILINE)
    assert len(found) == 1 and found[0].count("(") == 6
    assert (tmp_path / "runs" / "cds" / "genotype.json").exists()
    assert (tmp_path / "runs" / "found" / "evaluation.json").exists()
    shares = [float(text) for text in done.stdout.splitlines()[-1].split()]
    assert len(shares) == 2 and all(0 < share <= 1 for share in shares)


def test_programs_are_imported_together_and_read_no_flags():
    code = (
        "from cdnet_tf import evaluate, search, train; from absl import flags;"
        "print(search.SearchSettings().chosen, train.TrainSettings().drops);"
        "print(flags.FLAGS.is_parsed())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.split("\n")[:2] == ["2 [103, 154, 206]", "False"]
