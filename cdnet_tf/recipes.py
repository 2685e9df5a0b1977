"""Recipes: the flag files of this package, which programs find from any directory.

The recipes lie in the folder `flags/` of a checkout and in `cdnet_tf/flags/` of an
installation. absl looks for a flag file, and for those that the file includes, from the
working directory alone. This module then looks among the recipes as well.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterable

from absl import app, flags

_HERE = pathlib.Path(__file__).resolve().parent
FOLDER = next(
    (each for each in (_HERE / "flags", _HERE.parent / "flags") if each.is_dir()),
    _HERE / "flags",
)


def parse(argv: list[str]) -> list[str]:
    """Parses a program's flags, as absl does; for `app.run(main, flags_parser=parse)`.

    Args:
      argv: the program and its arguments.

    Returns:
      The program and those arguments that are not flags.
    """
    try:
        opened = open_flag_files(argv[1:])
    except flags.Error as error:
        sys.exit(f"FATAL Flags parsing error: {error}")
    return app.parse_flags_with_usage([argv[0], *opened])


def open_flag_files(arguments: Iterable[str]) -> list[str]:
    """Returns the arguments with every `--flagfile` replaced by the file's lines.

    A relative name is looked for from the working directory first, then among the
    recipes. A recipe includes recipes alone, so that a file of the same name in the
    working directory cannot change it.

    Raises:
      flags.Error: a file is missing, or includes itself.
    """
    return _open(arguments, ())


def _open(arguments: Iterable[str], opened: tuple[pathlib.Path, ...]) -> list[str]:
    lines: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, equals, name = argument.partition("=")
        if option == "--":
            return [*lines, argument, *rest]
        if option in ("--flagfile", "-flagfile"):
            lines += _lines(name if equals else next(rest, ""), opened)
        else:
            lines.append(argument)
    return lines


def _lines(name: str, opened: tuple[pathlib.Path, ...]) -> list[str]:
    """Reads the arguments in a flag file, and in the files that it includes.

    Args:
      name: of the file, as it was written.
      opened: the files that include this one, outermost first.
    """
    path = _find(name, opened)
    if path in opened:
        raise flags.Error(f"{path} includes itself; take out a --flagfile={name}.")
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    arguments = [each for each in lines if each and not each.startswith(("#", "//"))]
    return _open(arguments, (*opened, path))


def _find(name: str, opened: tuple[pathlib.Path, ...]) -> pathlib.Path:
    is_in_recipe = bool(opened) and opened[-1].parent == FOLDER
    given, recipe = pathlib.Path(name).expanduser(), (FOLDER.parent / name).resolve()
    if given.is_file() and not is_in_recipe:
        return given.resolve()
    if recipe.is_file() and recipe.parent == FOLDER:
        return recipe
    includer = f"{opened[-1]} includes a file that is missing: " if opened else ""
    here = pathlib.Path.cwd()
    known = ", ".join(f"flags/{each.name}" for each in sorted(FOLDER.glob("*.cfg")))
    raise flags.Error(
        f"{includer}--flagfile={name} is neither a file, seen from {here}, nor "
        f"a recipe of this package. The recipes are {known}."
    )
