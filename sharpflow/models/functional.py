"""Any `torch.nn.Module` as a function of parameters with a run dimension."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sharpflow.errors import PartError
from sharpflow.losses.base import Loss
from sharpflow.models.base import STATELESS, Gradient, Model, Parameters, Pass, Setting
from sharpflow.models.input_product import InputProduct
from sharpflow.parts.loading import explained

_PROBE = 2


class ModuleModel(Model):
    """Runs of one module, each from its own initialisation.

    Runs are taken together by `torch.func.vmap` where it goes, and else one after another, which
    the log says. Steps are taken in training mode. What is measured is the network in training mode
    too, batch normalisation with the statistics of the batch, unless it draws random numbers: then
    it is the network in evaluation mode. Buffers are part of the state; so are parameters that
    require no gradient.

    Args:
        make: gives a new module; it may draw from PyTorch's global generator.
        setting: what it is built for.

    Attributes:
        layers: names of the parameters that each submodule holds itself, in their order.
        draws: whether a pass in training mode draws random numbers.
    """

    def __init__(self, make: Callable[[], nn.Module], setting: Setting):
        self._make = make
        self._setting = setting
        self._module = self._made(0)
        self.layers = [
            names
            for prefix, module in self._module.named_modules()
            if (names := self._own(prefix, module))
        ]
        if not self.layers:
            raise PartError("model: the network has no parameter that requires a gradient.")
        self._together: bool | None = None
        self._check()
        self.stateless = not self.draws and not self.buffers()

    def _made(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), explained("model"):
            torch.manual_seed(seed)
            module = self._make()
        if not isinstance(module, nn.Module):
            raise PartError(
                f"model: the function that builds the network returned {type(module).__name__}, "
                "and must return a torch.nn.Module."
            )
        for name, parameter in module.named_parameters():
            if not parameter.is_floating_point() or "/" in name:
                raise PartError(
                    f"model: the parameter {name!r} is {parameter.dtype}; parameters must be "
                    "floating-point numbers, and their names free of '/'."
                )
        return module.train()

    def _own(self, prefix: str, module: nn.Module) -> list[str]:
        known = {n for n, p in self._module.named_parameters() if p.requires_grad}
        own = (f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False))
        return [name for name in own if name in known]

    def _check(self) -> None:
        """Refuse a network that does not give rows of outputs, and see whether it draws numbers."""
        setting = self._setting
        with torch.random.fork_rng(devices=[]), torch.no_grad(), explained("model"):
            torch.manual_seed(0)
            module = self._made(0)
            if setting.vocabulary is None:
                kind = next(module.parameters()).dtype
                inputs = torch.randn(_PROBE, *setting.input_shape, dtype=kind)
            else:
                inputs = torch.randint(setting.vocabulary, (_PROBE, *setting.input_shape))
            before = torch.get_rng_state()
            outputs = module(inputs)
            self.draws = not torch.equal(before, torch.get_rng_state())
        kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            raise PartError(f"model: the network returned {kind}; it must return one float tensor.")
        rows = self._rows(outputs)
        length = setting.input_shape[0] if setting.vocabulary is not None else 1
        if rows.shape not in {(_PROBE, setting.outputs), (_PROBE * length, setting.outputs)}:
            raise PartError(
                f"model: for {_PROBE} inputs of shape {setting.input_shape} the network returned "
                f"{tuple(outputs.shape)}; the data's targets ask for {setting.outputs} "
                f"number{'s' if setting.outputs > 1 else ''} a "
                f"{'sample' if setting.vocabulary is None else 'sample or position'}."
            )
        if not bool(torch.isfinite(outputs).all()):
            raise PartError("model: the network's outputs are NaN or infinite at its start.")

    @staticmethod
    def _rows(outputs: Tensor) -> Tensor:
        """Outputs (n, k), from (n,), (n, k) or, for sequences, (n, T, k)."""
        if outputs.ndim == 1:
            return outputs.unsqueeze(-1)
        return outputs.flatten(0, -2)

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, as a new module under the run's seed has them."""
        self._module = self._made(generator.initial_seed())
        named = self._module.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    def buffers(self) -> Parameters:
        """Buffers of the run that was initialised last, and its parameters that are fixed."""
        fixed = {n: p for n, p in self._module.named_parameters() if not p.requires_grad}
        return {
            name: t.detach().clone()
            for name, t in (*self._module.named_buffers(), *fixed.items())
        }

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, m, k), in the mode of `network`, with the buffers of a new module."""
        self._module.train(not self.draws)
        runs = len(next(iter(parameters.values())))
        shared = inputs.ndim == len(self._setting.input_shape) + 1
        outputs = []
        for run in range(runs):
            own = {name: t[run] for name, t in parameters.items()}
            outputs.append(self._one(own, self.buffers(), inputs if shared else inputs[run]))
        return torch.stack(outputs)

    def _one(self, parameters: Parameters, buffers: Parameters, inputs: Tensor) -> Tensor:
        return self._rows(functional_call(self._module, {**parameters, **buffers}, (inputs,)))

    def loss_and_gradient(
        self,
        parameters: Parameters,
        inputs: InputProduct,
        targets: Tensor,
        loss: Loss,
        moment: Pass = STATELESS,
    ) -> Gradient:
        """Loss of each run in training mode, its gradient, and the buffers after the pass."""
        self._module.train()
        samples = inputs.matrix
        shared = samples.ndim == len(self._setting.input_shape) + 1
        runs = len(next(iter(parameters.values())))
        if self._together is None:
            self._together = runs > 1 and not self.draws
            if self.draws and runs > 1:
                print("runs are trained one after another: the network draws random numbers")
        if self._together:
            try:
                return self._all(parameters, samples, targets, loss, moment.buffers, shared)
            except RuntimeError as error:
                self._together = False
                reason = " ".join(str(error).split())[:200]
                print(f"runs are trained one after another: vmap does not go here ({reason})")
        return self._each(parameters, samples, targets, loss, moment, shared)

    def _all(
        self,
        parameters: Parameters,
        samples: Tensor,
        targets: Tensor,
        loss: Loss,
        buffers: Parameters,
        shared: bool,
    ) -> Gradient:
        leaves = {name: t.detach().requires_grad_() for name, t in parameters.items()}
        kept = {name: t.clone() for name, t in buffers.items()}

        def one(own: Parameters, held: Parameters, x: Tensor) -> tuple[Tensor, Parameters]:
            return self._one(own, held, x), held

        outputs, after = vmap(one, in_dims=(0, 0, None if shared else 0))(leaves, kept, samples)
        losses = loss(outputs, targets)
        gradients = torch.autograd.grad(
            losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return Gradient(losses.detach(), dict(zip(leaves, gradients, strict=True)), after)

    def _each(
        self,
        parameters: Parameters,
        samples: Tensor,
        targets: Tensor,
        loss: Loss,
        moment: Pass,
        shared: bool,
    ) -> Gradient:
        runs = len(next(iter(parameters.values())))
        losses, gradients, buffers = [], [], []
        for run in range(runs):
            leaves = {n: t[run].detach().requires_grad_() for n, t in parameters.items()}
            held = {name: t[run].clone() for name, t in moment.buffers.items()}
            with torch.random.fork_rng(devices=_devices(samples), enabled=self.draws):
                if self.draws:
                    torch.manual_seed(moment.seeds[run])
                outputs = self._one(leaves, held, samples if shared else samples[run])
            own = targets if targets.ndim == 2 else targets[run]
            value = loss(outputs, own)
            found = torch.autograd.grad(
                value, list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            losses.append(value.detach())
            gradients.append(dict(zip(leaves, found, strict=True)))
            buffers.append(held)
        return Gradient(torch.stack(losses), _stacked(gradients), _stacked(buffers))

    def network(self, moment: Pass, run: int) -> Callable[[Parameters, Tensor], Tensor]:
        """Outputs (m, k) of one run: in training mode, or evaluation mode if it draws numbers."""
        held = {name: t[run] for name, t in moment.buffers.items()}

        def outputs(parameters: Parameters, inputs: Tensor) -> Tensor:
            self._module.train(not self.draws)
            kept = {name: t.clone() for name, t in held.items()}
            return self._one(parameters, kept, inputs)

        return outputs


def _stacked(runs: list[Parameters]) -> Parameters:
    return {name: torch.stack([run[name] for run in runs]) for name in runs[0]}


def _devices(tensor: Tensor) -> list[int]:
    return [tensor.device.index or 0] if tensor.is_cuda else []
