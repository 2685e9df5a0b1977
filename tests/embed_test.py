"""Bulk embedding by Beam: whole shards, errors as rows, restarts, and the gallery."""

from __future__ import annotations

import datetime
import pathlib
import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.worker import worker_pool_main
from pyarrow import parquet

import cdnet_tf
from cdnet_tf.bulk import embedding, files, images, pipeline, plan, summary
from cdnet_tf.deploy.identity import Network
from cdnet_tf.gallery import parquet as gallery_parquet
from tests import tiny

_MODEL = "market1501/cdnet_x0_25_int8"
_TOOL = pathlib.Path(__file__).resolve().parents[1] / "tools" / "embed.py"
_TIME = datetime.datetime(2026, 1, 5, 7, tzinfo=datetime.timezone.utc)


@pytest.fixture
def crops(tmp_path):
    """Five images, the third of which is none."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for number, pixels in enumerate(tiny.images(5)):
        file = folder / f"{number}.png"
        PIL.Image.fromarray(pixels).save(file)
    (folder / "2.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def embedder():
    return embedding.opened(_MODEL, 1)


def _planned(crops, embedder, **settings):
    labels = images.Labels(camera="door", time=_TIME, key_prefix="")
    return plan.open_plan(
        str(crops.parent / "out"),
        settings,
        embedder.network,
        2,
        lambda: images.of_files(str(crops), labels),
    )


def _run(job, *options):
    told = []
    given = PipelineOptions([*options])
    pipeline.run(job, _MODEL, 1, given, lambda *done: told.append(done))
    return told


def test_direct_runner_writes_what_the_gallery_loads(crops, embedder, tmp_path):
    job = _planned(crops, embedder)
    assert _run(job)[-1] == (3, 5)
    rows = parquet.read_table(job.folder + "/part-00001-of-00003.parquet").to_pylist()
    assert [row["key"] for row in rows] == ["2.png", "3.png"]
    path = f"{crops}/2.png"
    assert rows[0]["embedding"] is None and rows[0]["picture_path"] == path
    assert rows[0]["error"] == f"{path} (no whole JPEG or PNG file)"
    assert rows[1]["error"] is None and rows[1]["camera"] == "door"
    assert "5 images in 3 shards, 1 of them without" in summary.of(job)
    good = [crops / f"{number}.png" for number in (0, 1, 3, 4)]
    wanted = cdnet_tf.load(_MODEL)(good)
    with cdnet_tf.Gallery(tmp_path / "gallery") as gallery:
        assert gallery.add_parquet(job.folder) == 4
        assert gallery.add_parquet(job.folder) == 0
        assert gallery.settings.network == embedder.network
        for file, row in zip(good, wanted):
            (match,) = gallery.search(row, 1, network=embedder.network)
            assert match.key == file.name and match.distance < 1e-3
            assert match.time == _TIME and match.picture == str(file)
    (tmp_path / "out" / "part-00001-of-00003.parquet").unlink()
    with cdnet_tf.Gallery(tmp_path / "other") as gallery:
        with pytest.raises(ValueError, match="lacks 1 of 3 shards"):
            gallery.add_parquet(job.folder)
    other = Network("another", "0" * 64)
    with cdnet_tf.Gallery(tmp_path / "other", network=other) as gallery:
        with pytest.raises(ValueError, match="cannot be compared"):
            gallery.add_parquet(f"{job.folder}/part-00000-of-00003.parquet")


def test_a_job_that_is_started_again_does_what_is_missing(crops, embedder):
    job = _planned(crops, embedder)
    _run(job)
    paths = [pathlib.Path(job.path(shard)) for shard in range(3)]
    before = [path.read_bytes() for path in paths]
    paths[1].unlink()
    kept = [paths[shard].stat().st_ino for shard in (0, 2)]
    # What came since is left to another job, and what is gone was done before.
    (crops / "0.png").rename(crops / "new.png")
    again = _planned(crops, embedder)
    assert again == job and again.missing() == [1]
    _run(again)
    assert [path.read_bytes() for path in paths] == before
    assert [paths[shard].stat().st_ino for shard in (0, 2)] == kept
    assert _run(again) == []


def test_a_process_of_its_own_writes_the_same(crops, embedder):
    job = _planned(crops, embedder)
    _run(job)
    path = pathlib.Path(job.path(1))
    before = path.read_bytes()
    path.unlink()
    mode = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    _run(job, *mode, "--default_sdk_harness_log_level=ERROR")
    assert path.read_bytes() == before


def test_refuses_a_folder_that_was_begun_otherwise(crops, embedder):
    _planned(crops, embedder, input="a")
    with pytest.raises(ValueError, match="begun with input='a' and not 'b'"):
        _planned(crops, embedder, input="b")
    job = _planned(crops, embedder, input="a")
    files_there = pathlib.Path(job.folder)
    (files_there / "plan.parquet").rename(files_there / "part-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="no plan.parquet"):
        _planned(crops, embedder, input="a")


def test_writes_no_shard_when_the_images_are_away(crops, embedder):
    job = _planned(crops, embedder)
    crops.rename(crops.with_name("elsewhere"))
    with pytest.raises(Exception, match="can this machine see their folder"):
        _run(job)
    assert job.missing() == [0, 1, 2]


def test_worker_refuses_another_network(crops):
    job = plan.Plan(str(crops), Network("another", "0" * 64), (1,))
    with pytest.raises(ValueError, match="copy the file there"):
        pipeline.EmbedShard(job, _MODEL, 1).setup()


def test_embedding_without_direction_is_an_error(embedder, monkeypatch):
    def embed(pixels):
        return np.stack([[np.nan, 1], [0, 0], [3, 4]]).astype(np.float32)

    found = embedding._finite(embed(None), "abc", [None] * 3, [])
    assert found.errors[2] is None and "b (embedded as NaN" in found.errors[1]
    np.testing.assert_allclose(found.rows, [[0, 0], [0, 0], [0.6, 0.8]], rtol=1e-6)


def test_half_a_file_has_no_name(tmp_path):
    path = f"{tmp_path}/whole"
    with pytest.raises(KeyboardInterrupt):
        with files.replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with files.replacing(path) as file:
        file.write(b"all")
    assert pathlib.Path(path).read_bytes() == b"all"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def cluster():
    """Beam's own job service and a pool of workers, which speak as Flink's do."""
    service = local_job_service.LocalJobServicer()
    port = service.start_grpc_server()
    pool, server = worker_pool_main.BeamFnExternalWorkerPoolServicer.start()
    yield [
        f"--job_endpoint=localhost:{port}",
        "--environment_type=EXTERNAL",
        f"--environment_config={pool}",
        # Otherwise it asks pip for all packages here.
        "--experiments=disable_logging_submission_environment",
    ]
    server.stop(None).wait()
    service.stop()


def test_program_runs_on_the_portable_runner(crops, embedder, cluster):
    flags = [
        f"--input={crops}/*.png",
        f"--output={crops.parent}/out",
        f"--model={_MODEL}",
        "--camera=door",
        "--time=2026-01-05T07:00:00Z",
        "--key_prefix=",
        "--shard_images=2",
    ]
    command = [sys.executable, str(_TOOL), *flags, "--runner=PortableRunner"]
    done = subprocess.run(
        [*command, "--", *cluster], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"5 images in 3 shards, 1 of them.*2\.png", done.stdout)
    assert "5/5" in done.stderr and "3 of 3 shards" in done.stderr
    job = _planned(crops, embedder, camera="door", input=f"{crops}/*.png")
    assert job.missing() == []
    assert parquet.read_table(job.path(0))["key"].to_pylist() == ["0.png", "1.png"]
    assert gallery_parquet.read_network(job.path(0)) == embedder.network
