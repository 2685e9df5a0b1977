"""Flags of the programs that make files for a device: the export, and its timing."""

from __future__ import annotations

from absl import flags

REWRITE = flags.DEFINE_list(
    "rewrite",
    None,
    "Replace layers by faster ones that compute the same: some of `pool`, `shortcut` "
    "and `mean`, or none with nothing after the =. By default, integer files get "
    "`pool` and `shortcut`, and those for an Ethos-U also `mean`. See "
    "docs/inference.md.",
)
NPU_SYSTEM_CONFIG = flags.DEFINE_string(
    "npu_system_config", None, "Clock and memories of the NPU; see docs/export.md."
)
NPU_MEMORY_MODE = flags.DEFINE_string(
    "npu_memory_mode", None, "Memories that hold the NPU's data; see docs/export.md."
)
