"""Search spaces and genotypes: order, JSON, and errors."""

import json
import subprocess
import sys

import pytest

from cdnet_tf.nn import genotype

_ROWS = [(3, 5, 1), (3, 7, 2), (5, 7, 2), (5, 9, 1), (5, 7, 2), (5, 7, 1)]


def test_spaces():
    pairs = [(3, 5), (3, 7), (3, 9), (5, 7), (5, 9), (7, 9)]
    assert genotype.CS == tuple((a, b, 1) for a, b in pairs)
    assert genotype.CDS == tuple((a, b, r) for r in (1, 2) for a, b in pairs)
    assert genotype.SPACES == {"cs": genotype.CS, "cds": genotype.CDS}


@pytest.mark.parametrize(
    "branch, lites", [((3, 5), (1, 2)), ((3, 9), (1, 4)), ((7, 9), (3, 4))]
)
def test_lites(branch, lites):
    assert genotype.Branch(*branch).lites == lites


def test_published_are_table_2_and_7():
    assert genotype.published_names() == ["cdnet", "cdnet_v35", "cnet"]
    assert genotype.load("cdnet").layers == tuple(_ROWS)
    small = [(3, 5, r) for _, _, r in _ROWS]
    assert genotype.load("cdnet_v35").layers == tuple(small)
    cnet = [(5, 7, 1), *[(7, 9, 1)] * 4, (3, 5, 1)]
    assert genotype.load("cnet").layers == tuple(cnet)


def test_space_is_the_smallest_that_holds_it():
    assert genotype.load("cnet").space == "cs"
    assert genotype.load("cdnet").space == "cds"
    assert genotype.Genotype(tuple(genotype.CDS[:6])).space == "cs"
    assert genotype.Genotype(tuple(genotype.CDS[1:7])).space == "cds"


def test_depth_is_the_sum_of_the_repeats():
    assert genotype.load("cnet").depth == 6
    assert genotype.load("cdnet").depth == 1 + 2 + 2 + 1 + 2 + 1
    assert genotype.Genotype(genotype.CDS[-6:]).depth == 12


@pytest.mark.parametrize("as_directory", [False, True])
def test_json_round_trip(tmp_path, as_directory):
    one = genotype.Genotype(tuple(_ROWS))
    assert all(isinstance(layer, genotype.Branch) for layer in one.layers)
    text = one.to_json(alpha=[[0.5]], source="a search")
    path = tmp_path / "genotype.json"
    path.write_text(text)
    assert genotype.load(tmp_path if as_directory else path) == one
    assert genotype.load(str(path)) == one
    assert json.loads(text) == {
        "space": "cds",
        "layers": [list(row) for row in _ROWS],
        "alpha": [[0.5]],
        "source": "a search",
    }


def test_str():
    assert (
        str(genotype.load("cdnet")) == "(3,5,1) (3,7,2) (5,7,2) (5,9,1) (5,7,2) (5,7,1)"
    )


@pytest.mark.parametrize("name", genotype.published_names())
def test_reads_what_str_writes(name):
    published = genotype.load(name)
    assert genotype.load(str(published)) == published
    assert genotype.load(str(published).replace(" ", "")) == published


def test_repeats_may_be_left_out_of_a_text():
    assert genotype.load("(3,5)" * 6).layers == (genotype.Branch(3, 5, 1),) * 6


@pytest.mark.parametrize(
    "text, message",
    [
        ("(3,5,1) (3,7,2)", "has 6 layers, got 2"),
        ("(3,5,1) x", "is no genotype; write 6 branches"),
        ("(3,5,1,1)" * 6, "is no genotype"),
        ("(3,4,1)" * 6, "no branch of CDS"),
    ],
)
def test_broken_text(text, message):
    with pytest.raises(ValueError, match=message):
        genotype.load(text)


@pytest.mark.parametrize("count", [0, 5, 7])
def test_wrong_number_of_layers(count):
    with pytest.raises(ValueError, match=f"has 6 layers, got {count}: "):
        genotype.Genotype(tuple(genotype.CDS[:count]))


@pytest.mark.parametrize("branch", [(3, 4, 1), (5, 3, 1), (3, 3, 1), (3, 5, 3)])
def test_unknown_branch(branch):
    rows = [*_ROWS[:3], branch, *_ROWS[4:]]
    name = ",".join(map(str, branch))
    message = rf"Layer 4 is \({name}\), which is no branch of CDS; use one of \(3,5,1\)"
    with pytest.raises(ValueError, match=message):
        genotype.Genotype(tuple(rows))


def test_missing_file(tmp_path):
    message = "No genotype 'osnet': .* nor one of cdnet, cdnet_v35, cnet"
    with pytest.raises(FileNotFoundError, match=message):
        genotype.load("osnet")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        genotype.load(tmp_path)  # a run directory of a search that has not ended


@pytest.mark.parametrize(
    "text, reason",
    [
        ("{", "Expecting property name"),
        ("{}", "'layers'"),
        ("[]", "list indices"),
        ('{"layers": [[3, 5]]}', "has 6 layers, got 1"),
        ('{"layers": [[3]]}', "missing 1 required positional argument"),
        ('{"layers": [[3, 5, 1, 1]]}', "positional arguments but"),
        ('{"layers": [3]}', "must be an iterable"),
        (json.dumps({"layers": [[3, 4, 1]] * 6}), "Layer 1 is"),
    ],
)
def test_broken_file_is_named(tmp_path, text, reason):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no genotype .* expected") as error:
        genotype.load(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)


def test_needs_no_tensorflow():
    code = (
        "import sys; from cdnet_tf.nn import genotype; print(genotype.load('cnet'));"
        "print('tensorflow' in sys.modules, 'numpy' in sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.split()[-2:] == ["False", "False"]
