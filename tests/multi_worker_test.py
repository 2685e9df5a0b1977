"""Several workers over loopback equal one process, and wrong set-ups are refused."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from cdnet_tf.data import datasets, pipeline
from cdnet_tf.learn import distributed, training_log
from cdnet_tf.nn import genotype
from cdnet_tf.pedestrians import writer

_ROOT = pathlib.Path(__file__).parent.parent
_TWO = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


def _config(**changes):
    return json.dumps({**_TWO, **changes})


# Who is there


def test_workers_and_their_order():
    assert distributed.read_config(_config()) == (["a:1", "b:2"], 1)
    both = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    hosts = ["c:3", "a:1", "b:2"]
    for job, index, number in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        text = _config(cluster=both, task={"type": job, "index": index})
        assert distributed.read_config(text) == (hosts, number)


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
        distributed.read_config(text)


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
    config = distributed.slurm_config()
    assert config["cluster"] == {"worker": hosts}
    assert distributed.read_config(json.dumps(config)) == (hosts, 2)


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
        distributed.slurm_config()


def test_no_cluster_is_named(slurm):
    with pytest.raises(ValueError, match="neither TF_CONFIG nor .* start with srun"):
        distributed.connect()


def test_one_machine_is_its_own_chief():
    strategy = tf.distribute.get_strategy()
    assert distributed.place(strategy) == (0, 1)
    dataset, model = tf.data.Dataset.range(1), tf.keras.Sequential()
    assert distributed.feed(strategy, dataset) is dataset
    assert distributed.local_copy(strategy, model) is model
    with pytest.raises(tf.errors.InternalError), distributed.guarded(strategy):
        raise tf.errors.InternalError(None, None, "of one machine")


# What is done with an error

_RESET = "Collective ops is aborted by: Connection reset by peer, port 4711"


@pytest.fixture
def fail(monkeypatch):
    """Lets the first of two workers fail; returns the error, or how it restarts."""
    monkeypatch.delenv(distributed._LAST_LOSS, raising=False)
    monkeypatch.setattr(distributed, "place", lambda strategy: (0, 2))

    def start_again(restarts):
        raise SystemExit(f"again, --restarts={restarts}")

    monkeypatch.setattr(distributed, "_start_again", start_again)

    def fail(kind, message, iterations=6, restarts=2):
        try:
            with distributed.guarded(None, restarts):
                with distributed.noting_step(tf.Variable(iterations)):
                    raise kind(None, None, message)
        except (RuntimeError, SystemExit, tf.errors.OpError) as error:
            return error

    return fail


def test_lost_workers_error_is_printed_before_the_restart(fail, capsys):
    error = fail(tf.errors.UnavailableError, _RESET)
    assert str(error) == "again, --restarts=1"
    printed = capsys.readouterr().out
    assert "The error at step 7 that ended the common training:\nUnav" in printed
    assert printed.index(_RESET) < printed.index("Starting again, to wait for it.")


def test_without_restarts_the_error_is_printed_and_what_to_do(fail, capsys):
    error = fail(tf.errors.UnavailableError, _RESET, restarts=0)
    assert "Another worker was lost" in str(error)
    assert isinstance(error.__cause__, tf.errors.UnavailableError)
    assert _RESET in capsys.readouterr().out


def test_same_error_at_the_same_step_is_given_up(fail):
    kind = tf.errors.UnavailableError
    assert isinstance(fail(kind, _RESET), SystemExit)
    assert isinstance(fail(kind, _RESET, iterations=7), SystemExit)
    assert isinstance(fail(tf.errors.AbortedError, _RESET, iterations=7), SystemExit)
    # Another port is the same error.
    error = fail(tf.errors.AbortedError, _RESET.replace("4711", "99"), iterations=7)
    assert "The same error came at step 8 before the last restart" in str(error)
    assert isinstance(error.__cause__, tf.errors.AbortedError)


@pytest.mark.parametrize(
    "message, is_own",
    [
        ("Failed copying input tensor: Dst tensor is not initialized.", True),
        ("cuDNN launch failure : input shape ([8,64,1,1])", True),
        ("CUDA runtime implicit initialization failed. Status: out of memory", True),
        ("NCCL: unhandled cuda error. Set NCCL_DEBUG=WARN for detail", False),
        (_RESET, False),
        ("Something that nobody has seen", False),
    ],
)
def test_error_of_a_device_is_no_lost_worker(fail, message, is_own):
    error = fail(tf.errors.InternalError, message)
    assert isinstance(error, tf.errors.InternalError if is_own else SystemExit)


def _in_a_graph(cause):
    return (
        "Graph execution error:\n\nDetected at node 'MatMul' defined at (most recent "
        'call last):\n    File "/srv/peer/cuda/step.py", line 7, in <module>\n'
        f"Node: 'MatMul'\n{cause}\n\t [[{{{{node MatMul}}}}]] on /job:worker/task:1"
    )


@pytest.mark.parametrize(
    "cause, is_own",
    [("CUDA error: out of memory", True), (_RESET, False), ("unheard of", False)],
)
def test_cause_stands_below_the_first_line_of_an_error_in_a_graph(fail, cause, is_own):
    error = fail(tf.errors.InternalError, _in_a_graph(cause))
    assert isinstance(error, tf.errors.InternalError if is_own else SystemExit)


def test_other_causes_in_a_graph_are_other_errors(fail):
    for cause in ("Timed out", _RESET):
        assert isinstance(fail(tf.errors.InternalError, _in_a_graph(cause)), SystemExit)
    again = fail(tf.errors.InternalError, _in_a_graph(_RESET.replace("4711", "99")))
    assert "The same error came at step 7" in str(again)


def test_own_folder_is_a_copy_of_what_is_whole(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    for name in ("checkpoint/checkpoint", "alpha.csv", ".run.7.part.json"):
        (tmp_path / name).write_text(name)
    folder = distributed.own_folder(tmp_path)
    found = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert found == {"checkpoint/checkpoint", "alpha.csv"}
    assert not list(distributed.own_folder(tmp_path / "new").iterdir())


# Who reads what


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pedestrians"
    writer.write_pedestrians(
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


def _arguments(program, data_dir, run_dir, **more):
    values = {**_SIZE, "epochs": 2, "data_dir": data_dir, "run_dir": run_dir, **more}
    return [
        "-m",
        f"cdnet_tf.{program}",
        *(f"--{name}={v}" for name, v in values.items()),
    ]


def _start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def _addresses():
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]


def _start_worker(index, hosts, *arguments):
    task = {"type": "worker", "index": index}
    config = _config(cluster={"worker": hosts}, task=task)
    return _start(*arguments, "--strategy=multi_worker", TF_CONFIG=config)


def _start_two(*arguments, second=()):
    hosts = _addresses()
    return [_start_worker(i, hosts, *arguments, *m) for i, m in enumerate(((), second))]


def _outputs(processes):
    return [process.communicate(timeout=600)[0] for process in processes]


def _finished(processes):
    outputs = _outputs(processes)
    assert [process.returncode for process in processes] == [0] * len(outputs), outputs
    return outputs


def _kill_in_epoch_2(worker):
    for line in worker.stdout:
        if line.startswith("Epoch 1/2"):  # ended, and its checkpoint is saved
            worker.send_signal(signal.SIGKILL)
            break
    worker.communicate()


def _undisturbed(arguments):
    return "", *_finished(_start_two(*arguments))


def _one_started_again(arguments):
    """Kills and restarts a worker, for which the other one waits."""
    hosts, arguments = _addresses(), [*arguments, "--restarts=1"]
    first, second = (_start_worker(i, hosts, *arguments) for i in range(2))
    _kill_in_epoch_2(second)
    printed = _finished([first, _start_worker(1, hosts, *arguments)])
    before, after = printed[0].split("Starting again, to wait for it.")
    return before, after, printed[1]


@pytest.fixture(
    scope="module",
    params=[("search", _undisturbed), ("train", _one_started_again)],
    ids=lambda param: param[0],
)
def runs(request, data_dir, tmp_path_factory):
    """Runs a program in one process and in two; a training's worker is killed.

    Returns:
      The program; the run directories; and the outputs: of the single process, of the
      chief until the kill, and of both workers from then on.
    """
    (program, by_two), folder = request.param, tmp_path_factory.mktemp("runs")
    more: dict = {"space": "cs"}
    if program == "train":
        more = {"genotype": folder / "shallow.json", "lr": 1e-3, "milestones": ""}
        shallow = genotype.Genotype((genotype.CS[0],) * 6)
        more["genotype"].write_text(shallow.to_json())
    one, two = (_arguments(program, data_dir, folder / run, **more) for run in "ab")
    alone = _start(*one, "--strategy=mirrored", "--logical_cpus=2")
    printed = *_finished([alone]), *by_two(two)
    return program, folder / "a", folder / "b", printed


def _losses(output):
    """Returns every epoch's losses from the console: {name: value}."""
    lines = [line for line in output.splitlines() if line.startswith("Epoch ")]
    return [dict(re.findall(r"(\w+) (\d+\.\d+%?)", line)) for line in lines]


def test_losses_equal_one_process(runs):
    *_, (alone, before, *after) = runs
    expected = _losses(alone)
    assert len(expected) == 2
    # Nothing is on the console before the first step, of standard error either.
    assert alone.startswith("First step ended")
    assert set(expected[0]) >= {"loss", "triplet", "accuracy"}
    assert _losses(before)[:1] == (expected[:1] if before else [])
    for output in after:
        assert ("Going on after epoch 1" in output) == bool(before)
        assert _losses(output) == expected[bool(before) :]


def test_weights_equal_one_process(runs):
    program, *folders, _ = runs
    name = {"search": "derived.keras", "train": "model.keras"}[program]
    first, second = (
        tf.keras.models.load_model(folder / name, compile=False) for folder in folders
    )
    for one, other in zip(first.trainable_weights, second.trainable_weights):
        np.testing.assert_array_equal(other, one)
    # A checkpoint holds the mean over the replicas, not what each has.
    for one, other in zip(first.non_trainable_weights, second.non_trainable_weights):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def _assert_checkpoints_equal(*folders):
    """Asserts that either run could be resumed from the other's checkpoint."""
    one, two = (
        tf.train.load_checkpoint(str(folder / "checkpoint")) for folder in folders
    )
    names = one.get_variable_to_shape_map()
    assert names == two.get_variable_to_shape_map() and len(names) > 100
    for name in (name for name in names if name.endswith("VARIABLE_VALUE")):
        expected, found = one.get_tensor(name), two.get_tensor(name)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_tables_equal_one_process(runs):
    program, one, two, _ = runs
    if program == "search":
        for name in ("alpha.csv", "choices.csv", "collapse.txt"):
            assert (two / name).read_text() == (one / name).read_text()
        found = [json.loads((r / "genotype.json").read_text()) for r in (one, two)]
        for name in ("layers", "alpha"):
            assert found[0][name] == found[1][name]
        _assert_checkpoints_equal(one, two)
    else:
        rows = [training_log.read_history(r / "history.csv") for r in (one, two)]
        for first, second in zip(*rows):
            assert {**first, "images_per_s": 0} == {**second, "images_per_s": 0}
        assert len(rows[0]) == len(rows[1]) == 2


def test_only_the_chief_writes(runs):
    program, one, two, (_, before, first, second) = runs
    assert {path.name for path in one.iterdir()} == {
        path.name for path in two.iterdir()
    }
    shown = {"search": "found genotype", "train": "rank-1"}[program]
    assert shown in first and shown not in second and shown not in before


def _ended_before_training(data_dir, run_dir, second=(), **options):
    """Returns what two workers print that share bad options, or differ in `second`."""
    arguments = _arguments("train", data_dir, run_dir, genotype="cdnet", **options)
    workers = _start_two(*arguments, second=second)
    outputs = _outputs(workers)
    assert [worker.returncode for worker in workers] == [1, 1], outputs
    assert not run_dir.exists()
    return outputs


def test_workers_with_different_flags(data_dir, tmp_path):
    message = "Worker 1 has --seed = 1, and the chief, worker 0, has 0: start all"
    for output in _ended_before_training(
        data_dir, tmp_path / "run", second=["--seed=1"]
    ):
        assert message in output


def test_workers_with_different_data(data_dir, tmp_path):
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    next((copy / "bounding_box_train").glob("0*.jpg")).unlink()
    (copy / "pedestrians.json").unlink(missing_ok=True)
    for output in _ended_before_training(
        data_dir, tmp_path / "run", second=[f"--data_dir={copy}"]
    ):
        assert re.search(r"Worker 1 has train data = .*'images': \d+", output)


def test_batch_that_does_not_divide(data_dir, tmp_path):
    for output in _ended_before_training(data_dir, tmp_path / "run", batch_size=12):
        assert "batch_size=12 does not give each of 2 replica(s) the same" in output
