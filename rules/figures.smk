rule plot_figure:
    input:
        tables=lambda w: tables(figure_of(w).experiments),
        summaries=lambda w: tables(figure_of(w).experiments, "summary"),
    output:
        png=f"{ROOT}/figures/{{paper}}/{{figure}}.png",
        pdf=f"{ROOT}/figures/{{paper}}/{{figure}}.pdf",
        svg=report(
            f"{ROOT}/figures/{{paper}}/{{figure}}.svg",
            caption="captions/figure.rst",
            category="Figures",
            subcategory="{paper}",
            labels={"figure": "{figure}"},
        ),
        caption=f"{ROOT}/figures/{{paper}}/{{figure}}.json",
    log:
        f"{ROOT}/logs/figures/{{paper}}/{{figure}}.log",
        used=f"{ROOT}/benchmarks/figures/{{paper}}/{{figure}}.tsv",
    group:
        group_of("tables")
    conda:
        "../environment.yml"
    resources:
        mem_mb=mem_mb("plot_figure"),
        runtime=runtime("plot_figure"),
    params:
        spec=lambda w: {
            "module": figure_of(w).module,
            "paper": w.paper,
            "experiments": {e: PLAN.settings[e] for e in figure_of(w).experiments},
            "parts": parts(figure_of(w).experiments),
            "confidence": CONFIGURATION.confidence,
            "paper_folders": PLAN.folders_of([figure_of(w).module]),
            **kept_page(w),
        },
        code=lambda w: code("plot_figure.py", [figure_of(w).module]),
    script:
        "../scripts/plot_figure.py"
