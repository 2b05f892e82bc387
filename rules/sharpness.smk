rule evaluate_sharpness:
    input:
        datasets=dataset_files,
        states=f"{ROOT}/{PROCESS}/states.safetensors",
    output:
        measurements=f"{ROOT}/{PROCESS}/measurements.parquet",
    log:
        f"{ROOT}/logs/{PROCESS}/evaluate_sharpness.log",
        used=f"{ROOT}/benchmarks/{PROCESS}/evaluate_sharpness.tsv",
    group:
        group_of("evaluate")
    conda:
        "../environment.yml"
    threads: CONFIGURATION.threads_per_job
    resources:
        mem_mb=mem_mb("evaluate_sharpness"),
        runtime=runtime("evaluate_sharpness"),
        gpu=gpus_of_a_job,
    params:
        spec=signed(lambda w: process_of(w).evaluation),
        code=evaluation_code,
        torch=TORCH,
    script:
        "../scripts/evaluate_sharpness.py"


rule aggregate:
    input:
        trajectories=lambda w: process_files(part_of(w), "trajectory.parquet"),
        measured=lambda w: process_files(part_of(w), "measurements.parquet"),
    output:
        runs=f"{ROOT}/tables/{{experiment}}/runs/{{part}}.parquet",
        summary=f"{ROOT}/tables/{{experiment}}/summary/{{part}}.parquet",
    log:
        f"{ROOT}/logs/aggregate/{{experiment}}/{{part}}.log",
        used=f"{ROOT}/benchmarks/aggregate/{{experiment}}/{{part}}.tsv",
    group:
        group_of("tables")
    conda:
        "../environment.yml"
    resources:
        mem_mb=mem_mb("aggregate"),
        runtime=runtime("aggregate"),
    params:
        spec=lambda w: {
            "confidence": CONFIGURATION.confidence,
            "shards": PLAN.described(part_of(w)),
            "parts": list(PLAN.parts_of(w.experiment)),
        },
        code=code("aggregate.py"),
    script:
        "../scripts/aggregate.py"
