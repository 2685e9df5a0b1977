"""Compares BUILD and the lock with the files, and the imports with the layers.

Nothing is imported: sources and BUILD (Python in form) are read with `ast`.
"""

from __future__ import annotations

import ast
import configparser
import difflib
import importlib.util
import pathlib
import re

import pytest
from packaging.requirements import Requirement

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TOPS = ("cdnet_tf", "tools", "tests")

# Top-level module -> package, as rules_python spells it.
_PACKAGES = {
    name: name
    for name in "apache_beam av fastapi fastapi_offline h5py keras_tuner lancedb "
    "limits matplotlib mkdocs numpy packaging pgvector playwright prometheus_client "
    "psycopg psycopg_pool pyarrow pydantic pymoo pytest scipy starlette tensorboard "
    "tensorflow "
    "tensorflow_addons tensorflow_model_optimization torch tqdm urllib3 uvicorn".split()
} | {
    "PIL": "pillow",
    "sklearn": "scikit_learn",
    "lance": "pylance",
    "absl": "absl_py",
    "google": "protobuf",
    "tensorflow_serving": "tensorflow_serving_api",
}
# Packages and extras that are installed by hand, and so absent from lock and BUILD.
_UNLOCKED = {"gpu", "torch"}

_NN, _SUPERNET, _DRAWING, _DATA, _LEARN, _RETRIEVAL, _DEPLOY, _BENCH = _FIELDS = tuple(
    f"cdnet_tf/{folder}/*.py"
    for folder in "nn supernet pedestrians data learn retrieval deploy bench".split()
)
_STRATEGIES, _GALLERY = "cdnet_tf/strategies/*.py", "cdnet_tf/gallery/*.py"
_SPACE = "cdnet_tf/strategies/space.py"
_API, _SERVICE = "cdnet_tf/api/*.py", "cdnet_tf/service/*.py"
_BULK = "cdnet_tf/bulk/*.py"
_LIBRARIES = (*_FIELDS, _STRATEGIES, _API, _BULK, _GALLERY, _SERVICE)
# What an image's identity means, and where images lie; no TensorFlow.
_DATASETS, _LAYOUTS = "cdnet_tf/data/datasets.py", "cdnet_tf/data/layouts.py"
_OF_DATA = (_DATASETS, _LAYOUTS, "cdnet_tf/data/own_data.py")
# What a gallery is made of: itself, and the name and checksum of a network.
_OF_GALLERY = (_GALLERY, "cdnet_tf/deploy/identity.py")
# Any file may import it.
_EVERYWHERE = ("cdnet_tf/atomic_files.py", "cdnet_tf/shipped.py")
_SHARED = (
    *("cdnet_tf/commands.py", "cdnet_tf/device_flags.py", "cdnet_tf/file_flags.py"),
    *("cdnet_tf/next_steps.py", "cdnet_tf/recipes.py"),
    *("cdnet_tf/run_directory.py", "cdnet_tf/search_settings.py"),
    *("cdnet_tf/settings.py", "cdnet_tf/shared_flags.py"),
    *("cdnet_tf/training_run.py", "cdnet_tf/trainings.py"),
)
_PROGRAM = (
    (*_LIBRARIES, *_SHARED),
    "absl_py keras_tuner matplotlib numpy pillow tensorflow torch",
)
_TEST_HELPERS = (
    *("tests/gallery_places.py", "tests/postgres_server.py"),
    *("tests/service_people.py", "tests/tiny.py"),
)
# The first row that matches a file holds: what it may import of ours and of others.
_LAYERS = (
    *((file, (), "") for file in _EVERYWHERE),
    ("cdnet_tf/nn/genotype.py", (), ""),
    ("cdnet_tf/nn/diagrams.py", ("cdnet_tf/nn/genotype.py",), "matplotlib"),
    ("cdnet_tf/nn/transfer.py", (), "h5py numpy tensorflow"),
    (_NN, (_NN,), "numpy tensorflow"),
    (_SUPERNET, (_SUPERNET, _NN), "numpy tensorflow"),
    (_DRAWING, (_DRAWING,), "numpy pillow"),
    ("cdnet_tf/data/sampling.py", (), "numpy"),
    (_LAYOUTS, (), ""),
    (_DATASETS, (_LAYOUTS,), "numpy"),
    ("cdnet_tf/data/normalisation.py", (), ""),
    ("cdnet_tf/data/resizing.py", (), "numpy"),
    ("cdnet_tf/data/own_data.py", (_DATASETS, _LAYOUTS), ""),
    ("cdnet_tf/data/doctor.py", (_DATA,), "numpy pillow tensorflow"),
    (_DATA, (_DATA,), "numpy tensorflow"),
    ("cdnet_tf/learn/study.py", (_LEARN,), "keras_tuner"),
    ("cdnet_tf/learn/study_log.py", (_LEARN,), "tensorboard tensorflow"),
    (
        "cdnet_tf/learn/*_log.py",
        (_LEARN, _SUPERNET, _NN),
        "matplotlib numpy tensorflow",
    ),
    (_LEARN, (_LEARN, _SUPERNET, _NN), "numpy tensorflow tensorflow_addons"),
    ("cdnet_tf/retrieval/baselines.py", (), "numpy pillow"),
    ("cdnet_tf/retrieval/histograms.py", (_RETRIEVAL, _DATASETS), "matplotlib numpy"),
    ("cdnet_tf/retrieval/pictures.py", (), "matplotlib numpy pillow"),
    ("cdnet_tf/retrieval/reranking.py", (_RETRIEVAL,), "numpy scipy"),
    (_RETRIEVAL, (_RETRIEVAL, _DATASETS), "numpy"),
    (
        "cdnet_tf/deploy/quantize.py",
        (_DEPLOY, _NN, "cdnet_tf/data/preprocess.py"),
        "numpy tensorflow tensorflow_model_optimization",
    ),
    (
        "cdnet_tf/deploy/serving.py",
        (_DEPLOY, _DATASETS, "cdnet_tf/data/preprocess.py"),
        "numpy tensorflow tensorflow_serving_api",
    ),
    (
        "cdnet_tf/deploy/gate.py",
        (_DEPLOY, _RETRIEVAL, _NN, "cdnet_tf/data/preprocess.py"),
        "numpy tensorflow",
    ),
    ("cdnet_tf/deploy/versions.py", (), "protobuf tensorflow_serving_api"),
    ("cdnet_tf/deploy/endpoint.py", (_DEPLOY,), "numpy tensorflow urllib3"),
    ("cdnet_tf/deploy/identity.py", (_DEPLOY,), ""),
    (
        "cdnet_tf/deploy/network_file.py",
        ("cdnet_tf/data/preprocess.py",),
        "h5py numpy tensorflow",
    ),
    # A search asks for thousands of times, and does without TensorFlow.
    ("cdnet_tf/deploy/latency.py", ("cdnet_tf/nn/genotype.py",), ""),
    (
        "cdnet_tf/deploy/latency_fit.py",
        (
            "cdnet_tf/bench/agreement.py",
            "cdnet_tf/deploy/latency.py",
            "cdnet_tf/nn/genotype.py",
        ),
        "numpy",
    ),
    (
        "cdnet_tf/deploy/lite.py",
        (
            *("cdnet_tf/data/normalisation.py", "cdnet_tf/data/resizing.py"),
            *("cdnet_tf/deploy/identity.py", "cdnet_tf/deploy/quiet.py"),
        ),
        "numpy pillow",
    ),
    (_DEPLOY, (_DEPLOY, _NN, "cdnet_tf/data/preprocess.py"), "numpy tensorflow"),
    (_BENCH, (_BENCH, "cdnet_tf/nn/genotype.py"), "numpy scipy"),
    ("cdnet_tf/api/embeddings.py", (_RETRIEVAL,), "numpy"),
    (_API, (_API, _DEPLOY, _RETRIEVAL, _DATA), "numpy pillow tensorflow tqdm"),
    ("cdnet_tf/gallery/lance_store.py", _OF_GALLERY, "lancedb numpy pyarrow"),
    ("cdnet_tf/gallery/memory.py", _OF_GALLERY, "lancedb numpy pyarrow pylance"),
    (
        "cdnet_tf/gallery/postgres_*.py",
        _OF_GALLERY,
        "numpy pgvector psycopg psycopg_pool pyarrow",
    ),
    (_GALLERY, _OF_GALLERY, "numpy pyarrow"),
    (
        _SERVICE,
        (_SERVICE, *_OF_GALLERY, _LAYOUTS),
        "av fastapi fastapi_offline limits numpy pillow prometheus_client pydantic "
        "urllib3",
    ),
    (
        "cdnet_tf/serve_gallery.py",
        (_SERVICE, *_OF_GALLERY, "cdnet_tf/recipes.py"),
        "absl_py numpy uvicorn",
    ),
    ("cdnet_tf/bulk/embedding.py", (_BULK, _API, _DEPLOY), "numpy"),
    # Only workers import TensorFlow.
    (_BULK, (_BULK, *_OF_GALLERY, *_OF_DATA), "apache_beam numpy pyarrow"),
    ("cdnet_tf/strategies/candidates.py", (_SPACE, _NN), ""),
    ("cdnet_tf/strategies/evolution.py", (), "numpy pymoo"),
    ("cdnet_tf/strategies/front.py", (_STRATEGIES, _NN, _BENCH), ""),
    ("cdnet_tf/strategies/front_picture.py", (_STRATEGIES,), "matplotlib"),
    ("cdnet_tf/strategies/ridge.py", (_SPACE, _NN), "numpy scikit_learn"),
    (_SPACE, (_NN, _BENCH), "numpy"),
    (_STRATEGIES, (*_FIELDS, _STRATEGIES, *_SHARED), "numpy tensorflow"),
    ("cdnet_tf/*.py", *_PROGRAM),
    (
        "tools/export_tflite.py",
        ("cdnet_tf/export_tflite.py", "cdnet_tf/recipes.py"),
        "absl_py",
    ),
    ("tools/camera.py", (_SERVICE, "cdnet_tf/deploy/lite.py"), "absl_py"),
    (
        "tools/embed.py",
        (_BULK, "cdnet_tf/deploy/identity.py", "cdnet_tf/recipes.py"),
        "absl_py apache_beam tqdm",
    ),
    (
        "tools/fill_gallery.py",
        (*_LIBRARIES, "cdnet_tf/recipes.py", "cdnet_tf/shared_flags.py"),
        "absl_py numpy",
    ),
    (
        "tools/ship_weights.py",
        (*_LIBRARIES, "cdnet_tf/evaluate.py", "cdnet_tf/shared_flags.py"),
        "absl_py",
    ),
    (
        "tools/gradient_scales.py",
        (*_LIBRARIES, *_SHARED, "cdnet_tf/train.py"),
        "absl_py tensorflow",
    ),
    (
        "tools/train_for_bench.py",
        (*_LIBRARIES, *_SHARED, "cdnet_tf/evaluate.py", "cdnet_tf/train.py"),
        "absl_py",
    ),
    (
        "tools/judge_search.py",
        (*_LIBRARIES, *_SHARED, "cdnet_tf/search.py"),
        "absl_py",
    ),
    ("tools/draw_page.py", _EVERYWHERE, "absl_py pillow playwright"),
    ("tools/benchmark_service.py", _LIBRARIES, "absl_py numpy pillow urllib3"),
    ("tools/*.py", *_PROGRAM),
    (
        "tests/*.py",
        ("cdnet_tf/*.py", "tools/*.py", *_TEST_HELPERS, *_LIBRARIES),
        " ".join(_PACKAGES.values()),
    ),
)


def _matches(path: str, *patterns: str) -> bool:
    return any(pathlib.PurePath(path).match(pattern) for pattern in patterns)


def _sources(root) -> dict[str, ast.Module]:
    """Parses every Python file but the `__init__.py`; by path."""
    files = sorted(f for top in _TOPS for f in (root / top).rglob("*.py"))
    return {
        file.relative_to(root).as_posix(): ast.parse(file.read_text("utf-8"))
        for file in files
        if file.name != "__init__.py"
    }


def _has_main(tree) -> bool:
    return any(isinstance(n, ast.FunctionDef) and n.name == "main" for n in tree.body)


def _imports(tree, sources) -> tuple[set[str], set[str], set[str]]:
    """Returns the files, packages and unknown names that a file imports anywhere."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = "." * node.level + (node.module or "")
            modules |= {f"{stem}.{alias.name}" for alias in node.names}
    files, packages, unknown = set(), set(), set()
    for module in modules:
        top, path = module.split(".")[0], module.replace(".", "/")
        # `from a.b import c` names either the file a/b/c.py or a thing in a/b.py.
        found = {f"{path}.py", f"{path.rpartition('/')[0]}.py"} & set(sources)
        if found:
            files.add(max(found, key=len))
        elif module == "cdnet_tf":
            continue  # its `__init__.py`, which imports what is asked for, when it is
        elif top in _PACKAGES:
            packages.add(_PACKAGES[top])
        elif top in _TOPS or not _is_standard(top):
            unknown.add(module)
    return files, packages, unknown


def _is_standard(name: str) -> bool:
    spec = importlib.util.find_spec(name) if name else None
    return bool(spec and spec.origin and "-packages" not in spec.origin)


def _as_text(rule: str, fields: dict) -> str:
    """Renders a target as in BUILD, with every dep on its own line."""
    deps = "".join(f'        "{dep}",\n' for dep in fields.get("deps", []))
    lines = [f"    {k} = {v!r},".replace("'", '"') for k, v in fields.items()]
    lines = [line for line in lines if not line.startswith("    deps")]
    lines += [f"    deps = [\n{deps}    ],"] if deps else []
    return "\n".join([f"{rule}(", *lines, ")"])


def _wanted_targets(root) -> dict[str, str]:
    """Returns the target that each file should have in BUILD, by the file's path."""
    wanted = {}
    sources = _sources(root)
    for path, tree in sources.items():
        files, packages, _ = _imports(tree, sources)
        rule = "py_binary" if _has_main(tree) else "py_library"
        fields = {"name": path[: -len(".py")], "srcs": [path]}
        if path.endswith("_test.py"):
            # As a plain script, a file of tests would pass without running any.
            rule, extra = "py_test", {"args": [path], "main_module": "pytest"}
            fields, packages = fields | extra, packages | {"pytest"}
        deps = [f":{file[:-3]}" for file in sorted(files)]
        deps += [f"@pypi//{name}" for name in sorted(packages - _UNLOCKED)]
        wanted[path] = _as_text(rule, fields | {"deps": deps})
    return wanted


def _present_targets(root) -> dict[str, str]:
    """Returns the targets that BUILD has, by their sources."""
    present: dict[str, str] = {}
    compared = ("name", "srcs", "args", "main_module", "deps")
    for node in ast.parse((root / "BUILD").read_text("utf-8")).body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and call.func.id.startswith("py_"):
            keywords = {k.arg: k.value for k in call.keywords if k.arg in compared}
            fields = {key: ast.literal_eval(keywords[key]) for key in keywords}
            for src in fields["srcs"]:
                before = f"{present[src]}\n" if src in present else ""
                present[src] = before + _as_text(call.func.id, fields)
    return present


def build_problems(root) -> list[str]:
    """Returns lines to add to BUILD (+) and to take out (-), a text for each file."""
    wanted, present = _wanted_targets(root), _present_targets(root)
    problems = []
    for path in sorted({*wanted, *present}):
        have, want = (d.get(path, "").splitlines() for d in (present, wanted))
        lines = [line for line in difflib.ndiff(have, want) if line[0] in "+-"]
        if lines:
            problems.append("\n".join([f"BUILD, {path}:", *lines]))
    return problems


def layer_problems(root) -> list[str]:
    """Returns the imports that break the one-way rule."""
    problems = []
    sources = _sources(root)
    for path, tree in sources.items():
        rows = [row for row in _LAYERS if _matches(path, row[0])]
        if not rows:
            problems.append(f"{path}: stands in no layer")
            continue
        _, ours, others = rows[0]
        files, packages, unknown = _imports(tree, sources)
        bad = {file for file in files if not _matches(file, *ours, *_EVERYWHERE)}
        bad |= packages - set(others.split()) | unknown
        problems += [f"{path}: may not import {name}" for name in sorted(bad)]
        is_library = _matches(path, *_LIBRARIES, *_SHARED, *_EVERYWHERE)
        if is_library and _has_main(tree):
            problems.append(f"{path}: a library has no main()")
        if not is_library and not path.startswith("tests/") and not _has_main(tree):
            problems.append(f"{path}: a program needs a main()")
    return problems + _init_problems(root, sources)


def _init_problems(root, sources) -> list[str]:
    # Installation finds a folder of the package by its `__init__.py`.
    ours = [path for path in sources if path.startswith("cdnet_tf/")]
    folders = {parent for path in ours for parent in pathlib.PurePath(path).parents}
    inits = [f / "__init__.py" for f in sorted(folders - {pathlib.PurePath(".")})]
    there = [init for init in inits if (root / init).exists()]
    # What TensorFlow reads as it is imported is set in the package's own.
    empty = [init for init in there if init != pathlib.PurePath("cdnet_tf/__init__.py")]
    full = [init for init in empty if (root / init).read_text("utf-8")]
    return [
        *(f"{init.as_posix()}: missing" for init in inits if init not in there),
        *(f"{init.as_posix()}: should be empty" for init in full),
    ]


def test_build_says_the_truth():
    problems = build_problems(_ROOT)
    assert not problems, "\n" + "\n".join(problems)


def test_imports_go_one_way():
    problems = layer_problems(_ROOT)
    assert not problems, "\n" + "\n".join(problems)


def lock_problems(setup: str, lock: str) -> list[str]:
    """Returns what `setup.cfg` requires and the lock lacks or has out of range."""
    parser = configparser.ConfigParser()
    parser.read_string(setup)
    extras = parser["options.extras_require"].items()
    required = parser["options"]["install_requires"]
    required += "".join(lines for name, lines in extras if name not in _UNLOCKED)
    locked = dict(re.findall(r"^([^\s#=]+)==(\S+)", lock, flags=re.MULTILINE))
    problems = []
    for line in filter(None, required.splitlines()):
        requirement = Requirement(line)
        version = locked.get(requirement.name.lower())
        if version is None:
            problems.append(f"{line}: not in the lock")
        elif not requirement.specifier.contains(version):
            problems.append(f"{line}: the lock has {version}")
    return problems


def test_lock_holds_what_is_required():
    setup, lock = (
        (_ROOT / name).read_text("utf-8")
        for name in ("setup.cfg", "requirements_lock.txt")
    )
    assert lock_problems(setup, lock) == []


def test_reports_what_the_lock_lacks():
    setup = """
[options]
install_requires =
    NumPy>=1.26,<2
    scipy>=1.11,<2
[options.extras_require]
dev =
    ruff>=0.17,<0.18
"""
    lock = "# ruff==0.17.6\nnumpy==2.1.0 ; python_version > '3'\n    # via scipy\n"
    assert lock_problems(setup, lock) == [
        "NumPy>=1.26,<2: the lock has 2.1.0",
        "scipy>=1.11,<2: not in the lock",
        "ruff>=0.17,<0.18: not in the lock",
    ]


# A small tree without a fault, for the tests below to break.
_TREE = {
    **{f"cdnet_tf/{folder}__init__.py": "" for folder in ("", "nn/", "data/")},
    "cdnet_tf/nn/blocks.py": "import tensorflow as tf",
    "cdnet_tf/nn/necks.py": "def neck():\n    from cdnet_tf.nn import blocks",
    "cdnet_tf/data/files.py": "import os.path",
    "tools/show.py": "from cdnet_tf.nn.necks import neck\ndef main(): pass",
    "tests/show_test.py": "import tools.show",
    "BUILD": """
load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")
py_library(name = "cdnet_tf/nn/blocks", srcs = ["cdnet_tf/nn/blocks.py"],
           deps = ["@pypi//tensorflow"])
py_library(name = "cdnet_tf/nn/necks", srcs = ["cdnet_tf/nn/necks.py"],
           deps = [":cdnet_tf/nn/blocks"])
py_library(name = "cdnet_tf/data/files", srcs = ["cdnet_tf/data/files.py"])
py_binary(name = "tools/show", srcs = ["tools/show.py"],
          deps = [":cdnet_tf/nn/necks"])
py_test(name = "tests/show_test", srcs = ["tests/show_test.py"],
        args = ["tests/show_test.py"], main_module = "pytest",
        deps = [":tools/show", "@pypi//pytest"])
""",
}


def _plant(root, tree):
    for path, text in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")


def test_small_tree_has_no_fault(tmp_path):
    _plant(tmp_path, _TREE)
    assert build_problems(tmp_path) + layer_problems(tmp_path) == []


@pytest.mark.parametrize(
    "path, old, new, lines",
    [
        ("tests/show_test.py", '":tools/show", ', "", '+         ":tools/show",'),
        ("cdnet_tf/nn/blocks.py", '["@', '[":b", "@', '-         ":b",'),
        ("tools/show.py", "py_binary(", "py_test(", "- py_test(\n+ py_binary("),
        ("tests/show_test.py", "main_module", "main", '+     main_module = "pytest",'),
    ],
)
def test_reports_the_lines_wrong_in_a_target(tmp_path, path, old, new, lines):
    _plant(tmp_path, _TREE | {"BUILD": _TREE["BUILD"].replace(old, new)})
    assert build_problems(tmp_path) == [f"BUILD, {path}:\n{lines}"]


@pytest.mark.parametrize("src", ["gone.py", "tools/show.py"])
def test_reports_a_target_too_many(tmp_path, src):
    extra = f'py_library(name = "extra", srcs = ["{src}"])\npy_binary('
    _plant(tmp_path, _TREE | {"BUILD": _TREE["BUILD"].replace("py_binary(", extra)})
    assert build_problems(tmp_path) == [
        f"""BUILD, {src}:
- py_library(
-     name = "extra",
-     srcs = ["{src}"],
- )"""
    ]


def test_reports_a_file_without_a_target(tmp_path):
    _plant(tmp_path, _TREE | {"tools/b.py": "import PIL.Image\ndef main(): pass"})
    assert build_problems(tmp_path) == [
        """BUILD, tools/b.py:
+ py_binary(
+     name = "tools/b",
+     srcs = ["tools/b.py"],
+     deps = [
+         "@pypi//pillow",
+     ],
+ )"""
    ]


@pytest.mark.parametrize(
    "path, imported, reported",
    [
        ("cdnet_tf/nn/a.py", "absl.flags", "absl_py"),
        ("cdnet_tf/nn/a.py", "requests", "requests"),
        ("cdnet_tf/nn/a.py", "tools.show", "tools/show.py"),
        ("cdnet_tf/nn/genotype.py", "tensorflow", "tensorflow"),
        ("cdnet_tf/data/a.py", "cdnet_tf.nn.blocks", "cdnet_tf/nn/blocks.py"),
        ("cdnet_tf/data/sampling.py", "cdnet_tf.data.files", "cdnet_tf/data/files.py"),
        ("cdnet_tf/a.py", "tools.show", "tools/show.py"),
        ("tools/a.py", "tensorflow_addons", "tensorflow_addons"),
    ],
)
def test_reports_an_import_against_the_rule(tmp_path, path, imported, reported):
    main = "" if path.count("/") > 1 else "\ndef main(): pass"
    _plant(tmp_path, _TREE | {path: f"import {imported}{main}"})
    assert layer_problems(tmp_path) == [f"{path}: may not import {reported}"]


@pytest.mark.parametrize(
    "path, text, problem",
    [
        ("cdnet_tf/nn/a.py", "def f():\n    import PIL", "may not import pillow"),
        ("cdnet_tf/nn/a.py", "from . import necks", "may not import ..necks"),
        ("cdnet_tf/nn/a.py", "def main(): pass", "a library has no main()"),
        ("cdnet_tf/a.py", "", "a program needs a main()"),
        ("tools/deep/a.py", "", "stands in no layer"),
        ("cdnet_tf/nn/__init__.py", "from x import y", "should be empty"),
    ],
)
def test_reports_a_file_out_of_place(tmp_path, path, text, problem):
    _plant(tmp_path, _TREE | {path: text})
    assert layer_problems(tmp_path) == [f"{path}: {problem}"]


def test_reports_a_library_that_reads_data_and_cannot_be_installed(tmp_path):
    _plant(tmp_path, _TREE | {"cdnet_tf/learn/a.py": "import cdnet_tf.data.files"})
    assert layer_problems(tmp_path) == [
        "cdnet_tf/learn/a.py: may not import cdnet_tf/data/files.py",
        "cdnet_tf/learn/__init__.py: missing",
    ]
