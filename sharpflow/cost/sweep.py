"""The jobs of a configuration."""

from dataclasses import dataclass, field
from typing import Any

from sharpflow.cost.work import Job, beside, size

TRAIN, INTEGRATE, EVALUATE = "train", "integrate_flow", "evaluate_sharpness"


@dataclass(frozen=True)
class Sweep:
    """The sizes of a configuration's jobs, each worked out once for equal ones.

    A job is None where only the built network, or the data, can tell how large it is.

    Attributes:
        settings: of the configuration.
        plan: made of them.
    """

    settings: Any
    plan: Any
    _sizes: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def shard(self, stage: str, shard: Any) -> Job | None:
        """A shard's job of training or evaluation."""
        runs = len(shard.training["seeds"])
        key = (stage, shard.experiment, shard.case, shard.width, runs)
        if key not in self._sizes:
            setup = self.settings.cases[shard.experiment][shard.case]
            known = size(setup, shard.width, runs)
            self._sizes[key] = None if known is None else Job(stage, **known)
        return self._sizes[key]

    def flow(self, stage: str, flow: Any) -> Job | None:
        """The job of a process beside a shard: of its integration, or its evaluation."""
        shard = flow.shard
        runs = len(shard.training["seeds"])
        key = (stage, shard.experiment, shard.case, shard.width, runs, flow.name)
        if key not in self._sizes:
            setup = self.settings.cases[shard.experiment][shard.case]
            known = size(setup, shard.width, runs)
            options = getattr(setup.flows, flow.name)
            sized = None if known is None else Job(stage, **beside(known, flow.name, options))
            self._sizes[key] = sized
        return self._sizes[key]

    def dataset(self, name: str) -> Job | None:
        """The job that makes a dataset."""
        return self._datasets.get(name)

    @property
    def _datasets(self) -> dict[str, Job]:
        if "datasets" not in self._sizes:
            found: dict[str, Job] = {}
            for shard in self.plan.shards.values():
                job = self.shard(TRAIN, shard)
                if job is not None:
                    made = Job("generate_data", samples=job.samples, inputs=job.inputs,
                               outputs=job.outputs)  # fmt: skip
                    found |= dict.fromkeys(shard.datasets, made)
            self._sizes["datasets"] = found
        return self._sizes["datasets"]

    def table(self, stage: str, experiments: list[str]) -> Job | None:
        """A job that reads the tables of experiments."""
        key = (stage, *experiments)
        if key not in self._sizes:
            shards = [shard for name in experiments for shard in self.plan.shards_of(name)]
            each = {
                n: len(self.plan.claims[n]) if stage == "judge_claims" else 1 for n in experiments
            }
            panels = sum(len(self.settings.cases[name]) * each[name] for name in experiments)
            self._sizes[key] = self._reading(stage, shards, panels=panels)
        return self._sizes[key]

    def part(self, experiment: str, part: str) -> Job | None:
        """The job that joins the shards of one part of an experiment's table."""
        key = ("aggregate", experiment, part)
        if key not in self._sizes:
            shards = self.plan.parts_of(experiment)[part]
            files = 2 * len(self.plan.with_flows(shards))
            self._sizes[key] = self._reading("aggregate", shards, files=files)
        return self._sizes[key]

    def _reading(
        self, stage: str, shards: list[Any], files: int = 0, panels: int = 0
    ) -> Job | None:
        jobs = [self.shard(EVALUATE, shard) for shard in shards]
        jobs += [self.flow(EVALUATE, f) for shard in shards for f in self.plan.beside(shard)]
        if any(job is None for job in jobs):
            return None
        rows = sum(j.trajectory_rows + j.measured_rows for j in jobs if j is not None)
        return Job(stage, rows=rows, files=files, panels=panels)

    def jobs(self) -> dict[str, tuple[str, Job | None]]:
        """Experiment and job by the path of its benchmark file below `benchmarks/`."""
        plan, found = self.plan, {}
        for name in plan.datasets:
            owner = next((s.experiment for s in plan.shards.values() if name in s.datasets), "")
            found[f"data/{name}.tsv"] = owner, self.dataset(name)
        for shard in plan.shards.values():
            for stage in (TRAIN, EVALUATE):
                found[f"{shard.folder}/{stage}.tsv"] = shard.experiment, self.shard(stage, shard)
        for flow in plan.flows.values():
            for stage in (INTEGRATE, EVALUATE):
                owner = flow.shard.experiment
                found[f"{flow.folder}/{stage}.tsv"] = owner, self.flow(stage, flow)
        for name in plan.settings:
            for part in plan.parts_of(name):
                found[f"aggregate/{name}/{part}.tsv"] = name, self.part(name, part)
            if plan.claims[name]:
                found[f"claims/{name}.tsv"] = name, self.table("judge_claims", [name])
        for figure in plan.figures:
            job = self.table("plot_figure", list(figure.experiments))
            found[f"figures/{figure.paper}/{figure.name}.tsv"] = figure.experiments[0], job
        return found
