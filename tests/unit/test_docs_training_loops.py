"""The code on docs/how-to/training_loops.md runs, a section at a time, and gives what it says."""

import csv
import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "training_loops.md"


def run(title: str) -> dict:
    """The variables after the blocks of a section have run in one namespace."""
    (section,) = (
        part for part in PAGE.read_text(encoding="utf-8").split("\n## ") if part.startswith(title)
    )
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", section, re.M | re.S):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_every_block_is_in_a_section_that_runs():
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.M) == ["Your own loop", "Lightning", "Hugging Face"]
    assert "```" not in text.partition("\n## ")[0]


def test_your_own_loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = run("Your own loop")
    records = page["monitor"].records
    assert records[0].step == 10
    assert page["monitor"].steps == 40
    assert set(page["above"]) <= {record.step for record in records}
    with open("sharpness.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["sharpness/threshold"]) for row in rows] == [r.threshold for r in records]
    rate = 0.05 * (1 + torch.cos(torch.tensor(torch.pi * records[0].step / 40)).item())
    assert records[0].threshold == pytest.approx(3.8 / rate)


def test_lightning():
    pytest.importorskip("lightning.pytorch")
    records = run("Lightning")["records"]
    assert records[0].step == 10
    assert records[0].threshold == pytest.approx(38 / 1e-3)


def test_hugging_face():
    pytest.importorskip("transformers")
    page = run("Hugging Face")
    assert page["value"] > 0
    assert [page["weight"](batch) for batch in page["batches"]] == [28, 6]
