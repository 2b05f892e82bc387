"""Whether modules and losses of PyTorch do what their class says, and so are what it tells."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as everywhere

_KINDS: tuple[type[nn.Module], ...] = (
    nn.Sequential, nn.Flatten, nn.Linear, nn.Identity,
    nn.ELU, nn.Softplus, nn.Tanh, nn.ReLU, nn.SiLU,
    nn.MSELoss, nn.CrossEntropyLoss, nn.BCEWithLogitsLoss,
)  # fmt: skip
_FORWARDS: dict[type[nn.Module], Any] = {kind: kind.forward for kind in _KINDS}
"""What they computed when this module was imported."""
_FUNCTIONS = (F.mse_loss, F.cross_entropy, F.binary_cross_entropy_with_logits)


def as_its_class_says(module: nn.Module) -> bool:
    """Whether calling a module of PyTorch runs its class's `forward` and nothing else."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        everywhere._global_forward_hooks,
        everywhere._global_forward_pre_hooks,
        everywhere._global_backward_hooks,
        everywhere._global_backward_pre_hooks,
    )
    own = "forward" not in vars(module) and type(module).forward is _FORWARDS.get(type(module))
    return own and not any(hooks)


def form_of(model: nn.Module) -> list[tuple[Any, ...]]:
    """What tells whether modules of a model were replaced, or hooked, since."""
    return [
        (name, id(module), len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    ]


def settings_of(loss: Any) -> list[Any]:
    """What tells whether a loss was changed since: its reduction; of one of `torch.nn` all."""
    if not isinstance(loss, nn.Module):
        return []
    if not type(loss).__module__.startswith("torch.nn."):
        return [getattr(loss, "reduction", None)]
    own = [(k, v) for k, v in vars(loss).items() if isinstance(v, str | int | float)]
    return [*own, *form_of(loss), *(id(held) for held in loss.buffers())]


def kind_of(loss: Any) -> type[nn.Module] | Callable[..., Any] | None:
    """Which of the losses above a loss is: the class of a module, or the function; None for others.

    A module that has hooks, or a `forward` of its own, is another.
    """
    if isinstance(loss, nn.Module):
        return type(loss) if as_its_class_says(loss) else None
    return next((each for each in _FUNCTIONS if each is loss), None)
