"""Extrapolated start vectors: exact where the motion is, indifferent to signs and rotations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.curvature import LinearOperator, top_eigenpairs
from sharpflow.curvature.warm_start import WarmStart


def on_circle(*angles):
    return [torch.tensor([[math.cos(a)], [math.sin(a)], [0.0]]).double() for a in angles]


def test_the_first_guesses_are_the_last_vectors():
    warm = WarmStart()
    assert not warm
    assert warm.guess() is None
    for vectors in on_circle(0.1, 0.3):
        warm.update(vectors)
        assert torch.equal(warm.guess(), vectors)
    warm.clear()
    assert warm.guess() is None


def test_a_steady_turn_is_continued():
    warm = WarmStart()
    for vectors in on_circle(0.1, 0.11, 0.12):
        warm.update(vectors)
    torch.testing.assert_close(warm.guess(), on_circle(0.13)[0], rtol=0, atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4))
def test_a_swing_of_period_two_is_met_exactly(signs):
    warm = WarmStart()
    for sign, vectors in zip(signs, on_circle(0.1, 0.4, 0.1, 0.4), strict=True):
        warm.update(sign * vectors)
    overlap = float((warm.guess().T @ on_circle(0.1)[0]).abs())
    assert overlap == pytest.approx(1.0)


def test_a_swing_that_dies_out_is_met_exactly():
    warm = WarmStart()
    line = [torch.tensor([[1.0], [(-0.8) ** step]]).double() for step in range(6)]
    for vectors in line[:5]:
        warm.update(vectors)
    torch.testing.assert_close(warm.guess(), line[5], rtol=0, atol=2e-3)


def test_a_drift_a_swing_and_one_that_dies_out_are_told_apart():
    warm = WarmStart()
    line = [
        torch.tensor([[1.0], [1e-4 * step], [1e-3 * (-1) ** step], [1e-3 * (-0.6) ** step]])
        for step in range(8)
    ]
    for vectors in line[:7]:
        warm.update(vectors.double())
    torch.testing.assert_close(warm.guess(), line[7].double(), rtol=0, atol=2e-5)


def test_a_refined_vector_is_one_power_step_nearer():
    generator = torch.Generator().manual_seed(2)
    matrix = torch.diag(torch.cat([torch.linspace(0, 1, 99), torch.tensor([2.0])]).double())
    start = torch.eye(100, dtype=torch.float64)[:, -1:]
    start = start + 1e-4 * torch.randn(100, 1, dtype=torch.float64, generator=generator)
    result = top_eigenpairs(LinearOperator.from_dense(matrix), tol=1e-2, initial=start)
    assert result.matvecs == 1
    power = torch.nn.functional.normalize(matrix @ result.vectors, dim=0)
    torch.testing.assert_close(result.refined, power)
    off = [float(v[:-1].norm()) for v in (result.vectors, result.refined)]
    assert off[1] < 0.5 * off[0]


def test_a_vector_without_a_useful_power_step_is_left_alone():
    operator = LinearOperator.from_dense(-torch.eye(5, dtype=torch.float64))
    result = top_eigenpairs(operator)
    assert result.values.item() == pytest.approx(-1.0)
    torch.testing.assert_close(result.refined, result.vectors)


def test_a_block_may_turn_within_its_span():
    warm, generator = WarmStart(), torch.Generator().manual_seed(0)
    block = torch.linalg.qr(torch.randn(9, 3, dtype=torch.float64, generator=generator)).Q
    for _ in range(4):
        turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator)).Q
        warm.update(block @ turn)
        guess = warm.guess()
        torch.testing.assert_close(block @ (block.T @ guess), guess)
        torch.testing.assert_close(guess.T @ guess, torch.eye(3).double())


def test_other_sizes_start_anew():
    warm = WarmStart()
    for vectors in on_circle(0.1, 0.2, 0.3):
        warm.update(vectors)
    other = torch.eye(5, 2)
    warm.update(other)
    assert torch.equal(warm.guess(), other)


def test_products_are_saved_on_a_swinging_matrix():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(200, 200, dtype=torch.float64, generator=generator)
    base = torch.diag(torch.cat([torch.linspace(0, 1, 198), torch.tensor([2.0, 3.0])]).double())
    swing = 0.02 * (noise + noise.T)
    spent = {}
    for extrapolate in (False, True):
        warm, spent[extrapolate], last = WarmStart(), 0, None
        for step in range(12):
            matrix = base + (-1) ** step * swing
            start = warm.guess() if extrapolate else last
            result = top_eigenpairs(LinearOperator.from_dense(matrix), initial=start)
            exact = float(torch.linalg.eigvalsh(matrix)[-1])
            assert result.values.item() == pytest.approx(exact, rel=1e-5)
            last = result.vectors
            warm.update(result.refined)
            spent[extrapolate] += result.matvecs
    assert spent[True] < 0.7 * spent[False]
