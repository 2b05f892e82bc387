"""Every claim on data that must be supported, on data that must not, and on undecided data."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import synthetic_noise as noise
from specs import ROOT, TYPES
from synthetic_runs import claim

from sharpflow.claims import base
from sharpflow.config import load, make_plan
from sharpflow.results import noise as noise_of
from sharpflow.results.runs import runs_of

SUPPORTED = {
    "matrix_factorisation": [
        "equilibrium_reached",
        "gd_stays_unbalanced",
        "equilibrium_initialisation_free",
        "exponential_approach",
        "gd_charge_conserved",
    ],
    "equilibrium": ["equilibrium_closed_form", "plain_balance_excluded", "gd_stays_unbalanced"],
    "data_covariance": [
        "data_norm_ratio",
        "isotropic_balance",
        "anisotropic_imbalance",
        "weight_decay_balances",
        "gd_charge_conserved",
    ],
    "sharpening": ["sharpening_direction", "sharpening_absent", "gd_trace_still"],
    "warmup": ["warmup_divergence", "warmup_same_end", "warmup_gd_unchanged"],
    "normalisation": ["norm_growth_rate", "norm_growth_exponent", "gd_norm_still"],
    "scale_invariance": ["spiral_radius", "gd_norm_still"],
    "representations": [
        "representations_align",
        "representations_gd_apart",
        "representations_weighting",
    ],
    "convergence_speed": [
        "rate_learning_rate",
        "rate_batch",
        "rate_width",
        "rate_prefactor",
        "gd_charge_conserved",
    ],
    "noether_flow": [
        "noether_flow_ratio",
        "noether_flow_discrete_term",
        "noether_flow_weighted",
    ],
}
NAMES = sorted({name for names in SUPPORTED.values() for name in names})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: make() for name, make in noise.EXPERIMENTS.items()}


def outcome(name: str, table: pd.DataFrame) -> str:
    return judged(name, table).iloc[-1]["verdict"]


def judged(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return base.judge(claim(name), "ziyin2024", "", "synthetic", table, noise.CASES)


def swap(table: pd.DataFrame, old: str, new: str) -> pd.DataFrame:
    """The runs of one method under the other's names: GD's data in place of SGD's."""
    kept = table[table["case"].str.contains(rf"(?:^|_){old}(?:_|$)")]
    return kept.assign(case=kept["case"].str.replace(old, new))


def edit(
    table: pd.DataFrame, quantity: str, change: Callable[[pd.DataFrame], pd.Series], case: str = ""
) -> pd.DataFrame:
    """The table with the values of one quantity replaced, in the cases that contain a text."""
    table = table.copy()
    chosen = (table["quantity"] == quantity) & table["case"].str.contains(case)
    assert chosen.any()
    table.loc[chosen, "value"] = change(table[chosen])
    return table


def scatter(table: pd.DataFrame, quantity: str, factors: tuple[float, float], case: str = ""):
    """Factors, by turns, on a quantity of even and odd seeds, so that no verdict is possible."""
    return edit(
        table,
        quantity,
        lambda rows: rows["value"] * np.where(rows["seed"] % 2, factors[1], factors[0]),
        case,
    )


def shifted(table: pd.DataFrame, quantity: str, levels: tuple[float, float], case: str = ""):
    """Levels, by turns, in place of a quantity of even and odd seeds."""
    return edit(
        table, quantity, lambda rows: np.where(rows["seed"] % 2, levels[1], levels[0]), case
    )


def halves(make: Callable[..., pd.DataFrame], key: str, *values: float) -> pd.DataFrame:
    """Even seeds of the table made with one value, odd seeds of that with another."""
    made = [make(**{key: value}) for value in values]
    return pd.concat([table[table["seed"] % 2 == odd] for odd, table in enumerate(made)])


@pytest.mark.parametrize(
    ("experiment", "name"), [(e, name) for e, names in SUPPORTED.items() for name in names]
)
def test_supported_by_the_theory(tables, experiment, name):
    assert outcome(name, tables[experiment]) == "supported"


def test_every_claim_of_the_paper_is_here_and_stands_at_a_figure(monkeypatch):
    assert set(NAMES) == set(TYPES.registry.declared("claims", "ziyin2024"))
    monkeypatch.chdir(ROOT)
    plan = make_plan(load("config/config.yaml"))
    figures = {
        verdict.name: verdict.figure
        for experiment, verdicts in plan.claims.items()
        if plan.settings[experiment]["paper"] == "ziyin2024"
        for verdict in verdicts
    }
    assert set(figures) == set(NAMES)
    assert set(figures.values()) == {
        "scale_invariance",
        "matrix_factorisation",
        "data_covariance",
        "warmup",
        "normalisation",
        "representations",
        "convergence_speed",
        "noether_flow",
    }


@pytest.mark.parametrize(
    ("name", "experiment"),
    [
        ("equilibrium_reached", "matrix_factorisation"),
        ("exponential_approach", "matrix_factorisation"),
        ("equilibrium_initialisation_free", "matrix_factorisation"),
        ("equilibrium_closed_form", "equilibrium"),
        ("data_norm_ratio", "data_covariance"),
        ("isotropic_balance", "data_covariance"),
        ("sharpening_direction", "sharpening"),
        ("norm_growth_exponent", "normalisation"),
        ("representations_align", "representations"),
        ("spiral_radius", "scale_invariance"),
    ],
)
def test_gd_in_place_of_sgd_is_not_supported(tables, name, experiment):
    assert outcome(name, swap(tables[experiment], "gd", "sgd")) == "not supported"


@pytest.mark.parametrize(
    ("name", "experiment"),
    [
        ("gd_stays_unbalanced", "matrix_factorisation"),
        ("gd_charge_conserved", "matrix_factorisation"),
        ("gd_trace_still", "sharpening"),
        ("gd_norm_still", "normalisation"),
        ("gd_norm_still", "scale_invariance"),
        ("representations_gd_apart", "representations"),
    ],
)
def test_sgd_in_place_of_gd_is_not_supported(tables, name, experiment):
    assert outcome(name, swap(tables[experiment], "sgd", "gd")) == "not supported"


class TestEquilibrium:
    def test_the_unweighted_balance_in_place_of_the_weighted(self):
        plain = noise.equilibrium(closed=0.5, plain=0.045)
        assert outcome("equilibrium_closed_form", plain) == "not supported"
        assert outcome("plain_balance_excluded", plain) == "not supported"

    def test_undecided(self):
        near = noise.equilibrium(closed=0.0585, plain=0.3)
        assert outcome("equilibrium_closed_form", near) == "inconclusive"
        near = scatter(near, "plain_balance_error", (0.8, 1.3))
        assert outcome("plain_balance_excluded", near) == "inconclusive"

    def test_reached(self, tables):
        table = tables["matrix_factorisation"]
        levels = shifted(table, "noise_imbalance", (0.05, 0.14), "sgd_small_w")
        assert outcome("equilibrium_reached", levels) == "inconclusive"
        one_start = edit(table, "noise_imbalance", lambda rows: 0 * rows["value"] + 0.3, "sgd_bal")
        assert outcome("equilibrium_reached", one_start) == "not supported"

    def test_initialisation_free(self, tables):
        table = tables["matrix_factorisation"]
        apart = edit(table, "norm_squared", lambda rows: 1.2 * rows["value"], "sgd_small_w")
        name = "equilibrium_initialisation_free"
        assert outcome(name, apart) == "not supported"
        assert outcome(name, table[table["case"] == "sgd_small_u"]) == "inconclusive"
        assert outcome(name, scatter(table, "norm_squared", (1.0, 1.1), "sgd_small_w")) == (
            "inconclusive"
        )

    def test_gd_stays_unbalanced(self, tables):
        table = tables["matrix_factorisation"]
        name = "gd_stays_unbalanced"
        assert outcome(name, shifted(table, "noise_imbalance", (0.4, 0.6), "gd_small_u")) == (
            "inconclusive"
        )
        idle = edit(table, "loss", lambda rows: 0 * rows["value"] + 90)
        assert outcome(name, idle) == "inconclusive"

    def test_a_start_that_never_moves_conserves_nothing(self, tables):
        table = tables["matrix_factorisation"]
        idle = edit(table, "loss", lambda rows: 0 * rows["value"] + 90)
        assert outcome("gd_charge_conserved", idle) == "inconclusive"

    @pytest.mark.parametrize(
        "share", [lambda t: 1 - 0.95 * t, lambda t: 1 / (1 + 20 * t)], ids=["straight", "1/t"]
    )
    def test_an_approach_that_is_not_exponential(self, share):
        assert outcome("exponential_approach", noise.factorisation(share)) == "not supported"

    def test_an_approach_that_is_on_its_way(self):
        table = noise.factorisation(lambda t: np.exp(-1.5 * t))
        assert outcome("exponential_approach", table) == "inconclusive"

    def test_divergence_fails_and_of_one_seed_leaves_doubt(self, tables):
        table = tables["matrix_factorisation"]
        gone = table[(table["quantity"] == "loss") & (table["step"] == 6000)]
        gone = gone.assign(quantity="diverged_step", value=6000.0)
        gone = gone[gone["case"].str.startswith("sgd")]
        for name in ("equilibrium_reached", "exponential_approach"):
            assert outcome(name, pd.concat([table, gone])) == "not supported"
            one = pd.concat([table, gone[gone["seed"] == 3]])
            assert outcome(name, one) == "inconclusive"


class TestDataCovariance:
    def test_the_plain_balance_fails(self):
        plain = noise.data_covariance("plain")
        assert outcome("data_norm_ratio", plain) == "not supported"
        assert outcome("anisotropic_imbalance", plain) == "not supported"
        assert outcome("isotropic_balance", plain) == "supported"

    def test_no_approach_fails(self):
        assert outcome("data_norm_ratio", noise.data_covariance("nowhere")) == "not supported"

    def test_a_wrong_prediction_fails(self, tables):
        wrong = edit(
            tables["data_covariance"], "norm_ratio_predicted", lambda rows: rows["value"] ** 2
        )
        assert outcome("data_norm_ratio", wrong) == "not supported"

    def test_undecided(self, tables):
        table = tables["data_covariance"]
        outer = (table["quantity"] == "norm_squared") & (table["index"] == 1)
        uneven = table.copy()
        uneven.loc[outer, "value"] *= np.where(uneven.loc[outer, "seed"] % 2, 0.9, 1.12)
        for name in ("data_norm_ratio", "isotropic_balance", "weight_decay_balances"):
            assert outcome(name, uneven) == "inconclusive"
        assert outcome("anisotropic_imbalance", uneven) == "inconclusive"

    def test_without_weight_decay_gd_does_not_balance(self, tables):
        table = tables["data_covariance"]
        plain = table[table["case"].str.startswith("gd_phi")]
        plain = plain.assign(case=plain["case"].str.replace("gd_phi", "gd_decay_phi"))
        assert outcome("weight_decay_balances", plain) == "not supported"


class TestSharpening:
    def test_wrong_sign_and_wrong_size_fail(self):
        for reached in (-1.0, 0.2, 2.0):
            assert outcome("sharpening_direction", noise.sharpening(reached)) == "not supported"
        uneven = halves(noise.sharpening, "reached", 0.3, 0.8)
        assert outcome("sharpening_direction", uneven) == "inconclusive"

    def test_absent(self, tables):
        for name, method in (("sharpening_absent", "sgd_k_1$"), ("gd_trace_still", "gd_k")):
            table = tables["sharpening"]
            grown = edit(
                table,
                "hessian_trace",
                lambda rows: rows["value"] * (1 + 0.2 * (rows["step"] > 0)),
                method,
            )
            assert outcome(name, grown) == "not supported"
            uneven = edit(
                table,
                "hessian_trace",
                lambda rows: rows["value"] * (1 + 0.1 * (rows["step"] > 0) * (rows["seed"] % 2)),
                method,
            )
            assert outcome(name, uneven) == "inconclusive"


class TestWarmup:
    def test_divergence(self):
        name = "warmup_divergence"
        assert outcome(name, noise.warmup(diverging=0)) == "not supported"
        assert outcome(name, noise.warmup(diverging=noise.SEEDS - 1)) == "inconclusive"
        assert outcome(name, noise.warmup(diverging=1)) == "not supported"
        alone = noise.warmup()
        assert outcome(name, alone[alone["case"] != "sgd_kaiming_warmup"]) == "inconclusive"

    def test_same_end(self, tables):
        assert outcome("warmup_same_end", noise.warmup(ratio=1.6)) == "not supported"
        uneven = halves(noise.warmup, "ratio", 1.0, 1.5)
        assert outcome("warmup_same_end", uneven) == "inconclusive"
        table = tables["warmup"]
        gd = table[table["case"].isin(["gd_kaiming", "sgd_xavier"])]
        gd = gd.assign(case=gd["case"].str.replace("gd_kaiming", "sgd_kaiming_warmup"))
        assert outcome("warmup_same_end", gd) == "not supported"

    def test_gd_unchanged(self, tables):
        table = tables["warmup"]
        sgd = table[table["case"] == "sgd_kaiming_warmup"].assign(case="gd_kaiming")
        assert outcome("warmup_gd_unchanged", sgd) == "not supported"
        uneven = edit(
            table,
            "hessian_trace",
            lambda rows: rows["value"] * (1 - 0.3 * (rows["step"] > 0) * (rows["seed"] % 2)),
        )
        assert outcome("warmup_gd_unchanged", uneven) == "inconclusive"


class TestNormalisation:
    def test_growth_rate(self, tables):
        name = "norm_growth_rate"
        assert outcome(name, noise.normalisation(factor=1.2)) == "not supported"
        uneven = halves(noise.normalisation, "factor", 0.95, 1.15)
        assert outcome(name, uneven) == "inconclusive"

    @pytest.mark.parametrize("power", [0.25, 1.0])
    def test_a_wrong_power(self, power):
        table = noise.normalisation(power)
        assert outcome("norm_growth_exponent", table) == "not supported"

    def test_undecided(self, tables):
        name = "norm_growth_exponent"
        assert outcome(name, halves(noise.normalisation, "power", 0.4, 0.6)) == "inconclusive"
        short = tables["normalisation"]
        assert outcome(name, short[short["step"] < 14]) == "inconclusive"
        uneven = edit(
            short,
            "norm_squared",
            lambda rows: rows["value"] * (1 + 0.14 * (rows["step"] > 0) * (rows["seed"] % 2)),
        )
        assert outcome("gd_norm_still", uneven) == "inconclusive"

    def test_radius(self, tables):
        assert outcome("spiral_radius", noise.scale_invariance(1.2)) == "not supported"
        uneven = scatter(tables["scale_invariance"], "norm_squared", (0.8, 1.2))
        assert outcome("spiral_radius", uneven) == "inconclusive"


class TestRepresentations:
    def test_undecided(self, tables):
        table = tables["representations"]
        uneven = shifted(table, "alignment", (0.5, 0.9))
        for name in ("representations_align", "representations_gd_apart"):
            assert outcome(name, uneven) == "inconclusive"
        assert outcome("representations_weighting", uneven) == "inconclusive"

    def test_isotropic_data_cannot_tell_the_weights(self):
        same = noise.representations(plain=0.95)
        assert outcome("representations_weighting", same) == "not supported"
        assert outcome("representations_align", same) == "supported"


class TestConvergenceSpeed:
    @pytest.mark.parametrize(
        ("name", "key", "wrong", "low", "high"),
        [
            ("rate_learning_rate", "eta", 1.6, 1.8, 2.2),
            ("rate_batch", "batch", -0.7, -1.2, -0.8),
            ("rate_width", "width", -0.2, -0.1, 0.1),
            ("rate_prefactor", "lift", 1.5, 0.95, 1.35),
        ],
    )
    def test_verdicts(self, name, key, wrong, low, high):
        assert outcome(name, noise.convergence_speed(**{key: wrong})) == "not supported"
        assert outcome(name, halves(noise.convergence_speed, key, low, high)) == "inconclusive"

    def test_gd_has_no_rate(self, tables):
        table = tables["convergence_speed"]
        still = edit(
            table,
            "norm_squared",
            lambda rows: np.where(rows["index"] == 0, 4.9, 1.0),
        )
        for name in ("rate_learning_rate", "rate_batch", "rate_width", "rate_prefactor"):
            assert outcome(name, still) == "not supported"

    def test_a_run_that_is_too_short_is_not_left_out(self, tables):
        table = tables["convergence_speed"]
        end = table.groupby(["case", "width", "learning_rate", "seed"])["step"].transform("max")
        cut = table[(table["step"] < 0.25 * end) | (table["seed"] != 4)]
        for name in ("rate_learning_rate", "rate_batch", "rate_width", "rate_prefactor"):
            assert outcome(name, cut) == "inconclusive"

    def test_the_scale_of_the_norms_is_nothing_to_the_rate(self, tables):
        table = tables["convergence_speed"]
        scaled = edit(table, "norm_squared", lambda rows: 7 * rows["value"])
        pd.testing.assert_frame_equal(*(judged("rate_batch", given) for given in (table, scaled)))


class TestNoetherFlow:
    def test_ratio(self, tables):
        name = "noether_flow_ratio"
        assert outcome(name, noise.noether_flow(bias=1.05)) == "not supported"
        assert outcome(name, halves(noise.noether_flow, "bias", 1.0, 1.04)) == "inconclusive"
        table = tables["noether_flow"]
        parts = table[table["quantity"] != "flow_predicted"]
        for other in ("flow_sde", "flow_unweighted"):
            wrong = table[table["quantity"] == other].assign(quantity="flow_predicted")
            wrong = pd.concat([parts[parts["case"].isin(wrong["case"])], wrong])
            assert outcome(name, wrong) == "not supported"

    def test_isotropic_data_cannot_tell_the_weights(self, tables):
        name = "noether_flow_weighted"
        assert outcome(name, noise.noether_flow(weighting=1.0)) == "not supported"
        assert outcome(name, halves(noise.noether_flow, "weighting", 1.1, 1.3)) == "inconclusive"
        table = tables["noether_flow"]
        wide = table[table["case"] == "isotropic"].assign(case="narrow")
        assert outcome(name, wide) == "not supported"

    def test_what_fails_at_one_point_alone_fails(self, tables):
        table = tables["noether_flow"].copy()
        row = (table["quantity"] == "flow_measured") & (table["index"] == 0)
        table.loc[row, "value"] *= 0.9
        assert outcome("noether_flow_ratio", table) == "not supported"

    def test_discrete_term(self):
        name = "noether_flow_discrete_term"
        assert outcome(name, noise.noether_flow(discrete=0.0)) == "not supported"
        assert outcome(name, noise.noether_flow(discrete=0.02)) == "inconclusive"
        assert outcome(name, noise.noether_flow(discrete=-0.08)) == "supported"


class TestHelpers:
    @pytest.mark.parametrize("rate", [1e-4, 3e-3])
    @pytest.mark.parametrize("target", [0.0, -6.0])
    def test_rate_of_an_exponential(self, rate, target):
        steps = np.arange(0, int(4 / rate), int(0.05 / rate))
        distance = -4 * np.exp(-rate * steps)
        values = {
            ("norm_squared", 0): np.full(steps.size, 9.0),
            ("norm_squared", 1): 9 + target + distance,
            ("closed_norm_squared", 0): 9.0,
            ("closed_norm_squared", 1): 9.0 + target,
        }
        (found,) = runs_of(noise.run("eta", 0, steps, values), {})
        assert noise_of.decay_rate(found) == pytest.approx(rate, rel=1e-9)
        share = noise_of.charge_decay(found)[1]
        np.testing.assert_allclose(share, np.exp(-rate * steps), rtol=1e-9)

    def test_tail_is_the_last_fifth_of_the_steps_not_of_the_entries(self):
        steps = np.array([0, 1, 2, 4, 8, 16, 32, 64, 80, 100])
        values = {"loss": np.ones(10), "alignment": np.arange(10.0)}
        (found,) = runs_of(noise.run("sgd", 0, steps, values), {})
        assert noise_of.tail_mean(found, "alignment") == 8.5

    def test_goodness_of_a_line(self):
        x = np.linspace(0, 1, 50)
        assert noise_of.goodness_of_line(x, 3 - 2 * x) == pytest.approx(1)
        assert noise_of.goodness_of_line(x, np.exp(-x)) < 0.999
        assert np.isnan(noise_of.goodness_of_line(x, np.ones(50)))
