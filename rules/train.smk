rule train:
    input:
        datasets=dataset_files,
    output:
        trajectory=f"{ROOT}/{SHARD}/trajectory.parquet",
        states=f"{ROOT}/{SHARD}/states.safetensors",
    log:
        f"{ROOT}/logs/{SHARD}/train.log",
        used=f"{ROOT}/benchmarks/{SHARD}/train.tsv",
    group:
        group_of("train")
    conda:
        "../environment.yml"
    threads: CONFIGURATION.threads_per_job
    resources:
        mem_mb=mem_mb("train"),
        runtime=runtime("train"),
        gpu=gpus_of_a_job,
    params:
        spec=signed(lambda w: shard_of(w).training),
        code=signed(lambda w: code("train.py", shard_of(w).training_code)),
        torch=TORCH,
    script:
        "../scripts/train.py"
