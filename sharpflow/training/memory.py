"""What a shard takes of a device's memory at the least."""

from sharpflow.optimisers.base import State
from sharpflow.training.problem import Problem
from sharpflow.training.train import state_bytes, stored_steps

_COPIES = 3
"""The state, its gradient and the state after a step."""


def least_bytes(problem: Problem, stored: bool = True) -> int:
    """Bytes of states and data that training, or evaluation, holds at once.

    What the network keeps for its backward pass comes on top of it, so that a shard for which this
    is too much cannot run, and one for which it is not may.

    Args:
        problem: the shard.
        stored: whether all stored states lie on the device, as they do in training.
    """
    state: State = problem.initial_state()
    run = state_bytes(state)
    training = problem.training
    kept = stored_steps(
        problem.steps, training["record_every"], run, int(training["states_megabytes"] * 2**20)
    )
    data = 0
    if problem.samples is not None:
        data = sum(t.numel() * t.element_size() for t in (problem.inputs, problem.targets))
    return run * len(problem.seeds) * (_COPIES + (len(kept) if stored else 0)) + data
