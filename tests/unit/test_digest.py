"""Digests of code: blind to comments and layout, and to what a job does not import."""

import ast
import hashlib
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from sharpflow.config.digest import Code, canonical
from sharpflow.storage import seal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("code")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("sharpflow", "scripts", "papers"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    return root


class Copy:
    """A copy of the code that a test may edit."""

    def __init__(self, root):
        self.root = root
        self.originals = {}

    def digest(self, script, *entries):
        code = Code({"li2022": self.root / "papers" / "li2022"}, self.root)
        return code.digest(self.root / "scripts" / script, entries)

    def train(self):
        return self.digest("train.py", "sharpflow.models.mlp")

    def evaluate(self):
        return self.digest("evaluate_sharpness.py", "sharpflow.measurements.gauss_newton")

    def figure(self):
        return self.digest("plot_figure.py", "papers.li2022.figures.phases")

    def edit(self, name, change):
        """Replace a file's text by `change` of it."""
        path = self.root / name
        text = path.read_text()
        assert change(text) != text
        self.originals.setdefault(path, text)
        path.write_text(change(text))

    def restore(self):
        """Undo every edit."""
        for path, text in self.originals.items():
            path.write_text(text)


@pytest.fixture
def copy(pristine):
    code = Copy(pristine)
    yield code
    code.restore()


def test_a_digest_is_stable_and_belongs_to_the_code_not_the_folder(copy):
    first = copy.train()
    assert first == copy.train()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert len({copy.train(), copy.evaluate(), copy.figure()}) == 3


LAYOUT = {
    "comment": lambda text: text + "\n# a remark at the end\n",
    "comment inside": lambda text: text.replace("\n    ", "\n    # a remark\n    ", 1),
    "blank lines": lambda text: text.replace("\n\n\n", "\n\n\n\n\n"),
    "module docstring": lambda text: text.replace('"""', '"""Reworded. ', 1),
    "every docstring": lambda text: text.replace('"""', '"""Again: ').replace(
        '"""Again: \n', '"""\n'
    ),
}


@pytest.mark.parametrize("kind", LAYOUT)
@pytest.mark.parametrize("name", ["sharpflow/training/streams.py", "sharpflow/losses/base.py"])
def test_comments_docstrings_and_layout_do_not_change_it(copy, kind, name):
    before = copy.train()
    copy.edit(name, LAYOUT[kind])
    ast.parse((copy.root / name).read_text())
    assert copy.train() == before


def test_reformatting_does_not_change_it(copy):
    before = copy.train()
    copy.edit("sharpflow/training/streams.py", lambda text: ast.unparse(ast.parse(text)))
    assert copy.train() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scripts/train.py", '"states"', '"state"'),
        ("sharpflow/storage/states.py", '"steps"', '"step"'),
        ("sharpflow/training/streams.py", "BLOCK = 50", "BLOCK = 51"),
        ("sharpflow/training/streams.py", "number >> 1", "number >> 2"),
        ("sharpflow/training/__init__.py", '"train"]', '"train", "BLOCK"]'),
        ("sharpflow/models/mlp/__init__.py", "hidden @ weight", "hidden @ (weight)* 1"),
        ("sharpflow/models/activations.py", "torch.tanh(z)", "torch.sin(z)"),
        ("sharpflow/storage/tensors.py", "sort_keys=True", "sort_keys=False"),
        ("sharpflow/jobs.py", "sys.exit(1)", "sys.exit(2)"),
        ("sharpflow/errors.py", "class DataError", "class Data_Error"),
    ],
)
def test_code_that_training_runs_changes_it(copy, name, old, new):
    before = copy.train()
    copy.edit(name, lambda text: text.replace(old, new))
    assert copy.train() != before


def statement(text):
    return text + "\nEXTRA = 1\n"


def test_a_figure_belongs_to_its_own_job_only(copy):
    train, evaluate, figure = copy.train(), copy.evaluate(), copy.figure()
    copy.edit("papers/li2022/figures/phases.py", statement)
    assert (copy.train(), copy.evaluate()) == (train, evaluate)
    assert copy.figure() != figure
    figure = copy.figure()
    copy.edit("papers/li2022/figures/residual.py", statement)
    assert copy.figure() == figure
    for name in ("claims/base.py", "report/page.py", "statistics/intervals.py"):
        copy.edit(f"sharpflow/{name}", statement)
    assert (copy.train(), copy.evaluate()) == (train, evaluate)


def test_curvature_belongs_to_evaluation_and_not_to_training(copy):
    train, evaluate = copy.train(), copy.evaluate()
    copy.edit("sharpflow/curvature/eigen.py", statement)
    assert copy.train() == train
    assert copy.evaluate() != evaluate
    evaluate = copy.evaluate()
    copy.edit("sharpflow/measurements/gauss_newton/__init__.py", statement)
    assert copy.train() == train
    assert copy.evaluate() != evaluate


def test_modules_named_at_run_time_count_when_they_are_given(copy):
    plain = copy.digest("evaluate_sharpness.py")
    copy.edit("sharpflow/measurements/hessian/__init__.py", statement)
    assert copy.digest("evaluate_sharpness.py") == plain
    with_it = copy.digest("evaluate_sharpness.py", "sharpflow.measurements.hessian")
    assert with_it != plain
    copy.edit("sharpflow/measurements/hessian/__init__.py", lambda text: text + "MORE = 2\n")
    assert copy.digest("evaluate_sharpness.py", "sharpflow.measurements.hessian") != with_it


def test_the_templates_belong_to_the_report(copy):
    templates = sorted(copy.root.glob("sharpflow/**/templates/**/*"))
    templates = [path for path in templates if path.is_file()]
    assert templates
    train, before = copy.train(), copy.digest("report.py")
    for template in templates:
        copy.edit(template.relative_to(copy.root), lambda text: text + "<!-- more -->")
        after = copy.digest("report.py")
        assert after != before, template.name
        before = after
    assert copy.train() == train


def test_the_closure_follows_imports_and_packages():
    code = Code()
    reached = code.closure(["sharpflow.training.train"])
    for module in ("sharpflow", "sharpflow.training", "sharpflow.losses.base"):
        assert reached[module].is_file()
    assert not any(m.startswith(("sharpflow.figures", "sharpflow.curvature")) for m in reached)
    assert code.file("sharpflow.absent") is None
    assert code.closure(["numpy", "sharpflow.absent"]).keys() == {"sharpflow"}


def test_the_closure_of_a_paper_follows_relative_imports():
    code = Code({"ziyin2024": ROOT / "papers" / "ziyin2024"})
    reached = code.closure(["papers.ziyin2024.measurements.noise_balance"])
    assert "papers.ziyin2024.measurements._population" in reached
    assert "sharpflow.measurements.base" in reached
    assert "papers.ziyin2024.measurements.equilibrium" not in reached


def test_options_belong_to_no_job():
    """An edit of a bound or of a description must rerun nothing."""
    code = Code({"ziyin2024": ROOT / "papers" / "ziyin2024"})
    parts = ["sharpflow.models.mlp", "sharpflow.optimisers.adam", "papers.ziyin2024.models.circle"]
    assert not [m for m in code.closure(parts) if m.endswith("options")]


def test_a_users_file_counts_with_its_neighbours(tmp_path):
    """By absolute and by relative imports; what it does not import does not count."""
    for name, text in {
        "net.py": "import blocks\nfrom .parts import size\n",
        "blocks.py": "from deep import inner\n",
        "parts.py": "size = 1\n",
        "deep/__init__.py": "",
        "deep/inner.py": "x = 1\n",
        "other.py": "y = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    code, script = Code(), ROOT / "scripts" / "train.py"
    entry = str(tmp_path / "net.py")
    reached = {path.relative_to(tmp_path).as_posix() for path in code.closure([entry]).values()}
    assert reached == {"net.py", "blocks.py", "parts.py", "deep/__init__.py", "deep/inner.py"}
    before = code.digest(script, [entry])
    (tmp_path / "other.py").write_text("y = 2\n")
    (tmp_path / "blocks.py").write_text("from deep import inner  # again\n")
    assert code.digest(script, [entry]) == before
    (tmp_path / "deep" / "inner.py").write_text("x = 2\n")
    assert code.digest(script, [entry]) != before


def test_no_job_reaches_the_configuration():
    """An edit of a default or of a message must rerun nothing."""
    code = Code()
    for script in sorted((ROOT / "scripts").glob("*.py")):
        reached = code.closure([str(script)])
        light = ("sharpflow.config", "sharpflow.parts.registry", "sharpflow.parts.options")
        assert not [m for m in reached if m.startswith(light)], script.name


def test_the_library_has_no_relative_imports():
    for path in (ROOT / "sharpflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


FORMS = Path(__file__).with_name("syntax_forms.txt")
GOLDEN = "0c071edcba3250181a1334995752739c264abf2fe6c424829be60f33d41d7b35"
"""SHA-256 of the canonical text of those forms, the same on every Python."""


def forms() -> ast.Module:
    return ast.parse(FORMS.read_text(encoding="utf-8"))


def test_the_canonical_text_of_many_forms_is_that_of_every_python():
    assert hashlib.sha256(canonical(forms()).encode()).hexdigest() == GOLDEN


def test_the_forms_are_nearly_all_that_there_are():
    """So that the golden digest speaks for the whole language; what is missing has no literal."""
    grammar = {
        name
        for name, kind in vars(ast).items()
        if isinstance(kind, type) and issubclass(kind, (ast.stmt, ast.expr, ast.pattern))
    }
    old = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "stmt", "expr", "pattern"}
    later = {"TypeAlias", "TemplateStr", "Interpolation"}
    assert grammar - {type(node).__name__ for node in ast.walk(forms())} <= {
        *old, *later,
    }  # fmt: skip


def apart(check, *arguments):
    """Let a check run in a process of its own.

    Once its nodes were given other attributes, or lost one, all of `ast` is twenty times as slow.
    """
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        pool.submit(check, *arguments).result()


def add_a_field(empty):
    tree = forms()
    before = canonical(tree)
    for node in ast.walk(tree):
        node._fields = (*node._fields, "added_later")
        node.added_later = empty
    assert canonical(tree) == before
    tree.body[-1].added_later = [ast.Name("T", ast.Load())]
    assert canonical(tree) != before


@pytest.mark.parametrize("empty", [None, []])
def test_a_field_that_a_later_python_adds_empty_changes_nothing(empty):
    apart(add_a_field, empty)


def leave_out_empty_fields():
    tree = forms()
    before = canonical(tree)
    for node in ast.walk(tree):
        for name in node._fields:
            if getattr(node, name, None) == []:
                delattr(node, name)
    assert canonical(tree) == before


def test_an_empty_field_that_a_later_python_leaves_out_changes_nothing():
    apart(leave_out_empty_fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(None)", "f()"),
        ("x = ()", "x = []"),
        ("x = 1", "x = 1.0"),
        ("x = 0.0", "x = -0.0"),
        ("x = ''", "x = b''"),
        ("return_ = {**a}", "return_ = {a: a}"),
        ("def f(a, /, b): 0", "def f(a, b): 0"),
        ("def f(*, a): 0", "def f(a): 0"),
        ("f'{x}'", "f'{x!r}'"),
        ("x[1:]", "x[:1]"),
    ],
)
def test_what_differs_has_another_canonical_text(one, other):
    assert canonical(ast.parse(one)) != canonical(ast.parse(other))


def test_kept_outlines_give_the_same_digests_and_no_file_is_parsed_again(tmp_path, monkeypatch):
    kept, script = tmp_path / "outlines.json", ROOT / "scripts" / "train.py"
    first = Code(kept=kept).digest(script)
    assert first == Code().digest(script)
    parsed = []
    monkeypatch.setattr(ast, "parse", lambda text: parsed.append(text))
    assert Code(kept=kept).digest(script) == first
    assert parsed == []


def test_a_file_that_was_edited_is_parsed_though_its_outline_is_kept(copy, tmp_path):
    def digest():
        return Code(root=copy.root, kept=tmp_path / "kept").digest(copy.root / "scripts/train.py")

    first = digest()
    copy.edit("sharpflow/training/streams.py", statement)
    assert digest() != first
    copy.restore()
    assert digest() == first


@pytest.mark.parametrize("spoil", ["cut", "altered", "other code"])
def test_kept_outlines_that_are_not_what_was_written_are_made_anew(tmp_path, spoil):
    kept, script = tmp_path / "outlines.json", ROOT / "scripts" / "train.py"
    first = Code(kept=kept).digest(script)
    found = seal.read_json(kept)
    outlines = {key: ["0" * 64, imports] for key, (_, imports) in found["outlines"].items()}
    if spoil == "cut":
        kept.write_bytes(kept.read_bytes()[:-100])
    elif spoil == "altered":
        key = next(iter(found["outlines"].values()))[0]
        kept.write_text(kept.read_text().replace(key, "0" * 64))
    else:
        seal.write_json(kept, {"made_by": "another release", "outlines": outlines})
    assert Code(kept=kept).digest(script) == first
    assert seal.read_json(kept) == found


def test_a_place_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    script = ROOT / "scripts" / "train.py"
    (tmp_path / "file").touch()
    assert Code(kept=tmp_path / "file" / "kept").digest(script) == Code().digest(script)
