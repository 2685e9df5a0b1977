"""Numbered versions appear whole and once; models.config keeps its entries."""

import os

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from cdnet_tf.deploy import versions


def _parsed(config):
    return text_format.Parse(
        config.read_text(), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config


def _labels(model):
    return dict(model.version_labels)


def test_version_appears_only_when_it_is_whole(tmp_path):
    base = tmp_path / "serving" / "cdnet"
    with versions.new_version(base / "1") as folder:
        (folder / "saved_model.pb").write_text("half")
        # What a server that polls now takes for a version: numbers, nothing else.
        assert [name for name in os.listdir(base) if name.isdecimal()] == []
        (folder / "saved_model.pb").write_text("whole")
    assert os.listdir(base) == ["1"]
    assert (base / "1" / "saved_model.pb").read_text() == "whole"
    # Readable by whom a new folder is readable, as the server is another user.
    assert (base / "1").stat().st_mode == base.stat().st_mode


def test_nothing_is_left_after_a_failure(tmp_path):
    with pytest.raises(KeyboardInterrupt), versions.new_version(tmp_path / "1") as made:
        (made / "saved_model.pb").write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_version_is_never_overwritten(tmp_path):
    for taken in ("1", "2", "7", "notes", "09"):
        (tmp_path / taken).mkdir()
    with (
        pytest.raises(FileExistsError, match=r"never written twice\. Use .*/8\."),
        versions.new_version(tmp_path / "2"),
    ):
        pytest.fail("began to write")


def test_version_that_another_wrote_meanwhile_is_not_overwritten(tmp_path):
    with (
        pytest.raises(FileExistsError, match=r"Use .*/2\."),
        versions.new_version(tmp_path / "1"),
    ):
        (tmp_path / "1").mkdir()
    assert os.listdir(tmp_path) == ["1"]


@pytest.mark.parametrize("name", ["cdnet", "v1", "01", "1.0", "-1", "²"])
def test_version_is_a_number(tmp_path, name):
    (tmp_path / "3").mkdir()
    with pytest.raises(ValueError, match=r"not end in a version number.* Use .*/4\."):
        versions.check_free(tmp_path / name)


def test_first_version_is_stable_and_the_next_is_not(tmp_path):
    config = tmp_path / "models.config"
    versions.set_label(config, "cdnet", 1, "")
    versions.set_label(config, "cdnet", 2, "")
    versions.set_label(config, "cdnet", 3, "")
    (model,) = _parsed(config)
    assert (model.name, model.base_path) == ("cdnet", "/models/cdnet")
    assert model.model_platform == "tensorflow"
    assert list(model.model_version_policy.specific.versions) == [1, 2, 3]
    assert _labels(model) == {"stable": 1, "canary": 3}
    assert os.listdir(tmp_path) == ["models.config"]


def test_label_moves_when_it_is_named(tmp_path):
    config = tmp_path / "models.config"
    versions.set_label(config, "cdnet", 1, "")
    versions.set_label(config, "cdnet", 2, "stable")
    assert _labels(_parsed(config)[0]) == {"stable": 2}


def test_other_models_and_a_policy_of_ones_own_stay(tmp_path):
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "other" base_path: "/else" }\n'
        'config { name: "cdnet" base_path: "/mine"\n'
        "  model_version_policy { latest { num_versions: 2 } } } }"
    )
    versions.set_label(config, "cdnet", 5, "")
    other, model = _parsed(config)
    assert (other.name, other.base_path) == ("other", "/else")
    assert model.base_path == "/mine"
    assert model.model_version_policy.latest.num_versions == 2
    assert _labels(model) == {"stable": 5}


def test_configuration_that_cannot_be_parsed_stays_as_it_is(tmp_path):
    config = tmp_path / "models.config"
    config.write_text("model_config_list {")
    with pytest.raises(ValueError, match="models.config is not a model server's.*repa"):
        versions.set_label(config, "cdnet", 1, "")
    assert config.read_text() == "model_config_list {"
