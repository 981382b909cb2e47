"""What can be wrong with a patient table (LYM001 to LYM099)."""

from __future__ import annotations

from dataclasses import dataclass

from lymphoscope.cohort.findings import Finding, Severity


@dataclass(frozen=True)
class RepeatedRow(Finding):
    """The table lists a patient more than once, with the same values each time. One row is used."""

    code = "LYM001"
    title = "Patient listed twice"
    severity = Severity.WARNING
    remedy = "Remove the repeated rows, or correct the id if they mean different patients."


@dataclass(frozen=True)
class ConflictingLabel(Finding):
    """The table lists a patient more than once, with different labels.

    Nobody can tell which is right; the patient counts as unlabelled.
    """

    code = "LYM002"
    title = "Patient with different labels"
    severity = Severity.ERROR
    remedy = "Keep the row with the right label; if two patients share an id, give each its own."


@dataclass(frozen=True)
class ConflictingValues(Finding):
    """The table lists a patient more than once, with different clinical values or parts of the cohort.

    The values that differ count as missing.
    """

    code = "LYM003"
    title = "Patient with different clinical values"
    severity = Severity.ERROR
    remedy = "Keep one row per patient; if two patients share an id, give each its own."


@dataclass(frozen=True)
class UnknownLabel(Finding):
    """A label is none of 1 (malignant), 0 (reactive), -1 or empty (unlabelled).

    The patient counts as unlabelled.
    """

    code = "LYM004"
    title = "Label outside 0, 1, -1"
    severity = Severity.ERROR
    remedy = "Write 1 for malignant, 0 for reactive, -1 or nothing for unlabelled."


@dataclass(frozen=True)
class ImpossibleAge(Finding):
    """An age is negative or above 120 years. The age counts as missing."""

    code = "LYM005"
    title = "Impossible age"
    severity = Severity.ERROR
    remedy = "Correct the date of birth or age, or set the reference date to the day of the blood tests."


@dataclass(frozen=True)
class ImpossibleCount(Finding):
    """A lymphocyte count is zero, negative, or above 1000 × 10⁹/L. The count counts as missing."""

    code = "LYM006"
    title = "Impossible lymphocyte count"
    severity = Severity.ERROR
    remedy = "Correct the count; look for a misplaced decimal mark or a row in another unit."


@dataclass(frozen=True)
class CountsInAnotherUnit(Finding):
    """The typical count is so large or small that the counts must be in another unit than stated."""

    code = "LYM007"
    title = "Counts look like another unit"
    severity = Severity.ERROR
    remedy = "State the unit of the table's counts (option --count-unit)."


@dataclass(frozen=True)
class CountBelowInclusion(Finding):
    """A lymphocyte count is below the limit from which one speaks of lymphocytosis. The patient is kept."""

    code = "LYM008"
    title = "Count below the inclusion limit"
    severity = Severity.WARNING
    remedy = "Check the count; decide whether the patient belongs in the cohort, or set another limit."


@dataclass(frozen=True)
class AmbiguousDate(Finding):
    """A date of birth such as 3/4 may be the third of April or the fourth of March, and nothing settles it.

    It is read month first with "/", day first with "-" and ".". The age is wrong by at most eleven months
    if that is not what was meant.
    """

    code = "LYM009"
    title = "Ambiguous date of birth"
    severity = Severity.WARNING
    remedy = "State the order (option --date-order), or write dates as YYYY-MM-DD."


@dataclass(frozen=True)
class SettledDate(Finding):
    """A date of birth could be read in two ways by itself; other dates with the same separator settle it."""

    code = "LYM010"
    title = "Date of birth read as its neighbours"
    severity = Severity.INFO
    remedy = "Nothing to do if the order is right; else state it (option --date-order)."


@dataclass(frozen=True)
class MixedDateLayouts(Finding):
    """Dates of birth are written in more than one layout.

    They often come from several sources, and the source may go along with the label.
    """

    code = "LYM011"
    title = "Several date layouts"
    severity = Severity.WARNING
    remedy = "Check that each layout is read as meant; find out why there are several."


@dataclass(frozen=True)
class SameSexAndBirth(Finding):
    """Patients with different ids share sex and date of birth, so they may be one person.

    A person who stands in the training and the test patients makes results look better than they are.
    """

    code = "LYM012"
    title = "Same sex and date of birth"
    severity = Severity.WARNING
    remedy = "Find out whether they are one person; if so, join them under one id."


@dataclass(frozen=True)
class Unlabelled(Finding):
    """Patients have no label. They are not learned from; they get a prediction."""

    code = "LYM013"
    title = "Unlabelled patients"
    severity = Severity.INFO
    remedy = "Nothing to do if these are the patients to predict."


@dataclass(frozen=True)
class MissingValues(Finding):
    """Patients lack their age, sex or lymphocyte count. The value stays missing; none is invented."""

    code = "LYM014"
    title = "Missing clinical values"
    severity = Severity.WARNING
    remedy = "Fill in what is known; predictions are less sure without."


@dataclass(frozen=True)
class IgnoredColumns(Finding):
    """The table has columns that are not used."""

    code = "LYM015"
    title = "Columns not used"
    severity = Severity.INFO
    remedy = "If one of them is meant, name it (option --column, e.g. --column lymphocyte_count=ALC)."


@dataclass(frozen=True)
class GuessedEncoding(Finding):
    """The table is not UTF-8 text; it was read as Latin-1. Letters beyond A to Z may be wrong."""

    code = "LYM016"
    title = "Encoding guessed"
    severity = Severity.WARNING
    remedy = "Export the table as UTF-8, above all if ids hold accented letters."


@dataclass(frozen=True)
class LinesLeftOut(Finding):
    """Lines without content, or that repeat the header, were left out."""

    code = "LYM017"
    title = "Lines left out"
    severity = Severity.INFO
    remedy = "Nothing to do; a repeated header often means that tables were joined, so check the rest."


@dataclass(frozen=True)
class TablesDisagreeOnLabel(Finding):
    """A table beside the photographs gives a patient another label than the patient table, which is used."""

    code = "LYM018"
    title = "Tables disagree on a label"
    severity = Severity.ERROR
    remedy = "Correct the wrong table, or remove the one that is out of date."


@dataclass(frozen=True)
class TablesDisagree(Finding):
    """A table beside the photographs gives a patient other values than the patient table, which is used.

    Clinical values; and labels, where the patient table was named (`--table`) and so chosen.
    """

    code = "LYM019"
    title = "Tables disagree on values"
    severity = Severity.WARNING
    remedy = "Correct the wrong table, or remove the one that is out of date."


@dataclass(frozen=True)
class OnlyInOtherTable(Finding):
    """A table beside the photographs lists patients whom the patient table lacks. Their row is not used."""

    code = "LYM020"
    title = "Patient in another table only"
    severity = Severity.WARNING
    remedy = "Add the row to the patient table, or name the table that is meant (option --table)."


@dataclass(frozen=True)
class OneClassOnly(Finding):
    """All labelled patients have the same label, so nothing can be learned or measured."""

    code = "LYM021"
    title = "One class only"
    severity = Severity.WARNING
    remedy = "Add labelled patients of the other class; predicting with a trained model works."
