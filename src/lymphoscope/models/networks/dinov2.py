"""DINOv2 with registers (Oquab et al. 2023, Darcet et al. 2023), tuned by adapters, as a network of cells."""

from __future__ import annotations

import torch

from lymphoscope.encoders.dinov2 import RANDOM
from lymphoscope.encoders.published import VitShape
from lymphoscope.errors import InputError
from lymphoscope.models.networks.base import CellNetwork, network
from lymphoscope.models.networks.blocks import Unbuilt, scaled
from lymphoscope.models.vit.network import DinoNetwork, TrainedNorms, Tuning

WEIGHTS = (
    "a folder as transformers saves a DINOv2, a .safetensors or .pth of DINOv2 or DinoBloom, the name of a "
    f'downloaded model as "facebook/dinov2-with-registers-small", or "{RANDOM}" for one that knows nothing'
)


@network("dinov2", smallest_image=14, from_weights=True)
def dinov2(
    width: float,
    image_size: int,
    weights: str | None,
    *,
    tuning: Tuning = "adaptformer",
    adapter_width: int | None = None,
    adapter_scale: float | None = None,
    learned_scale: bool = False,
    adapter_dropout: float = 0.0,
    blocks: int | tuple[int, ...] | None = None,
    trained_norms: TrainedNorms = "none",
    patch_mean: bool = False,
    clinical: bool = False,
    checkpointing: bool = False,
    images_at_once: int | None = None,
    download: bool = False,
) -> CellNetwork:
    """A frozen vision transformer, what is tuned in it, and a head.

    Parameters
    ----------
    width : of a random transformer alone; published ones have theirs.
    weights : of the transformer; see `WEIGHTS`.
    tuning : what is trained beside the head: "adaptformer" an adapter parallel to the feed-forward network of
        each block (Chen et al. 2022), "lora" low-rank updates of its queries, keys and values (Hu et al.
        2021), "linear" nothing, "full" everything; the next five say how, of the first two alone.
    adapter_width : of an adapter's bottleneck, or the rank of an update; None is 64 for AdaptFormer, 16 for
        LoRA.
    adapter_scale : factor of what is added; None is 0.1 for AdaptFormer and 1 for LoRA.
    learned_scale : the factor is trained too.
    adapter_dropout : share dropped inside adapters in training.
    blocks : that are adapted: a number takes the last so many, several name each from 0; None is all.
    trained_norms : layer normalisations that are trained too: "none", the "final" one, or "all".
    patch_mean : the head sees the mean of the patches beside the class token.
    clinical : the head sees age, count and sex.
    checkpointing : activations inside blocks are computed again for the gradient instead of kept.
    images_at_once : at most so many go through the transformer together, for less memory; None is all.
    download : a model by name may be fetched over the network.
    """
    if weights is None and torch.empty(0).is_meta:
        return Unbuilt(clinical, tuning == "linear" and trained_norms == "none")
    if weights is None:
        raise InputError(
            "this network is built from a transformer that has learned something",
            found="no weights",
            allowed=WEIGHTS,
            remedy="Download one where there is a network, or pretrain one, and name it: --weights PATH.",
        )
    if weights != RANDOM and width != 1:
        raise InputError("weights from elsewhere have their own width", found=width, allowed="1")
    return DinoNetwork(
        weights,
        image_size=image_size,
        tuning=tuning,
        adapter_width=adapter_width,
        adapter_scale=adapter_scale,
        learned_scale=learned_scale,
        adapter_dropout=adapter_dropout,
        blocks=blocks,
        trained_norms=trained_norms,
        patch_mean=patch_mean,
        takes_clinical=clinical,
        checkpointing=checkpointing,
        images_at_once=images_at_once,
        shape=VitShape(hidden=scaled(128, width)),
        download=download,
    )
