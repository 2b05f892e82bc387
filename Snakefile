"""sharpflow: data → training → sharpness → figures, claims and one page."""

from snakemake.utils import min_version

min_version("9.0")


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/files.smk"
include: "rules/hooks.smk"


localrules:
    all,
    figures,
    claims,
    collect_claims,
    report,
    manifest,


rule all:
    default_target: True
    input:
        MANIFEST,
        missing_in_between,
    log:
        f"{ROOT}/logs/all.log",
    conda:
        "environment.yml"


rule figures:
    input:
        FIGURE_FILES,
    log:
        f"{ROOT}/logs/figures.log",
    conda:
        "environment.yml"


rule claims:
    input:
        f"{ROOT}/claims.csv",
    log:
        f"{ROOT}/logs/claims.log",
    conda:
        "environment.yml"


for paper in PAPERS:

    rule:
        name:
            paper
        input:
            [file for file in FIGURE_FILES if f"/figures/{paper}/" in file],
            [
                f"{ROOT}/claims/{experiment}.parquet"
                for experiment in JUDGED
                if PLAN.settings[experiment]["paper"] == paper
            ],
        log:
            f"{ROOT}/logs/{paper}.log",
        conda:
            "environment.yml"


include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/flows.smk"
include: "rules/sharpness.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
