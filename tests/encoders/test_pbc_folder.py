"""PBC's folders of photographs and WBCAtt's tables become cells to learn from; what is not used is told."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from typer.testing import CliRunner

from lymphoscope.cli.app import app
from lymphoscope.cohort.image_frames import centre_crop, to_frame
from lymphoscope.encoders.cell_folders import read_cells
from lymphoscope.encoders.labelled_cells import ATTRIBUTES, MISSING, LabelledSplits
from lymphoscope.errors import InputError

TYPES = {"basophil": "BA", "ig": "MMY", "neutrophil": "SNE"}
HEADER = ("img_name", "label", *ATTRIBUTES, "path")
USUAL = {
    "cell_size": "big",
    "cell_shape": "round",
    "nucleus_shape": "segmented-bilobed",
    "nuclear_cytoplasmic_ratio": "low",
    "chromatin_density": "densely",
    "cytoplasm_vacuole": "no",
    "cytoplasm_texture": "clear",
    "cytoplasm_colour": "light blue",
    "granule_type": "small",
    "granule_colour": "pink",
    "granularity": "yes",
}


def painted(seed: int, height: int = 242, width: int = 240) -> np.ndarray:
    """A picture of clouds, like no other of another seed."""
    clouds = np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality)


def pbc(root: Path, n: int = 7) -> Path:
    """`n` photographs of each of three types: neutrophil/SNE_0.jpg, …"""
    for k, (name, short) in enumerate(TYPES.items()):
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{short}_{i}.jpg").write_bytes(jpeg(painted(100 * k + i)))
    return root


def row(source: str, **changed: str) -> dict[str, str]:
    kind, _, name = source.partition("/")
    path = f"PBC_dataset_normal_DIB/{source}"
    return {"img_name": name, "label": kind.title(), "path": path} | USUAL | changed


def tables(folder: Path, **parts: list[dict[str, str]]) -> None:
    """WBCAtt's tables, those not given having no rows."""
    for part in ("train", "val", "test"):
        with (folder / f"pbc_attr_v1_{part}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, HEADER)
            writer.writeheader()
            writer.writerows(parts.get(part, []))


def told(found: LabelledSplits, source: str) -> Mapping[str, str | None]:
    """What is known of a cell, by task."""
    cells = found.training if source in found.training.sources else found.validation
    answers = zip(found.tasks, cells.targets[cells.sources.index(source)], strict=True)
    return {task.name: None if i == MISSING else task.classes[i] for task, i in answers}


def note(found: LabelledSplits, about: str) -> str:
    matching = [each for each in found.notes if about in each]
    assert len(matching) == 1, found.notes
    return matching[0]


def everything(found: LabelledSplits) -> set[str]:
    sources = [*found.training.sources, *found.validation.sources]
    assert len({*sources}) == len(sources), "no cell is there twice"
    return {*sources}


def test_whole_photographs_are_scaled_and_cut_and_types_are_learned(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    (root / "ig" / "MMY_0.jpg").write_bytes(jpeg(painted(1000, 363, 360)))
    found = read_cells(root, size=56)
    assert [task.name for task in found.tasks] == ["cell_type"] and found.tasks[0].classes == tuple(TYPES)
    assert len(everything(found)) == 21 and found.left_out is None
    cells = found.training if "ig/MMY_0.jpg" in found.training.sources else found.validation
    i = cells.sources.index("ig/MMY_0.jpg")
    whole = simplejpeg.decode_jpeg((root / "ig" / "MMY_0.jpg").read_bytes(), "RGB")
    assert whole.shape == (363, 360, 3)
    assert np.array_equal(cells.images[i], centre_crop(to_frame(whole), 56))
    assert told(found, "ig/MMY_0.jpg") == {"cell_type": "ig"}
    assert note(found, "There is no folder").endswith(
        ": eosinophil, erythroblast, lymphocyte, monocyte, platelet."
    )
    assert note(found, "No table of WBCAtt") and note(found, "15 % of the cells of each type are held out")
    assert len(found.notes) == 3


def test_a_share_of_every_type_is_held_out_by_content_alone(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells", 14)
    found = read_cells(root, size=28)
    assert Counter(s.split("/")[0] for s in found.validation.sources) == dict.fromkeys(TYPES, 2)
    held_out = found.validation.sources[0]
    (root / held_out).rename(root / Path(held_out).parent / "zzz.jpeg")
    again = read_cells(root, size=28)
    renamed = {s if s != held_out else f"{Path(held_out).parent}/zzz.jpeg" for s in found.validation.sources}
    assert {*again.validation.sources} == renamed
    assert again.content != found.content, "the names of what was seen are in the card"

    listed = tmp_path / "list.csv"
    listed.write_text(f"source\n{found.training.sources[0]}\n{found.training.sources[20]}\n")
    less = read_cells(root, size=28, leave_out=listed)
    assert less.validation.sources == again.validation.sources and len(less.training) == 34


@pytest.mark.parametrize("where", ["inside", "in the nested folder", "beside", "beside the nested folder"])
def test_wbcatt_says_what_is_learned_from_and_its_test_cells_are_held_out(tmp_path: Path, where: str) -> None:
    nested = "nested" in where
    cells = tmp_path / "cells"
    root = pbc(cells / "PBC_dataset_normal_DIB" if nested else cells)
    (cells / "__MACOSX" / "basophil").mkdir(parents=True)
    folder = {"inside": root, "in the nested folder": root, "beside": tmp_path}.get(where, cells)
    names = [f"neutrophil/SNE_{i}.jpg" for i in range(7)]
    tables(
        folder,
        train=[row(name, cell_size="small") for name in names[:3]]
        + [row("basophil/BA_1.jpg", granule_type="coarse", cell_size="")],
        val=[row(names[3]), row("basophil/BA_2.jpg", granule_type="coarse")],
        test=[row(names[4]), row(names[5])],
    )
    found = read_cells(cells, size=28)
    assert {*names[:3], "basophil/BA_1.jpg"} <= {*found.training.sources}
    assert {*names[3:6], "basophil/BA_2.jpg"} <= {*found.validation.sources}
    assert [task.name for task in found.tasks] == ["cell_type", "granule_type"]
    assert told(found, "basophil/BA_1.jpg") == {"cell_type": "basophil", "granule_type": "coarse"}
    assert told(found, names[5]) == {"cell_type": "neutrophil", "granule_type": "small"}
    assert told(found, names[6]) == {"cell_type": "neutrophil", "granule_type": None}
    said = note(found, "WBCAtt tells whether to learn from 8 of 21 cells")
    assert "its test cells are held out" in said and "15 % of the others" in said


def test_every_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    whole = (root / "ig" / "MMY_0.jpg").read_bytes()
    (root / "ig" / "MMY_1.jpg").write_bytes(b"")
    (root / "ig" / "MMY_2.jpg").write_bytes(whole[:-300])
    (root / "ig" / "MMY_3.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    for stray in (".DS_Store", "README.txt", "ig/._MMY_0.jpg", "ig/Thumbs.db", "ig/two\nlines.jpg"):
        (root / stray).write_bytes(whole)
    (root / "ig" / "old.jpg").mkdir()
    (root / "garbage").mkdir()
    (root / "garbage" / "G_1.jpg").write_bytes(jpeg(painted(7)))
    found = read_cells(root, size=28)
    assert everything(found) == {
        f"{name}/{short}_{i}.jpg" for name, short in TYPES.items() for i in range(7)
    } - {f"ig/MMY_{i}.jpg" for i in (1, 2, 3)}
    assert note(found, "it is empty") == "Left out because it is empty: 1 file (ig/MMY_1.jpg)."
    assert note(found, "decoded").endswith(": 2 files (ig/MMY_2.jpg, ig/MMY_3.jpg).")
    assert note(found, "no such cell type").endswith(": 1 folder (garbage).")
    strays = note(found, "it is no photograph")
    assert "6 items" in strays and ".DS_Store" in strays and "ig/Thumbs.db" in strays
    assert strays.endswith("and 1 more).") and "\n" not in strays


def test_a_picture_is_used_once_and_not_at_all_where_its_labels_differ(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    copies = {
        "ig/MMY_same.jpg": (root / "ig" / "MMY_1.jpg").read_bytes(),
        "ig/A_saved_again.jpg": jpeg(painted(102), 60),
        "neutrophil/SNE_of_ig.jpg": (root / "ig" / "MMY_3.jpg").read_bytes(),
        "neutrophil/SNE_mirrored.jpg": jpeg(painted(104)[:, ::-1]),
        "basophil/blank_1.jpg": jpeg(np.full((240, 240, 3), 220, np.uint8)),
        "basophil/blank_2.jpg": jpeg(np.full((240, 240, 3), 220, np.uint8)),
    }
    for name, data in copies.items():
        (root / name).write_bytes(data)
    tables(root, val=[row("ig/MMY_same.jpg")])
    found = read_cells(root, size=28)
    there = everything(found)
    assert len(there) == 21 - 2 + 1
    assert there.isdisjoint({"ig/MMY_3.jpg", "neutrophil/SNE_of_ig.jpg", "ig/MMY_4.jpg"})
    assert "ig/MMY_same.jpg" in found.validation.sources, "the copy that is described is used"
    assert "ig/A_saved_again.jpg" in there and "ig/MMY_2.jpg" not in there
    assert "basophil/blank_1.jpg" in there
    once = note(found, "the same cell as one that is used")
    assert "3 photographs" in once and "ig/MMY_1.jpg as ig/MMY_same.jpg" in once
    assert note(found, "two different labels") == (
        "Left out because the same picture has two different labels: 4 photographs (ig/MMY_3.jpg, "
        "neutrophil/SNE_of_ig.jpg, ig/MMY_4.jpg, neutrophil/SNE_mirrored.jpg)."
    )


def test_a_picture_with_two_descriptions_is_left_out(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    for name in ("same", "other", "silent"):
        (root / "ig" / f"{name}.jpg").write_bytes((root / "ig" / "MMY_1.jpg").read_bytes())
    described = [row("ig/MMY_1.jpg"), row("ig/same.jpg"), row("ig/silent.jpg", cell_size="")]
    tables(root, train=described)
    assert "ig/MMY_1.jpg" in everything(read_cells(root, size=28))
    tables(root, train=[*described, row("ig/other.jpg", cell_size="small")])
    found = read_cells(root, size=28)
    assert len(everything(found)) == 20 and "4 photographs" in note(found, "two different labels")


def test_tables_that_disagree_or_name_what_is_not_there(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    (root / "ig" / "MMY_6.jpg").write_bytes(b"")
    tables(
        root,
        train=[
            row("ig/MMY_0.jpg", cell_size="huge"),
            row("ig/MMY_1.jpg", cell_size="small"),
            row("ig/MMY_2.jpg"),
            row("ig/MMY_2.jpg"),
            row("ig/MMY_3.jpg"),
            row("ig/MMY_4.jpg", label="Monocyte"),
            row("ig/MMY_5.jpg"),
            row("ig/MMY_6.jpg"),
            row("ig/gone.jpg"),
        ],
        val=[row("ig/MMY_3.jpg"), row("basophil/BA_1.jpg", granule_type="coarse")],
    )
    (root / "pbc_attr_v1_test.csv").unlink()
    found = read_cells(root, size=28)
    assert told(found, "ig/MMY_0.jpg") == {"cell_type": "ig", "cell_size": None}
    assert "column cell_size: 'huge' is none of big, small" in note(found, "counts as not told")
    assert everything(found).isdisjoint({"ig/MMY_3.jpg", "ig/MMY_4.jpg"}) and len(everything(found)) == 18
    assert note(found, "two different things").endswith(": 2 photographs (ig/MMY_3.jpg, ig/MMY_4.jpg).")
    assert "ig/MMY_2.jpg" in found.training.sources
    assert "2 rows" in note(found, "an earlier row")
    assert note(found, "without a photograph") == (
        "WBCAtt names 1 cell without a photograph here (ig/gone.jpg)."
    )
    assert "pbc_attr_v1_test.csv is missing" in note(found, "missing")


def test_an_answer_that_no_training_cell_has_does_not_count(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    tables(
        root,
        train=[row("ig/MMY_0.jpg"), row("ig/MMY_1.jpg", granule_colour="red")],
        test=[row("ig/MMY_2.jpg", granule_colour="nil"), row("ig/MMY_3.jpg")],
    )
    found = read_cells(root, size=28)
    assert found.tasks[1].classes == ("pink", "red")
    assert told(found, "ig/MMY_2.jpg")["granule_colour"] is None
    assert told(found, "ig/MMY_3.jpg")["granule_colour"] == "pink"
    assert "granule_colour of 1 cell held out" in note(found, "no training cell has this answer (nil)")


def test_cells_are_left_out_with_their_copies(tmp_path: Path) -> None:
    root, listed = pbc(tmp_path / "cells"), tmp_path / "manifest.csv"
    (root / "ig" / "copy.jpg").write_bytes(jpeg(painted(101), 70))
    listed.write_text("ID,source\nP1,ig/MMY_1.jpg\nP1,basophil/BA_0.jpg\nP2,ig/elsewhere.jpg\n")
    everyone = read_cells(root, size=28)
    found = read_cells(root, size=28, leave_out=listed)
    assert found.left_out == ("basophil/BA_0.jpg", "ig/MMY_1.jpg") and found.n_named == 3
    assert everything(everyone) - everything(found) == {"basophil/BA_0.jpg", "ig/MMY_1.jpg"}
    assert "ig/copy.jpg" not in everything(found)
    assert note(found, "left out by name").endswith(": 1 photograph (ig/copy.jpg).")
    assert found.content != everyone.content
    listed.write_text("source\nMMY_1\n")
    with pytest.raises(InputError, match=r"none of these cells.*names as basophil/BA_0\.jpg"):
        read_cells(root, size=28, leave_out=listed)


def test_photographs_unlike_those_of_the_set_are_told(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    (root / "ig" / "small.jpg").write_bytes(jpeg(painted(1000, 100, 100)))
    (root / "ig" / "wide.jpg").write_bytes(jpeg(painted(1001, 300, 400)))
    found = read_cells(root, size=28)
    assert {"ig/small.jpg", "ig/wide.jpg"} <= everything(found)
    assert note(found, "unlike PBC's own").endswith(
        ": 2 photographs (ig/small.jpg: 100 × 100, ig/wide.jpg: 400 × 300)."
    )


def test_the_content_follows_files_tables_and_size(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells")
    first = read_cells(root, size=28).content
    assert read_cells(root, size=28).content == first != read_cells(root, size=14).content
    tables(root, train=[row("ig/MMY_0.jpg")])
    second = read_cells(root, size=28).content
    (root / "ig" / "MMY_1.jpg").write_bytes(jpeg(painted(55)))
    assert len({first, second, read_cells(root, size=28).content}) == 3


def _no_columns(root: Path) -> None:
    (root / "pbc_attr_v1_val.csv").write_text("img_name,label,path\n")


def _no_text(root: Path) -> None:
    (root / "pbc_attr_v1_val.csv").write_bytes(b"\xff\xfe\x00")


def _one_type(root: Path) -> None:
    for name in ("ig", "basophil"):
        (root / name).rename(root / f"not_{name}")


def _nothing_good(root: Path) -> None:
    for path in root.glob("*/*.jpg"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def _two_copies(root: Path) -> None:
    for name in ("one", "two"):
        pbc(root / name, 1)
    for name in TYPES:
        (root / name).rename(root / f"not_{name}")


def _all_learned(root: Path) -> None:
    tables(root, train=[row(f"{name}/{short}_{i}.jpg") for name, short in TYPES.items() for i in range(3)])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_columns, r"pbc_attr_v1_val\.csv, row 1: .*columns are missing; found 'cell_size, "),
        (_no_text, r"pbc_attr_v1_val\.csv: this table of WBCAtt cannot be read"),
        (_one_type, r"nothing to learn from; found '2 cells of 1 types"),
        (_nothing_good, r"no photograph in this folder can be used.*decoded: 9 files"),
        (_two_copies, r"more than one folder in it holds.*'one, two'"),
        (_all_learned, r"no cell is left to measure on"),
    ],
)
def test_what_cannot_be_used_at_all_is_refused(tmp_path: Path, spoil, said: str) -> None:
    root = pbc(tmp_path / "cells", 3)
    spoil(root)
    with pytest.raises(InputError, match=said) as caught:
        read_cells(root, size=28)
    assert str(root) in str(caught.value)


def test_other_folders_and_sizes_are_refused(tmp_path: Path) -> None:
    root = pbc(tmp_path / "cells", 2)
    with pytest.raises(InputError, match=r"larger than a photograph; found 225; allowed: 1 to 224"):
        read_cells(root, size=225)
    with pytest.raises(InputError, match=r"no labelled cells.*val\.parquet, or folders.*basophil"):
        read_cells(root / "ig", size=28)
    with pytest.raises(InputError, match="no such file"):
        read_cells(tmp_path / "nowhere", size=28)


def test_an_encoder_is_trained_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cells, out = tmp_path / "download", tmp_path / "vit"
    root = pbc(cells / "PBC_dataset_normal_DIB")
    (root / "ig" / "MMY_1.jpg").write_bytes(b"")
    tables(cells, train=[row(f"ig/MMY_{i}.jpg", cell_size=("big", "small")[i % 2]) for i in range(5)])
    small = ["--hidden", "32", "--layers", "1", "--size", "28", "--epochs", "1", "--batch-size", "8"]
    command = ["encoder", "train", str(cells), "-o", str(out), *small, "--device", "cpu"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "17 cells to learn from, 3 held out." in done.stdout
    assert re.search(r"^  Left out because it is empty: 1 file \(ig/MMY_1\.jpg\)\.$", done.stdout, re.M)
    assert "reading photographs: 21 files, 20 of them photographs" in done.stderr
    card = (out / "card.json").read_text()
    notes = json.loads(card)["cells"]["notes"]
    assert all(f"  {each}\n" in done.stdout for each in notes) and len(notes) == 3
    assert str(tmp_path) not in card
    assert (out / "sources.txt").read_text().startswith("basophil/BA_")
