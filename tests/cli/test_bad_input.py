"""What bad input gets at the command line: one clear error, nothing lost, nothing half written."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from lymphoscope import cli
from lymphoscope.cli.app import app
from lymphoscope.errors import LymphoscopeError
from lymphoscope.files import sha256_json, to_json
from lymphoscope.pipeline.run_folder import RunFolder

TABLE = "clinical_annotation.csv"
MIN_CELLS = ("--min-cells", "4")
FAST = (*MIN_CELLS, "--folds", "3", "--repeats", "1", "--refits", "2", "--jobs", "1", "--recipe", "clinical")


@pytest.fixture(autouse=True)
def _environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYMPHOSCOPE_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture(scope="module")
def finished(tiny_cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a cohort that may only be read; nothing in the cohort has changed by it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    before = tree(tiny_cohort)
    with read_only(tiny_cohort):
        done = CliRunner().invoke(
            app, ["run", str(tiny_cohort), "-o", str(out), "--cache", str(cache), *FAST]
        )
    assert done.exit_code == 0, done.output
    assert tree(tiny_cohort) == before
    return out


@pytest.fixture
def cohort(tmp_path: Path, tiny_cohort: Path) -> Path:
    """A table and the photographs of its first patient."""
    folder = tmp_path / "cohort"
    first = next((tiny_cohort / "trainset").glob("P*"))
    shutil.copytree(first, folder / "trainset" / first.name)
    shutil.copy(tiny_cohort / TABLE, folder)
    return folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        yield
    finally:
        for place in places:
            place.chmod(0o755)


@contextmanager
def disk_full_after(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond `n_bytes`, in this process, as on a disk that fills up.

    Whatever runs meanwhile must do so with `--jobs 1`: a worker process that is started now keeps the
    limit, and is used again by tests that come later.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tree(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file and folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
    }


def refused(*arguments: object) -> str:
    """The one message that a command ends with, which is no traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, LymphoscopeError), repr(result.exception)
    return str(result.exception)


def checked(*arguments: object) -> tuple[int, dict[str, str]]:
    """Exit status of `check`, and the severity of each code it found."""
    result = CliRunner().invoke(app, ["check", *map(str, arguments), "--json", *MIN_CELLS])
    return result.exit_code, {each["code"]: each["severity"] for each in json.loads(result.stdout)}


def no_temporary_files(folder: Path) -> bool:
    return not any(path.name.endswith(".tmp") for path in folder.rglob("*"))


HEADER = "ID,LABEL,GENDER,DOB,LYMPH_COUNT\n"
ROW = "P1,1,F,7/29/1943,12.26\n"


def with_id(patient: str) -> bytes:
    return f'{HEADER}{ROW}"{patient}",0,M,2/14/1953,7.81\n'.encode()


BAD_TABLES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("the table is empty", "a header line and one row per patient")),
    "no rows": (HEADER.encode(), ("has a header and no rows",)),
    "other delimiter": (
        (HEADER + ROW).replace(",", "|").encode(),
        ("no id column", "commas, semicolons or tabs"),
    ),
    "no id column": ((HEADER + ROW).replace("ID", "NO", 1).encode(), ("no id column", "--column id=COLUMN")),
    "text in a number": (
        (HEADER + ROW).replace("12.26", "high").encode(),
        ("row 2, column LYMPH_COUNT", "'high'", "such as 14.8"),
    ),
    "decimal comma between commas": (
        (HEADER + ROW).replace("12.26", "12,26").encode(),
        ("row 2", "6 fields and the header has 5", "quotation marks"),
    ),
    "binary": (random.Random(0).randbytes(2000), ("is not text",)),
    "path as id": (with_id("../../etc"), ("row 3, column ID", "may not be a path", "'../../etc'")),
    "line feed in id": (with_id("P\n2"), ("row 3, column ID", "control or invisible")),
    "zero byte in id": (with_id("P\x002"), ("zero bytes",)),
    "escape sequence in id": (with_id("P\x1b[31m2"), ("row 3, column ID", "control or invisible")),
    "markup as id": (with_id("<script>alert(1)</script>"), ("row 3, column ID", "may not be a path")),
    "formula as id": (with_id("=cmd|'C'!A0"), ("row 3, column ID", "like a formula")),
    "very long id": (with_id("P" * 300), ("row 3, column ID", "more than 255 bytes")),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_one_error(cohort: Path, tmp_path: Path, name: str) -> None:
    content, words = BAD_TABLES[name]
    (cohort / TABLE).write_bytes(content)
    before = tree(cohort)
    message = refused("run", cohort, "-o", tmp_path / "run", *FAST)
    assert all(word in message for word in (TABLE, *words)), message
    assert "\n" not in message
    assert tree(cohort) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace(",", ";").replace(".", ",").encode(),
    ],
    ids=["byte order mark", "UTF-16", "semicolons and decimal commas"],
)
def test_a_table_as_spreadsheets_write_it_is_read_alike(
    cohort: Path, rewrite: Callable[[str], bytes]
) -> None:
    table = cohort / TABLE
    as_it_was = checked(cohort)
    table.write_bytes(rewrite(table.read_text()))
    assert checked(cohort) == as_it_was


def test_latin_1_is_read_and_told(cohort: Path) -> None:
    table = cohort / TABLE
    table.write_bytes(table.read_bytes() + "99,Péter,0,M,2/14/1953,7.81\n".encode("latin-1"))
    status, found = checked(cohort)
    assert status == 0
    assert found["LYM016"] == "warning"


def test_a_table_of_a_hundred_thousand_rows_is_checked(tmp_path: Path) -> None:
    rows = "".join(f"P{i},{i % 2},F,7/29/1943,{4 + i % 50}\n" for i in range(100_000))
    (tmp_path / TABLE).write_text(HEADER + rows)
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 0
    assert "100000 patients: 50000 malignant, 50000 reactive" in result.output


def picture(kind: str, mode: str = "RGB", **how: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((224, 224), 60).convert(mode).save(out, kind, **how)
    return out.getvalue()


def _sixteen_bits() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((224, 224), 60).convert("I").point(lambda v: v * 257).convert("I;16").save(out, "PNG")
    return out.getvalue()


def _bomb() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


BAD_IMAGES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "zero bytes": (lambda: b"", "LYM202", "error"),
    "text": (lambda: b"a text, not a photograph\n" * 9, "LYM203", "error"),
    "truncated": (lambda: picture("JPEG")[:-900], "LYM204", "error"),
    "60,000 × 60,000": (_bomb, "LYM206", "error"),
    "grey": (lambda: picture("JPEG", "L"), "LYM212", "info"),
    "CMYK": (lambda: picture("JPEG", "CMYK"), "LYM212", "info"),
    "16 bits": (_sixteen_bits, "LYM212", "info"),
    "animated": (
        lambda: picture("PNG", save_all=True, append_images=[Image.new("RGB", (224, 224))]),
        "LYM213",
        "warning",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_photograph_is_a_finding_and_an_error_stops_a_run(
    cohort: Path, tmp_path: Path, name: str
) -> None:
    make, code, severity = BAD_IMAGES[name]
    patient = next((cohort / "trainset").iterdir())
    (patient / "odd.jpg").write_bytes(make())
    before = tree(cohort)
    status, found = checked(cohort)
    assert found.get(code) == severity
    assert status == (severity == "error")
    if severity == "error":
        assert code in refused("run", cohort, "-o", tmp_path / "run", *FAST)
        assert not (tmp_path / "run").exists()
    assert tree(cohort) == before


def test_what_cannot_be_meant_is_refused_before_the_work_begins(
    cohort: Path, tmp_path: Path, finished: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    for words, command in (
        ("no finding with this code", ["check", cohort, "--ignore", "LYM999"]),
        ("no finding with this code", ["run", cohort, "-o", out, "--ignore", "LYM999"]),
        ("no recipe has this name", ["run", cohort, "-o", out, "--recipe", "none"]),
        ("no recipe has this name", ["evaluate", cohort, "--recipe", "clinical", "--recipe", "none"]),
        ("model.json: is not there", ["predict", finished, cohort, "-o", out]),
    ):
        assert words in refused(*command, "--cache", cache)
        assert not cache.exists()
    far = CliRunner().invoke(app, ["synthesize", str(out), "--effect", "-2"])
    assert far.exit_code == 2
    assert "--effect" in far.output
    assert not out.exists()


def test_links_in_a_circle_are_a_finding(cohort: Path) -> None:
    (cohort / "trainset" / "again").symlink_to("..")
    status, found = checked(cohort)
    assert status == 0
    assert found["LYM114"] == "warning"


def test_no_cohort_at_all(tmp_path: Path, finished: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    model = finished / "model"
    for command in (["check"], ["run", "-o", out], ["explore", "-o", out], ["evaluate"]):
        assert "neither a patient table nor a photograph" in refused(command[0], empty, *command[1:])
    assert "neither a patient table nor a photograph" in refused("predict", model, empty, "-o", out)
    assert "no such folder" in refused("check", tmp_path / "none")
    assert "is not a folder" in refused("check", finished / "report.html")
    assert not out.exists()


@pytest.mark.parametrize(
    ("labels", "photographs", "options", "words"),
    [
        ("1111", True, (), ("labels [1]", "malignant (1) and reactive (0)")),
        ("    ", True, (), ("0 labelled patients", "lymphoscope predict")),
        ("1000", True, (), ("1 malignant (1)", "at least 2 patients of each class")),
        ("1100", True, (), ("at most 2 folds",)),
        ("111000", True, ("--folds", "9"), ("at most 3 folds",)),
        (
            "111000",
            True,
            ("--protocol", "holdout", "--folds", "9"),
            ("--folds 9", "--test-size", "repeated-cv"),
        ),
        ("111000", True, ("--protocol", "column", "--repeats", "2"), ("--repeats 2", "the table's")),
        ("111000", True, ("--test-size", "4"), ("--test-size 4", "--folds and --repeats", "holdout")),
        ("111000", True, ("--protocol", "holdout"), ("hold-out of 33",)),
        ("111000", True, ("--protocol", "column"), ("on no side of the split", "allowed: train, test")),
        ("111000", False, (), ("no labelled patient has a photograph", "evaluate COHORT --recipe clinical")),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_refused_before_anything_is_written(
    cohort: Path, tmp_path: Path, labels: str, photographs: bool, options: tuple[str, ...], words: tuple[str]
) -> None:
    patient = next((cohort / "trainset").iterdir())
    ids = [patient.name, *(f"X{i}" for i in range(1, len(labels)))]
    rows = [f"{i},{label.strip()},F,,{9 + k}\n" for k, (i, label) in enumerate(zip(ids, labels, strict=True))]
    (cohort / TABLE).write_text(HEADER + "".join(rows))
    if not photographs:
        shutil.rmtree(patient)
    rest = FAST if not {"--protocol", "--test-size"} & set(options) else MIN_CELLS
    message = refused("run", cohort, "-o", tmp_path / "run", *rest, *options)
    assert all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


def test_check_does_not_promise_a_run_without_both_classes(cohort: Path) -> None:
    patient = next((cohort / "trainset").iterdir()).name
    (cohort / TABLE).write_text(f"{HEADER}{patient},1,F,,9\nP99,1,M,,12\n")
    result = CliRunner().invoke(app, ["check", str(cohort)])
    assert result.exit_code == 0
    assert "not for `run`" in result.output
    (cohort / TABLE).unlink()
    assert "not for `run`" in CliRunner().invoke(app, ["check", str(cohort)]).output


def test_check_does_not_promise_a_run_with_fewer_patients_than_folds(cohort: Path) -> None:
    rows = "".join(f"X{i},{i % 2},F,,9\n" for i in range(8))
    (cohort / TABLE).write_text(HEADER + rows)
    shutil.rmtree(cohort / "trainset")
    text = " ".join(CliRunner().invoke(app, ["check", str(cohort)]).output.split())
    assert "not ready for `lymphoscope run` without further options" in text and "at most 4 folds" in text


def test_clinical_values_may_all_be_missing(tiny_cohort: Path, tmp_path: Path) -> None:
    table = tmp_path / "bare.csv"
    lines = (tiny_cohort / TABLE).read_text().splitlines()
    fields = [line.split(",") for line in lines[1:]]
    table.write_text("ID,LABEL,GENDER,DOB,LYMPH_COUNT\n" + "".join(f"{f[1]},{f[2]},,,\n" for f in fields))
    result = CliRunner().invoke(
        app,
        [
            *("evaluate", str(tiny_cohort), "--table", str(table), "--folds", "2", "--repeats", "1"),
            *("--jobs", "1", "--recipe", "clinical", "--recipe", "morphology-clinical", *MIN_CELLS),
            *("-o", str(tmp_path / "numbers.json")),
        ],
    )
    assert result.exit_code == 0, repr(result.exception)
    rows = {row["recipe"]: row for row in json.loads((tmp_path / "numbers.json").read_text())["rows"]}
    assert rows["clinical"]["overall"]["auc"]["estimate"] == 0.5


@pytest.mark.parametrize("place", ["{cohort}/out", "{cohort}", "{cohort}/trainset/out", "{link}/out"])
def test_no_output_goes_into_the_cohort(cohort: Path, tmp_path: Path, finished: Path, place: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(cohort)
    out = Path(place.format(cohort=cohort, link=link))
    before = tree(cohort)
    cache = tmp_path / "cache"
    inside = "lies inside the cohort, which is never written to"
    taken, no_run = ("exists already", "not a run folder") if out.exists() else (inside, inside)
    for command, words in (
        (["run", cohort, "-o", out, *FAST], no_run),
        (["run", cohort, "-o", out, "--overwrite", *FAST], no_run),
        (["explore", cohort, "-o", out], taken),
        (["evaluate", cohort, "-o", out], taken),
        (["predict", finished / "model", cohort, "-o", out], taken),
    ):
        assert words in refused(*command, "--cache", cache)
        assert not cache.exists()  # refused before the work begins
    assert "the cache lies inside the cohort" in refused("check", cohort, "--cache", out)
    assert tree(cohort) == before


def test_no_output_goes_where_the_photographs_lie(cohort: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    shutil.move(cohort / TABLE, apart / TABLE)
    patient = next((cohort / "trainset").iterdir())
    message = refused("explore", apart, "--images", cohort, "-o", patient / "out")
    assert "lies inside the cohort" in message


def test_what_stands_at_the_output_stays(tiny_cohort: Path, tmp_path: Path, finished: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "model").mkdir(parents=True)
    for name in ("report.html", "explore.html", "model/thesis.txt"):
        (mine / name).write_text("mine")
    file = mine / "report.html"
    model = finished / "model"
    before = tree(mine)
    fresh = ("--cache", tmp_path / "fresh")
    for out in (mine, file):
        assert "exists already" in refused("explore", tiny_cohort, "-o", out, *fresh)
        assert "exists already" in refused("predict", model, tiny_cohort, "-o", out, *fresh)
    assert "exists already" in refused("evaluate", tiny_cohort, "-o", file, *fresh)
    assert "is a file" in refused("run", tiny_cohort, "-o", file, *FAST, *fresh)
    for overwrite in ((), ("--overwrite",)):
        assert "not a run folder" in refused("run", tiny_cohort, "-o", mine, *FAST, *overwrite, *fresh)
    assert not fresh[1].exists()
    for below in (file / "below", file / "below" / "deep"):
        assert "could not be written" in refused("run", tiny_cohort, "-o", below, *FAST)
        assert "could not be written" in refused("predict", model, tiny_cohort, "-o", below)
        assert "could not be written" in refused("synthesize", below, "--patients", 2, "--test", 0)
    assert tree(mine) == before


def test_overwriting_a_run_removes_nothing_that_no_run_wrote(
    tiny_cohort: Path, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "model" / "thesis.txt").write_text("mine")
    assert "model/thesis.txt" in refused("run", tiny_cohort, "-o", out, *FAST, "--overwrite")
    assert (out / "model" / "thesis.txt").read_text() == "mine"
    (out / "model" / "thesis.txt").unlink()
    assert tree(out).keys() == tree(finished).keys()


@pytest.mark.parametrize("name", ["plan.json", "cohort.json", "metrics.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe\x00"])
def test_a_run_folder_that_was_altered(
    tiny_cohort: Path, tmp_path: Path, finished: Path, name: str, content: bytes
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / name).write_bytes(content)
    assert f"{name}: is not as a run wrote it" in refused("run", tiny_cohort, "-o", out, *FAST)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("predictions.csv", b""),
        ("predictions.csv", b"id,probability\n"),
        ("predictions.csv", b"\xff\xfe\x00"),
        ("metrics.json", b"{}"),
        ("metrics.json", b'{"ladder": {"protocol": [], "rows": 7}}'),
    ],
)
def test_a_finished_run_that_was_altered_is_not_summed_up(
    tiny_cohort: Path, tmp_path: Path, finished: Path, name: str, content: bytes
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / name).write_bytes(content)
    assert f"{name}: is not as a run wrote it" in refused("run", tiny_cohort, "-o", out, *FAST)


def test_two_runs_at_once_in_one_folder(tiny_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with RunFolder.open(out, {"lymphoscope": "held by another run"}):
        before = tree(out)
        message = refused("run", tiny_cohort, "-o", out, *FAST)
        assert "another run is writing into this folder" in message
        assert tree(out) == before


def test_what_a_killed_run_left_is_no_obstacle(tiny_cohort: Path, tmp_path: Path, finished: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".plan.json.abcd.tmp").write_text("{")
    (out / ".model.abcd.tmp").mkdir()
    result = CliRunner().invoke(app, ["run", str(tiny_cohort), "-o", str(out), *FAST])
    assert result.exit_code == 0, repr(result.exception)
    assert no_temporary_files(out)
    assert (out / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()


def test_a_full_disk_is_one_error_and_the_run_goes_on_later(
    tiny_cohort: Path, tmp_path: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    for limit, name in ((200, "cohort.json"), (100_000, "report.html")):
        with disk_full_after(limit):
            message = refused("run", tiny_cohort, "-o", out, *FAST)
        assert f"{name}: could not be written (File too large)" in message.replace("plan.json", "cohort.json")
        assert not (out / name).exists()
        assert not (out / "metrics.json").exists()
        assert no_temporary_files(tmp_path)
    result = CliRunner().invoke(app, ["run", str(tiny_cohort), "-o", str(out), *FAST])
    assert result.exit_code == 0, repr(result.exception)
    for name in ("metrics.json", "report.html", "predictions.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def test_a_full_disk_leaves_no_half_output(tiny_cohort: Path, tmp_path: Path, finished: Path) -> None:
    out, cache = tmp_path / "out", Path(os.environ["LYMPHOSCOPE_CACHE"])
    for first_written, command in (
        (out, ["predict", finished / "model", tiny_cohort, "-o", out, *MIN_CELLS]),
        (cache, ["evaluate", tiny_cohort, "-o", out, "--recipe", "clinical", "--folds", 2, "--repeats", 1]),
        (out, ["synthesize", out, "--patients", 2, "--test", 1, "--cells", 2]),
    ):
        with disk_full_after(1000):
            message = refused(*command, "--jobs", 1)
        assert message.startswith(f"{first_written}"), message
        assert "could not be written (File too large)" in message
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_below_the_cache(cohort: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with disk_full_after(10_000):
        message = refused("check", cohort, "--cache", cache, "--jobs", 1)
    assert str(cache) in message
    assert "choose another cache folder" in message
    assert no_temporary_files(cache)
    assert CliRunner().invoke(app, ["check", str(cohort), "--cache", str(cache)]).exit_code == 0


def test_a_damaged_cache_is_noticed_and_never_changes_an_answer(
    cohort: Path, tmp_path: Path, finished: Path
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"

    def predict() -> tuple[object, dict[str, str]]:
        result = CliRunner().invoke(
            app, ["predict", *map(str, (finished / "model", cohort, "-o", out, "--cache", cache)), *MIN_CELLS]
        )
        answers = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*")}
        shutil.rmtree(out, ignore_errors=True)
        return result.exception, answers

    right = predict()
    assert right[0] is None
    whole = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.name != "lock"}
    assert len(whole) == 5, "pictures, what is known of them, measured numbers, embeddings, hashes of centres"
    for path, content in whole.items():
        middle = bytearray(content)
        middle[len(content) // 2] ^= 1
        for damaged in (b"", content[:-1], bytes(len(content)), bytes(middle)):
            path.write_bytes(damaged)
            error, answers = predict()
            if error is not None:  # a picture in the cache is worth an error, with a remedy that works
                assert "check COHORT --verify" in str(error)
                assert answers == {}
                mended = CliRunner().invoke(app, ["check", str(cohort), "--cache", str(cache), "--verify"])
                assert mended.exit_code == 0
                error, answers = predict()
            assert (error, answers) == right


def altered(change: Callable[[dict[str, object]], object], *, sealed: bool) -> Callable[[Path], None]:
    """Change model.json; `sealed` writes its hash anew, as someone would who knows about it."""

    def apply(model: Path) -> None:
        document = json.loads((model / "model.json").read_text())
        if sealed:
            del document["document_sha256"]
        change(document)
        if sealed:
            document["document_sha256"] = sha256_json(document)
        (model / "model.json").write_text(to_json(document))

    return apply


def _flip_last_byte(model: Path) -> None:
    data = bytearray((model / "refits.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "refits.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_flip_last_byte, "refits.safetensors: is not the file"),
        (lambda model: (model / "model.json").write_bytes(b"{"), "no description of a lymphoscope model"),
        (lambda model: (model / "model.safetensors").unlink(), "model.safetensors: is not there"),
        (altered(lambda d: d.update(recipe="auto"), sealed=False), "was changed after it was written"),
        (altered(lambda d: d.update(schema_version=99), sealed=False), "written by a newer lymphoscope"),
        (altered(lambda d: d.update(recipe="evil"), sealed=True), "no recipe has this name"),
        (altered(lambda d: d.update(metadata={}), sealed=True), "does not say what predictions need"),
        (altered(lambda d: d["metadata"].update(cohort={}), sealed=True), "what predictions need (name"),
        (altered(lambda d: d.update(refits={}), sealed=True), "was changed after it was written"),
    ],
)
def test_a_bundle_that_cannot_be_trusted_predicts_nothing(
    cohort: Path, tmp_path: Path, finished: Path, change: Callable[[Path], object], words: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(finished / "model", model)
    change(model)
    assert words in refused("predict", model, cohort, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_predicting_with_photographs_or_table_alone(cohort: Path, tmp_path: Path, finished: Path) -> None:
    shutil.copytree(cohort / "trainset", tmp_path / "photographs")
    table_alone = tmp_path / "table"
    table_alone.mkdir()
    shutil.copy(cohort / TABLE, table_alone)
    n_listed = len((cohort / TABLE).read_text().splitlines()) - 1
    for folder, n in ((tmp_path / "photographs", 1), (table_alone, n_listed), (cohort, n_listed)):
        out = tmp_path / f"answers of {folder.name}"
        result = CliRunner().invoke(app, ["predict", str(finished / "model"), str(folder), "-o", str(out)])
        assert result.exit_code == 0, repr(result.exception)
        assert len((out / "predictions.csv").read_text().splitlines()) == 1 + n


@pytest.mark.parametrize(
    ("predictions", "truth", "options", "words"),
    [
        ("", "ID,LABEL\na,1\nb,0\n", (), "predictions.csv: the table is empty"),
        ("ID,Predicted\n", "ID,LABEL\na,1\nb,0\n", (), "predictions.csv: the table has a header and no rows"),
        ("ID,Predicted\na,1\nb,0\n", None, (), "truth.csv: there is no such table"),
        (
            "ID,Predicted\na,1\n,0\n",
            "ID,LABEL\na,1\n,0\n",
            (),
            "predictions.csv, row 3, column ID: the id is",
        ),
        ("ID,Predicted\na,yes\nb,0\n", "ID,LABEL\na,1\nb,0\n", (), "row 2, column Predicted"),
        ("ID,Predicted\na,1\nb,0\n", "ID,LABEL\na,1\nb,1\n", (), "hold one class only"),
        ("ID,Predicted\na,.6\nb,0\n", "ID,LABEL\na,1\nb,0\n", ("--threshold", "nan"), "no threshold"),
        ("ID,Predicted\na,.6\nb,0\n", "ID,LABEL\na,1\nb,0\n", ("--threshold", "7"), "allowed: 0 to 1"),
    ],
)
def test_tables_that_cannot_be_scored(
    tmp_path: Path, predictions: str, truth: str | None, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "predictions.csv").write_text(predictions)
    if truth is not None:
        (tmp_path / "truth.csv").write_text(truth)
    assert words in refused("score", tmp_path / "predictions.csv", tmp_path / "truth.csv", *options)


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Status that the program itself ends with."""
    monkeypatch.setattr(sys, "argv", ["lymphoscope", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_paths_are_printed_as_they_are(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "päth [red] 漢字 [" / "b]"
    assert ended(monkeypatch, "check", folder) == 1
    assert f"Error: {folder}: there is no such folder" in capsys.readouterr().err
    folder.mkdir(parents=True)
    patient = folder / "Müller [b]#1% 漢字"
    shutil.copytree(next((tiny_cohort / "trainset").glob("P*")), patient)
    assert ended(monkeypatch, "check", folder) == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert f"{folder}: 0 errors" in printed
    assert patient.name in printed


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lymphoscope.models.registry.list_models", interrupted)
    assert ended(monkeypatch, "models") == 130
    assert capsys.readouterr().err.startswith("Stopped.")


@pytest.mark.parametrize("module", ["typer", "rich.console", "lymphoscope.cli.options", "numpy", "cv2"])
def test_ctrl_c_while_the_program_is_being_loaded_is_one_line(tmp_path: Path, module: str) -> None:
    code = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from lymphoscope.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "Stopped. The same command goes on where it was, or begins again.\n"


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_output_that_cannot_be_written_to_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    assert ended(monkeypatch, "models") == 1
    assert capsys.readouterr().err == "Error: No space left on device.\n"


def test_a_terminal_without_unicode_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / TABLE).write_text(HEADER + "Müller,1,F,,9\nP2,0,M,,12\n")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert ended(monkeypatch, "check", tmp_path) == 0
    sys.stdout.flush()
    assert b"M\\xfcller" in printed.getvalue()
