from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lymphoscope.models.networks.attention import ChannelAttention, SpatialAttention
from lymphoscope.models.networks.base import CellNetwork, _entries, create_network, list_networks
from lymphoscope.models.networks.mobilenet import InvertedResidual

NAMES = [name for name in list_networks() if not _entries[name].from_weights]


def small(name: str, image_size: int = 40, width: float = 0.2) -> CellNetwork:
    torch.manual_seed(0)
    return create_network(name, width, image_size)


def batch(n: int, image_size: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, image_size, image_size, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), torch.randn(n, 3, generator=generator)


def without_dropout(network: CellNetwork) -> CellNetwork:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def with_known_statistics(network: CellNetwork) -> CellNetwork:
    """Batch normalisation that has seen some images, as after an epoch."""
    with torch.no_grad():
        for seed in range(10):
            network.train()(*batch(8, seed=seed))
    return network.eval()


def test_the_twelve_networks_of_the_reports_are_there() -> None:
    assert set(NAMES) >= {
        "cnn-attention",
        "cnn-baseline",
        "cnn-clinical",
        "cnn-enhanced",
        "frozen-resnet34",
        "mobilenet-clinical",
        "mobilenet-image",
        "resnet18",
        "resnet34",
        "unet-encoder",
        "vgg16",
        "vgg19",
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_size", [32, 33, 48, 112])
def test_each_cell_gets_two_logits(name: str, image_size: int) -> None:
    with torch.device("meta"):
        network = create_network(name, 0.25, image_size)
        features = network.features(torch.empty(5, 3, image_size, image_size), torch.empty(5, 3))
        assert features.shape[0] == 5 and features.ndim == 2
        assert network.head(features, torch.empty(5, 3)).shape == (5, 2)


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_the_head_of_the_features(name: str) -> None:
    network, (images, clinical) = small(name).eval(), batch(3)
    features = network.features(images, clinical)
    assert torch.equal(network(images, clinical), network.head(features, clinical))
    assert torch.isfinite(features).all() and features.dtype == torch.float32


def informed(network: CellNetwork) -> CellNetwork:
    """Told of sixty patients whose second value says what they are."""
    _, clinical = batch(60)
    network.before_training(clinical, (clinical[:, 1] > 0).long(), functional.cross_entropy)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_clinical_values_matter_where_they_are_taken_and_only_there(name: str) -> None:
    network, (images, clinical) = informed(small(name)).eval(), batch(4)
    for column in range(3):
        other = clinical.clone()
        other[:, column] += 1.0
        changed = (network(images, clinical) != network(images, other)).any(dim=1)
        assert changed.all() if network.takes_clinical else not changed.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_judged_alike_in_any_company(name: str) -> None:
    network, (images, clinical) = with_known_statistics(small(name)), batch(9)
    together = network(images, clinical)
    alone = torch.cat([network(images[i : i + 1], clinical[i : i + 1]) for i in range(9)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together[:, 1].std() > 1e-6, "all cells alike: the comparison would say nothing"


@pytest.mark.parametrize("name", NAMES)
def test_heads_treat_rows_one_by_one_also_while_training(name: str) -> None:
    network, (images, clinical) = without_dropout(small(name)).train(), batch(6)
    features = network.features(images, clinical).detach()
    alone = torch.cat([network.head(features[i : i + 1], clinical[i : i + 1]) for i in range(6)])
    assert torch.allclose(network.head(features, clinical), alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_memory_format_does_not_change_the_result(name: str) -> None:
    network, (images, clinical) = with_known_statistics(small(name)), batch(4)
    plain = network(images.contiguous(), clinical)
    assert torch.allclose(network(images, clinical), plain, atol=1e-4)
    assert torch.allclose(network.to(memory_format=torch.channels_last)(images, clinical), plain, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_close(name: str) -> None:
    network, (images, clinical) = with_known_statistics(small(name)), batch(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(images, clinical).float()
    full = network(images, clinical)
    assert torch.allclose(half, full, atol=0.05 * float(full.detach().abs().max()) + 0.02)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_trained_parameter(name: str) -> None:
    network, (images, clinical) = small(name, width=0.25).train(), batch(16)
    functional.cross_entropy(network(images, clinical), torch.arange(16) % 2).backward()
    for key, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.any(), key
        else:
            assert network.frozen_features and key.startswith("backbone."), key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    network = without_dropout(with_known_statistics(informed(small(name)))).double()
    images, clinical = (each.double() for each in batch(3))
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(2)
    ways = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in learned.items()}

    def loss(step: float) -> Tensor:
        there = {name: p + step * ways[name] for name, p in learned.items()}
        logits = torch.func.functional_call(network, there, (images, clinical))
        return functional.cross_entropy(logits, torch.tensor([0, 1, 1]))

    h = 1e-9
    gradients = torch.autograd.grad(loss(0.0), list(learned.values()))
    along = sum(float((each * way).sum()) for each, way in zip(gradients, ways.values(), strict=True))
    assert along == pytest.approx(float((loss(h) - loss(-h)).detach()) / (2 * h), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_eight_images_are_learned_by_heart(name: str) -> None:
    network, (images, _) = without_dropout(small(name, 32)).train(), batch(8, 32)
    no_clinical, y = torch.zeros(8, 3), torch.arange(8) % 2
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    for _ in range(500):
        optimiser.zero_grad()
        loss = functional.cross_entropy(network(images, no_clinical), y)
        if loss < 0.1:
            break
        loss.backward()
        optimiser.step()
    assert loss < 0.1


@pytest.mark.parametrize("name", ["cnn-baseline", "cnn-enhanced", "mobilenet-image", "frozen-resnet34"])
def test_a_single_logit_stands_beside_zero(name: str) -> None:
    logits = small(name).eval()(*batch(4))
    assert not logits[:, 0].any() and logits[:, 1].any()


def test_frozen_features_stay_what_they_are_while_the_head_learns() -> None:
    network, (images, clinical) = small("frozen-resnet34").train(), batch(8)
    before = network.features(images, clinical)
    assert not before.requires_grad
    statistics = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    for seed in range(3):
        network.train()(*batch(8, seed=seed))
    assert network.training and network.image_term.training
    assert all(torch.equal(value, statistics[key]) for key, value in network.backbone.state_dict().items())
    assert torch.equal(network.eval().features(images, clinical), before)
    assert [name for name in NAMES if small(name).frozen_features] == ["frozen-resnet34"]


def test_the_clinical_term_of_frozen_features_is_additive_and_linear() -> None:
    network, (images, clinical) = informed(small("frozen-resnet34")).eval(), batch(5)
    features = network.features(images, clinical)

    def logit(values: Tensor) -> Tensor:
        return network.head(features, values)[:, 1]

    term = logit(clinical) - logit(torch.zeros_like(clinical))
    assert torch.allclose(logit(3 * clinical) - logit(torch.zeros_like(clinical)), 3 * term, atol=1e-4)
    assert torch.allclose(
        term,
        network.head(features.roll(1, 0), clinical)[:, 1]
        - network.head(features.roll(1, 0), torch.zeros_like(clinical))[:, 1],
        atol=1e-4,
    )


def test_the_clinical_term_of_frozen_features_begins_with_what_the_values_say() -> None:
    term, (_, clinical) = informed(small("frozen-resnet34")).clinical_term, batch(60)
    assert not small("frozen-resnet34").clinical_term.weight.any()
    assert term.weight[0].argmax() == 1
    assert ((term(clinical)[:, 0] > 0) == (clinical[:, 1] > 0)).float().mean() > 0.9


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # counted by hand from the sizes in the reports: convolutions, then dense layers
        ("cnn-baseline", (448 + 4640 + 18496) + (64 * 4 * 4 * 64 + 64) + 65),
        ("cnn-clinical", (456 + 2416) + (10003 * 120 + 120) + (120 * 84 + 84) + (84 * 2 + 2)),
        # published, less the 1000-class head, plus 512 + 3 → 120 → 84 → 2
        ("resnet18", 11_689_512 - 513_000 + 72_254),
        ("resnet34", 21_797_672 - 513_000 + 72_254),
        ("vgg16", 138_365_992 - 123_642_856 + 72_254),
        ("vgg19", 143_678_248 - 123_642_856 + 72_254),
        ("frozen-resnet34", 21_797_672 - 513_000 + (512 * 64 + 64) + 65 + 4),
    ],
)
def test_width_one_is_the_published_size(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = create_network(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_clinical_mobilenet_differs_by_three_input_planes() -> None:
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in create_network(name).parameters())
            for name in ("mobilenet-image", "mobilenet-clinical")
        ]
    assert counts[1] - counts[0] == 3 * 32 * 3 * 3


def test_inverted_residuals_add_their_input_where_shapes_agree() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    for outputs, stride, added in ((8, 1, True), (8, 2, False), (12, 1, False)):
        block = InvertedResidual(8, outputs, stride, 4).eval()
        nn.init.zeros_(block.layers[-1].weight)
        assert torch.equal(block(x), x) if added else not block(x).any()


def test_attention_weighs_channels_and_places_between_nothing_and_all() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 8, 6, 6) + 0.1
    by_channel, by_place = ChannelAttention(8)(x) / x, SpatialAttention()(x) / x
    for weights in (by_channel, by_place):
        assert ((weights > 0) & (weights < 1)).all()
    assert torch.allclose(by_channel, by_channel[:, :, :1, :1].expand_as(x), atol=1e-5)
    assert torch.allclose(by_place, by_place[:, :1].expand_as(x), atol=1e-5)
    assert by_channel.std() > 1e-4 and by_place.std() > 1e-4


def test_a_narrow_resnet_has_channels_enough_for_the_library_beneath() -> None:
    """Fewer than 8 corrupt memory on some processors."""
    for name in ("resnet18", "resnet34"):
        network = create_network(name, image_size=64, width=0.01)
        strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        assert len(strided) == 3 and all(each.in_channels >= 8 for each in strided)
