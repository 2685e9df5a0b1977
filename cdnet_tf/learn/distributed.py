"""One training on several machines: who is there, do they agree, who reads what.

Every worker runs the same program with the same flags. They find each other by
`TF_CONFIG`, TensorFlow's own convention, or by the variables that Slurm sets. Worker 0,
the chief, alone writes the run directory; the others keep their files in a folder of
their own that vanishes with them.
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
# What a collective fails with when a peer is gone. InternalError is also what a GPU
# fails with, whose words are these.
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
_LAST_LOSS = "CDNET_LAST_LOSS"  # environment variable, of a program started again
_NOTED = 4000  # characters of an error that are noted there


def connect(limit_s: float = 3600.0) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for the other workers. Call before any tensor.

    `TF_CONFIG` counts where both are set. From Slurm's variables it is made here, and
    set, in TensorFlow's own form.

    Args:
      limit_s: seconds to wait.

    Raises:
      ValueError: neither describes a cluster with this worker in it.
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
    # A worker that ends now, after it was seen, would be waited for without limit. Only
    # this timer needs no lock of Python's, which TensorFlow holds meanwhile.
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
    """What TF_CONFIG would be, from the variables of a Slurm step.

    TensorFlow's resolver sorts the hosts by their letters (n10 before n9), which Slurm
    does not, so that ranks and addresses would not belong together: the order here is
    Slurm's, with a node's tasks side by side (its default, `--distribution=block`). A
    worker takes all GPUs that Slurm lets it see. The ports come from the number of the
    job, so that two jobs may share a node.

    Raises:
      ValueError: a variable is missing or does not parse.
    """
    try:
        port = 10_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        # The GPUs stated are not: it cannot do without, and hands out none here.
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
    """The number of this worker and how many there are; (0, 1) on one machine."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    workers, index = read_config(os.environ["TF_CONFIG"])
    return index, len(workers)


def agree(strategy: tf.distribute.Strategy, facts: dict[str, Any]) -> None:
    """Compares what the workers are about to do; all of them must call it.

    Args:
      strategy: of `connect`.
      facts: what must be the same, by name; JSON.

    Raises:
      ValueError: on every worker alike, if one differs from the chief.
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
    """What the chief has given, on every worker; all of them must call it.

    Args:
      strategy: of `connect`.
      value: JSON; what workers give that are not the chief does not matter.
    """
    worker, workers = place(strategy)
    if workers == 1:
        return value
    lines = _gather(strategy, json.dumps([worker, value]))
    return next(theirs for number, theirs in map(json.loads, lines) if not number)


def _gather(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """The lines that all replicas have sent, in their order."""
    # As numbers of a type that any device can send.
    codes = tf.constant(list(f"{text}\n".encode()), tf.float32)

    @tf.function
    def gather():
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_gather(codes, 0)
        )

    everything = strategy.experimental_local_results(gather())[0].numpy()
    return bytes(everything.astype(int).tolist()).decode().splitlines()


def own_folder(run_dir: pathlib.Path) -> pathlib.Path:
    """A copy of a run directory for a worker that is not the chief.

    Every worker must take part in saving and restoring, but two may not write the same
    file. The copy is removed when the program ends.

    Args:
      run_dir: of the chief, seen by all workers.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cdnet_worker_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if run_dir.exists():
        # The chief may be writing; what it has renamed is whole.
        unfinished = shutil.ignore_patterns("*.part*", "tensorboard")
        shutil.copytree(run_dir, folder, ignore=unfinished, dirs_exist_ok=True)
    return folder


def feed(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset):
    """What `fit` is to be given: on several machines, each has read its own share.

    Args:
      strategy: of the training.
      dataset: of this worker's share of each batch, which is split evenly over the
        worker's own devices. On one machine it is given back as it is.
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
    # Without an end there is no asking, in every step, whether all have data left.
    return strategy.distribute_datasets_from_function(lambda _: dataset.repeat())


@contextlib.contextmanager
def noting_step(iterations: tf.Variable) -> Iterator[None]:
    """Gives an error that may be a lost worker's the step at which it came.

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
    """What a worker does when another is lost in the middle.

    Args:
      strategy: of the training.
      restarts: how often the program may start itself again, with the flag `--restarts`
        one less, to wait for the lost worker and go on with it.

    Raises:
      RuntimeError: without restarts, or if the same error came at the same step as
        before the last restart; in place of the collective's own error.
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
                f"The same error came{where} before the last restart, so it is not a "
                "worker lost by chance, and another restart would not help. Repair its "
                f"cause, and start all workers again. ({type(error).__name__})"
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
    """Whether an error is this program's own, as far as its message shows that."""
    cause = _cause(str(error.message))
    is_internal = isinstance(error, tf.errors.InternalError)
    return bool(
        is_internal and _OF_A_DEVICE.search(cause) and not _OF_A_PEER.search(cause)
    )


def _came_before(step: int | None, said: str) -> bool:
    """Whether this error at this step also caused the restart before; notes both."""
    # Addresses, times and numbers of tensors differ from one process to the next.
    now = f"{step} {re.sub(r'[0-9]+', '#', _cause(said))[:_NOTED]}"
    before, os.environ[_LAST_LOSS] = os.environ.get(_LAST_LOSS), now
    return before == now


def _cause(message: str) -> str:
    """A message without files and devices, whose names speak of workers, too.

    TensorFlow's error inside a function begins with `Graph execution error:` and the
    lines of code that made the operation; the cause stands below them.
    """
    lines = [line for line in message.splitlines() if not re.match(r"\s*File ", line)]
    return re.sub(r"/job:\S+", "", "\n".join(lines))


def _start_again(restarts: int) -> None:
    """This process becomes the same program anew: the old one's strategy is broken."""
    atexit._run_exitfuncs()
    spec = sys.modules["__main__"].__spec__
    program = ["-m", spec.name] if spec else sys.argv[:1]
    arguments = [*program, *sys.argv[1:], f"--restarts={restarts}"]
    os.execv(sys.executable, [sys.executable, *arguments])


def local_copy(strategy: tf.distribute.Strategy, model: tf.keras.Model):
    """The model, free of the other workers; all of them must call it.

    Moving statistics are a mean over all replicas, so to read them takes every worker.
    On one machine it is the model itself.
    """
    if place(strategy)[1] == 1:
        return model
    copy = tf.keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
