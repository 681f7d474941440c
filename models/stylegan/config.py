"""The shapes of StyleGAN2's networks, and how their parameters are called.

Parameters are nested dictionaries with the names of the official files (stylegan2-ada-pytorch,
stylegan3); layouts are ours: kernels of convolutions [rows, columns, in, out] where theirs are
[out, in, rows, columns], matrices [in, out] where theirs are [out, in], pictures and features
[N, H, W, C]. Nothing else differs, so that files map name by name, by a transposition each.

Parameters of a generator, with blocks b4, b8, ..., b`resolution`; where a layer is named alone, it
has `weight` and `bias`:

  mapping     embed (with labels), fc0, fc1, ...
  synthesis   b4: const [4, 4, C], conv1, torgb; all others: conv0, conv1, torgb
              conv0, conv1: weight, bias, noise_strength [], affine; torgb: weight, bias, affine

Its buffers, which are not learnt by a gradient:

  w_avg [w_dim]; noise: of each convolution a fixed picture, as noise["b8"]["conv0"] [8, 8]

Parameters of a discriminator:

  b`resolution` down to b8: conv0, conv1, skip (no bias); the first has fromrgb too
  b4: conv, fc (its inputs in the official order: channel, row, column), out
  mapping (with labels) as above

Source: Karras et al. 2020 (StyleGAN2) and its official code.
"""

import dataclasses
import math

_FEWEST_CHANNELS = 8  # of a block, when they are chosen by its side


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a generator; hashable, so static under jit."""

    resolution: int  # pixels a side; a power of two, 4 at least
    channels: tuple[int, ...]  # of blocks 4, 8, ..., resolution
    z_dim: int = 512
    c_dim: int = 0  # numbers of a label; 0 without labels
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_rate: float = 0.01  # of its layers' learning, relative to the others'
    clamp: float | None = 256.0  # of what layers give out, in absolute value
    architecture: str = "skip"  # the picture is the sum of the blocks' own
    image_channels: int = 3

    def __post_init__(self):
        _check_blocks(self.resolution, self.channels)
        _check_counts(self, ("z_dim", "w_dim", "mapping_layers", "image_channels"))
        if self.architecture != "skip":
            raise ValueError(f"expected a generator of 'skip', found {self.architecture!r}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Of the blocks: 4, 8, ..."""
        return tuple(4 * 2**i for i in range(len(self.channels)))

    @property
    def num_ws(self) -> int:
        """How many layers have a latent of their own."""
        return 2 * len(self.channels)


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a discriminator, of the kind "resnet"; hashable, so static under jit."""

    resolution: int  # pixels a side; a power of two, 4 at least
    channels: tuple[int, ...]  # of blocks 4, 8, ..., resolution
    c_dim: int = 0  # numbers of a label; 0 without labels
    cmap_dim: int = (
        0  # that a label is mapped to; 0 without labels, else the official is channels[0]
    )
    mapping_layers: int = 8
    mapping_rate: float = 0.01
    clamp: float | None = 256.0
    group_size: int = 4  # pictures whose deviation from each other is one more feature
    group_channels: int = 1  # such features
    image_channels: int = 3

    def __post_init__(self):
        _check_blocks(self.resolution, self.channels)
        _check_counts(self, ("mapping_layers", "group_size", "group_channels", "image_channels"))
        if (self.c_dim > 0) != (self.cmap_dim > 0):
            raise ValueError(
                f"expected c_dim and cmap_dim both zero or neither, found {self.c_dim} and "
                f"{self.cmap_dim}"
            )
        if self.channels[0] % self.group_channels:
            raise ValueError(
                f"expected group_channels that divide {self.channels[0]} channels, found "
                f"{self.group_channels}"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Of the blocks: 4, 8, ..."""
        return tuple(4 * 2**i for i in range(len(self.channels)))


def channels_of(resolution: int, base: int = 32768, most: int = 512) -> tuple[int, ...]:
    """Returns the channels of the blocks 4, 8, ...: `base` over their side, 8 to `most` of them."""
    count = int(math.log2(resolution)) - 1
    return tuple(min(max(base // (4 * 2**i), _FEWEST_CHANNELS), most) for i in range(count))


def _check_blocks(resolution: int, channels: tuple[int, ...]) -> None:
    if resolution < 4 or resolution & (resolution - 1):
        raise ValueError(f"expected a power of two from 4 on, found resolution {resolution}")
    if 4 * 2 ** (len(channels) - 1) != resolution:
        raise ValueError(
            f"expected channels of the blocks 4, 8, ..., {resolution}, found {len(channels)}"
        )
    if min(channels) < 1:
        raise ValueError(f"expected channels in all blocks, found {channels}")


def _check_counts(config: GeneratorConfig | DiscriminatorConfig, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"expected {name} from one on, found {getattr(config, name)}")
