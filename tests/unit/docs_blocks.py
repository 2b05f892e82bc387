"""The code blocks of README and docs, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: `title` is that of a file, `section` the last heading of level 2."""

    page: str
    line: int
    language: str
    title: str
    section: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that a reader is given, by its path in the project."""
    found = [*ROOT.glob("*.md"), ROOT / "config" / "README.md", *ROOT.glob("docs/**/*.md")]
    names = [path.relative_to(ROOT) for path in found]
    return sorted(str(name) for name in names if "_build" not in name.parts)


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^## (.*)$", _FENCE.sub("", before), re.M)
        language, _, rest = match[2].partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        body = re.sub(rf"^{match[1]}", "", match[3], flags=re.M)
        found.append(
            Block(
                page,
                before.count("\n") + 1,
                language,
                title[1] if title else "",
                headings[-1] if headings else "",
                body,
            )
        )
    return found


def files(page: str) -> dict[str, str]:
    """The files that a page gives, by name; a later block replaces one of the same name."""
    return {block.title: block.text for block in blocks(page) if block.title}


def run(page: str, section: str = "") -> dict:
    """The variables after the Python blocks of a page, or of a section, ran in one namespace."""
    names = {}
    for block in blocks(page):
        if block.language == "python" and not block.title and block.section.startswith(section):
            exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
    return names


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block, without comments and without variables set."""
    return split(block.text)


def inline(page: str) -> list[list[str]]:
    """The words of each command that stands in the text of a page."""
    text = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = re.findall(r"`((?:snakemake|sharpflow|make|pytest|python -m) [^`\n]+)`", text)
    return split("\n".join(found))


def split(text: str) -> list[list[str]]:
    """The words of the commands of a text, one or several a line."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        tokens = shlex.shlex(line, posix=True, punctuation_chars=";&")
        tokens.whitespace_split = True
        words: list[str] = []
        for token in [*tokens, ";"]:
            if token not in (";", "&&"):
                words.append(token)
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                found.append(words)
            words = []
    return found
