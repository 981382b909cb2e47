"""Kill a real training at random moments, resume it, and compare its weights with those of an unbroken one.

Every try is a process of its own that fits a recipe with a checkpoint and gets SIGKILL at a moment drawn
evenly from all its epochs, within which it falls anywhere; then a second process takes up the checkpoint.
Compared are all weights, the calibration and the curves, bit for bit (`kill_resume.py` does so with whole
runs); and the second process must train the epochs that were missing, no more.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/kill_training.py --kills 20
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from lymphoscope.files import write_json
from network_trials import bags_of, image_model, random_crops
from results_row import code_hash

PATIENTS, CELLS = 24, 12
RECIPES = [
    "cnn-clinical@fast:members=2",
    "mixture-of-experts-paper@fast",
    "cnn-clinical-pooled@fast",
    "cnn-enhanced@fast",
    "vgg16@fast",
]
"""With snapshots, several members, experts that begin trained, averaged weights, and a large network."""


def fit(recipe: str, folder: Path, crops: Path, epochs: int, side: int) -> None:
    """Fit with a checkpoint in `folder`; leave the state there, and a line per epoch on the way."""
    torch.set_num_threads(1)
    bags, y = bags_of(random_crops(crops, PATIENTS * CELLS, side), np.full(PATIENTS, CELLS))
    model = image_model(recipe, epochs=epochs, image_size=side, device="cpu")
    (folder / "epochs").touch()
    (folder / "began").touch()
    with (folder / "epochs").open("a") as told:
        model.fit(
            bags,
            y,
            checkpoint=folder / "training.safetensors",
            watch=lambda _: print(time.time(), file=told, flush=True),
        )
    save_file({name: np.ascontiguousarray(each) for name, each in model.state().items()}, folder / "state")


def start(recipe: str, folder: Path, crops: Path, epochs: int, side: int) -> subprocess.Popen[bytes]:
    """A training in a process of its own, once it has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "began").unlink(missing_ok=True)
    command = [sys.executable, __file__, "--fit", recipe, str(folder), str(crops), str(epochs), str(side)]
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None and not (folder / "began").exists():
        time.sleep(0.005)
    return process


def epoch_ends(folder: Path) -> list[float]:
    """When the epochs of this training ended, those before and after a kill."""
    return [float(line) for line in (folder / "epochs").read_text().splitlines()]


def finished(recipe: str, folder: Path, crops: Path, epochs: int, side: int) -> list[float]:
    """Train to the end; when all epochs ended."""
    process = start(recipe, folder, crops, epochs, side)
    if process.wait():
        raise SystemExit(f"{recipe}: exit code {process.returncode}")
    return epoch_ends(folder)


def killed(process: subprocess.Popen[bytes], folder: Path, moment: float, epoch_s: float) -> bool:
    """Kill a training after `moment` epochs; whether it was still running."""
    while process.poll() is None and len(epoch_ends(folder)) < int(moment):
        time.sleep(0.002)
    time.sleep((moment % 1) * epoch_s)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def same(one: Path, other: Path) -> bool:
    """Whether two states hold the same arrays, bit for bit."""
    a, b = load_file(one / "state"), load_file(other / "state")
    return a.keys() == b.keys() and all(
        (a[name].dtype, a[name].shape, a[name].tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes())
        for name in a
    )


def main() -> None:
    """Parse, kill, compare."""
    if sys.argv[1:2] == ["--fit"]:
        recipe, target, crops, epochs, side = sys.argv[2:]
        fit(recipe, Path(target), Path(crops), int(epochs), int(side))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", action="append", help="repeatable, take turns")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=64, help="of the crops, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    recipes = options.recipe or RECIPES
    rng = np.random.default_rng(options.seed)
    rows: list[dict[str, Any]] = []
    print(f"code {code_hash()}, load average {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        random_crops(root, PATIENTS * CELLS, options.side)
        size = (root, options.epochs, options.side)
        whole = {recipe: finished(recipe, root / recipe, *size) for recipe in recipes}
        tries = 0
        while len(rows) < options.kills:
            recipe = recipes[len(rows) % len(recipes)]
            folder, tries = root / f"try-{tries}", tries + 1
            process = start(recipe, folder, *size)
            all_epochs, ends = len(whole[recipe]), whole[recipe]
            epoch_s = float(np.median(np.diff(ends))) if all_epochs > 1 else 0.0
            if not killed(process, folder, rng.uniform(0, all_epochs), epoch_s):
                continue  # it was through already; another moment
            done = len(epoch_ends(folder))
            again = len(finished(recipe, folder, *size)) - done
            taken_up = all_epochs - done - again in (0, 1)  # one was kept, and not yet told of
            alike = same(folder, root / recipe)
            rows.append(
                {"recipe": recipe, "done": done, "of": all_epochs, "trained_after": again}
                | {"equal": alike, "taken_up": taken_up}
            )
            print(
                f"kill {len(rows):2} {recipe:29} after epoch {done:2} of {all_epochs}, {again:2} after it: "
                f"{'equal' if alike else 'DIFFERENT'}{'' if taken_up else ', NOT TAKEN UP'}",
                flush=True,
            )
    well = sum(row["equal"] and row["taken_up"] for row in rows)
    midway = sum(0 < row["done"] < row["of"] for row in rows)
    print(
        f"{well} of {len(rows)} trainings were taken up where they were killed and end with the same weights "
        f"as the unbroken one; {midway} were killed between the first epoch and the last"
    )
    if options.json:
        write_json(options.json, {"epochs": options.epochs, "rows": rows})
    sys.exit(well != len(rows))


if __name__ == "__main__":
    main()
