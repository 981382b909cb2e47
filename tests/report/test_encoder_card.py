"""An encoder's card as a page: every figure is the card's, and what it means is said as it is."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from torch import nn

from lymphoscope.encoders.encoder import Encoder, create_encoder
from lymphoscope.encoders.kept import SHIPPED
from lymphoscope.encoders.multitask import macro_f1_interval
from lymphoscope.errors import InputError
from lymphoscope.report.encoder_card import card_files, card_key, write_card
from lymphoscope.report.encoder_figures import confusion_figure, reliability_figure

CARD: dict[str, Any] = {
    "architecture": {
        "kind": "convnext", "hidden": 48, "layers": 3, "image_size": 56, "width": 47, "parameters": 12345,
        "embedding": "the last map", "tensors_sha256": "f00d",
    },
    "preprocessing": {"image_size": 56},
    "tasks": {"cell_size": ["big", "small"], "cell_type": ["ig", "lymphocyte", "platelet"]},
    "cells": {
        "training": {"cells": 4321, "known": {"cell_type": 4321, "cell_size": 1234}},
        "validation": {"cells": 987, "known": {"cell_type": 987, "cell_size": 500}},
        "left_out": None, "notes": ["3 photographs are empty."], "sha256": "beef",
    },
    "validation": {
        "cell_size": {
            "cells": 500, "accuracy": 0.611, "accuracy_interval": [0.567, 0.653], "macro_f1": 0.6,
            "macro_f1_interval": [0.555, 0.645], "majority_accuracy": 0.601, "majority_macro_f1": 0.377,
            "confusion": [[190, 110], [84, 116]],
        },
        "cell_type": {
            "cells": 987, "accuracy": 0.913, "accuracy_interval": [0.894, 0.929], "macro_f1": 0.888,
            "macro_f1_interval": [0.866, 0.911], "majority_accuracy": 0.444, "majority_macro_f1": 0.222,
            "confusion": [[301, 22, 0], [40, 398, 1], [3, 20, 202]],
        },
    },
    "calibration": {
        "cell_size": {
            "temperature": 1.37, "calibration_error_before": 0.071, "calibration_error": 0.021,
            "reliability": [[300, 0.6, 0.55], [200, 0.8, 0.7]],
        },
        "cell_type": {
            "temperature": 0.83, "calibration_error_before": 0.034, "calibration_error": 0.009,
            "reliability": [[987, 0.93, 0.913]],
        },
    },
    "controls": {
        "background": {
            "cells": 971, "accuracy": 0.312, "majority": 0.444, "mean_recall": 0.345, "chance_recall": 1 / 3,
        },
        "stain": {
            "cells": 256, "stains": 10, "cosine_median": 0.97, "cosine_5_percent": 0.88,
            "cosine_of_different_cells": -0.04,
        },
        "foreign": {
            "cells": 200, "spread_over_own": 0.93,
            "told": {"ig": 20, "lymphocyte": 180, "platelet": 0},
        },
    },
    "training": {
        "epochs": 17, "learning_rate": 0.002, "batch_size": 32, "seed": 5, "precision": "bfloat16",
        "weight_decay": 0.05, "average": 0.998, "losses": [1.234, 0.321],
        "augmentation": {"flips": True, "rotation": 180.0, "shift": 0.0},
        "appearance": {"background": 0.5, "blur": 0.2},
    },
    "versions": {"torch": "2.99", "lymphoscope": "9.8.7"},
    "limits": "Research use only.",
}  # fmt: skip


def encoder(name: str = "mine", card: dict[str, Any] | None = None) -> Encoder:
    return Encoder(name, nn.Identity(), 47, 56, card=CARD if card is None else card)


def page(name: str = "mine", **changed: dict[str, Any]) -> str:
    """The page of the card with parts of it changed: `page(stain={"cosine_median": 1})`."""
    card = copy.deepcopy(CARD)
    for part, values in changed.items():
        (card["controls"][part] if part in card["controls"] else card[part]).update(values)
    return card_files(encoder(name, card))[0]


def test_every_figure_of_the_card_is_on_the_page() -> None:
    text = page()
    rows = (
        "| cell type | 4,321 | 987 |",
        "| cell type | 987 | 0.913 [0.894, 0.929] | 0.444 | 0.888 [0.866, 0.911] | 0.222 |",
        "| cell size | 500 | 0.611 [0.567, 0.653] | 0.601 | 0.600 [0.555, 0.645] | 0.377 |",
        "| cell type | 0.83 | 0.034 | 0.009 |",
    )
    assert all(row in text.splitlines() for row in rows), text
    assert text.index("| cell type | 987") < text.index("| cell size | 500"), "the cell type comes first"
    said = (
        "`convnext`, 48 wide and 3 deep, with 12,345 parameters",
        "56 × 56 pixels",
        "an embedding of 47 numbers (the last map)",
        "- cell size: big, small",
        "4,321 cells to learn from, and 987 held out",
        "- 3 photographs are empty.",
        "971 cells were painted over",
        "of 31.2% of them is still told correctly",
        "right of 44.4%; in the mean over types 34.5%, where guessing gives 33.3%",
        "a cosine of 0.97 in the middle and of 0.88 at the worst twentieth; between different cells −0.04",
        "lie 0.93 times as far apart as its own",
        "lymphocyte 90%, ig 10%.",
        "3 types of cells: ig, lymphocyte, platelet",
        "from 1.234 in the first epoch to 0.321 in the last",
        "flips on, rotation 180, background 0.5, blur 0.2.",
        "cells `beef`; torch 2.99, lymphoscope 9.8.7.",
    )
    for each in said:
        assert each in text, each


def test_its_command_is_the_one_that_trained_it() -> None:
    command = (
        "lymphoscope encoder train CELLS -o mine \\\n"
        "  --architecture convnext --hidden 48 --layers 3 --size 56 \\\n"
        "  --epochs 17 --learning-rate 0.002 --batch-size 32 --seed 5"
    )
    for scale in ({}, {"scale": 1.0}):  # older cards do not know it
        assert f"{command} --foreign FOLDER\n" in page(foreign=scale)
    assert f"{command} --foreign FOLDER --foreign-scale 1.4142135\n" in page(foreign={"scale": 1.4142135})
    left_out = page(cells={"left_out": ["a/1.jpg", "a/2.jpg"]})
    assert (
        f"{command} --leave-out CSV --foreign FOLDER\n" in left_out
        and "2 cells were left out of both: a cohort that it is judged on shows them." in left_out
    )


def test_what_was_done_to_it_after_its_training_is_told_apart_from_that() -> None:
    assert "It began as" not in page()
    step = {
        "from": {"name": "pbc-small"}, "cohort": "c0ffee", "cells": 4567, "patients": 89, "moved": 0.123,
        "settings": {"epochs": 6, "losses": [1.5, 0.25]},
    }  # fmt: skip
    match = {"cohort": "decade", "cells": 765, "patients": 43, "distance": 2.34}
    text = card_files(encoder(card=CARD | {"adapted": [step], "matched": match}))[0]
    for said in (
        "It began as one trained so:\n\n```sh\nlymphoscope encoder train CELLS -o FIRST",
        "encoder adapt COHORT --encoder pbc-small`: trained on with 4,567 cells of 89 patients",
        "for 6 epochs (loss 1.500 to 0.250). Embeddings moved by 12.3%",
        "encoder match COHORT`: the colours of 765 cells of 43 patients, 2.34 spreads away",
    ):
        assert said in text, said


def test_controls_of_an_encoder_that_tells_nothing_are_not_praised() -> None:
    assert "who sees nothing is misled by nothing" not in page()
    poor = copy.deepcopy(CARD["validation"])
    poor["cell_type"]["accuracy_interval"] = [0.2, 0.5]
    assert "who sees nothing is misled by nothing" in page(validation=poor)


def test_its_hash_is_the_one_that_reports_name() -> None:
    assert f"`{encoder().sha256}`" in page()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"background": {"mean_recall": 0.38}}, "next to nothing from what lies around"),
        ({"background": {"mean_recall": 0.5}}, "reads a little from what lies around"),
        ({"background": {"mean_recall": 0.9}}, "reads much from what lies around"),
        ({"stain": {"cosine_5_percent": 0.9}}, "moves an embedding little"),
        ({"stain": {"cosine_5_percent": 0.6}}, "moves some embeddings noticeably"),
        ({"stain": {"cosine_5_percent": -0.2}}, "moves embeddings much"),
        ({"foreign": {"spread_over_own": 0.3}}, "much more alike than they are"),
        ({"foreign": {"spread_over_own": 0.68}}, "less finely than its own"),
        ({"foreign": {"spread_over_own": 1.1}}, "about as finely as its own"),
        ({"foreign": {"spread_over_own": 2.0}}, "differences among them that it does not see"),
        ({"background": {"cells": 0}}, "No cell could be painted over"),
    ],
)
def test_what_a_control_found_is_said_as_it_is(changed: dict[str, Any], said: str) -> None:
    assert said in page(**changed)


def test_a_task_that_is_told_no_better_than_by_guessing_is_named() -> None:
    assert "No better than the most frequent answer, as far as can be told: cell size." in page()
    better = copy.deepcopy(CARD["validation"])
    better["cell_size"]["accuracy_interval"] = [0.605, 0.69]
    assert "No better than the most frequent" not in page(validation=better)


def test_what_was_not_measured_is_said_and_not_drawn() -> None:
    card = {name: value for name, value in CARD.items() if name not in ("calibration", "controls")}
    card = copy.deepcopy(card)
    del card["validation"]["cell_type"]["macro_f1_interval"]
    text, figures = card_files(encoder(card=card))
    assert text.count("That was not measured.") == 4 and [*figures] == ["mine-confusion.png"]
    assert "--foreign" not in text
    found = macro_f1_interval(np.array(CARD["validation"]["cell_type"]["confusion"]))
    assert f"0.888 [{found.low:.3f}, {found.high:.3f}]" in text, "from the confusion matrix that is there"


def test_only_what_learned_from_the_shipped_cells_is_said_to_be_made_from_pbc() -> None:
    seen = create_encoder(SHIPPED).card
    assert seen is not None
    shipped, other = page("adapted", cells={"sha256": seen["cells"]["sha256"]}), page(SHIPPED)
    for said in ("10.17632/snkd93bnjr.1", "CC BY 4.0", "arXiv:2306.13531", "| MIT |", "no malignant cell"):
        assert said in shipped and said not in other, said
    assert "Name them where you share this encoder" in other


def test_a_folder_holds_the_page_and_the_figures_that_it_shows(tmp_path: Path) -> None:
    where = write_card(encoder(), tmp_path / "card")
    assert where == tmp_path / "card" / "mine.md"
    names = {path.name for path in where.parent.iterdir()}
    assert names == {"mine.md", "mine-confusion.png", "mine-reliability.png"}
    assert all(f"]({name})" in where.read_text("utf-8") for name in names if name.endswith(".png"))
    linked, _ = card_files(encoder(), images="../images/")
    assert "](../images/mine-confusion.png)" in linked


def test_figures_are_the_same_bytes_and_say_what_they_were_drawn_from() -> None:
    first, second = card_files(encoder())[1], card_files(encoder())[1]
    assert first == second
    for data in first.values():
        with PIL.Image.open(io.BytesIO(data)) as image:
            assert image.info["Description"] == card_key(encoder())
            assert "Software" not in image.info and image.width > 400
    other = copy.deepcopy(CARD)
    other["training"]["seed"] = 6
    assert card_key(encoder(card=other)) != card_key(encoder())


def test_shades_follow_shares_and_not_counts() -> None:
    """Half of a rare type told wrongly is as dark as half of a frequent one."""
    rare, frequent = ([[2, 2], [0, 8]], [[2000, 2000], [0, 8]])
    darkness = [
        np.asarray(PIL.Image.open(io.BytesIO(confusion_figure(("a", "b"), each, "x"))).convert("L"))
        for each in (rare, frequent)
    ]
    assert darkness[0].shape == darkness[1].shape
    shades = [np.bincount(each.ravel(), minlength=256).argsort()[-4:] for each in darkness]
    assert sorted(shades[0]) == sorted(shades[1])


def test_many_tasks_and_bins_without_mistakes_are_drawn() -> None:
    calibration = {f"task_{i}": {"reliability": [[1, 1.0, 1.0], [9, 0.3, 0.0]]} for i in range(5)}
    with PIL.Image.open(io.BytesIO(reliability_figure(calibration, "x"))) as five:
        height = five.height
    one = {"task_0": calibration["task_0"]}
    with PIL.Image.open(io.BytesIO(reliability_figure(one, "x"))) as image:
        assert image.height < height


def test_an_encoder_without_a_card_is_refused() -> None:
    with pytest.raises(InputError, match=r"came without a card.*found 'dino'"):
        card_files(Encoder("dino", nn.Identity(), 3, 224))
