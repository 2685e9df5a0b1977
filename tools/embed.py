"""Embeds millions of images into Parquet files, which a gallery loads.

The work is an Apache Beam pipeline. It runs in this process, in several processes of
this machine (--processes), or where --runner says; options of the runner stand after
`--`. Started again, the program writes the shards that are missing.
docs/bulk_embedding.md says more.

python tools/embed.py --input=crops --camera=door --output=runs/embedded \
    --model=market1501/cdnet_x0_25_int8

python tools/embed.py --input=gs://people/2026/ --output=gs://people/embedded \
    --model=market1501/cdnet_x0_25_int8 --runner=PortableRunner -- \
    --job_endpoint=localhost:8099 --environment_type=LOOPBACK
"""

from __future__ import annotations

import datetime
import os
import sys

from absl import app, flags, logging
from tqdm.auto import tqdm

try:
    from apache_beam.options.pipeline_options import (
        DirectOptions,
        PipelineOptions,
        WorkerOptions,
    )
except ImportError as error:
    sys.exit(
        f"Bulk embedding needs Beam ({error}): run pip install '.[beam]' in the "
        "checkout."
    )

from cdnet_tf import recipes
from cdnet_tf.bulk import images, pipeline, plan, summary
from cdnet_tf.deploy import identity

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "A folder of images; or a pattern in quotes, in which ** stands for any characters "
    "and * for characters without a slash. With --layout: the folder of the data set.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the Parquet files.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A .tflite file, or whatever else cdnet_tf.load takes, except a URL. All machines "
    "must have the file at the same path; a name of shipped weights works everywhere.",
)
_LAYOUT = flags.DEFINE_enum(
    "layout",
    None,
    images.LAYOUTS,
    "The kind of data set that --input holds, if it is one; docs/own_data.md describes "
    "folders and csv.",
)
_SPLITS = flags.DEFINE_list(
    "splits", ["gallery"], "With --layout: the splits to embed."
)
_CAMERA = flags.DEFINE_string(
    "camera",
    None,
    "The camera of all images. Default: the data set's, that of --name_pattern, or "
    "that of names like 0001_c3s1_000151_01.jpg.",
)
_TIME = flags.DEFINE_string(
    "time",
    None,
    "The time of all images, such as 2026-01-05T07:00:00+01:00. Default: that of "
    "--name_pattern, or of the file's last change.",
)
_NAME_PATTERN = flags.DEFINE_string(
    "name_pattern",
    None,
    "Regular expression that finds the groups camera, time and track, or some of them, "
    r"in a path below --input: '^(?P<camera>\w+)/(?P<time>\d{14})_'.",
)
_TIME_FORMAT = flags.DEFINE_string(
    "time_format",
    None,
    "Format of the group time, such as %Y%m%d%H%M%S. A time without a zone is UTC.",
)
_KEY_PREFIX = flags.DEFINE_string(
    "key_prefix",
    None,
    "The key of a row is this prefix and the path below --input. Default: --input "
    "itself, so that keys are paths.",
)
_SHARD_IMAGES = flags.DEFINE_integer(
    "shard_images", 1000, "Images in each Parquet file.", 1
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 1, "Processes to start on this machine, with DirectRunner.", 1
)
_THREADS = flags.DEFINE_integer(
    "threads",
    None,
    "Threads in which a process embeds. Default: one for each core if one process does "
    "all the work on this machine, otherwise 1.",
    1,
)
_RUNNER = flags.DEFINE_string(
    "runner", "DirectRunner", "The Beam runner that runs the pipeline, by its name."
)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.ERROR)  # Beam tells of its every step.
    options = _options(argv[1:])
    try:
        network = identity.of_file(identity.find(_MODEL.value))
        job = plan.open_plan(
            _OUTPUT.value, _settings(), network, _SHARD_IMAGES.value, _images
        )
        _run(job, options)
        print(summary.of(job))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def _options(given: list[str]) -> PipelineOptions:
    if given and not given[0].startswith("-"):
        raise app.UsageError(
            f"Unknown argument {given[0]!r}; quote patterns, and write options of the "
            "runner after --."
        )
    options = PipelineOptions(given, runner=_RUNNER.value)
    if _PROCESSES.value > 1:
        if not _is_direct():
            raise app.UsageError("--processes is for DirectRunner; leave it out.")
        local = options.view_as(DirectOptions)
        local.direct_running_mode = "multi_processing"
        local.direct_num_workers = _PROCESSES.value
    worker = options.view_as(WorkerOptions)
    worker.default_sdk_harness_log_level = (
        worker.default_sdk_harness_log_level or "ERROR"
    )
    return options


def _is_direct() -> bool:
    return _RUNNER.value == "DirectRunner"


def _run(job: plan.Plan, options: PipelineOptions) -> None:
    alone = _is_direct() and _PROCESSES.value == 1
    threads = _THREADS.value or (None if alone else 1)
    left = sum(job.sizes[shard] for shard in job.missing())
    done = sum(job.sizes) - left
    with tqdm(total=sum(job.sizes), initial=done, unit="image", smoothing=0) as bar:

        def show(shards: int, images: int) -> None:
            # A log gets a line when a shard is done, a terminal a clock that moves.
            if images > bar.n or sys.stderr.isatty():
                text = f"{shards} of {len(job.sizes)} shards"
                bar.set_postfix_str(text, refresh=False)
                bar.update(images - bar.n)

        pipeline.run(job, _MODEL.value, threads, options, progress=show)


def _settings() -> dict:
    """The flags that decide which images there are, and what is known of them."""
    chosen = (_INPUT, _LAYOUT, _SPLITS, _CAMERA, _TIME, _NAME_PATTERN, _TIME_FORMAT)
    return {flag.name: flag.value for flag in (*chosen, _KEY_PREFIX)}


def _images() -> list[images.Image]:
    labels = images.Labels(
        _CAMERA.value,
        _moment(_TIME.value),
        _NAME_PATTERN.value,
        _TIME_FORMAT.value,
        _KEY_PREFIX.value,
    )
    if _LAYOUT.value is None:
        return images.of_files(_INPUT.value, labels)
    return images.of_data_set(_LAYOUT.value, _INPUT.value, _SPLITS.value, labels)


def _moment(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    # Python 3.10 does not know the Z of UTC.
    time = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError(f"--time={text} has no time zone; write {text}+00:00 for UTC.")
    return time


def _main_and_leave(argv: list[str]) -> None:
    main(argv)
    # Beam leaves threads behind, and they abort some interpreters on their exit.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "output", "model"])
    app.run(_main_and_leave, flags_parser=recipes.parse)
