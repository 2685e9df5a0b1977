"""Several workers over loopback equal one process; what keeps wrong set-ups out."""

import csv
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import datasets, pedestrians, pipeline
from cdnet_tf.learn import cluster, training_log
from cdnet_tf.nn import genotype

_ROOT = pathlib.Path(__file__).parent.parent
_TWO = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def _config(**changes):
    return json.dumps({**_TWO, **changes})


# Who is there


def test_workers_and_their_order():
    assert cluster.read_config(_config()) == (["a:1", "b:2"], 1)
    both = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    hosts = ["c:3", "a:1", "b:2"]
    for job, index, number in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = _config(cluster=both, task={"type": job, "index": index})
        assert cluster.read_config(text) == (hosts, number)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{'cluster'", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'cluster'"),
        (json.dumps({"cluster": _TWO["cluster"]}), "KeyError: 'task'"),
        (_config(task={"type": "worker", "index": "b"}), "invalid literal"),
        (_config(task={"type": "worker", "index": 2}), "task 'worker' 2 is not in the"),
        (_config(task={"type": "chief", "index": 0}), "task 'chief' 0 is not in the"),
        (_config(cluster={"ps": ["a:1"]}), "jobs must be `worker`"),
        (_config(cluster={"chief": ["a:1", "b:2"]}), "jobs must be `worker`"),
        (_config(cluster={"worker": ["a", "b:2"]}), "'a' is no host:port"),
        (_config(cluster={"worker": ["a:1", "a:1"]}), "'a:1' is no host:port of one"),
    ],
)
def test_bad_tf_config(text, message):
    with pytest.raises(ValueError, match=f"TF_CONFIG=.*{message}.*; set it as in"):
        cluster.read_config(text)


@pytest.fixture
def slurm(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", value)

    return set_variables


_STEP = {"JOB_ID": "40007", "PROCID": "2", "STEP_NUM_TASKS": "3"}
_STEP |= {"STEP_NODELIST": "n[9-10]", "STEP_TASKS_PER_NODE": "2,1"}


def test_slurm_step_in_slurms_order(slurm):
    slurm(**_STEP)
    # Ranks 0 and 1 on n9, rank 2 on n10; 10000 + 40007 mod 20000.
    hosts = ["n9:10007", "n9:10008", "n10:10007"]
    config = cluster.slurm_config()
    assert config["cluster"] == {"worker": hosts}
    assert cluster.read_config(json.dumps(config)) == (hosts, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"STEP_NODELIST": "n[9-"},
        {"STEP_TASKS_PER_NODE": "2"},
        {"STEP_NUM_TASKS": "4"},
        {"PROCID": "?"},
    ],
)
def test_bad_slurm_step(slurm, change):
    slurm(**_STEP | change)
    with pytest.raises(ValueError, match="Slurm step's variables .*'SLURM_JOB_ID'"):
        cluster.slurm_config()


def test_no_cluster_is_named(slurm):
    with pytest.raises(ValueError, match="neither TF_CONFIG nor .* start with srun"):
        cluster.connect()


def test_one_machine_is_its_own_chief():
    strategy = tf.distribute.get_strategy()
    assert cluster.place(strategy) == (0, 1)
    dataset, model = tf.data.Dataset.range(1), tf.keras.Sequential()
    assert cluster.feed(strategy, dataset) is dataset
    assert cluster.local_copy(strategy, model) is model
    with pytest.raises(tf.errors.InternalError), cluster.guarded(strategy):
        raise tf.errors.InternalError(None, None, "of one machine")


def test_own_folder_is_a_copy_of_what_is_whole(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    for name in ("checkpoint/checkpoint", "alpha.csv", "run.json.part"):
        (tmp_path / name).write_text(name)
    folder = cluster.own_folder(tmp_path)
    found = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert found == {"checkpoint/checkpoint", "alpha.csv"}
    assert not list(cluster.own_folder(tmp_path / "new").iterdir())


# Who reads what


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    pedestrians.write_pedestrians(
        folder, train_identities=8, test_identities=4, height=64, width=32
    )
    return folder


def _first(images, share):
    batches = pipeline.search_batches(
        images,
        identities_per_batch=4,
        images_per_id=4,
        seed=0,
        epochs=1,
        height=64,
        width=32,
        share=share,
    )
    return tf.nest.flatten(next(iter(batches.dataset)))


def test_shares_make_up_the_batch(data_dir):
    images = datasets.read("market1501", str(data_dir)).train
    whole = _first(images, (0, 1))
    shares = [_first(images, (i, 2)) for i in range(2)]
    for expected, *parts in zip(whole, *shares):
        np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert not set(shares[0][1].numpy()) & set(shares[1][1].numpy())
    with pytest.raises(ValueError, match="=4 is not divisible by 3 workers; use 6"):
        _first(images, (0, 3))


def test_parts_of_batches_read_whole():
    dataset = tf.data.Dataset.from_tensors((tf.range(12.0), tf.range(12)))
    batches = pipeline.Batches(dataset, 1, 12)
    assert pipeline.share_of(batches, (0, 1)) is batches
    for values in next(iter(pipeline.share_of(batches, (1, 3)).dataset)):
        np.testing.assert_array_equal(values, [4, 5, 6, 7])
    with pytest.raises(ValueError, match="12 is not divisible by 5 workers; use 15"):
        pipeline.share_of(batches, (0, 5))


# Two processes

_SIZE = {"height": 64, "width": 32, "width_multiplier": 0.25, "batch_size": 16}
# Each replica drops out by itself, so equality needs none.
_RECIPES: dict = {
    "search": {
        "space": "cs",
        "w_lr": 1e-3,
        "w_lr_end": 1e-3,
        "alpha_lr": 3e-5,
        "alpha_l2": 1,
    },
    "train": {"lr": 1e-3, "milestones": ""},
}


def _arguments(data_dir, run_dir, program, **more):
    values = {**_SIZE, "dropout": 0, "epochs": 2, **_RECIPES[program]}
    values |= {"data_dir": data_dir, "run_dir": run_dir, **more}
    return [program, *(f"--{name}={value}" for name, value in values.items())]


def _start(program, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", f"cdnet_tf.{program}", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def _start_two(*arguments, second=()):
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]
    configs = [
        _config(cluster={"worker": hosts}, task={"type": "worker", "index": index})
        for index in range(2)
    ]
    options = [*arguments, "--strategy=multi_worker"]
    return [
        _start(*options, *more, TF_CONFIG=config)
        for config, more in zip(configs, ((), second))
    ]


def _outputs(processes):
    return [process.communicate(timeout=600)[0] for process in processes]


def _finished(processes):
    outputs = _outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    path = tmp_path_factory.mktemp("genotype") / "shallow.json"
    path.write_text(genotype.Genotype((genotype.CS[0],) * 6).to_json())
    return path


def _losses(output):
    """Of every epoch, from the console: {name: value}."""
    lines = [line for line in output.splitlines() if " - loss: " in line]
    return [
        {name: float(value) for name, value in re.findall(r"(\w+): (\d\S*)", line)}
        for line in lines
    ]


def _assert_same_losses(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        assert set(one) == set(other) > {"loss", "triplet", "accuracy"}
        for name in set(one) - {"images_per_s"}:
            assert one[name] == pytest.approx(other[name], rel=1e-3), name


def _alphas(run_dir):
    with open(run_dir / "alpha.csv", newline="") as file:
        return np.array([float(row["alpha"]) for row in csv.DictReader(file)])


@pytest.mark.xfail(
    reason="A step equals one process's to the last bit but one (below); after the "
    "second, a young network magnifies the difference a hundredfold in each."
)
def test_search_equals_one_process(data_dir, tmp_path):
    one, two = (_arguments(data_dir, tmp_path / run, "search") for run in "ab")
    workers = _start_two(*two)
    alone = _start(*one, "--strategy=mirrored", "--logical_cpus=2")
    outputs, expected = _finished(workers), _outputs([alone])[0]

    assert [f"Worker {i} of 2" in outputs[i] for i in range(2)] == [True, True]
    for output in outputs:
        _assert_same_losses(_losses(output), _losses(expected))
    np.testing.assert_allclose(
        _alphas(tmp_path / "b"), _alphas(tmp_path / "a"), atol=1e-5
    )
    records = [json.loads((tmp_path / r / "genotype.json").read_text()) for r in "ab"]
    assert records[0]["layers"] == records[1]["layers"]
    choices = [(tmp_path / r / "choices.csv").read_text() for r in "ab"]
    assert choices[0] == choices[1]
    # The second worker tells of no results, and left no files.
    assert "results" in outputs[0] and "results" not in outputs[1]
    names = [{path.name for path in (tmp_path / r).iterdir()} for r in "ab"]
    assert names[0] == names[1]


def test_killed_worker_ends_the_others_and_all_go_on(data_dir, shallow, tmp_path):
    arguments = _arguments(data_dir, tmp_path / "b", "train", genotype=shallow)
    workers = _start_two(*arguments)
    for line in workers[1].stdout:
        if line.startswith("Epoch 2/2"):
            workers[1].send_signal(signal.SIGKILL)
            break
    output = _outputs(workers)[0]
    assert workers[0].returncode not in (0, None)
    assert "Another worker was lost" in output
    assert not (tmp_path / "b" / "evaluation.json").exists()

    outputs = _finished(_start_two(*arguments))
    assert all("Going on after epoch 1" in output for output in outputs)
    rows = training_log.read_history(tmp_path / "b" / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    # What the chief saw before it was killed, it did not see again.
    assert rows[0]["loss"] == pytest.approx(_losses(output)[0]["loss"], abs=1e-3)
    assert (tmp_path / "b" / "evaluation.json").exists()


def test_a_step_equals_one_process(shallow, tmp_path):
    # 8 people of 4 images, 8 x 4 in a batch: an epoch of one step.
    few = {"train_identities": 8, "test_identities": 4, "height": 64, "width": 32}
    pedestrians.write_pedestrians(
        tmp_path / "data", cameras=2, images_per_camera=2, **few
    )
    recipe = {"genotype": shallow, "batch_size": 32, "epochs": 1}
    one, two = (
        _arguments(tmp_path / "data", tmp_path / r, "train", **recipe) for r in "ab"
    )
    workers = _start_two(*two)
    alone = _start(*one, "--strategy=mirrored", "--logical_cpus=2")
    _finished(workers)
    _outputs([alone])
    networks = [
        tf.keras.models.load_model(tmp_path / r / "model.keras", compile=False)
        for r in "ab"
    ]
    for first, second in zip(*(network.get_weights() for network in networks)):
        np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-6)


def test_workers_that_differ_end_before_training(data_dir, shallow, tmp_path):
    arguments = _arguments(data_dir, tmp_path / "run", "train", genotype=shallow)
    workers = _start_two(*arguments, second=["--seed=1"])
    outputs = _outputs(workers)
    for worker, output in zip(workers, outputs):
        assert worker.returncode == 1
        assert "Worker 1 has --seed = 1, and the chief, worker 0, has 0" in output
    assert not (tmp_path / "run").exists()
