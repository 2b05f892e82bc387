"""The folder of docs/how-to/extending.md, outside the project, runs to its page by itself."""

import hashlib
from contextlib import ExitStack
from pathlib import Path

import own_folder
import pandas as pd
import pytest
from trees import Edit, Tree

from sharpflow.storage.parts import read_parts

AFTER = {"aggregate", "judge_claims", "collect_claims", "plot_figure", "report", "manifest"}
EVALUATED = AFTER | {"evaluate_sharpness"}
TRAINED = EVALUATED | {"train", "integrate_flow"}


def state_of(tree: Tree) -> dict[str, str]:
    """Checksums of the project's own files."""
    paths = [p for p in tree.root.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    made = ("results", ".snakemake")
    own = [p for p in paths if p.relative_to(tree.root).parts[0] not in made]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in own}


class Own:
    """The user's folder, and the project that runs it."""

    def __init__(self, tree: Tree, folder: Path):
        self.tree, self.folder = tree, folder
        self.before = state_of(tree)
        self.config = own_folder.make(folder)
        self.run = tree.snakemake("--cores", "2", config=str(self.config))

    def planned(self) -> dict[str, int]:
        """Jobs that a dry run would start."""
        run = self.tree.snakemake("-n", config=str(self.config))
        assert run.returncode == 0, run.stdout
        return self.tree.counted(run.stdout)

    def edited(self, name: str, old: str, new: str) -> Edit:
        return Edit(self.folder / name, old, new)


@pytest.fixture(scope="module")
def own(tree, tmp_path_factory) -> Own:
    return Own(tree, tmp_path_factory.mktemp("elsewhere") / "my folder")


def test_it_runs_to_its_page_and_the_project_is_as_it_was(own):
    assert own.run.returncode == 0, own.run.stdout[-3000:]
    results = own.tree.root / "results" / "mine"
    page = (results / "report" / "index.html").read_text()
    assert "A paper of my own" in page
    assert "Rings are told apart." in page
    assert (results / "figures" / "mine" / "loss.png").is_file()
    verdicts = pd.read_csv(results / "claims.csv")
    assert set(verdicts["claim"]) == {"spread_stays"}
    assert set(verdicts["figure"]) == {"loss"}
    table = read_parts(results / "tables" / "rings" / "runs" / "1-of-1.parquet")
    assert {"spread", "loss", "stability_threshold"} <= set(table["quantity"])
    loss = table[(table["quantity"] == "loss") & (table["case"] == "narrow")]
    assert loss.groupby("step")["value"].mean().diff().iloc[1] < 0
    assert state_of(own.tree) == own.before
    assert own.planned() == {}


EDITS = {
    "data/rings.py": (
        "angle = torch.arange",
        "angle = 1 * torch.arange",
        TRAINED | {"generate_data"},
    ),
    "models/bumps.py": ("gaps.square().sum(-1)", "gaps.square().sum(-1) * 1", TRAINED),
    "models/shared.py": ("-squared_distance", "-1 * squared_distance", TRAINED),
    "initialisations/spread_out.py": ("normal(w, ", "normal(w, 1 * ", TRAINED),
    "losses/log_cosh.py": ("error = outputs", "error = 1 * outputs", TRAINED),
    "schedules/linear_decay.py": ("nominal * (1.0", "nominal * 1 * (1.0", TRAINED),
    "optimisers/fixed_length.py": ("self.length / norm", "1 * self.length / norm", TRAINED),
    "flows/small_steps.py": ("float(before[", "1 * float(before[", EVALUATED | {"integrate_flow"}),
    "measurements/spread.py": (".mean())}", ".mean()) * 1}", EVALUATED),
    "claims/own.py": (
        "values[-1] / values[0]",
        "values[-1] / values[0] * 1",
        AFTER - {"aggregate", "plot_figure"},
    ),
    "figures/loss.py": ("(2.0, 2.0)", "(2.0, 2.1)", {"plot_figure", "report", "manifest"}),
    "experiments/rings.yaml": ("every: 2", "every: 5", EVALUATED),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_plans_just_what_depends_on_it(own, name):
    old, new, jobs = EDITS[name]
    with own.edited(name, old, new):
        assert own.planned().keys() == jobs


def test_comments_plan_nothing(own):
    with ExitStack() as edits:
        for name in EDITS:
            if name.endswith(".py"):
                edits.enter_context(own.edited(name, "\n\n\n", "\n\n\n# a remark\n"))
        assert own.planned() == {}


BROKEN = {
    "an option out of bounds": (
        "experiments/rings.yaml",
        "length: 0.5",
        "length: 50.0",
        ["optimiser.length", "50.0", "rings.yaml"],
    ),
    "an option that is none": (
        "experiments/rings.yaml",
        "centres: 5",
        "centers: 5",
        ["model.centers", "Did you mean 'centres'"],
    ),
    "a part that is none": (
        "experiments/rings.yaml",
        "kind: bumps",
        "kind: bumbs",
        ["'bumbs'", "Did you mean 'bumps'"],
    ),
    "no syntax": (
        "models/bumps.py",
        "class Bumps(Model):",
        "class Bumps(Model:",
        ["bumps.py", "line"],
    ),
    "no function": ("data/rings.py", "def generate", "def made", ["rings.py", "'generate'"]),
    "a claim on what is not measured": (
        "claims/own.py",
        'reads=["spread"]',
        'reads=["spred"]',
        ["'spread_stays'", "spred", "Did you mean 'spread'"],
    ),
    "no paper.yaml": ("config.yaml", "[.]", "[data]", ["paper.yaml", "data"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_mistake_is_one_paragraph_before_any_job(own, kind):
    name, old, new, fragments = BROKEN[kind]
    with own.edited(name, old, new):
        run = own.tree.snakemake("-n", config=str(own.config))
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    (message,) = [line for line in run.stdout.splitlines() if line.startswith("Error: ")]
    for fragment in fragments:
        assert fragment in message, message


FAILING = {
    "a file that fails to import": (
        "models/bumps.py",
        "from pydantic import Field\n",
        "import absent_package\nfrom pydantic import Field\n",
        "train",
        ["bumps.py, line", "absent_package"],
    ),
    "a wrong shape": (
        "models/bumps.py",
        '@ parameters["heights"]',
        '@ parameters["heights"].expand(-1, -1, 2)',
        "train",
        ["model.kind = 'bumps'", "(2, 2, 2)", "(2, 2, 1)"],
    ),
    "NaN": (
        "data/rings.py",
        '"targets": targets,',
        '"targets": targets / 0 * 0,',
        "generate_data",
        ["data.source = 'rings'", "targets", "NaN"],
    ),
    "targets of another length": (
        "data/rings.py",
        '"targets": targets,',
        '"targets": targets[1:],',
        "generate_data",
        ["data.source = 'rings'", "24", "23"],
    ),
    "a claim that fails": (
        "claims/own.py",
        "return values[-1]",
        "return values[99]",
        "judge_claims",
        ["own.py, line", "IndexError"],
    ),
    "a measurement that gives text": (
        "measurements/spread.py",
        '{"spread": float',
        '{"spread": str',
        "evaluate_sharpness",
        ["measurements.spread", "numbers"],
    ),
    "a figure that is none": (
        "figures/loss.py",
        "    return figure\n",
        "    return None\n",
        "plot_figure",
        ["loss", "NoneType", "matplotlib"],
    ),
}


@pytest.mark.parametrize("kind", FAILING)
def test_what_only_a_job_can_know_is_one_paragraph_too(own, kind):
    name, old, new, rule, fragments = FAILING[kind]
    with own.edited(name, old, new):
        run = own.tree.snakemake("--cores", "2", "--until", rule, config=str(own.config))
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    told = ("Error: ", "Failed: ")  # a figure does not take the page with it
    messages = [line for line in run.stdout.splitlines() if line.startswith(told)]
    assert messages
    for fragment in fragments:
        assert fragment in messages[0], messages[0]


def test_what_failed_is_made_again_once_it_is_mended(own):
    again = own.tree.snakemake("--cores", "2", config=str(own.config))
    assert again.returncode == 0, again.stdout[-2000:]
    assert own.planned() == {}
