"""The search spaces CS and CDS, and the genotype that a search finds.

TensorFlow is not imported, so that reading a genotype takes milliseconds.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from typing import Any, NamedTuple

PUBLISHED = pathlib.Path(__file__).parent / "genotypes"
NUM_BLOCKS = 6


class Branch(NamedTuple):
    """One candidate of an MBlock: a CDBlock (paper, section 3.1).

    Attributes:
      kernel1: receptive field of the first stream, 3, 5 or 7 pixels.
      kernel2: receptive field of the second stream, 5, 7 or 9 pixels.
      repeats: how many CBlocks stand in a row, 1 or 2.
    """

    kernel1: int
    kernel2: int
    repeats: int = 1

    @property
    def lites(self) -> tuple[int, int]:
        """Number of Lite 3x3 in each stream: floor(k / 2), Eq. 1."""
        return self.kernel1 // 2, self.kernel2 // 2

    def __str__(self) -> str:
        return f"({self.kernel1},{self.kernel2},{self.repeats})"


CS = tuple(Branch(*k) for k in ((3, 5), (3, 7), (3, 9), (5, 7), (5, 9), (7, 9)))
CDS = CS + tuple(branch._replace(repeats=2) for branch in CS)
SPACES = {"cs": CS, "cds": CDS}


@dataclasses.dataclass(frozen=True)
class Genotype:
    """The branch of each of the six blocks, from the image to the embedding.

    Raises:
      ValueError: if there are not six layers, or one is not a branch of CDS.
    """

    layers: tuple[Branch, ...]

    def __post_init__(self) -> None:
        layers = tuple(Branch(*layer) for layer in self.layers)
        object.__setattr__(self, "layers", layers)
        if len(layers) != NUM_BLOCKS:
            raise ValueError(
                f"A genotype has {NUM_BLOCKS} layers, got {len(layers)}: {layers}."
            )
        for number, layer in enumerate(layers, 1):
            if layer not in CDS:
                raise ValueError(
                    f"Layer {number} is {layer}, which is no branch of CDS; use one "
                    f"of {' '.join(map(str, CDS))}."
                )

    def __str__(self) -> str:
        return " ".join(map(str, self.layers))

    @property
    def space(self) -> str:
        """The smallest space that holds this genotype: `cs` or `cds`."""
        return "cs" if all(layer in CS for layer in self.layers) else "cds"

    @property
    def depth(self) -> int:
        """Number of CBlocks in the network, 6 to 12: the sum of the repeats."""
        return sum(layer.repeats for layer in self.layers)

    def to_json(self, **extra: Any) -> str:
        """Writes the layers as (k1, k2, r) lists, which do not depend on the space.

        Args:
          **extra: further entries of the search, such as alpha and provenance.
        """
        layers = [list(layer) for layer in self.layers]
        return json.dumps({"space": self.space, "layers": layers, **extra}, indent=1)


def published_names() -> list[str]:
    """Returns the names of published genotypes, e.g. `cdnet`, that `load` knows."""
    return sorted(path.stem for path in PUBLISHED.glob("*.json"))


def load(source: str | pathlib.Path) -> Genotype:
    """Reads a genotype from a published name, a file, a search's folder, or a text.

    Args:
      source: `cnet`, `cdnet`, `cdnet_v35`, a JSON file, a directory that holds a
        `genotype.json`, or the branches themselves, as `str` of a genotype writes
        them: `(3,5,1) (3,7,2) ...`.

    Raises:
      FileNotFoundError: if it is none of these.
      ValueError: if the file or the text does not hold a valid genotype.
    """
    if str(source).lstrip().startswith("("):
        return _parse(str(source))
    path = pathlib.Path(source)
    if str(source) in published_names():
        path = PUBLISHED / f"{source}.json"
    elif path.is_dir():
        path = path / "genotype.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"No genotype {str(source)!r}: neither a file, nor a search's run directory"
            f" with a genotype.json, nor one of {', '.join(published_names())}."
        )
    try:
        return Genotype(
            tuple(Branch(*row) for row in json.loads(path.read_text())["layers"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} holds no genotype ({error}); expected {{"layers": [[k1, k2, r], '
            f"... {NUM_BLOCKS} of them]}}."
        ) from error


def _parse(text: str) -> Genotype:
    if not re.fullmatch(r"(\s*\(\s*\d+\s*(,\s*\d+\s*){1,2}\))+\s*", text):
        raise ValueError(
            f"{text!r} is no genotype; write {NUM_BLOCKS} branches (k1,k2,r), such as "
            "(3,5,1) (3,7,2) (5,7,2) (5,9,1) (5,7,2) (5,7,1)."
        )
    branches = re.findall(r"\(([^)]*)\)", text)
    return Genotype(tuple(Branch(*map(int, each.split(","))) for each in branches))
