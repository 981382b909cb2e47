"""What normalising and augmenting a batch costs, against normalising it alone, on one thread.

    python benchmarks/augmentation_speed.py --json augmentation_speed.json

The settings take turns within each round, so that all meet the same load, and the ratio is taken within each
round. Printed are medians over the rounds. `--device cuda` times a graphics processor.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lymphoscope.files import write_json
from lymphoscope.training.augmentation import IMAGENET, Augmentation, augment, prepare

COLOURS: dict[str, Any] = {"brightness": 0.05, "contrast": 0.1, "stain": 0.05}
GEOMETRY: dict[str, Any] = {"rotation": 180.0, "shift": 0.05, "scale": 0.1}
SETTINGS = {
    "nothing switched on": Augmentation(),
    "flips, quarter turns": Augmentation(flips=True, quarter_turns=True),
    "colours": Augmentation(**COLOURS),
    "free geometry": Augmentation(**GEOMETRY),
    "everything": Augmentation(flips=True, quarter_turns=True, **COLOURS, **GEOMETRY),
}


def milliseconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """Of a call after another of its kind, which leaves the memory that it needs at hand.

    Processor time, which other work on the machine disturbs least; on a graphics processor wall clock.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, generator = torch.device(options.device), torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (options.images, options.side, options.side, 3), dtype=torch.uint8, generator=generator
    ).to(device)
    works: dict[str, Callable[[], Tensor]] = {"prepare": lambda: prepare(images, IMAGENET)}
    for name, augmentation in SETTINGS.items():
        works[name] = partial(augment, images, augmentation, IMAGENET, generator)
    for work in works.values():
        milliseconds(work, device)
    rounds = [
        {name: milliseconds(work, device) for name, work in works.items()} for _ in range(options.rounds)
    ]
    rows = {
        name: {
            "ms": round(float(np.median([each[name] for each in rounds])), 2),
            "least_ms": round(min(each[name] for each in rounds), 2),
            "times_prepare": round(float(np.median([each[name] / each["prepare"] for each in rounds])), 2),
        }
        for name in works
    }
    print(
        f"{options.images} images of {options.side} px, {options.threads} thread(s), {device}, "
        f"load average {os.getloadavg()[0]:.1f}\n\n{'':22}{'ms':>8}{'least':>8}{'× prepare':>11}"
    )
    for name, row in rows.items():
        print(f"{name:22}{row['ms']:8.1f}{row['least_ms']:8.1f}{row['times_prepare']:11.1f}")
    if options.json:
        write_json(options.json, {"images": options.images, "side": options.side, "rows": rows})


if __name__ == "__main__":
    main()
