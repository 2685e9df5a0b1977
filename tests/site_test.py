"""The documentation as a site, built as `make docs` builds it."""

import ast
import html
import pathlib
import re

import pytest
from mkdocs import config
from mkdocs.commands import build

import cdnet_tf

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning of MkDocs or mkdocstrings is an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        settings = config.load_config(
            str(_ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True
        )
        build.build(settings)
    return folder


def _page(site, name):
    return (site / name).read_text("utf-8")


def test_every_chapter_is_in_the_menu(site):
    links = set(re.findall(r'href="(\w+)\.html"', _page(site, "reference.html")))
    chapters = {path.stem for path in (_ROOT / "docs").glob("*.md")}
    assert chapters <= links | {"reference"}


@pytest.mark.parametrize(
    "file, name",
    [
        ("api/reid.py", "load"),
        ("api/embeddings.py", "rank"),
        ("gallery/gallery.py", "Gallery"),
        ("search.py", "search"),
        ("settings.py", "TrainSettings"),
    ],
)
def test_reference_says_what_the_docstring_says(site, file, name):
    tree = ast.parse((_ROOT / "cdnet_tf" / file).read_text("utf-8"))
    (found,) = (node for node in tree.body if getattr(node, "name", None) == name)
    first_line = ast.get_docstring(found).splitlines()[0]
    page = html.unescape(re.sub(r"<[^>]+>", "", _page(site, "reference.html")))
    assert first_line.replace("`", "") in page


def test_reference_has_every_name_of_the_python_api(site):
    described = re.findall(r'<h3 id="[\w.]*\.(\w+)"', _page(site, "reference.html"))
    assert set(cdnet_tf.__all__) <= set(described)


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r'<(?:link|script|img)[^>]*"(?:https?:)?//', text), page
        # For a diagram, the theme's script loads mermaid.js from a public server.
        assert "mermaid" not in text, page
