"""Parquet files of labelled cells become images and targets, or one sentence on what is wrong where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from made_up_cells import Columns, columns, made_up, write

from lymphoscope.encoders.labelled_cells import MISSING, read_labelled_cells, read_sources
from lymphoscope.errors import InputError


def test_photographs_are_cut_from_the_centre_and_answers_become_numbers(tmp_path: Path) -> None:
    training, validation = columns(12, "a", 1), columns(6, "b", 2)
    found = read_labelled_cells(write(tmp_path / "cells", training, validation), size=28)
    assert [task.name for task in found.tasks] == ["cell_type", "cell_size", "nucleus_shape"]
    assert found.tasks[0].classes == ("blue", "green", "red")
    cells = found.training
    assert cells.images.shape == (12, 28, 28, 3) and cells.images.dtype == np.uint8
    whole = simplejpeg.decode_jpeg(training["image"][5], "RGB")
    assert np.array_equal(cells.images[5], whole[2:30, 2:30])
    assert cells.targets[:4].tolist() == [[0, MISSING, 1], [1, 1, 0], [2, MISSING, 0], [0, 0, 1]]
    assert cells.sources[0] == "a/000.jpg" and found.validation.sources[0] == "b/000.jpg"
    assert found.left_out is None


def test_cells_of_another_table_are_left_out_of_both_files(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "cells", 12, 6)
    listed = tmp_path / "manifest.csv"
    listed.write_text("\ufeffID,source\nP1,b/003.jpg\nP1,a/004.jpg\nP2,a/000.jpg\nP2,elsewhere.jpg\nP3,\n")
    assert read_sources(listed) == {"b/003.jpg", "a/004.jpg", "a/000.jpg", "elsewhere.jpg"}
    everything = read_labelled_cells(folder, size=28)
    found = read_labelled_cells(folder, size=28, leave_out=listed)
    assert found.left_out == ("a/000.jpg", "a/004.jpg", "b/003.jpg")
    kept = [i for i in range(12) if i not in (0, 4)]
    assert found.training.sources == tuple(everything.training.sources[i] for i in kept)
    assert np.array_equal(found.training.images, everything.training.images[kept])
    assert np.array_equal(found.training.targets, everything.training.targets[kept])
    assert len(found.validation) == 5 and "b/003.jpg" not in found.validation.sources
    assert found.content != everything.content


def test_the_content_follows_the_files_and_the_size(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "cells", 12, 6)
    first = read_labelled_cells(folder, size=28).content
    assert read_labelled_cells(folder, size=28).content == first
    assert read_labelled_cells(folder, size=14).content != first
    assert read_labelled_cells(made_up(tmp_path / "cells", 12, 9), size=28).content != first


def _changed(column: str, row: int, value: object) -> Columns:
    made = columns(9, "a", 1)
    made[column][row] = value
    return made


def _photograph(side: int) -> bytes:
    return simplejpeg.encode_jpeg(np.full((side, side, 3), 200, np.uint8))


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (_changed("image", 4, b"no picture"), ("row 5", "column image", "cannot be decoded")),
        (_changed("image", 4, None), ("row 5", "column image", "cannot be decoded", "nothing")),
        (_changed("image", 4, _photograph(32)[:-60]), ("row 5", "column image", "cannot be decoded")),
        (_changed("image", 4, _photograph(20)), ("row 5", "column image", "20 x 20", "28 x 28")),
        (_changed("source", 3, "a/001.jpg"), ("row 4", "column source", "a/001.jpg", "already")),
        (
            _changed("source", 3, "b/001.jpg"),
            ("val.parquet, row 2", "column source", "train.parquet already"),
        ),
        (_changed("source", 3, None), ("row 4", "column source", "nothing")),
        (_changed("source", 3, "two\nlines"), ("row 4", "column source", "a line of text")),
        (_changed("cell_type", 2, None), ("row 3", "column cell_type", "nothing")),
        (_changed("cell_size", 2, "  "), ("row 3", "column cell_size", "null where it is not known")),
        ({k: v for k, v in columns(9, "a", 1).items() if k != "granularity"}, ("missing", "granularity")),
        ({k: v[:1] for k, v in columns(9, "a", 1).items()}, ("nothing to learn from", "1 cells of 1 types")),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, training: Columns, said: tuple[str, ...]) -> None:
    folder = write(tmp_path / "cells", training, columns(6, "b", 2))
    with pytest.raises(InputError) as caught:
        read_labelled_cells(folder, size=28)
    assert all(part in str(caught.value) for part in (*said, ".parquet")), str(caught.value)


def test_an_answer_that_no_training_cell_has_is_refused(tmp_path: Path) -> None:
    validation = columns(6, "b", 2)
    validation["nucleus_shape"][1] = "iregular"
    with pytest.raises(InputError, match=r"val\.parquet, row 2, column nucleus_shape.*'iregular'"):
        read_labelled_cells(write(tmp_path / "cells", columns(9, "a", 1), validation), size=28)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    folder = made_up(tmp_path / "cells", 9, 6)
    empty = {name: values[:0] for name, values in columns(3, "b", 2).items()}
    write(folder, columns(9, "a", 1), empty)
    with pytest.raises(InputError, match=r"val\.parquet: there is no cell"):
        read_labelled_cells(folder, size=28)
    numbers = pq.read_table(folder / "train.parquet").set_column(0, "image", pa.array([1.0] * 9))
    pq.write_table(numbers, folder / "train.parquet")
    with pytest.raises(InputError, match=r"column image.*'double'"):
        read_labelled_cells(folder, size=28)
    (folder / "train.parquet").write_text("image,source\n")
    with pytest.raises(InputError, match=r"train\.parquet: this cannot be read as a parquet file"):
        read_labelled_cells(folder, size=28)
    (folder / "train.parquet").unlink()
    with pytest.raises(InputError, match=r"train\.parquet: .*no such file"):
        read_labelled_cells(folder, size=28)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ID,file\nP1,a\n", "row 1.*no column `source`.*ID, file"),
        (b"source\n\n", "names no cell"),
        (b"source\n\xff\xfe\n", "cannot be read"),
        (b"source\nother/1.jpg\n", "none of these cells.*other/1.jpg.*a/000.jpg"),
        (None, "cannot be read"),
    ],
)
def test_a_list_that_leaves_nothing_out_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    listed = tmp_path / "manifest.csv"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(InputError, match=f"manifest.csv.*{said}"):
        read_labelled_cells(made_up(tmp_path / "cells", 9, 6), size=28, leave_out=listed)


def test_leaving_every_cell_out_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "manifest.csv"
    listed.write_text("source\n" + "".join(f"b/{i:03d}.jpg\n" for i in range(6)))
    with pytest.raises(InputError, match=r"val\.parquet: there is no cell in this file, or all are left out"):
        read_labelled_cells(made_up(tmp_path / "cells", 9, 6), size=28, leave_out=listed)
