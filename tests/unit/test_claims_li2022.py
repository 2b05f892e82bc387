from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import two_layer_linear
from specs import TYPES
from synthetic_runs import (
    STEPS,
    THRESHOLD,
    Curves,
    edge,
    judge,
    outcome,
    rows,
    sharp,
    table,
    training,
)

from sharpflow.errors import PartError

SAMPLES = 100
HOMES = {
    "": ["edge_of_stability", "plateau_slope", "progressive_sharpening", "running_plateau"],
    "li2022": [
        "cycles",
        "eigenvector_turns_slowly",
        "few_unstable_eigenvalues",
        "freezing_slows",
        "loss_not_residual",
        "output_norm_before_crossing",
        "output_norm_tracks",
        "spikes_coincide",
        "surrogate_factor",
        "two_layer_returns",
    ],
}
NAMES = [name for names in HOMES.values() for name in names]


def hover(level: float) -> np.ndarray:
    return level * THRESHOLD * (1 - 0.7 * np.exp(-STEPS / 60))


def relaxation(seed: int) -> np.ndarray:
    up = np.linspace(365, 400, 90, endpoint=False)
    spike = 400 + 80 * np.sin(np.linspace(0, np.pi, 20, endpoint=False))
    cycle = np.concatenate([up, spike, np.linspace(400, 365, 10, endpoint=False)])
    noise = np.random.default_rng(seed).normal(0, 1, 600)
    return np.roll(np.tile(cycle, 5), 3 * seed) + noise


def test_every_claim_is_registered_for_the_paper():
    registry = TYPES.registry
    assert set(HOMES["li2022"]) == set(registry.declared("claims", "li2022"))
    for home, names in HOMES.items():
        assert {registry.claim(name, "li2022").part.paper for name in names} == {home}


class TestProgressiveSharpening:
    def test_verdicts(self):
        name = "progressive_sharpening"
        assert outcome(name, table(lambda s: sharp(edge(s)))) == "supported"
        assert outcome(name, table(lambda s: sharp(hover(0.8)))) == "supported"
        falling = table(lambda s: sharp(np.linspace(300 + s, 100, 600)))
        assert outcome(name, falling) == "not supported"
        started_above = table(lambda s: sharp(np.linspace(500, 300, 600)))
        assert outcome(name, started_above) == "inconclusive"


class TestEdgeOfStability:
    names = ("edge_of_stability", "running_plateau")

    @pytest.mark.parametrize("name", names)
    def test_supported_at_the_edge_and_for_a_slide_onto_the_plateau(self, name):
        assert outcome(name, table(lambda s: sharp(edge(s)))) == "supported"
        slide = table(lambda s: sharp(np.minimum(120 + 3.0 * STEPS, 405 + s)))
        assert outcome(name, slide) == "supported"

    @pytest.mark.parametrize("name", names)
    @pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.999])
    def test_a_net_that_hovers_below_fails(self, name, level):
        assert outcome(name, table(lambda s: sharp(hover(level)))) == "not supported"

    @pytest.mark.parametrize("name", names)
    def test_a_net_that_swings_just_below_is_at_the_edge(self, name):
        def swinging(level: float, along: np.ndarray) -> pd.DataFrame:
            norms = {"residual_along_v1": along, "residual_norm_squared": np.full(600, 100.0)}
            return table(lambda s: sharp(hover(level) + 0.1 * s) | norms)

        swing = 3 * (-1.0) ** STEPS
        assert outcome(name, swinging(0.965, swing)) == "supported"
        assert outcome(name, swinging(0.8, swing)) == "not supported"
        assert outcome(name, swinging(0.965, 3 * np.ones(600))) == "not supported"
        assert outcome(name, swinging(0.965, swing / 10)) == "not supported"
        decaying = swing * (2 * 0.965 - 1.0) ** STEPS
        assert outcome(name, swinging(0.965, decaying)) == "not supported"

    @pytest.mark.parametrize("name", names)
    def test_a_swing_is_not_seen_at_an_even_stride(self, name):
        curves = {
            "residual_along_v1": 3 * (-1.0) ** (STEPS[::2] // 2),
            "residual_norm_squared": np.full(300, 100.0),
        }
        frame = table(lambda s: sharp(hover(0.965)[::2]) | curves, steps=STEPS[::2])
        assert outcome(name, frame) != "supported"

    @pytest.mark.parametrize("name", names)
    def test_a_level_off_the_threshold_fails(self, name):
        for level in (0.8, 1.2):
            frame = table(lambda s, level=level: sharp(edge(s, level)))
            assert outcome(name, frame) == "not supported"

    @pytest.mark.parametrize("name", names)
    def test_diverged_runs_fail_and_one_of_them_is_enough_to_doubt(self, name):
        def diverged(seed: int) -> Curves:
            values = edge(seed).copy()
            values[300:] = np.nan
            return sharp(values) | {"loss": np.where(STEPS < 300, 1.0, np.nan)}

        assert outcome(name, table(diverged)) == "not supported"
        one = table(lambda s: diverged(s) if s == 2 else sharp(edge(s)) | {"loss": np.ones(600)})
        assert outcome(name, one) == "inconclusive"

    @pytest.mark.parametrize("name", names)
    def test_undefined_at_an_even_stride_and_for_a_late_crossing(self, name):
        even = STEPS[::10]
        frame = table(lambda s: sharp(edge(s)[::10]), steps=even)
        assert outcome(name, frame) == "inconclusive"
        odd = table(lambda s: sharp(edge(s)[::3]), steps=STEPS[::3])
        assert outcome(name, odd) == "supported"
        late = table(lambda s: sharp(np.linspace(100, 405, 600)))
        assert outcome(name, late) == "inconclusive"

    def test_seeds_that_disagree(self):
        frame = table(lambda s: sharp(edge(s, 0.92 + 0.06 * s)))
        assert outcome("edge_of_stability", frame) == "inconclusive"
        assert outcome("running_plateau", frame) == "inconclusive"

    def test_the_running_mean_sees_what_the_mean_hides(self):
        def swing(seed: int) -> Curves:
            return sharp(THRESHOLD * (1 + 0.4 * np.sin(2 * np.pi * (STEPS - 90) / 150)))

        assert outcome("edge_of_stability", table(swing)) == "supported"
        assert outcome("running_plateau", table(swing)) == "not supported"


class TestCycles:
    def test_verdicts(self):
        assert outcome("cycles", table(lambda s: sharp(relaxation(s)))) == "supported"

        def turns_back(seed: int) -> Curves:
            wobble = 45 * np.sin(2 * np.pi * STEPS / 40 + seed)
            return sharp(np.where(STEPS < 80, 120 + 3.0 * STEPS, THRESHOLD + 60 + wobble))

        assert outcome("cycles", table(turns_back)) == "not supported"
        slide = table(lambda s: sharp(np.minimum(120 + 3.0 * STEPS, 405 + s)))
        assert outcome("cycles", slide) == "inconclusive"
        assert outcome("cycles", table(lambda s: sharp(hover(0.8)))) == "inconclusive"

    def test_a_sine_is_its_own_surrogate(self):
        def sine(seed: int) -> Curves:
            return sharp(THRESHOLD + 60 * np.sin(2 * np.pi * STEPS / 100 - 1))

        judged = judge("cycles", table(sine))
        assert judged.iloc[0]["verdict"] != "supported"
        assert abs(judged.iloc[0]["statistic"]) < 0.05

    def test_the_surrogates_are_seeded(self):
        frame = table(lambda s: sharp(relaxation(s)), seeds=2)
        pd.testing.assert_frame_equal(judge("cycles", frame), judge("cycles", frame))


class TestOutputNorm:
    def test_before_crossing(self):
        name = "output_norm_before_crossing"

        def with_norm(make: Callable[[np.ndarray, int], np.ndarray]) -> pd.DataFrame:
            return table(lambda s: sharp(edge(s)) | {"output_norm_squared": make(edge(s), s)})

        assert outcome(name, with_norm(lambda x, s: x / 100)) == "supported"
        assert outcome(name, with_norm(lambda x, s: -x)) == "not supported"
        mixed = with_norm(lambda x, s: x / 100 if s else x / 100 + 8 * np.sin(STEPS / 2))
        assert outcome(name, mixed) == "inconclusive"
        above = table(lambda s: sharp(edge(s) + 400) | {"output_norm_squared": edge(s)})
        assert outcome(name, above) == "inconclusive"

    def test_tracks_on_averages_though_raw_steps_disagree(self):
        name = "output_norm_tracks"

        def slow(seed: int) -> np.ndarray:
            return 400 + 60 * np.sin(STEPS / 40 + seed)

        frame = table(
            lambda s: {
                "gauss_newton_sharpness": slow(s) + 24 * (-1.0) ** STEPS,
                "output_norm_squared": slow(s) - 10 * (-1.0) ** STEPS,
            }
        )
        assert outcome(name, frame) == "supported"
        opposite = frame.copy()
        norm = opposite["quantity"] == "output_norm_squared"
        opposite.loc[norm, "value"] *= -1
        assert outcome(name, opposite) == "not supported"
        even = frame[frame["step"] % 2 == 0]
        assert outcome(name, even) == "inconclusive"
        one_off = frame.copy()
        one_off.loc[norm & (frame["seed"] == 1), "value"] *= -1
        assert outcome(name, one_off) == "inconclusive"


class TestResidual:
    @staticmethod
    def curves(seed: int, spikes: bool = True, roll: int = 0) -> Curves:
        centres = [200 + 3 * seed, 300 + seed, 400, 520 - seed]
        bumps = sum(np.exp(-(((STEPS - c) / 6) ** 2)) for c in centres)
        along = 0.5 * bumps + 1e-3
        rest = np.exp(-STEPS / 300)
        return {
            "gauss_newton_sharpness": edge(seed),
            "loss": rest + (along if spikes else 0),
            "rest_norm_squared": SAMPLES * rest,
            "residual_along_v1": np.sqrt(SAMPLES * np.roll(along, roll)),
        }

    def test_loss_not_residual(self):
        name = "loss_not_residual"
        assert outcome(name, table(self.curves)) == "supported"
        smooth = table(lambda s: self.curves(s, spikes=False))
        assert outcome(name, smooth) == "not supported"
        mixed = table(lambda s: self.curves(s, spikes=s > 2))
        assert outcome(name, mixed) == "inconclusive"

        def diverged(seed: int) -> Curves:
            curves = self.curves(seed)
            return curves | {"loss": np.where(STEPS < 500, curves["loss"], np.nan)}

        assert outcome(name, table(diverged)) == "inconclusive"

    def test_spikes_coincide(self):
        name = "spikes_coincide"
        assert outcome(name, table(self.curves)) == "supported"
        shifted = table(lambda s: self.curves(s, roll=40))
        assert outcome(name, shifted) == "not supported"
        no_spike = table(lambda s: self.curves(s, spikes=False))
        assert outcome(name, no_spike) == "inconclusive"
        mixed = table(lambda s: self.curves(s, roll=40 * (s > 2)))
        assert outcome(name, mixed) == "inconclusive"


class TestEigenvectors:
    def test_turns_slowly(self):
        name = "eigenvector_turns_slowly"

        def turning(size: float) -> pd.DataFrame:
            def make(seed: int) -> Curves:
                turn = size * np.random.default_rng(seed).random(600)
                sign = np.where(STEPS % 2, 1, -1)
                return {"eigenvector_alignment": np.where(STEPS == 0, np.nan, sign * (1 - turn))}

            return table(make)

        assert outcome(name, turning(0.02)) == "supported"
        assert outcome(name, turning(0.5)) == "not supported"
        assert outcome(name, turning(0.0525)) == "inconclusive"
        short = table(lambda s: {"eigenvector_alignment": np.ones(20)})
        assert outcome(name, short) == "inconclusive"
        gap = table(lambda s: {"eigenvector_alignment": np.where(STEPS == 300, np.nan, 1.0)})
        assert outcome(name, gap) == "inconclusive"

    def test_few_unstable(self):
        name = "few_unstable_eigenvalues"

        def spectrum(*tops: float, spread: float = 0.01) -> pd.DataFrame:
            def make(seed: int) -> Curves:
                shape = edge(0) / edge(0).max()
                scale = THRESHOLD * (1 + spread * (seed - 2)) * shape
                return {("gauss_newton_sharpness", i): top * scale for i, top in enumerate(tops)}

            return table(make)

        assert outcome(name, spectrum(1.3, 1.2, 1.1, 0.9, 0.8)) == "supported"
        assert outcome(name, spectrum(1.3, 1.2, 1.1, 1.05, 0.8)) == "not supported"
        assert outcome(name, spectrum(1.3, 1.2, 1.1, 1.0)) == "inconclusive"
        assert outcome(name, spectrum(1.3, 0.9)) == "supported"
        assert outcome(name, spectrum(1.3, 1.2, 1.1)) == "inconclusive"


FROZEN = {f"frozen_{count}": training(frozen=count) for count in range(4)}


class TestFreezing:
    name = "freezing_slows"

    @staticmethod
    def frame(rates: Callable[[int], list[float]], seeds: int = 5) -> pd.DataFrame:
        return pd.concat(
            [
                rows(sharp(50 + rate * STEPS), case=f"frozen_{frozen}", seed=seed)
                for seed in range(seeds)
                for frozen, rate in enumerate(rates(seed))
            ]
        )

    def test_verdicts(self):
        ordered = self.frame(lambda s: [3.0, 2.0, 1.0, 0.4])
        judged = judge(self.name, ordered, cases=FROZEN)
        assert judged["case"].tolist() == ["all"]
        assert judged.iloc[0]["statistic"] == -1
        assert judged.iloc[0]["verdict"] == "supported"
        rising = self.frame(lambda s: [0.5, 1, 2, 3])
        assert outcome(self.name, rising, FROZEN) == "not supported"
        mixed = self.frame(lambda s: [3, 2, 1, 0.4][:: 1 if s else -1])
        assert outcome(self.name, mixed, FROZEN) == "inconclusive"
        two = self.frame(lambda s: [3, 2])
        assert outcome(self.name, two, FROZEN) == "inconclusive"
        missing = ordered[~((ordered["seed"] == 1) & (ordered["case"] != "frozen_0"))]
        assert outcome(self.name, missing, FROZEN) == "inconclusive"

    def test_one_horizon_for_all(self):
        def curves(seed: int) -> pd.DataFrame:
            fast = np.minimum(50 + 3.5 * STEPS, 400)
            return pd.concat(
                [
                    rows(sharp(fast), case="frozen_0", seed=seed),
                    rows(sharp(50 + 1.0 * STEPS), case="frozen_1", seed=seed),
                    rows(sharp(50 + 0.4 * STEPS), case="frozen_2", seed=seed),
                ]
            )

        whole = pd.concat([curves(s) for s in range(3)])
        assert outcome(self.name, whole, FROZEN) == "supported"

    def test_the_number_is_the_setting_and_not_the_name(self):
        ordered = self.frame(lambda s: [3.0, 2.0, 1.0, 0.4])
        turned = {f"frozen_{count}": training(frozen=3 - count) for count in range(4)}
        assert outcome(self.name, ordered, turned) == "not supported"
        alike = dict.fromkeys(FROZEN, training(frozen=2))
        assert outcome(self.name, ordered, alike) == "inconclusive"

    def test_a_case_without_the_setting(self):
        ordered = self.frame(lambda s: [3.0, 2.0, 1.0, 0.4])
        with pytest.raises(PartError, match=r"'frozen_2' has no setting 'training\.frozen'"):
            judge(self.name, ordered, cases=FROZEN | {"frozen_2": {"training": {}}})


class TestTwoLayerReturns:
    name = "two_layer_returns"

    def test_the_network_of_the_proof_returns(self):
        judged = judge(self.name, two_layer_linear.table())
        assert judged.iloc[-1]["verdict"] == "supported"
        lowest = []
        for seed in (1, 2, 3):
            curve = two_layer_linear.run(seed)["gauss_newton_sharpness"] * 0.35 / 2
            averaged = (curve[1:] + curve[:-1]) / 2
            lowest.append(averaged[np.argmax(averaged) :].min())
        assert judged.iloc[0]["statistic"] == pytest.approx(np.mean(lowest))

    def test_a_net_that_never_gets_there_fails(self):
        slow = two_layer_linear.table(learning_rates=(0.1,))
        assert outcome(self.name, slow) == "not supported"

    @pytest.mark.parametrize("level", [1.0, 1.3])
    def test_a_net_that_stays_up_fails(self, level):
        climb = np.minimum(100 + 2 * STEPS, level * THRESHOLD)
        assert outcome(self.name, table(lambda s: sharp(climb + 0.01 * s))) == "not supported"

    def test_a_run_that_starts_above_says_nothing(self):
        falling = table(lambda s: sharp(np.linspace(500 + s, 100, 600)))
        assert outcome(self.name, falling) == "inconclusive"

    def test_a_diverged_run_never_returned(self):
        up = np.where(STEPS < 200, 100 + 3.0 * STEPS, np.nan)
        gone = table(lambda s: {**sharp(up), "diverged_step": np.array([200.0])})
        assert outcome(self.name, gone) == "not supported"

    def test_a_late_crossing_is_undefined(self):
        late = table(lambda s: sharp(np.linspace(100, 401, 600)))
        assert outcome(self.name, late) == "inconclusive"


def test_a_stated_threshold_replaces_two_over_eta():
    runs = table(lambda s: sharp(0.6 * edge(s)))
    assert outcome("edge_of_stability", runs) == "not supported"
    stated = {"stability_threshold": np.full(600, 0.6 * THRESHOLD)}
    runs = table(lambda s: sharp(0.6 * edge(s)) | stated)
    assert outcome("edge_of_stability", runs) == "supported"


class TestPlateauSlope:
    @staticmethod
    def frame(level: Callable[[float, int], float], thresholds=(200, 400, 800)) -> pd.DataFrame:
        climb = np.minimum(STEPS / 100, 1)
        return pd.concat(
            [
                rows(
                    sharp(level(threshold, seed) * climb),
                    rate=2 / threshold,
                    width=width,
                    seed=seed,
                )
                for seed in range(5)
                for width in (50, 200)
                for threshold in thresholds
            ]
        )

    def test_verdicts(self):
        name = "plateau_slope"
        judged = judge(name, self.frame(lambda thr, s: 1.02 * thr + s))
        assert judged["case"].tolist() == ["tanh", "all"]
        assert judged.iloc[0]["statistic"] == pytest.approx(1.02, rel=1e-3)
        assert judged.iloc[0]["verdict"] == "supported"
        assert outcome(name, self.frame(lambda thr, s: 300)) == "not supported"
        assert outcome(name, self.frame(lambda thr, s: (0.7 + 0.15 * s) * thr)) == "inconclusive"
        two = self.frame(lambda thr, s: thr, thresholds=(200, 400))
        assert outcome(name, two) == "inconclusive"

    def test_a_run_without_a_plateau_is_not_left_out(self):
        frame = self.frame(lambda thr, s: thr)
        bad = (frame["seed"] == 0) & (frame["width"] == 50) & (frame["step"] > 400)
        frame.loc[bad, "value"] = np.nan
        assert outcome("plateau_slope", frame) == "inconclusive"


class TestSurrogate:
    @staticmethod
    def frame(factor: Callable[[int], np.ndarray | float], converged=1.0, loss=None):
        def make(seed: int) -> Curves:
            halved = np.exp(-STEPS / 100) if loss is None else loss
            early = np.where(STEPS < 60, 10.0, factor(seed))
            ones = np.ones(600)
            return {
                "loss": halved,
                "gauss_newton_sharpness": early * edge(seed),
                "hessian_sharpness": edge(seed),
                "gauss_newton_sharpness_converged": ones,
                "hessian_sharpness_converged": ones * converged,
            }

        return table(make)

    def test_verdicts(self):
        name = "surrogate_factor"
        assert outcome(name, self.frame(lambda s: 1.1 + 0.001 * s)) == "supported"
        assert outcome(name, self.frame(lambda s: 1 / 1.1)) == "supported"
        assert outcome(name, self.frame(lambda s: 2.0)) == "not supported"
        assert outcome(name, self.frame(lambda s: 0.5)) == "not supported"
        assert outcome(name, self.frame(lambda s: -1.0)) == "not supported"
        assert outcome(name, self.frame(lambda s: 1.1 + 0.08 * s)) == "inconclusive"

    def test_undefined(self):
        name = "surrogate_factor"
        assert outcome(name, self.frame(lambda s: 1.0, loss=np.ones(600))) == "inconclusive"
        some = np.where(STEPS % 4, 1.0, 0.0)
        assert outcome(name, self.frame(lambda s: 1.0, converged=some)) == "inconclusive"
        few = np.where(STEPS % 20, 1.0, 0.0)
        assert outcome(name, self.frame(lambda s: 1.0, converged=few)) == "supported"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "freezing_slows"])
def test_a_run_that_diverged_at_once_never_supports(name):
    quantities = [
        "loss", "gauss_newton_sharpness", "output_norm_squared", "rest_norm_squared",
        "residual_along_v1", "eigenvector_alignment", "hessian_sharpness",
        "gauss_newton_sharpness_converged", "hessian_sharpness_converged", "stability_threshold",
    ]  # fmt: skip
    nothing = np.full(600, np.nan)
    frame = table(lambda s: dict.fromkeys(quantities, nothing) | {"diverged_step": [1.0]})
    assert outcome(name, frame) != "supported"
    frame = frame[frame["quantity"].isin(["diverged_step"])]
    known = rows(dict.fromkeys(quantities, nothing), seed=9)
    assert outcome(name, pd.concat([frame, known])) != "supported"
