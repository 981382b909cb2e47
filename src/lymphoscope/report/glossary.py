"""The report's terms, each in words that need no other term of the list."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Alike",
        "How far the cells of one patient are told alike: the part of the attributes in which two of them, "
        "picked at random, agree. 1 is all the same. Malignant cells often descend from one cell, so they "
        "tend to be more alike than those of a reaction; healthy lymphocytes are rather alike too.",
    ),
    (
        "AUC",
        "The chance that a malignant patient, picked at random, gets a higher probability than a reactive "
        "one. 0.5 is guessing, 1 is perfect order.",
    ),
    (
        "Balanced accuracy",
        "The mean of sensitivity and specificity. It does not reward always naming the more common kind.",
    ),
    (
        "Brier score",
        "Mean squared distance between the predicted probability and what turned out to be true (0 or 1). "
        "0 is perfect; lower is better.",
    ),
    (
        "Calibration",
        "Whether the probabilities can be taken at their word: 0.8 should come true 8 times in 10.",
    ),
    (
        "Cannot say",
        "The interval crosses the threshold, or there is too little to go by. It counts as referred: "
        "such a patient needs a person's judgement.",
    ),
    (
        "Concept",
        "Something that a person can see in a cell and that the encoder has a word for: its type, its size, "
        "how dense the chromatin is.",
    ),
    (
        "Corrected p",
        "How easily chance alone makes a difference this large, made stricter because many were looked for "
        "at once. Of differences with less than 0.05, about one in twenty at most is none.",
    ),
    (
        "Effect",
        "How often the malignant one of two patients has the larger number, less how often the reactive one "
        "has. 0 is no difference, +1 always the malignant one, −1 always the reactive one.",
    ),
    (
        "Encoder",
        "A network that looks at one cell at a time and turns it into numbers and words. It has learned from "
        "healthy blood cells whose names are known, and from no malignant cell.",
    ),
    (
        "Epoch",
        "One time that a network goes through its training patients. After too few it has learned nothing, "
        "after too many it knows its own patients by heart.",
    ),
    (
        "Held out",
        "Set aside while the model, its threshold and every other choice were made, and only then predicted. "
        "Always whole patients, never single photographs.",
    ),
    (
        "Interval",
        "The range that fits the data, 95 % unless said otherwise. It shrinks with more patients, not with "
        "more photographs of the same ones.",
    ),
    (
        "Loss",
        "How wrong a network is about patients whose diagnosis is known, being sure and wrong counting most. "
        "It is what training makes smaller; lower is better.",
    ),
    (
        "Malignant, reactive",
        "A raised lymphocyte count from a lymphoid cancer, or as a response to something else.",
    ),
    (
        "N:C ratio",
        "Nucleus to cytoplasm: high where the nucleus fills nearly the whole cell, as in most small "
        "lymphocytes.",
    ),
    (
        "Optimistic",
        "Said of a number that is too good, because the patients it was measured on had a say in the model: "
        "the epoch that did best on them was kept. On patients nobody has looked at it will be lower.",
    ),
    (
        "Overlap zone",
        "Patients whose lymphocyte count is low enough to occur in both kinds. Here the count alone does not "
        "decide, so here the images have to earn their place.",
    ),
    ("Sensitivity", "Of the malignant patients, the share that was recognised or referred."),
    ("Specificity", "Of the reactive patients, the share that was recognised or spared the test."),
    (
        "Shortcut",
        "Something that happens to go with the label in this collection but is not the disease, such as how "
        "many photographs were taken. A model may learn it and then fail elsewhere.",
    ),
    ("Threshold", "The probability at and above which flow cytometry is advised."),
    (
        "Typical, odd",
        "Of a patient's cells, those that are nearest to the mean of all in the encoder's numbers, and those "
        "furthest from it. An odd cell may be another kind of cell, a damaged one, or the one that matters.",
    ),
    (
        "Weight of a cell",
        "How far this one cell pushed its patient's probability: above 0 towards malignant, below 0 towards "
        "reactive. It explains the model, not the cell.",
    ),
)
