"""The real program, with files of a few bytes and a chip whose times are known."""

import json
import pathlib

import pytest
from absl import flags
from absl.testing import flagsaver

from cdnet_tf.deploy import exporting, latency, latency_files, npu
from cdnet_tf.nn.genotype import Genotype
from tools import measure_latency


class _Exporter:
    """Writes the genotype itself where a network's file would stand."""

    def __init__(self, setting, steps):
        self._setting = setting

    def written(self, folder, genotype):
        path = folder / latency_files.name(genotype, self._setting)
        path.write_text(genotype.to_json(factor=self._setting.width_multiplier))
        return path


def _milliseconds(genotype, factor):
    return factor * (1 + sum(r * (k1 + k2) for k1, k2, r in genotype.layers) / 50)


@pytest.fixture
def compiled(monkeypatch):
    """The files that were given to the compiler; it breaks down after some."""
    asked, left = [], [10**9]

    def compiled(path, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        asked.append(path.name)
        said = json.loads(path.read_text())
        genotype = Genotype(tuple(map(tuple, said["layers"])))
        time = _milliseconds(genotype, said["factor"])
        return b"", {"cpu_operators": [], "milliseconds": time}

    monkeypatch.setattr(npu, "compiled", compiled)
    monkeypatch.setattr(latency_files, "Exporter", _Exporter)
    return asked, left


def _run(tmp_path, *arguments):
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        output = f"--output={tmp_path / 'mine.json'}"
        flags.FLAGS(["measure", output, "--files=24", "--unseen=6", *arguments])
        return measure_latency.main(["measure"])


def test_measures_each_setting_and_draws_what_it_found(tmp_path, compiled, capsys):
    several = ["--width_multipliers=0.5,1", "--sizes=256x128,128x64"]
    assert _run(tmp_path, "--device=ethos-u65-256", *several) == 0
    device = latency.load(tmp_path / "mine.json")
    sizes = [(256, 128), (128, 64)]
    wanted = [latency.Setting(width, *size) for size in sizes for width in (0.5, 1.0)]
    assert [*device.settings] == wanted
    (genotype,) = latency_files.uniform(1, seed=9)
    for setting, accepted in device.accepted.items():
        found = device.milliseconds(genotype, *setting)
        wanted = _milliseconds(genotype, setting.width_multiplier)
        assert accepted and found == pytest.approx(wanted, rel=0.01)
    assert device.conditions["system_config"] == "Ethos_U65_Client_Server"
    assert npu.version() in device.conditions["time"]
    assert device.conditions["rewrite"] == ["pool", "shortcut", "mean"]
    row, *_ = json.loads((tmp_path / "mine.json").read_text())["settings"]
    assert len(row["fitted"]) == 24 and len(row["unseen"]) == 6
    assert row["judgement"]["files"] == 6
    assert (tmp_path / "mine.png").stat().st_size > 1000
    assert "x0.5_256x128       6       100.0%" in capsys.readouterr().out


@pytest.mark.parametrize("name", latency.names())
def test_shipped_devices_time_files_as_the_exporter_makes_them(name):
    usual = exporting.usual_rewrite("int8", for_npu=True)
    assert latency.load(name).conditions["rewrite"] == list(usual)


def test_a_killed_run_goes_on(tmp_path, compiled):
    asked, left = compiled
    left[0] = 10
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, "--device=ethos-u65-256")
    left[0] = 100
    assert _run(tmp_path, "--device=ethos-u65-256") == 0
    assert len(asked) == len(set(asked)) == 30
    with pytest.raises(measure_latency.app.UsageError, match="other conditions"):
        _run(tmp_path, "--device=ethos-u85-256")


def test_this_machine_runs_all_files_in_rounds(tmp_path, compiled, monkeypatch):
    """A runtime of our own, whose files take a millisecond for each byte."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys\nprint(json.dumps('none'), flush=True)\n"
        "for _ in sys.stdin:\n"
        "  print(json.dumps([float(os.path.getsize(f)) for f in sys.argv[1:]]), "
        "flush=True)\n"
    )
    monkeypatch.setattr(measure_latency, "_TIMER", worker)
    _run(tmp_path, "--device=litert", "--rounds=3")
    lines = (tmp_path / "mine.jsonl").read_text().splitlines()
    files = [json.loads(line)["file"] for line in lines[1:]]
    assert len(files) == 90 and files[:30] == files[30:60] and len(set(files)) == 30
    record = json.loads((tmp_path / "mine.json").read_text())
    assert record["conditions"]["threads"] == 1 and record["conditions"]["cpu"]
    assert record["conditions"]["rewrite"] == ["pool", "shortcut"]
    folder = tmp_path / "mine_files"
    sizes = sorted(float(path.stat().st_size) for path in folder.iterdir())
    (row,) = record["settings"]
    assert sorted([*row["fitted"].values(), *row["unseen"].values()]) == sizes


def test_a_phone_gets_a_script_and_its_log_is_read(tmp_path, compiled, capsys):
    phone = ["--device=benchmark_model", "--rounds=1", "--name=my-phone"]
    assert _run(tmp_path, *phone) == 0
    assert f"30 files have no times yet. Connect the device, run sh {tmp_path}" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "mine.json").exists()
    script = (tmp_path / "mine.sh").read_text()
    files = list((tmp_path / "mine_files").iterdir())
    assert all(f"\n{path.name}\n" in script for path in files)
    log = pathlib.Path(tmp_path, "mine.log")
    log.write_text(
        "".join(
            f"cdnet_tf file: {path.name}\nInference timings in us: Init: 1, "
            f"Inference (avg): {1000 * json.loads(path.read_text())['factor']}\n"
            for path in files
        )
    )
    _run(tmp_path, *phone, f"--benchmark_log={log}")
    record = json.loads((tmp_path / "mine.json").read_text())
    assert record["device"] == "my-phone"
    assert set(record["settings"][0]["fitted"].values()) == {1.0}


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--width_multipliers=wide"], "width_multipliers=wide: use numbers"),
        (["--device=u65"], "device=u65: use one of ethos-u55-32, .*, litert, bench"),
        (["--rewrite=stems"], "rewrite=stems: use some of pool, stem, shortcut, mean"),
        (["--width_multipliers=-1"], "width_multiplier=-1.0 must be positive"),
        (["--sizes=256"], "sizes=256: use HEIGHTxWIDTH"),
        (["--sizes=100x128"], "Input 100x128 is not divisible by 16"),
        (["--npu_memory_mode=RAM"], "npu_memory_mode=RAM: use Sram_Only"),
    ],
)
def test_refuses_what_cannot_be_measured(tmp_path, arguments, complaint):
    with pytest.raises(measure_latency.app.UsageError, match=complaint):
        _run(tmp_path, "--device=ethos-u65-256", *arguments)
    assert not list(tmp_path.iterdir())
