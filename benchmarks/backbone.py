"""Weights for the recipes that need somebody's: a backbone trained here, under torchvision's names.

ImageNet's checkpoints are not on the machines this is developed on. What a recipe of frozen features can do
is shown with a backbone that learned on another cohort of the same kind, of another seed: its patients are
not those that it is judged on.

    lymphoscope synthesize cohorts/strong-1 --test 0 --patients 300 --cells 40 --effect 3 --seed 1
    python benchmarks/backbone.py cohorts/strong-1 resnet34@fast:evened=false,cells_per_patient=8 \\
        strong-1.safetensors
    python benchmarks/results.py --cohort cohorts/strong --learned strong=0.9 \\
        --recipe frozen-resnet34@fast:shrink=2,weights=strong-1.safetensors

The backbone sees 2 × 2 pixels as one, as the budget `fast` has it, and so must what its features are for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from lymphoscope.files import atomic_path, sha256_file
from lymphoscope.pipeline.preparation import default_cache, prepare
from network_trials import backbone_state, image_model, network_of


def main() -> None:
    """Train on all labelled patients, and write the backbone of the last network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path)
    parser.add_argument("recipe", help="with a published backbone, as resnet34@fast:evened=false")
    parser.add_argument("out", type=Path, help=".safetensors to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="of photographs; default: this user's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = image_model(options.recipe)
    if not backbone_state(network_of(model)):
        raise SystemExit(f"{options.recipe} has no backbone of a published kind")
    prepared = prepare(options.cohort, cache=options.cache or default_cache(), jobs=options.threads)
    bags = prepared.bags_for(model, jobs=options.threads)[prepared.labelled]
    model.fit(
        bags,
        prepared.labels,
        watch=lambda epoch: print(epoch.number, f"{epoch.training.loss:.3f}", flush=True),
    )
    state = backbone_state(model.networks_[-1])
    with atomic_path(options.out) as temporary:
        save_file(state, temporary)
    print(f"{options.out}: {len(state)} tensors, sha256 {sha256_file(options.out)[:12]}")


if __name__ == "__main__":
    main()
