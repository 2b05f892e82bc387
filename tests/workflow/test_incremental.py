"""An edit reruns what depends on it and nothing else: jobs counted by dry run."""

import os

EVALUATED = {"evaluate_sharpness", "aggregate", "judge_claims", "plot_figure"}
DENSE = "papers/li2022/experiments/dense.yaml"


def test_touching_files_reruns_nothing(tree):
    for path in [
        *tree.results.glob("data/*.safetensors"),
        *tree.results.rglob("states.safetensors"),
        tree.root / "scripts" / "train.py",
        tree.root / "sharpflow" / "training" / "train.py",
    ]:
        os.utime(path)
    assert tree.planned() == {}


def test_comment_and_docstring_rerun_nothing(tree):
    with tree.edited("sharpflow/training/train.py", '"""Training', '"""All of training'):
        assert tree.planned() == {}
    with tree.edited("sharpflow/curvature/eigen.py", "\n\n\n", "\n\n\n# a comment\n"):
        assert tree.planned() == {}


def test_figure_module_redraws_one_figure(tree):
    with tree.edited("papers/li2022/figures/residual.py", "TITLE = ", "EXTRA = 1\nTITLE = "):
        assert tree.planned() == {"plot_figure": 1, "report": 1, "manifest": 1}


def test_curvature_library_never_retrains(tree):
    with tree.edited("sharpflow/curvature/eigen.py", "import math", "import math\n\nEXTRA = 1"):
        jobs = tree.planned()
    everything = tree.planned("--forceall")
    assert jobs.keys() == everything.keys() - {"train", "generate_data"}
    assert jobs["evaluate_sharpness"] == everything["evaluate_sharpness"]


def test_training_code_retrains_and_spares_the_data(tree):
    with tree.edited("sharpflow/training/train.py", "import math", "import math\n\nEXTRA = 1"):
        jobs = tree.planned()
    assert jobs["train"] == tree.planned("--forceall")["train"]
    assert "generate_data" not in jobs


def test_claim_module_judges_only(tree):
    with tree.edited("papers/li2022/claims/residual.py", "RISE, ", "EXTRA = 1\nRISE, "):
        assert tree.planned() == {
            "judge_claims": 1, "collect_claims": 1, "report": 1, "manifest": 1,
        }  # fmt: skip


def test_one_experiment_leaves_the_others_alone(tree):
    shards = 4
    with tree.edited(DENSE, "gauss_newton: {every: 1}", "gauss_newton: {every: 1, tol: 0.001}"):
        jobs = tree.planned()
    assert "train" not in jobs
    assert jobs["evaluate_sharpness"] == shards
    assert jobs["aggregate"] == jobs["judge_claims"] == 1


def test_title_redraws_and_computes_nothing(tree):
    with tree.edited(DENSE, "title: Dense", "title: Wide dense"):
        assert tree.planned().keys() == {"plot_figure", "report", "manifest"}


def test_what_is_missing_in_between_is_made_again(tree):
    for name, rule in (
        ("states.safetensors", "train"),
        ("measurements.parquet", "evaluate_sharpness"),
    ):
        path = sorted(tree.results.glob(f"runs/dense/**/{name}"))[0]
        away = path.with_suffix(".away")
        path.rename(away)
        jobs = tree.planned()
        away.rename(path)
        assert jobs[rule] == jobs["aggregate"] == 1, name
    assert tree.planned() == {}


def _added(tree, old, new):
    with tree.edited("config/smoke.yaml", old, new):
        return tree.planned()


def test_adding_a_seed_a_width_or_a_learning_rate_adds_only_its_own_jobs(tree):
    seed = _added(tree, "    seeds: 2\n    seeds_per_job: 1", "    seeds: 3\n    seeds_per_job: 1")
    assert (seed["train"], seed["evaluate_sharpness"], seed["aggregate"]) == (2, 2, 1)
    assert seed["plot_figure"] < tree.planned("--forceall")["plot_figure"]
    width = _added(tree, "widths: [20]", "widths: [20, 30]")
    assert (width["train"], width["evaluate_sharpness"], width["aggregate"]) == (4, 4, 1)
    rate = _added(tree, "learning_rates: [0.005, 0.01]", "learning_rates: [5e-3, .01, 0.008]")
    assert (rate["train"], rate["evaluate_sharpness"], rate["aggregate"]) == (1, 1, 1)
