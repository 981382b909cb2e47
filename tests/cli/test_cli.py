from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lymphoscope.cli.app import app

FAST = ("--folds", "3", "--repeats", "1", "--refits", "3", "--min-cells", "4", "--jobs", "1")
RECIPE = ("--recipe", "morphology-clinical")


@pytest.fixture
def call(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LYMPHOSCOPE_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def command(*arguments: object, cache: Path) -> list[str]:
    return [sys.executable, "-c", "from lymphoscope.cli import main; main()", *map(str, arguments)]


def test_the_command_line_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lymphoscope", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lymphoscope ")


def test_a_user_walks_from_synthesis_to_a_score(call, tmp_path: Path) -> None:
    cohort, out = tmp_path / "cohort", tmp_path / "run"
    made = call("synthesize", cohort, "--patients", 20, "--test", 6, "--cells", 6, "--seed", 3)
    assert made.exit_code == 0, made.output
    assert "no patient is real" in " ".join(made.output.split())

    checked = call("check", cohort, "--min-cells", 4)
    assert checked.exit_code == 0, checked.output
    assert "26 patients: 14 malignant, 6 reactive, 6 unlabelled" in checked.output

    ran = call("run", cohort, "-o", out, *RECIPE, *FAST)
    assert ran.exit_code == 0, ran.output
    assert str(out / "report.html") in ran.output.replace("\n", "")

    predicted = call("predict", out / "model", cohort, "-o", tmp_path / "new", "--min-cells", 4)
    assert predicted.exit_code == 0, predicted.output
    assert "26 patients" in predicted.output

    truth = next((tmp_path / "cohort_truth").glob("*patients*.csv"))
    with truth.open() as stream:
        rows = list(csv.DictReader(stream))
    name = next(key for key in rows[0] if key.lower() == "id")
    label = next(key for key in rows[0] if key.lower() == "label")
    with (out / "submission.csv").open() as stream:
        ids = [row["Id"] for row in csv.DictReader(stream)]
    answers = {row[name]: row[label] for row in rows}
    (tmp_path / "labels.csv").write_text("ID,LABEL\n" + "".join(f"{i},{answers[i]}\n" for i in ids))
    scored = call("score", out / "submission.csv", tmp_path / "labels.csv", "--json")
    assert scored.exit_code == 0, scored.output
    numbers = json.loads(scored.stdout)
    assert numbers["n_malignant"] + numbers["n_reactive"] == 6
    assert 0 <= numbers["balanced_accuracy"]["estimate"] <= 1
    assert numbers["auc"] is None
    again = call("score", out / "predictions.csv", tmp_path / "labels.csv", "--json")
    both = json.loads(again.stdout)
    assert both["balanced_accuracy"] == numbers["balanced_accuracy"]
    assert 0 <= both["auc"]["estimate"] <= 1

    explored = call("explore", cohort, "-o", tmp_path / "figures")
    assert explored.exit_code == 0, explored.output
    assert (tmp_path / "figures" / "explore.html").exists()

    evaluated = call(
        "evaluate", cohort, "--recipe", "clinical", *FAST[:4], *FAST[6:], "-o", tmp_path / "numbers.json"
    )
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads((tmp_path / "numbers.json").read_text())["rows"][0]["recipe"] == "clinical"


def test_check_exits_1_on_an_error_and_a_code_can_be_ignored(call, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    made = call("synthesize", cohort, "--patients", 8, "--test", 2, "--cells", 5, "--leak", "patients")
    assert made.exit_code == 0, made.output
    found = call("check", cohort, "--json", "--min-cells", 4)
    errors = {each["code"] for each in json.loads(found.stdout) if each["severity"] == "error"}
    assert found.exit_code == 1
    assert errors
    stopped = call("run", cohort, "-o", tmp_path / "run", *FAST)
    assert stopped.exit_code == 1
    assert not (tmp_path / "run").exists()
    ignored = call(
        "check", cohort, "--min-cells", 4, *(part for code in errors for part in ("--ignore", code))
    )
    assert ignored.exit_code == 0, ignored.output
    unknown = call("check", cohort, "--ignore", "LYM999")
    assert unknown.exit_code == 1
    assert "LYM999" in str(unknown.exception)


def test_every_recipe_is_listed(call) -> None:
    from lymphoscope.models.registry import list_models

    listed = call("models")
    assert listed.exit_code == 0
    for info in list_models():
        assert info.name in listed.output


def test_the_doctor_finds_this_machine_well(call) -> None:
    found = call("doctor")
    assert found.exit_code == 0, found.output
    assert "FAIL" not in found.output
    assert all(f"{name}: " in found.output for name in ("lymphoscope", "torch", "safetensors", "simplejpeg"))


def test_the_doctor_misses_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from lymphoscope.pipeline import doctor

    monkeypatch.setattr(
        doctor.packages, "requires", lambda _: ["numpy>=2", "absent-thing<3", "x; extra == 'dev'"]
    )
    assert doctor.needed() == ["numpy", "absent-thing"]
    assert [line.what for line in doctor.examine(Path.cwd()) if not line.ok] == ["absent-thing"]


@pytest.mark.parametrize("wrong", [("--column", "id"), ("--count-unit", "bushels"), ("--table", "none.csv")])
def test_a_wrong_option_is_one_clear_message(tiny_cohort: Path, cache: Path, wrong: tuple[str, str]) -> None:
    done = subprocess.run(
        command("check", tiny_cohort, *wrong, cache=cache),
        env={**os.environ, "LYMPHOSCOPE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error:")
    assert "Traceback" not in done.stderr
    assert wrong[1] in done.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lymphoscope.cli.app import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0; "
        "print([m for m in ('numpy', 'pandas', 'sklearn', 'cv2', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def test_a_killed_process_is_resumed_to_the_same_numbers(
    tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "LYMPHOSCOPE_CACHE": str(cache)}

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command("run", tiny_cohort, "-o", out, *RECIPE, *FAST, cache=cache),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(tmp_path / "whole").wait() == 0
    for finished_folds in (1, 6, 14):
        process = start(tmp_path / "broken")
        while process.poll() is None and count(tmp_path / "broken" / "pieces") < finished_folds:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was through before it could be killed"
    assert start(tmp_path / "broken").wait() == 0
    for name in ("metrics.json", "predictions.csv", "predictions.parquet", "report.html"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
