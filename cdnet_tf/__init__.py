"""Person re-identification with CDNet: search, train, evaluate, export.

    reid = cdnet_tf.load("market1501/cdnet_x0_5")
    ranking = cdnet_tf.rank(reid("query.jpg"), reid("gallery/"))

The names in `__all__` are imported when they are first used, because importing
TensorFlow takes seconds.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdnet_tf.api.embeddings import (
        Ranking,
        evaluate_embeddings,
        rank,
    )
    from cdnet_tf.api.reid import Embedded, Reid, load
    from cdnet_tf.api.thresholds import Verdict
    from cdnet_tf.deploy.identity import Network
    from cdnet_tf.gallery.gallery import Gallery

__all__ = [
    "Embedded",
    "Gallery",
    "Network",
    "Ranking",
    "Reid",
    "Verdict",
    "evaluate_embeddings",
    "load",
    "rank",
]

# TensorFlow reads these two on import. The first silences its messages on start-up.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow uses oneDNN's kernels by default only on processors with AVX-512. On others
# they halve the time of a training step, too. Builds for Macs have no such kernels.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# No module of the package may have one of these names. `cdnet_tf.evaluate` is a module
# already, so the function that scores embeddings is called `evaluate_embeddings`.
_MODULES = {
    "Embedded": "api.reid",
    "Gallery": "gallery.gallery",
    "Network": "deploy.identity",
    "Ranking": "api.embeddings",
    "Reid": "api.reid",
    "Verdict": "api.thresholds",
    "evaluate_embeddings": "api.embeddings",
    "load": "api.reid",
    "rank": "api.embeddings",
}

if not TYPE_CHECKING:  # A type checker would accept any name because of __getattr__.

    def __getattr__(name: str) -> object:
        """Imports a name of `__all__` when it is first used (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
        globals()[name] = getattr(module, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
