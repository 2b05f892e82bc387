def batch_files(wildcards):
    """The files that a dataset is read from."""
    data = PLAN.datasets[wildcards.dataset]
    folder = data.get("path")
    if folder is None:
        return []
    return sorted(str(path) for path in __import__("pathlib").Path(folder).glob("data_batch_*.bin"))


rule generate_data:
    input:
        batch_files,
    output:
        dataset=ROOT + "/data/{dataset}.safetensors",
    log:
        ROOT + "/logs/data/{dataset}.log",
    benchmark:
        ROOT + "/benchmarks/data/{dataset}.tsv"
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=lambda w: PLAN.datasets[w.dataset],
        code=lambda w: code("generate_data.py", "data", [PLAN.datasets[w.dataset]["source"]]),
    script:
        "../scripts/generate_data.py"
