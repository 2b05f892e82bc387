"""Runs that leave the finite numbers, and their shard-mates."""

import numpy as np
import torch
from trajectories import values

from sharpflow.training import train


def diverging(make_problem, seeds, **training):
    """A learning rate that seed 0 of the linear network does not bear, and seeds 1 to 3 do."""
    return make_problem(
        seeds=seeds,
        learning_rate=0.35,
        model={"activation": "linear"},
        training={"steps": 80} | training,
    )


def diverged_steps(table):
    rows = table[table["quantity"] == "diverged_step"]
    assert (rows["step"] == rows["value"]).all()
    return dict(zip(rows["seed"], rows["step"], strict=True))


def test_divergence_is_recorded_and_ends_the_run(make_problem):
    table = train(diverging(make_problem, [0, 1, 2])).table
    assert list(diverged_steps(table)) == [0]
    at = diverged_steps(table)[0]
    assert 5 < at < 80
    for quantity, index in (("loss", 0), ("norm_squared", 2), ("output_norm_squared", 0)):
        curve = values(table, quantity, 0, index)
        assert np.isfinite(curve[:at]).all()
        assert np.isnan(curve[at:]).all()
        assert np.isfinite(values(table, quantity, 1, index)).all()
    assert values(table, "loss", 0)[at - 1] > 1e6
    assert len(values(table, "loss", 0)) == 81


def test_shard_mates_of_a_divergent_run_do_not_notice(make_problem):
    """Bit for bit what they are beside a run that stays finite."""
    beside, calm = (train(diverging(make_problem, [seed, 1, 2])) for seed in (0, 3))
    assert not diverged_steps(calm.table)
    for seed in (1, 2):
        mine, theirs = (
            t.table[t.table["seed"] == seed].reset_index(drop=True) for t in (beside, calm)
        )
        assert mine.equals(theirs)
    for name, tensor in beside.states[80].items():
        assert torch.equal(tensor[1:], calm.states[80][name][1:])


def test_divergence_between_recorded_steps_is_seen_at_the_next(make_problem):
    exact = diverged_steps(train(diverging(make_problem, [0, 1])).table)[0]
    sparse = diverged_steps(train(diverging(make_problem, [0, 1], record_every=7)).table)[0]
    assert sparse == -(-exact // 7) * 7
