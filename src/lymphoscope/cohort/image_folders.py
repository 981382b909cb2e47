"""Photographs in folders, and whose they are: the whole name of a folder is a patient's id, never a part."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lymphoscope.cohort import folder_findings as kinds
from lymphoscope.cohort.findings import Finding, counted
from lymphoscope.cohort.table_values import is_safe_id

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
SPLIT_FOLDERS: Mapping[str, str] = {
    "trainset": "train",
    "training": "train",
    "train": "train",
    "testset": "test",
    "test": "test",
}

_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
"""What macOS and network drives leave behind: they repeat the photographs or hold thumbnails of them."""


@dataclass(frozen=True)
class ImageFolders:
    """What lies in a cohort's folders; every path is relative to the cohort, with "/" between its parts.

    Attributes
    ----------
    images : id → paths of the photographs, sorted.
    folders : id → folders that bear the id and hold photographs.
    tables : tables that lie beside patients' folders.
    stray : files that are nobody's photograph and no table.
    findings : all but those that need the patient table or the stray files.
    """

    images: Mapping[str, Sequence[str]]
    folders: Mapping[str, Sequence[str]]
    tables: Sequence[str]
    stray: Sequence[str]
    findings: Sequence[Finding]


def find_images(root: Path, start: Path, ids: Collection[str], known: Collection[Path] = ()) -> ImageFolders:
    """Look through all folders below `start` for photographs of patients.

    The photographs below a folder that bears one of `ids` are that patient's. Others belong to the patient
    whose id is the name of the folder that holds them.

    Parameters
    ----------
    root : the cohort's folder, resolved; paths are given relative to it.
    start : the folder to begin in, resolved.
    ids : the ids of the patient table.
    known : files that are accounted for, resolved, and so not stray.
    """
    walk = _Walk(root, start, frozenset(ids), frozenset(known))
    walk.run()
    stray = walk.files.pop(kinds.StrayFiles, [])
    return ImageFolders(
        images={patient: sorted(paths) for patient, paths in walk.images.items()},
        folders={patient: list(folders) for patient, folders in walk.folders.items()},
        tables=sorted(walk.tables),
        stray=sorted(stray),
        findings=_findings(walk.files, walk.folders),
    )


def split_of(folder: str) -> str:
    """ "train" or "test" where a folder above `folder` says so, else ""."""
    for part in reversed(folder.split("/")[:-1]):
        if part.casefold() in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[part.casefold()]
    return ""


def almost(name: str) -> str:
    """`name` without what people write differently: case, blanks, leading zeros, composed accents."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_-]", "", text))


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Sorting key that puts P2 before P10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


@dataclass(frozen=True)
class _Place:
    """A folder on the way down.

    Attributes
    ----------
    path : relative to the cohort; "" is the cohort itself.
    owner : the patient of the table whose folder this is or lies in.
    folder : the folder that bears the owner's id.
    top : whether the walk began here.
    """

    path: str
    owner: str | None = None
    folder: str = ""
    top: bool = False

    def below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


@dataclass
class _Walk:
    """One pass over the folders: real ones first, then what links lead to, each folder once."""

    root: Path
    start: Path
    ids: frozenset[str]
    known: frozenset[Path]
    images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    folders: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    tables: list[str] = field(default_factory=list)
    files: dict[type[Finding], list[str]] = field(default_factory=lambda: defaultdict(list))
    seen: set[tuple[int, int]] = field(default_factory=set)
    links: list[tuple[str, _Place]] = field(default_factory=list)

    def run(self) -> None:
        above = os.path.relpath(self.start, self.root)
        self._walk(str(self.start), _Place("" if above == "." else above, top=True))
        while self.links:
            links, self.links = sorted(self.links, key=lambda link: link[1].path), []
            for path, place in links:
                self._follow(path, place)

    def _follow(self, path: str, place: _Place) -> None:
        """Walk through the folder that a link leads to, unless that would read something twice."""
        target = Path(os.path.realpath(path))
        if self.root.is_relative_to(target) or self.start.is_relative_to(target):
            self.files[kinds.RepeatingLink].append(place.path)
            return
        self._report_if_outside(target, place.path)
        self._walk(path, place)

    def _report_if_outside(self, target: Path, path: str) -> None:
        if not target.is_relative_to(self.root) and not target.is_relative_to(self.start):
            self.files[kinds.LinkOutOfCohort].append(path)

    def _walk(self, path: str, place: _Place) -> None:
        pending = [(path, place)]
        while pending:
            path, place = pending.pop()
            unowned = []
            for entry in self._entries(path, place):
                kind = _kind(entry)
                if kind == "folder":
                    self._descend(entry, place, pending)
                elif kind == "broken":
                    self.files[kinds.RepeatingLink].append(place.below(entry.name))
                elif self._is_unowned_image(entry, kind == "file", place):
                    unowned.append(place.below(entry.name))
            if unowned:
                self._own(place, unowned)

    def _entries(self, path: str, place: _Place) -> list[os.DirEntry[str]]:
        """Sorted entries of a folder, without those of unusable names; none if it was read before."""
        try:
            status = os.stat(path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in self.seen:
                self.files[kinds.RepeatingLink].append(place.path)
                return []
            self.seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as iterator:
                entries = sorted(iterator, key=lambda entry: entry.name)
        except OSError:
            self.files[kinds.UnreadableFolder].append(place.path or ".")
            return []
        if place.owner is None and place.path and all(entry.name.startswith(".") for entry in entries):
            self.files[kinds.EmptyFolder].append(place.path)
        usable = []
        for entry in entries:
            if _is_plain(entry.name):
                usable.append(entry)
            else:
                self.files[kinds.UnusableName].append(ascii(place.below(entry.name))[1:-1])
        return usable

    def _descend(self, entry: os.DirEntry[str], place: _Place, pending: list[tuple[str, _Place]]) -> None:
        """Note a folder to be walked through later, or report why it is not."""
        path, name = place.below(entry.name), entry.name
        inner = _Place(path, place.owner, place.folder)
        if name in self.ids:
            if place.owner is None:
                inner = _Place(path, owner=name, folder=path)
            elif place.owner != name:
                self.files[kinds.PatientInsidePatient].append(path)
        elif name.startswith(".") or name in _SYSTEM_FOLDERS:
            self.files[kinds.StrayFiles].append(f"{path}/")
            return
        (self.links if entry.is_symlink() else pending).append((entry.path, inner))

    def _is_unowned_image(self, entry: os.DirEntry[str], is_file: bool, place: _Place) -> bool:
        """Sort a file in; True if it is a photograph that no folder above gives to a patient of the table."""
        path = place.below(entry.name)
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if entry.name.startswith(".") or not is_file:
            self.files[kinds.StrayFiles].append(path)
            return False
        if entry.is_symlink():
            self._report_if_outside(Path(os.path.realpath(entry.path)), path)
        if suffix in IMAGE_SUFFIXES:
            if place.owner is None:
                return True
            self.images[place.owner].append(path)
            self.folders[place.owner][place.folder] = None
        elif Path(os.path.realpath(entry.path)) not in self.known:
            is_table = suffix in TABLE_SUFFIXES and place.owner is None and place.path
            (self.tables if is_table else self.files[kinds.StrayFiles]).append(path)
        return False

    def _own(self, place: _Place, paths: list[str]) -> None:
        """Give photographs in a folder that bears no id of the table to a patient of the folder's name."""
        name = place.path.rsplit("/", 1)[-1]
        if place.top or name.casefold() in SPLIT_FOLDERS:
            self.files[kinds.LoosePhotographs] += paths
        elif not is_safe_id(name):
            self.files[kinds.UnusableName].append(place.path)
        else:
            self.images[name] += paths
            self.folders[name][place.path] = None


def _kind(entry: os.DirEntry[str]) -> str:
    """ "folder", "file", "broken" (a link to nothing or in a circle), or "other" (a device, a pipe)."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        return "broken" if entry.is_symlink() and not os.path.exists(entry.path) else "other"  # noqa: PTH110
    except OSError:
        return "broken" if entry.is_symlink() else "other"


def _is_plain(name: str) -> bool:
    """Whether a name is text without control characters, so that it can be written into any output."""
    return name.isprintable() or not any(unicodedata.category(c) in {"Cc", "Cs"} for c in name)


def _findings(
    files: Mapping[type[Finding], Sequence[str]], folders: Mapping[str, Iterable[str]]
) -> list[Finding]:
    """One finding for each kind that was met."""
    found = [kind(_message(kind, paths), files=tuple(sorted(paths))) for kind, paths in files.items()]
    several = {patient: tuple(paths) for patient, paths in folders.items()}
    several = {patient: paths for patient, paths in several.items() if len(paths) > 1}
    if several:
        example = " and ".join(next(iter(several.values())))
        found.append(
            kinds.PatientInSeveralFolders(
                f"{counted(len(several), 'patient')} with more than one folder, e.g. {example}.",
                patients=tuple(several),
                files=tuple(path for paths in several.values() for path in paths),
            )
        )
    return found


_WHAT: Mapping[type[Finding], tuple[str, str]] = {
    kinds.LoosePhotographs: ("photograph", "outside any patient's folder"),
    kinds.PatientInsidePatient: ("folder", "with a patient's id inside another patient's folder"),
    kinds.UnreadableFolder: ("folder", "that cannot be opened"),
    kinds.UnusableName: ("name", "that cannot be used"),
    kinds.LinkOutOfCohort: ("link", "out of the cohort, followed"),
    kinds.EmptyFolder: ("folder", "without files and without a row in the table"),
    kinds.RepeatingLink: ("link", "in a circle, to what is read already, or to nothing"),
}


def _message(kind: type[Finding], paths: Sequence[str]) -> str:
    noun, rest = _WHAT[kind]
    return f"{counted(len(paths), noun)} {rest}, e.g. {min(paths)}."


def stray_files(paths: Sequence[str]) -> Finding:
    """The finding that says how many stray files of which type there are."""
    types = Counter(os.path.splitext(path)[1] or os.path.basename(path) for path in paths)  # noqa: PTH119, PTH122
    each = ", ".join(f"{n} {suffix}" for suffix, n in types.most_common(6))
    more = ", …" if len(types) > 6 else ""
    message = f"{counted(len(paths), 'file')} not read: {each}{more}."
    return kinds.StrayFiles(message, files=tuple(sorted(paths)))
