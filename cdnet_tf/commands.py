"""The console commands: `cdnet-train` is a shorter name of `python -m cdnet_tf.train`.

A program is run as the module `__main__` instead of by a call of its `main`, because
absl lists the flags of `__main__` for `--help`, and `--restarts` starts it again.
"""

from __future__ import annotations

import runpy


def search() -> None:
    _run("search")


def train() -> None:
    _run("train")


def evaluate() -> None:
    _run("evaluate")


def export() -> None:
    _run("export_tflite")


def tune() -> None:
    _run("tune")


def _run(program: str) -> None:
    runpy.run_module(f"cdnet_tf.{program}", run_name="__main__", alter_sys=True)
