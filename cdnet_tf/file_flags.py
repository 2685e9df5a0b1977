"""Flags of the programs that make files for a device: the export, and its timing."""

from __future__ import annotations

from absl import flags

REWRITE = flags.DEFINE_list(
    "rewrite",
    [],
    "Faster forms of the same function: `pool`, `shortcut` or both; docs/inference.md.",
)
NPU_SYSTEM_CONFIG = flags.DEFINE_string(
    "npu_system_config", None, "Clock and memories around the NPU; docs/export.md."
)
NPU_MEMORY_MODE = flags.DEFINE_string(
    "npu_memory_mode", None, "Where the NPU's data lie; docs/export.md."
)
