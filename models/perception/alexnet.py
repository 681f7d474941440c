"""AlexNet's convolutions, in the narrower form that torchvision trained.

Pictures are [H, W, 3] in [0, 1], sRGB-encoded, at least 31 pixels a side.

Source: Krizhevsky 2014 ("One weird trick for parallelizing convolutional neural networks").
"""

import jax
from flax import linen as nn

from models.perception.vgg import standardize

WIDTHS = (64, 192, 384, 256, 256)  # channels of each convolution, and of its tap
_WINDOWS = (11, 5, 3, 3, 3)
MIN_SIDE = 31  # pixels; two poolings of three pixels without a border need as many


class AlexTrunk(nn.Module):
    """The convolutions of AlexNet, tapped after each."""

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        """Returns relu1 to relu5 of a picture [H, W, 3]."""
        taps = []
        h = standardize(image)
        for layer, (width, window) in enumerate(zip(WIDTHS, _WINDOWS, strict=True), 1):
            if layer in (2, 3):
                h = nn.max_pool(h, (3, 3), (2, 2))
            stride = 4 if layer == 1 else 1
            border = 2 if layer == 1 else window // 2
            convolve = nn.Conv(
                width,
                (window, window),
                strides=stride,
                padding=border,
                precision="highest",
                name=f"conv{layer}",
            )
            h = nn.relu(convolve(h))
            taps.append(h)
        return taps
