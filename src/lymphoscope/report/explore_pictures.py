"""Photographs of a cohort: sample cells of each class, and what was taken for the nucleus and the cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from lymphoscope.report.explore_content import ExploreContent
from lymphoscope.report.explore_figures import MALIGNANT, REACTIVE, UNLABELLED, Drawing
from lymphoscope.report.figures import PAGE_WIDTH, new_figure

CELLS_PER_LINE = 9
EXAMPLES_PER_LINE = 6


def sample_cells(content: ExploreContent) -> Drawing:
    """Some photographs of each class, at most `CELLS_PER_LINE` side by side."""
    names = {1: MALIGNANT.title, 0: REACTIVE.title, -1: UNLABELLED.title}
    lines = [
        (names[sample.label] if start == 0 else "", sample.images[start : start + CELLS_PER_LINE])
        for sample in content.samples
        for start in range(0, len(sample.images), CELLS_PER_LINE)
    ]
    if not lines:
        return "There are no photographs."
    columns = max(len(images) for _, images in lines)
    cell = PAGE_WIDTH / CELLS_PER_LINE
    titles = sum(bool(title) for title, _ in lines)
    figure = new_figure(cell * columns, cell * len(lines) + 6 * titles)
    panels = figure.subplots(len(lines), columns, squeeze=False)
    for row, (title, images) in zip(panels, lines, strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, image in zip(row, images, strict=False):
            axes.imshow(_thumbnail(image), interpolation="none")
        row[0].set_title(title)
    return figure


def segmentation(content: ExploreContent) -> Drawing:
    """Nucleus and cell outlines on photographs, accepted ones first."""
    examples = sorted(content.segmentation, key=lambda example: not example.ok)
    if not examples:
        return "No cell was segmented for this page."
    columns = min(len(examples), EXAMPLES_PER_LINE)
    rows = -(-len(examples) // columns)
    side = PAGE_WIDTH / EXAMPLES_PER_LINE
    figure = new_figure(side * columns, (side + 9) * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, example in zip(panels, examples, strict=False):
        frame = _around(example.nucleus | example.cell)
        axes.imshow(example.image[frame], interpolation="none")
        _outline(axes, example.nucleus[frame], "solid")
        _outline(axes, example.cell[frame], "dashed")
        text = "accepted" if example.ok else _two_lines(f"refused: {example.reason or 'no reason given'}")
        axes.set_title(text, fontsize=7, fontweight="normal" if example.ok else "bold")
    return figure


def _around(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """A square that holds the mask and some of its surroundings; the middle half where there is none."""
    height, width = mask.shape
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        middle = (rows[0] + rows[-1]) // 2, (columns[0] + columns[-1]) // 2
        reach = max(int(0.9 * max(np.ptp(rows), np.ptp(columns))), min(height, width) // 5)
    else:
        middle, reach = (height // 2, width // 2), min(height, width) // 4
    top, left = max(middle[0] - reach, 0), max(middle[1] - reach, 0)
    return slice(top, middle[0] + reach), slice(left, middle[1] + reach)


def _outline(axes: Axes, mask: npt.NDArray[np.bool_], style: str) -> None:
    """Dark line on a light one, so that it shows on any ground."""
    if mask.any() and not mask.all():
        for colour, width, line in (("#ffffff", 1.8, "solid"), ("#000000", 0.9, style)):
            axes.contour(mask.astype(float), [0.5], colors=[colour], linewidths=[width], linestyles=[line])


def _two_lines(text: str, width: int = 21) -> str:
    text = text if len(text) <= 2 * width else f"{text[: 2 * width - 1]}…"
    at = text.rfind(" ", 0, width)
    return text if len(text) <= width or at < 0 else f"{text[:at]}\n{text[at + 1 :]}"


def _thumbnail(image: npt.NDArray[np.uint8], side: int = 128) -> npt.NDArray[np.uint8]:
    step = max(1, -(-max(image.shape[:2]) // side))
    height, width = (n // step * step for n in image.shape[:2])
    blocks = image[:height, :width].reshape(height // step, step, width // step, step, -1)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)
