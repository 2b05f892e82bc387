"""What a job works on, as plain numbers, and the features of it that take memory and time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

ITEM = {"float32": 4, "float64": 8}
BLOCK = 50
"""Steps whose random numbers are drawn together, `sharpflow.training.BLOCK`."""
HELD_OUT = 2000
"""Samples that stand for a population where a loss has no closed form."""
LARGEST_GRAM = 4000
"""Rows up to which J Jᵀ is formed."""
BASIS, SMALL_BASIS, LARGE = 40, 6, 2**22
"""Least vectors of an eigensolver's basis, and above a number of parameters."""
RESTART = 10
"""Steps between stored states at which an eigensolver starts anew, at least."""
COLD, WARM = 16, 4
"""Products that an eigenpair takes as a rule, from a random start and from the last step's."""
REPLAYED = "replayed_"
"""What the names of features begin with that evaluation shares with the steps of training."""
_QUANTITIES, _BESIDE = 4, 3
"""Of a trajectory, beside a norm a layer; of a flow's, beside its own."""
_GRAPHS = 4
"""Times what a pass keeps that a derivative of a curvature does."""
LIKE = {"integrate_flow": "train"}
"""Stages that go by another's coefficients until their own jobs have been recorded."""
_MB = 2.0**20


@dataclass(frozen=True)
class Measured:
    """One measurement of a run.

    Attributes:
        every: stride, in steps.
        gram, hessian: eigenpairs that a call looks for.
        drawn: samples of gradients beyond the run's own.
        quantities: rows of the table a call, at least.
        kind: its name; empty in records of earlier releases.
    """

    every: int
    gram: int = 0
    hessian: int = 0
    drawn: int = 0
    quantities: int = 1
    kind: str = ""


@dataclass(frozen=True)
class Job:
    """What decides the cost of a job; what a stage does not have is 0.

    Attributes:
        stage: `generate_data`, `train`, `integrate_flow`, `evaluate_sharpness`, `aggregate`,
            `judge_claims` or `plot_figure`.
        runs: R, trained together.
        parameters: P, of one run.
        multiplications: of one sample's forward pass.
        units: numbers that one sample's pass keeps for the gradient.
        layers: of the network.
        samples: n; 0 for a population that is drawn anew.
        batch: samples of a step, of each run.
        inputs, outputs: numbers of a sample.
        steps, recorded: of training, and those of them whose values are kept.
        copies: of the parameters in the optimiser's state.
        states: bytes that the stored states of a run may take.
        item: bytes of a number.
        online: whether batches are drawn from a population.
        closed: whether the loss over all data has a closed form.
        written_out: whether steps go without automatic differentiation and norms in between.
        dense, convolution: whether the network is such a stack, whose curvature is written out.
        measured: along a run.
        rows: of the tables that are read.
        files: that are read.
        panels: of a figure; verdicts of claims, one for each case.
        passes: through the network and back, for a step's length of a flow.
        quantities: of a flow's own.
        process: kind of a flow; empty in records of earlier releases.
    """

    stage: str
    runs: int = 0
    parameters: int = 0
    multiplications: int = 0
    units: int = 0
    layers: int = 0
    samples: int = 0
    batch: int = 0
    inputs: int = 0
    outputs: int = 0
    steps: int = 0
    recorded: int = 0
    copies: int = 0
    states: int = 0
    item: int = 4
    online: bool = False
    closed: bool = False
    written_out: bool = False
    dense: bool = False
    convolution: bool = False
    measured: tuple[Measured, ...] = ()
    rows: int = 0
    files: int = 0
    panels: int = 0
    passes: int = 0
    quantities: int = 0
    process: str = ""

    @property
    def state_bytes(self) -> int:
        """Bytes of one run's state: parameters, and the optimiser's copies of them."""
        return self.parameters * (1 + self.copies) * self.item

    @property
    def stored(self) -> int:
        """States that training keeps."""
        stride = self._stored_stride
        return -(-self.steps // stride) + 1

    @property
    def _stored_stride(self) -> int:
        every = max(1, round(self.steps / max(self.recorded - 1, 1)))
        affordable = max(self.states // max(self.state_bytes, 1) - 1, 1)
        return every * max(math.ceil(self.steps / every / affordable), 1)

    @property
    def trajectory_rows(self) -> int:
        """Rows of the table that training writes."""
        own = _BESIDE + self.quantities if self.passes else _QUANTITIES + self.layers
        return self.runs * self.recorded * own

    @property
    def measured_rows(self) -> int:
        """Rows of the table that evaluation writes."""
        return self.runs * sum(self.calls(one) * one.quantities for one in self.measured)

    def calls(self, one: Measured) -> int:
        """Steps at which a measurement is made: its multiples, and the last."""
        return -(-self.steps // one.every) + 1

    @property
    def cold(self) -> int:
        """Times that a measurement starts anew."""
        return max(1, min(self.stored, self.steps // RESTART))

    @property
    def replayed(self) -> bool:
        """Whether something is measured between stored states."""
        stride = self._stored_stride
        return any(one.every < self.steps and one.every % stride for one in self.measured)

    def products(self, one: Measured, pairs: int) -> int:
        """Products of all calls of a measurement, of one run, as a rule."""
        cold = min(self.cold, self.calls(one))
        return pairs * (COLD * cold + WARM * (self.calls(one) - cold))


def size(setup: Any, width: int, runs: int) -> dict[str, Any] | None:
    """The fields of `Job` that a set-up has for one width and a block of runs.

    Args:
        setup: a case's whole set-up, of options.
        width: of the network.
        runs: seeds a job.

    Returns:
        None where only the built network, or the data, can tell its size.
    """
    form, model, training = setup.data.form(), setup.model, setup.training
    able = frozenset().union(
        *(part.capabilities() for part in (model, setup.data, setup.loss, setup.optimiser))
    )
    # inputs are compressed to as many coordinates as samples only where any basis will do
    seen = form if "rotation invariant" in able else replace(form, samples=None)
    parameters = model.parameter_count(seen, width)
    multiplications, units = model.multiplications(seen, width), model.units(seen, width)
    if parameters is None or multiplications is None or units is None or form.size is None:
        return None
    online = form.inputs == "population"
    if form.samples is None and not online:
        return None
    plain = {"written-out steps", "squared error", "plain steps"} <= able
    batch = training.batch or form.samples or 0
    chosen = {
        name: getattr(setup.measurements, name) for name in type(setup.measurements).model_fields
    }
    measured = tuple(_measured(n, one, batch) for n, one in chosen.items() if one is not None)
    return {
        "runs": runs,
        "parameters": parameters,
        "multiplications": multiplications,
        "units": units,
        "layers": model.layer_count() or round(math.log2(2 + parameters / 100)),
        "samples": form.samples or 0,
        "batch": batch,
        "inputs": form.size,
        "outputs": form.outputs or 1,
        "steps": training.steps,
        "recorded": -(-training.steps // training.record_every) + 1,
        "copies": setup.optimiser.copies,
        "states": int(training.states_megabytes * _MB),
        "item": ITEM[setup.dtype],
        "online": online and form.samples is None and training.batch is not None,
        "closed": {"population loss", "squared error"} <= able and form.samples is None,
        "written_out": plain and online and training.clip_norm is None and not training.frozen,
        "dense": "dense stack" in able,
        "convolution": "convolution stack" in able and form.outputs == 1,
        "measured": measured,
    }


def beside(known: Mapping[str, Any], name: str, flow: Any) -> dict[str, Any]:
    """The fields of `Job` of what runs beside a training.

    Args:
        known: those of the training, as `size` gives them.
        name: its kind.
        flow: options.
    """
    kept = -(-known["steps"] // flow.every) + 1
    state = known["parameters"] * (1 + known["copies"]) * known["item"]
    return dict(known) | {
        # what `stored` makes of these is `kept`, however many steps are recorded
        "states": (kept + 1) * max(state, 1),
        "measured": tuple(replace(m, every=max(m.every, flow.every)) for m in known["measured"]),
        "passes": flow.passes(),
        "quantities": len(flow.gives()),
        "process": name,
    }


def _measured(kind: str, options: Any, batch: int) -> Measured:
    pairs = options.eigenpairs()
    return Measured(
        options.every,
        pairs.get("gram", 0),
        pairs.get("hessian", 0),
        options.drawn(batch),
        len(options.gives()),
        kind,
    )


# --- features


def _step(job: Job) -> dict[str, float]:
    """What all steps of training take, of time."""
    passes = job.steps * job.runs * job.batch
    flops = 6e-9 * passes * job.multiplications
    kind = "other_gflop"
    if job.dense or job.written_out:
        kind = "dense_gflop"
    elif job.convolution:
        kind = "convolution_gflop"
    overhead = "written_out_steps" if job.written_out else "layer_steps"
    return {
        overhead: 1e-3 * job.steps * (1 if job.written_out else job.layers + job.copies),
        "steps": 0.0 if job.written_out else 1e-3 * job.steps,
        # a population whose loss has no closed form is seen through an activation
        "activated_steps": 1e-3 * job.steps * (job.written_out and not job.closed),
        "activated": 1e-9 * passes * job.units * (job.written_out and not job.closed),
        kind: flops,
        "moved_gb": 1e-9
        * job.item
        * job.runs
        * job.steps
        * (job.batch * job.units + job.parameters * (3 + 2 * job.copies)),
        "drawn": 1e-9 * passes * (job.inputs + job.outputs) * job.online,
    }


def _full_losses(job: Job) -> float:
    """Gigaflops of the losses over all data that no step gives."""
    if job.closed or not (job.written_out or job.batch != job.samples):
        return 0.0
    samples = job.samples or HELD_OUT
    return 2e-9 * job.recorded * job.runs * samples * job.multiplications


def _train_time(job: Job) -> dict[str, float]:
    steps = _step(job)
    kind = next(key for key in ("dense_gflop", "convolution_gflop", "other_gflop") if key in steps)
    steps[kind] += _full_losses(job)
    return {
        "job": 1.0,
        **steps,
        "records": 1e-3 * job.recorded,
        "read": 1e-6 * job.samples * job.inputs,
        "written_gb": 1e-9 * job.runs * job.state_bytes * job.stored,
        "table_rows": 1e-6 * job.trajectory_rows,
    }


def _evaluate_time(job: Job) -> dict[str, float]:
    found: dict[str, float] = dict.fromkeys(
        ("calls", "measured_steps", "gram_gflop", "rows_gb", "jacobian_gflop", "product_gflop",
         "products", "drawn_gflop", "drawn_gb"), 0.0
    )  # fmt: skip
    gigaflop, rows = 1e-9 * job.multiplications, job.samples * job.outputs
    for one in job.measured:
        calls, pairs = job.runs * job.calls(one), one.gram + one.hessian
        products = job.runs * job.products(one, pairs)
        found["calls"] += 1e-3 * calls
        found["measured_steps"] += 1e-3 * job.calls(one)
        if one.kind:
            for name, amount in (("calls", 1e-3 * calls), ("drawn", 1e-6 * calls * one.drawn)):
                key = f"{name}_{one.kind}"
                found[key] = found.get(key, 0.0) + amount
        found["products"] += 1e-3 * products * job.layers
        found["drawn_gflop"] += 6 * calls * one.drawn * gigaflop
        found["drawn_gb"] += 1e-9 * calls * one.drawn * job.item * (job.parameters + job.units)
        found["rows_gb"] += 1e-9 * products * job.parameters * job.item if one.hessian else 0.0
        if one.gram and job.dense and rows <= LARGEST_GRAM:
            found["gram_gflop"] += 1e-9 * calls * rows**2 * (job.units + 4 * job.layers)
            found["rows_gb"] += 1e-9 * products * rows**2 * job.item
        elif one.gram and job.convolution:
            found["jacobian_gflop"] += 6 * calls * job.samples * gigaflop
            found["rows_gb"] += 2e-9 * products * job.samples * job.parameters * job.item
        elif pairs:
            samples = job.samples or HELD_OUT
            found["product_gflop"] += 10 * products * samples * gigaflop
    replay = _step(job) if job.replayed else {}
    return {
        "job": 1.0,
        **{f"{REPLAYED}{name}": value for name, value in replay.items()},
        **found,
        "read": 1e-6 * job.samples * job.inputs,
        "read_gb": 1e-9 * job.runs * job.state_bytes * job.stored,
        "table_rows": 1e-6 * job.measured_rows,
    }


def _tensors(job: Job) -> dict[str, float]:
    """Megabytes of tensors that training and evaluation both hold."""
    samples = max(job.samples, job.batch, 1) if not job.online else job.batch
    return {
        "ensemble": job.runs * job.parameters * job.item * (2 + job.copies) / _MB,
        "data": samples * (job.inputs + job.outputs + min(job.inputs, samples)) * job.item / _MB,
        "blocks": BLOCK * job.runs * job.batch * (job.inputs + job.outputs) * 4 * job.online / _MB,
    }


def held_vectors(size: int, pairs: int) -> int:
    """Vectors of an eigensolver's basis that does not span the whole space."""
    small = max(SMALL_BASIS, 2 * pairs + 4)
    return small if size > LARGE else max(BASIS, 4 * pairs + 16)


def _pass(job: Job) -> float:
    """Megabytes that a step's pass keeps."""
    return job.runs * job.batch * job.units * job.item / _MB


def _train_memory(job: Job) -> dict[str, float]:
    every = 0 if job.closed or job.batch == job.samples else job.samples or HELD_OUT
    return {
        "job": 1.0,
        **_tensors(job),
        "pass": max(_pass(job), job.runs * every * job.units * job.item / _MB / 2),
        "stored": job.runs * job.state_bytes * job.stored / _MB,
        "table_rows": 1e-6 * job.trajectory_rows,
    }


def _evaluate_memory(job: Job) -> dict[str, float]:
    gram = jacobian = basis = curved = 0.0
    rows = job.samples * job.outputs
    for one in job.measured:
        if one.gram and job.dense and rows <= LARGEST_GRAM:
            gram = rows**2 * job.item / _MB
        elif one.gram and job.convolution:
            jacobian = job.samples * job.parameters * job.item / _MB
        elif one.gram:
            curved = job.samples * job.units * job.item / _MB
        if one.hessian:
            held = min(held_vectors(job.parameters, one.hessian), job.products(one, one.hessian))
            basis = 2 * held * job.parameters * job.item / _MB
            curved = job.samples * job.units * job.item / _MB
        drawn = min(one.drawn, 16 * job.batch) * job.units * job.item / _MB
        curved = max(curved, drawn)
    return {
        "job": 1.0,
        **_tensors(job),
        "pass": max(_pass(job) if job.replayed else 0.0, job.samples * job.units * job.item / _MB),
        "gram": gram,
        "jacobian": jacobian,
        "basis": basis,
        "curved": 0.0 if job.dense else curved,
        "table_rows": 1e-6 * job.measured_rows,
    }


def _flow_time(job: Job) -> dict[str, float]:
    """As of training, whose steps a flow takes beside its own passes; every loss is one more."""
    found = _train_time(job)
    often = (
        "dense_gflop", "convolution_gflop", "other_gflop", "steps", "layer_steps",
        "written_out_steps", "activated_steps", "activated", "moved_gb",
    )  # fmt: skip
    found = {n: v * (2 + job.passes) if n in often else v for n, v in found.items()}
    if job.process:
        found[f"steps_{job.process}"] = 1e-3 * job.steps * job.runs * job.layers
        found[f"gflop_{job.process}"] = (
            6e-9 * job.steps * job.runs * job.samples * job.multiplications
        )
    return found


def _flow_memory(job: Job) -> dict[str, float]:
    """As of training, with the graph of a third derivative, and a basis of eigenvectors."""
    found = _train_memory(job)
    third = job.samples * job.units * job.item / _MB
    basis = 2 * held_vectors(job.parameters, 1) * job.parameters * job.item / _MB
    return found | {
        "pass": _GRAPHS * max(found["pass"], third),
        "stored": found["stored"] + basis,
    }


def _table(job: Job) -> dict[str, float]:
    return {
        "job": 1.0,
        "table_rows": 1e-6 * job.rows,
        "files": 1e-3 * job.files,
        "panels": float(job.panels),
        "panel_rows": 1e-6 * job.rows * job.panels,
    }


def _data(job: Job) -> dict[str, float]:
    return {"job": 1.0, "data": 1e-6 * job.samples * (job.inputs + job.outputs)}


Features = Callable[[Job], dict[str, float]]
_TABLES = ("aggregate", "judge_claims", "plot_figure")
TIME: Mapping[str, Features] = {
    "generate_data": _data,
    "train": _train_time,
    "integrate_flow": _flow_time,
    "evaluate_sharpness": _evaluate_time,
    **dict.fromkeys(_TABLES, _table),
}
"""Features of the CPU time of each stage's jobs; in seconds once multiplied by coefficients."""
MEMORY: Mapping[str, Features] = {
    "generate_data": _data,
    "train": _train_memory,
    "integrate_flow": _flow_memory,
    "evaluate_sharpness": _evaluate_memory,
    **dict.fromkeys(_TABLES, _table),
}
"""Features of the memory of each stage's jobs; in MB once multiplied by coefficients."""
