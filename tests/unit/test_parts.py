"""Parts: found by name, read without being run, loaded by path; every mistake a paragraph."""

import subprocess
import sys
from pathlib import Path

import pytest

from sharpflow.config.types import Types
from sharpflow.errors import ConfigError, PartError
from sharpflow.parts import loading
from sharpflow.parts.loading import load, load_file, register
from sharpflow.parts.registry import ENTRY, OPTIONS, Registry
from sharpflow.parts.words import nearest

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
import torch
from pydantic import Field
from typing import Annotated
from sharpflow.parts.options import OptimiserOptions
from sharpflow.optimisers.base import Optimiser

LARGEST = 3
UNUSED = torch.zeros(2)

class Options(OptimiserOptions):
    \"\"\"Steps of one length.\"\"\"

    length: Annotated[float, Field(gt=0, le=LARGEST)] = 1.0
    \"\"\"Length of a step.\"\"\"

def build(options, weight_decay, clip_norm):
    return options["length"]
"""


class Folder:
    """A paper's folder that a test fills."""

    def __init__(self, root: Path, key: str):
        self.root, self.key = root, key
        root.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def registry(self) -> Registry:
        loading.forget(f"papers.{self.key}")
        return Registry({self.key: self.root})


@pytest.fixture
def mine(tmp_path):
    yield Folder(tmp_path / "mine", "mine")
    loading.forget("papers.mine")


def apart(code: str) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def refusal(call, kind=PartError):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


# --- the registry


def test_an_option_that_every_part_of_the_kind_has_keeps_its_meaning(mine):
    mine.write(
        "initialisations/odd.py",
        """
from sharpflow.parts.options import InitialisationOptions

class Options(InitialisationOptions):
    scale: float = 3.0

def draw(options, weights, dataset, generator):
    return {}
""",
    )
    part = mine.registry.parts("initialisations")["odd"]
    message = refusal(lambda: mine.registry.options_class(part))
    assert "option 'scale' already" in message
    assert "give this one another name" in message


def test_parts_of_a_paper_stand_beside_the_librarys(mine):
    mine.write("optimisers/fixed.py", GOOD)
    mine.write("optimisers/_helpers.py", GOOD)
    mine.write("optimisers/plain.py", "x = 1\n")
    found = mine.registry.parts("optimisers")
    assert {"sgd", "adam", "fixed"} <= found.keys()
    assert not {"_helpers", "plain"} & found.keys()
    assert found["fixed"].paper == "mine"
    assert found["sgd"].paper == ""


def test_options_are_read_without_running_the_file(mine):
    mine.write("optimisers/fixed.py", GOOD.replace("UNUSED = ", "raise OSError\nUNUSED = "))
    types = Types(mine.registry)
    options = types.options("optimisers")["fixed"]
    assert options.model_validate({"kind": "fixed"}).model_dump() == {
        "kind": "fixed",
        "length": 1.0,
        "paper": "mine",
    }
    assert options.model_fields["length"].description == "Length of a step."
    with pytest.raises(ValueError, match="less than or equal to 3"):
        options.model_validate({"kind": "fixed", "length": 4.0})


def test_an_edited_file_is_read_again(mine):
    mine.write("optimisers/fixed.py", GOOD)
    assert Types(mine.registry).options("optimisers")["fixed"](kind="fixed").length == 1.0
    mine.write("optimisers/fixed.py", GOOD.replace("= 1.0", "= 2.0"))
    assert Types(mine.registry).options("optimisers")["fixed"](kind="fixed").length == 2.0


def test_reading_parts_is_light(mine):
    """Every option of every part, a user's among them, without torch, numpy or pandas."""
    mine.write("optimisers/fixed.py", GOOD)
    code = (
        "import sys; from pathlib import Path; from sharpflow.parts.registry import Registry, "
        "OPTIONS; from sharpflow.config.types import Types; papers = {p.name: p for p in "
        f"Path('papers').iterdir()}} | {{'mine': Path({str(mine.root)!r})}}; "
        "types = Types(Registry(papers)); [types.options(kind) for kind in OPTIONS]; "
        "print(sorted({'torch','numpy','pandas','matplotlib','scipy'} & sys.modules.keys()))"
    )
    done = apart(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("where", ["optimisers/sgd.py", "optimisers/sgd/options.py"])
def test_two_parts_of_one_name(mine, where):
    mine.write(where, GOOD)
    message = refusal(lambda: mine.registry.parts("optimisers"), ConfigError)
    assert "'sgd'" in message
    assert str(mine.root / "optimisers") in message


def test_a_file_and_a_folder_of_one_name(mine):
    mine.write("optimisers/fixed.py", GOOD)
    mine.write("optimisers/fixed/options.py", GOOD)
    mine.write("optimisers/fixed/__init__.py", "")
    assert "'fixed'" in refusal(lambda: mine.registry.parts("optimisers"), ConfigError)


def test_options_that_import_torch_through_a_module_are_refused(mine):
    """In a process of its own, for here torch is loaded already."""
    through = GOOD.replace("LARGEST = 3", "from sharpflow.training import BLOCK as LARGEST")
    mine.write("optimisers/fixed.py", through)
    code = (
        "from pathlib import Path; from sharpflow.config.types import Types; "
        "from sharpflow.parts.registry import Registry; "
        f"Types(Registry({{'mine': Path({str(mine.root)!r})}})).options('optimisers')"
    )
    done = apart(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "PartError" in last
    assert "fixed.py: Options needs numpy, " in last
    assert "torch, which takes too long" in last
    assert "inside a function" in last


def test_options_of_a_module_that_was_imported_before_are_described():
    code = (
        "import sharpflow.data.photos; from sharpflow.config.types import Types; "
        "from sharpflow.parts.registry import Registry; "
        "fields = Types(Registry({})).options('data')['photos'].model_fields; "
        "print([name for name, field in fields.items() if not field.description])"
    )
    done = apart(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


BAD_PARTS = {
    "not Python": ("class Options:\n  x = (\n", ["line 2"]),
    "of another class": ("class Options:\n    pass\ndef build(): ...\n", ["OptimiserOptions"]),
    "of another kind": (
        "from sharpflow.parts.options import ModelOptions\n"
        "class Options(ModelOptions):\n    pass\ndef build(): ...\n",
        ["OptimiserOptions"],
    ),
    "without its function": (GOOD.replace("def build", "def make"), ["'build'"]),
    "heavy": (
        GOOD.replace("LARGEST = 3", "LARGEST = torch.pi"),
        ["Options needs torch", "inside a function"],
    ),
    "absent import": (
        GOOD.replace("from typing import Annotated", "from typing import Anotated as Annotated"),
        ["ImportError", "Anotated"],
    ),
    "an error of its own": (GOOD.replace("LARGEST = 3", "LARGEST = 1 / 0"), ["ZeroDivisionError"]),
    "an unknown annotation": (GOOD.replace("Annotated[float,", "Annotated[flot,"), ["flot"]),
}


@pytest.mark.parametrize("kind", BAD_PARTS)
def test_options_that_are_none_are_one_paragraph(mine, kind):
    text, fragments = BAD_PARTS[kind]
    path = mine.write("optimisers/fixed.py", text)
    message = refusal(lambda: Types(mine.registry).options("optimisers"))
    for fragment in (str(path), *fragments):
        assert fragment in message, message


def test_every_shipped_part_has_options_and_its_function():
    """`options_class` checks both; defaults can be made wherever nothing is required."""
    registry = Registry({p.name: p for p in (ROOT / "papers").iterdir() if p.is_dir()})
    for kind in OPTIONS:
        assert registry.parts(kind)
        for part in registry.parts(kind).values():
            assert registry.options_class(part).__doc__
            assert part.file.is_file()
    assert set(OPTIONS) <= set(ENTRY)


# --- loading


def test_a_papers_modules_import_each_other_relatively(mine):
    mine.write("models/net/__init__.py", "from ..shared import SIZE\n")
    mine.write("models/shared.py", "SIZE = 3\n")
    register({"mine": mine.root})
    assert load("models", "net", "mine").SIZE == 3


def test_a_paper_may_move(mine, tmp_path):
    mine.write("models/net.py", "SIZE = 3\n")
    register({"mine": mine.root})
    assert load("models", "net", "mine").SIZE == 3
    other = tmp_path / "other"
    (other / "models").mkdir(parents=True)
    (other / "models" / "net.py").write_text("SIZE = 4\n")
    register({"mine": other})
    assert load("models", "net", "mine").SIZE == 4


FAULTS = {
    "absent package": ("import absent_package\n", "line 1: ModuleNotFoundError"),
    "syntax": ("x = (\n", "SyntaxError"),
    "own error": ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_file_that_cannot_be_imported_names_file_and_line(mine, kind):
    text, fragment = FAULTS[kind]
    path = mine.write("models/net.py", text)
    register({"mine": mine.root})
    message = refusal(lambda: load("models", "net", "mine"))
    assert fragment in message
    assert str(path) in message


@pytest.mark.parametrize("kind", FAULTS)
def test_a_users_file_that_cannot_be_imported_names_file_and_line(tmp_path, kind):
    text, fragment = FAULTS[kind]
    path = tmp_path / f"net_{kind.replace(' ', '_')}.py"
    path.write_text(text)
    message = refusal(lambda: load_file(path))
    assert str(path) in message
    assert fragment in message or "line 1" in message


def test_a_users_file_imports_its_neighbours(tmp_path):
    (tmp_path / "net_here.py").write_text("import blocks_here\nfrom .more_here import B\n")
    (tmp_path / "blocks_here.py").write_text("A = 1\n")
    (tmp_path / "more_here.py").write_text("B = 2\n")
    found = load_file(tmp_path / "net_here.py")
    assert (found.blocks_here.A, found.B) == (1, 2)
    assert str(tmp_path) not in sys.path


def test_a_neighbour_whose_name_is_taken_is_refused(tmp_path):
    """`import json` would silently be another module than the user's json.py."""
    (tmp_path / "net_taken.py").write_text("import json\n")
    (tmp_path / "json.py").write_text("A = 1\n")
    message = refusal(lambda: load_file(tmp_path / "net_taken.py"))
    assert "'json'" in message
    assert "from .json import" in message


def test_a_file_that_is_not_there(tmp_path):
    assert "is not a file" in refusal(lambda: load_file(tmp_path / "absent.py"))


def test_nearest():
    assert nearest("tanhh", ["relu", "tanh"]) == " Did you mean 'tanh'?"
    assert nearest("x", ["relu", "tanh"]) == ""
