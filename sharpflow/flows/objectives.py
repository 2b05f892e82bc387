"""Objectives of a model of one's own, and of a run of a problem."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.curvature.closed_form import ClosedForm
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.graphs import graph_mode, nodes_of
from sharpflow.curvature.linear_operator import LinearOperator
from sharpflow.curvature.model_loss import LossOfModel, ModelLoss
from sharpflow.curvature.streamed_loss import StreamedLoss, Weight, check_form
from sharpflow.errors import FlowError
from sharpflow.flows.dense import DenseObjective, TargetLoss
from sharpflow.flows.objective import AutogradObjective, Objective, Parameters
from sharpflow.flows.rules import GradientDescent, RMSprop, Rule
from sharpflow.flows.third_derivatives import SPREAD, RightThirdDerivatives
from sharpflow.losses.mse import SquaredError
from sharpflow.optimisers.base import State
from sharpflow.training import Problem

_KINKS = {
    "ReluBackward": "ReLU",
    "LeakyReluBackward": "leaky ReLU",
    "PreluKernelBackward": "PReLU",
    "RreluWithNoiseBackward": "RReLU",
    "HardtanhBackward": "hardtanh (ReLU6)",
    "HardsigmoidBackward": "hard sigmoid",
    "HardswishBackward": "hard swish",
    "HardshrinkBackward": "hard shrinkage",
    "SoftshrinkBackward": "soft shrinkage",
    "EluBackward": "ELU with a kink (alpha other than 1, or SELU)",
    "CeluBackward": "CELU with a kink (alpha other than 1)",
    "ThresholdBackward": "a threshold",
    "MaxPool": "max pooling",
    "AdaptiveMaxPool": "max pooling",
    "SmoothL1LossBackward": "the smooth L1 loss",
    "HuberLossBackward": "the Huber loss",
    "L1LossBackward": "the L1 loss",
}
"""What nodes of a graph, by how their names begin, have no third derivative in a useful sense.

Those that may do nothing (a clamp in a division, a maximum that is taken away again) are left to
`gradient_order`, as are kinks that no name tells.
"""


def model_objective(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    inputs: Any,
    targets: Tensor | None = None,
    *,
    micro_batch: int | None = None,
    weight: Weight | None = None,
    only: str | Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
) -> Objective:
    """The loss of any module as a function of its trainable parameters.

    A plain stack of `Linear` layers and activations under the mean squared error takes the closed
    form, all else autograd. The flat vectors of an objective are in an order of its own, the closed
    form's weights transposed, in which `named` reads them: begin at other parameters by a model
    that has them, not by a vector made elsewhere. The model is not changed.

    Args:
        model: any module.
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss; without targets
            `loss_fn(model, batch)` that of a batch.
        inputs: (n, …), or a tuple of such; without targets an iterable of batches: as for
            `sharpflow.curvature.SharpnessTracker`.
        targets: (n, …), or None.
        micro_batch: most samples whose graph is held at once.
        weight: with batches, what the mean over them weighs one with.
        only: shell-style patterns of the parameters that vary.
        dtype: float32 or float64: the flow is that of a copy of the model and its data in this
            precision.

    Returns:
        The objective, which starts at the model's present parameters.

    Raises:
        ValueError, TypeError: as for `SharpnessTracker`.
    """
    check_form(targets, micro_batch, weight=weight)
    if targets is not None and not micro_batch and only is None and dtype is None:
        closed = ClosedForm.recognise(model, loss_fn, inputs, targets, compress=False)
        if closed is not None:
            return _dense_of_model(model, closed)
    if targets is None:
        loss: LossOfModel = StreamedLoss(model, loss_fn, inputs, weight, only, dtype=dtype)
    else:
        loss = ModelLoss(model, loss_fn, inputs, targets, micro_batch, only, dtype)
    return ModelObjective(loss)


def _dense_of_model(model: nn.Module, closed: ClosedForm) -> DenseObjective:
    layers, targets = closed.layers, closed.targets
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    biased = layers[0].bias is not None
    order = [
        names[id(each)]
        for layer in layers
        for each in ((layer.weight, layer.bias) if biased else (layer.weight,))
    ]
    return DenseObjective(
        [layer.weight.detach().T for layer in layers],
        [layer.bias.detach() for layer in layers] if biased else None,
        closed.activations,
        closed.inputs,
        TargetLoss(SquaredError(), targets, 1 / targets.numel()),
        lambda found: {n: t.T if t.ndim == 2 else t for n, t in zip(order, found, strict=True)},
    )


class ModelObjective(AutogradObjective):
    """The loss of a model over its data, part by part.

    Args:
        loss: of the model; the objective starts at the model's present parameters.
    """

    def __init__(self, loss: LossOfModel) -> None:
        self._of_model, self._inside = loss, loss.held()
        super().__init__(lambda _: torch.zeros(()), loss.present())
        part, _ = next(iter(loss.parts()))
        _examined(self, lambda p: loss.value(p, part), loss.present())

    def pieces(self) -> Iterator[tuple[Callable[[Parameters], Tensor], float]]:
        """Losses of the parts of the data, inside `inside`, with their weights."""
        for part, weight in self._of_model.parts():
            yield lambda _, part=part: self._of_model.loss_of(part), weight

    def inside(self, leaves: Parameters, compute: Callable[[], Any]) -> Any:
        """What `compute()` gives while the model has the parameters `leaves`."""
        return self._inside(dict(leaves), compute)

    def hessian(self, parameters: Parameters) -> LinearOperator:
        """∇²L at parameters; the graphs of a loss whose data are held are kept."""
        loss = self._of_model
        if isinstance(loss, ModelLoss) and loss.micro_batch is None:
            kept = [
                (loss.part_hessian(part, parameters, self._inside), weight)
                for part, weight in loss.parts()
            ]
            return kept[0][0] if len(kept) == 1 else loss.summed(parameters, lambda: kept)
        return loss.summed(
            parameters,
            lambda: (
                (loss.part_hessian(part, parameters, self._inside), w) for part, w in loss.parts()
            ),
        )

    def outputs(self, leaves: Parameters) -> Tensor:
        """The model's outputs over all its data, as a function of parameters."""
        loss = self._of_model
        if not isinstance(loss, ModelLoss):
            raise ValueError("outputs are known for inputs with targets; batches have none.")
        return self._inside(dict(leaves), lambda: loss.outputs_of(slice(None)))


def _examined(
    objective: AutogradObjective, loss: Callable[[Parameters], Tensor], parameters: Parameters
) -> None:
    """Note in an objective what the graph of its loss says of third derivatives."""
    leaves = {name: t.detach().clone().requires_grad_() for name, t in parameters.items()}
    with graph_mode(), RightThirdDerivatives():
        value = loss(leaves)
    names = [node.name() for node in nodes_of([value])]
    for name in names:
        for start, words in _KINKS.items():
            if name.startswith(start):
                objective.kinks = words
    objective.spread = any(name.startswith(SPREAD) for name in names)


def problem_objective(problem: Problem, run: int = 0, state: State | None = None) -> Objective:
    """The full-batch loss of one run of a problem as a function of its trained parameters.

    Args:
        problem: the shard.
        run: index of the run.
        state: where the objective starts, and what frozen parameters are; the initial state by
            default.

    Returns:
        The objective; `named` gives the trained parameters, which take the places of those of
        `problem.parameters(state)`.

    Raises:
        FlowError: the problem has no one loss: it is trained on batches, with weight decay, clipped
            gradients, a schedule, or a network that draws random numbers.
    """
    check_problem(problem)
    begun = problem.initial_state() if state is None else state
    own = {name: t[run].detach() for name, t in problem.parameters(begun).items()}
    inputs, targets = problem.batches.of_run(run)
    targets = problem.rows(targets)
    if "dense stack" in problem.model.capabilities and not problem.frozen:
        return _dense_of_problem(problem, own, inputs, targets)
    network = problem.model.network(problem.moment(begun, 0), run)
    fixed = {name: t for name, t in own.items() if name in problem.frozen}
    trained = {name: t for name, t in own.items() if name not in problem.frozen}

    def outputs(parameters: Parameters) -> Tensor:
        return network(parameters | fixed, inputs)

    def loss(parameters: Parameters) -> Tensor:
        return problem.loss(outputs(parameters), targets)

    objective = AutogradObjective(loss, trained, outputs)
    _examined(objective, loss, trained)
    return objective


def _dense_of_problem(
    problem: Problem, own: Parameters, inputs: Tensor, targets: Tensor
) -> DenseObjective:
    model: Any = problem.model
    weights, biases = model.dense_stack(own)
    places = {id(tensor): name for name, tensor in own.items()}
    tensors = (
        weights if biases is None else [t for p in zip(weights, biases, strict=True) for t in p]
    )
    order = [places[id(tensor)] for tensor in tensors]
    return DenseObjective(
        weights,
        biases,
        model.activation,
        prepare_inputs(inputs),
        TargetLoss(problem.loss, targets, 1 / len(targets)),
        lambda found: dict(zip(order, found, strict=True)),
    )


def problem_rule(problem: Problem, run: int) -> Rule:
    """The update rule of one run of a problem in continuous time.

    Raises:
        FlowError: its optimiser is none whose flow is known.
    """
    check_problem(problem)
    rate = float(_rates(problem, 0)[run])
    if problem.optimiser.plain:
        return GradientDescent(rate)
    average = problem.optimiser.squared_gradients
    if average is None:
        name = type(problem.optimiser).__name__
        raise FlowError(
            f"flow: {name} has no flow here, which takes a rule of the form w − P⁻¹∇L(w) whose "
            "preconditioner P follows squared gradients: gradient descent (sgd with the whole "
            "batch) or rmsprop."
        )
    return RMSprop(rate, average.beta, average.epsilon)


def _rates(problem: Problem, step: int) -> Tensor:
    """Learning rate of each run at a step, (R,)."""
    rate = torch.as_tensor(problem.learning_rate(step), dtype=torch.float64)
    return rate.expand(len(problem.seeds))


def check_problem(problem: Problem) -> None:
    """Raise FlowError unless a problem is deterministic descent with one learning rate."""
    reasons = (
        (problem.training["batch"] is not None, "training.batch is a number", "the whole batch"),
        (problem.samples is None, "the data are drawn anew at each step", "a number of samples"),
        (problem.training["weight_decay"] != 0, "training.weight_decay is not 0", "none"),
        (problem.training["clip_norm"] is not None, "gradients are clipped", "none"),
        (problem.model.draws, "the network draws random numbers", "no dropout"),
        (
            len({tuple(_rates(problem, step).tolist()) for step in range(problem.steps)}) > 1,
            "the schedule changes the learning rate",
            "a constant one",
        ),
    )
    for wrong, what, instead in reasons:
        if wrong:
            raise FlowError(
                f"flow: {what}, and a flow is that of full-batch descent on one loss with one "
                f"learning rate; it needs {instead}."
            )
