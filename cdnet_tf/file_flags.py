"""Flags of the programs that make files for a device: the export, and its timing."""

from __future__ import annotations

from absl import flags

REWRITE = flags.DEFINE_list(
    "rewrite",
    None,
    "Replace layers by faster ones that compute the same: `pool`, `shortcut`, both, or "
    "none with nothing after the =. The export uses both for integer files. See "
    "docs/inference.md.",
)
NPU_SYSTEM_CONFIG = flags.DEFINE_string(
    "npu_system_config", None, "Clock and memories of the NPU; see docs/export.md."
)
NPU_MEMORY_MODE = flags.DEFINE_string(
    "npu_memory_mode", None, "Memories that hold the NPU's data; see docs/export.md."
)
