"""Heads on packed bags against torchmil's models on padded batches: seconds per epoch at equal weights.

One epoch is what training asks for: put each batch of 8 bags together, forward, backward. Ours: rows of the
bags one after another, the loss of the head. Theirs: `torchmil.data.collate_fn` (pads, with a mask), then
`compute_loss`, as its documentation shows; its TransMIL takes no mask, so bags come one at a time. Bags are
of the challenge's sizes (163 of 16 to 198 cells, half of them at most 66), their features noise. Weights,
order of the bags, and threads are the same on both sides, and the two take turns.

The logits of all bags are compared before anything is timed. Those of TransMIL differ for a reason: theirs
repeats rows to fill a square, depends on their order and approximates the attention. So a third side is
timed there, our own weights on padded batches with exact attention, whose logits are ours. The loss of CLAM
is compared in kind, not in number: torchmil 1.0.2 sums its row loss over rows instead of classes, and lets
padding take part in it.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mil_heads.py --threads 1 --out benchmarks/results/mil_heads.md
    python benchmarks/mil_heads.py --check benchmarks/results/mil_heads.md
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torchmil.data import collate_fn
from torchmil.models import ABMIL, CLAM_SB, DSMIL, TransMIL

from lymphoscope.files import sha256_json, write_json, write_text
from lymphoscope.models.heads.base import create_head
from lymphoscope.training.packing import Packing
from network_trials import (
    CHALLENGE_PATIENTS,
    begin,
    challenge_bag_sizes,
    median,
    parser_of,
    seconds_of,
    verdict,
)

HEADS = ("abmil", "clam", "dsmil", "transmil")
AIM = 2.0

Step = Callable[[list[int]], Tensor]
"""Indices of the bags of a batch → their logits (n,), after a backward pass if gradients are on."""


def cohort(patients: int, n_features: int) -> tuple[list[Tensor], Tensor]:
    """Features of each bag, (n, d), and labels."""
    generator = torch.Generator().manual_seed(0)
    bags = [torch.randn(n, n_features, generator=generator) for n in challenge_bag_sizes(patients).tolist()]
    return bags, torch.randint(0, 2, (patients,), generator=generator)


def backward(loss: Tensor, model: nn.Module) -> None:
    """Gradients of all parameters, where they are wanted."""
    if torch.is_grad_enabled():
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]


# --- the sides ----------------------------------------------------------------------------------------------


def packed(head: Any, bags: list[Tensor], labels: Tensor) -> Step:
    """Ours."""
    clinical = torch.zeros(len(bags), 3)

    def step(chosen: list[int]) -> Tensor:
        packing = Packing(torch.tensor([len(bags[i]) for i in chosen]))
        features = torch.cat([bags[i] for i in chosen])
        logits, loss = head.loss(features, packing, clinical[chosen], labels[chosen], cross_entropy)
        backward(loss, head)
        return logits.detach()[:, 1]

    return step


def torchmil(model: Any, bags: list[Tensor], labels: Tensor, *, masked: bool) -> Step:
    """Theirs, padded with a mask; one at a time where the model takes none."""

    def of_batch(chosen: list[int]) -> Tensor:
        batch = collate_fn([{"X": bags[i], "Y": labels[i]} for i in chosen])
        mask = {"mask": batch["mask"]} if masked else {}
        logits, losses = model.compute_loss(batch["Y"], batch["X"], **mask)
        backward(sum(losses.values()), model)
        return logits.detach()

    def step(chosen: list[int]) -> Tensor:
        return of_batch(chosen) if masked else torch.cat([of_batch([i]) for i in chosen])

    return step


def padded_transmil(head: Any, bags: list[Tensor], labels: Tensor) -> Step:
    """The weights of ours on padded batches: every row in every layer, attention under a mask."""

    def attend(attention: Any, x: Tensor, mask: Tensor) -> Tensor:
        split = attention.qkv(x).view(*x.shape[:2], 3, attention.heads, -1)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        together = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return attention.out(together.transpose(1, 2).flatten(2))

    def step(chosen: list[int]) -> Tensor:
        batch = collate_fn([{"X": bags[i]} for i in chosen])
        real, place = batch["mask"].bool(), head.surroundings
        mask = torch.cat([torch.ones(len(chosen), 1, dtype=torch.bool), real], dim=1)
        x = torch.cat([head.token.expand(len(chosen), 1, -1), head.embed(batch["X"])], dim=1)
        x = x + attend(head.attention[0], head.norms[0](x), mask)
        rows, n = x[:, 1:], real.sum(1)[:, None, None]
        mean = (rows * real[:, :, None]).sum(1, keepdim=True) / n
        rows = rows + place.own * rows + place.others * mean + place.bias
        x = torch.cat([x[:, :1], rows], dim=1)
        x = x + attend(head.attention[1], head.norms[1](x), mask)
        logit = head.classifier(head.norms[2](x[:, 0]))
        logits = torch.cat([torch.zeros_like(logit), logit], dim=1)
        backward(cross_entropy(logits, labels[chosen]), head)
        return logits.detach()[:, 1]

    return step


# --- equal weights ------------------------------------------------------------------------------------------


def torchmil_of(name: str, head: Any, n_features: int) -> Any:
    """Their model with the weights of ours."""
    if name == "dsmil":
        model: Any = DSMIL((n_features,), att_dim=head.query.out_features)
        copy(head.query, model.q_nn)
        for k, theirs in enumerate((model.inst_classifier, model.bag_classifier)):
            copy(head.classifiers, theirs, rows=slice(k, k + 1))
        return model
    if name == "transmil":
        dim = head.classifier.in_features
        model = TransMIL((n_features,), att_dim=dim, n_heads=8, feat_ext=head.embed)
        copy(head.classifier, model.classifier)
        for ours, layer in zip(head.attention, model.layers, strict=True):
            copy(ours.qkv, layer.att_module.qkv_nn)
        return model
    hidden = head.attention.content.out_features
    build, embed = (CLAM_SB, {"feat_ext": head.embed}) if name == "clam" else (ABMIL, {})
    model = build((n_features,), att_dim=hidden, gated=True, **embed)
    copy(head.attention.content, model.pool.fc1)
    copy(head.attention.gate, model.pool.fc_gated)
    copy(head.attention.weight, model.pool.fc2)
    copy(head.classifier, model.classifier)
    if name == "clam":
        model.k_sample = 8
    return model


def copy(ours: nn.Linear, theirs: Any, rows: slice = slice(None)) -> None:
    """Weights of a layer."""
    theirs = getattr(theirs, "module", theirs)
    theirs.load_state_dict({key: value[rows] for key, value in ours.state_dict().items()})


# --- measuring ----------------------------------------------------------------------------------------------


def epoch(step: Step, order: list[int], batch: int) -> Tensor:
    """Logits of all bags in the order of the batches."""
    return torch.cat([step(order[start : start + batch]) for start in range(0, len(order), batch)])


def sides_of(name: str, width: float, bags: list[Tensor], labels: Tensor) -> dict[str, Step]:
    """The sides to compare for one head; ours first."""
    torch.manual_seed(0)
    n_features = bags[0].shape[1]
    head = create_head(name, n_features, width=width)
    theirs = torchmil_of(name, head, n_features)
    sides = {
        "packed": packed(head, bags, labels),
        "torchmil": torchmil(theirs, bags, labels, masked=name != "transmil"),
    }
    if name == "transmil":
        sides["padded"] = padded_transmil(head, bags, labels)
    return sides


def compare(name: str, options: Any, bags: list[Tensor], labels: Tensor) -> dict[str, float]:
    """Seconds of each side, their ratios to ours, and how far the logits lie apart."""
    sides = sides_of(name, options.width, bags, labels)
    order = np.random.default_rng(0).permutation(len(bags)).tolist()
    with torch.no_grad():
        logits = {side: epoch(step, order, options.batch) for side, step in sides.items()}
    rounds = [
        {
            side: seconds_of(partial(epoch, step, order, options.batch), time.perf_counter)
            for side, step in sides.items()
        }
        for _ in range(options.rounds + 1)  # the first finds its memory and is not counted
    ]
    figures = {f"{side}_seconds": median(each[side] for each in rounds[1:]) for side in sides}
    for side in list(sides)[1:]:
        figures[f"{side}_ratio"] = median(each[side] / each["packed"] for each in rounds[1:])
        figures[f"{side}_logits_apart"] = float((logits[side] - logits["packed"]).abs().max())
    return figures


def show(name: str, figures: dict[str, float]) -> None:
    """One line per side."""
    for side in ("torchmil", "padded"):
        if f"{side}_ratio" in figures:
            ratio, apart = figures[f"{side}_ratio"], figures[f"{side}_logits_apart"]
            print(
                f"{name:10}{side:10}{figures['packed_seconds']:9.3f}{figures[f'{side}_seconds']:9.3f}"
                f"{ratio:8.2f}  {verdict(ratio >= AIM):8}{apart:12.1e}",
                flush=True,
            )


# --- the page -----------------------------------------------------------------------------------------------


NOTES = """\
One epoch is: batches put together, forward, backward. Both sides have the same weights, order of bags and
threads, and take turns; the ratio is the median of the rounds' own. Apart: largest difference of a logit.
torchmil's TransMIL approximates its attention and repeats rows, so its logits differ; it takes no mask, so
bags come one at a time. Padded: our weights and exact attention on padded batches.
"""


def command_text(options: Any) -> str:
    """The command that measures the same again."""
    words = ["OMP_WAIT_POLICY=PASSIVE python benchmarks/mil_heads.py", f"--heads {' '.join(options.heads)}"]
    names = ("threads", "rounds", "patients", "features", "batch", "width")
    return " ".join([*words, *(f"--{name} {getattr(options, name)}" for name in names)])


def markdown(record: Mapping[str, Any]) -> str:
    """The page of what was measured."""
    lines = []
    for name, each in record["figures"].items():
        for side, shown in (("torchmil", "torchmil"), ("padded", "ours, padded")):
            if f"{side}_ratio" in each:
                other, ratio, apart = (each[f"{side}_{of}"] for of in ("seconds", "ratio", "logits_apart"))
                own = each["packed_seconds"]
                lines.append(f"| `{name}` | {shown} | {own:.3f} | {other:.3f} | {ratio:.2f} | {apart:.1e} |")
    return "\n".join(
        [
            "# Heads on packed bags\n",
            f"Epochs over {record['cohort']}; medians of {record['rounds']} rounds.\n",
            NOTES,
            "| head | against | packed s | other s | ratio | apart |",
            "|---|---|--:|--:|--:|--:|",
            *lines,
            f"\nMeasured with {record['versions']}; load average {record['load']} before.\n",
            f"Made by `{record['command']}`; the same figures are in the JSON beside this file.\n",
            f"SHA-256 of the figures: `{sha256_json(record['figures'])}` "
            "(`python benchmarks/mil_heads.py --check FILE` compares).\n",
        ]
    )


def write(target: Path, record: Mapping[str, Any]) -> None:
    """Write the page `target`, and the figures as JSON beside it."""
    write_json(target.with_suffix(".json"), {**record, "sha256": sha256_json(record["figures"])})
    write_text(target, markdown(record))


def check(target: Path) -> list[str]:
    """What is wrong with a page; nothing if it is as the program wrote it."""
    source = target.with_suffix(".json")
    try:
        record = json.loads(source.read_text(encoding="utf-8"))
        expected, whole = markdown(record), record["sha256"] == sha256_json(record["figures"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{source}: {error!r}"]
    found = [] if whole else [f"{source}: the figures do not have the hash that it carries"]
    if not target.exists() or target.read_text(encoding="utf-8") != expected:
        found.append(f"{target}: this is not what the figures say")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write; or check a page. The exit status says whether all is well."""
    parser = parser_of(__doc__)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--patients", type=int, default=CHALLENGE_PATIENTS)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--batch", type=int, default=8, help="bags per step")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="page to write, figures beside it")
    parser.add_argument("--check", type=Path, metavar="FILE.md", help="verify a page instead")
    options = parser.parse_args(arguments)
    if options.check:
        faults = check(options.check)
        print("\n".join(faults) or f"{options.check}: hash and text are right")
        return int(bool(faults))
    load = round(os.getloadavg()[0], 1)
    begin(options.threads)
    bags, labels = cohort(options.patients, options.features)
    said = (
        f"{len(bags)} bags, {sum(map(len, bags))} cells, {options.features} features, width {options.width:g}"
    )
    print(f"\n{said}\n")
    print(f"{'head':10}{'against':10}{'packed':>9}{'theirs':>9}{'ratio':>8}  {'aim 2':8}{'apart':>12}")
    figures = {}
    for name in options.heads:
        figures[name] = compare(name, options, bags, labels)
        show(name, figures[name])
    print(f"\nmedians of {options.rounds} rounds; load average {os.getloadavg()[0]:.1f} after")
    record = {
        "command": command_text(options),
        "cohort": said,
        "rounds": options.rounds,
        "load": load,
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "torchmil")),
        "figures": figures,
    }
    if options.json:
        write_json(options.json, figures)
    if options.out:
        write(options.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
