"""Deep linear networks f(x) = W_L ⋯ W_1 x.

Source: ziyin2024, section 5 (matrix factorisation), with more layers than two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sharpflow.data.population import Population
from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.models.base import Batch, Model, Parameters, Setting
from sharpflow.models.stacks import Stack, divergence_allowed, stack, tensor


@dataclass(frozen=True)
class DeepLinear(Model):
    """f(x) = W_L ⋯ W_1 x, parameters `w1` (R, d, d0), …, `wL` (R, dL, d)."""

    width: int
    depth: int
    initialisation: Mapping[str, Any]
    capabilities: frozenset[str] = frozenset(
        {"deep linear", "written-out steps", "population loss"}
    )

    @cached_property
    def layers(self) -> list[list[str]]:
        """One parameter each."""
        return [[f"w{layer}"] for layer in range(1, self.depth + 1)]

    def weights(self, parameters: Parameters) -> list[Tensor]:
        """W_1, …, W_L."""
        return [parameters[name] for (name,) in self.layers]

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, float64."""
        outputs, inputs = dataset["teacher"].shape
        sizes = [inputs, *[self.width] * (self.depth - 1), outputs]
        wanted = [
            Weight(name, (fan_out, fan_in), fan_in, fan_out)
            for (name,), fan_in, fan_out in zip(self.layers, sizes[:-1], sizes[1:], strict=True)
        ]
        return draw_weights(self.initialisation, wanted, dataset, generator)

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, n, dL) for inputs (n, d0) or (R, n, d0)."""
        for weight in self.weights(parameters):
            inputs = inputs @ weight.mT
        return inputs

    def _stacks(self, parameters: Parameters) -> list[Stack]:
        contiguous = torch.contiguous_format
        return [stack(w.clone(memory_format=contiguous)) for w in self.weights(parameters)]

    def _parameters(self, weights: Iterable[Stack]) -> Parameters:
        return {name: tensor(w) for (name,), w in zip(self.layers, weights, strict=True)}

    def descend(
        self, parameters: Parameters, batches: Iterable[Batch], weight_decay: float
    ) -> Parameters:
        """The parameters after a step a batch on the squared loss, written out."""
        weights = self._stacks(parameters)
        with divergence_allowed():
            for inputs, targets, rate in batches:
                passed = [stack(inputs)]
                for weight in weights:
                    passed.append(passed[-1] @ weight.mT)
                slope = passed.pop()
                slope -= stack(targets)
                slope *= 2.0 * rate / slope.shape[1]
                _backwards(weights, passed, slope, 1.0 - rate * weight_decay)
        return self._parameters(weights)

    def population_loss(self, parameters: Parameters, population: Population) -> Tensor:
        """E‖W_L ⋯ W_1 x − y‖² = Tr[D Σx Dᵀ] + Tr Σε with D = W_L ⋯ W_1 − V, (R,)."""
        product, *rest = self.weights(parameters)
        for weight in rest:
            product = weight @ product
        excess = (product - population.teacher) * population.input_std
        return excess.square().sum((-2, -1)) + population.noise_std.square().sum()

    def descend_population(
        self,
        parameters: Parameters,
        population: Population,
        learning_rates: Iterable[float],
        weight_decay: float,
    ) -> Parameters:
        """The parameters after a step a learning rate on `population_loss`, written out."""
        weights = self._stacks(parameters)
        teacher, spread = population.teacher, torch.diag(population.input_std)
        # the columns of Σx^½ are samples without noise whose mean square is the population's
        inputs, targets = stack(spread), stack((spread @ teacher.mT).contiguous())
        with divergence_allowed():
            for rate in learning_rates:
                passed = [inputs]
                for weight in weights:
                    passed.append(passed[-1] @ weight.mT)
                slope = passed.pop()
                slope -= targets
                slope *= 2.0 * rate
                _backwards(weights, passed, slope, 1.0 - rate * weight_decay)
        return self._parameters(weights)


def _backwards(weights: list[Stack], passed: list[Stack], slope: Stack, kept: float) -> None:
    """Step the weights in place, from η times the slope at the outputs and each layer's inputs."""
    for layer in reversed(range(len(weights))):
        weight = weights[layer]
        back = slope @ weight if layer else slope
        if kept != 1.0:
            weight *= kept
        weight -= slope.mT @ passed[layer]
        slope = back


def build(options: Mapping[str, Any], setting: Setting) -> DeepLinear:
    """The network of `{kind: deep_linear, depth, initialisation}`."""
    return DeepLinear(setting.width, options["depth"], options["initialisation"])
