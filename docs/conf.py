"""The documentation site, of the Markdown files as they lie: `make docs`.

The project's own folder is Sphinx's source folder, so that links between README, docs/ and the
reference of the configuration lead where they lead in the files.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the module of a paper's page

project = "sharpflow"
author = "The sharpflow authors"
root_doc = "docs/index"
include_patterns = ["docs/**", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "config/README.md"]
exclude_patterns = ["docs/_build", ".*", "results", "**/__pycache__"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence"]

default_role = "code"  # docstrings mark code as Markdown does
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["lightning", "pytorch_lightning", "transformers"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a field that its class describes is described once

html_theme = "furo"
html_title = "sharpflow"
html_copy_source = False


def _plain(app, what, name, obj, options, lines):
    """Escape what a docstring means as a letter and reStructuredText as a mark: |λ|, n * d."""
    for at, line in enumerate(lines):
        bullet, text = re.fullmatch(r"(\s*(?:\* )?)(.*)", line).groups()
        parts = re.split(r"(`[^`]+`)", text)
        parts[::2] = [re.sub(r"([|*\\])", r"\\\1", part) for part in parts[::2]]
        parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # `n`²
        lines[at] = bullet + "".join(parts)


def _paper(app, docname, source):
    """Put what a paper's folder gives in the place of the block `{paper} <key>`."""
    block = re.compile(r"^```\{paper\} (\w+)\n```$", re.M)
    if found := block.search(source[0]):
        import paper_page  # imports PyTorch, which pages without a paper need not

        for file in paper_page.sources(found[1]):
            app.env.note_dependency(str(file), docname=docname)
        source[0] = block.sub(lambda match: paper_page.markdown(match[1]), source[0])


def _named(app, docname, source):
    """Show the file's name above a block that is one: Markdown readers ignore `title="…"`."""
    source[0] = re.sub(
        r'^```(\w+) title="([^"]+)"$', r"```{code-block} \1\n:caption: \2\n", source[0], flags=re.M
    )


def setup(app):
    """Connect to Sphinx; before napoleon, which is connected at 500 and writes marks of its own."""
    app.connect("source-read", _paper)
    app.connect("source-read", _named)
    app.connect("autodoc-process-docstring", _plain, priority=400)
