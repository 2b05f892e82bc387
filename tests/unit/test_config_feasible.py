"""What nothing can feed is refused before any job, with the name of what would help."""

import pytest
import yaml
from config_folder import EXPERIMENT, PAPER, ConfigFolder, edited

from sharpflow.config import load
from sharpflow.errors import ConfigError

ZIYIN = PAPER.parent / "ziyin2024"
GAUSSIAN = {
    "data": {"source": "gaussian", "inputs": 4, "outputs": 4},
    "model": {"kind": "two_layer"},
    "training": {"steps": 10, "batch": 2},
    "cases": {"sgd_small_u": {}},
    "figures": [],
    "claims": [],
    "measurements": {"noise_balance": {}},
}


@pytest.fixture
def config_folder(tmp_path):
    return ConfigFolder(tmp_path)


def refusal(config_folder, document, **top):
    """The message of load()."""
    papers = [str(PAPER), str(ZIYIN)]
    config_folder.write(document, **{"papers": papers} | top)
    with pytest.raises(ConfigError) as caught:
        load(config_folder.file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(config_folder.dense) in message
    return message


def holds(message, *fragments):
    for fragment in fragments:
        assert fragment in message, message


def test_a_claim_that_nothing_feeds_names_the_measurement(config_folder):
    message = refusal(config_folder, {"measurements": {"hessian": {}}})
    holds(message, "'edge_of_stability'", "gauss_newton_sharpness", "measurements.gauss_newton")


def test_a_claim_of_another_papers_networks_on_an_image_net(config_folder):
    message = refusal(
        config_folder,
        {"claims": ["equilibrium_reached"], "cases": {"sgd_a": {}}, "paper": "ziyin2024"},
    )
    holds(message, "'equilibrium_reached'", "noise_imbalance", "measurements.noise_balance")


def test_a_measurement_on_networks_that_it_is_not_of(config_folder):
    message = refusal(config_folder, {"measurements": {"noise_balance": {}}})
    holds(message, "measurements.noise_balance needs 'linear two layers'", "model.kind = two_layer")


SIGNS = '''"""Steps of one size in every parameter."""

from sharpflow.parts.options import OptimiserOptions


class Options(OptimiserOptions):
    """θ ← θ − η sign ∇L."""


def build(options, weight_decay, clip_norm):
    raise NotImplementedError
'''


def test_a_rule_of_ones_own_whose_metric_is_not_known(config_folder, tmp_path):
    mine = tmp_path / "mine"
    (mine / "optimisers").mkdir(parents=True)
    (mine / "paper.yaml").write_text("key: mine\ntitle: Mine\nauthors: Me\nfigures: []\n")
    (mine / "optimisers" / "signs.py").write_text(SIGNS)
    document = {"measurements": {"gauss_newton": {}, "preconditioned_hessian": {}}}
    papers = [str(PAPER), str(mine)]
    config_folder.write(document, papers=papers)
    load(config_folder.file)  # of gradient descent P is the identity
    message = refusal(config_folder, document | {"optimiser": "signs"}, papers=papers)
    holds(
        message,
        "measurements.preconditioned_hessian needs 'preconditioner' or 'rotation invariant'",
        "optimiser.kind = adam",
        "optimiser.kind = sgd",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": "adam"}, ("'linear steps'", "optimiser.kind = heavy_ball")),
        ({"training": {"clip_norm": 1.0}}, ("'unclipped steps'",)),
    ],
)
def test_the_law_of_sgd_for_charges_is_for_steps_that_are_sums_of_gradients(
    config_folder, changes, words
):
    asked = {"measurements": {"gauss_newton": {}, "symmetry_noise": {}}}
    message = refusal(config_folder, asked | changes, papers=[str(PAPER)])
    holds(message, "measurements.symmetry_noise needs", *words)
    without = {"measurements": {"gauss_newton": {}, "symmetry_noise": {"law": None}}}
    config_folder.write(without | changes, papers=[str(PAPER)])
    load(config_folder.file)


def test_a_misspelt_case_has_its_neighbour_named(config_folder):
    cases = {"sdg_small_u": {}}
    message = refusal(
        config_folder,
        GAUSSIAN | {"cases": cases, "claims": ["equilibrium_reached"], "paper": "ziyin2024"},
    )
    holds(message, "'equilibrium_reached'", "sgd_*", "sdg_small_u")


def test_a_figure_that_nothing_feeds_names_the_measurement(config_folder):
    document = {"figures": ["surrogate"], "measurements": {"gauss_newton": {}}}
    holds(
        refusal(config_folder, document),
        "'surrogate'",
        "hessian_sharpness",
        "measurements.hessian",
    )


def test_a_figure_is_fed_by_any_of_its_experiments(config_folder):
    document = {"figures": ["surrogate"], "measurements": {"gauss_newton": {}}}
    other = EXPERIMENT | {"figures": ["surrogate"]}
    (config_folder.experiments / "other.yaml").write_text(yaml.safe_dump(other))
    config_folder.write(document, experiments=["dense_here", "other"])
    assert len(load(config_folder.file).figures["dense_here"]) == 1


def with_a_claim_and_its_control(folder, cases):
    """A paper's claim that is about all cases but `slow*`, on which it must fail."""
    (folder / "claims").mkdir(parents=True)
    (folder / "paper.yaml").write_text("key: mine\ntitle: Mine\n")
    (folder / "claims" / "own.py").write_text(
        "from sharpflow.claims.base import claim\n\n\n"
        "@claim(statement='', band=(0, 1), method='', reads=['hessian_sharpness'],\n"
        "       controls=['slow*'])\n"
        "def own(run):\n    return 0.5\n"
    )
    return {"claims": ["own"], "paper": "mine", "cases": cases, "measurements": {"hessian": {}}}


def test_a_claim_of_which_there_are_controls_alone(config_folder, tmp_path):
    document = with_a_claim_and_its_control(tmp_path / "mine", {"slow": {}})
    message = refusal(config_folder, document, papers=[str(PAPER), str(tmp_path / "mine")])
    holds(message, "'own'", "the cases * but its controls slow*", "there are only slow")


def test_a_control_that_does_not_measure_what_the_claim_reads(config_folder, tmp_path):
    cases = {"fast": {}, "slow": {"measurements": {"hessian": None}}}
    document = with_a_claim_and_its_control(tmp_path / "mine", cases)
    message = refusal(config_folder, document, papers=[str(PAPER), str(tmp_path / "mine")])
    holds(message, "'own'", "reads hessian_sharpness", "the case 'slow' does not measure it")


def test_a_quantity_that_no_measurement_gives(config_folder, tmp_path):
    paper = tmp_path / "mine"
    (paper / "claims").mkdir(parents=True)
    (paper / "paper.yaml").write_text("key: mine\ntitle: Mine\n")
    (paper / "claims" / "own.py").write_text(
        "from sharpflow.claims.base import claim\n\n\n"
        "@claim(statement='', band=(0, 1), method='', reads=['hessian_sharpnes'])\n"
        "def own(run):\n    return 0.5\n"
    )
    message = refusal(
        config_folder,
        {"claims": ["own"], "paper": "mine"},
        papers=[str(PAPER), str(paper)],
    )
    holds(message, "No measurement gives 'hessian_sharpnes'", "Did you mean 'hessian_sharpness'")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (EXPERIMENT | {"training": {"sampling": "epochs"}}, "training.batch = null takes all"),
        (
            GAUSSIAN
            | {"paper": "ziyin2024", "training": {"steps": 3, "batch": 2, "sampling": "epochs"}},
            "data.samples = null has no end",
        ),
    ],
)
def test_epochs_of_what_has_none(config_folder, document, why):
    message = refusal(config_folder, document)
    holds(message, "training.sampling = 'epochs' is for batches of a finite dataset", why)


def test_an_initialisation_on_networks_that_it_is_not_of(config_folder):
    message = refusal(config_folder, edited(EXPERIMENT, ["model", "initialisation"], "balanced"))
    holds(message, "model.initialisation = 'balanced' needs 'two layers'")


def test_gradient_descent_on_a_population_without_a_closed_form(config_folder):
    document = GAUSSIAN | {
        "model": {"kind": "two_layer", "activation": "tanh"},
        "training": {"steps": 10},
        "measurements": {},
        "paper": "ziyin2024",
    }
    holds(refusal(config_folder, document), "training.batch = null", "data.samples")


def test_matrices_of_a_seed_that_is_not_run(config_folder):
    document = GAUSSIAN | {"measurements": {"representations": {"grams_of": 100}}}
    holds(
        refusal(config_folder, document),
        "measurements.representations",
        "grams_of = 100",
        "seeds, 0 to 3",
    )


def test_data_of_a_form_that_the_network_does_not_take(config_folder):
    holds(
        refusal(config_folder, GAUSSIAN | {"model": {"kind": "cnn"}}),
        "data.source = 'gaussian'",
        "model.kind = 'cnn'",
        "population",
    )


@pytest.mark.parametrize("key", ["report", "train"])
def test_a_paper_is_not_called_like_a_target(config_folder, tmp_path, key):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "paper.yaml").write_text(f"key: {key}\ntitle: x\n")
    config_folder.write(papers=[str(tmp_path / "p")])
    with pytest.raises(ConfigError, match=f"'{key}' is the name of one of the workflow's targets"):
        load(config_folder.file)


def test_two_experiments_of_one_name(config_folder):
    (config_folder.experiments / "dense.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    config_folder.write()
    with pytest.raises(ConfigError, match="Two experiments are called 'dense'"):
        load(config_folder.file)
