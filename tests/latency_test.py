"""A device's file, as a search reads it."""

import json
import subprocess
import sys

import pytest

from cdnet_tf.deploy import latency
from cdnet_tf.nn import genotype
from cdnet_tf.nn.genotype import CDS

_CDNET = genotype.load("cdnet")


def _record():
    """Block b's branch i takes 10 b + i milliseconds, the rest takes 0.5."""
    branches = [
        {str(branch): 10.0 * block + i for i, branch in enumerate(CDS)}
        for block in range(6)
    ]
    setting = {
        **latency.Setting(0.5, 128, 64)._asdict(),
        "judgement": {"accepted": True},
        "model": {"constant": 0.5, "branches": branches},
    }
    return {"device": "mine", "conditions": {"cpu": "x"}, "settings": [setting]}


def _file(tmp_path, record):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(record))
    return path


def test_a_genotype_takes_the_sum_of_its_branches(tmp_path):
    device = latency.load(_file(tmp_path, _record()))
    wanted = 0.5 + sum(
        10 * block + CDS.index(layer) for block, layer in enumerate(_CDNET.layers)
    )
    assert device.milliseconds(_CDNET, 0.5, 128, 64) == pytest.approx(wanted)
    setting = latency.Setting(0.5, 128, 64)
    assert device.name == "mine" and device.accepted == {setting: True}
    model = device.settings[setting]
    assert latency.additive(json.loads(json.dumps(model.to_json()))) == model


def test_says_at_which_settings_a_device_was_measured(tmp_path):
    device = latency.load(_file(tmp_path, _record()))
    with pytest.raises(
        ValueError, match="not measured at x1_256x128, but at x0.5_128x64"
    ):
        device.milliseconds(_CDNET)


def test_warns_of_times_that_failed_the_test(tmp_path):
    record = _record()
    record["settings"][0]["judgement"]["accepted"] = False
    device = latency.load(_file(tmp_path, record))
    with pytest.warns(UserWarning, match="mine at x0.5_128x64 are inaccurate"):
        device.milliseconds(_CDNET, 0.5, 128, 64)


def _without_a_branch(record):
    del record["settings"][0]["model"]["branches"][2]["(3,5,1)"]


def _without_a_block(record):
    record["settings"][0]["model"]["branches"].pop()


def _without_settings(record):
    record["settings"].clear()


@pytest.mark.parametrize(
    "breaks", [_without_a_branch, _without_a_block, _without_settings]
)
def test_names_a_file_that_is_none(tmp_path, breaks):
    record = _record()
    breaks(record)
    path = _file(tmp_path, record)
    with pytest.raises(ValueError, match=f"{path} holds no times of a device"):
        latency.load(path)


def test_names_the_devices_that_it_knows():
    with pytest.raises(FileNotFoundError, match="No device 'toaster': .*measure_lat"):
        latency.load("toaster")


@pytest.mark.parametrize("name", latency.names())
def test_shipped_devices_know_the_published_networks(name):
    device = latency.load(name)
    assert device.name == name
    for setting in device.settings:
        times = {
            each: device.milliseconds(genotype.load(each), *setting)
            for each in genotype.published_names()
        }
        assert 0 < times["cnet"] < times["cdnet"]
    for width in (0.25, 0.5, 1):  # Those of the shipped weights and flag files.
        assert {(width, 128, 64), (width, 256, 128)} <= set(device.settings)


def test_needs_no_tensorflow():
    code = "import sys; from cdnet_tf.deploy import latency; latency.names(); "
    code += "sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
