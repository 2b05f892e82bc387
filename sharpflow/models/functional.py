"""Any `torch.nn.Module` as a function of parameters with a run dimension."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from sharpflow.errors import PartError, SharpflowError
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
    require no gradient. Whatever else the module holds is that of a module built under seed 0.

    Args:
        make: gives a new module; it may draw from PyTorch's global generator.
        setting: what it is built for.
        name: of what makes it, for messages.

    Attributes:
        layers: names of the parameters that each submodule holds itself, in their order.
        draws: whether a pass in training mode draws random numbers.

    Raises:
        PartError: what `make` gives cannot be trained; the message says why.
    """

    def __init__(self, make: Callable[[], nn.Module], setting: Setting, name: str = ""):
        self._make = make
        self._called = f"model: {name}" if name else "model"
        self._setting = setting
        self._module = self._made(0)
        self._newest = self._made(0)
        _check_alike(self._module, self._newest)
        self.layers = _layers(self._module)
        self.draws = self._probe()
        self.stateless = not self.draws and not self.buffers()
        self._together = True

    def _made(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), explained(self._called):
            torch.manual_seed(seed)
            module = self._make()
        if not isinstance(module, nn.Module):
            raise PartError(
                f"model: the function that builds the network returned {type(module).__name__}, "
                "and must return a torch.nn.Module."
            )
        _check_tensors(module)
        return module.train()

    def _probe(self) -> bool:
        """Refuse a network that does not give rows of outputs; see whether it draws numbers."""
        setting, module = self._setting, self._module
        state, passes = _buffers(module), []
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            if setting.vocabulary is None:
                kind = next(module.parameters()).dtype
                inputs = torch.rand(_PROBE, *setting.input_shape, dtype=kind)
            else:
                inputs = torch.randint(setting.vocabulary, (_PROBE, *setting.input_shape))
            for _ in range(2):
                torch.manual_seed(0)
                before = torch.get_rng_state()
                with explained(f"{self._called}, given inputs of shape {tuple(inputs.shape)}"):
                    held = {name: t.clone() for name, t in state.items()}
                    passes.append(functional_call(module, held, (inputs,)))
                draws = not torch.equal(before, torch.get_rng_state())
        first, second = passes
        self._check_outputs(first)
        if not torch.allclose(first, second):
            raise PartError(
                "model: two passes with the same weights, buffers and seed gave different "
                "outputs; a network must draw its random numbers from PyTorch's global generator, "
                "and keep what changes from step to step in buffers."
            )
        return draws

    def _check_outputs(self, outputs: object) -> None:
        setting = self._setting
        if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
            kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
            raise PartError(f"model: the network returned {kind}; it must return one float tensor.")
        length = setting.input_shape[0] if setting.vocabulary is not None else 1
        allowed = {(_PROBE, setting.outputs), (_PROBE * length, setting.outputs)}
        if outputs.ndim == 0 or _rows(outputs).shape not in allowed:
            raise PartError(
                f"model: for {_PROBE} inputs of shape {setting.input_shape} the network returned "
                f"{tuple(outputs.shape)}; the data's targets ask for {setting.outputs} "
                f"number{'s' if setting.outputs > 1 else ''} a "
                f"{'sample' if setting.vocabulary is None else 'sample or position'}."
            )
        if not bool(torch.isfinite(outputs).all()):
            raise PartError("model: the network's outputs are NaN or infinite at its start.")

    def initialise(self, dataset: Mapping[str, Tensor], generator: torch.Generator) -> Parameters:
        """One run's parameters, as a new module under the run's seed has them."""
        self._newest = self._made(generator.initial_seed())
        return {name: p.detach().clone() for name, p in _trained(self._newest).items()}

    def buffers(self) -> Parameters:
        """Buffers of the run that was initialised last, and its parameters that are fixed."""
        return _buffers(self._newest)

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs (R, m, k), in the mode of `network`, with the buffers of a new module."""
        outputs, shared = self.network(STATELESS, 0), self._shared(inputs)
        each = (
            outputs(_of_run(parameters, run), inputs if shared else inputs[run])
            for run in range(_runs(parameters))
        )
        return torch.stack(list(each))

    def loss_and_gradient(
        self,
        parameters: Parameters,
        inputs: InputProduct,
        targets: Tensor,
        loss: Loss,
        moment: Pass = STATELESS,
    ) -> Gradient:
        """Loss of each run in training mode, its gradient, and the buffers after the pass.

        Raises:
            SharpflowError: the module raised an error, or gave fewer or more rows than the targets.
        """
        self._module.train()
        runs = _runs(parameters)
        held = moment.buffers or _beside(_stacked([_buffers(self._module)] * runs), parameters)
        seeds = moment.seeds or tuple(range(runs))
        if runs > 1 and self._together:
            try:
                return self._all(parameters, held, inputs.matrix, targets, loss)
            except SharpflowError:
                raise
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                print(f"model: runs are trained one after another, not by vmap: {reason}")
                self._together = False
        with explained(self._called):
            return self._each(parameters, held, inputs.matrix, targets, loss, seeds)

    def _all(
        self, parameters: Parameters, held: Parameters, samples: Tensor, targets: Tensor, loss: Loss
    ) -> Gradient:
        if self.draws:
            raise RuntimeError("the network draws random numbers")
        leaves = _leaves(parameters)
        forward = vmap(self._one, (0, 0, None if self._shared(samples) else 0))
        return _gradient(leaves, *forward(leaves, held, samples), targets, loss)

    def _each(
        self,
        parameters: Parameters,
        held: Parameters,
        samples: Tensor,
        targets: Tensor,
        loss: Loss,
        seeds: tuple[int, ...],
    ) -> Gradient:
        shared, found = self._shared(samples), []
        for run in range(_runs(parameters)):
            leaves, buffers = _leaves(_of_run(parameters, run)), _of_run(held, run)
            x, y = (samples, targets) if shared else (samples[run], targets[run])
            with torch.random.fork_rng(**_kept(samples), enabled=self.draws):
                if self.draws:
                    _seed(seeds[run], samples.device)
                outputs, after = self._one(leaves, buffers, x)
            found.append(_gradient(leaves, outputs, after, y, loss))
        return Gradient(
            torch.stack([one.losses for one in found]),
            _stacked([one.gradients for one in found]),
            _stacked([one.buffers for one in found]),
        )

    def network(self, moment: Pass, run: int) -> Callable[[Parameters, Tensor], Tensor]:
        """Outputs (m, k) of one run: in training mode, or evaluation mode if it draws numbers."""
        own = _of_run(moment.buffers, run) or _buffers(self._module)

        def outputs(parameters: Parameters, inputs: Tensor) -> Tensor:
            self._module.train(not self.draws)
            held = _beside(own, parameters)
            with self._twice_differentiable(), explained(self._called):
                return self._one(parameters, held, inputs)[0]

        return outputs

    def _one(
        self, parameters: Parameters, buffers: Parameters, inputs: Tensor
    ) -> tuple[Tensor, Parameters]:
        """Outputs (m, k) of one run, and its buffers after the pass; those given stay."""
        given = parameters | {name: t.clone() for name, t in buffers.items()}
        outputs = functional_call(self._module, given, (inputs,))
        return _rows(outputs), {name: given[name].detach() for name in buffers}

    def _shared(self, inputs: Tensor) -> bool:
        return inputs.ndim == len(self._setting.input_shape) + 1

    @contextmanager
    def _twice_differentiable(self) -> Iterator[None]:
        """Attention and recurrent layers by kernels whose backward pass has a derivative."""
        recurrent = any(isinstance(module, nn.RNNBase) for module in self._module.modules())
        plain = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
        with sdpa_kernel(SDPBackend.MATH), plain:
            yield


def _check_tensors(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise PartError(
                f"model: {name!r} has no shape before the first pass; give the layer its size "
                "(nn.Linear, say, and not nn.LazyLinear)."
            )
        if "/" in name or "|" in name:
            raise PartError(f"model: the name {name!r} must be free of '/' and '|'.")
    for name, parameter in module.named_parameters():
        if not parameter.is_floating_point():
            raise PartError(
                f"model: the parameter {name!r} is {parameter.dtype}; parameters must be "
                "floating-point numbers."
            )


def _check_alike(first: nn.Module, second: nn.Module) -> None:
    """Refuse initial values that do not follow from PyTorch's seed."""
    others = {**dict(second.named_parameters()), **dict(second.named_buffers())}
    for name, tensor in (*first.named_parameters(), *first.named_buffers()):
        if name not in others or not _same(tensor, others[name]):
            raise PartError(
                f"model: two networks built under one seed differ in {name!r}; initial values must "
                "be drawn from PyTorch's global generator."
            )


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, equal_nan=True)


def _layers(module: nn.Module) -> list[list[str]]:
    known = _trained(module)
    own = (
        [f"{prefix}.{name}".lstrip(".") for name, _ in part.named_parameters(recurse=False)]
        for prefix, part in module.named_modules()
    )
    layers = [[name for name in names if name in known] for names in own]
    if not known:
        raise PartError("model: the network has no parameter that requires a gradient.")
    return [names for names in layers if names]


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _buffers(module: nn.Module) -> Parameters:
    """Buffers, and the parameters that require no gradient."""
    fixed = {n: p for n, p in module.named_parameters() if not p.requires_grad}
    named = {**dict(module.named_buffers()), **fixed}
    return {name: t.detach().clone() for name, t in named.items()}


def _rows(outputs: Tensor) -> Tensor:
    """Outputs (m, k), from (n,), (n, k) or, for sequences, (n, T, k)."""
    return outputs.unsqueeze(-1) if outputs.ndim == 1 else outputs.flatten(0, -2)


def _gradient(
    leaves: Parameters, outputs: Tensor, buffers: Parameters, targets: Tensor, loss: Loss
) -> Gradient:
    """The loss of outputs (..., m, k), its gradient in `leaves`, and `buffers` as they are."""
    if outputs.shape[-2] != targets.shape[-2]:
        raise PartError(
            f"model: the network returned {outputs.shape[-2]} rows of outputs for "
            f"{targets.shape[-2]} rows of targets; it must return one a sample or, where the "
            "targets are sequences, one a position."
        )
    losses = loss(outputs, targets)
    gradients = torch.autograd.grad(
        losses.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return Gradient(losses.detach(), dict(zip(leaves, gradients, strict=True)), buffers)


def _leaves(parameters: Parameters) -> Parameters:
    return {name: t.detach().requires_grad_() for name, t in parameters.items()}


def _runs(parameters: Parameters) -> int:
    return len(next(iter(parameters.values())))


def _of_run(tensors: Parameters, run: int) -> Parameters:
    return {name: t[run] for name, t in tensors.items()}


def _stacked(runs: list[Parameters]) -> Parameters:
    return {name: torch.stack([run[name] for run in runs]) for name in runs[0]}


def _beside(tensors: Parameters, parameters: Parameters) -> Parameters:
    """The tensors on the device of the parameters."""
    device = next(iter(parameters.values())).device
    return {name: t.to(device) for name, t in tensors.items()}


def _seed(seed: int, device: torch.device) -> None:
    """Seed what a pass on a device draws from, on a CPU without noting the stack for others."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _kept(tensor: Tensor) -> dict[str, Any]:
    """What `fork_rng` is told of the tensor's device: its generator is drawn from too."""
    if tensor.device.type == "cpu":
        return {"devices": []}
    return {"devices": [tensor.device.index or 0], "device_type": tensor.device.type}
