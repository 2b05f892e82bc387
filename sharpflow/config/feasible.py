"""Whether the parts of a set-up go together, and whether claims and figures can be fed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, get_args

from sharpflow.config.types import Types, parts_in
from sharpflow.errors import ConfigError
from sharpflow.parts.options import FlowOptions, Form, MeasurementOptions, Options
from sharpflow.parts.processes import BESIDE, DISCRETE
from sharpflow.parts.registry import Declared
from sharpflow.parts.words import nearest

FileOf = Callable[[list[str]], str]
TRAINED = frozenset(
    {"loss", "learning_rate", "stability_threshold", "norm_squared", "output_norm_squared"}
)
"""Quantities that every training records."""
BY_THE_WAY = TRAINED | {"samples", "diverged_step"}
"""Quantities that a figure need not draw for a claim on them to stand beside it."""


def capabilities(setup: Any) -> frozenset[str]:
    """What network, data, loss and optimiser of a set-up can do together."""
    unclipped = {"unclipped steps"} if setup.training.clip_norm is None else set()
    return frozenset(unclipped).union(
        *(part.capabilities() for part in (setup.model, setup.data, setup.loss, setup.optimiser))
    )


def check_parts(setup: Any, seeds: range, types: Types, file_of: FileOf) -> None:
    """Refuse a set-up whose parts do not go together.

    Raises:
        ConfigError: one paragraph with the file, the key, and what it would take.
    """
    form: Form = setup.data.form()
    model = f"model.kind = {setup.model.kind!r}"
    data = f"data.source = {setup.data.source!r}"
    if form.inputs not in setup.model.takes:
        raise ConfigError(
            f"{file_of(['data'])}: {data} does not go with {model}: it gives {form.inputs}, and "
            f"that network takes {' or '.join(setup.model.takes)}."
        )
    if form.targets not in setup.loss.targets:
        raise ConfigError(
            f"{file_of(['loss'])}: loss.kind = {setup.loss.kind!r} takes targets of the form "
            f"{' or '.join(setup.loss.targets)}, and {data} gives {form.targets}."
        )
    for width in setup.widths:
        _sentence(lambda w=width: setup.model.check(form, w), file_of, ["model"], model)
    _sentence(
        lambda: setup.schedule.check(setup.training.steps),
        file_of,
        ["schedule"],
        f"schedule.kind = {setup.schedule.kind!r}",
    )
    _check_training(setup, form, file_of)
    able = capabilities(setup)
    for key, options in _with_needs(setup):
        for need in options.needs():
            _check_need(key, need, able, types, file_of, f"model.kind = {setup.model.kind}")
    for name, options in measured(setup):
        keys = ["measurements", name]
        _sentence(lambda o=options: o.check(seeds), file_of, keys, ".".join(keys))
    for name, options in flows(setup):
        keys = ["flows", name]
        _sentence(lambda o=options: o.check(setup), file_of, keys, ".".join(keys))
        _check_strides(setup, name, options, file_of)


def _sentence(check: Callable[[], None], file_of: FileOf, keys: list[str], what: str) -> None:
    try:
        check()
    except ValueError as error:
        raise ConfigError(f"{file_of(keys)}: {what}: {error}.") from None


def _check_strides(setup: Any, name: str, flow: FlowOptions, file_of: FileOf) -> None:
    """Refuse a measurement whose steps are not those of a flow's stored states."""
    for other, measurement in measured(setup):
        strides = sorted((flow.every, stride_of(measurement)))
        if strides[1] % strides[0]:
            raise ConfigError(
                f"{file_of(['flows', name])}: flows.{name}.every = {flow.every} and "
                f"measurements.{other}.every = {stride_of(measurement)}: a flow is measured at its "
                "stored states and not between them, so one of the two must be a multiple of the "
                "other."
            )


def stride_of(measurement: Any) -> int:
    """The stride of a measurement, in steps."""
    return measurement.every


def _check_training(setup: Any, form: Form, file_of: FileOf) -> None:
    training = setup.training
    if training.batch is not None and form.samples is not None and training.batch > form.samples:
        raise ConfigError(
            f"{file_of(['training', 'batch'])}: training.batch = {training.batch} is larger than "
            f"the dataset (data.samples = {form.samples})."
        )
    online = form.inputs == "population" and form.samples is None
    if training.sampling == "epochs" and (online or training.batch is None):
        why = "data.samples = null has no end" if online else "training.batch = null takes all"
        raise ConfigError(
            f"{file_of(['training', 'sampling'])}: training.sampling = 'epochs' is for batches of "
            f"a finite dataset, and {why}; leave the key out."
        )
    closed = {"population loss", "squared error"} <= capabilities(setup)
    if training.batch is None and online and not closed:
        raise ConfigError(
            f"{file_of(['data'])}: training.batch = null with data.samples = null is gradient "
            "descent on the population's loss, which only some networks have in closed form, for "
            "the squared error; give data.samples a number."
        )
    layers = setup.model.layer_count()
    if layers is not None and training.frozen >= layers:
        raise ConfigError(
            f"{file_of(['training', 'frozen'])}: training.frozen = {training.frozen}: the network "
            f"has {layers} layers, and at least one must be trained."
        )


def _with_needs(setup: Any) -> Iterator[tuple[str, Any]]:
    """What stands where, of all that may need a capability."""
    yield f"model.kind = {setup.model.kind!r}", setup.model
    for options in parts_in(setup.model):
        if options.part.kind == "initialisations":
            yield f"model.initialisation = {options.part.name!r}", options
    yield f"schedule.kind = {setup.schedule.kind!r}", setup.schedule
    for name, options in measured(setup):
        yield f"measurements.{name}", options
    for name, options in flows(setup):
        yield f"flows.{name}", options


def measured(setup: Any) -> Iterator[tuple[str, MeasurementOptions]]:
    """The measurements of a set-up, by name."""
    yield from _chosen(setup.measurements)


def flows(setup: Any) -> Iterator[tuple[str, FlowOptions]]:
    """What runs beside the training of a set-up, by name."""
    yield from _chosen(setup.flows)


def _chosen(options: Any) -> Iterator[tuple[str, Any]]:
    for name in type(options).model_fields:
        if (one := getattr(options, name)) is not None:
            yield name, one


def _check_need(
    key: str,
    need: str | tuple[str, ...],
    able: frozenset[str],
    types: Types,
    file_of: FileOf,
    model: str,
) -> None:
    words = (need,) if isinstance(need, str) else need
    if able.intersection(words):
        return
    asked = " or ".join(repr(word) for word in words)
    known = [text for word in words for text in _who_gives(word, types)]
    advice = f" It comes with {', '.join(dict.fromkeys(known))}." if known else ""
    if model in known:  # so that it is another option that keeps it away
        advice += f" {model} is given: one of its options, the activation say, excludes it."
    raise ConfigError(
        f"{file_of([key.partition('.')[0], key.partition('.')[2].partition(' ')[0]])}: {key} needs "
        f"{asked}, which this set-up does not have (it has "
        f"{', '.join(repr(word) for word in sorted(able)) or 'nothing of the kind'}).{advice}"
    )


def _who_gives(word: str, types: Types) -> Iterator[str]:
    """Parts that have a capability, some with the options that bring it."""
    keys = {"models": "model.kind", "data": "data.source", "losses": "loss.kind"}
    for kind, key in {**keys, "optimisers": "optimiser.kind"}.items():
        for name, options in types.options(kind).items():
            if any(word in part.capabilities() for part in samples_of(options)):
                yield f"{key} = {name}"


def samples_of(options: type[Options]) -> Iterator[Any]:
    """Instances of options: with defaults, and with every switch on; those that can be made."""
    switches: dict[str, Any] = {
        n: True for n, f in options.model_fields.items() if f.annotation is bool
    }
    tag = {n: get_args(f.annotation)[0] for n, f in options.model_fields.items() if _is_tag(n, f)}
    for changes in ({}, switches):
        yield options.model_construct(**tag, **changes)


def _is_tag(name: str, field: Any) -> bool:
    return name in ("kind", "source") and field.is_required()


# --- claims and figures


def given(setup: Any, process: str = DISCRETE) -> frozenset[str]:
    """Quantities that the tables of a case will have of a process; none where it does not run."""
    measurable = frozenset().union(*(options.gives() for _, options in measured(setup)))
    if process != DISCRETE:
        beside = dict(flows(setup))
        return measurable | BESIDE | beside[process].gives() if process in beside else frozenset()
    words = TRAINED | {"diverged_step"}
    if "finite samples" in capabilities(setup):
        words |= {"samples"}
    return words | measurable


def lacking(declared: Declared, setup: Any) -> dict[str, list[str]]:
    """Quantities that a claim or a figure needs and a case does not give, by the process."""
    wanted = {DISCRETE: declared.reads, **declared.beside}
    found = {
        process: [q for q in quantities if q not in given(setup, process)]
        for process, quantities in wanted.items()
    }
    return {process: missing for process, missing in found.items() if missing}


def matching(patterns: tuple[str, ...], cases: Iterable[str]) -> list[str]:
    """Cases that one of the patterns is about."""
    return [case for case in cases if any(fnmatchcase(case, p) for p in patterns)]


def claimed(claim: Declared, cases: Iterable[str]) -> list[str]:
    """Cases that a claim is about: none of its controls, on which it must fail."""
    chosen = matching(claim.cases, cases)
    controls = matching(claim.controls, chosen)
    return [case for case in chosen if case not in controls]


def check_claim(claim: Declared, cases: Mapping[str, Any], types: Types, where: str) -> None:
    """Refuse a claim that is about no case, or for which a case or control measures too little.

    Raises:
        ConfigError: it names the measurement that would help.
    """
    chosen = claimed(claim, cases)
    if not chosen:
        raise ConfigError(
            f"{where}: claims names {claim.name!r}, which is about the cases "
            f"{', '.join(claim.cases)}{_but(claim.controls)}, and there are only "
            f"{', '.join(cases)}.{nearest(claim.cases[0], cases)}"
        )
    for case in [*chosen, *matching(claim.controls, cases)]:
        for process, missing in lacking(claim, cases[case]).items():
            raise ConfigError(
                f"{where}: claims names {claim.name!r}, which reads {', '.join(missing)}"
                f"{_of(process)}, and the case {case!r} does not measure it."
                f"{_help(process, missing, cases[case], types)}"
            )


def _but(controls: tuple[str, ...]) -> str:
    return f" but its controls {', '.join(controls)}" if controls else ""


def check_figure(
    name: str, figure: Declared, cases: Mapping[str, Mapping[str, Any]], types: Types, where: str
) -> None:
    """Refuse a figure that no case of any of its experiments can feed.

    Args:
        name: of the figure, as the configuration has it.
        figure: what the figure says that it reads, and the cases that it is about.
        cases: set-ups by case, by experiment.
        types: of the configuration, to say which measurement would help.
        where: names the file in which the figure is asked for.

    Raises:
        ConfigError: it names the measurement that would help.
    """
    lacks: dict[str, list[str]] = {}
    setup: Any = None
    for setups in cases.values():
        for case in matching(figure.cases, setups):
            lacks, setup = lacking(figure, setups[case]), setups[case]
            if not lacks:
                return
    if not lacks:
        known = [case for setups in cases.values() for case in setups]
        raise ConfigError(
            f"{where}: figures names {name!r}, which draws the cases {', '.join(figure.cases)}, "
            f"and there are only {', '.join(known)}.{nearest(figure.cases[0], known)}"
        )
    process, missing = next(iter(lacks.items()))
    raise ConfigError(
        f"{where}: figures names {name!r}, which draws {', '.join(missing)}{_of(process)}, and no "
        f"case measures it.{_help(process, missing, setup, types)}"
    )


def _of(process: str) -> str:
    """Whose a quantity is, where it is not training's."""
    return "" if process == DISCRETE else f" of the process {process!r}"


def _help(process: str, quantities: list[str], setup: Any, types: Types) -> str:
    """` measurements.x gives it`, and what that needs."""
    known = types.options("flows")
    if process != DISCRETE and process not in dict(flows(setup)):
        asked = f" It runs where the set-up has flows.{process}." if process in known else ""
        return asked or f" There is no flow {process!r}.{nearest(process, known)}"
    if process != DISCRETE:
        own = dict(flows(setup))[process].gives() | BESIDE
        return f" It gives {', '.join(sorted(own))}, and what measurements give."
    texts = []
    for quantity in quantities:
        found = [
            name
            for name, options in types.options("measurements").items()
            if any(quantity in part.gives() for part in samples_of(options))
        ]
        if found:
            texts.append(f" {quantity} comes with measurements.{' or measurements.'.join(found)}.")
        else:
            every = {q for o in types.options("measurements").values() for p in samples_of(o)
                     for q in p.gives()} | BY_THE_WAY  # fmt: skip
            texts.append(f" No measurement gives {quantity!r}.{nearest(quantity, every)}")
    return "".join(texts)
