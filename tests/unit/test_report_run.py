"""The page on a run: stages from what Snakemake recorded, machine, checksums."""

import math

from report_page import checked

from sharpflow.report import build_run, machine, stage
from sharpflow.storage.benchmarks import read_benchmark

RECORD = {"s": "2.5", "max_rss": "120.4", "cpu_time": "1.0"}
MANIFEST = {
    "commit": "0123abc<",
    "devices": ["cpu"],
    "packages": {"torch": "2.13.0"},
    "python": "3.11.7",
    "sha256": {"claims.csv": "f" * 64, "a<b": "e" * 64},
}


def test_a_stage_sums_times_and_takes_the_largest_memory():
    found = stage("train", [RECORD, None, RECORD | {"s": "10", "max_rss": "80"}])
    assert (found.rule, found.jobs, found.seconds, found.longest) == ("train", 2, 12.5, 10.0)
    assert found.megabytes == 120.4


def test_memory_that_was_not_sampled_is_not_known():
    assert math.isnan(stage("report", [RECORD | {"max_rss": "NA"}]).megabytes)
    assert stage("report", [None]) is None


def test_the_last_row_of_a_benchmark_file(tmp_path):
    file = tmp_path / "a.tsv"
    assert read_benchmark(file) is None
    file.write_text("s\tmax_rss\n1.0\t2.0\n3.0\t4.0\n")
    assert read_benchmark(file) == {"s": "3.0", "max_rss": "4.0"}
    file.write_text("s\tmax_rss\n")
    assert read_benchmark(file) is None


def test_the_page_has_it_all():
    stages = [stage("train", [RECORD] * 3), stage("report", [RECORD | {"max_rss": "NA"}])]
    page = checked(build_run(MANIFEST, stages, {"cores": "8"}))
    for words in (
        "commit 0123abc<",
        "torch 2.13.0",
        "cores 8",
        "train 3 7.5 2.5 120.4",
        "report 1 2.5 2.5 –",
        "10 s of wall time",
        f"a<b {'e' * 64} claims.csv {'f' * 64}",
    ):
        assert words in page.text
    assert page.tags.count("caption") == page.tags.count("table")
    assert "No job left a record." in checked(build_run(MANIFEST, [], {})).text


def test_a_machine_is_described():
    assert set(machine()) == {"system", "processor", "cores", "memory"}
    assert all(machine().values())
