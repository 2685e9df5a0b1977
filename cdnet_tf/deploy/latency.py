"""How long a network takes on a device, from a file of what was measured there.

A search asks `milliseconds` about thousands of genotypes, so TensorFlow is not needed
and nothing is run: the file holds a time for each branch in each of the six blocks, and
a genotype takes the sum. tools/measure_latency.py writes such files; those of the
Ethos-U come with the package and are known by name.

    device = latency.load("ethos-u65-256")
    device.milliseconds(genotype.load("cdnet"))
"""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from cdnet_tf.nn.genotype import CDS, NUM_BLOCKS, Genotype

SHIPPED = pathlib.Path(__file__).resolve().parents[1] / "devices"


class Setting(NamedTuple):
    """What networks of one search have in common, and a time depends on.

    Attributes:
      width_multiplier: of all channels, see `networks.scaled_channels`.
      height, width: of the input, pixels.
    """

    width_multiplier: float = 1.0
    height: int = 256
    width: int = 128

    def __str__(self) -> str:
        return f"x{self.width_multiplier:g}_{self.height}x{self.width}"


class Additive(NamedTuple):
    """A time as a sum.

    Attributes:
      constant: of all that is no block, milliseconds.
      branches: for each of the six blocks, the milliseconds of each branch of CDS.
    """

    constant: float
    branches: tuple[Mapping[str, float], ...]

    def milliseconds(self, genotype: Genotype) -> float:
        """Returns the time of a genotype."""
        parts = zip(self.branches, genotype.layers)
        return self.constant + sum(times[str(layer)] for times, layer in parts)

    def to_json(self) -> dict[str, Any]:
        """Returns what `additive` reads, in whole nanoseconds."""
        branches = [rounded(times) for times in self.branches]
        return {"constant": round(self.constant, 6), "branches": branches}


class Device(NamedTuple):
    """Times on one device.

    Attributes:
      name: of the device.
      settings: the model of each setting that was measured.
      accepted: whether the judgement of each setting was passed.
      conditions: what the times hold for, as the file says it.
    """

    name: str
    settings: Mapping[Setting, Additive]
    accepted: Mapping[Setting, bool]
    conditions: Mapping[str, Any]

    def milliseconds(
        self,
        genotype: Genotype,
        width_multiplier: float = 1.0,
        height: int = 256,
        width: int = 128,
    ) -> float:
        """Returns the time of one image, predicted; raises as `model`."""
        return self.model(width_multiplier, height, width).milliseconds(genotype)

    def model(
        self, width_multiplier: float = 1.0, height: int = 256, width: int = 128
    ) -> Additive:
        """Returns the times of all genotypes at one width and input size.

        Warns where tools/measure_latency.py has refused the times as too inaccurate.

        Raises:
          ValueError: the device was not measured at this width and input size.
        """
        setting = Setting(float(width_multiplier), int(height), int(width))
        if setting not in self.settings:
            known = ", ".join(map(str, self.settings))
            raise ValueError(
                f"{self.name} was not measured at {setting}, but at {known}; use one "
                "of these, or run tools/measure_latency.py with --width_multipliers "
                "and --sizes."
            )
        if not self.accepted[setting]:
            warnings.warn(
                f"The times of {self.name} at {setting} are inaccurate: they failed "
                "the test of tools/measure_latency.py. Measure again on a quiet "
                "machine, or with more --files.",
                stacklevel=2,
            )
        return self.settings[setting]


def names() -> list[str]:
    """Returns the devices that `load` knows without a file."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load(source: str | pathlib.Path) -> Device:
    """Reads a device's file.

    Args:
      source: the name of a device that comes with the package, or a path.

    Raises:
      FileNotFoundError: there is neither such a name nor such a file.
      ValueError: the file is none of tools/measure_latency.py.
    """
    path = pathlib.Path(source)
    if str(source) in names():
        path = SHIPPED / f"{source}.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"No device {str(source)!r}: neither a file of tools/measure_latency.py "
            f"nor one of {', '.join(names()) or 'those that come with the package'}."
        )
    try:
        return _read(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no times of a device ({error!r}); make it with "
            "tools/measure_latency.py."
        ) from error


def rounded(times: Mapping[str, float]) -> dict[str, float]:
    """Returns milliseconds in whole nanoseconds, so that a file stays small."""
    return {name: round(time, 6) for name, time in times.items()}


def _read(record: Mapping[str, Any]) -> Device:
    settings, accepted = {}, {}
    for each in record["settings"]:
        setting = Setting(
            float(each["width_multiplier"]), int(each["height"]), int(each["width"])
        )
        settings[setting] = additive(each["model"])
        accepted[setting] = bool(each["judgement"]["accepted"])
    if not settings:
        raise ValueError("no setting was measured")
    return Device(str(record["device"]), settings, accepted, record["conditions"])


def additive(model: Mapping[str, Any]) -> Additive:
    """Reads what `Additive.to_json` gives.

    Raises:
      KeyError, TypeError, ValueError: it is not that.
    """
    blocks = [
        {str(branch): float(times[str(branch)]) for branch in CDS}
        for times in model["branches"]
    ]
    if len(blocks) != NUM_BLOCKS:
        raise ValueError(f"{len(blocks)} blocks instead of {NUM_BLOCKS}")
    return Additive(float(model["constant"]), tuple(blocks))
