"""How well clusters of cells that were learned without labels agree with the true types of the cells.

Some cells of `pbc_cells/train.parquet` (Acevedo et al. 2020, 8 types) teach, others of it are scored, the
same whatever `--seed` is (settings were chosen by those of `val.parquet`): adjusted Rand index and purity
(share of cells whose type is the most frequent one of their cluster). Purity grows with the number of
clusters, so compare within one number. Beside SCAN's clusters, before and after merging, stand k-means on
the features of its pretext task, on those of the same network without training, and on measured
morphology. "all in one" is the floor.

With `--keep FILE` the backbone is kept after the pretext task, and a further run goes on from there, with the
learning rate falling anew; give it another `--seed`, or it sees the same views again.

    python benchmarks/cell_clusters.py DATA/pbc_cells --cells 3000 --pretext-epochs 50 --json clusters.json
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from lymphoscope.cells.morphology import CELL_COLUMNS, MORPHOLOGY_COLUMNS, measure
from lymphoscope.files import write_json
from lymphoscope.models.clusters.cells import Cells, all_features
from lymphoscope.models.clusters.contrastive import PretextSettings, train_pretext
from lymphoscope.models.clusters.merging import merge_clusters, merged
from lymphoscope.models.clusters.scan import ScanSettings
from lymphoscope.models.clusters.search import CollapseRule, cluster_probabilities, find_clusters
from lymphoscope.models.image_inputs import shrunk
from lymphoscope.models.networks.base import CellNetwork, create_network

CROP = 112
Ints = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]


def read(path: Path, n: int) -> tuple[npt.NDArray[np.uint8], Ints, list[str]]:
    """The central `CROP` pixels of `n` cells in random order, their types as numbers, the types' names."""
    table = pq.read_table(path, columns=["image", "cell_type"])
    kinds = sorted(set(table["cell_type"].to_pylist()))
    rows = np.random.default_rng(0).permutation(len(table))[:n]
    chosen = table.take(rows)
    images = []
    for data in chosen["image"].to_pylist():
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
        images.append(image[top : top + CROP, left : left + CROP])
    types = np.array([kinds.index(kind) for kind in chosen["cell_type"].to_pylist()])
    return np.stack(images), types, kinds


def purity(cluster: Ints, truth: Ints) -> float:
    """Share of cells whose type is the most frequent one of their cluster."""
    return sum(np.bincount(truth[cluster == c]).max() for c in np.unique(cluster)) / len(truth)


def k_means(taught: Table, scored: Table, k: int, seed: int) -> Ints:
    """Clusters of the scored cells by centres of the taught ones."""
    return np.asarray(KMeans(k, n_init=5, random_state=seed).fit(taught).predict(scored), dtype=np.int64)


def morphology(images: npt.NDArray[np.uint8]) -> Table:
    """Numbers of the cell itself, NaN where it was not found; (n_cells, n_columns)."""
    at = [MORPHOLOGY_COLUMNS.index(name) for name in CELL_COLUMNS if name in MORPHOLOGY_COLUMNS]
    return np.stack([measure(image)[at] for image in images]).astype(np.float64)


def standardised(taught: Table, scored: Table) -> tuple[Table, Table]:
    """By the taught cells; a missing number is the mean, and a number far off is held at 5 deviations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, deviation = np.nanmean(taught, axis=0), np.nanstd(taught, axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return tuple(np.nan_to_num(np.clip((each - mean) / deviation, -5, 5)) for each in (taught, scored))


def unit_features(network: CellNetwork, cells: Cells) -> Table:
    seen = all_features(network, cells).double().numpy()
    return np.asarray(seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12))


def pretrained(arguments: argparse.Namespace, cells: Cells) -> CellNetwork:
    """The backbone after the pretext task, gone on with where it was kept."""
    torch.manual_seed(arguments.seed)
    network = create_network(arguments.network, arguments.width, CROP // arguments.shrink)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if arguments.keep and arguments.keep.is_file():
        network.load_state_dict(load_file(arguments.keep))
    if arguments.pretext_epochs:
        settings = PretextSettings(epochs=arguments.pretext_epochs, batch_size=arguments.pretext_batch_size)
        start = time.time()
        losses = train_pretext(network, cells, settings, arguments.seed)
        print(f"pretext: loss {losses[0]:.3f} to {losses[-1]:.3f} in {time.time() - start:.0f} s")
        if arguments.keep:
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, arguments.keep)
    return network


def scan(
    arguments: argparse.Namespace, network: CellNetwork, taught: Cells, scored: Cells
) -> dict[str, Ints]:
    """SCAN's clusters of the scored cells, before and after merging."""
    settings = ScanSettings(
        clusters=arguments.clusters,
        epochs=arguments.epochs,
        self_labelling_epochs=arguments.self_labelling_epochs,
        entropy_weight=arguments.entropy_weight,
        learning_rate=arguments.learning_rate,
        surest=arguments.surest,
    )
    done = replace(PretextSettings(), epochs=0)
    start = time.time()
    found = find_clusters(
        copy.deepcopy(network), taught, arguments.neighbours, done, settings, CollapseRule(), arguments.seed
    )
    said = "collapsed" if found.collapsed else "not collapsed"
    print(f"clusters: {said}, evenness {np.round(found.evenness, 2).tolist()}, {time.time() - start:.0f} s")
    print(f"highest probability before each epoch, in the mean: {np.round(found.certainty, 2).tolist()}")
    groups = merge_clusters(cluster_probabilities(found.network, found.head, taught), arguments.merged)
    p = cluster_probabilities(found.network, found.head, scored)
    return {"SCAN": p.argmax(axis=1), "SCAN, merged": merged(p, groups).argmax(axis=1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shared = os.environ.get("LYMPHOSCOPE_DATA")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(shared) / "pbc_cells" if shared else None
    )
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--scored", type=int, default=1500)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--shrink", type=int, default=2)
    parser.add_argument("--pretext-epochs", type=int, default=50)
    parser.add_argument("--pretext-batch-size", type=int, default=256)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--merged", type=int, default=15)
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--self-labelling-epochs", type=int, default=6)
    parser.add_argument("--entropy-weight", type=float, default=5.0)
    parser.add_argument("--learning-rate", type=float, default=3e-5)
    parser.add_argument("--surest", type=float, default=0.5)
    parser.add_argument("--only-pretext", action="store_true", help="stop when the backbone is kept")
    parser.add_argument("--without-morphology", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.folder is None or not (arguments.folder / "train.parquet").is_file():
        parser.error("give the folder that holds train.parquet, or set LYMPHOSCOPE_DATA")
    images, types, kinds = read(arguments.folder / "train.parquet", arguments.cells + arguments.scored)
    images, new = np.split(images, [arguments.cells])
    truth = types[arguments.cells :]
    taught, scored = (
        Cells(shrunk(torch.from_numpy(each), arguments.shrink), np.arange(len(each)), torch.device("cpu"))
        for each in (images, new)
    )
    network = pretrained(arguments, taught)
    if arguments.only_pretext:
        return
    torch.manual_seed(arguments.seed)
    untrained = create_network(arguments.network, arguments.width, CROP // arguments.shrink)
    spaces = {
        "k-means, pretext features": (unit_features(network, taught), unit_features(network, scored)),
        "k-means, untrained network": (unit_features(untrained, taught), unit_features(untrained, scored)),
    }
    if not arguments.without_morphology:
        spaces["k-means, morphology"] = standardised(morphology(images), morphology(new))
    found = {"all in one": np.zeros(len(truth), dtype=np.int64)}
    for name, space in spaces.items():
        for k in (arguments.clusters, arguments.merged):
            found[f"{name}, {k}"] = k_means(*space, k, arguments.seed)
    found |= scan(arguments, network, taught, scored)
    print(f"{len(images)} cells taught, {len(truth)} scored, {len(kinds)} types")
    print(f"{'clusters':34} {'used':>4} {'ARI':>6} {'purity':>7} {'NMI':>6}")
    rows = []
    for name, cluster in found.items():
        row = {
            "clusters": name,
            "used": len(np.unique(cluster)),
            "adjusted_rand": round(float(adjusted_rand_score(truth, cluster)), 4),
            "purity": round(float(purity(cluster, truth)), 4),
            "mutual_information": round(float(normalized_mutual_info_score(truth, cluster)), 4),
        }
        rows.append(row)
        print(
            f"{name:34} {row['used']:4} {row['adjusted_rand']:6.3f} {row['purity']:7.3f} "
            f"{row['mutual_information']:6.3f}"
        )
    if arguments.json:
        write_json(
            arguments.json, {"settings": {k: str(v) for k, v in vars(arguments).items()}, "rows": rows}
        )


if __name__ == "__main__":
    main()
