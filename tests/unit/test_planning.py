"""What Snakemake asks of every job is remembered, and is what it would have been."""

import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from sharpflow import planning

ROOT = Path(__file__).resolve().parents[2]


def test_a_signed_function_has_its_signature_at_hand():
    def asked(wildcards, attempt, *more):
        return wildcards, attempt, more

    plain = inspect.signature(asked)
    assert planning.signed(asked) is asked
    assert inspect.signature(asked) == plain
    assert inspect.signature(asked) is inspect.signature(asked)


def test_addresses_are_taken_apart_once_and_as_before(monkeypatch):
    import smart_open

    plain = smart_open.parse_uri
    monkeypatch.setattr(smart_open, "parse_uri", plain)
    planning.prepare()
    for address in ("scripts/train.py", "/a b/train.py", "https://host/train.py"):
        found = smart_open.parse_uri(address)
        assert found._asdict() == plain(address)._asdict()
        assert smart_open.parse_uri(address) is found


def test_a_resource_is_evaluated_with_what_its_function_takes():
    from snakemake.resources import Resource

    planning.prepare()
    asked = Resource("mem_mb", lambda wildcards, attempt: 100 * attempt)
    assert asked.evaluate({}, attempt=3, input=()).value == 300
    assert list(inspect.signature(asked.evaluate).parameters) == ["args", "kwargs"]


def test_lists_of_files_share_what_is_the_same_and_are_as_before():
    from snakemake.iocontainers import InputFiles

    planning.prepare()
    first, second = (InputFiles(fromdict={"states": path}) for path in ("a", "b"))
    assert first.index is second.index
    assert first.index is not first.sort
    assert (first.states, second.states, [*second.items()]) == ("a", "b", [("states", "b")])
    with pytest.raises(AttributeError, match=r"sort\(\) cannot be used"):
        second.sort()
    with pytest.raises(AttributeError, match="reserved"):
        second._set_name("append", 0)
    named = InputFiles(fromdict={"index": "c"})  # one of the two words may be a name
    assert named.index == "c"
    assert first.index is second.index
    again = pickle.loads(pickle.dumps(named))
    assert (again.index, [*again.items()]) == ("c", [("index", "c")])


def test_a_file_keeps_the_flags_that_it_has():
    from snakemake.io import IOFile, flag, is_flagged

    planning.prepare()
    plain, kept = IOFile("{x}.csv", rule=None), IOFile(flag("{x}.png", "temp"), rule=None)
    found = [pattern.apply_wildcards({"x": "a"}) for pattern in (plain, kept)]
    assert [str(each) for each in found] == ["a.csv", "a.png"]
    assert [is_flagged(each, "temp") for each in found] == [False, True]
    assert not found[0].flags
    found[1].flags["report"] = 1
    assert "report" not in kept.flags, "each has its own"


def test_a_reason_is_true_as_before_and_takes_files():
    from snakemake.jobs import Reason

    planning.prepare()
    none, some, later = Reason(), Reason(), Reason()
    some.missing_output.add("a")
    assert (bool(none), bool(some), bool(later)) == (False, True, False)
    later.updated_input.add("b")
    assert bool(later)
    assert none.updated_input == set()
    assert (some.missing_output, later.updated_input) == ({"a"}, {"b"})
    some.finished = True
    assert not some


WORKFLOW = """
rule all:
    input: expand("made/{x}.txt", x=[*"abc"])
rule first:
    output: temp("made/{x}.raw"), table="made/{x}.csv"
    log: "made/{x}.log"
    params: half=lambda w: w.x * 2, whole="{x}"
    shell: "echo {wildcards.x} {params} | tee {log} > {output[0]}; cp {output[0]} {output[1]}"
rule second:
    input: raw="made/{x}.raw", tables=lambda w: [f"made/{w.x}.csv"]
    output: protected("made/{x}.txt")
    shell: "cat {input.raw} {input.tables} > {output}"
"""
PREPARED = "from sharpflow import planning\nplanning.prepare()\n"


def test_a_workflow_is_planned_and_run_as_without(tmp_path):
    said = []
    for name, head in (("plain", ""), ("prepared", PREPARED)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "Snakefile").write_text(head + WORKFLOW)
        for mode in ("-n", "--cores=1", "-n"):
            run = subprocess.run(
                [sys.executable, "-m", "snakemake", mode, "--workflow-profile", "none"],
                cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert run.returncode == 0, run.stderr
            lines = [line for line in (run.stdout + run.stderr).splitlines() if ": " in line]
            kept = ("    input", "    output", "    log", "    reason", "    wildcards")
            # a reason names files in the order of a set
            told = [line.replace(",", "").split() for line in lines if line.startswith(kept)]
            said.append((name, mode, sorted(map(sorted, told))))
        made = {file.name: file.read_bytes() for file in (folder / "made").iterdir()}
        said.append((name, "made", made))
        assert (folder / "made/a.txt").stat().st_mode & 0o222 == 0, "it is protected"
    half = len(said) // 2
    assert [each[1:] for each in said[:half]] == [each[1:] for each in said[half:]]
    assert said[0][2], "the plan is compared, and not nothing"
    assert set(said[3][2]) == {f"{x}.{end}" for x in "abc" for end in ("txt", "csv", "log")}
