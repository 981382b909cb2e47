"""What can be wrong with a cohort's folders (LYM101 to LYM199)."""

from __future__ import annotations

from dataclasses import dataclass

from lymphoscope.cohort.findings import Finding, Severity


@dataclass(frozen=True)
class NoTable(Finding):
    """The cohort has no patient table at its root: every patient is unlabelled and has photographs alone."""

    code = "LYM101"
    title = "No patient table"
    severity = Severity.WARNING
    remedy = "Put the table at the cohort's root or name it (option --table); nothing to do if there is none."


@dataclass(frozen=True)
class PatientsWithoutImages(Finding):
    """Patients of the table have no photographs. They are kept with their clinical values alone."""

    code = "LYM102"
    title = "Patients without photographs"
    severity = Severity.WARNING
    remedy = "Add a folder that bears exactly the patient's id, or leave it so if there are no photographs."


@dataclass(frozen=True)
class ImagesWithoutPatient(Finding):
    """A folder of photographs bears no id of the table.

    It is read as an unlabelled patient without clinical values, whose id is the folder's name.
    """

    code = "LYM103"
    title = "Photographs without a patient"
    severity = Severity.WARNING
    remedy = "Add the patient's row to the table, or rename the folder to exactly the patient's id."


@dataclass(frozen=True)
class NothingMatches(Finding):
    """There are photographs and a table, and no folder bears an id of the table."""

    code = "LYM104"
    title = "No folder matches the table"
    severity = Severity.ERROR
    remedy = "Make folder names and ids the same, letter by letter, or name the right id column."


@dataclass(frozen=True)
class AlmostMatchingFolder(Finding):
    """A folder's name differs from an id of the table only in case, blanks, accents' form or leading zeros.

    Ids are matched exactly, so these count as different patients.
    """

    code = "LYM105"
    title = "Folder almost matches an id"
    severity = Severity.WARNING
    remedy = "Rename the folder or correct the id so that both are the same, letter by letter."


@dataclass(frozen=True)
class TooFewCells(Finding):
    """Patients have very few photographs, so a statement about their cells is unsure."""

    code = "LYM106"
    title = "Too few cells"
    severity = Severity.WARNING
    remedy = "Add photographs of the same blood test if there are any."


@dataclass(frozen=True)
class StrayFiles(Finding):
    """Files that are neither photographs of a patient nor the patient table. They are not read."""

    code = "LYM107"
    title = "Stray files"
    severity = Severity.INFO
    remedy = (
        "Nothing to do unless one of them is a photograph (JPEG, PNG, TIFF and BMP are read) or the patient "
        "table (save a spreadsheet as CSV)."
    )


@dataclass(frozen=True)
class LoosePhotographs(Finding):
    """Photographs lie outside any patient's folder, so it is not known whose they are. They are not read."""

    code = "LYM108"
    title = "Photographs of nobody"
    severity = Severity.WARNING
    remedy = "Put each patient's photographs into a folder that bears exactly the patient's id."


@dataclass(frozen=True)
class PatientInSeveralFolders(Finding):
    """Several folders bear the same id, in trainset and testset for instance. Their photographs are joined.

    If they are two patients, their cells are mixed; if one, it may be learned from and tested on.
    """

    code = "LYM109"
    title = "Several folders of one patient"
    severity = Severity.ERROR
    remedy = "Keep one folder per patient; if they are different patients, give each its own id."


@dataclass(frozen=True)
class PatientInsidePatient(Finding):
    """A folder that bears a patient's id lies in another patient's folder.

    Its photographs go to the outer one.
    """

    code = "LYM110"
    title = "Patient folder inside another"
    severity = Severity.ERROR
    remedy = "Move the inner folder out, or rename it if it only divides the outer patient's photographs."


@dataclass(frozen=True)
class UnreadableFolder(Finding):
    """A folder could not be opened; what it holds is missing from the cohort."""

    code = "LYM111"
    title = "Unreadable folder"
    severity = Severity.ERROR
    remedy = "Give yourself the permission to read it, or move it out of the cohort."


@dataclass(frozen=True)
class UnusableName(Finding):
    """A folder or file has a name that is no text or that could not be an id. It is not read."""

    code = "LYM112"
    title = "Unusable name"
    severity = Severity.ERROR
    remedy = "Rename it with plain letters and digits."


@dataclass(frozen=True)
class LinkOutOfCohort(Finding):
    """A symbolic link leads to files outside the cohort. It is followed."""

    code = "LYM113"
    title = "Link out of the cohort"
    severity = Severity.WARNING
    remedy = "Make sure that the link is meant; what it leads to may change without the cohort changing."


@dataclass(frozen=True)
class RepeatingLink(Finding):
    """A symbolic link leads in a circle, to a folder that is read already, or to nothing.

    It is not followed.
    """

    code = "LYM114"
    title = "Link not followed"
    severity = Severity.WARNING
    remedy = "Remove the link; copy the folder if its photographs are meant to stand there too."


@dataclass(frozen=True)
class SplitsDisagree(Finding):
    """The table's column and the folder's place disagree on who is in the test set.

    The table's column is used.
    """

    code = "LYM115"
    title = "Column and folder disagree on the split"
    severity = Severity.WARNING
    remedy = "Move the folders or correct the column."


@dataclass(frozen=True)
class EmptyFolder(Finding):
    """A folder that bears no id of the table holds nothing, so nobody is read from it."""

    code = "LYM116"
    title = "Empty folder"
    severity = Severity.WARNING
    remedy = "Copy the patient's photographs into it if there are any; else remove it."
