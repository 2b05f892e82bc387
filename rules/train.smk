rule train:
    input:
        dataset=dataset_file,
    output:
        trajectory=SHARD + "/trajectory.parquet",
        states=SHARD + "/states.safetensors",
    log:
        SHARD.replace(ROOT, ROOT + "/logs", 1) + "/train.log",
    benchmark:
        SHARD.replace(ROOT, ROOT + "/benchmarks", 1) + "/train.tsv"
    conda:
        "../environment.yml"
    threads: SETTINGS.configuration.threads_per_job
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        spec=lambda w: shard_of(w).training,
        code=lambda w: code("train.py", "models", [shard_of(w).training["model"]["kind"]]),
        torch=TORCH,
    script:
        "../scripts/train.py"
