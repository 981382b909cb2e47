"""The contact sheet of synthetic cells in the documentation: a row per kind, every cell of another patient.

python benchmarks/synthetic_contact_sheet.py docs/images/synthetic-contact-sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lymphoscope.cohort.synthetic import SyntheticPlan
from lymphoscope.cohort.synthetic.painter import Scene, paint
from lymphoscope.cohort.synthetic.patients import CELLS, draw_patients, generator
from lymphoscope.cohort.synthetic.population import KINDS, draw_cells

CAPTIONS = {
    "ordinary": "ordinary\n(both classes)",
    "cll": "CLL-like\n(malignant)",
    "mantle": "mantle-like\n(malignant)",
    "villous": "villous\n(malignant)",
    "hairy": "hairy\n(malignant)",
    "granular": "large granular\n(reactive)",
    "deep-blue": "deep blue\n(reactive)",
    "plasmacytoid": "plasmacytoid\n(reactive)",
    "smudge": "smudge\n(both classes)",
}
MARGIN = 108


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--side", type=int, default=132, help="px of one cell")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plan = SyntheticPlan(seed=options.seed)
    patients = draw_patients(plan, 400, 0, plan.seed)
    cells = draw_cells(patients.populations, patients.clinical.n_cells, generator(plan.seed, CELLS))
    rng = np.random.default_rng(options.seed)
    side = options.side
    sheet = Image.new("RGB", (MARGIN + options.columns * side, len(KINDS) * side), "white")
    draw = ImageDraw.Draw(sheet)
    for row, kind in enumerate(KINDS):
        draw.multiline_text(
            (6, row * side + side // 2 - 14), CAPTIONS[kind], "black", ImageFont.load_default(13)
        )
        of_kind = np.flatnonzero(cells.kind == row)
        _, first = np.unique(cells.patient[of_kind], return_index=True)
        for column, cell in enumerate(rng.choice(of_kind[first], options.columns, replace=False)):
            scene = Scene.from_look(patients.looks[cells.patient[cell]], border=False)
            photograph = Image.fromarray(paint(cells.traits[cell], scene, rng))
            sheet.paste(
                photograph.resize((side, side), Image.Resampling.LANCZOS),
                (MARGIN + column * side, row * side),
            )
    options.target.parent.mkdir(parents=True, exist_ok=True)
    # 256 colours are enough for a smear of two dyes, and a third of the bytes.
    sheet.quantize(256, dither=Image.Dither.NONE).save(options.target, optimize=True)
    print(f"{options.target}: {options.target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
