rule judge_claims:
    input:
        table=ROOT + "/tables/{experiment}.parquet",
    output:
        verdicts=ROOT + "/claims/{experiment}.csv",
    log:
        ROOT + "/logs/claims/{experiment}.log",
    benchmark:
        ROOT + "/benchmarks/claims/{experiment}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=lambda w: {
            "experiment": w.experiment,
            "claims": PLAN.settings[w.experiment]["claims"],
            "confidence": SETTINGS.configuration.confidence,
        },
        code=lambda w: code("judge_claims.py", "claims", PLAN.settings[w.experiment]["claims"]),
    script:
        "../scripts/judge_claims.py"


rule collect_claims:
    input:
        verdicts=[f"{ROOT}/claims/{experiment}.csv" for experiment in JUDGED],
    output:
        claims=ROOT + "/claims.csv",
    log:
        ROOT + "/logs/collect_claims.log",
    benchmark:
        ROOT + "/benchmarks/collect_claims.tsv"
    conda:
        "../environment.yml"
    params:
        spec={},
        code=code("collect_claims.py"),
    script:
        "../scripts/collect_claims.py"


rule report:
    input:
        pngs=[figure_path(figure, "png") for figure in PLAN.figures],
        captions=[figure_path(figure, "json") for figure in PLAN.figures],
        claims=ROOT + "/claims.csv",
    output:
        page=ROOT + "/report/index.html",
    log:
        ROOT + "/logs/report.log",
    benchmark:
        ROOT + "/benchmarks/report.tsv"
    conda:
        "../environment.yml"
    params:
        spec={
            "figures": [
                {
                    "paper": figure.paper,
                    "name": figure.name,
                    "experiments": list(figure.experiments),
                    "command": f"snakemake --cores 8{CONFIG_OPTION} {figure_path(figure, 'png')}",
                }
                for figure in PLAN.figures
            ],
            "experiments": PLAN.settings,
            "configuration": CONFIG_FILE,
            "device": SETTINGS.configuration.device,
        },
        code=code("report.py"),
    script:
        "../scripts/report.py"


def everything(wildcards):
    """Every file that the manifest vouches for."""
    files = [f"{ROOT}/data/{name}.safetensors" for name in PLAN.datasets]
    for name in EXPERIMENTS:
        for file in ("trajectory.parquet", "states.safetensors", "measurements.parquet"):
            files += shard_files(name, file)
        files += [f"{ROOT}/tables/{name}.parquet", f"{ROOT}/tables/{name}.summary.parquet"]
    return files + FIGURE_FILES + [f"{ROOT}/claims.csv", f"{ROOT}/report/index.html"]


rule manifest:
    input:
        files=everything,
    output:
        manifest=ROOT + "/manifest.json",
    log:
        ROOT + "/logs/manifest.log",
    benchmark:
        ROOT + "/benchmarks/manifest.tsv"
    conda:
        "../environment.yml"
    params:
        spec={
            "results": ROOT,
            "device": SETTINGS.configuration.device,
            "configuration": SETTINGS.configuration.model_dump(mode="json"),
        },
        code=code("manifest.py"),
    script:
        "../scripts/manifest.py"
