"""Environments are made once and whole; nothing is installed here."""

import sys

import pytest

from cdnet_tf.deploy import environments


@pytest.fixture
def commands(monkeypatch):
    given = []
    monkeypatch.setattr(environments, "command", lambda words: given.append(words))
    return given


def test_an_environment_is_made_once(tmp_path, commands, capsys):
    python = environments.python("some==1.0", tmp_path / "all", "python3.11")
    folder = tmp_path / "all" / "some-1.0"
    assert python == str(folder / "bin/python")
    made, installed = commands
    assert made == ["python3.11", "-m", "venv", "--clear", str(folder)]
    assert installed[0] == python and installed[-1] == "some==1.0"
    assert (tmp_path / "all/.gitignore").read_text() == "*\n"
    assert "Installing some==1.0 into" in capsys.readouterr().out
    assert environments.python("some==1.0", tmp_path / "all", "x") == python
    assert len(commands) == 2


@pytest.fixture(autouse=True)
def _folders(monkeypatch, tmp_path):
    """Folders that the command which makes an environment would have made."""
    for name in ("some-1.0", "boxmot-25.0.0"):
        (tmp_path / "all" / name).mkdir(parents=True)


def test_what_a_file_does_not_need_is_not_installed(tmp_path, commands):
    environments.python("boxmot==25.0.0", tmp_path / "all", "python3.11")
    _, alone, others = commands
    assert alone[-2:] == ["--no-deps", "boxmot==25.0.0"]
    assert "torch==2.13.0+cpu" in others and "--no-deps" not in others


def test_what_does_not_install_is_tried_again(tmp_path, monkeypatch):
    def fail(words):
        raise RuntimeError("no such version")

    monkeypatch.setattr(environments, "command", fail)
    for _ in range(2):
        with pytest.raises(environments.InstallationError, match="no such version"):
            environments.python("some==1.0", tmp_path / "all", "python3.11")


def test_command_says_how_a_program_failed():
    assert environments.command([sys.executable, "-c", "print('fine')"]) == "fine\n"
    program = "import sys; print('why', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RuntimeError, match="ended with 3: why"):
        environments.command([sys.executable, "-c", program])
