"""What every command does first: read, check, decode and measure a cohort; all of it cached."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lymphoscope.cells.concepts import concepts, find_not_lymphocytes, not_lymphocytes
from lymphoscope.cells.masked_crops import masked_crops
from lymphoscope.cells.normalised_crops import normalised_crops
from lymphoscope.cells.numbers import cell_numbers
from lymphoscope.cohort.bags import Bags
from lymphoscope.cohort.cell_store import CellStore, number_bags, open_store
from lymphoscope.cohort.cohort import UNLABELLED, Cohort
from lymphoscope.cohort.findings import Finding, Severity, counted, without
from lymphoscope.cohort.progress import Progress
from lymphoscope.cohort.read import ReadOptions, read_cohort
from lymphoscope.encoders.embeddings import embed_cells
from lymphoscope.encoders.encoder import Encoder, create_encoder
from lymphoscope.encoders.encoder_findings import SEEN_BEFORE, encoder_findings
from lymphoscope.encoders.kept import SHIPPED, encoder_folder
from lymphoscope.errors import InputError, LymphoscopeError
from lymphoscope.evaluation.probes import Probe, probe_shortcuts
from lymphoscope.evaluation.protocol import Protocol
from lymphoscope.models.base import BagClassifier
from lymphoscope.pipeline.left_out import LeaveOut, LeftOut, leave_out_flagged, require_told

DEFAULT_READING = ReadOptions()


def default_cache() -> Path:
    """This platform's cache folder for this user."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home()))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lymphoscope"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A cohort ready to learn from: patients, decoded cells, per-cell numbers, and what was found.

    Attributes
    ----------
    store : the photographs, without those that were left out.
    bags : per-cell numbers of every patient of the cohort, labelled or not, in the order of its table: what
        is measured, and what the encoder says.
    encoder : that gave embeddings and concepts; None without.
    findings : of the table, the folders, the photographs, all cells and what the encoder knows of them;
        ignored codes left out.
    left_out : cells that are in no bag, crop or picture; None where nothing was to be left out.
    ignore : codes of the findings that are left out.
    ignored : those findings.
    """

    cohort: Cohort
    store: CellStore
    bags: Bags
    encoder: Encoder | None
    findings: tuple[Finding, ...]
    left_out: LeftOut | None = None
    ignore: tuple[str, ...] = ()
    ignored: tuple[Finding, ...] = ()

    @property
    def leave_out(self) -> LeaveOut:
        """What was asked to be left out."""
        return "none" if self.left_out is None else "flagged"

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Indices of the patients whose label is known."""
        return np.flatnonzero(self.cohort.patients.label != UNLABELLED)

    @property
    def unlabelled(self) -> npt.NDArray[np.int64]:
        """Indices of the patients whose label is not known."""
        return np.flatnonzero(self.cohort.patients.label == UNLABELLED)

    @property
    def labelled_bags(self) -> Bags:
        """The bags of the labelled patients."""
        return self.bags[self.labelled]

    def bags_for(self, model: BagClassifier, *, jobs: int = 2, progress: Progress | None = None) -> Bags:
        """The bags of every patient as `model` takes them: per-cell numbers, or photographs.

        Photographs are cut from the store once for each size and kept beside it.
        """
        if model.cell_input != "images":
            return self.bags
        size = model.image_size
        if model.stain == "normalised":
            masked = model.segmented
            cells = normalised_crops(self.store, size, segmented=masked, jobs=jobs, progress=progress)
        elif model.segmented:
            cells = masked_crops(self.store, size, jobs=jobs, progress=progress)
        else:
            cells = self.store.crops(size, jobs=jobs, progress=progress)
        return replace(self.bags, cells=cells, columns=None)

    def seen_by(self, source: str | None = None) -> tuple[Finding, ...]:
        """What an encoder has seen of these cells before.

        Parameters
        ----------
        source : its name or folder; other weights have no list of cells, so nothing is known of them. None is
            the encoder that gave embeddings and concepts.

        Raises
        ------
        InputError : a file of the encoder is missing, cannot be read, or has another hash than its card says.
        """
        found = self.findings
        if source is not None:
            if encoder_folder(source) is None:
                return ()
            encoder = create_encoder(source)
            if self.encoder is None or encoder.sha256 != self.encoder.sha256:
                found = without(encoder_findings(encoder, self.cohort, self.store), self.ignore)
        return tuple(finding for finding in found if isinstance(finding, SEEN_BEFORE))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels of the labelled patients: 1 malignant, 0 reactive."""
        return self.cohort.patients.label[self.labelled].astype(np.int64)

    @property
    def labelled_split(self) -> list[str]:
        """What the cohort itself says of each labelled patient: "train", "test" or ""."""
        return [self.cohort.patients.split[i] for i in self.labelled]

    def require_labels(self) -> None:
        """Refuse a cohort that nothing can be learned from."""
        present = sorted(set(self.labels.tolist()))
        if present != [0, 1]:
            raise LymphoscopeError(
                f"{self.cohort.root}: {len(self.labelled)} labelled patients, labels {present or 'none'}. A "
                "model needs malignant (1) and reactive (0) patients to learn from. Add labels, or apply a "
                "model that was fitted elsewhere: lymphoscope predict MODEL COHORT."
            )

    def require_no_errors(self) -> None:
        """Refuse to go on while there are findings of severity error."""
        errors = [finding for finding in self.findings if finding.severity is Severity.ERROR]
        if errors:
            listed = " ".join(f"{each.code} {each.message}{_first_place(each)}" for each in errors)
            found = counted(len(errors), "finding")
            raise LymphoscopeError(
                f"{self.cohort.root}: {found} would make the result wrong: {listed} "
                "`lymphoscope check` lists them with remedies; mend the data, or accept one with --ignore."
            )


def _first_place(finding: Finding) -> str:
    places = finding.files or tuple(f"patient {each}" for each in finding.patients)
    return f" ({places[0]}{' and others' if len(places) > 1 else ''})" if places else ""


def require_outside(cohort: Cohort, out: Path) -> None:
    """Refuse an output where the cohort lies: nothing there is ever written to."""
    images = [str(cohort.root / path) for path in cohort.images]
    lies_at = {cohort.root, *([Path(os.path.commonpath(images))] if images else ())}
    for folder in lies_at:
        if out.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                "the output lies inside the cohort, which is never written to",
                file=out,
                allowed=f"a place outside {folder}",
                remedy="Choose another output.",
            )


def require_new(out: Path) -> None:
    """Refuse an output that is there already."""
    if os.path.lexists(out):
        what = "folder" if out.is_dir() else "file"
        raise InputError(f"the {what} exists already", file=out, remedy="Name a new one.")


def prepare(
    root: Path | str,
    options: ReadOptions = DEFAULT_READING,
    *,
    cache: Path | None = None,
    encoder: str | Path | Encoder | None = SHIPPED,
    half_embeddings: bool = False,
    leave_out: LeaveOut = "none",
    ignore: Sequence[str] = (),
    jobs: int = 2,
    verify: bool = False,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Read the cohort at `root`, take its photographs into the store below `cache`, and measure every cell.

    Parameters
    ----------
    cache : folder for decoded photographs and per-cell numbers; None is `default_cache()`.
    encoder : whose embeddings and concepts stand beside the measured numbers: a name or a place, as
        `create_encoder` takes it, or any module as an `Encoder`; None leaves them out.
    half_embeddings : keep embeddings in 16 bits a number, for half the disk.
    leave_out : "flagged" leaves out cells that the encoder is sure are no lymphocytes, that could not be
        segmented or are out of focus.
    ignore : codes of findings to leave out.
    verify : hash every photograph again instead of trusting its size and time.
    out : where the results are to go; within the cohort it is refused here, before the work begins.
    """
    without((), ignore)  # an unknown code is refused before the work begins
    cache = default_cache() if cache is None else cache
    looking = create_encoder(encoder) if isinstance(encoder, str | Path) else encoder
    if leave_out == "flagged":
        require_told(looking)
    cohort = read_cohort(Path(root), options)
    if out is not None:
        require_outside(cohort, out)
    store = open_store(cohort, cache, verify=verify, jobs=jobs, progress=progress)
    numbers = cell_numbers(store, jobs=jobs, progress=progress)
    values, columns = [numbers.values], [*numbers.columns]
    found = (*cohort.findings, *store.findings, *numbers.findings)
    if looking is not None:
        embeddings = embed_cells(store, looking, half=half_embeddings, jobs=jobs, progress=progress)
        values += [embeddings, looking.concepts(embeddings)]
        columns += [*looking.embedding_columns, *looking.concept_columns]
        found += encoder_findings(looking, cohort, store, jobs=jobs, progress=progress)
    cells = np.hstack(values)
    told = concepts(cells, columns)
    found += find_not_lymphocytes(told, store.index.patient, cohort.patients.ids, store.index.path)
    left_out, flagged = None, not_lymphocytes(told)
    if leave_out == "flagged" and flagged is not None:
        kept, left_out = leave_out_flagged(cohort, store, numbers.values, flagged)
        store, cells = store.only(kept), cells[kept]
    bags = number_bags(cohort, store, cells, columns)
    ignored = tuple(finding for finding in found if not without((finding,), ignore))
    return Prepared(cohort, store, bags, looking, without(found, ignore), left_out, tuple(ignore), ignored)


def check_cohort(prepared: Prepared, ignore: Sequence[str] = ()) -> tuple[Finding, ...]:
    """All findings, those of the shortcut probes included, gravest first."""
    probes = probe_cohort(prepared, Protocol())
    found = (*prepared.findings, *without((probe.finding for probe in probes), ignore))
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: (order.index(finding.severity), finding.code)))


def probe_cohort(prepared: Prepared, protocol: Protocol) -> tuple[Probe, ...]:
    """The shortcut probes on the labelled patients of a cohort."""
    patients, index = prepared.cohort.patients, prepared.store.index
    return probe_shortcuts(
        patients.label,
        offsets=prepared.bags.offsets,
        n_bytes=index.n_bytes,
        border_lab=index.border_lab,
        date_layout=patients.date_layout,
        lymphocyte_count=patients.clinical[:, 2],
        overlap_limit=protocol.overlap_limit,
        replicates=protocol.bootstrap,
        seed=protocol.seed,
    )
