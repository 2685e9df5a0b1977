"""README, docs and flag files name files, modules and flags that exist.

Recipes say what they are for and how long they take, and programs show an example.
"""

import ast
import pathlib
import re

import pytest

import cdnet_tf

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGES = sorted(
    str(path.relative_to(_ROOT))
    for pattern in ("*.md", "docs/*.md", "flags/*.cfg")
    for path in _ROOT.glob(pattern)
)
_SOURCES = [*_ROOT.glob("cdnet_tf/**/*.py"), *_ROOT.glob("tools/*.py")]
# Flags of absl, Beam, pip, ruff, Slurm, Docker, TensorBoard and TensorFlow Serving, up
# to the first hyphen; `name` stands for any flag of ours.
_FOREIGN_FLAGS = set(
    "allow_version_labels_for_unavailable_models check distribution enable_batching "
    "environment_config environment_type extra flagfile flink_master gpus help kill "
    "logdir model_config_file model_config_file_poll_wait_seconds name no nodes ntasks "
    "rm undefok verbose".split()
)


def _text(page):
    return (_ROOT / page).read_text()


@pytest.mark.parametrize("page", _PAGES)
def test_files_exist(page):
    named = set(re.findall(r"(?<!\w)(?:\w+/)*[a-z]\w*\.(?:py|md|sh)\b", _text(page)))
    # The table of files names a folder only once: `nn/blocks.py`, `necks.py`.
    known = {path.name for path in [*_SOURCES, *_ROOT.glob("tests/*.py")]}
    folders = [_ROOT, _ROOT / "cdnet_tf", _ROOT / "docs"]
    lost = [
        name
        for name in sorted(named - known)
        if not any((folder / name).exists() for folder in folders)
    ]
    assert not lost


@pytest.mark.parametrize("page", _PAGES)
def test_modules_exist(page):
    named = set(re.findall(r"\bcdnet_tf(?:\.\w+)+", _text(page)))
    named |= {
        f"{package}.{name}"
        for package, names in re.findall(
            r"from (cdnet_tf[.\w]*) import ([\w, ]+)", _text(page)
        )
        for name in names.replace(" ", "").split(",")
    }
    named -= {f"cdnet_tf.{name}" for name in cdnet_tf.__all__}
    assert not [name for name in sorted(named) if not _exists(name)]


def _exists(name):
    """Says whether a dotted name is a folder, a module, or something in a module."""
    path = _ROOT / name.replace(".", "/")
    module = path.parent.with_suffix(".py")
    holds = rf"^(def|class|from \S+ import) .*\b{path.name}\b"
    return (
        path.is_dir()
        or path.with_suffix(".py").exists()
        or module.exists()
        and re.search(holds, module.read_text(), re.MULTILINE)
    )


@pytest.mark.parametrize("page", _PAGES)
def test_flags_exist(page):
    named = set(re.findall(r"(?<![\w-])--([a-z]\w+)", _text(page)))
    sources = "\n".join(path.read_text() for path in _SOURCES)
    defined = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', sources))
    switches = re.findall(r'DEFINE_bool\w*\(\s*"(\w+)"', sources)
    defined |= {f"no{name}" for name in switches}
    assert named <= defined | _FOREIGN_FLAGS


@pytest.mark.parametrize("page", [page for page in _PAGES if page.endswith(".md")])
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", _text(page)):
        path = (_ROOT / page).parent / target if target else _ROOT / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h).lower() for h in headings]
            assert anchor in [slug.replace(" ", "-") for slug in slugs]


@pytest.mark.parametrize(
    "page", [page for page in _PAGES if page.endswith(".cfg") and "base" not in page]
)
def test_recipes_open_with_purpose_time_and_command(page):
    head = re.match(r"(?:#.*\n)+", _text(page))[0]
    assert re.match(r"# (Trains|Searches) \w+", head)
    assert re.search(r"seconds|minutes|hours|time is\s+(?:# )?unknown", head)
    assert re.search(rf"^#   python -m cdnet_tf\.\w+.*{page}", head, re.MULTILINE)


_PROGRAMS = [
    path.relative_to(_ROOT)
    for path in _SOURCES
    if re.search(r"^def main\(", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("path", _PROGRAMS, ids=str)
def test_help_begins_with_two_sentences_and_an_example(path):
    """The text of --help begins with the docstring of the program."""
    first, second, example, *_ = ast.get_docstring(ast.parse(_text(path))).split("\n\n")
    for text in (first, second):
        assert re.fullmatch(r"[A-Z`-].*\.", text, re.DOTALL)
    module = ".".join(path.with_suffix("").parts)
    called = f"python -m {module} " if path.parts[0] == "cdnet_tf" else f"python {path}"
    assert called in example.splitlines()[0]
