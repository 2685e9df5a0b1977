"""The wheel, installed without a checkout, has all that a search needs."""

from __future__ import annotations

import configparser
import hashlib
import importlib
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from cdnet_tf import recipes, shipped
from cdnet_tf.nn import genotype

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cdnet_tf", "flags")
_SHIPPED = (".keras", "_int8.tflite", ".json", ".md")
_TINY = """
--space=cs
--top_k=1
--epochs=1
--train_identities=4
--batch_size=8
--height=64
--width=32
--run_dir=found
"""


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(_ROOT / "setup.cfg")
    return parser


def _output(command, status=0, **options) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def _pip(*arguments) -> None:
    _output([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _ship(folder):
    """Adds a network, in case the package ships none."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"tiny{end}": end.encode() for end in (".keras", "_int8.tflite")}
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    contents["tiny.json"] = json.dumps({"files": files}).encode()
    for name, content in {**contents, "tiny.md": b"# tiny"}.items():
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Builds the wheel from a copy, because a build leaves files among its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in _SOURCES:
        copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
        copy(_ROOT / name, folder / name)
    _ship(folder / "cdnet_tf/weights/market1501")
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Makes an environment with the wheel and the packages of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    _pip("--python", folder / "bin/python", "install", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    # The .pth files of a folder that is named in a .pth file are not read, so that an
    # editable installation of this package does not come along.
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Runs a command of that environment in an empty directory; returns its output."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(command, *arguments, status=0):
        command = [installed / "bin" / command, *arguments]
        return _output(command, status, cwd=tmp_path, env=environment)

    return run


@pytest.mark.parametrize(
    "file, stands",
    [
        ("MODULE.bazel", r'^    version = "(.*?)",'),
        ("CITATION.cff", r"^version: (.*)"),
        ("CHANGELOG.md", r"^## \[(\d.*?)\]"),
    ],
)
def test_version_is_that_of_setup_cfg(file, stands):
    found = re.search(stands, (_ROOT / file).read_text("utf-8"), re.MULTILINE)
    assert found and found[1] == _setup()["metadata"]["version"]


def test_every_folder_of_the_package_is_installed():
    folders = (init.parent for init in (_ROOT / "cdnet_tf").rglob("__init__.py"))
    names = {".".join(folder.relative_to(_ROOT).parts) for folder in folders}
    assert set(_setup()["options"]["packages"].split()) == names | {"cdnet_tf.flags"}


def test_every_console_command_runs_a_program(monkeypatch):
    ran = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: ran.append(module))
    lines = _setup()["options.entry_points"]["console_scripts"].split("\n")
    for line in filter(None, lines):
        module, _, function = line.partition(" = ")[2].partition(":")
        getattr(importlib.import_module(module), function)()
    assert len(set(ran)) == 5
    for module in ran:
        program = (_ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8")
        assert "app.run(main, flags_parser=" in program


def test_wheel_has_recipes_and_genotypes_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"cdnet_tf/flags/{file.name}" for file in recipes.FOLDER.iterdir()} < names
    published = genotype.PUBLISHED.glob("*.json")
    assert {f"cdnet_tf/nn/genotypes/{file.name}" for file in published} < names
    tables = (_ROOT / "cdnet_tf/bench").glob("*.csv")
    assert {f"cdnet_tf/bench/{file.name}" for file in tables} < names
    assert "cdnet_tf/py.typed" in names
    tiny = {f"market1501/tiny{end}" for end in _SHIPPED}
    ours = (file for file in shipped.FOLDER.rglob("*") if file.is_file())
    tiny |= {file.relative_to(shipped.FOLDER).as_posix() for file in ours}
    assert {f"cdnet_tf/weights/{file}" for file in tiny} < names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cdnet_tf"}


def test_installed_package_finds_its_weights(installed, run):
    name = "market1501/tiny_int8"
    code = f"from cdnet_tf import shipped; print(shipped.locate('{name}'))"
    found = pathlib.Path(run("python", "-c", code).strip())
    assert found.is_relative_to(installed) and found.read_bytes() == b"_int8.tflite"


def test_git_keeps_what_is_shipped():
    if not (_ROOT / ".git").exists():
        pytest.skip("no checkout")
    files = [f"cdnet_tf/weights/market1501/x{end}" for end in _SHIPPED]
    command = ["git", "-C", _ROOT, "check-ignore", "--no-index", *files]
    _output(command, status=1)  # none of them is ignored


def test_installed_program_searches(installed, run, tmp_path):
    imported = run("python", "-c", "import cdnet_tf; print(cdnet_tf.__file__)")
    assert pathlib.Path(imported).is_relative_to(installed)
    # Flags after the recipes, which a program finds though there is no folder `flags`.
    (tmp_path / "tiny.cfg").write_text(_TINY)
    cfgs = [f"--flagfile={name}" for name in ("flags/cds.cfg", "flags/demo.cfg")]
    run("cdnet-search", *cfgs, "--flagfile=tiny.cfg")
    record = json.loads((tmp_path / "found/genotype.json").read_text())
    assert record["provenance"]["flags"]["width_multiplier"] == 0.25  # of demo.cfg
    assert record["provenance"]["commit"] is None
    assert set(genotype.load(tmp_path / "found").layers) <= set(genotype.CS)


def test_console_command_has_the_help_of_its_program(run):
    said = run("cdnet-train", "--help", status=1)  # absl's status after --help
    assert "Trains a found or published network" in said
    assert "--genotype:" in said and "--run_dir:" in said


def test_console_command_is_what_restarts_start_again(installed, run):
    # learn/distributed.py starts the module again that `__main__` says it is.
    (packages,) = installed.glob("lib/python*/site-packages/cdnet_tf")
    (packages / "program.py").write_text("import __main__; print(__main__.__spec__)")
    start = "from cdnet_tf import commands; commands._run('program')"
    said = run("python", "-c", start)
    assert "ModuleSpec(name='cdnet_tf.program'" in said
