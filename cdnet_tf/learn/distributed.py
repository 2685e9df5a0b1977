"""One training on several machines: finding the workers, comparing them, feeding them.

Every worker runs the same program with the same flags. They find each other by
`TF_CONFIG`, TensorFlow's convention, or by the variables that Slurm sets. Only worker
0, the chief, writes to the run directory. Each other worker has a temporary folder.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from cdnet_tf.learn import peers

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# Errors of a collective whose peer is gone. A GPU's own faults are InternalErrors, too;
# the two patterns tell them apart by their words.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
_OF_A_DEVICE = re.compile(
    r"cuda|cudnn|blas|dst tensor|ptxas|libdevice|\bxla\b|out of memory", re.IGNORECASE
)
_OF_A_PEER = re.compile(
    r"collective ops|grpc|nccl|remote target|socket|connection|heartbeat|peer",
    re.IGNORECASE,
)
_LAST_LOSS = "CDNET_LAST_LOSS"  # environment variable that survives a restart
_NOTED = 4000  # characters of an error that it keeps


def connect(limit_s: float = 3600.0) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for the other workers, and returns their strategy. Call before any tensor.

    Without `TF_CONFIG`, this sets it from Slurm's variables.

    Args:
      limit_s: seconds to wait.

    Raises:
      ValueError: neither TF_CONFIG nor Slurm describes a cluster with this worker.
      TimeoutError: another worker was not started in time.
      OSError: this worker's port is in use.
    """
    if not os.environ.get("TF_CONFIG"):
        if "SLURM_STEP_NODELIST" not in os.environ:
            raise ValueError(
                "strategy=multi_worker finds neither TF_CONFIG nor the variables of a "
                f"Slurm step; start with srun, or set TF_CONFIG='{_EXAMPLE}' with an "
                "index for each worker."
            )
        os.environ["TF_CONFIG"] = json.dumps(slurm_config())
    workers, index = read_config(os.environ["TF_CONFIG"])
    print(f"Worker {index} of {len(workers)}: waiting for the others.", flush=True)
    peers.wait(workers, index, limit_s)
    # TensorFlow would wait without limit for a worker that was seen and ends now. It
    # holds Python's lock meanwhile, and only this timer works without that lock.
    file = sys.__stderr__ or 2
    faulthandler.dump_traceback_later(max(limit_s, 60), exit=True, file=file)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        faulthandler.cancel_dump_traceback_later()


def read_config(text: str) -> tuple[list[str], int]:
    """Returns the workers' addresses in order, chief first, and this worker's number.

    Args:
      text: of TF_CONFIG.

    Raises:
      ValueError: it does not parse, or does not hold a cluster with this worker in it.
    """
    try:
        config = json.loads(text)
        cluster = {job: list(hosts) for job, hosts in config["cluster"].items()}
        job, index = config["task"]["type"], int(config["task"]["index"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _bad(text, f"{type(error).__name__}: {error}") from error
    if not set(cluster) <= {"chief", "worker"} or len(cluster.get("chief", "1")) != 1:
        raise _bad(text, "the cluster's jobs must be `worker`, with or without a chief")
    workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
    for address in workers:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdigit() or workers.count(address) > 1:
            raise _bad(text, f"{address!r} is no host:port of one worker alone")
    if not 0 <= index < len(cluster.get(job, [])):
        raise _bad(text, f"task {job!r} {index} is not in the cluster")
    return workers, index + (len(cluster.get("chief", [])) if job == "worker" else 0)


def _bad(text: str, reason: str) -> ValueError:
    return ValueError(f"TF_CONFIG={text!r}: {reason}; set it as in {_EXAMPLE}.")


def slurm_config() -> dict[str, Any]:
    """Returns the content of TF_CONFIG, made from the variables of a Slurm step.

    Hosts stand in Slurm's order, with a node's tasks side by side, as with Slurm's
    default `--distribution=block`. TensorFlow's resolver would sort them by letters
    (n10 before n9), and ranks would not fit the addresses. A worker uses all GPUs that
    it sees. The ports depend on the job's number, so that two jobs may share a node.

    Raises:
      ValueError: a variable is missing or does not parse.
    """
    try:
        port = 10_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        # The resolver demands numbers of GPUs; with auto_set_gpu=False it ignores them.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        index = int(os.environ["SLURM_PROCID"])
        hosts = resolver._task_configuration
    except (AssertionError, KeyError, RuntimeError, ValueError) as error:
        found = {k: v for k, v in sorted(os.environ.items()) if k.startswith("SLURM_")}
        raise ValueError(
            f"The Slurm step's variables do not describe its tasks ({error!r}); start "
            f"every worker with srun, or set TF_CONFIG. There are {found}."
        ) from error
    workers = [f"{host}:{port + i}" for host, n in hosts.items() for i in range(n)]
    return {
        "cluster": {"worker": workers},
        "task": {"type": "worker", "index": index},
    }


def place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Returns this worker's number and how many there are; (0, 1) on one machine."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    workers, index = read_config(os.environ["TF_CONFIG"])
    return index, len(workers)


def agree(strategy: tf.distribute.Strategy, facts: dict[str, Any]) -> None:
    """Checks that the workers are about to do the same; all of them must call it.

    Args:
      strategy: from `connect`.
      facts: values that must be the same, by name, ready for JSON.

    Raises:
      ValueError: a worker differs from the chief. Every worker raises the same error.
    """
    lines = _gather(strategy, json.dumps([place(strategy)[0], facts]))
    found = dict(json.loads(line) for line in lines)
    for number, theirs in sorted(found.items()):
        for name in sorted({*theirs, *found[0]}):
            one, other = found[0].get(name), theirs.get(name)
            if one != other:
                raise ValueError(
                    f"Worker {number} has {name} = {other!r}, and the chief, worker 0, "
                    f"has {one!r}: start all workers with the same flags on the same "
                    "data, and with a --run_dir that all of them see."
                )


def from_chief(strategy: tf.distribute.Strategy, value: Any) -> Any:
    """Returns the chief's `value` on every worker; all of them must call it.

    Args:
      strategy: from `connect`.
      value: ready for JSON. The values of the other workers are ignored.
    """
    worker, workers = place(strategy)
    if workers == 1:
        return value
    lines = _gather(strategy, json.dumps([worker, value]))
    return next(theirs for number, theirs in map(json.loads, lines) if not number)


def _gather(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """Returns the lines that all replicas have sent, in the order of the replicas."""
    # The text travels as float32, which any device can send.
    codes = tf.constant(list(f"{text}\n".encode()), tf.float32)

    @tf.function
    def gather():
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_gather(codes, 0)
        )

    everything = strategy.experimental_local_results(gather())[0].numpy()
    return bytes(everything.astype(int).tolist()).decode().splitlines()


def own_folder(run_dir: pathlib.Path) -> pathlib.Path:
    """Copies a run directory for a worker that is not the chief.

    Every worker must take part in saving and restoring, but no two may write the same
    file. The copy is removed when the program ends.

    Args:
      run_dir: the chief's, which all workers can read.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cdnet_worker_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if run_dir.exists():
        # The chief may be writing. Files under their final names are whole.
        unfinished = shutil.ignore_patterns("*.part*", "tensorboard")
        shutil.copytree(run_dir, folder, ignore=unfinished, dirs_exist_ok=True)
    return folder


def feed(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset):
    """Returns the data for `fit` from this worker's share of each batch.

    Args:
      strategy: of the training.
      dataset: this worker's share of each batch, which is split evenly over its
        devices. On one machine, `dataset` is returned as it is.
    """
    workers = place(strategy)[1]
    if workers == 1:
        return dataset
    replicas = strategy.num_replicas_in_sync // workers
    if replicas > 1:
        dataset = dataset.map(
            lambda *batch: tf.nest.map_structure(
                lambda x: tf.reshape(x, [replicas, -1, *x.shape[1:]]), batch
            )
        ).unbatch()
    # Endless data spare the workers asking in every step whether all have data left.
    return strategy.distribute_datasets_from_function(lambda _: dataset.repeat())


@contextlib.contextmanager
def noting_step(iterations: tf.Variable) -> Iterator[None]:
    """Notes the step in errors that a lost worker may have caused.

    Args:
      iterations: of the optimizer.
    """
    try:
        yield
    except _LOST as error:
        error.step = int(iterations.numpy()) + 1
        raise


@contextlib.contextmanager
def guarded(strategy: tf.distribute.Strategy, restarts: int = 0) -> Iterator[None]:
    """Handles the loss of another worker during the training: restarts, or explains.

    Args:
      strategy: of the training.
      restarts: how often the program may still restart itself. It then waits for the
        lost worker and resumes the run; `--restarts` is one less.

    Raises:
      RuntimeError: a worker is lost and no restart is left, or the same error came at
        the same step before the last restart. Replaces the collective's own error.
    """
    try:
        yield
    except _LOST as error:
        if place(strategy)[1] == 1 or _is_of_a_device(error):
            raise
        step = getattr(error, "step", None)
        where = "" if step is None else f" at step {step}"
        said = f"{type(error).__name__}: {error}"
        print(f"The error{where} that ended the common training:\n{said}", flush=True)
        if _came_before(step, said):
            raise RuntimeError(
                f"The same error came{where} before the last restart, so no worker was "
                "lost by chance, and another restart would not help. Repair the cause, "
                f"and start all workers again. ({type(error).__name__})"
            ) from error
        lost = "Another worker was lost, or ended with an error of its own"
        if restarts:
            print(f"{lost}. Starting again, to wait for it.", flush=True)
            _start_again(restarts - 1)
        raise RuntimeError(
            f"{lost}: see its output. Start all workers again with the same command; "
            f"the run goes on after its last whole epoch. ({type(error).__name__})"
        ) from error


def _is_of_a_device(error: tf.errors.OpError) -> bool:
    """Whether the message of an error blames this worker's device, not a peer."""
    cause = _cause(str(error.message))
    is_internal = isinstance(error, tf.errors.InternalError)
    return bool(
        is_internal and _OF_A_DEVICE.search(cause) and not _OF_A_PEER.search(cause)
    )


def _came_before(step: int | None, said: str) -> bool:
    """Whether this error at this step also caused the last restart; notes both."""
    # Digits are masked: addresses, times and tensors' numbers differ between processes.
    now = f"{step} {re.sub(r'[0-9]+', '#', _cause(said))[:_NOTED]}"
    before, os.environ[_LAST_LOSS] = os.environ.get(_LAST_LOSS), now
    return before == now


def _cause(message: str) -> str:
    """Strips the names of files and devices from a message, since they hold keywords.

    TensorFlow's error inside a function begins with `Graph execution error:` and the
    lines of code that made the operation; the cause stands below them.
    """
    lines = [line for line in message.splitlines() if not re.match(r"\s*File ", line)]
    return re.sub(r"/job:\S+", "", "\n".join(lines))


def _start_again(restarts: int) -> None:
    """Replaces this process by a fresh run of its program; its strategy is broken."""
    atexit._run_exitfuncs()
    spec = sys.modules["__main__"].__spec__
    program = ["-m", spec.name] if spec else sys.argv[:1]
    arguments = [*program, *sys.argv[1:], f"--restarts={restarts}"]
    os.execv(sys.executable, [sys.executable, *arguments])


def local_copy(strategy: tf.distribute.Strategy, model: tf.keras.Model):
    """Returns a copy of the model that needs no other worker; all must call it.

    Moving statistics are means over all replicas, so every worker must take part when
    they are read. On one machine, the model itself is returned.
    """
    if place(strategy)[1] == 1:
        return model
    copy = tf.keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
