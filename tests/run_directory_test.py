"""The records in a run directory, wherever the package is; git is the oracle."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
from importlib import metadata

import numpy as np
import pytest

from cdnet_tf import run_directory
from cdnet_tf.data import datasets

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="without git")
_UNKNOWN = {"commit": None, "uncommitted_changes": None}


def _git(root, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def file(tmp_path):
    """Writes ROOT/package/module.py, which is in no repository yet."""
    file = tmp_path / "root" / "package" / "module.py"
    file.parent.mkdir(parents=True)
    file.write_text("x = 1\n")
    return file


def _commit(root: pathlib.Path, *files: pathlib.Path) -> str:
    _git(root, "init", "-q")
    (root / "README").write_text("some project")
    _git(root, "add", "README", *map(str, files))
    _git(root, "commit", "-qm", "first")
    return _git(root, "rev-parse", "HEAD")


@needs_git
def test_commit_of_the_files_own_checkout(file):
    head = _commit(file.parent.parent, file)
    found = run_directory.commit(file)
    assert found == {"commit": head, "uncommitted_changes": False}
    file.write_text("x = 2\n")
    assert run_directory.commit(file)["uncommitted_changes"] is True


@needs_git
def test_no_commit_of_a_project_that_the_package_is_installed_in(file):
    root = file.parent.parent
    _commit(root.parent)  # as in PROJECT/site-packages/package/module.py
    assert run_directory.commit(file) == _UNKNOWN
    _commit(root)  # a checkout of something else, untracked package inside
    assert run_directory.commit(file) == _UNKNOWN


@needs_git
def test_no_commit_yet(file):
    _git(file.parent.parent, "init", "-q")
    assert run_directory.commit(file) == _UNKNOWN


def test_neither_git_nor_an_installed_package(file, monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_directory.commit(file) == _UNKNOWN
    found = run_directory.environment()
    assert found["commit"] is None
    assert found["versions"]["tensorflow"] is None
    assert found["versions"]["python"]


def test_git_that_hangs(file, monkeypatch):
    def hang(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert run_directory.commit(file) == _UNKNOWN


@pytest.fixture
def data():
    nobody = datasets.Images((), np.zeros(0, np.int32), np.zeros(0, np.int32))
    return datasets.ReidDataset("market1501", "nowhere", nobody, nobody, nobody)


def test_a_run_keeps_where_it_began_and_went_on(tmp_path, data, monkeypatch):
    monkeypatch.setattr(run_directory.callbacks, "last_epoch", lambda _: 1)
    settings = {"seed": 3, "milestones": (1, 2)}
    for commit in "aabb":
        now = {"versions": {}, "commit": commit}
        monkeypatch.setattr(run_directory, "environment", lambda now=now: now)
        run_directory.open_run(tmp_path / "run", settings, data)
    found = run_directory.begun_with(tmp_path / "run", settings, data)
    assert found["commit"] == "a"
    assert [each["commit"] for each in found["went_on_with"]] == ["b"]
    assert found["seed"] == 3 and found["flags"] == settings
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    with pytest.raises(ValueError, match="begun with --seed = 3, and now it is 4"):
        run_directory.open_run(tmp_path / "run", {**settings, "seed": 4}, data)


def test_a_search_that_has_judged_a_network_keeps_its_settings(tmp_path, data):
    run_dir = run_directory.open_run(tmp_path / "run", {"max_macs": 5}, data)
    # Nothing is there yet, so that a search may begin with other settings.
    run_directory.open_run(run_dir, {"max_macs": 7}, data)
    (run_dir / "candidates.csv").write_text("genotype,mAP\n")
    run_directory.open_run(run_dir, {"max_macs": 7}, data)
    with pytest.raises(ValueError, match="begun with --max_macs = 7, and now it is 9"):
        run_directory.open_run(run_dir, {"max_macs": 9}, data)
