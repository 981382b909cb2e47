"""An encoder's card as a page: what it is, what it has seen, how well it does, and what it cannot do.

Every figure is read from the card that its training wrote; only where the shipped encoder's cells come from,
which no training can know, is told here, also of encoders that were made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lymphoscope.cohort.findings import counted
from lymphoscope.encoders.encoder import Encoder
from lymphoscope.encoders.kept import SHIPPED, checked_card, encoder_folder
from lymphoscope.encoders.labelled_cells import CELL_TYPE
from lymphoscope.encoders.multitask import macro_f1_interval
from lymphoscope.errors import InputError
from lymphoscope.files import atomic_directory, sha256_json, write_bytes, write_text
from lymphoscope.report.encoder_controls import Card, controls
from lymphoscope.report.encoder_figures import confusion_figure, reliability_figure, words

_PBC = """\
| what | by whom | licence |
|---|---|---|
| PBC: photographs of blood cells of eight types | A. Acevedo, A. Merino, S. Alférez, Á. Molina, L. Boldú, \
J. Rodellar, *A dataset of microscopic peripheral blood cell images for development of automatic \
recognition systems*, Data in Brief 30, 2020; \
[doi:10.17632/snkd93bnjr.1](https://doi.org/10.17632/snkd93bnjr.1) | CC BY 4.0 |
| WBCAtt: attributes of some of these cells | S. Tsutsui, W. Pang, B. Wen, *WBCAtt: A White Blood Cell \
Dataset Annotated with Detailed Morphological Attributes*, 2023; \
[arXiv:2306.13531](https://arxiv.org/abs/2306.13531) | MIT |

`ig` are immature granulocytes. The weights are made from both collections; whoever shares them, or \
something that was made with them, names PBC and its authors as here."""

_PBC_LIMITS = (
    "**It has seen no malignant cell.** PBC's cells are those of people without infection, blood disease "
    "or cancer. It can tell how a cell looks; whether a patient is ill is for a model on top of it to "
    "learn, from patients.",
    "**It has seen one laboratory**: one hospital, one analyser, one family of stains (May Grünwald-Giemsa). "
    "Whether it sees as well elsewhere is only known where somebody has measured it.",
)

_ABOUT_OTHERS = (
    "The card knows no source and no licence of the cells. Name them where you share this encoder: many "
    "collections ask for it."
)


def card_files(encoder: Encoder, *, images: str = "") -> tuple[str, dict[str, bytes]]:
    """The page as Markdown, and its figures by the name of their file.

    Parameters
    ----------
    images : what stands before a figure's name in a link to it.

    Raises
    ------
    InputError : the encoder came without a card.
    """
    figures = _figures(encoder.name, _card(encoder))
    return _page(encoder, {name: f"{images}{name}" for name in figures}), figures


def card_key(encoder: Encoder) -> str:
    """What the figures of a card say in their files that they were drawn from."""
    return sha256_json(_card(encoder))


def write_card(encoder: Encoder, out: Path) -> Path:
    """Write page and figures as the new folder `out`; the place of the page."""
    page, figures = card_files(encoder)
    name = f"{encoder.name}.md"
    with atomic_directory(out) as folder:
        write_text(folder / name, page)
        for each, data in figures.items():
            write_bytes(folder / each, data)
    return out / name


def _card(encoder: Encoder) -> Card:
    if not encoder.card:
        raise InputError(
            "this encoder came without a card",
            found=encoder.name,
            allowed=f"{SHIPPED}, or a folder that `lymphoscope encoder train` wrote",
        )
    return encoder.card


def _figures(name: str, card: Card) -> dict[str, bytes]:
    key, calibration = sha256_json(card), _in_order(card.get("calibration", {}))
    figures = {}
    if CELL_TYPE in card["validation"]:
        confusion = card["validation"][CELL_TYPE]["confusion"]
        figures[f"{name}-confusion.png"] = confusion_figure(card["tasks"][CELL_TYPE], confusion, key)
    if calibration:
        figures[f"{name}-reliability.png"] = reliability_figure(calibration, key)
    return figures


def _page(encoder: Encoder, links: Mapping[str, str]) -> str:
    name, card = encoder.name, _card(encoder)
    from_pbc = _learned_from_the_shipped_cells(card)
    confusion, reliability = (links.get(f"{name}-{each}.png") for each in ("confusion", "reliability"))
    parts = [
        f"# The encoder {name}\n\n<!-- Made from the encoder's card.json; edit nothing here. -->",
        f"## What it is\n\n{_what(encoder, card)}",
        f"## What it has seen\n\n{_seen(card)}\n\n{_PBC if from_pbc else _ABOUT_OTHERS}",
        f"## How well it tells\n\n{_scores(card)}",
    ]
    if confusion:
        parts.append(f"![Cells held out, by what they are and what they are told to be]({confusion})")
    parts.append(f"## Whether its probabilities are right\n\n{_calibration(card)}")
    if reliability:
        parts.append(
            "![Share told correctly at each confidence, per task, with 95 % intervals; larger dots are more "
            f"cells]({reliability})"
        )
    parts += [
        f"## What it must not have learned\n\n{controls(card)}",
        f"## What it cannot do\n\n{_limits(card, _PBC_LIMITS if from_pbc else ())}",
        f"## How it was trained\n\n{_training(name, card)}",
    ]
    return "\n\n".join(parts) + "\n"


def _learned_from_the_shipped_cells(card: Card) -> bool:
    """Also of one that was adapted or matched since, whatever its name: their cards keep the first cells."""
    folder = encoder_folder(SHIPPED)
    assert folder is not None  # that name has one
    return bool(card["cells"]["sha256"] == checked_card(folder)["cells"]["sha256"])


def _what(encoder: Encoder, card: Card) -> str:
    built, size = card["architecture"], card["preprocessing"]["image_size"]
    return (
        f"A network of the kind `{built['kind']}`, {built['hidden']} wide and {built['layers']} deep, with "
        f"{built['parameters']:,} parameters. From the {size} × {size} pixels in the centre of a "
        f"photograph's 224-pixel frame it makes an embedding of {built['width']} numbers "
        f"({built['embedding']}), and from that the probability of every answer to {len(card['tasks'])} "
        "questions:\n\n"
        + "\n".join(f"- {words(task)}: {', '.join(answers)}" for task, answers in _tasks(card))
        + f"\n\nUse it with `--encoder {encoder.name}`. SHA-256 of weights, heads and preprocessing, as "
        f"reports name it: `{encoder.sha256}`."
    )


def _seen(card: Card) -> str:
    cells = card["cells"]
    training, held_out, left_out = cells["training"], cells["validation"], cells.get("left_out")
    text = f"{training['cells']:,} cells to learn from, and {held_out['cells']:,} held out to measure it."
    if left_out is not None:
        text += f" {len(left_out):,} cells were left out of both: a cohort that it is judged on shows them."
    text += " `sources.txt` lists the cells that it learned from.\n\n"
    rows = [
        (words(task), f"{training['known'][task]:,}", f"{held_out['known'][task]:,}")
        for task, _ in _tasks(card)
    ]
    text += _table(("known of", "to learn from", "held out"), rows)
    notes = "".join(f"\n- {note}" for note in cells.get("notes", ()))
    return text + (f"\n\nOf what was found and not used, or not as it is:\n{notes}" if notes else "")


def _scores(card: Card) -> str:
    rows = []
    for task, found in _in_order(card["validation"]).items():
        low, high = found.get("macro_f1_interval") or _interval(found["confusion"])
        rows.append(
            (
                words(task),
                f"{found['cells']:,}",
                _with_interval(found["accuracy"], *found["accuracy_interval"]),
                f"{found['majority_accuracy']:.3f}",
                _with_interval(found["macro_f1"], low, high),
                f"{found['majority_macro_f1']:.3f}",
            )
        )
    head = (
        "task",
        "cells",
        "accuracy [95 %]",
        "most frequent answer",
        "macro F1 [95 %]",
        "most frequent answer",
    )
    return (
        "On the cells held out, beside always giving the answer that is most frequent among the cells to "
        f"learn from:\n\n{_table(head, rows)}\n\nIntervals say how far further cells like these would move "
        "a number, and nothing of cells that are unlike them."
    )


def _calibration(card: Card) -> str:
    found = _in_order(card.get("calibration", {}))
    if not found:
        return "That was not measured."
    head = ("task", "temperature", "off before", "off")
    rows = [
        (
            words(task),
            f"{each['temperature']:.2f}",
            f"{each['calibration_error_before']:.3f}",
            f"{each['calibration_error']:.3f}",
        )
        for task, each in found.items()
    ]
    return (
        "The logits of each task are divided by a temperature before they become probabilities; above 1 "
        "they were too sure of themselves. *Off* is how far confidence lies from the share told correctly, "
        f"in the mean over cells, with a temperature learned on other cells.\n\n{_table(head, rows)}"
    )


def _limits(card: Card, known: Iterable[str]) -> str:
    types = [words(each) for each in card["tasks"].get(CELL_TYPE, ())]
    points = [
        *known,
        f"It knows {len(types)} types of cells: {', '.join(types)}. Whatever else it is shown, it takes for "
        "one of these, and its probabilities do not say that something is new to it.",
        "Its figures are of single cells, not of patients. Where cells of one person stood on both sides, "
        "as they may where nobody recorded persons, the figures are flattered.",
    ]
    weak = [
        words(task)
        for task, found in _in_order(card["validation"]).items()
        if found["accuracy_interval"][0] <= found["majority_accuracy"]
    ]
    if weak:
        points.append(f"No better than the most frequent answer, as far as can be told: {', '.join(weak)}.")
    return "\n".join(f"- {point}" for point in [*points, card["limits"]])


def _training(name: str, card: Card) -> str:
    since = _since(card)
    if since:
        steps = "\n".join(f"- {step}" for step in since)
        return f"It began as one trained so:\n\n{_first_training('FIRST', card)}\n\nSince then:\n\n{steps}"
    return _first_training(name, card)


def _since(card: Card) -> list[str]:
    """What was done to an encoder after its training."""
    told = []
    for step in card.get("adapted", ()):
        settings, losses = step["settings"], step["settings"]["losses"]
        told.append(
            f"`lymphoscope encoder adapt COHORT --encoder {step['from']['name']}`: trained on with "
            f"{step['cells']:,} cells of {step['patients']:,} patients, whose labels had no say, for "
            f"{counted(settings['epochs'], 'epoch')} (loss {losses[0]:.3f} to {losses[-1]:.3f}). Embeddings "
            f"moved by {step['moved']:.1%} of the spread between cells. Cohort `{step['cohort']}`."
        )
    if matched := card.get("matched"):
        told.append(
            f"`lymphoscope encoder match COHORT`: the colours of {matched['cells']:,} cells of "
            f"{matched['patients']:,} patients, {matched['distance']:.2f} spreads away, are brought to those "
            f"that it has learned from. Cohort `{matched['cohort']}`."
        )
    return told


def _first_training(name: str, card: Card) -> str:
    built, training = card["architecture"], card["training"]
    command = (
        f"lymphoscope encoder train CELLS -o {name} \\\n  --architecture {built['kind']} --hidden "
        f"{built['hidden']} --layers {built['layers']} --size {built['image_size']} \\\n  --epochs "
        f"{training['epochs']} --learning-rate {training['learning_rate']:g} --batch-size "
        f"{training['batch_size']} --seed {training['seed']}"
    )
    if card["cells"].get("left_out") is not None:
        command += " --leave-out CSV"
    if foreign := card.get("controls", {}).get("foreign"):
        scale = foreign.get("scale", 1)  # older cards do not know it
        command += " --foreign FOLDER" + (f" --foreign-scale {scale}" if scale != 1 else "")
    losses = training["losses"]
    changes = [
        f"{words(kind)} {_setting(value)}"
        for group in ("augmentation", "appearance")
        for kind, value in training.get(group, {}).items()
        if value
    ]
    return (
        f"```sh\n{command}\n```\n\nIn the precision {training['precision']}, with weight decay "
        f"{training['weight_decay']:g}; the weights are averaged over steps ({training['average']:g}). The "
        f"loss fell from {losses[0]:.3f} in the first epoch to {losses[-1]:.3f} in the last, which is the "
        "one that is kept: no epoch is chosen. Photographs were changed at random by: "
        f"{', '.join(changes)}.\n\nThe same command on the same cells, versions and kind of processor gives "
        f"the same bytes: cells `{card['cells']['sha256']}`; "
        + ", ".join(f"{package} {version}" for package, version in card["versions"].items())
        + "."
    )


def _interval(confusion: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Of macro F1, for cards that were written before it was measured."""
    found = macro_f1_interval(np.asarray(confusion, dtype=np.int64))
    return found.low, found.high


def _tasks(card: Card) -> Iterable[tuple[str, list[str]]]:
    return _in_order(card["tasks"]).items()


def _in_order(by_task: Mapping[str, Any]) -> dict[str, Any]:
    """The cell type first, the others by name, as a file holds them."""
    return dict(sorted(by_task.items(), key=lambda each: (each[0] != CELL_TYPE, each[0])))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _setting(value: Any) -> str:
    return "on" if value is True else f"{value:g}"
