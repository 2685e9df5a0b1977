"""Flags that say for which device, and at which widths, networks are measured or found.

tools/measure_latency.py measures there, and `cdnet_tf.search` searches there.
"""

from __future__ import annotations

from absl import flags

DEVICE = flags.DEFINE_string(
    "device",
    None,
    "To measure: an Ethos-U such as ethos-u65-256, `litert` or `benchmark_model`. To "
    "search for: a file of tools/measure_latency.py, or ethos-u55-256, ethos-u65-256 "
    "or ethos-u85-256, whose files come with the package.",
)
WIDTH_MULTIPLIERS = flags.DEFINE_list(
    "width_multipliers",
    None,
    "Widths to measure at, or that a network found may have, as in 0.25,0.5. Default: "
    "1 to measure, and --width_multiplier alone to search.",
)
