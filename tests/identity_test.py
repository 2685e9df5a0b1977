"""A file's network has the name a person knows and the checksum of its weights."""

import hashlib
import json

import pytest

from cdnet_tf import shipped
from cdnet_tf.deploy import identity, measurements


def test_a_file_has_its_folders_name_and_its_own_checksum(tmp_path):
    (tmp_path / "found").mkdir()
    path = tmp_path / "found" / "model.keras"
    path.write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    assert identity.of_file(path) == ("found/model.keras", checksum)


def test_shipped_weights_have_the_name_and_the_checksum_of_their_record():
    for name in shipped.names():
        path = shipped.locate(name)
        record = shipped.record(path.parent / f"{path.stem.removesuffix('_int8')}.json")
        checksum = record["files"][path.name]["sha256"]
        assert identity.of_file(path) == identity.Network(name, checksum)


def _saved_model(folder, record):
    (folder / identity.RECORD).parent.mkdir(parents=True)
    (folder / identity.RECORD).write_text(record)
    return folder


def test_an_export_is_the_network_it_was_made_of(tmp_path):
    ours = _saved_model(tmp_path / "cdnet" / "1", json.dumps({"sha256": "ab" * 32}))
    assert identity.of_file(ours) == ("cdnet/1", "ab" * 32)
    other = _saved_model(tmp_path / "other" / "1", json.dumps({"height": 64}))
    assert identity.of_file(other).checksum == measurements.sha256(other)


@pytest.mark.parametrize("record", ["{", "[1]", "7"])
def test_a_broken_record_is_named(tmp_path, record):
    with pytest.raises(ValueError, match="model.json, the record .* is broken"):
        identity.of_file(_saved_model(tmp_path / "1", record))
