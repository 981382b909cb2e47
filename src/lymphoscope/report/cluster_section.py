"""The report's section on clusters of cells: figures drawn, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lymphoscope.models.clusters.views import ClassifierScore, ClassShare
from lymphoscope.report import cluster_figures, wording
from lymphoscope.report.cluster_content import Clusters
from lymphoscope.report.figures import inline_svg


def drawn(found: Clusters) -> dict[str, Any]:
    """What the template needs, with the figures drawn."""
    shown = [each for each in found.clusters if each.n_cells]
    shares = [each.share for each in shown]
    others = [each for each in found.scores if not each.chosen]
    best = next((each for each in found.scores if each.chosen), None)
    return {
        "found": found,
        "shown": shown,
        "empty": len(found.clusters) - len(shown),
        "shares": inline_svg(cluster_figures.shares_figure(shares, "cluster-shares"), _shares_alt(shares)),
        "map": inline_svg(
            cluster_figures.map_figure(found.places, found.cluster, "cluster-map"), _map_alt(found)
        ),
        "classifiers": inline_svg(
            cluster_figures.classifiers_figure(found.scores, "cluster-classifiers"),
            _classifiers_alt(found.scores),
        ),
        "level": wording.level_text(each.share.reactive for each in found.clusters),
        "best": best,
        "as_good": sum(
            best is not None and each.balanced_accuracy.high >= best.balanced_accuracy.estimate
            for each in others
        ),
    }


def _shares_alt(shares: Sequence[ClassShare]) -> str:
    each = "; ".join(
        f"cluster {share.cluster + 1}: reactive {wording.percent_text(share.reactive)}, malignant "
        f"{wording.percent_text(share.malignant)}"
        for share in shares
    )
    return f"Mean share of each cluster among a patient's cells. {each}"


def _map_alt(found: Clusters) -> str:
    numbers, counts = np.unique(found.cluster, return_counts=True)
    each = "; ".join(
        f"cluster {number + 1}: {wording.plural(int(count), 'cell')}"
        for number, count in zip(numbers, counts, strict=True)
    )
    return f"Map of cells. {each}"


def _classifiers_alt(scores: Sequence[ClassifierScore]) -> str:
    each = "; ".join(f"{score.name} {wording.interval_text(score.balanced_accuracy)}" for score in scores)
    return f"Balanced accuracy of each classifier in inner folds. {each}"
