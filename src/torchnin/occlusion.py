"""Does a class map point at what the network uses? Cover places of a picture and see what becomes of its class."""

import dataclasses
import math
from typing import Literal

import torch
from jaxtyping import Float32, Int, UInt8
from torch import Tensor, nn

from torchnin.data import Preprocessing
from torchnin.explanation import Grid, at_rest, class_map_grid, prepared, require_means
from torchnin.models import NiN

_CHUNK = 64  # pictures that go through the network at a time: bounds the memory, not the result


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OcclusionDrops:
    """By how much covering a part of a picture lowers the probability of its class; below 0 where it rises."""

    pointed: Float32[Tensor, "n"]
    """Where the class map is largest."""
    elsewhere: Float32[Tensor, "n"]
    """At a random place that does not touch the first."""
    lowest: Float32[Tensor, "n"]
    """Where the class map is smallest, of the places that do not touch the first."""
    exchanged: Float32[Tensor, "n"]
    """Where the class map of another of the pictures is largest; may touch the first, or be it."""
    share: float
    """The part of the picture that is covered, 0 to 1: what whole pixels make of the share asked for."""


def occlusion_drop(
    network: NiN,
    preprocessing: Preprocessing,
    pictures: UInt8[Tensor, "n c h w"],
    classes: Int[Tensor, "n"],
    *,
    share: float = 0.1,
    filling: Literal["black", "mean", "blur"] = "black",
    generator: torch.Generator | None = None,
) -> OcclusionDrops:
    """Does a class map point at what the network uses? Cover the place and see the probability fall; cover another to compare.

    All covers have the picture's proportions and the same size. The first lies where the class map, brought to the network's
    resolution, has the largest mean, its middle among the places that the map's values stand for; the second at a place drawn
    evenly from all that do not overlap it, the third at that of them where the map has the smallest mean. The fourth lies where
    the map of another of the pictures points: maps like some places more than others (the middle, where the objects are and
    where no padding is seen), and so do covers, which would look like an agreement of the two even if the maps knew nothing of
    the picture. Over many pictures the fourth covers lie where the first ones do, so the difference of the two is free of it.

    Args:
        network: a trained NiN with `head="gap"`.
        preprocessing: what it was trained with.
        pictures: uint8 `(n, c, h, w)`.
        classes: `(n,)`, of each picture the class to look at.
        share: of the picture to cover, above 0 and at most 1/9 (a larger cover in the middle leaves no room for another).
        filling: what covers: `black` is pixel value 0, `mean` the mean colour of the given pictures, `blur` the picture
            itself, blurred beyond recognition. A cover that is not the picture's own background adds something as well.
        generator: of the random places and of which picture is paired with which; on the CPU.

    Raises:
        ValueError: `share` is out of range, `filling` is unknown, or the network's head is fully connected.

    Source: Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv 1311.2901), section 4.2.
    """
    require_means(network)
    if filling not in ("black", "mean", "blur"):
        raise ValueError(f"filling is {filling!r}; accepted: 'black', 'mean', 'blur'")
    if not 0 < share <= 1 / 9:
        raise ValueError(f"share is {share}; it must be above 0 and at most 1/9, so that a second cover finds room beside the first")
    inputs = prepared(network, preprocessing, pictures, resize=True)
    height, width = inputs.shape[2:]
    cover = tuple(max(1, min(round(side * math.sqrt(share)), side // 3)) for side in (height, width))
    covered = _filled(inputs, filling, preprocessing)
    classes = classes.to(inputs.device)
    before, corners = [], []
    for chunk, chosen in zip(inputs.split(_CHUNK), classes.split(_CHUNK), strict=True):
        with at_rest(network):
            maps = network.class_maps(chunk)
            before.append(_probability(network.head(maps), chosen))
        own = maps[torch.arange(len(chunk), device=maps.device), chosen]
        corners.append(_places(own.cpu(), class_map_grid(network, maps, inputs), cover, generator))
    places = torch.cat(corners, 1)
    order = torch.randperm(len(inputs), generator=generator, device="cpu")
    others = torch.empty_like(order).scatter(0, order, order.roll(1))  # each picture's partner, never itself but for one picture
    covers = torch.cat((places, places[:1, others]))
    drops = []
    for number, (chunk, colour, chosen) in enumerate(zip(*(each.split(_CHUNK) for each in (inputs, covered, classes)), strict=True)):
        for corner in covers[:, number * _CHUNK : number * _CHUNK + len(chunk)]:
            hidden = _cover(corner, width - cover[1] + 1, cover, (height, width)).to(chunk.device)
            with at_rest(network):
                drops.append(before[number] - _probability(network(torch.where(hidden, colour, chunk)), chosen))
    pointed, elsewhere, lowest, exchanged = (torch.cat(drops[start::4]).cpu() for start in range(4))
    return OcclusionDrops(
        pointed=pointed,
        elsewhere=elsewhere,
        lowest=lowest,
        exchanged=exchanged,
        share=math.prod(cover) / (height * width),
    )


def _places(own: Tensor, grid: Grid, cover: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Of each picture, with its map `(n, y, x)`, the places of the first three covers: `(3, n)`, numbered row by row."""
    weight = nn.functional.avg_pool2d(grid.upsample(own, *grid.picture_size)[:, None], cover, stride=1)[:, 0]
    there = (weight.shape[1], weight.shape[2])
    middles = _middles(grid, cover, there)
    first = weight.flatten(1).masked_fill(~middles, -math.inf).argmax(1)
    apart = _apart(first, there, cover)
    second = torch.multinomial(apart.float(), 1, generator=generator)[:, 0]
    allowed = apart & middles
    # A map of few values may have all its middles beneath the first cover, which then leaves places beyond them alone.
    allowed = torch.where(allowed.any(1, keepdim=True), allowed, apart)
    third = weight.flatten(1).masked_fill(~allowed, math.inf).argmin(1)
    return torch.stack((first, second, third))


def _probability(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.float().softmax(1).gather(1, classes[:, None])[:, 0]


def _filled(inputs: Tensor, filling: str, preprocessing: Preprocessing) -> Tensor:
    """What each picture shows where it is covered; `(n, c, h, w)`."""
    if filling == "mean":
        return inputs.mean((0, 2, 3), keepdim=True).expand_as(inputs)
    if filling == "black":
        return preprocessing.normalise(torch.zeros_like(inputs))
    width = min(inputs.shape[2:]) // 6 * 2 + 1
    for _ in range(3):  # three box filters are nearly a Gaussian
        inputs = nn.functional.avg_pool2d(inputs, width, stride=1, padding=width // 2, count_include_pad=False)
    return inputs


def _middles(grid: Grid, cover: tuple[int, ...], places: tuple[int, int]) -> Tensor:
    """Which covers have their middle between those of the map's first and last values, `(places,)`, numbered row by row.

    Beyond them the map is only continued, so nothing there tells one place from the next.
    """
    allowed = []
    for axis in (0, 1):
        first = grid.centre - (cover[axis] - 1) / 2
        ends = [min(max(round(end), 0), places[axis] - 1) for end in (first, first + grid.stride * (grid.size[axis] - 1))]
        there = torch.arange(places[axis], device="cpu")
        allowed.append((there >= ends[0]) & (there <= ends[1]))
    return (allowed[0][:, None] & allowed[1]).flatten()


def _apart(corners: Tensor, places: tuple[int, int], cover: tuple[int, ...]) -> Tensor:
    """Of each cover the places that do not overlap it, `(n, places)`; corners and places are numbered row by row."""
    rows, columns = (torch.arange(side, device="cpu") for side in places)
    clear_above = (rows - corners[:, None] // places[1]).abs() >= cover[0]
    clear_beside = (columns - corners[:, None] % places[1]).abs() >= cover[1]
    return (clear_above[:, :, None] | clear_beside[:, None, :]).flatten(1)


def _cover(corners: Tensor, columns: int, cover: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """Which pixels are covered: `(n, 1, h, w)`."""
    top, left = corners[:, None] // columns, corners[:, None] % columns
    down, across = (torch.arange(side, device="cpu") for side in size)
    rows, cols = (down >= top) & (down < top + cover[0]), (across >= left) & (across < left + cover[1])
    return (rows[:, :, None] & cols[:, None, :])[:, None]
