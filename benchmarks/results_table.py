"""The table of results: what a row holds, writing CSV and Markdown, checking that nobody typed in them.

The CSV holds everything; the Markdown is made from it. Both carry the SHA-256 of the CSV's rows.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from typing import get_args, get_type_hints

from lymphoscope.cohort.findings import counted
from lymphoscope.evaluation.optimism import honest_recipe
from lymphoscope.files import sha256_bytes, write_text
from lymphoscope.models.registry import create_model, recipe_info

STATES = ("measured", "needs weights", "failed")
BY_HEART, STILL_LEARNING, SOUND = "by heart", "still learning", "as well on new"
_REMEDIES = {
    BY_HEART: "more patients may help",
    STILL_LEARNING: "longer training may",
    SOUND: "what they know of their own patients holds for others",
}
OPTIMISTIC = "optimistic"
"""In the protocol of a row whose scored patients chose the epoch."""

_GAP, _FITTED = 0.1, 0.95
"""BA that new patients may fall behind those trained on, and that these have when all is learned."""

REFERENCE, REFERENCE_CLINICAL = "encoder-mean", "encoder-mean-clinical"
"""What networks are held against, by whether they see the clinical values: a supervised reference."""

CLINICAL = "clinical"
"""What those are held against that see the clinical values: the same without cells."""

_LEGEND = f"""\
Balanced accuracy (BA) and AUC of patients that the model had not seen, with 95 % intervals over patients;
AUC zone: patients with at most 10.47 × 10⁹ lymphocytes/L. Learned: whether the lower end of AUC is above
the aim of the cohort. Over clinical: how far the AUC of a recipe that sees age, count and sex is above that
of `{CLINICAL}`, which sees no cells, on the same patients; where it is not, nothing shows that the cells have
added anything, whatever stands under Learned; small differences are chance, and of recipes that join the
verdicts of others none is given. Behind: how far the AUC is from that of `{REFERENCE}`, which sees the same
cells through an encoder that has learned from others, or, of a recipe that sees age, count and sex as well,
of `{REFERENCE_CLINICAL}`, on the same patients; − is above it. Fitted: BA of the same models on some cells
of each of their own training patients, who include those that chose and calibrated. Limit: "{BY_HEART}"
where new patients fall more than {_GAP} behind these, so that more patients may help; else
"{STILL_LEARNING}" where these are below {_FITTED}, so that longer training may; else "{SOUND}".
Training: summed over folds; for recipes without epochs, fitting and predicting. MB: anonymous memory, all
together. Epoch: those kept, fold by fold. One alone was chosen, on patients held out within the training
patients or, of optimistic rows, on the ones that are scored; of several none was chosen: there the
learning rate ends a cycle, and the networks are averaged. Recipes stand in the order of the program, not
of their results; a single hold-out cannot be compared with five folds.
"""

_SEEN = {REFERENCE: "from cells alone", REFERENCE_CLINICAL: "with clinical values"}

_SHARES = [
    *(f"{name}{end}" for name in ("ba", "auc", "zone_auc") for end in ("", "_low", "_high")),
    "fitted_ba",
]


@dataclass(frozen=True)
class Row:
    """One recipe on one cohort.

    Attributes
    ----------
    recipe : name, with its budget after an @.
    cohort : name of its folder.
    protocol : who was tested, in a few words.
    status : one of `STATES`.
    malignant, reactive, zone_malignant, zone_reactive : tested patients, and those of the overlap zone.
    ba, auc, zone_auc : balanced accuracy, AUC, and AUC within the overlap zone, with 95 % intervals.
    learned : whether the AUC's lower bound is above the aim of the cohort; empty where there is none.
    train_s, wall_s : seconds of training, summed over folds; of the whole row.
    peak_mb : anonymous memory of the process tree.
    fitted_ba : balanced accuracy of each fold's model on its own training patients; mean over folds. Empty
        for recipes without epochs.
    epochs, of_epochs : those kept in each fold, separated by spaces, folds by semicolons; the most that were
        trained.
    jobs, threads : processes, and threads of each.
    load : of the machine when the row was begun.
    fingerprint : of the cohort's content; code : of the code that measured the row.
    encoder : name and hash of what gave the numbers of cells that are not measured, or hash of the weights
        that training began with.
    key : of everything that was asked; a row with the same key is not measured again.
    """

    recipe: str
    cohort: str
    protocol: str
    status: str
    malignant: int | None = None
    reactive: int | None = None
    ba: float | None = None
    ba_low: float | None = None
    ba_high: float | None = None
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    zone_malignant: int | None = None
    zone_reactive: int | None = None
    zone_auc: float | None = None
    zone_auc_low: float | None = None
    zone_auc_high: float | None = None
    learned: str = ""
    fitted_ba: float | None = None
    train_s: float | None = None
    wall_s: float | None = None
    peak_mb: int | None = None
    epochs: str = ""
    of_epochs: int | None = None
    seed: int = 0
    jobs: int | None = None
    threads: int | None = None
    load: float | None = None
    fingerprint: str = ""
    code: str = ""
    versions: str = ""
    encoder: str = ""
    key: str = ""

    def interval(self, name: str) -> str:
        """Estimate and interval in words."""
        estimate, low, high = (getattr(self, f"{name}{end}") for end in ("", "_low", "_high"))
        return "–" if estimate is None else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"

    @property
    def limit(self) -> str:
        """Why a network gets no further: too few patients, or too little training; "" where unknown.

        New patients far behind those trained on: these are known by heart. Else, where not even these are
        told nearly all: it was still learning.
        """
        if self.fitted_ba is None or self.ba is None:
            return ""
        if self.fitted_ba - self.ba > _GAP:
            return BY_HEART
        return SOUND if self.fitted_ba >= _FITTED else STILL_LEARNING

    @property
    def tested(self) -> str:
        """Who was, without what else is to know of it; a recipe has one row on a cohort for each."""
        return self.protocol.partition(",")[0]

    def over(self, rows: Iterable[Row], recipe: str) -> float | None:
        """AUC above that of a recipe on the same patients and photographs; None where it was not measured."""
        if self.auc is None:
            return None
        own = (recipe, self.cohort, self.protocol, self.fingerprint, self.seed)
        alike = (r for r in rows if (r.recipe, r.cohort, r.protocol, r.fingerprint, r.seed) == own)
        other = next((row.auc for row in alike), None)
        return None if other is None else self.auc - other

    def line(self) -> str:
        """For the terminal."""
        if self.status != "measured":
            return f"{self.cohort:12} {self.recipe:34} {self.status}"
        return (
            f"{self.cohort:12} {self.recipe:34} BA {self.interval('ba')}  AUC {self.interval('auc')}  "
            f"{self.wall_s:7.1f} s {self.peak_mb:6d} MB  {self.learned}"
        )

    def faults(self) -> list[str]:
        """What cannot be in a table."""
        found = [f"status {self.status!r}"] if self.status not in STATES else []
        if self.learned not in ("", "yes", "no"):
            found.append(f"learned {self.learned!r}")
        shares = [getattr(self, name) for name in _SHARES]
        found += [
            f"{n} = {x}" for n, x in zip(_SHARES, shares, strict=True) if x is not None and not 0 <= x <= 1
        ]
        for name in ("ba", "auc", "zone_auc"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if (low is None) != (high is None) or (low is not None and low > high):
                found.append(f"{name}: no interval ({low}, {high})")
        if self.status == "measured":
            needed = ("malignant", "reactive", "ba", "auc", "train_s", "wall_s", "peak_mb", "jobs", "threads")
            found += [f"{name} is missing" for name in needed if getattr(self, name) is None]
            found += [
                f"{name} is missing" for name in ("protocol", "code", "versions") if not getattr(self, name)
            ]
        elif any(share is not None for share in shares):
            found.append(f"numbers in a row that says {self.status!r}")
        return [f"{self.recipe} on {self.cohort}: {each}" for each in found]


@dataclass(frozen=True)
class Table:
    """All rows, in the order shown, and the command that made them."""

    rows: tuple[Row, ...]
    command: str


def versions_text(versions: Mapping[str, str]) -> str:
    """One line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def write(target: Path, table: Table) -> None:
    """Write `target`.csv and `target`.md."""
    write_text(target.with_name(f"{target.name}.csv"), csv_text(table))
    write_text(target.with_name(f"{target.name}.md"), markdown(table))


def csv_text(table: Table) -> str:
    """The CSV: two lines about the table, then header and rows."""
    body = _body(table.rows)
    return f"# command: {table.command}\n# sha256: {_hash(body)}\n{body}"


def markdown(table: Table) -> str:
    """The Markdown: a table per cohort, and how all were made."""
    parts = ["# Results\n"]
    parts += [
        _section(name, [row for row in table.rows if row.cohort == name]) for name in _cohorts(table.rows)
    ]
    made = Counter(f"code {row.code}; {row.versions}; seed {row.seed}" for row in table.rows if row.code)
    said = "".join(f"- {each} ({counted(n, 'row')})\n" for each, n in sorted(made.items()))
    return "\n".join(
        [
            *parts,
            _LEGEND,
            f"Measured with the code, by its hash, and the versions of\n\n{said}",
            f"Last written by `{table.command}`; the same rows with every figure are in the CSV beside this "
            "file.\n",
            f"SHA-256 of the rows: `{_hash(_body(table.rows))}` "
            "(`python benchmarks/results.py --check FILE` compares).\n",
        ]
    )


def read(path: Path) -> tuple[Table, str]:
    """A table from its CSV, and the hash that it carries. ValueError where it is none."""
    lines = path.read_text(encoding="utf-8").split("\n", 2)
    if len(lines) < 3 or not lines[0].startswith("# command: ") or not lines[1].startswith("# sha256: "):
        raise ValueError("the two lines about command and hash are missing")
    reader = csv.DictReader(io.StringIO(lines[2]))
    names = [each.name for each in fields(Row)]
    if reader.fieldnames != names:
        raise ValueError(f"columns are {reader.fieldnames}; allowed: {names}")
    rows = tuple(_parsed(values) for values in reader)
    return Table(rows, lines[0].partition(": ")[2]), lines[1].partition(": ")[2]


def check(path: Path) -> list[str]:
    """What is wrong with a table, `.csv` or `.md`; nothing if it is as the program wrote it."""
    source = path.with_suffix(".csv")
    try:
        table, carried = read(source)
    except (OSError, ValueError, TypeError) as error:
        return [f"{source}: {error}"]
    found = [f"{source}: {fault}" for row in table.rows for fault in row.faults()]
    names = [(row.recipe, row.cohort, row.tested) for row in table.rows]
    found += [f"{source}: {name} stands twice" for name in sorted(set(names)) if names.count(name) > 1]
    if source.read_text(encoding="utf-8") != csv_text(table) or carried != _hash(_body(table.rows)):
        found.append(f"{source}: the rows do not have the hash that it carries")
    page = path.with_suffix(".md")
    if not page.exists() or page.read_text(encoding="utf-8") != markdown(table):
        found.append(f"{page}: this is not what the rows say")
    return found


def _section(cohort: str, rows: list[Row]) -> str:
    tested = {
        f"{row.protocol}: {row.malignant} malignant and {row.reactive} reactive patients, of whom "
        f"{row.zone_malignant} and {row.zone_reactive} in the overlap zone"
        for row in rows
        if row.status == "measured"
    }
    head = "Recipe | Tested | BA | AUC | AUC zone | Learned | Over clinical | Behind | Fitted | Limit"
    head += " | Training s | Wall s | MB | Epoch"
    lines = [f"## {cohort}\n", f"{_contents(rows)} Tested by {'; by '.join(sorted(tested))}.\n"]
    lines += [f"| {head} |", "|---|---|---|---|---|---|--:|--:|--:|---|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(_cells(row, rows)) + " |" for row in rows]
    return "\n".join([*lines, *_reading(rows), *_luck(rows)]) + "\n"


def _contents(rows: Iterable[Row]) -> str:
    """What the cohort's photographs and table were: of several, how many rows saw each."""
    seen = Counter(row.fingerprint for row in rows)
    if len(seen) == 1:
        return f"Content {next(iter(seen))}."
    each = ", ".join(f"{content} ({counted(n, 'row')})" for content, n in sorted(seen.items()))
    return f"Contents {each}: a plan has several where processors of different kinds painted it."


def _reading(rows: Sequence[Row]) -> Iterable[str]:
    """How far the recipes on photographs got that begin at random, and what holds the networks back."""
    references = {row.recipe: row for row in reversed(rows) if row.recipe in _SEEN}  # first: all folds
    ours = [row for row in rows if _is_honest(row) and begins_at_random(row.recipe)]
    found = list(_furthest(ours, references))
    if not found:
        return
    yield (
        f"\nBegun at random, recipes on photographs reach an AUC of {' and '.join(found)}. What holds back "
        "the networks of which it is known:\n"
    )
    for limit, remedy in _REMEDIES.items():
        names = ", ".join(dict.fromkeys(f"`{row.recipe}`" for row in ours if row.limit == limit))
        if names:
            yield f"- {limit} ({remedy}): {names}"


def _luck(rows: Sequence[Row]) -> Iterable[str]:
    """What the reports' rule for the epoch shows above the honest one, of recipes that one code measured."""
    honest = {(r.recipe, r.tested, r.code, r.fingerprint, r.seed): r for r in rows if _is_honest(r)}
    pairs = [
        (row, honest[key])
        for row in rows
        if OPTIMISTIC in row.protocol
        and (key := (honest_recipe(row.recipe), row.tested, row.code, row.fingerprint, row.seed)) in honest
    ]
    if len(pairs) < 2:
        return
    gains = []
    for name in ("ba", "auc"):
        each = [getattr(lucky, name) - getattr(fair, name) for lucky, fair in pairs]
        gains.append(f"{_signed(mean(each))} (from {_signed(min(each))} to {_signed(max(each))})")
    yield (
        f"\nWhere the scored patients chose the epoch, BA is {gains[0]} and AUC {gains[1]} above the same "
        f"recipe's whose epoch was chosen honestly: mean of {len(pairs)} recipes, each measured both ways by "
        "one code. The honest way also trains on a fifth fewer patients, by whom it calibrates."
    )


def _is_honest(row: Row) -> bool:
    return row.status == "measured" and OPTIMISTIC not in row.protocol


def _furthest(rows: Sequence[Row], references: Mapping[str, Row]) -> Iterable[str]:
    """The best of those that see cells alone, and of those that see clinical values too."""
    for name, seen in _SEEN.items():
        reference = references.get(name)
        alike = [
            row
            for row in rows
            if reference_of(row.recipe) == name and (not reference or row.protocol == reference.protocol)
        ]
        best = max(alike, key=lambda row: row.auc or 0.0, default=None)
        beside = f"; `{name}` has {reference.auc:.3f}" if reference and reference.auc else ""
        if best:
            yield f"up to {best.auc:.3f} {seen} (`{best.recipe}`{beside})"


def reference_of(recipe: str) -> str:
    """What a recipe is held against: what sees as much as it does."""
    sees = recipe == CLINICAL or getattr(create_model(recipe), "takes_clinical", False)
    return REFERENCE_CLINICAL if sees else REFERENCE


def begins_at_random(recipe: str) -> bool:
    """Whether a recipe takes photographs, and nothing that was learned elsewhere."""
    return recipe_info(recipe).cell_input == "images" and create_model(recipe).begins_with() is None


def _cells(row: Row, rows: Sequence[Row]) -> Iterable[str]:
    if row.status != "measured":
        return (f"`{row.recipe}`", row.status, *["–"] * 12)
    reference = reference_of(row.recipe)
    beside = reference == REFERENCE_CLINICAL and row.recipe != CLINICAL
    over = row.over(rows, CLINICAL) if beside else None
    ahead = row.over(rows, reference) if row.learned else None  # trained here
    epochs = f"{row.epochs} of {row.of_epochs}" if row.epochs else "–"
    return (
        f"`{row.recipe}`",
        row.protocol,
        row.interval("ba"),
        row.interval("auc"),
        row.interval("zone_auc"),
        row.learned or "–",
        _signed(over),
        _signed(None if ahead is None else -ahead),
        "–" if row.fitted_ba is None else f"{row.fitted_ba:.3f}",
        row.limit or "–",
        f"{row.train_s:.1f}",
        f"{row.wall_s:.1f}",
        f"{row.peak_mb}",
        epochs,
    )


def _signed(difference: float | None) -> str:
    return "–" if difference is None else f"{difference:+.3f}".replace("-", "−")


def _cohorts(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.cohort for row in rows))


def _body(rows: Iterable[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [each.name for each in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _hash(body: str) -> str:
    return sha256_bytes(body.encode("utf-8"))


def _parsed(values: Mapping[str, str]) -> Row:
    """A row from its CSV text; empty cells of numbers are None."""
    kinds = get_type_hints(Row)
    typed: dict[str, object] = {}
    for name, text in values.items():
        kind = next(each for each in (*get_args(kinds[name]), kinds[name]) if each in (str, int, float))
        typed[name] = text if kind is str else (None if text == "" else kind(text))
    return Row(**typed)  # type: ignore[arg-type]
