def evaluation_code(wildcards):
    """Digest of the measurements that the shard's experiment makes, and of its model."""
    shard = shard_of(wildcards)
    return [
        code("evaluate_sharpness.py", "measurements", shard.measurements),
        code("train.py", "models", [shard.training["model"]["kind"]]),
    ]


rule evaluate_sharpness:
    input:
        dataset=dataset_file,
        states=SHARD + "/states.safetensors",
    output:
        measurements=SHARD + "/measurements.parquet",
    log:
        SHARD.replace(ROOT, ROOT + "/logs", 1) + "/evaluate_sharpness.log",
    benchmark:
        SHARD.replace(ROOT, ROOT + "/benchmarks", 1) + "/evaluate_sharpness.tsv"
    conda:
        "../environment.yml"
    threads: SETTINGS.configuration.threads_per_job
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        spec=lambda w: {
            "training": shard_of(w).training,
            "measurements": shard_of(w).measurements,
        },
        code=evaluation_code,
        torch=TORCH,
    script:
        "../scripts/evaluate_sharpness.py"


rule aggregate:
    input:
        trajectories=lambda w: shard_files(w.experiment, "trajectory.parquet"),
        measured=lambda w: shard_files(w.experiment, "measurements.parquet"),
    output:
        table=ROOT + "/tables/{experiment}.parquet",
        summary=ROOT + "/tables/{experiment}.summary.parquet",
    log:
        ROOT + "/logs/aggregate/{experiment}.log",
    benchmark:
        ROOT + "/benchmarks/aggregate/{experiment}.tsv"
    wildcard_constraints:
        experiment="[A-Za-z0-9_]+",
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=lambda w: {
            "confidence": SETTINGS.configuration.confidence,
            "shards": [
                {"case": s.case, "width": s.width, "learning_rate": float(s.learning_rate)}
                for s in PLAN.shards_of(w.experiment)
            ],
        },
        code=code("aggregate.py"),
    script:
        "../scripts/aggregate.py"
