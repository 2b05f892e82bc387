rule generate_data:
    input:
        lambda w: [local(file) for file in PLAN.datasets[w.dataset].inputs],
    output:
        dataset=f"{ROOT}/data/{{dataset}}.safetensors",
    log:
        f"{ROOT}/logs/data/{{dataset}}.log",
        used=f"{ROOT}/benchmarks/data/{{dataset}}.tsv",
    group:
        group_of("data")
    conda:
        "../environment.yml"
    resources:
        mem_mb=mem_mb("generate_data"),
        runtime=runtime("generate_data"),
    params:
        spec=lambda w: PLAN.datasets[w.dataset].spec,
        code=lambda w: code("generate_data.py", PLAN.datasets[w.dataset].code),
    script:
        "../scripts/generate_data.py"
