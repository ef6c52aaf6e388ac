"""What the notes beside the notebooks claim, shown with numbers. Nothing is trained; all of it takes seconds."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

import torchnin

# Of each network its convolutions (channels in that one filter sees, filters, kernel) and its fully connected layers (in, out).
# The book's are those of its chapters 8.1 and 8.2 for grey pictures of 224 pixels and ten classes; the originals are AlexNet
# (Krizhevsky, Sutskever, Hinton 2012; its second, fourth and fifth layer are split in two groups) and VGG-11 and VGG-16
# (Simonyan, Zisserman, arXiv 1409.1556, configurations A and D), all for colour pictures and 1000 classes.
LAYERS: dict[str, tuple[Sequence[tuple[int, int, int]], Sequence[tuple[int, int]]]] = {
    "AlexNet, the book's": (
        ((1, 96, 11), (96, 256, 5), (256, 384, 3), (384, 384, 3), (384, 256, 3)),
        ((256 * 5 * 5, 4096), (4096, 4096), (4096, 10)),
    ),
    "VGG-11, the book's": (
        ((1, 64, 3), (64, 128, 3), (128, 256, 3), (256, 256, 3), (256, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3)),
        ((512 * 7 * 7, 4096), (4096, 4096), (4096, 10)),
    ),
    "AlexNet, 2012": (
        ((3, 96, 11), (48, 256, 5), (256, 384, 3), (192, 384, 3), (192, 256, 3)),
        ((256 * 6 * 6, 4096), (4096, 4096), (4096, 1000)),
    ),
    "VGG-16, 2014": (
        (
            *((3, 64, 3), (64, 64, 3), (64, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 256, 3)),
            *((256, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3), (512, 512, 3)),
        ),
        ((512 * 7 * 7, 4096), (4096, 4096), (4096, 1000)),
    ),
}


def one_by_one() -> dict[str, Any]:
    """A 1x1 convolution against a fully connected layer with the same weights, at every pixel of real feature maps."""
    picture = torch.tensor(torchnin.load_dataset("fashion-mnist-sample").test.images[0])
    torch.manual_seed(0)
    network = torchnin.create_model("nin_d2l").eval()
    preprocessing = torchnin.Preprocessing(channels=1, height=224, width=224, mean=(0.0,), std=(1.0,))
    with torch.no_grad():
        block = network.body[0]
        before = block[1](block[0](preprocessing(picture[None])))
        convolution = block[2]
        linear = nn.Linear(convolution.in_channels, convolution.out_channels)
        linear.weight.copy_(convolution.weight[:, :, 0, 0])
        linear.bias.copy_(convolution.bias)
        by_convolution = convolution(before)
        by_linear = linear(before.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return {
        "feature_maps": list(before.shape),
        "pixels": before.shape[2] * before.shape[3],
        "convolution_parameters": sum(parameter.numel() for parameter in convolution.parameters()),
        "linear_parameters": sum(parameter.numel() for parameter in linear.parameters()),
        "largest_value": float(by_convolution.abs().max()),
        "largest_difference": float((by_convolution - by_linear).abs().max()),
    }


def connected_heads() -> dict[str, Any]:
    """Where the parameters of AlexNet, VGG and NiN are, counted from their layers: weights and biases."""
    rows = []
    for name, (convolutions, connected) in LAYERS.items():
        body = sum(filters * (channels * kernel**2 + 1) for channels, filters, kernel in convolutions)
        head = sum(outputs * (inputs + 1) for inputs, outputs in connected)
        rows.append({"network": name, "convolutions": body, "fully_connected": head, "share": head / (body + head)})
    for name in ("nin_d2l", "nin_imagenet"):
        total = sum(parameter.numel() for parameter in torchnin.create_model(name).parameters())
        rows.append({"network": name, "convolutions": total, "fully_connected": 0, "share": 0.0})
    return {"networks": rows}


def dropout() -> dict[str, Any]:
    """`Dropout` and `Dropout2d` on the same tensor: what enters the last block of the chapter's network, `1x384x5x5`, all ones."""
    ones = torch.ones(1, 384, 5, 5)
    rows = []
    for layer in (nn.Dropout(0.5), nn.Dropout2d(0.5)):
        torch.manual_seed(0)
        dropped = layer(ones)
        zeros = (dropped == 0).double().mean((2, 3))[0]
        draws = torch.stack([layer(ones).mean((2, 3))[0] for _ in range(200)])  # what global average pooling would see of a channel
        rows.append(
            {
                "layer": type(layer).__name__,
                "zeroed": float(zeros.mean()),
                "channels_wholly_zero": int((zeros == 1).sum()),
                "channels_untouched": int((zeros == 0).sum()),
                "value_of_the_rest": float(dropped.max()),
                "mean_of_a_channel": float(draws.mean()),
                "deviation_of_a_channel": float(draws.std()),
                "channels_that_eval_changes": int((layer.eval()(ones) != ones).sum()),
            }
        )
    return {"tensor": list(ones.shape), "p": 0.5, "layers": rows}
