"""Normalised and augmented batches of cell photographs, made by whole-batch tensor operations on any device.

The way of a batch: flips and quarter turns move whole rows and planes of bytes; every change of colour and
the normalisation are one look-up per byte in a table of 256 values per image and channel; free geometry is
one bilinear resampling. What is switched off costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from lymphoscope.errors import InputError
from lymphoscope.training.bounds import check_range

_DRAWS = {
    "flips": 2,
    "quarter_turns": 1,
    "rotation": 1,
    "shift": 2,
    "scale": 1,
    "brightness": 1,
    "contrast": 1,
    "stain": 6,
}
"""Random numbers per image and kind, in the order in which they are drawn."""

_AT_ONCE = 8
"""Images worked on at a time on a processor with caches: intermediate results then stay in them."""


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random in every image of every batch; each value drawn evenly from ± its bound.

    Attributes
    ----------
    flips : mirror left-right and top-bottom, each for half of the images. Exact.
    quarter_turns : turn by 0, 90, 180 or 270 degrees. Exact.
    rotation : degrees about the centre, 0 to 180. What turns in from outside is the image mirrored at its
        border.
    shift : share of the side, in both directions, 0 to 0.5.
    scale : enlargement by 1 ± scale, 0 to 0.5.
    sharp : share of the images that rotation, shift and scale leave alone, 0 to 1. Between pixels a
        photograph is interpolated and loses its finest detail; those that are predicted are not, so some
        should be learned from as sharp as they are.
    brightness : share of the full range (255) added to all channels, 0 to 0.5; the result is cut off at
        black and white, as a camera would.
    contrast : distance from the normalisation's mean times 1 ± contrast, 0 to 0.5; cut off likewise.
    stain : staining strength, 0 to 0.5, per channel in optical density D = -ln(v / 255) (Beer-Lambert):
        D becomes (1 + a) D + b (1 - v / 255) with a and b each from ± stain. The offset fades with the
        light absorbed, so that what took no stain (white) stays as it is; up to 0.5 darker pixels stay
        darker. After Tellez et al. 2018 (doi:10.1109/TMI.2018.2820199), who scale and offset the density
        of each dye.

    Raises
    ------
    InputError : a value is out of its range.
    """

    flips: bool = False
    quarter_turns: bool = False
    rotation: float = field(default=0.0, metadata={"most": 180.0})
    shift: float = field(default=0.0, metadata={"most": 0.5})
    scale: float = field(default=0.0, metadata={"most": 0.5})
    brightness: float = field(default=0.0, metadata={"most": 0.5})
    contrast: float = field(default=0.0, metadata={"most": 0.5})
    stain: float = field(default=0.0, metadata={"most": 0.5})
    sharp: float = field(default=0.0, metadata={"most": 1.0})

    def __post_init__(self) -> None:
        for each in fields(self):
            if "most" in each.metadata:
                value = getattr(self, each.name)
                check_range(f"augmentation.{each.name}", value, 0.0, each.metadata["most"])

    @property
    def changes_colour(self) -> bool:
        """Whether any value of a pixel changes other than by moving."""
        return bool(self.brightness or self.contrast or self.stain)

    @property
    def resamples(self) -> bool:
        """Whether pixels move by other than whole pixels."""
        return bool(self.rotation or self.shift or self.scale)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation per channel (red, green, blue), of values scaled to 0–1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name in ("mean", "deviation"):
            if len(getattr(self, name)) != 3:
                raise InputError(
                    f"normalisation.{name} needs one number per channel",
                    found=getattr(self, name),
                    allowed="3 numbers: red, green, blue",
                )
            for value in getattr(self, name):
                check_range(f"normalisation.{name}", value, 0.0, 1.0, open_low=name == "deviation")

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8] | Tensor, rows: npt.NDArray[np.int64] | None = None) -> Self:
        """Mean and deviation over all pixels of `images`, uint8 (n, S, S, 3), or of some of its `rows`.

        A few images at a time are read, so that a memory-mapped array never lies in memory whole. A channel
        without any spread gets the deviation of one grey level in 255.
        """
        n = len(images) if rows is None else len(rows)
        if n == 0:
            raise InputError("a normalisation needs images", found=n, allowed="at least 1 image")
        total, squares, pixels = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
        for start in range(0, n, _AT_ONCE):
            chosen: Any = slice(start, start + _AT_ONCE) if rows is None else rows[start : start + _AT_ONCE]
            part = images[chosen]
            values = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
            # Sums of whole numbers in doubles are exact, so the order of the images does not matter.
            lines = values.reshape(-1, 3 * values.shape[2]).to(torch.float64)
            total += lines.sum(0).view(-1, 3).sum(0).cpu()
            squares += lines.square_().sum(0).view(-1, 3).sum(0).cpu()
            pixels += lines.numel() // 3
        mean = total / pixels
        deviation = (squares / pixels - mean**2).clamp_min(0).sqrt().clamp_min(1.0)
        return cls(_triple(mean / 255), _triple(deviation / 255))


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of ImageNet's training images: what networks with its weights expect."""


def prepare(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Scale to 0–1 and normalise: uint8 (n, S, S, 3) → float32 (n, 3, S, S) in channels-last memory."""
    _check_images(images)
    prepared = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    _normalise(images, _lines(normalisation, images), prepared)
    return prepared.permute(0, 3, 1, 2)


@torch.no_grad()
def augment(
    images: Tensor, augmentation: Augmentation, normalisation: Normalisation, generator: torch.Generator
) -> Tensor:
    """The same as `prepare` with `augmentation` applied at random; with everything off exactly the same.

    Parameters
    ----------
    images : uint8 (n, S, S, 3) on any device.
    generator : the only source of chance. The draws of every kind are taken in every call, so that switching
        one kind on changes nothing about the others (but a share `sharp` above 0, which draws once more). A
        generator of the CPU gives the same changes on every device, and does not make a graphics processor
        wait.

    Returns
    -------
    float32 (n, 3, S, S) in channels-last memory.
    """
    _check_images(images)
    n = len(images)
    drawn = _draw(n, generator)
    if augmentation.flips or augmentation.quarter_turns:
        images = _reoriented(images, *_orientation(augmentation, drawn))
    line = _lines(normalisation, images)
    table = placement = None
    if augmentation.changes_colour:
        table = _colour_table(augmentation, normalisation, drawn).to(images.device, non_blocking=True)
    if augmentation.resamples:
        placement = _placement(augmentation, drawn)
        if augmentation.sharp > 0:  # only here, so that who resamples all draws as ever
            left = torch.rand(n, generator=generator, device=generator.device) >= 1 - augmentation.sharp
            placement[left] = torch.eye(2, 3, device=placement.device)
        placement = placement.to(images.device, non_blocking=True)
    augmented = torch.empty(images.shape, dtype=torch.float32, device=images.device)
    step = _AT_ONCE if images.device.type == "cpu" else max(n, 1)
    buffer = augmented if placement is None else torch.empty_like(augmented[:step])
    for start in range(0, n, step):
        part = slice(start, start + step)
        target = augmented[part]
        pixels = target if placement is None else buffer[: len(target)]
        if table is None:
            _normalise(images[part], line, pixels)
        else:
            _look_up(images[part], table[part], pixels)
        if placement is not None:
            _resample(pixels, placement[part], target)
    return augmented.permute(0, 3, 1, 2)


def orientations(images: Tensor, k: Literal[1, 2, 4, 8]) -> Iterator[Tensor]:
    """`k` versions of a batch, uint8 (n, S, S, 3), for averaging at prediction.

    1: as it is; 2: and mirrored left-right; 4: the quarter turns; 8: the quarter turns, and all mirrored.
    """
    if k not in (1, 2, 4, 8):
        raise InputError("orientations at prediction are a number of turns", found=k, allowed="1, 2, 4 or 8")
    _check_images(images)
    for turn in range(4 if k >= 4 else 1):
        turned = torch.rot90(images, turn, (1, 2)) if turn else images
        yield turned
        if k in (2, 8):
            yield turned.flip(2)


def _draw(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Even draws from [0, 1) on the generator's device, (n, columns) per kind: a row per image."""
    drawn = torch.rand(
        n, sum(_DRAWS.values()), generator=generator, dtype=torch.float32, device=generator.device
    )
    return dict(zip(_DRAWS, torch.split(drawn, list(_DRAWS.values()), dim=1), strict=True))


def _either_way(augmentation: Augmentation, drawn: dict[str, Tensor], kind: str) -> Tensor:
    """Draws of one kind, evenly from ± its bound, (n, columns)."""
    return (2 * drawn[kind] - 1) * float(getattr(augmentation, kind))


def _orientation(augmentation: Augmentation, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Whether to exchange rows and columns, and then to mirror left-right and top-bottom: three bool (n,).

    These three make up all eight orientations of a square: a quarter turn counter-clockwise is an exchange,
    then a mirror image top-bottom; half a turn is both mirror images.
    """
    turn = (4 * drawn["quarter_turns"][:, 0]).long() * int(augmentation.quarter_turns)
    mirror = (drawn["flips"] < 0.5) & augmentation.flips
    exchange = turn % 2 == 1
    left_right = mirror[:, 0] ^ (turn >= 2)
    top_bottom = mirror[:, 1] ^ ((turn == 1) | (turn == 2))
    return exchange, left_right, top_bottom


def _reoriented(images: Tensor, exchange: Tensor, left_right: Tensor, top_bottom: Tensor) -> Tensor:
    """Apply `_orientation` to each image, moving whole rows wherever possible.

    Two selections of rows do the mirroring top-bottom and sort the images into those that need nothing more,
    those to be mirrored left-right and those whose rows and columns are exchanged. A mirror image left-right
    after an exchange is one top-bottom before it, hence a selection of rows too.
    """
    n, side = images.shape[:2]
    group = torch.where(exchange, 2, left_right.long())
    order = group.argsort(stable=True)
    mirrored, exchanged = (int((group < each).sum()) for each in (1, 2))
    rows = images.reshape(n * side, 3 * side)
    first = _row_numbers(order, (exchange & left_right)[order], side).to(images.device, non_blocking=True)
    sorted_images = rows.index_select(0, first).view(n, side, side, 3)
    sorted_images[mirrored:exchanged] = sorted_images[mirrored:exchanged].flip(2)
    sorted_images[exchanged:] = _exchanged(sorted_images[exchanged:])
    second = _row_numbers(order.argsort(), top_bottom, side).to(images.device, non_blocking=True)
    return sorted_images.view(n * side, 3 * side).index_select(0, second).view(n, side, side, 3)


def _row_numbers(image: Tensor, upside_down: Tensor, side: int) -> Tensor:
    """Rows of a stack of images, those of each wanted `image` from its top or, `upside_down`, its bottom."""
    row = torch.arange(side, device=image.device)
    return (image[:, None] * side + torch.where(upside_down[:, None], side - 1 - row, row)).flatten()


def _exchanged(images: Tensor) -> Tensor:
    """Rows and columns exchanged, a channel at a time: twice as fast as moving three bytes at a time."""
    result = torch.empty_like(images)
    for channel in range(3):
        result[..., channel] = images[..., channel].transpose(1, 2)
    return result


def _lines(normalisation: Normalisation, images: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset from bytes to normalised values, for a line of pixels of `images`, each (3 S,).

    A line at a time, because torch is slow on operands that repeat every three values.
    """
    deviation = torch.tensor(normalisation.deviation, dtype=torch.float64)
    offset = -torch.tensor(normalisation.mean, dtype=torch.float64) / deviation
    slope, offset = (
        each.to(torch.float32).repeat(images.shape[1]) for each in (1 / (255 * deviation), offset)
    )
    return slope.to(images.device, non_blocking=True), offset.to(images.device, non_blocking=True)


def _normalise(images: Tensor, lines: tuple[Tensor, Tensor], target: Tensor) -> None:
    """Write the normalised `images`, uint8 (n, S, S, 3), into `target`, float32 of the same shape."""
    slope, offset = lines
    values = target.view(-1, len(slope)).copy_(images.reshape(-1, len(slope)))
    torch.addcmul(offset, values, slope, out=values)


def _colour_table(
    augmentation: Augmentation, normalisation: Normalisation, drawn: dict[str, Tensor]
) -> Tensor:
    """What each byte becomes: stain, then contrast, brightness and the normalisation; (n, 3, 256) float32."""
    light = torch.linspace(0, 1, 256, device=drawn["stain"].device).expand(1, 3, 256)
    mean, deviation = (
        torch.tensor(each, device=light.device).view(1, 3, 1)
        for each in (normalisation.mean, normalisation.deviation)
    )
    strength, offset = _either_way(augmentation, drawn, "stain").view(-1, 3, 2, 1).unbind(2)
    light = light ** (1 + strength) * torch.exp(-offset * (1 - light))
    contrast, brightness = (
        _either_way(augmentation, drawn, kind)[:, :, None] for kind in ("contrast", "brightness")
    )
    light = (mean + (1 + contrast) * (light - mean) + brightness).clamp(0, 1)
    return (light - mean) / deviation


def _look_up(images: Tensor, table: Tensor, target: Tensor) -> None:
    """Write what the `table`, (n, 3, 256), says of each byte of `images` into `target`, float32 (n, S, S, 3).

    A look-up costs half of the powers and exponentials of the stain computed per pixel.
    """
    n, side = images.shape[:2]
    start = torch.arange(3 * n, dtype=torch.int32, device=images.device).view(n, 1, 3) * 256
    places = images.reshape(n, side, 3 * side).int().add_(start.repeat(1, 1, side))
    torch.index_select(table.flatten(), 0, places.flatten(), out=target.view(-1))


def _placement(augmentation: Augmentation, drawn: dict[str, Tensor]) -> Tensor:
    """Where a pixel of the new image comes from, as coefficients (n, 2, 3): x and y in x, y and 1.

    -1 and 1 are the image's edges. The old image is turned counter-clockwise and enlarged about its centre,
    then shifted; this is the way back.
    """
    angle = torch.deg2rad(_either_way(augmentation, drawn, "rotation")[:, 0])
    scale = 1 + _either_way(augmentation, drawn, "scale")[:, 0]
    shift = 2 * _either_way(augmentation, drawn, "shift")
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    return torch.cat([turn, -turn @ shift[:, :, None]], dim=2)


def _resample(images: Tensor, placement: Tensor, target: Tensor) -> None:
    """Write `images`, float32 (n, S, S, 3), as placed by `placement` into `target`, bilinearly."""
    side = images.shape[1]
    # The centre of a pixel lies half a pixel inside its edge.
    axis = (torch.arange(side, device=images.device) * 2 + 1) / side - 1
    per_column, per_row, start = placement.permute(2, 1, 0)[..., None, None]
    # A sum of one term per column and one per row: many times faster than torch's affine_grid.
    source = per_column * axis + (per_row * axis[:, None] + start)
    moved = grid_sample(
        images.permute(0, 3, 1, 2), source.permute(1, 2, 3, 0), "bilinear", "reflection", align_corners=False
    )
    target.permute(0, 3, 1, 2).copy_(moved)


def _check_images(images: Tensor) -> None:
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if images.dtype != torch.uint8 or not square:
        raise InputError(
            "these are not square colour photographs",
            found=f"{images.dtype} of shape {tuple(images.shape)}",
            allowed="uint8 of shape (n, S, S, 3)",
        )


def _triple(values: Tensor) -> tuple[float, float, float]:
    return cast("tuple[float, float, float]", tuple(values.tolist()))
