"""A front as files, as a picture, and as what a training takes."""

import json
import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from cdnet_tf import train
from cdnet_tf.nn import genotype
from cdnet_tf.strategies import front, front_picture
from cdnet_tf.strategies.candidates import Candidate

_CDNET = genotype.load("cdnet")


def _candidate(number, width=0.25):
    """Number n costs n of everything, and has n / 100 mAP."""
    return Candidate(_CDNET, width, number / 100, number, 10 * number, number / 2, 9.0)


def _space(path, **more):
    front.write(path, front.Front("ms", **more), height=64, width=32)


@pytest.fixture
def run_dir(tmp_path):
    points = [_candidate(1), _candidate(2, 0.5)]
    peers = {"cdnet": _candidate(3)}
    _space(tmp_path, points=points, judged=points, peers=peers)
    return tmp_path


def test_a_front_is_read_as_it_was_written(run_dir):
    points = front.read(run_dir / "front.csv")
    # The seconds are of the search, and stay in candidates.csv.
    assert points == {
        "1": _candidate(1)._replace(seconds=0.0),
        "2": _candidate(2, 0.5)._replace(seconds=0.0),
    }
    assert list(front.read(run_dir / "peers.csv")) == ["cdnet"]
    member = front.member(run_dir, 2)
    assert member == (run_dir / "front" / "2.json", 0.5, 64, 32)
    record = json.loads(member.file.read_text())
    assert (record["mAP"], record["ms"], record["macs"]) == (0.02, 1.0, 20)
    assert genotype.load(member.file) == _CDNET


def test_says_which_points_there_are(run_dir, tmp_path):
    for number in (0, 3):
        with pytest.raises(ValueError, match=f"front={number} .* which has 1 to 2"):
            front.member(run_dir, number)
    with pytest.raises(ValueError, match="cdnet has no front.csv; a search leaves one"):
        front.member("cdnet", 1)


def test_no_more_than_twelve_points_and_both_ends():
    points = [_candidate(number) for number in range(1, 101)]
    found = front.spread(points, "ms")
    assert len(found) == 12 and found[0] == points[0] and found[-1] == points[-1]


def _settings(*arguments):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["train", *arguments])
        return train.read_settings()


def test_training_takes_a_network_with_its_width(run_dir):
    size = "--height=64", "--width=32", "--width_multiplier=1"
    settings = _settings(f"--genotype={run_dir}", "--front=2", *size)
    assert pathlib.Path(settings.genotype) == run_dir / "front" / "2.json"
    assert settings.width_multiplier == 0.5
    settings.check()


def test_training_refuses_another_input_size(run_dir):
    with pytest.raises(ValueError, match="of 64x32, .* not of 128x32; add --height=64"):
        _settings(f"--genotype={run_dir}", "--front=2", "--height=128", "--width=32")


def test_without_front_nothing_changes():
    settings = _settings("--genotype=cdnet", "--width_multiplier=0.75")
    assert (settings.genotype, settings.width_multiplier) == ("cdnet", 0.75)


def test_draws_panels_side_by_side(run_dir):
    points = [_candidate(1), _candidate(2)]
    found = front.Front("ms", points, points, {"cdnet": _candidate(3)})
    series = front_picture.searched(found)
    assert [each.label for each in series] == ["compared", "front", "cdnet"]
    assert series[2].scores == [[3.0]] and series[2].costs == [1.5]
    path = run_dir / "front.png"
    front_picture.draw(path, {"searched": series}, "ms", limit=1.2)
    one = Image.open(path).size
    trained = front_picture.trained(
        {"1": front_picture.Scored(0.5, [0.02])},
        {"osnet": front_picture.Scored(1.5, [0.03, 0.05])},
    )
    assert trained[1].scores == [[3.0, 5.0]]
    panels = {"searched": series, "trained": trained}
    front_picture.draw(path, panels, "ms")
    assert Image.open(path).size == (2 * one[0], one[1])
