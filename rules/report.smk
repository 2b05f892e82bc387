rule judge_claims:
    input:
        tables=lambda w: tables([w.experiment]),
    output:
        verdicts=f"{ROOT}/claims/{{experiment}}.parquet",
        seeds=f"{ROOT}/claims/seeds/{{experiment}}.parquet",
    log:
        f"{ROOT}/logs/claims/{{experiment}}.log",
        used=f"{ROOT}/benchmarks/claims/{{experiment}}.tsv",
    group:
        group_of("tables")
    conda:
        "../environment.yml"
    resources:
        mem_mb=mem_mb("judge_claims"),
        runtime=runtime("judge_claims"),
    params:
        spec=lambda w: {
            "experiment": w.experiment,
            "paper": PLAN.settings[w.experiment]["paper"],
            "cases": PLAN.settings[w.experiment]["cases"],
            "claims": [
                {
                    "name": claim.name,
                    "module": claim.module,
                    "figure": claim.figure,
                    "source": source_of(w.experiment, claim.name),
                }
                for claim in PLAN.claims[w.experiment]
            ],
            "confidence": CONFIGURATION.confidence,
            "paper_folders": PLAN.folders_of(claim.module for claim in PLAN.claims[w.experiment]),
        },
        code=lambda w: code(
            "judge_claims.py", [claim.module for claim in PLAN.claims[w.experiment]]
        ),
    script:
        "../scripts/judge_claims.py"


rule collect_claims:
    input:
        verdicts=[f"{ROOT}/claims/{experiment}.parquet" for experiment in JUDGED],
        seeds=[f"{ROOT}/claims/seeds/{experiment}.parquet" for experiment in JUDGED],
    output:
        table=f"{ROOT}/claims.parquet",
        claims=f"{ROOT}/{files.CLAIMS}",
        digest=f"{ROOT}/{files.CLAIMS}.sha256",
        by_seed=BY_SEED,
        by_seed_digest=f"{BY_SEED}.sha256",
    log:
        f"{ROOT}/logs/collect_claims.log",
        used=f"{ROOT}/benchmarks/collect_claims.tsv",
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
        svgs=[figure_path(figure, "svg") for figure in PLAN.figures],
        captions=[figure_path(figure, "json") for figure in PLAN.figures],
        claims=f"{ROOT}/claims.parquet",
        tables=tables(EXPERIMENTS),
        sources=lambda w: fetched(states(), tables(EXPERIMENTS, "summary")),
    output:
        page=report(
            PAGE,
            caption="captions/page.rst",
            category="Verdicts",
            labels={"shows": "every figure, claim and verdict"},
        ),
    log:
        f"{ROOT}/logs/report.log",
        used=f"{ROOT}/benchmarks/report.tsv",
    conda:
        "../environment.yml"
    params:
        spec=lambda w: {
            "figures": [
                {
                    "paper": figure.paper,
                    "name": figure.name,
                    "experiments": list(figure.experiments),
                    "command": f"{START} {figure_path(figure, 'png')} --cores all{CONFIG_OPTION}",
                    "links": links(figure),
                }
                for figure in PLAN.figures
            ],
            "experiments": PLAN.settings,
            "papers": PLAN.papers,
            "judged": {
                name: [
                    {"name": claim.name, "reads": claim.reads, "cases": claim.cases}
                    for claim in PLAN.claims[name]
                ]
                for name in JUDGED
            },
            "differences": differences(SETTINGS),
            "scale": refused(lambda: shortfalls(CONFIG_FILE, SETTINGS)),
            "rules": rule_graph(),
            "run_page": os.path.relpath(RUN_PAGE, os.path.dirname(PAGE)),
            "by_seed": os.path.relpath(BY_SEED, os.path.dirname(PAGE)),
            "parts": parts(EXPERIMENTS),
            "measured": SHARPNESS_EXPERIMENTS,
            "explorer_kilobytes": CONFIGURATION.explorer_kilobytes,
            "configuration": CONFIG_FILE,
            "states": states(),
        },
        code=code("report.py"),
    script:
        "../scripts/report.py"


rule manifest:
    input:
        files=lambda w: fetched(everything(), RESULTS),
    output:
        manifest=MANIFEST,
        page=RUN_PAGE,
    log:
        f"{ROOT}/logs/manifest.log",
        used=f"{ROOT}/benchmarks/manifest.tsv",
    conda:
        "../environment.yml"
    params:
        spec=lambda w: {
            "vouched": everything(),
            "states": states(),
            "configuration": CONFIGURATION.model_dump(mode="json"),
            "experiments": PLAN.settings,
            "benchmarks": benchmarks(),
        },
        code=code("manifest.py"),
    script:
        "../scripts/manifest.py"
