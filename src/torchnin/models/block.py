"""The NiN block: one k x k convolution, then 1 x 1 convolutions, a small MLP applied at every pixel."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from .shortcuts import computes_as, run


class NiNBlock(nn.Sequential):
    """A spatial convolution followed by 1 x 1 convolutions, each with ReLU (the paper's *mlpconv* layer).

    Only the first convolution looks at neighbouring pixels and may change height and width; the others mix the
    channels of each pixel, which is a fully connected network with shared weights sliding over the picture.

    Input `(n, in_channels, h, w)`; output `(n, channels[-1], h', w')` with `h' = (h + 2 * padding - kernel_size) // stride + 1`.

    Without batch normalisation the layers stand at the indices 0, 2, 4, ... (ReLU between them), as in the notebooks'
    `nn.Sequential`, so that state dicts convert by renaming the block alone.

    Args:
        in_channels: channels of the input.
        channels: width of the spatial convolution, then of each convolution after it.
        kernel_size: side of the spatial convolution's kernel, in pixels.
        stride: step of the spatial convolution, in pixels.
        padding: zeros added on each side before the spatial convolution, in pixels.
        mlp_kernel_size: kernel of the convolutions after the first; 1 in every published network. Larger kernels are
            padded to keep height and width.
        batch_norm: normalise after each convolution, which then has no bias of its own.
        last_activation: False leaves the block's last convolution bare, without normalisation or ReLU: class maps
            that can be negative, and so cannot die.

    Source: Lin, Chen, Yan, "Network In Network" (arXiv 1312.4400), section 3.1; Dive into Deep Learning, section 8.3.1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        mlp_kernel_size: int = 1,
        batch_norm: bool = False,
        last_activation: bool = True,
    ) -> None:
        layers: list[nn.Module] = []
        for index, out_channels in enumerate(channels):
            active = last_activation or index < len(channels) - 1
            geometry = (kernel_size, stride, padding) if index == 0 else (mlp_kernel_size, 1, mlp_kernel_size // 2)
            layers.append(nn.Conv2d(in_channels, out_channels, *geometry, bias=not (batch_norm and active)))
            if active:
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out_channels))
                layers.append(nn.ReLU(inplace=True))  # safe: neither a convolution nor a norm needs its output for the gradient
            in_channels = out_channels
        super().__init__(*layers)

    def __getitem__(self, index: slice | int) -> nn.Module:
        """A layer; of a slice a block of these layers themselves, under the names that they have here, as of an `nn.Sequential`."""
        if not isinstance(index, slice):
            return super().__getitem__(index)
        block = NiNBlock.__new__(NiNBlock)
        nn.Sequential.__init__(block, OrderedDict(list(self._modules.items())[index]))
        block.training = self.training
        return block

    def forward(self, pictures: Tensor, pool: nn.Module | None = None) -> Tensor:
        """The block's output; with `pool`, that of the block and the max pooling after it.

        Max pooling and ReLU commute, to the bit and in their gradients; pooled first, the last ReLU sees a quarter of the values.
        """
        layers = self.layers(pool)
        if self.training:
            return run(layers, pictures)
        for layer in layers:
            pictures = layer(pictures)
        return pictures

    def layers(self, pool: nn.Module | None = None) -> list[nn.Module]:
        """The block's layers in the order in which they run: with `pool`, that before the ReLU that the block ends with, or at its end."""
        layers: list[nn.Module] = list(self)
        if pool is not None:
            ends_in_relu = bool(layers) and computes_as(layers[-1], nn.ReLU)
            layers.insert(len(layers) - ends_in_relu, pool)
        return layers
