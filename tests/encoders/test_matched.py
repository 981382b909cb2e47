"""An encoder matched to the colours of a laboratory: what it says, what it keeps, and who is told of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lymphoscope.cli.app import app
from lymphoscope.cohort.cell_store import CellStore, open_store
from lymphoscope.cohort.read import ReadOptions, read_cohort
from lymphoscope.encoders.colours import ColourMap, Colours
from lymphoscope.encoders.encoder import create_encoder
from lymphoscope.encoders.encoder_findings import AdaptedOnThesePatients, UnlikeColours
from lymphoscope.encoders.kept import COLOUR_MAP, COLOURS, read_embedder
from lymphoscope.encoders.matched import match_encoder
from lymphoscope.errors import InputError
from lymphoscope.files import write_json
from lymphoscope.models.networks.pbc_encoder import pbc_encoder
from lymphoscope.models.registry import create_model
from lymphoscope.pipeline.preparation import prepare

READING = ReadOptions(min_cells=4)


@pytest.fixture(scope="module")
def store(tiny_cohort: Path, cache: Path) -> CellStore:
    return open_store(read_cohort(tiny_cohort, READING), cache, jobs=1)


def with_colours(encoder: Path, out: Path, said: object) -> Path:
    """A copy of an encoder whose card holds other colours."""
    shutil.copytree(encoder, out)
    card = json.loads((out / "card.json").read_text())
    card["preprocessing"][COLOURS] = said
    write_json(out / "card.json", card)
    return out


@pytest.fixture(scope="module")
def foreign(store: CellStore, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that has learned from much darker photographs than the cohort's."""
    own = Colours.of(store.crops(create_encoder(tiny_encoder).image_size, jobs=1))
    darker = Colours(own.mean * 2.5 + 0.4, own.covariance * 4)
    return with_colours(tiny_encoder, tmp_path_factory.mktemp("foreign") / "far", darker.as_dict())


def test_a_matched_encoder_sees_what_the_first_one_sees_in_mapped_photographs(
    store: CellStore, foreign: Path, tmp_path: Path
) -> None:
    found = match_encoder(foreign, store, tmp_path / "mine", jobs=1)
    first, then = create_encoder(foreign), create_encoder(found.folder)
    crops = np.array(store.crops(first.image_size, jobs=1))
    change = np.array(then.card["preprocessing"][COLOUR_MAP])
    density = -np.log(np.maximum(crops, 1) / 255.0) @ change[:, :3].T + change[:, 3]
    mapped = np.clip(np.round(255 * np.exp(-density)), 0, 255).astype(np.uint8)
    embedded, wanted, unmatched = then.embed(crops), first.embed(mapped), first.embed(crops)
    assert np.abs(embedded - wanted).mean() < 0.05 * np.abs(unmatched - wanted).mean()
    assert found.distance > 0.4 and (found.cells, found.patients) == (180, 30)
    assert then.sha256 != first.sha256 and then.card["matched"]["distance"] == found.distance
    assert then.card["architecture"]["tensors_sha256"] == read_embedder(found.folder)[0].sha256()
    assert then.card["architecture"]["tensors_sha256"] != first.card["architecture"]["tensors_sha256"]
    assert then.card["validation"] == first.card["validation"]
    assert (
        "Matched to other colours since" in then.card["limits"]
        and first.card["limits"] in then.card["limits"]
    )


def test_matching_twice_is_matching_anew(store: CellStore, foreign: Path, tmp_path: Path) -> None:
    once = match_encoder(foreign, store, tmp_path / "once", jobs=1)
    twice = match_encoder(once.folder, store, tmp_path / "twice", jobs=1)
    assert create_encoder(once.folder).sha256 == create_encoder(twice.folder).sha256


def test_recipes_that_train_the_encoder_on_keep_its_colours(
    store: CellStore, foreign: Path, tiny_cohort: Path, cache: Path, tmp_path: Path
) -> None:
    mine = match_encoder(foreign, store, tmp_path / "mine", jobs=1).folder
    small = {"epochs": 1, "image_size": 48, "cells_per_patient": 2, "batch_size": 16}
    model = create_model("encoder-adapted-mean", encoder=str(mine), **small)
    prepared = prepare(tiny_cohort, READING, cache=cache, encoder=None, jobs=1)
    bags = prepared.bags_for(model, jobs=1)[prepared.labelled]
    model.fit(bags, prepared.labels)
    assert isinstance(model.embedder_.colours, ColourMap)
    again = create_model("encoder-adapted-mean", encoder=str(mine), **small).load_state(model.state())
    assert np.array_equal(again.predict_proba(bags), model.predict_proba(bags))
    assert isinstance(pbc_encoder(1.0, 48, str(mine)).backbone.colours, ColourMap)


@pytest.mark.parametrize("patients", ["all", "unlabelled"])
def test_the_command_matches_and_whoever_measures_is_told(
    patients: str, tiny_cohort: Path, foreign: Path, cache: Path, tmp_path: Path
) -> None:
    def colours_unlike(encoder: Path) -> list[UnlikeColours]:
        prepared = prepare(tiny_cohort, READING, cache=cache, encoder=encoder, jobs=1)
        return [each for each in prepared.findings if isinstance(each, UnlikeColours)]

    (finding,) = colours_unlike(foreign)
    assert finding.code == "LYM503" and "far" in finding.message
    out = tmp_path / "mine"
    given = ("encoder", "match", tiny_cohort, "-o", out, "--encoder", foreign, "--cache", cache)
    small = ("--patients", patients, "--min-cells", "4", "--jobs", "1")
    done = CliRunner().invoke(app, [*map(str, (*given, *small))])
    assert done.exit_code == 0, (done.output, done.exception)
    assert ("180 cells of 30 patients" if patients == "all" else "36 cells of 6 patients") in done.stdout
    assert ("are transductive" in done.stdout) is (patients == "all")
    assert colours_unlike(out) == []
    prepared = prepare(tiny_cohort, READING, cache=cache, encoder=out, jobs=1)
    seen = [each for each in prepared.findings if isinstance(each, AdaptedOnThesePatients)]
    assert len(seen) == (patients == "all")


def test_the_shipped_encoder_knows_its_colours_and_finds_none_of_its_kind_strange(
    tiny_cohort: Path, cache: Path
) -> None:
    shipped = create_encoder("pbc-small")
    assert Colours.from_dict(shipped.card["preprocessing"][COLOURS]).mean.shape == (3,)
    prepared = prepare(tiny_cohort, READING, cache=cache, encoder="pbc-small", jobs=1)
    assert not [each for each in prepared.findings if isinstance(each, UnlikeColours)]


def test_what_cannot_be_matched_is_refused(
    store: CellStore, tiny_encoder: Path, foreign: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="exists already"):
        match_encoder(foreign, store, foreign, jobs=1)
    with pytest.raises(InputError, match="no cells"):
        match_encoder(foreign, store, tmp_path / "none", cells=np.array([], dtype=np.int64), jobs=1)
    unknown = with_colours(tiny_encoder, tmp_path / "unknown", None)
    with pytest.raises(InputError, match="lacks its colours"):
        match_encoder(unknown, store, tmp_path / "never", jobs=1)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("said", [[[1, 0, 0, 0]], [[float("inf")] * 4] * 3, "grey"])
def test_a_card_with_a_spoilt_map_is_no_encoder(said: object, foreign: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(foreign, spoilt)
    card = json.loads((spoilt / "card.json").read_text())
    card["preprocessing"][COLOUR_MAP] = said
    (spoilt / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="no encoder that can be read"):
        create_encoder(spoilt)
