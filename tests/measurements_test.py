"""Which of a run's evaluations are shipped, and which are not."""

import hashlib
import json

import pytest

from cdnet_tf.deploy import measurements

_CONTENT = b"the network"
_SHA256 = hashlib.sha256(_CONTENT).hexdigest()
_COUNTS = {"query": {"images": 30, "identities": 24}, "gallery": {"images": 200}}
_FITTING = {
    "scores": {"rank1": 0.5},
    "thresholds": {"rates": [0.01]},
    "camera_pairs": [],
    "flip": False,
    "model": {"sha256": _SHA256},
    "provenance": {
        "flags": {"holdout_identities": None},
        "dataset": {"name": "msmt17", "counts": _COUNTS},
    },
}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(_CONTENT)
    return path


def _evaluated(model, record, folder=""):
    path = model.parent / folder / "evaluation.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_ships_what_was_measured_on_the_network_and_says_on_what(model):
    path = _evaluated(model, _FITTING, "evaluation")
    shipped, origin = measurements.of_network(model)
    assert shipped == {
        "scores": {"rank1": 0.5},
        "thresholds": {"rates": [0.01]},
        "measured": {
            "sha256": _SHA256,
            "dataset": "msmt17",
            "query_images": 30,
            "gallery_images": 200,
            "distractors": None,
            "subset": None,
            "flip": False,
            "embedding": measurements.EMBEDDING,
        },
    }
    assert origin == f"from {path}"


def test_names_people_held_out(model):
    flags = {"flags": {"holdout_identities": 20}}
    provenance = _FITTING["provenance"] | flags
    _evaluated(model, _FITTING | {"provenance": provenance})
    shipped, _ = measurements.of_network(model)
    assert shipped["measured"]["subset"] == "24 people held out of training"


@pytest.mark.parametrize(
    "change, why",
    [
        ({"flip": True}, "--flip"),
        ({"model": {"sha256": "0" * 64}}, "measured another file"),
        ({"model": {}}, "does not say which file"),
        ({"flip": None}, "--flip"),
    ],
)
def test_ships_nothing_that_does_not_fit(model, change, why):
    path = _evaluated(model, _FITTING | change, "evaluation")
    shipped, origin = measurements.of_network(model)
    assert shipped == {}
    assert f"{path} " in origin and why in origin
    assert f"cdnet_tf.evaluate --model={model}" in origin


def test_passes_over_what_does_not_fit(model):
    _evaluated(model, _FITTING | {"flip": True}, "evaluation")
    fitting = _evaluated(model, _FITTING)
    assert measurements.of_network(model)[1] == f"from {fitting}"


def test_says_that_nothing_was_measured(model):
    shipped, origin = measurements.of_network(model)
    assert shipped == {} and "no evaluation.json stands beside" in origin


def test_a_directory_has_a_checksum_of_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = measurements.sha256(tmp_path)
    assert measurements.sha256(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert measurements.sha256(tmp_path) != first
