"""The table of results: one smoke row measured by the command itself, and what the check notices."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lymphoscope.cohort.findings import Finding
from lymphoscope.encoders.encoder_findings import AdaptedOnThesePatients
from lymphoscope.encoders.known_cells import CellsLearnedFrom
from lymphoscope.models.registry import create_model

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def made(tiny_cohort: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A table of 24 patients, one network at its smallest budget and one that needs weights; its options."""
    out = tmp_path_factory.mktemp("results")
    options = ["--budget", "smoke", "--folds", "2", "--cores", "1", "--learned", "cohort=0.6"]
    options += ["--recipe", "cnn-clinical", "--recipe", "frozen-resnet34"]
    options += ["--cohort", str(tiny_cohort), "--cache", str(cache)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import results  # type: ignore[import-not-found]

        assert results.main([*options, "--out", str(out / "networks")]) == 0
    return out / "networks.csv", options


@pytest.fixture
def smoke_table(made: tuple[Path, list[str]]) -> Path:
    return made[0]


@pytest.fixture
def table_of(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results_table  # type: ignore[import-not-found]

    return results_table


def test_a_smoke_row_keeps_the_schema(smoke_table: Path, table_of: ModuleType) -> None:
    table, _ = table_of.read(smoke_table)
    row, waiting = table.rows
    assert table_of.check(smoke_table) == []
    assert row.recipe == "cnn-clinical@smoke" and row.status == "measured" and row.protocol == "2 folds"
    assert row.malignant + row.reactive == 24
    assert 0 <= row.auc_low <= row.auc_high <= 1 and row.auc_low < row.auc_high
    assert len(row.epochs.split()) == 2 and row.of_epochs == 2
    assert row.train_s > 0 and row.wall_s >= row.train_s and row.peak_mb > 50
    assert row.fitted_ba is not None and 0.0 <= row.fitted_ba <= 1.0 and waiting.fitted_ba is None
    assert row.learned == ("yes" if row.auc_low > 0.6 else "no")
    assert len(row.code) == 12 and "torch" in row.versions and row.seed == 0
    assert waiting.status == "needs weights" and waiting.auc is None
    assert table.command.startswith("python benchmarks/results.py --cohort cohorts/cohort --recipe cnn-")


def test_rows_that_are_there_are_not_measured_again(
    made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    monkeypatch.setattr(results, "watched", lambda *_, **__: pytest.fail("measured again"))
    again = tmp_path / "networks.csv"
    again.write_bytes(made[0].read_bytes())
    assert results.main([*made[1], "--out", str(tmp_path / "networks")]) == 0
    assert again.read_bytes() == made[0].read_bytes()
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        results.main([*made[1], "--seed", "1", "--out", str(tmp_path / "networks")])


def test_rows_of_other_code_are_measured_again_where_that_is_asked(
    made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_of: ModuleType
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    (tmp_path / "networks.csv").write_bytes(made[0].read_bytes())
    at = made[1].index("--recipe")
    options = [*made[1][:at], *made[1][at + 4 :], "--again", "--out", str(tmp_path / "networks")]
    with monkeypatch.context() as patch:
        patch.setattr(results, "watched", lambda *_, **__: pytest.fail("measured again"))
        assert results.main(options) == 0
        patch.setattr(results, "code_hash", lambda: "of-tomorrow")
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            results.main(options)
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            results.main([*options, "--recipe", "cnn-clinical"])
    before, after = (table_of.read(each)[0].rows for each in (made[0], tmp_path / "networks.csv"))
    assert before == after


def test_rows_that_are_not_asked_for_stay(
    made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_of: ModuleType
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    (tmp_path / "networks.csv").write_bytes(made[0].read_bytes())
    options = [each.replace("cnn-clinical", "clinical") for each in made[1]]
    assert results.main([*options, "--out", str(tmp_path / "networks")]) == 0
    rows = {row.recipe: row for row in table_of.read(tmp_path / "networks.csv")[0].rows}
    assert set(rows) == {"clinical", "cnn-clinical@smoke", "frozen-resnet34@smoke"}
    assert rows["cnn-clinical@smoke"] == table_of.read(made[0])[0].rows[0]


def test_the_page_carries_the_hash_and_every_row(smoke_table: Path, table_of: ModuleType) -> None:
    page = smoke_table.with_suffix(".md").read_text(encoding="utf-8")
    table, carried = table_of.read(smoke_table)
    assert carried in page and table.command in page
    assert all(f"`{row.recipe}`" in page for row in table.rows)
    assert "| `frozen-resnet34@smoke` | needs weights | – |" in page


@pytest.mark.parametrize("suffix", [".csv", ".md"])
def test_a_typed_number_is_noticed(
    suffix: str, smoke_table: Path, tmp_path: Path, table_of: ModuleType
) -> None:
    table, _ = table_of.read(smoke_table)
    for each in (".csv", ".md"):
        text = smoke_table.with_suffix(each).read_text(encoding="utf-8")
        if each == suffix:
            typed = text.replace(f"{table.rows[0].peak_mb}", f"{table.rows[0].peak_mb - 1}")
            assert typed != text
            text = typed
        (tmp_path / f"networks{each}").write_text(text, encoding="utf-8")
    assert any(f"networks{suffix}" in fault for fault in table_of.check(tmp_path / "networks.md"))


def test_the_table_that_is_kept_is_as_the_program_wrote_it(table_of: ModuleType) -> None:
    assert table_of.check(BENCHMARKS / "results" / "networks.md") == []


@pytest.mark.parametrize(
    ("recipe", "protocol", "learned"),
    [
        ("cnn-baseline@fast", "5 folds", "yes"),
        ("clinical", "5 folds", "yes"),
        ("morphology", "5 folds", ""),
        ("cnn-baseline@fast:selection=scored-fold", "5 folds, optimistic", ""),
    ],
)
def test_only_what_was_honestly_trained_and_the_clinical_values_are_judged(
    recipe: str, protocol: str, learned: str, table_of: ModuleType
) -> None:
    import results

    row = table_of.Row(recipe, "dev", protocol, "measured", auc=0.8, auc_low=0.7, auc_high=0.9)
    assert results.judged(row, {"dev": 0.6}).learned == learned
    assert results.judged(row, {"strong": 0.9}).learned == ""


def test_networks_are_held_against_the_reference_and_those_that_see_them_against_clinical_values(
    table_of: ModuleType,
) -> None:
    numbers = {"status": "measured", "train_s": 1.0, "wall_s": 1.0, "peak_mb": 1, "code": "0"}
    rows = tuple(
        table_of.Row(
            name, "dev", tested, auc=auc, auc_low=auc - 0.1, auc_high=auc, learned=learned, **numbers
        )
        for name, tested, auc, learned in (
            ("clinical", "5 folds", 0.83, "yes"),
            ("clinical", "hold-out of 24", 0.86, "yes"),
            (table_of.REFERENCE, "5 folds", 0.976, ""),
            (table_of.REFERENCE_CLINICAL, "5 folds", 0.98, ""),
            ("cnn-enhanced@fast", "5 folds", 0.9, "yes"),
            ("cnn-clinical@fast", "5 folds", 0.9, "yes"),  # sees age and count too
            ("resnet34@fast", "hold-out of 24", 0.85, "yes"),  # other patients than the reference's
        )
    )

    def said(*of: object) -> list[list[str]]:
        page = table_of.markdown(table_of.Table(of, "make"))
        lines = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
        return [[line[0], *line[5:8]] for line in lines]

    assert said(*rows) == [
        ["| `clinical`", "yes", "–", "+0.150"],
        ["| `clinical`", "yes", "–", "–"],
        ["| `encoder-mean`", "–", "–", "–"],
        ["| `encoder-mean-clinical`", "–", "+0.150", "–"],
        ["| `cnn-enhanced@fast`", "yes", "–", "+0.076"],
        ["| `cnn-clinical@fast`", "yes", "+0.070", "+0.080"],
        ["| `resnet34@fast`", "yes", "−0.010", "–"],
    ]
    repainted = replace(rows[4], fingerprint="another")
    assert said(*rows[:4], repainted)[-1] == ["| `cnn-enhanced@fast`", "yes", "–", "–"]


def options_cohort(made: tuple[Path, list[str]]) -> list[Path]:
    return [Path(made[1][made[1].index("--cohort") + 1])]


def test_one_recipe_may_stand_once_for_each_way_of_testing(
    made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_of: ModuleType
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    (tmp_path / "networks.csv").write_bytes(made[0].read_bytes())
    options = [each.replace("cnn-clinical", "clinical") for each in made[1]]
    for more in ([], ["--hold-out"]):
        assert results.main([*options, *more, "--out", str(tmp_path / "networks")]) == 0
    assert table_of.check(tmp_path / "networks.md") == []
    rows = table_of.read(tmp_path / "networks.csv")[0].rows
    assert [row.protocol for row in rows if row.recipe == "clinical"] == ["2 folds", "hold-out of 10"]
    again = Namespace(recipe=None, again=True, cohort=options_cohort(made), out=tmp_path / "networks")
    assert [(recipe, single) for recipe, _, single in results.asked(again)] == [
        ("clinical", False),
        ("clinical", True),
        ("cnn-clinical@smoke", False),
    ]
    other = replace(rows[0], protocol="3 folds", key="")
    table_of.write(tmp_path / "networks", table_of.Table((*rows, other), "make"))
    assert len(results.asked(again)) == 3, "measured once, however many ways it was tested before"
    twice = table_of.Table((*rows, rows[0]), "make")
    table_of.write(tmp_path / "networks", twice)
    assert any("stands twice" in fault for fault in table_of.check(tmp_path / "networks.md"))


def test_what_holds_networks_back_is_said_below_each_cohort(table_of: ModuleType) -> None:
    numbers = {"status": "measured", "train_s": 1.0, "wall_s": 1.0, "peak_mb": 1, "code": "0"}
    numbers |= {"ba_low": 0.6, "ba_high": 0.8}
    rows = tuple(
        table_of.Row(
            name, "dev", tested, ba=0.7, auc=auc, auc_low=0.5, auc_high=1, fitted_ba=fitted, **numbers
        )
        for name, tested, auc, fitted in (
            (table_of.REFERENCE, "5 folds", 0.976, None),
            (table_of.REFERENCE_CLINICAL, "5 folds", 0.98, None),
            ("mil-abmil", "5 folds", 0.97, 0.99),  # no photographs
            ("encoder-tuned@fast", "5 folds", 0.99, 0.99),  # begins with the shipped encoder
            ("cnn-enhanced@fast", "5 folds", 0.9, 0.99),
            ("scan-clusters@fast", "5 folds", 0.91, None),
            ("resnet18@fast", "hold-out of 24", 0.95, 0.75),  # other patients than the reference's
            ("mixture-of-experts@fast", "5 folds", 0.93, 0.99),  # sees age and count too
            ("cnn-enhanced@fast:selection=scored-fold", "5 folds, optimistic", 0.99, 0.99),
        )
    )
    page = table_of.markdown(table_of.Table(rows, "make"))
    assert (
        "up to 0.900 from cells alone (`cnn-enhanced@fast`; `encoder-mean` has 0.976) and up to 0.930 with "
        "clinical values (`mixture-of-experts@fast`; `encoder-mean-clinical` has 0.980)."
    ) in page
    assert "\n- by heart (more patients may help): `cnn-enhanced@fast`, `mixture-of-experts@fast`\n" in page
    assert "\n- still learning (longer training may): `resnet18@fast`\n" in page
    assert "holds back" not in table_of.markdown(table_of.Table(rows[:3], "make"))


def test_what_the_scored_fold_gained_is_said_of_recipes_that_one_code_measured_both_ways(
    table_of: ModuleType,
) -> None:
    numbers = {"status": "measured", "train_s": 1.0, "wall_s": 1.0, "peak_mb": 1}
    numbers |= {"ba_low": 0.5, "ba_high": 0.9, "auc_low": 0.5, "auc_high": 1.0}
    rows = [
        table_of.Row(f"{name}{rule}", "dev", tested, ba=ba, auc=auc, code=code, **numbers)
        for name, fair, lucky, codes in (
            ("cnn-baseline", (0.70, 0.80), (0.76, 0.80), "aa"),
            ("cnn-enhanced", (0.80, 0.90), (0.78, 0.94), "aa"),
            ("resnet18", (0.60, 0.60), (0.90, 0.95), "ab"),  # by another code
        )
        for rule, tested, (ba, auc), code in (
            ("", "5 folds", fair, codes[0]),
            (":selection=scored-fold", "5 folds, optimistic", lucky, codes[1]),
        )
    ]
    page = table_of.markdown(table_of.Table(tuple(rows), "make"))
    assert "BA is +0.020 (from −0.020 to +0.060) and AUC +0.020 (from +0.000 to +0.040) above" in page
    assert "mean of 2 recipes" in page
    assert "chose the epoch, BA" not in table_of.markdown(table_of.Table(tuple(rows[2:]), "make"))


def test_rows_that_cannot_be_are_named(table_of: ModuleType) -> None:
    row = table_of.Row("clinical", "cohort", "2 folds", "measured", auc=1.2, auc_low=0.9, auc_high=0.8)
    faults = " ".join(row.faults())
    for said in ("auc = 1.2", "auc: no interval", "peak_mb is missing", "code is missing"):
        assert said in faults
    assert table_of.Row("frozen-resnet34", "cohort", "", "needs weights").faults() == []
    assert table_of.Row("x", "cohort", "", "needs weights", ba=0.5).faults()


def test_a_row_that_was_killed_goes_on_where_it_was(
    tiny_cohort: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results
    import results_row
    from lymphoscope.pipeline.preparation import prepare

    prepared = prepare(tiny_cohort, cache=cache, jobs=1)
    options = Namespace(folds=2, seed=0, cores=1, encoder=[])
    request = results.request_of("cnn-clinical@smoke", prepared, tiny_cohort, cache, False, options)
    evaluate, trained = results_row.evaluate, list[float]()

    def killed(*given: Any, **settings: Any) -> None:
        found = evaluate(*given, **settings)
        trained.extend(epoch.seconds for history in found.out_of_fold.histories for epoch in history)
        raise KeyboardInterrupt

    monkeypatch.setattr(results_row, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        results_row.measure(request)
    monkeypatch.setattr(results_row, "evaluate", evaluate)
    (clock,) = prepared.store.folder.glob("results-*/seconds.txt")
    before = float(clock.read_text())
    row = results_row.measure(request)
    assert before > sum(trained) > 0
    assert row["train_s"] == round(sum(trained), 2) and row["wall_s"] > before
    assert not list(prepared.store.folder.glob("results-*"))


def test_a_few_cells_that_look_like_the_encoders_are_no_leak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results_row  # type: ignore[import-not-found]

    def prepared(n_alike: int, *more: Finding) -> Any:
        alike = CellsLearnedFrom("", (), tuple(map(str, range(n_alike))))
        return SimpleNamespace(store=range(5_000), seen_by=lambda: (alike, *more))

    model = create_model("encoder-mean")
    assert [results_row.seen_before(prepared(n), model) for n in (5, 6)] == [False, True]
    assert results_row.seen_before(prepared(5, AdaptedOnThesePatients("")), model)
    assert not results_row.seen_before(prepared(500), create_model("morphology"))


def test_a_recipe_that_goes_on_training_the_shipped_encoder_begins_with_the_one_named_for_its_cohort(
    monkeypatch: pytest.MonkeyPatch, tiny_encoder: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    named = str(tiny_encoder)
    assert results.on_encoder("encoder-tuned@fast:tuning=whole", named).endswith(f",weights={named}")
    assert results.on_encoder("encoder-adapted-mean", named) == f"encoder-adapted-mean:encoder={named}"
    for recipe in ("cnn-clinical", "encoder-mean"):
        assert results.on_encoder(recipe, named) == recipe
    assert results.on_encoder("encoder-tuned", results.SHIPPED) == "encoder-tuned"


@pytest.mark.parametrize(
    ("fitted_ba", "ba", "limit"),
    [
        (0.99, 0.8, "by heart"),
        (0.85, 0.7, "by heart"),
        (0.85, 0.8, "still learning"),
        (0.97, 0.9, "as well on new"),
    ],
)
def test_the_limit_of_a_network_follows_from_what_it_makes_of_its_own_patients(
    fitted_ba: float, ba: float, limit: str, table_of: ModuleType
) -> None:
    assert table_of.Row("x", "cohort", "", "measured", ba=ba, fitted_ba=fitted_ba).limit == limit
    assert table_of.Row("x", "cohort", "", "measured", ba=ba).limit == ""


def test_rows_of_another_content_are_counted(smoke_table: Path, table_of: ModuleType) -> None:
    table, _ = table_of.read(smoke_table)
    assert f"Content {table.rows[0].fingerprint}. Tested" in table_of.markdown(table)
    other = replace(table.rows[0], recipe="cnn-baseline@smoke", fingerprint="0" * 12)
    page = table_of.markdown(replace(table, rows=(*table.rows, other)))
    assert f"Contents 000000000000 (1 row), {table.rows[0].fingerprint} (2 rows)" in page


@pytest.mark.parametrize(
    ("flags", "single"),
    [((False, False), [False, True]), ((True, False), [True, True]), ((False, True), [False, False])],
)
def test_who_is_measured_on_a_single_hold_out(
    flags: tuple[bool, bool], single: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import results

    options = Namespace(recipe=["clinical", "resnet34"], budget="fast", encoder=[], again=False)
    options.hold_out, options.all_folds = flags
    options.cohort = [Path("cohort")]
    assert [each for _, _, each in results.asked(options)] == single
