"""Sets TensorFlow up as the programs do, whatever a test imports first."""

import cdnet_tf  # noqa: F401

# Files that take most of a minute or more, longest first. With them begun first, the
# processes of a parallel run end at about the same time.
_LONGEST = (
    "multi_worker_test.py",
    "programs_test.py",
    "tune_test.py",
    "bilevel_test.py",
    "notebooks_test.py",
    "package_test.py",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first, and leaves the others as they are."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
