"""Small shards of any kind of network, and their evaluation."""

import torch
from specs import measurements, spec

from sharpflow.measurements.evaluate import evaluate
from sharpflow.training import Problem, train


def shard(dataset, model, training=None, **changes):
    """A shard of two seeds and width 5 in float64, of one dataset or a list of one a seed."""
    datasets = dataset if isinstance(dataset, list) else [dataset]
    small = {"seeds": [0, 1], "width": 5, "learning_rate": 0.05}
    return Problem(spec(model, {"steps": 10} | (training or {}), **small | changes), *datasets)


def trained(problem, **chosen):
    """The trajectory of a shard, and the table of the chosen measurements at every step."""
    trajectory = train(problem)
    states = trajectory.states
    options = measurements(**chosen)
    return trajectory, evaluate(problem, sorted(states), lambda step: states[step], options).table


def found(table, quantity, seed, step):
    """The values of a quantity at one step of one run, by index."""
    rows = table[
        (table["quantity"] == quantity) & (table["seed"] == seed) & (table["step"] == step)
    ].sort_values("index")
    return torch.tensor(rows["value"].to_numpy())


def network(problem, inputs=None):
    """Outputs (n, k) as a function of one run's parameters."""
    data = problem.inputs if inputs is None else inputs

    def outputs(parameters):
        return problem.model({name: t[None] for name, t in parameters.items()}, data)[0]

    return outputs


def one_run(state, run):
    """One run's parameters from an ensemble's state."""
    return {name: t[run] for name, t in state.items() if "/" not in name}
