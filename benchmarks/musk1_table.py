"""The table of MUSK1: what a row holds, writing CSV and Markdown, checking that nobody typed in them.

The CSV holds everything; the Markdown is made from it. Both carry the SHA-256 of the CSV's rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from lymphoscope.files import sha256_bytes, write_text

LITERATURE = (
    ("mi-SVM", "0.874", "Andrews et al. 2002, NIPS 15, table 1"),
    ("MI-SVM", "0.779", "Andrews et al. 2002, NIPS 15, table 1"),
    ("mi-Net (rows judged, then pooled)", "0.889 ± 0.039", "Wang et al. 2018, Pattern Recognition 74"),
    ("MI-Net (rows pooled, then judged)", "0.887 ± 0.041", "Wang et al. 2018, Pattern Recognition 74"),
    ("MI-Net with deep supervision", "0.894 ± 0.042", "Wang et al. 2018, Pattern Recognition 74"),
    ("attention", "0.892 ± 0.040", "Ilse et al. 2018, ICML, table 1"),
    ("gated attention", "0.900 ± 0.050", "Ilse et al. 2018, ICML, table 1"),
)
"""Method, accuracy as its authors state it (±: their own measure of spread), source."""

METRICS = ("accuracy", "auc")

NOTES = """\
Accuracy at a probability of 0.5 and AUC of bags that the model had not seen; in brackets 95 % intervals over
bags, then the standard deviation between rounds. Bags are few: the interval of one row is wider than the
distance between most rows, and rows stand in the order of the program, not of their results. `recipe`: as
shipped, so that a fifth of the 83 training bags is not trained on but chooses the epoch and calibrates;
`fixed`: learning rate, weight decay and number of epochs as published for this benchmark, uncalibrated;
`members`: five networks, each trained without a fifth of the training bags. `recipe` is asked for in 10
rounds and `fixed` in 5, as published; a row with fewer is unfinished, and the command goes on with it.
Seconds were taken on a busy machine.
"""


@dataclass(frozen=True)
class Row:
    """One method in one setting.

    Attributes
    ----------
    accuracy, auc : with 95 % intervals over bags.
    accuracy_sd, auc_sd : standard deviation between rounds of folds.
    seconds : of all trainings and predictions, one thread.
    data, code : first digits of the SHA-256 of the file and of the code that measured the row.
    """

    method: str
    setting: str
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    accuracy_sd: float
    auc: float
    auc_low: float
    auc_high: float
    auc_sd: float
    seconds: float
    rounds: int
    folds: int
    seed: int
    data: str
    code: str
    versions: str

    def shown(self, name: str) -> str:
        """Estimate, interval and spread in words."""
        value, low, high, sd = (getattr(self, f"{name}{end}") for end in ("", "_low", "_high", "_sd"))
        return f"{value:.3f} [{low:.3f}, {high:.3f}]" + (f" ± {sd:.3f}" if self.rounds > 1 else "")

    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.method:18} {self.setting:8} accuracy {self.shown('accuracy')}  AUC {self.shown('auc')} "
            f"{self.seconds:7.1f} s"
        )

    def faults(self) -> list[str]:
        """What cannot be in a table."""
        found = []
        for name in METRICS:
            value, low, high = (getattr(self, f"{name}{end}") for end in ("", "_low", "_high"))
            if not 0 <= low <= value <= high <= 1:
                found.append(f"{name} {value} [{low}, {high}]")
        return [f"{self.method}, {self.setting}: {each}" for each in found]


def write(target: Path, rows: Sequence[Row], command: str) -> None:
    """Write the CSV `target`, and the Markdown beside it."""
    write_text(target, csv_text(rows, command))
    write_text(target.with_suffix(".md"), markdown(rows, command))


def csv_text(rows: Sequence[Row], command: str) -> str:
    """The CSV: two lines about the table, then header and rows."""
    body = _body(rows)
    return f"# command: {command}\n# sha256: {_hash(body)}\n{body}"


def markdown(rows: Sequence[Row], command: str) -> str:
    """The Markdown: what was measured, the literature, how it was made."""
    head = ("Method", "Setting", "Rounds", "Accuracy", "AUC", "Seconds")
    measured = [
        (f"`{row.method}`", row.setting, f"{row.rounds}", *map(row.shown, METRICS), f"{row.seconds:.0f}")
        for row in rows
    ]
    made = sorted({f"rounds of {row.folds} folds, seed {row.seed}" for row in rows})
    parts = [
        "# MUSK1\n",
        f"92 bags, 476 rows of 166 numbers; {'; '.join(made)}.\n",
        _table(head, measured),
        NOTES,
        "## The literature\n",
        "Accuracies as published, in ten folds; splits, rounds and choice of the epoch are the authors' own. "
        "One bag of 92 is 0.011.\n",
        _table(("Method", "Accuracy", "Source"), LITERATURE),
        "An SVM on mean, minimum and maximum of a bag is known to reach an AUC of 0.97 here; above, that is "
        "the one with the Gaussian kernel.\n",
        f"Measured with {'; '.join(sorted({row.versions for row in rows}))}.\n",
        f"Last written by `{command}`; the same rows with every figure are in the CSV beside this file.\n",
        f"SHA-256 of the rows: `{_hash(_body(rows))}` "
        "(`python benchmarks/musk1.py --check FILE` compares).\n",
    ]
    return "\n".join(parts)


def check(path: Path) -> list[str]:
    """What is wrong with a table, `.csv` or `.md`; nothing if it is as the program wrote it."""
    source = path.with_suffix(".csv")
    try:
        rows, command, carried = read(source)
    except (OSError, ValueError, TypeError) as error:
        return [f"{source}: {error}"]
    found = [f"{source}: {fault}" for row in rows for fault in row.faults()]
    if source.read_text(encoding="utf-8") != csv_text(rows, command) or carried != _hash(_body(rows)):
        found.append(f"{source}: the rows do not have the hash that it carries")
    page = path.with_suffix(".md")
    if not page.exists() or page.read_text(encoding="utf-8") != markdown(rows, command):
        found.append(f"{page}: this is not what the rows say")
    return found


def read(path: Path) -> tuple[tuple[Row, ...], str, str]:
    """Rows, command and hash from a CSV. ValueError where it is none."""
    lines = path.read_text(encoding="utf-8").split("\n", 2)
    if len(lines) < 3 or not lines[0].startswith("# command: ") or not lines[1].startswith("# sha256: "):
        raise ValueError("the two lines about command and hash are missing")
    reader = csv.DictReader(io.StringIO(lines[2]))
    kinds = get_type_hints(Row)
    if reader.fieldnames != [*kinds]:
        raise ValueError(f"columns are {reader.fieldnames}; allowed: {[*kinds]}")
    typed: list[dict[str, Any]] = [{name: kinds[name](text) for name, text in row.items()} for row in reader]
    command, carried = (line.partition(": ")[2] for line in lines[:2])
    return tuple(Row(**values) for values in typed), command, carried


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _body(rows: Iterable[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [each.name for each in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return stream.getvalue()


def _hash(body: str) -> str:
    return sha256_bytes(body.encode("utf-8"))
