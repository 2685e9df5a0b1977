"""Recipes are found from any directory, and opened as absl opens flag files."""

from __future__ import annotations

import pathlib

import pytest
from absl import flags

from cdnet_tf import recipes


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_opens_as_absl_does(monkeypatch):
    monkeypatch.chdir(recipes.FOLDER.parent)
    for recipe in recipes.FOLDER.glob("*.cfg"):
        arguments = ["--seed=1", f"--flagfile=flags/{recipe.name}", "--seed=2"]
        expected = flags.FlagValues().read_flags_from_files(arguments)
        assert recipes.open_flag_files(arguments) == expected


def test_finds_a_recipe_and_what_it_includes_from_any_directory():
    opened = recipes.open_flag_files(["--flagfile", "flags/cds.cfg", "--epochs=1"])
    assert "--dataset=market1501" in opened  # base.cfg, by way of cs.cfg
    assert opened[-2:] == ["--space=cds", "--epochs=1"]


def test_the_working_directory_comes_first(elsewhere):
    (elsewhere / "flags").mkdir()
    (elsewhere / "flags/cds.cfg").write_text("--epochs=7\n")
    assert recipes.open_flag_files(["--flagfile=flags/cds.cfg"]) == ["--epochs=7"]


def test_a_recipe_includes_recipes_alone(elsewhere):
    (elsewhere / "flags").mkdir()
    (elsewhere / "flags/base.cfg").write_text("--epochs=7\n")
    assert "--epochs=7" not in recipes.open_flag_files(["--flagfile=flags/cs.cfg"])


def test_a_file_of_ones_own_includes_files_and_recipes(elsewhere):
    (elsewhere / "mine.cfg").write_text(
        "# Mine.\n\n  // too\n--flagfile=more.cfg\n--flagfile=flags/base.cfg\n"
    )
    (elsewhere / "more.cfg").write_text("--seed=5\n")
    opened = recipes.open_flag_files([f"--flagfile={elsewhere}/mine.cfg"])
    assert opened[:2] == ["--seed=5", "--dataset=market1501"]


def test_what_follows_two_dashes_is_left_alone():
    arguments = ["--", "--flagfile=nothing.cfg"]
    assert recipes.open_flag_files(arguments) == arguments


@pytest.mark.parametrize(
    "name", ["flags/cd.cfg", "/no/cds.cfg", "setup.cfg", "cdnet_tf", "flags/../README"]
)
def test_an_unknown_recipe_is_told_the_known(name, elsewhere):
    with pytest.raises(flags.Error) as caught:
        recipes.open_flag_files([f"--flagfile={name}"])
    assert f"--flagfile={name} is neither a file, seen from {elsewhere}" in str(
        caught.value
    )
    assert "flags/base.cfg, flags/cds.cfg, " in str(caught.value)


def test_a_missing_include_names_the_file_that_includes(elsewhere):
    (elsewhere / "mine.cfg").write_text("--flagfile=more.cfg\n")
    with pytest.raises(flags.Error, match=r"mine\.cfg includes.*--flagfile=more\.cfg"):
        recipes.open_flag_files(["--flagfile=mine.cfg"])


def test_a_circle_is_an_error(elsewhere):
    (elsewhere / "a.cfg").write_text("--flagfile=b.cfg\n")
    (elsewhere / "b.cfg").write_text("--flagfile=a.cfg\n")
    with pytest.raises(flags.Error, match=r"a\.cfg includes itself"):
        recipes.open_flag_files(["--flagfile=a.cfg"])


def test_programs_end_without_a_traceback():
    with pytest.raises(SystemExit, match="is neither a file") as caught:
        recipes.parse(["search", "--flagfile=flags/no.cfg"])
    assert not isinstance(caught.value.code, int)


def test_folder_is_named_as_in_the_commands():
    assert recipes.FOLDER == pathlib.Path(recipes.__file__).parents[1] / "flags"
