rule integrate_flow:
    input:
        datasets=dataset_files,
    output:
        trajectory=f"{ROOT}/{FLOW}/trajectory.parquet",
        states=f"{ROOT}/{FLOW}/states.safetensors",
    log:
        f"{ROOT}/logs/{FLOW}/integrate_flow.log",
        used=f"{ROOT}/benchmarks/{FLOW}/integrate_flow.tsv",
    group:
        group_of("train")
    conda:
        "../environment.yml"
    threads: CONFIGURATION.threads_per_job
    resources:
        mem_mb=mem_mb("integrate_flow"),
        runtime=runtime("integrate_flow"),
        gpu=gpus_of_a_job,
    params:
        spec=signed(lambda w: process_of(w).training),
        code=signed(lambda w: code("integrate_flow.py", process_of(w).training_code)),
        torch=TORCH,
    script:
        "../scripts/integrate_flow.py"
