"""The photographs of PBC as anyone can download them, a folder per cell type (Acevedo et al. 2020).

doi:10.17632/snkd93bnjr.1; the tables of WBCAtt, beside them or inside, tell attributes of some of the cells.
What cannot be used is left out, and every kind of it is told in `LabelledSplits.notes`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lymphoscope.cohort.findings import counted
from lymphoscope.cohort.image_frames import FRAME, luminance, perceptual_hashes, to_frame
from lymphoscope.cohort.image_inspection import (
    MAX_FILE_BYTES,
    Inspection,
    Problem,
    decode_payload,
    inspect_image,
)
from lymphoscope.cohort.near_duplicates import group_alike
from lymphoscope.cohort.progress import Noting, Progress
from lymphoscope.encoders.labelled_cells import (
    ATTRIBUTES,
    MISSING,
    TOLD,
    TRAINING,
    VALIDATION,
    Image,
    LabelledCells,
    LabelledSplits,
    Masks,
    Task,
    cell_mask,
    centre,
    left_out_of,
    read_sources,
    tasks_of,
)
from lymphoscope.encoders.wbcatt import TABLES, Descriptions, listed, read_wbcatt
from lymphoscope.errors import InputError
from lymphoscope.files import sha256_bytes, sha256_json

CELL_TYPES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "ig",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
"""The names of the folders, and of the types; `ig` are immature granulocytes."""

HELD_OUT_SHARE = 0.15
"""How many of a type's cells are held out, of those that WBCAtt does not name."""

_SUFFIXES = (".jpg", ".jpeg")
_LEAST_SQUARE = 0.9
"""Shorter side over longer side: photographs of PBC measure 360 × 363 pixels or nearly so."""


@dataclass(frozen=True)
class _Cell:
    """A photograph that could be decoded.

    Attributes
    ----------
    told : cell type and attributes in the order of `TOLD`; None where it is not known.
    part : whether WBCAtt's tables learn from it or hold it out; None if they do not name it.
    """

    source: str
    sha256: str
    told: tuple[str | None, ...]
    part: str | None


@dataclass(eq=False)
class _Seen:
    """Photographs in alphabetical order, with their thumbnails, uint8 (28, 28, 3), crops and masks of these.

    A crop is taken out when it is used, so that memory holds it once.
    """

    cells: list[_Cell] = field(default_factory=list)
    thumbnails: list[Image] = field(default_factory=list)
    crops: dict[int, tuple[Image, Masks]] = field(default_factory=dict)


def find_pbc(folder: Path) -> Path | None:
    """The folder that holds those of the cell types: `folder`, or one in it; None if there is none.

    Raises
    ------
    InputError : there is more than one in it.
    """
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not _is_litter(path))
    if any(path.name in CELL_TYPES for path in inside):
        return folder
    found = [path for path in inside if any((path / name).is_dir() for name in CELL_TYPES)]
    if len(found) > 1:
        raise InputError(
            "more than one folder in it holds folders of cell types",
            file=folder,
            found=", ".join(path.name for path in found),
            remedy="Give one of them.",
        )
    return found[0] if found else None


def read_pbc_folder(
    root: Path,
    *,
    tables: Sequence[Path] = (),
    size: int = 112,
    leave_out: Path | None = None,
    progress: Progress | None = None,
) -> LabelledSplits:
    """Read the photographs of every cell type, and what WBCAtt's tables say of them.

    Whole photographs are scaled to 224 pixels, as an analyser's are, before their centre is cut out. A cell
    is called `neutrophil/BNE_7323.jpg`. Cells that WBCAtt names are learned from or held out as it does, its
    test cells being held out too; of the others, `HELD_OUT_SHARE` of each type are held out: those with the
    lowest SHA-256 of their files, so that names and places of files do not matter, nor what is left out.

    Parameters
    ----------
    root : the folder that holds those of the cell types.
    tables : folders in which WBCAtt's tables are looked for; the first that holds any is taken.
    size : side of the centre crop in pixels, at most 224.
    leave_out : a CSV table with a column `source`: these cells are in neither part, nor is any other
        photograph that shows one of them.

    Raises
    ------
    InputError : a table cannot be used, `size` is too large, or nothing is there to learn from.
    """
    if size > FRAME:
        raise InputError("this part is larger than a photograph", found=size, allowed=f"1 to {FRAME} pixels")
    files, notes = _list_photographs(root)
    described = read_wbcatt(tables)
    seen, faults = _look(files, described, size, progress)
    if not seen.cells:
        raise InputError(
            "no photograph in this folder can be used", file=root, found=" ".join(notes + faults)
        )
    named = None if leave_out is None else read_sources(leave_out)
    left_out = None if named is None else left_out_of([cell.source for cell in seen.cells], named, leave_out)
    kept, copies = _choose(seen, described.disputed, frozenset(left_out or ()))
    parts = _split(seen.cells)
    learned, held_out = ([i for i in kept if parts[i] == part] for part in (TRAINING, VALIDATION))
    tasks = tasks_of(_told(seen, learned), root)
    used = [[cell.source, cell.sha256, *cell.told, parts[i]] for i in kept for cell in (seen.cells[i],)]
    training, validation = (_labelled(seen, rows, tasks, root) for rows in (learned, held_out))
    notes += [*faults, *copies, *described.notes, *_on_tables(described, files, seen, kept)]
    notes += _unlearned(seen, held_out, tasks)
    n_named = None if named is None else len(named)
    content = sha256_json([used, left_out, size])
    return LabelledSplits(tasks, training, validation, left_out, n_named, content, tuple(notes))


def _list_photographs(root: Path) -> tuple[list[Path], list[str]]:
    """The files that are photographs by their names, and what is said of everything else."""
    photographs: list[Path] = []
    strays: list[Path] = []
    folders: list[str] = []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and entry.name in CELL_TYPES:
            for path in sorted(entry.iterdir()):
                named_so = path.suffix.lower() in _SUFFIXES and not _is_litter(path)
                (photographs if named_so and path.is_file() else strays).append(path)
        elif entry.is_dir():
            folders.append(entry.name)
        elif entry.name not in TABLES:
            strays.append(entry)
    notes = []
    if missing := [name for name in CELL_TYPES if not (root / name).is_dir()]:
        notes.append(f"There is no folder of these cell types: {', '.join(missing)}.")
    notes += _left_out("PBC has no such cell type", "folder", folders)
    names = [path.relative_to(root).as_posix() for path in strays]
    return photographs, [*notes, *_left_out("by name it is no photograph", "item", names)]


def _is_litter(path: Path) -> bool:
    """Whether it is hidden, left by an archive of macOS, or named so that no list of names can hold it."""
    return path.name.startswith((".", "__MACOSX")) or not path.name.isprintable()


def _look(
    files: Sequence[Path], described: Descriptions, size: int, progress: Progress | None
) -> tuple[_Seen, list[str]]:
    """Decode all photographs; and what is said of those that cannot be decoded or are unlike PBC's."""
    seen = _Seen()
    faults: dict[str, list[str]] = {why: [] for why in ("it is empty", "it cannot be read or decoded")}
    unlike = []
    if progress:
        progress.start("reading photographs", len(files))
    for path in files:
        data, found = _inspect(path)
        source = _source(path)
        if found.reduced is None:
            faults[
                "it is empty" if found.problem is Problem.EMPTY else "it cannot be read or decoded"
            ].append(source)
        else:
            sides = sorted((found.width, found.height))
            if sides[0] < max(FRAME, _LEAST_SQUARE * sides[1]):
                unlike.append(f"{source}: {found.width} × {found.height}")
            frame = to_frame(decode_payload(found.payload))
            # Copies, because a part of an array keeps the whole in memory.
            seen.crops[len(seen.cells)] = (
                centre(frame, size).copy(),
                centre(cell_mask(frame), size).copy(),
            )
            seen.cells.append(_cell(source, sha256_bytes(data), described))
            seen.thumbnails.append(found.reduced)
        if progress:
            progress.advance()
    if isinstance(progress, Noting):
        progress.note(f"files, {len(seen.cells):,} of them photographs")
    if progress:
        progress.done()
    notes = [note for why, names in faults.items() for note in _left_out(why, "file", names)]
    if unlike:
        notes.append(
            f"Scaled to {FRAME} pixels although smaller, or not about square, unlike PBC's own: "
            f"{counted(len(unlike), 'photograph')} ({listed(unlike)})."
        )
    return seen, notes


def _inspect(path: Path) -> tuple[bytes, Inspection]:
    """A file's content, and what one look at it found."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b"too large"
    except OSError:
        data = b"unreadable"
    return data, inspect_image(data)


def _source(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _cell(source: str, sha256: str, described: Descriptions) -> _Cell:
    said = described.cells.get(source)
    attributes = (None,) * len(ATTRIBUTES) if said is None else said.attributes
    told = (source.partition("/")[0], *attributes)
    return _Cell(source, sha256, told, None if said is None else said.part)


def _choose(seen: _Seen, disputed: frozenset[str], left_out: frozenset[str]) -> tuple[list[int], list[str]]:
    """The cells to use, each in one photograph, and what is said of the others."""
    kept: list[int] = []
    shown, doubtful, contrary, copies = [], [], [], []
    for group in _groups_alike(seen):
        cells = [seen.cells[i] for i in group]
        names = [cell.source for cell in cells]
        if not left_out.isdisjoint(names):
            shown += [name for name in names if name not in left_out]
        elif not disputed.isdisjoint(names):
            doubtful += names
        elif any(
            len({*answers} - {None}) > 1 for answers in zip(*(cell.told for cell in cells), strict=True)
        ):
            contrary += names
        else:
            best = min(group, key=lambda i: (seen.cells[i].part is None, i))
            kept.append(best)
            copies += [
                f"{name} as {seen.cells[best].source}" for name in names if name != seen.cells[best].source
            ]
    notes = [
        *_left_out("it shows the same cell as one that is used", "photograph", copies),
        *_left_out("the same picture has two different labels", "photograph", contrary),
        *_left_out("WBCAtt says two different things of the cell", "photograph", doubtful),
        *_left_out("it shows a cell that is left out by name", "photograph", shown),
    ]
    return sorted(kept), notes


def _groups_alike(seen: _Seen) -> Iterator[list[int]]:
    """Positions of the photographs that show one cell, for every cell."""
    small = luminance(np.stack(seen.thumbnails))
    numbers = group_alike(perceptual_hashes(small), lambda i: small[i])
    groups: dict[object, list[int]] = defaultdict(list)
    for i, (cell, number) in enumerate(zip(seen.cells, numbers.tolist(), strict=True)):
        # A blank picture is like no other, but the same file twice is one cell even then.
        groups[cell.sha256 if number < 0 else number].append(i)
    yield from groups.values()


def _split(cells: Sequence[_Cell]) -> list[str]:
    """For each cell whether it is learned from or held out."""
    parts = [cell.part or TRAINING for cell in cells]
    others: dict[str | None, list[int]] = defaultdict(list)
    for i, cell in enumerate(cells):
        if cell.part is None:
            others[cell.told[0]].append(i)
    for members in others.values():
        members.sort(key=lambda i: cells[i].sha256)
        n = min(len(members) - 1, max(1, round(HELD_OUT_SHARE * len(members))))
        for i in members[:n]:
            parts[i] = VALIDATION
    return parts


def _told(seen: _Seen, rows: Sequence[int]) -> dict[str, list[str | None]]:
    return {name: [seen.cells[i].told[k] for i in rows] for k, name in enumerate(TOLD)}


def _labelled(seen: _Seen, rows: Sequence[int], tasks: Sequence[Task], root: Path) -> LabelledCells:
    """These photographs, and their answers to the tasks."""
    if not rows:
        raise InputError("no cell is left to measure on", file=root, found=0)
    told = _told(seen, rows)
    indices: list[dict[str | None, int]] = [
        {answer: i for i, answer in enumerate(task.classes)} for task in tasks
    ]
    targets = [
        [index.get(answer, MISSING) for answer in told[task.name]]
        for task, index in zip(tasks, indices, strict=True)
    ]
    images = np.empty((len(rows), *seen.crops[rows[0]][0].shape), dtype=np.uint8)
    masks = np.empty(images.shape[:3], dtype=np.bool_)
    for row, i in enumerate(rows):
        images[row], masks[row] = seen.crops.pop(i)
    return LabelledCells(
        images, masks, np.array(targets, np.int64).T, tuple(seen.cells[i].source for i in rows)
    )


def _on_tables(
    described: Descriptions, files: Sequence[Path], seen: _Seen, kept: Sequence[int]
) -> Iterator[str]:
    """What became of the cells that WBCAtt names, and how the others were divided."""
    share = (
        f"{HELD_OUT_SHARE * 100:.0f} % of the {{}} of each type are held out, chosen by the content of "
        "their files."
    )
    if not described.cells:
        yield share.format("cells")
        return
    if absent := sorted({*described.cells} - {_source(path) for path in files}):
        yield f"WBCAtt names {counted(len(absent), 'cell')} without a photograph here ({listed(absent)})."
    n = sum(seen.cells[i].part is not None for i in kept)
    yield (
        f"WBCAtt tells whether to learn from {n:,} of {len(kept):,} cells; its test cells are held "
        f"out as its validation cells are. {share.format('others')}"
    )


def _unlearned(seen: _Seen, held_out: Sequence[int], tasks: Sequence[Task]) -> Iterator[str]:
    """Answers of cells held out that no training cell has."""
    told = _told(seen, held_out)
    for task in tasks:
        if odd := [each for each in told[task.name] if each is not None and each not in task.classes]:
            yield (
                f"{task.name} of {counted(len(odd), 'cell')} held out does not count, because no training "
                f"cell has this answer ({listed(sorted({*odd}))})."
            )


def _left_out(why: str, noun: str, names: Sequence[str]) -> list[str]:
    """A sentence on what was left out, if anything was."""
    return [f"Left out because {why}: {counted(len(names), noun)} ({listed(names)})."] if names else []
