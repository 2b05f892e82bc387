"""The tutorial, step by step: its files are written, its commands checked or run, as they stand."""

import itertools
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from docs_blocks import blocks, commands, pages
from trees import Tree, copy_project, starts

STEPS = [page for page in pages() if page.startswith("docs/tutorial/") and page[14].isdigit()]


class Study:
    """The reader's two folders; Snakemake plans in all steps and works in the last."""

    def __init__(self, folder: Path):
        self.tree: Tree = copy_project(folder / "sharpflow")
        self.folder = folder / "study"
        self.planned: dict[str, list[dict[str, int]]] = {}
        self.seen: set[tuple[str, ...]] = set()

    @property
    def results(self) -> Path:
        return self.folder / "results" / "study"

    def take(self, step: str) -> None:
        for block in blocks(step):
            if block.title:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            for words in commands(block) if block.language == "sh" else ():
                self.run(step, words)

    def run(self, step: str, words: list[str]) -> None:
        if words[0] == "python" or words[:2] == ["sharpflow", "verify"]:
            self.call(words)
            return
        state = ((self.folder / "config.yaml").read_text(), step, *words[1:2], *words[-1:])
        if words[-1] == "-n" or state in self.seen:
            return  # a look at a plan, before it is carried out
        self.seen.add(state)
        last = step == STEPS[-1] or words[1] == "check"
        at = words.index("--") if "--" in words else len(words)
        done = self.call([*words[:at], *([] if last else ["-n"]), *words[at:]])
        if not last:
            self.planned.setdefault(step, []).append(self.tree.counted(done))

    def call(self, words: list[str]) -> str:
        module = ["-m", "sharpflow"] if words[0] == "sharpflow" else []
        done = subprocess.run(
            [sys.executable, *module, *words[1:]],
            cwd=self.folder,
            env=starts().environment(PYTHONPATH=str(self.tree.root)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    study = Study(tmp_path_factory.mktemp("tutorial"))
    for step in STEPS:
        study.take(step)
    return study


def test_there_are_five_steps_and_each_goes_on_to_the_next():
    assert len(STEPS) == 5
    root = Path(__file__).resolve().parents[2]
    for page, following in itertools.pairwise(STEPS):
        assert f"({Path(following).name})" in (root / page).read_text(encoding="utf-8")


def test_each_step_plans_what_it_adds(study):
    trainings = {page: [jobs["train"] for jobs in plans] for page, plans in study.planned.items()}
    assert trainings == dict(zip(STEPS, [[1, 2], [3], [4], [4]], strict=False))
    assert "plot_figure" not in study.planned[STEPS[3]][0]


def test_the_last_step_ends_with_what_all_of_them_made(study):
    rows = pd.read_csv(study.results / "claims.csv")
    found = rows.groupby("experiment")["case"].unique().map(sorted).to_dict()
    assert found == {"dense": ["swish", "tanh"], "tumours": ["dense", "residual"]}
    own = rows[rows["claim"] == "most_is_learnt_before"].set_index("case")
    assert set(own.index) == {"dense", "residual"}
    assert (own["median"].dropna() <= 1).all()
    rise = rows[(rows["claim"] == "progressive_sharpening") & (rows["experiment"] == "tumours")]
    (reason,) = rise[rise["case"] == "dense"]["reason"]
    assert "fewer than 10 records" in reason
    level = rows[rows["claim"] == "edge_of_stability"]
    assert level["median"].between(0.85, 1.15).all()
    for figure in ("li2022/output_norm", "study/output_norm", "study/approach"):
        assert (study.results / "figures" / f"{figure}.png").is_file()
    page = (study.results / "report" / "index.html").read_text(encoding="utf-8")
    assert "A study of my own" in page
    assert "what is learnt before the edge" in page
    assert "The approach to the edge of stability" in page
