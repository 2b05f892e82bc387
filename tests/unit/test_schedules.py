"""Schedules against `torch.optim.lr_scheduler`, and by hand."""

import pytest
import torch
from torch.optim import lr_scheduler

from sharpflow.parts.loading import load
from sharpflow.parts.registry import Registry
from sharpflow.schedules.cosine.options import Options as Cosine

NOMINAL, STEPS = 0.3, 20
CASES = {
    "constant": ({}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
    "step_decay": (
        {"every": 6, "factor": 0.5},
        lambda o: lr_scheduler.StepLR(o, step_size=6, gamma=0.5),
    ),
    "cosine": (
        {"final": 0.1, "warmup": 0},
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.03),
    ),
    "cosine after a warm-up": (
        {"final": 0.1, "warmup": 4},
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, start_factor=1 / 5, total_iters=4),
                lr_scheduler.CosineAnnealingLR(o, STEPS - 4, eta_min=0.03),
            ],
            milestones=[4],
        ),
    ),
    "warmup": (
        {"learning_rate": 0.06, "until": 7, "shape": "linear"},
        lambda o: lr_scheduler.LinearLR(o, start_factor=0.2, total_iters=7),
    ),
}


def rates(name, options):
    rate = load("schedules", name).build(options, NOMINAL, STEPS)
    return [rate(step) for step in range(STEPS + 1)]


def test_every_schedule_has_a_reference_here():
    """But for the one that each run's start decides (test_initial_sharpness.py)."""
    referenced = {case.partition(" ")[0] for case in CASES}
    assert set(Registry().parts("schedules")) == referenced | {"initial_sharpness"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rates_are_those_of_torch(case):
    options, reference = CASES[case]
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=NOMINAL)
    scheduler = reference(optimiser)
    expected = []
    for _ in range(STEPS + 1):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates(case.partition(" ")[0], options) == pytest.approx(expected, rel=1e-10)


def test_a_warm_up_by_a_step_waits_for_its_end():
    options = {"learning_rate": 0.06, "until": 7, "shape": "step"}
    assert rates("warmup", options) == [0.06] * 7 + [NOMINAL] * (STEPS - 6)


def test_a_cosine_without_a_step_to_decay_in_is_refused():
    Cosine(warmup=STEPS - 1).check(STEPS)
    with pytest.raises(ValueError, match="leaves none of the 20 steps"):
        Cosine(warmup=STEPS).check(STEPS)
