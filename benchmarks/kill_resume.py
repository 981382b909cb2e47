"""Kill a real run at random moments until it is through, and compare with a run that nobody killed.

Every try is a process of its own that gets SIGKILL, so that nothing can be tidied up on the way out.
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

import numpy as np

from lymphoscope.cohort.synthetic import SyntheticPlan, synthesize

COMPARED = (
    "cohort.json",
    "metrics.json",
    "plan.json",
    "predictions.csv",
    "predictions.parquet",
    "report.html",
    "splits.parquet",
    "submission.csv",
    "model/model.json",
    "model/model.safetensors",
    "model/refits.safetensors",
)


def start(cohort: Path, out: Path, cache: Path, jobs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from lymphoscope.cli import main; main()", "run", str(cohort)]
    options = ["-o", str(out), "--recipe", "morphology-clinical", "--repeats", "2", "--refits", "10"]
    return subprocess.Popen(
        [*command, *options, "--min-cells", "4", "--jobs", str(jobs)],
        env={**os.environ, "LYMPHOSCOPE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        synthesize(SyntheticPlan(patients=40, test=8, cells=10), root / "cohort", jobs=2)
        began = time.monotonic()
        assert start(root / "cohort", root / "whole", root / "cache-whole", arguments.jobs).wait() == 0
        whole = time.monotonic() - began
        # Each broken run starts from nothing: the moments fall into ingest, measuring, folds and writing.
        equal = kills = 0
        while kills < arguments.kills:
            out, cache = root / f"run-{kills}", root / f"cache-{kills}"
            process = start(root / "cohort", out, cache, arguments.jobs)
            time.sleep(rng.uniform(0.05, 1.0) * whole)
            os.killpg(process.pid, signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                continue  # it was through already; another moment
            kills += 1
            assert start(root / "cohort", out, cache, arguments.jobs).wait() == 0
            same = [(out / name).read_bytes() == (root / "whole" / name).read_bytes() for name in COMPARED]
            equal += all(same)
            print(f"kill {kills:2}: {'equal' if all(same) else 'DIFFERENT'}", flush=True)
        print(f"{equal} of {kills} resumed runs end with the same bytes as the unbroken one")
        sys.exit(equal != kills)


if __name__ == "__main__":
    main()
