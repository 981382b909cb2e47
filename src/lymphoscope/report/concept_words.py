"""Concepts in the words of the page: answers, cell types, how alike."""

from __future__ import annotations

import math

_WORDS = {
    ("cell_size", "big"): "large cell",
    ("cell_size", "small"): "small cell",
    ("cell_shape", "irregular"): "irregular outline",
    ("cell_shape", "round"): "round outline",
    ("nucleus_shape", "irregular"): "irregular nucleus",
    ("nucleus_shape", "segmented-bilobed"): "nucleus in two lobes",
    ("nucleus_shape", "segmented-multilobed"): "nucleus in several lobes",
    ("nucleus_shape", "unsegmented-band"): "band-shaped nucleus",
    ("nucleus_shape", "unsegmented-indented"): "indented nucleus",
    ("nucleus_shape", "unsegmented-round"): "round nucleus",
    ("nuclear_cytoplasmic_ratio", "high"): "high N:C ratio",
    ("nuclear_cytoplasmic_ratio", "low"): "low N:C ratio",
    ("chromatin_density", "densely"): "dense chromatin",
    ("chromatin_density", "loosely"): "loose chromatin",
    ("cytoplasm_vacuole", "no"): "no vacuoles",
    ("cytoplasm_vacuole", "yes"): "vacuoles",
    ("cytoplasm_texture", "clear"): "clear cytoplasm",
    ("cytoplasm_texture", "frosted"): "frosted cytoplasm",
    ("cytoplasm_colour", "blue"): "blue cytoplasm",
    ("cytoplasm_colour", "light blue"): "light blue cytoplasm",
    ("cytoplasm_colour", "purple blue"): "purple-blue cytoplasm",
    ("granule_type", "coarse"): "coarse granules",
    ("granule_type", "nil"): "no granules",
    ("granule_type", "round"): "round granules",
    ("granule_type", "small"): "small granules",
    ("granule_colour", "nil"): "no granules",
    ("granule_colour", "pink"): "pink granules",
    ("granule_colour", "purple"): "purple granules",
    ("granule_colour", "red"): "red granules",
    ("granularity", "no"): "no granules",
    ("granularity", "yes"): "granules",
    ("cell_type", "ig"): "immature granulocyte",
    ("cell_type", "platelet"): "platelets",
}

_SHORT = {
    "basophil": "baso",
    "eosinophil": "eo",
    "erythroblast": "erybl",
    "ig": "imm. g.",
    "lymphocyte": "lymph",
    "monocyte": "mono",
    "neutrophil": "neutro",
    "platelet": "plt",
}

ALIKE = ((0.95, "much alike"), (0.90, "alike"), (0.80, "mixed"), (0.0, "very mixed"))
"""Words for how alike cells are, from which value on. Of eleven attributes, two cells that are much alike
differ in half a one on average, and two of a mixed population in more than one."""


def answer_words(task: str, answer: str) -> str:
    """ "dense chromatin"; of a task or an answer that this page does not know, its own name."""
    if task == "cell_type":
        return _WORDS.get((task, answer), answer)
    return _WORDS.get((task, answer), f"{task.replace('_', ' ')}: {answer.replace('_', ' ')}")


def short_type(answer: str) -> str:
    """A cell type shortened to stand below a small picture."""
    return _SHORT.get(answer, answer[:7])


def alike_word(value: float) -> str:
    """ "much alike", "alike", "mixed" or "very mixed"; empty where not known."""
    if not math.isfinite(value):
        return ""
    return next(word for limit, word in ALIKE if value >= limit)


def p_text(value: float) -> str:
    """A p-value as people read it, never 0."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.095 else f"{value:.2f}"
