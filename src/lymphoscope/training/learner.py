"""A network while it learns: its weights, what steps them, and their average over the steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lymphoscope.training.schedules import make_optimiser
from lymphoscope.training.settings import TrainingSettings

Weights = dict[str, Tensor]

_FACTOR = "factor"
_WEIGHTS, _AVERAGE, _OPTIMISER, _STEPS = "weights.", "average.", "optimiser.", "steps"


class Learner:
    """A network, its optimiser and, where the settings ask for it, the running average of its weights."""

    def __init__(self, network: nn.Module, settings: TrainingSettings) -> None:
        self.network = network
        self.parameters = [each for each in network.parameters() if each.requires_grad]
        self.optimiser = make_optimiser(
            _groups(network, self.parameters),
            kind=settings.optimiser,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self._memory, self._clip_norm, self._steps = settings.average, settings.clip_norm, 0
        self._average = copy.deepcopy(network).requires_grad_(False) if settings.average else None
        self._changing = set(changing(network))

    def begin(self, clinical: Tensor, labels: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Before the first step: what the network makes of the clinical values alone."""
        self.network.before_training(clinical, labels, criterion)  # type: ignore[operator]
        if self._average is not None:
            self._average.load_state_dict(self.network.state_dict())

    @property
    def judged(self) -> nn.Module:
        """What predicts: the average, or the network itself."""
        return self.network if self._average is None else self._average

    def weights(self) -> Weights:
        """A copy of those that predict."""
        return {name: value.detach().clone() for name, value in self._state(self.judged).items()}

    def set_rate(self, learning_rate: float) -> None:
        """The learning rate of the steps to come; a network may ask for a share of it for some parameters."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate * group.get(_FACTOR, 1.0)

    def step(self, loss: Tensor) -> None:
        """One step down."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._clip_norm)
        self.optimiser.step()
        if self._average is not None:
            self._follow(self._average)

    @torch.no_grad()
    def _follow(self, average: nn.Module) -> None:
        """Take the average on; the first steps are forgotten sooner, since they know least."""
        self._steps += 1
        memory = min(self._memory, self._steps / (self._steps + 9))
        own = self._state(self.network)
        for name, value in self._state(average).items():
            if value.is_floating_point():
                value.lerp_(own[name], 1 - memory)
            else:
                value.copy_(own[name])

    def tensors(self) -> Weights:
        """Everything that training on needs, by name."""
        tensors = self._own()
        if self._average is not None:
            tensors[_STEPS] = torch.tensor(self._steps)
        for i, parameter in enumerate(self.parameters):
            for name, value in self.optimiser.state[parameter].items():
                tensors[f"{_OPTIMISER}{i}.{name}"] = torch.as_tensor(value)
        return tensors

    @torch.no_grad()
    def take_up(self, tensors: Mapping[str, Tensor]) -> bool:
        """Go on from what `tensors` gave; False, and nothing changed, where they are of another network."""
        own = self._own()
        if any(name not in tensors for name in own):
            return False
        for name, value in own.items():
            value.copy_(tensors[name])
        self._steps = int(tensors[_STEPS]) if _STEPS in tensors else 0
        for i, parameter in enumerate(self.parameters):
            # Copied into memory laid out like the parameter, so that every later sum is the same to the bit.
            self.optimiser.state[parameter] = {
                name: torch.empty_like(parameter).copy_(value)
                if value.shape == parameter.shape
                else value.to(parameter.device)  # fused optimisers count their steps where the parameters are
                for name, value in under(f"{_OPTIMISER}{i}.", tensors).items()
            }
        return True

    def _own(self) -> Weights:
        """The network's tensors and those of its average, by the names that they are kept under."""
        own = {_WEIGHTS + name: value for name, value in self._state(self.network).items()}
        if self._average is not None:
            own |= {_AVERAGE + name: value for name, value in self._state(self._average).items()}
        return own

    def _state(self, network: nn.Module) -> Weights:
        return {name: value for name, value in network.state_dict().items() if name in self._changing}


def _groups(network: nn.Module, parameters: list[nn.Parameter]) -> Any:
    """The parameters as an optimiser takes them, apart by the share of the learning rate that each has.

    A network says so by `rates`, from names of parameters to shares; of one that says nothing all have 1.
    """
    rates: Mapping[str, float] = getattr(network, "rates", dict)()
    if not rates:
        return parameters
    shares = {id(each): rates.get(name, 1.0) for name, each in network.named_parameters()}
    return [
        {"params": [each for each in parameters if shares[id(each)] == share], _FACTOR: share}
        for share in sorted({shares[id(each)] for each in parameters})
    ]


def changing(network: nn.Module) -> Weights:
    """The tensors of a network's state that training may change: frozen parameters are left out."""
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in network.state_dict().items() if name not in frozen}


def take_weights(network: nn.Module, weights: Weights) -> None:
    """Put the tensors that `changing` names into `network`; what is frozen stays as it is."""
    network.load_state_dict(network.state_dict() | weights)


def under(start: str, tensors: Mapping[str, Tensor]) -> Weights:
    """Those whose names begin so, by the rest of their names."""
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
