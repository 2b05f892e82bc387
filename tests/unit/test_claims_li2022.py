"""The claims of li2022 and those of all papers, where they hold, fail and are undefined."""

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
    decisive,
    edge,
    judge,
    outcome,
    rows,
    sharp,
    table,
    training,
    undefined,
)

from sharpflow.errors import PartError
from sharpflow.results.crossings import rising_trend

SAMPLES = 100
HOMES = {
    "": ["edge_of_stability", "plateau_slope", "progressive_sharpening", "running_plateau"],
    "li2022": [
        "cycles",
        "few_unstable_eigenvalues",
        "freezing_slows",
        "growth_law",
        "loss_not_residual",
        "one_unstable_eigenvalue",
        "output_norm_before_crossing",
        "output_norm_exponent",
        "output_norm_tracks",
        "outputs_turn",
        "residual_flips",
        "spikes_coincide",
        "surrogate_factor",
        "two_layer_returns",
    ],
}
NAMES = [name for names in HOMES.values() for name in names]
DIVERGED = {"diverged_step": np.array([300.0])}
EVEN = "an even stride shows one branch of the alternation only"
NOT_THERE = "5 of 5 failed (it neither reaches the threshold nor swings about it)"


def hover(level: float) -> np.ndarray:
    return level * THRESHOLD * (1 - 0.7 * np.exp(-STEPS / 60))


def relaxation(seed: int) -> np.ndarray:
    up = np.linspace(365, 400, 90, endpoint=False)
    spike = 400 + 80 * np.sin(np.linspace(0, np.pi, 20, endpoint=False))
    cycle = np.concatenate([up, spike, np.linspace(400, 365, 10, endpoint=False)])
    noise = np.random.default_rng(seed).normal(0, 1, 600)
    return np.roll(np.tile(cycle, 5), 3 * seed) + noise


def walk(seed: int, size: float = 1.0, start: float = 0.0) -> np.ndarray:
    """A random walk; of two seeds the one knows nothing of the other."""
    return start + np.cumsum(np.random.default_rng([13, seed]).normal(0, size, 600))


def even(frame: pd.DataFrame) -> pd.DataFrame:
    """What a run measured at every second step would have of it."""
    return frame[frame["step"] % 2 == 0]


def outside(name: str, frame: pd.DataFrame, cases=None) -> str:
    """Why a claim is not supported."""
    row = decisive(judge(name, frame, cases=cases))
    assert row["verdict"] == "not supported", row["verdict"]
    return row["reason"]


def test_every_claim_is_registered_for_the_paper():
    registry = TYPES.registry
    assert set(HOMES["li2022"]) == set(registry.declared("claims", "li2022"))
    for home, names in HOMES.items():
        assert {registry.claim(name, "li2022").part.paper for name in names} == {home}


class TestProgressiveSharpening:
    name = "progressive_sharpening"

    def test_supported(self):
        assert outcome(self.name, table(lambda s: sharp(edge(s)))) == "supported"
        assert outcome(self.name, table(lambda s: sharp(hover(0.8)))) == "supported"

    def test_a_fall_and_a_rise_that_turns_back_fail(self):
        falling = table(lambda s: sharp(np.linspace(300 + s, 100, 600)))
        assert outcome(self.name, falling) == "not supported"
        hill = table(lambda s: sharp(100 + (200 + s) * np.sin(np.pi * STEPS / 600)))
        assert outcome(self.name, hill) == "not supported"

    def test_what_comes_after_nine_tenths_of_the_threshold_is_nothing_to_it(self):
        def hesitating(seed: int) -> np.ndarray:
            return np.where(STEPS < 200, 120 + 1.25 * STEPS, 370 + 20 * np.sin(STEPS / 20 + seed))

        assert outcome(self.name, table(lambda s: sharp(hesitating(s)))) == "supported"

    def test_a_start_above_is_undefined(self):
        started_above = table(lambda s: sharp(np.linspace(500, 300, 600)))
        why = "fewer than 10 records lead up to 0.9 of the threshold"
        assert undefined(self.name, started_above) == why

    def test_how_often_a_random_walk_passes(self):
        """As its `origin` says: a third of the walks that come to 0.9 of the threshold do."""
        walks = [walk(seed, 0.05, 0.3) for seed in range(300)]
        passed = np.array([rising_trend(curve, 0.9) >= 0.9 for curve in walks])
        arrived = np.array([curve.max() >= 0.9 for curve in walks])
        assert 0.2 <= passed[arrived].mean() <= 0.45
        assert 0.1 <= passed.mean() <= 0.3
        assert passed[~arrived].mean() <= 0.05


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
        why = outside(name, table(lambda s: sharp(hover(level))))
        assert why == (NOT_THERE if level > 0.9 else "5 of 5 outside the band")

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

        assert outside(name, table(diverged)) == "5 of 5 failed (it diverged at step 300)"
        one = table(lambda s: diverged(s) if s == 2 else sharp(edge(s)) | {"loss": np.ones(600)})
        assert outcome(name, one) == "straddles"
        four = table(lambda s: diverged(s) if s != 2 else sharp(edge(s)) | {"loss": np.ones(600)})
        assert outcome(name, four) == "not supported"

    @pytest.mark.parametrize("name", names)
    def test_undefined_at_an_even_stride_and_for_a_late_crossing(self, name):
        assert undefined(name, table(lambda s: sharp(edge(s)[::10]), steps=STEPS[::10])) == EVEN
        odd = table(lambda s: sharp(edge(s)[::3]), steps=STEPS[::3])
        assert outcome(name, odd) == "supported"
        late = table(lambda s: sharp(np.linspace(100, 405, 600)))
        assert undefined(name, late) == "fewer than 50 steps follow the first cycle"
        one = table(lambda s: sharp(edge(s) if s else np.linspace(100, 405, 600)))
        assert judge(name, one).iloc[0]["reason"].startswith("1 of 5 undefined")
        assert outcome(name, one) == "undefined"

    @pytest.mark.parametrize("name", names)
    def test_seeds_that_disagree(self, name):
        frame = table(lambda s: sharp(edge(s, 0.92 + 0.06 * s)))
        assert outcome(name, frame) == "straddles"

    def test_levels_that_are_right_on_average_alone_fail(self):
        frame = table(lambda s: sharp(edge(s, 0.85 if s % 2 else 1.15)), seeds=8)
        assert outside("edge_of_stability", frame) == "8 of 8 outside the band"

    def test_the_running_mean_sees_what_the_mean_hides(self):
        def swing(seed: int) -> Curves:
            return sharp(THRESHOLD * (1 + 0.4 * np.sin(2 * np.pi * (STEPS - 90) / 150)))

        assert outcome("edge_of_stability", table(swing)) == "supported"
        assert outcome("running_plateau", table(swing)) == "not supported"


class TestCycles:
    name = "cycles"

    def test_supported(self):
        judged = judge(self.name, table(lambda s: sharp(relaxation(s))))
        assert judged.iloc[0]["verdict"] == "supported"
        assert 0.2 < judged.iloc[0]["least"] <= judged.iloc[0]["largest"] < 0.35

    def test_a_damped_swing_is_judged_while_it_swings(self):
        def damped(seed: int) -> np.ndarray:
            swing = 120 * np.exp(-STEPS / 250) * np.sin(2 * np.pi * STEPS / (100 + 3 * seed))
            return THRESHOLD + swing

        assert outcome(self.name, table(lambda s: sharp(damped(s)))) == "supported"

    def test_what_turns_back_on_its_way_fails(self):
        def turns_back(seed: int) -> np.ndarray:
            slow = 80 * np.sign(np.sin(2 * np.pi * (STEPS + 1) / 300))
            return THRESHOLD + slow + 45 * np.sin(2 * np.pi * STEPS / (32 + seed))

        assert outcome(self.name, table(lambda s: sharp(turns_back(s)))) == "not supported"

    def test_white_noise_fails(self):
        noise = [np.random.default_rng([1, s]).normal(0, 150, 600) for s in range(5)]
        frame = table(lambda s: sharp(THRESHOLD + noise[s]))
        assert outcome(self.name, frame) == "not supported"

    def test_undefined(self):
        slide = table(lambda s: sharp(np.minimum(120 + 3.0 * STEPS, 405 + s)))
        rest = "it comes up to 2/η fewer than 2 times, or leaves I and III fewer than 4 times"
        assert undefined(self.name, slide) == rest
        settled = table(lambda s: sharp(edge(s)))
        assert undefined(self.name, settled) == rest
        below = table(lambda s: sharp(hover(0.8)))
        assert undefined(self.name, below) == "it never reaches 2/η"
        assert undefined(self.name, even(table(lambda s: sharp(relaxation(s))))) == EVEN

    def test_a_diverged_run_fails(self):
        gone = table(lambda s: sharp(relaxation(s)) | DIVERGED)
        assert outside(self.name, gone) == "5 of 5 failed (it diverged at step 300)"

    def test_the_shuffles_are_seeded(self):
        frame = table(lambda s: sharp(relaxation(s)), seeds=2)
        pd.testing.assert_frame_equal(judge("cycles", frame), judge("cycles", frame))


class TestOutputNorm:
    def test_before_crossing(self):
        name = "output_norm_before_crossing"

        def with_norm(make: Callable[[np.ndarray, int], np.ndarray]) -> pd.DataFrame:
            return table(lambda s: sharp(edge(s)) | {"output_norm_squared": make(edge(s), s)})

        assert outcome(name, with_norm(lambda x, s: x / 100)) == "supported"
        assert outcome(name, with_norm(lambda x, s: -x)) == "not supported"
        unrelated = with_norm(lambda x, s: walk(s))
        assert outcome(name, unrelated) == "not supported"
        mixed = with_norm(lambda x, s: x / 100 if s else x / 100 + 8 * np.sin(STEPS / 2))
        assert outcome(name, mixed) == "straddles"
        above = table(lambda s: sharp(edge(s) + 400) | {"output_norm_squared": edge(s)})
        assert undefined(name, above) == "it crosses within 10 records"

    @staticmethod
    def past_crossing(norm: Callable[[int], np.ndarray], sign: float = 1.0) -> pd.DataFrame:
        """Λ a random walk at the threshold with an alternation, ‖A‖² with one of its own."""
        return table(
            lambda s: {
                "gauss_newton_sharpness": THRESHOLD + 1 + walk(s) + 24 * (-1.0) ** STEPS,
                "output_norm_squared": 10 + sign * norm(s) - 10 * (-1.0) ** STEPS,
            }
        )

    def test_tracks_on_averages_though_raw_steps_disagree(self):
        name = "output_norm_tracks"
        assert outcome(name, self.past_crossing(walk)) == "supported"
        loosely = self.past_crossing(lambda s: walk(s) + walk(s + 50, 0.5))
        assert outcome(name, loosely) == "supported"

    def test_the_other_way_and_an_unrelated_norm_do_not_track(self):
        name = "output_norm_tracks"
        assert outcome(name, self.past_crossing(walk, -1.0)) == "not supported"
        assert outcome(name, self.past_crossing(lambda s: walk(s + 50))) == "not supported"
        common_trend = self.past_crossing(lambda s: 0.3 * STEPS)
        assert outcome(name, common_trend) == "not supported"
        one_off = self.past_crossing(lambda s: walk(s) if s != 1 else -walk(s))
        assert outcome(name, one_off) == "straddles"

    def test_tracking_is_undefined_without_a_stretch_past_the_crossing(self):
        name = "output_norm_tracks"
        frame = self.past_crossing(walk)
        assert undefined(name, even(frame)) == EVEN
        few = "fewer than 50 steps follow a first crossing"
        late = np.linspace(100, 405, 600)
        norm = {"output_norm_squared": late}
        assert undefined(name, table(lambda s: sharp(late) | norm)) == few
        assert undefined(name, table(lambda s: sharp(hover(0.8)) | norm)) == few
        kept = frame["step"].isin([*range(0, 40), *range(41, 600, 93)])
        assert undefined(name, frame[kept]) == "too few records follow the crossing"
        gone = table(lambda s: sharp(edge(s)) | norm | DIVERGED)
        assert outside(name, gone) == "5 of 5 failed (it diverged at step 300)"


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

    late = "fewer than 50 steps follow a first crossing"

    def test_loss_not_residual(self):
        name = "loss_not_residual"
        assert outcome(name, table(self.curves)) == "supported"

        def together(seed: int) -> Curves:
            rest = 1 + 0.5 * np.sin(STEPS / 20 + seed)
            return self.curves(seed) | {"loss": rest, "rest_norm_squared": SAMPLES * rest}

        assert outcome(name, table(together)) == "not supported"
        mixed = table(lambda s: together(s) if s == 4 else self.curves(s))
        assert outcome(name, mixed) == "straddles"

    def test_a_rest_that_knows_nothing_of_the_loss_fails(self):
        def unrelated(seed: int) -> Curves:
            rest = {"rest_norm_squared": 1e3 + walk(seed + 80)}
            return self.curves(seed) | rest | {"loss": 50 + walk(seed)}

        judged = judge("loss_not_residual", table(unrelated, seeds=20)).iloc[0]
        assert judged["verdict"] == "not supported"
        assert judged["median"] == pytest.approx(0.5, abs=0.03)

    def test_loss_not_residual_is_undefined_for_a_loss_that_falls(self):
        name = "loss_not_residual"
        smooth = table(lambda s: self.curves(s, spikes=False))
        assert undefined(name, smooth) == "the loss rises fewer than 10 times"
        below = table(lambda s: self.curves(s) | sharp(hover(0.8)))
        assert undefined(name, below) == self.late

        def diverged(seed: int) -> Curves:
            curves = self.curves(seed)
            return curves | {"loss": np.where(STEPS < 500, curves["loss"], np.nan)}

        assert outside(name, table(diverged)) == "5 of 5 failed (it diverged at step 500)"

    def test_spikes_coincide(self):
        name = "spikes_coincide"
        assert outcome(name, table(self.curves)) == "supported"
        shifted = table(lambda s: self.curves(s, roll=40))
        assert outcome(name, shifted) == "not supported"
        mixed = table(lambda s: self.curves(s, roll=40 * (s > 2)))
        assert outcome(name, mixed) == "straddles"

    def test_without_spikes_nothing_can_coincide(self):
        name = "spikes_coincide"
        no_spike = table(lambda s: self.curves(s, spikes=False))
        assert undefined(name, no_spike) == "the loss has no spike past the crossing"
        below = table(lambda s: self.curves(s) | sharp(hover(0.8)))
        assert undefined(name, below) == self.late
        gone = table(lambda s: self.curves(s) | DIVERGED)
        assert outside(name, gone) == "5 of 5 failed (it diverged at step 300)"


class TestEigenvalues:
    @staticmethod
    def spectrum(*tops: float, spread: float = 0.01) -> pd.DataFrame:
        def make(seed: int) -> Curves:
            shape = edge(0) / edge(0).max()
            scale = THRESHOLD * (1 + spread * (seed - 2)) * shape
            return {("gauss_newton_sharpness", i): top * scale for i, top in enumerate(tops)}

        return table(make)

    def test_few_unstable(self):
        name = "few_unstable_eigenvalues"
        assert outcome(name, self.spectrum(1.3, 1.2, 1.1, 0.9, 0.8)) == "supported"
        assert outcome(name, self.spectrum(1.3, 1.2, 1.1, 1.05, 0.8)) == "not supported"
        assert outcome(name, self.spectrum(1.3, 1.2, 1.1, 0.985)) == "straddles"
        assert outcome(name, self.spectrum(1.3, 0.9)) == "supported"
        why = "fewer than four eigenvalues were measured"
        assert undefined(name, self.spectrum(1.3, 1.2, 1.1)) == why
        assert undefined(name, self.spectrum(1.3)) == why

    def test_one_unstable(self):
        name = "one_unstable_eigenvalue"
        assert outcome(name, self.spectrum(1.3, 0.95, 0.9)) == "supported"
        assert outcome(name, self.spectrum(1.3, 1.05)) == "not supported"
        assert outcome(name, self.spectrum(1.3, 0.985)) == "straddles"
        assert undefined(name, self.spectrum(0.7)) == "one eigenvalue was measured"

    @pytest.mark.parametrize("name", ["few_unstable_eigenvalues", "one_unstable_eigenvalue"])
    def test_a_diverged_run_fails(self, name):
        ends = self.spectrum(1.3, 0.9, 0.8, 0.7).query("step == 599 and index == 0")
        mark = ends[ends["quantity"] == "gauss_newton_sharpness"]
        mark = mark.assign(quantity="diverged_step", value=520.0)
        gone = pd.concat([self.spectrum(1.3, 0.9, 0.8, 0.7), mark])
        assert outside(name, gone) == "5 of 5 failed (it diverged at step 520)"


class TestGrowth:
    """Dᵀv₁ past the threshold: d⁺ = (1 − ηΛ) d."""

    @staticmethod
    def curves(seed: int, power: float = 1.0, sign: float = -1.0, share: float = 0.5) -> Curves:
        """Λ swings about 2/η, and d is multiplied by sign·|1 − ηΛ|^power a step."""
        ratio = 1 + 0.2 * np.sin(2 * np.pi * STEPS / (90 + seed))
        factors = sign * np.abs(1 - 2 * ratio) ** power
        along = np.cumprod(np.r_[1.0, factors[:-1]])
        return {
            "gauss_newton_sharpness": ratio * THRESHOLD,
            "residual_along_v1": along,
            "residual_norm_squared": along**2 / share,
        }

    def test_law(self):
        name = "growth_law"
        judged = judge(name, table(self.curves)).iloc[0]
        assert judged["verdict"] == "supported"
        assert judged["median"] == pytest.approx(1.0, abs=1e-9)
        for power in (0.0, 0.5, 1.5):
            wrong = table(lambda s, p=power: self.curves(s, p))
            assert outcome(name, wrong) == "not supported"
        either = table(lambda s: self.curves(s, sign=1.0))
        assert outcome(name, either) == "supported"

    def test_flips(self):
        name = "residual_flips"
        assert outcome(name, table(self.curves)) == "supported"
        assert outcome(name, table(lambda s: self.curves(s, sign=1.0))) == "not supported"

    @pytest.mark.parametrize("name", ["growth_law", "residual_flips"])
    def test_undefined_without_single_steps_of_a_swing_past_the_threshold(self, name):
        why = "under 20 single steps past 2/η have 0.1 % of ‖D‖² along v₁"
        below = table(lambda s: self.curves(s) | sharp(hover(0.8)))
        assert undefined(name, below) == why
        assert undefined(name, table(lambda s: self.curves(s, share=1e-4))) == why
        strided = table(self.curves)
        assert undefined(name, strided[strided["step"] % 3 == 0]) == why

    @pytest.mark.parametrize("name", ["growth_law", "residual_flips"])
    def test_a_diverged_run_counts_as_far_as_it_goes(self, name):
        gone = table(lambda s: self.curves(s) | DIVERGED)
        assert outcome(name, gone) == "supported"


class TestOutputs:
    """DᵀF and ‖A‖² beside Λ."""

    @staticmethod
    def turning(late: float) -> Callable[[int], Curves]:
        """DᵀF turns positive `late` steps past the peak of the spike."""

        def make(seed: int) -> Curves:
            product = STEPS - (THRESHOLD - 120) / 3 - 25.0 - late
            return sharp(edge(seed)) | {"residual_dot_outputs": product}

        return make

    def test_turn_at_the_peak(self):
        name = "outputs_turn"
        for late in (-3.0, 0.0, 3.0):
            assert outcome(name, table(self.turning(late))) == "supported"
        for late in (-15.0, 15.0, 1000.0):
            assert outcome(name, table(self.turning(late))) == "not supported"

    def test_a_product_that_never_turns_positive_fails_however_near_the_end_is(self):
        rising = np.interp(STEPS, [0, 30, STEPS[-3], STEPS[-1]], [0.3, 0.5, 1.3, 0.6]) * THRESHOLD
        frame = table(lambda s: sharp(rising) | {"residual_dot_outputs": 0 * STEPS - 1.0})
        assert outside("outputs_turn", frame) == "5 of 5 failed (DᵀF never turns positive)"

    def test_turn_is_undefined_without_a_finished_cycle(self):
        name, why = "outputs_turn", "it has no finished first cycle"
        for curve in (hover(0.8), np.minimum(120 + 3.0 * STEPS, 405)):
            frame = table(lambda s, c=curve: self.turning(0)(s) | sharp(c))
            assert undefined(name, frame) == why
        gone = table(lambda s: self.turning(0)(s) | DIVERGED)
        assert outside(name, gone) == "5 of 5 failed (it diverged at step 300)"

    @staticmethod
    def grown(exponent: float) -> pd.DataFrame:
        """Λ ∝ ‖A‖² to an exponent that differs from seed to seed by 1 %."""
        return table(
            lambda s: (
                sharp(edge(s))
                | {"output_norm_squared": (edge(s) / 100) ** (1 / exponent / (1 + 0.01 * (s - 2)))}
            )
        )

    def test_exponent(self):
        name = "output_norm_exponent"
        judged = judge(name, self.grown(1.0)).iloc[0]
        assert judged["verdict"] == "supported"
        assert judged["statistic"] == pytest.approx(1.0, abs=0.001)
        assert outcome(name, self.grown(2.0)) == "not supported"
        assert outcome(name, self.grown(0.5)) == "not supported"
        assert outcome(name, self.grown(1.25)) == "straddles"
        falling = table(lambda s: sharp(edge(s)) | {"output_norm_squared": 1 / edge(s)})
        why = "‖A‖² does not grow over ten records or more before the crossing"
        assert undefined(name, falling) == why
        above = table(lambda s: sharp(edge(s) + 300) | {"output_norm_squared": edge(s)})
        assert undefined(name, above) == why


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
        assert (judged.iloc[0]["least"], judged.iloc[0]["largest"]) == (-1, -1)
        assert judged.iloc[0]["verdict"] == "supported"
        rising = self.frame(lambda s: [0.5, 1, 2, 3])
        assert outcome(self.name, rising, FROZEN) == "not supported"
        mixed = self.frame(lambda s: [3, 2, 1, 0.4][:: 1 if s else -1])
        assert outcome(self.name, mixed, FROZEN) == "straddles"

    def test_undefined(self):
        cases = "it needs three cases, each with its own number of frozen layers"
        two = self.frame(lambda s: [3, 2])
        assert undefined(self.name, two, FROZEN) == cases
        ordered = self.frame(lambda s: [3.0, 2.0, 1.0, 0.4])
        missing = ordered[~((ordered["seed"] == 1) & (ordered["case"] != "frozen_0"))]
        assert undefined(self.name, missing, FROZEN) == cases
        early = self.frame(lambda s: [300.0, 2.0, 1.0, 0.4])
        assert undefined(self.name, early, FROZEN) == "a run crosses within 10 records"

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
        assert outcome(self.name, ordered, alike) == "undefined"

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
        assert judged.iloc[0]["median"] == pytest.approx(np.median(lowest))

    def test_a_net_that_never_gets_there_fails(self):
        slow = two_layer_linear.table(learning_rates=(0.1,))
        assert outside(self.name, slow) == "3 of 3 failed (it never reaches 2/η)"

    @pytest.mark.parametrize("level", [1.0, 1.3])
    def test_a_net_that_stays_up_fails(self, level):
        climb = np.minimum(100 + 2 * STEPS, level * THRESHOLD)
        assert outcome(self.name, table(lambda s: sharp(climb + 0.01 * s))) == "not supported"

    def test_a_run_that_starts_above_says_nothing(self):
        falling = table(lambda s: sharp(np.linspace(500 + s, 100, 600)))
        assert undefined(self.name, falling) == "it starts above 2/η"

    def test_a_diverged_run_never_returned(self):
        up = np.where(STEPS < 200, 100 + 3.0 * STEPS, np.nan)
        gone = table(lambda s: {**sharp(up), "diverged_step": np.array([200.0])})
        assert outside(self.name, gone) == "5 of 5 failed (it diverged at step 200)"

    def test_a_late_crossing_and_an_even_stride_are_undefined(self):
        late = table(lambda s: sharp(np.linspace(100, 401, 600)))
        assert undefined(self.name, late) == "it ends within 20 steps of its first crossing"
        assert undefined(self.name, even(two_layer_linear.table())) == EVEN


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
        assert judged["case"].tolist() == ["tanh"]
        assert judged.iloc[0]["statistic"] == pytest.approx(1.02, rel=1e-3)
        assert judged.iloc[0]["verdict"] == "supported"
        assert outcome(name, self.frame(lambda thr, s: 300)) == "not supported"
        assert outcome(name, self.frame(lambda thr, s: (0.7 + 0.15 * s) * thr)) == "straddles"

    def test_an_offset_is_nothing_to_the_slope_and_one_seed_has_none(self):
        frame = self.frame(lambda thr, s: 1.02 * thr + 30 + s)
        assert outcome("plateau_slope", frame) == "supported"
        assert judge("plateau_slope", frame[frame["seed"] == 0]).iloc[0]["reason"] == (
            "one seed has no spread"
        )

    def test_undefined(self):
        two = self.frame(lambda thr, s: thr, thresholds=(200, 400))
        assert undefined("plateau_slope", two) == "fewer than 3 learning rates were run"
        assert undefined("plateau_slope", even(self.frame(lambda thr, s: thr))) == EVEN

    def test_a_run_without_a_plateau_is_not_left_out(self):
        frame = self.frame(lambda thr, s: thr)
        bad = (frame["seed"] == 0) & (frame["width"] == 50) & (frame["step"] > 400)
        frame.loc[bad, "value"] = np.nan
        judged = judge("plateau_slope", frame).iloc[0]
        assert judged["verdict"] == "undefined"
        assert judged["reason"] == ("1 of 5 undefined (fewer than 50 steps follow the first cycle)")

    def test_a_diverged_run_fails_its_seed(self):
        frame = self.frame(lambda thr, s: thr)
        gone = rows(sharp(edge(0)) | DIVERGED, width=50, rate=2 / 200, seed=3)
        mark = gone[gone["quantity"] == "diverged_step"]
        why = outside("plateau_slope", pd.concat([frame, mark]))
        assert why == "1 of 5 failed (it diverged at step 300)"


class TestSurrogate:
    name = "surrogate_factor"

    @staticmethod
    def frame(
        factor: Callable[[int], np.ndarray | float],
        converged: np.ndarray | float = 1.0,
        early: int = 24,
    ) -> pd.DataFrame:
        """A surrogate `factor` times the Hessian's eigenvalue, but ten times at `early` steps."""

        def make(seed: int) -> Curves:
            ones = np.ones(600)
            return {
                "gauss_newton_sharpness": np.where(early > STEPS, 10, factor(seed)) * edge(seed),
                "hessian_sharpness": edge(seed),
                "gauss_newton_sharpness_converged": ones,
                "hessian_sharpness_converged": ones * converged,
            }

        return table(make)

    def test_within_the_factor_either_way(self):
        assert outcome(self.name, self.frame(lambda s: 1.1 + 0.001 * s)) == "supported"
        assert outcome(self.name, self.frame(lambda s: 1 / 1.1)) == "supported"

    def test_outside_it_either_way(self):
        assert outcome(self.name, self.frame(lambda s: 2.0)) == "not supported"
        assert outcome(self.name, self.frame(lambda s: 0.5)) == "not supported"
        assert outcome(self.name, self.frame(lambda s: 1.1, early=60)) == "not supported"
        assert outcome(self.name, self.frame(lambda s: 1.1 + 0.045 * s)) == "straddles"

    def test_what_is_not_positive_fails(self):
        for sign in (lambda s: -1.0, lambda s: np.where(STEPS == 300, 0.0, 1.0)):
            why = outside(self.name, self.frame(sign))
            assert why == "5 of 5 failed (an eigenvalue is not positive)"

    def test_undefined(self):
        quarter = np.where(STEPS % 4, 1.0, 0.0)
        assert undefined(self.name, self.frame(lambda s: 1.0, quarter)) == (
            "150 of 600 values of hessian_sharpness did not converge"
        )
        few = np.where(STEPS % 20, 1.0, 0.0)
        assert outcome(self.name, self.frame(lambda s: 1.0, few)) == "supported"
        frame = self.frame(lambda s: 1.0, early=0)
        short = frame[frame["step"] < 4]
        assert undefined(self.name, short) == "both were measured at fewer than 5 states"
        gone = rows({"diverged_step": DIVERGED["diverged_step"]}, seed=2)
        assert outcome(self.name, pd.concat([frame, gone])) == "straddles"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "freezing_slows"])
def test_a_run_that_diverged_at_once_never_supports(name):
    quantities = [
        "loss", "gauss_newton_sharpness", "output_norm_squared", "rest_norm_squared",
        "residual_along_v1", "residual_norm_squared", "residual_dot_outputs", "hessian_sharpness",
        "gauss_newton_sharpness_converged", "hessian_sharpness_converged", "stability_threshold",
    ]  # fmt: skip
    nothing = np.full(600, np.nan)
    frame = table(lambda s: dict.fromkeys(quantities, nothing) | {"diverged_step": [1.0]})
    assert outcome(name, frame) != "supported"
    frame = frame[frame["quantity"].isin(["diverged_step"])]
    known = rows(dict.fromkeys(quantities, nothing), seed=9)
    assert outcome(name, pd.concat([frame, known])) != "supported"
