"""What a network subtracts from the colours of an image, and divides them by.

It needs no TensorFlow, because a camera has none.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """The mean that a network expects subtracted, and the deviation to divide by.

    Attributes:
      mean, std: of red, green and blue, on the scale 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def scale_and_shift(self) -> tuple[list[float], list[float]]:
        """Scale and shift of each channel; they normalise pixels of 0..255."""
        scale = [1.0 / (255.0 * std) for std in self.std]
        return scale, [-mean / std for mean, std in zip(self.mean, self.std)]


# For images of people, and for ImageNet.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# For CIFAR-100, with the values of GDAS, which section 4.4 of the paper cites ([4]).
CIFAR = Normalisation(
    tuple(mean / 255 for mean in (129.3, 124.1, 112.4)),
    tuple(std / 255 for std in (68.2, 65.4, 70.4)),
)
