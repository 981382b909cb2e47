"""Clusters of cells learned without labels, and a classical classifier of what a patient's cells are."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, MinLen
from sklearn.base import clone

from lymphoscope.cohort.bags import Bags, FloatArray, IntArray
from lymphoscope.errors import InputError
from lymphoscope.models.base import (
    BagClassifier,
    CellInput,
    Explanation,
    Labels,
    Stain,
    State,
    check_labels,
)
from lymphoscope.models.clusters.cells import Cells, all_features
from lymphoscope.models.clusters.classifiers import Comparison, comparable, make_classifier
from lymphoscope.models.clusters.contrastive import PretextSettings
from lymphoscope.models.clusters.features import cluster_counts, patient_table
from lymphoscope.models.clusters.merging import merge_clusters, merged
from lymphoscope.models.clusters.parts import COLLAPSED, ClusterParts, CollapseWarning
from lymphoscope.models.clusters.patients import PatientClassifier, held_out_probability
from lymphoscope.models.clusters.scan import ClusterHeads, ScanSettings
from lymphoscope.models.clusters.search import CollapseRule, Found, cluster_probabilities, find_clusters
from lymphoscope.models.image_inputs import canonical_order, joined, pixels, shrunk
from lymphoscope.models.image_networks import begin_network, network_state, networks_of
from lymphoscope.models.learned import pack, unpack
from lymphoscope.models.networks.base import CellNetwork, create_network
from lymphoscope.models.transductive import TransductiveClassifier
from lymphoscope.training.machine import device_named, same_bits


class ScanClusters(TransductiveClassifier):
    """SCAN's clusters of cells, and the scikit-learn classifier that did best with them in inner folds.

    Without looking at labels a network learns to tell cells apart, then clusters that a cell shares with its
    nearest neighbours, then from the cells it is sure of (Van Gansbeke et al. 2020). The clusters that it
    confuses most are merged. A patient becomes the proportions of the clusters among the cells, their
    entropy, how many are present, how many of these numbers are unusually high, sex, count and age. Every
    classifier of scikit-learn is compared on them in five stratified folds of the training patients, and the
    best is kept. What it said of held-out patients calibrates it to the prevalence of the training patients.

    Clusters that have collapsed are begun anew by rule (`models.clusters.search.find_clusters`); where that
    does not help, the model says so: a `CollapseWarning`, and `collapsed_`.

    A kept model holds the numbers that the classifier consists of, and of the training patients the least
    and the greatest value, mean and 90th percentile of each column. Classifiers that compare new patients
    with the training patients (`models.clusters.kept.HOLDS_PATIENTS`) cannot do without: where one of these
    is chosen, the kept model holds shares, age, sex, count and label of every training patient, without
    names, and the classifier is fitted again when the state is taken up. `holds_patients_` says so; leave
    these out of `classifiers` where a model is to be passed on.

    Parameters
    ----------
    network : whose backbone sees the cells; see `lymphoscope.models.networks`.
    width : multiplies its numbers of channels; 1 is the published size.
    image_size : side in pixels of the centre of each photograph that is used.
    segmented : what is not the cell is painted over before the network sees it.
    stain : "normalised" brings light and the hue of the stain to those of a reference before the network sees
        the cells, patient by patient, and leaves how much stain there is; "as-is" changes nothing.
    shrink : squares of so many pixels are averaged into one.
    cells_per_patient : that clusters are learned from, evenly spread over the patient's; None takes all. A
        patient's numbers are always of all cells.
    clusters : that are learned.
    merged_clusters : left after merging, at most `clusters`.
    neighbours : of each cell that are to share its cluster.
    heads : clusterings that are learned side by side; the one of lowest loss is kept.
    pretext_epochs : of contrastive learning.
    pretext_batch_size : cells, each in two views.
    pretext_learning_rate : of Adam, falling to 0 by cosine.
    temperature : of the contrastive loss.
    clustering_epochs : of learning to agree with neighbours.
    self_labelling_epochs : of learning from the surest cells.
    batch_size : cells, in this last step.
    learning_rate : of Adam, in this last step.
    entropy_weight : how much an even use of the clusters counts beside the agreement of neighbours.
    surest : share of every cluster's cells that are learned from in this last step, the surest of them.
    least_evenness : entropy of the clusters' use over its largest value, below which they have collapsed.
    restarts : at most, after a collapse.
    classifiers : names of those to compare; None compares all of scikit-learn's that fit.
    transductive : cells of the patients that will be predicted take part in learning the clusters, without
        anything else that is known of them. Says nothing of a patient who comes later.
    device : "auto" takes a graphics processor where there is one.
    random_state : seed of everything.
    """

    cell_input: ClassVar[CellInput] = "images"

    network_: CellNetwork
    head_: ClusterHeads
    parts_: ClusterParts
    inner_oof_: FloatArray
    comparison_: Comparison
    """How the classifiers did on held-out training patients, in the order of `fit`; not part of the state."""

    def __init__(
        self,
        network: str = "resnet18",
        width: Annotated[float, Gt(0)] = 1.0,
        image_size: Annotated[int, Ge(16), Le(224)] = 112,
        segmented: bool = False,
        stain: Stain = "as-is",
        shrink: Annotated[int, Ge(1), Le(4)] = 1,
        cells_per_patient: Annotated[int, Ge(1)] | None = None,
        clusters: Annotated[int, Ge(2)] = 20,
        merged_clusters: Annotated[int, Ge(1)] = 15,
        neighbours: Annotated[int, Ge(1)] = 20,
        heads: Annotated[int, Ge(1)] = 10,
        pretext_epochs: Annotated[int, Ge(1)] = 200,
        pretext_batch_size: Annotated[int, Ge(2)] = 256,
        pretext_learning_rate: Annotated[float, Gt(0)] = 1e-3,
        temperature: Annotated[float, Gt(0)] = 0.1,
        clustering_epochs: Annotated[int, Ge(1)] = 60,
        self_labelling_epochs: Annotated[int, Ge(0)] = 6,
        batch_size: Annotated[int, Ge(2)] = 128,
        learning_rate: Annotated[float, Gt(0)] = 3e-5,
        entropy_weight: Annotated[float, Ge(0)] = 5.0,
        surest: Annotated[float, Gt(0), Le(1)] = 0.5,
        least_evenness: Annotated[float, Ge(0), Le(1)] = 0.5,
        restarts: Annotated[int, Ge(0)] = 2,
        classifiers: Annotated[tuple[str, ...], MinLen(1)] | None = None,
        transductive: bool = False,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        random_state: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.network = network
        self.width = width
        self.image_size = image_size
        self.segmented = segmented
        self.stain = stain
        self.shrink = shrink
        self.cells_per_patient = cells_per_patient
        self.clusters = clusters
        self.merged_clusters = merged_clusters
        self.neighbours = neighbours
        self.heads = heads
        self.pretext_epochs = pretext_epochs
        self.pretext_batch_size = pretext_batch_size
        self.pretext_learning_rate = pretext_learning_rate
        self.temperature = temperature
        self.clustering_epochs = clustering_epochs
        self.self_labelling_epochs = self_labelling_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.entropy_weight = entropy_weight
        self.surest = surest
        self.least_evenness = least_evenness
        self.restarts = restarts
        self.classifiers = classifiers
        self.transductive = transductive
        self.device = device
        self.random_state = random_state

    @property
    def takes_clinical(self) -> bool:
        """Age, count and sex change the result."""
        return True

    @property
    def transductive_(self) -> bool:
        """Whether `fit` was given cells of unlabelled patients, so that scores on these are transductive."""
        self.check_fitted()
        return self.parts_.transductive

    @property
    def chosen_(self) -> dict[str, Any]:
        """Name of the classifier that was kept; and that the clusters have collapsed, where they have."""
        self.check_fitted()
        return {"classifier": self.parts_.patients.chosen, **({COLLAPSED: True} if self.collapsed_ else {})}

    @property
    def holds_patients_(self) -> bool:
        """Whether the state holds the training patients' numbers and labels; see the class."""
        self.check_fitted()
        return self.parts_.patients.classifier.holds_patients

    @property
    def collapsed_(self) -> bool:
        """Whether the clusters had collapsed after the last restart too."""
        self.check_fitted()
        return self.parts_.collapsed

    @property
    def collapse_sentence_(self) -> str | None:
        """What a reader of results must know about a collapse; None where there was none at all."""
        self.check_fitted()
        return self.parts_.collapse_sentence(self.least_evenness)

    def fit(self, bags: Bags, y: Labels, *, unlabelled: Bags | None = None) -> Self:
        """Learn from `bags` with labels `y`, shape (n_patients,), each 0 or 1.

        Parameters
        ----------
        unlabelled : other patients, whose cells, and nothing else, take part in learning the clusters and in
            merging them; refused unless `transductive`, and without them the clusters are those of `bags`.
        """
        labels = check_labels(bags, y)
        self._check(bags, unlabelled)
        order = _order(bags)
        with same_bits(self._device):
            found, groups, cluster = self._clusters(bags, order, unlabelled)
        table = patient_table(self._counts(cluster, bags), bags.clinical)[order]
        names = comparable() if self.classifiers is None else self.classifiers
        patients, compared = PatientClassifier.learn(table, labels[order], names, self.random_state)
        self.network_, self.head_ = found.network, found.head
        self.parts_ = ClusterParts(
            threshold=float(labels.mean()),
            groups=groups,
            evenness=found.evenness,
            kept=found.kept,
            collapsed=found.collapsed,
            transductive=unlabelled is not None,
            patients=patients,
        )
        self.classes_, self.threshold_ = np.array([0, 1]), self.parts_.threshold
        # Held out for the classifiers; the clusters have seen these cells, and will not have those of others.
        self.inner_oof_ = np.empty(len(bags))
        self.inner_oof_[order] = held_out_probability(compared, labels[order])
        self.comparison_ = compared.ordered(order)
        if self.collapsed_:
            warnings.warn(str(self.collapse_sentence_), CollapseWarning, stacklevel=2)
        return self

    def predict_proba(self, bags: Bags) -> FloatArray:
        """Probability of reactive and malignant per patient, shape (n_patients, 2), rows sum to 1."""
        return self._answer(bags, evidence=False)[0]

    def cell_evidence(self, bags: Bags) -> FloatArray:
        """How much the log-odds of its patient fall without each cell, (n_cells,).

        Cells of one patient in one cluster say the same.
        """
        return self._answer(bags, evidence=True)[1]

    def explain(self, bags: Bags) -> Explanation:
        """Both in one pass over the photographs."""
        return Explanation(*self._answer(bags, evidence=True), {})

    def cluster_probabilities(self, bags: Bags) -> FloatArray:
        """Probability of each merged cluster for each cell, (n_cells, n_merged)."""
        self.check_fitted()
        cells = self._cells(bags, np.arange(len(bags.cells)))
        return merged(cluster_probabilities(self.network_, self.head_, cells), self.parts_.groups)

    def clusters_of(self, bags: Bags) -> IntArray:
        """The merged cluster of each cell, (n_cells,), 0 to `merged_clusters` − 1."""
        return np.asarray(self.cluster_probabilities(bags).argmax(axis=1))

    def cell_features(self, bags: Bags, rows: IntArray | None = None) -> FloatArray:
        """What the backbone sees in cells, all or those at `rows`: the space of the clusters.

        (n_cells, n_features)
        """
        self.check_fitted()
        rows = np.arange(len(bags.cells)) if rows is None else rows
        if len(rows) == 0:
            return np.empty((0, self.head_.layer.in_features))
        seen = all_features(self.network_, self._cells(bags, rows))
        return np.asarray(seen.double().cpu().numpy())

    def patient_table(self, bags: Bags) -> FloatArray:
        """A patient's numbers as `models.clusters.features.feature_names` names them; NaN where missing."""
        counts = self._counts(self.clusters_of(bags), bags)
        return self.parts_.patients.features.table(patient_table(counts, bags.clinical))

    def state(self) -> State:
        """Weights of network and head, and everything else as arrays; see the class for what that holds."""
        self.check_fitted()
        head = {f"head.{name}": value.cpu().numpy() for name, value in self.head_.state_dict().items()}
        return {**network_state([self.network_]), **head, **pack(self.parts_, "parts.")}

    def load_state(self, state: State) -> Self:
        """Take up what `state` returned; how the classifiers compared is not known any more."""
        self.parts_ = unpack(ClusterParts, state, "parts.")
        self.network_ = networks_of(state, self._new_network)[0]
        head = {key[5:]: torch.from_numpy(state[key].copy()) for key in state if key.startswith("head.")}
        self.head_ = ClusterHeads(head["layer.weight"].shape[1], self.clusters, 1).eval()
        self.head_.load_state_dict(head)
        self.classes_, self.threshold_ = np.array([0, 1]), self.parts_.threshold
        return self

    def settled(self) -> BagClassifier:
        """An unfitted model that takes the classifier chosen here without comparing others."""
        self.check_fitted()
        return cast("ScanClusters", clone(self)).set_params(classifiers=(self.parts_.patients.chosen,))

    def check_settings(self) -> None:
        """Raise an `InputError` for a network, classifiers or numbers of clusters that cannot be."""
        device_named(self.device)
        with torch.device("meta"):
            network, _ = begin_network(self._new_network, None, self.random_state)
        if network.built_from_weights:
            raise InputError(
                "clusters of cells are learned by a network that begins at random",
                found=f"network {self.network}, which is built from weights",
                allowed="one that needs none, such as resnet18",
            )
        for name in self.classifiers or ():
            make_classifier(name, self.random_state)
        if self.merged_clusters > self.clusters:
            raise InputError(
                "clusters can only be merged into fewer",
                found=f"merged_clusters = {self.merged_clusters}",
                allowed=f"at most clusters = {self.clusters}",
            )

    def _check(self, bags: Bags, unlabelled: Bags | None) -> None:
        """Raise the `InputError` that long learning would only end with."""
        pixels(bags, self.image_size)
        if unlabelled is not None and not self.transductive:
            raise InputError(
                "cells of the patients to be predicted were given to a model that is not transductive",
                remedy="Create it with transductive=True, so that its results are named so.",
            )
        self.check_settings()
        n_cells = len(bags.cell_indices(np.arange(len(bags)), self.cells_per_patient))
        if n_cells < self.clusters:
            raise InputError(
                "there must be as many cells to learn from as clusters at least",
                found=f"{n_cells} cells",
                allowed=f"{self.clusters} or more",
            )

    def _clusters(
        self, bags: Bags, order: IntArray, unlabelled: Bags | None
    ) -> tuple[Found, IntArray, IntArray]:
        """Clusters, how they are merged, and the merged cluster of each cell of `bags`."""
        everybody, seen = bags, order
        if unlabelled is not None:
            everybody = joined(bags, unlabelled)
            seen = np.concatenate([order, len(bags) + _order(unlabelled)])
        network, _ = begin_network(self._new_network, None, self.random_state)
        cells = self._cells(everybody, np.arange(len(everybody.cells)))
        found = find_clusters(
            network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            cells.some(everybody.cell_indices(seen, self.cells_per_patient)),
            self.neighbours,
            self._pretext(),
            self._scan(),
            CollapseRule(self.least_evenness, self.restarts),
            self.random_state,
        )
        probabilities = cluster_probabilities(found.network, found.head, cells)
        groups = merge_clusters(probabilities, self.merged_clusters)
        return found, groups, merged(probabilities[: len(bags.cells)], groups).argmax(axis=1)

    def _pretext(self) -> PretextSettings:
        return PretextSettings(
            epochs=self.pretext_epochs,
            batch_size=self.pretext_batch_size,
            learning_rate=self.pretext_learning_rate,
            temperature=self.temperature,
        )

    def _scan(self) -> ScanSettings:
        return ScanSettings(
            clusters=self.clusters,
            heads=self.heads,
            entropy_weight=self.entropy_weight,
            epochs=self.clustering_epochs,
            self_labelling_epochs=self.self_labelling_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            surest=self.surest,
        )

    def _cells(self, bags: Bags, rows: IntArray) -> Cells:
        return Cells(shrunk(pixels(bags, self.image_size), self.shrink), rows, self._device)

    def _counts(self, cluster: IntArray, bags: Bags) -> IntArray:
        return cluster_counts(cluster, bags.offsets, self.merged_clusters)

    def _answer(self, bags: Bags, *, evidence: bool) -> tuple[FloatArray, FloatArray]:
        """Probabilities of patients, (n_patients, 2), and the evidence of every cell, (n_cells,)."""
        cluster, patients = self.clusters_of(bags), self.parts_.patients
        counts = self._counts(cluster, bags)
        malignant, fall = patients.probability(counts, bags.clinical), np.empty(0)
        if evidence:
            fall = patients.left_out(counts, bags.clinical, bags.patient_of_cell, cluster)
        return np.stack([1.0 - malignant, malignant], axis=1), fall

    def _new_network(self, _weights: str | None = None) -> CellNetwork:
        return create_network(self.network, self.width, self.image_size // self.shrink)

    @property
    def _device(self) -> torch.device:
        return device_named(self.device)


def _order(bags: Bags) -> IntArray:
    """Patients ordered by what they are, their labels aside: these are to have no say in the clusters."""
    return canonical_order(bags, np.zeros(len(bags), dtype=np.int64))
