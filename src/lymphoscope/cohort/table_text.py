"""Delimited text of any common dialect into a header and rows, each with its line number."""

from __future__ import annotations

import csv
import io
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lymphoscope.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

_DATE_LIKE = re.compile(r"\d{1,4}\s*[-/.]\s*\d{1,2}\s*[-/.]\s*\d{1,4}|\d{6,}")
_YEAR = re.compile(r"(?<!\d)(?:18|19|20)\d\d(?!\d)")
_EXCEL_HINT = re.compile(r"sep=([,;\t])", re.IGNORECASE)
_AS_TEXT = "Export the table as comma-separated text (CSV, UTF-8)."
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class TableText:
    """A table as text.

    Attributes
    ----------
    file : where it came from.
    header : column names, stripped; unnamed ones are "".
    rows : fields of each row, stripped, as many as `header` has.
    lines : 1-based line of the file at which each row begins; the header is line 1 in most files.
    delimiter : "comma", "semicolon" or "tab".
    encoding : "UTF-8", "UTF-8 with BOM", "UTF-16" or "Latin-1".
    blank_lines : lines without any content, left out.
    repeated_headers : lines that repeat the header, left out.
    """

    file: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str
    encoding: str
    blank_lines: int
    repeated_headers: tuple[int, ...]

    def column(self, at: int) -> list[str]:
        """Fields of column number `at`, one per row."""
        return [row[at] for row in self.rows]


def shown(text: str) -> str:
    """A field fit for a message: short, and without what could be a date of birth."""
    return _short(masked(text) if _DATE_LIKE.search(text) or _YEAR.search(text) else text)


def shown_name(header: str) -> str:
    """A column's name fit for a message; in a table without a header it may be a patient's date of birth."""
    is_date = _DATE_LIKE.search(header) or (header[:1].isdigit() and _YEAR.search(header))
    return _short(masked(header) if is_date else header)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def masked(text: str) -> str:
    """The shape of `text` alone: every digit a 9, every letter an a or A."""
    return re.sub(r"[^\W\d_]", lambda m: "A" if m[0].isupper() else "a", re.sub(r"\d", "9", text))


def read_table_text(path: Path, recognised: Callable[[str], bool]) -> TableText:
    """Read the table at `path`.

    The delimiter is the one that gives the header the most columns of a name that `recognised` knows,
    and among equals the most columns.

    Raises
    ------
    InputError : the file cannot be read, is no text, is empty, or a row does not fit the header.
    """
    text, encoding = _decode(path)
    offset, text, hinted = _skip_excel_hint(text)
    delimiter = hinted or _sniff(text, recognised)
    records = list(_records(path, text, delimiter, offset))
    header, rows, lines, blank, repeated = _split(records)
    if not rows:
        raise InputError(
            "the table is empty" if not header else "the table has a header and no rows",
            file=path,
            allowed="a header line and one row per patient",
            remedy="Choose another table; without one, a cohort is read from its photographs alone.",
        )
    width = len(header)
    while width > 1 and not header[width - 1] and all(not any(row[width - 1 :]) for row in rows):
        width -= 1
    _check_widths(path, rows, lines, width)
    return TableText(
        file=path,
        header=header[:width],
        rows=tuple(row if len(row) == width else row[:width] for row in rows),
        lines=lines,
        delimiter=DELIMITERS[delimiter],
        encoding=encoding,
        blank_lines=blank,
        repeated_headers=repeated,
    )


def _decode(path: Path) -> tuple[str, str]:
    """Text of the file and the name of its encoding."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(
                "this is not a file", file=path, allowed="a table", remedy="Name the table itself."
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("there is no such table", file=path, remedy="Name one that is there.") from None
    except OSError as error:
        raise InputError(
            f"the table cannot be read ({error.strerror})",
            file=path,
            remedy="Check the file and its permissions.",
        ) from None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise InputError("this is a spreadsheet, not text", file=path, remedy=_AS_TEXT)
    text, encoding = _decode_bytes(data, path)
    if "\x00" in text:
        raise InputError("this is not text: it holds zero bytes", file=path, remedy=_AS_TEXT)
    return text, encoding


def _decode_bytes(data: bytes, path: Path) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), "UTF-16"
        except UnicodeDecodeError:
            raise InputError(
                "the table begins as UTF-16 text but is none", file=path, remedy=_AS_TEXT
            ) from None
    bom = data.startswith(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8-sig"), "UTF-8 with BOM" if bom else "UTF-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1"


def _skip_excel_hint(text: str) -> tuple[int, str, str | None]:
    """Lines skipped, the text after a first line "sep=;" as Excel writes it, and the delimiter it names."""
    first, end, rest = text.partition("\n")
    hint = _EXCEL_HINT.fullmatch(first.strip("\r ").strip('"'))
    return (1, rest, hint[1]) if hint and end else (0, text, None)


def _sniff(text: str, recognised: Callable[[str], bool]) -> str:
    first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")

    def fitness(delimiter: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            return 0, 0
        return sum(recognised(name.strip()) for name in names), len(names)

    return max(DELIMITERS, key=fitness)


def _records(path: Path, text: str, delimiter: str, offset: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line at which each record begins, and its fields."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1 + offset
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"the text cannot be cut into fields ({error})",
                file=path,
                row=line,
                allowed='quotation marks round whole fields only, those inside doubled ("")',
                remedy="Look for a stray or unclosed quotation mark.",
            ) from None
        yield line, tuple(map(str.strip, fields))


def _split(
    records: list[tuple[int, tuple[str, ...]]],
) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[int, ...], int, tuple[int, ...]]:
    """Header, rows, their lines, number of blank lines, and lines that repeat the header."""
    header: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    repeated: list[int] = []
    blank = 0
    for line, fields in records:
        if not any(fields):
            blank += 1
        elif not header:
            header = fields
        elif fields == header:
            repeated.append(line)
        else:
            rows.append(fields)
            lines.append(line)
    return header, rows, tuple(lines), blank, tuple(repeated)


def _check_widths(path: Path, rows: list[tuple[str, ...]], lines: tuple[int, ...], width: int) -> None:
    """Every row has `width` fields; empty ones beyond that are allowed."""
    bad = [
        (line, len(row))
        for row, line in zip(rows, lines, strict=True)
        if len(row) != width and (len(row) < width or any(row[width:]))
    ]
    if bad:
        line, fields = bad[0]
        others = f" (and {len(bad) - 1} more rows do not fit)" if len(bad) > 1 else ""
        raise InputError(
            f"the row has {fields} fields and the header has {width}{others}",
            file=path,
            row=line,
            remedy="Give every row a field for every column, empty where unknown, "
            "and put fields that hold the delimiter in quotation marks.",
        )
