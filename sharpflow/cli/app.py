"""The commands, as click reads them; what each does stands in a module of its own."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from sharpflow.errors import exit_status
from sharpflow.version import VERSION

SHELLS = ("bash", "zsh", "fish")
_PARTS = "data models losses initialisations optimisers schedules measurements flows claims figures"
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(names: Callable[[click.Context], Sequence[str]]) -> Completer:
    """Complete a word from names that are looked up when they are asked for."""

    def complete(context: click.Context, _: click.Parameter, start: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(name) for name in names(context) if name.startswith(start)]
        except Exception:  # a shell that completes has no place for a message
            return []

    return complete


def _experiments(_: click.Context) -> Sequence[str]:
    from sharpflow.cli.catalogue import catalogue

    return catalogue().names("experiment")


def _things(context: click.Context) -> Sequence[str]:
    from sharpflow.cli.catalogue import catalogue

    return catalogue().names(context.params["kind"])


def _configurations(_: click.Context) -> Sequence[str]:
    from sharpflow.config.home import configurations

    return [*configurations(), *map(str, Path(".").glob("**/*.yaml"))]


_config = click.option(
    "--config",
    metavar="NAME|FILE",
    shell_complete=_completer(_configurations),
    help="A configuration: one that ships, such as config, paper or smoke, or a YAML file.",
)
_cores = click.option("--cores", type=click.IntRange(1), help="CPUs to use; all by default.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="sharpflow")
def cli() -> None:
    """How step size and gradient noise shape the sharpness of neural networks.

    Results and Snakemake's records go to the folder that you are in.
    """


@cli.command()
@_cores
def demo(cores: int | None) -> int:
    """One network on photographs: its figure, verdicts and page, in about a minute.

    No network is needed: the photographs are the two that scikit-learn ships.
    """
    from sharpflow.config.home import configurations

    return _make(_here(configurations()["demo"]), cores)


@cli.command()
@click.argument("experiment", required=False, shell_complete=_completer(_experiments))
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of every case, its value in YAML: activation=gelu, 'learning_rates=[0.01]'.",
)
@click.option(
    "--case", "cases", multiple=True, metavar="NAME", help="A case to keep; all by default."
)
@click.option("--seeds", type=click.IntRange(1), help="Number of seeds.")
@_config
@click.option("--name", metavar="NAME", help="The results go to results/NAME.")
@_cores
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Say what would be done; only the configuration is written.",
)
def run(
    experiment: str | None,
    settings: tuple[str, ...],
    cases: tuple[str, ...],
    seeds: int | None,
    config: str | None,
    name: str | None,
    cores: int | None,
    dry_run: bool,
) -> int:
    """Run one experiment, changed or not, to its page; or a whole configuration.

    The configuration that is run is written into the results folder, and is that of the experiment
    in the first configuration that ships and runs it, unless --config names another.
    """
    from sharpflow.cli.catalogue import base_of, configuration_file
    from sharpflow.cli.changes import changed, pair
    from sharpflow.config import load
    from sharpflow.config.home import default

    if experiment is None:
        _refuse_without_experiment([*settings, *cases, name])
        file = configuration_file(config) if config else default()
        return _make(_here(file), cores, dry_run, {"seeds": seeds} if seeds else {})
    file = configuration_file(config) if config else base_of(experiment)
    base = load(file)
    pairs = [pair(text) for text in settings]
    result = changed(file, base, experiment, pairs, cases, seeds, name)
    before = {} if cases else {experiment: list(base.cases[experiment])}
    return _make(_written(result), cores, dry_run, before=before)


def _tell_cases(were: Sequence[str], kept: Sequence[str]) -> None:
    """Say which cases are run where there are several, and how to run fewer."""
    if len(kept) > 1:
        made = "" if set(kept) <= set(were) else f", made of {', '.join(were)}"
        which = "one of these" if made else "one"
        click.echo(f"{len(kept)} cases: {', '.join(kept)}{made}; --case NAME keeps {which}.")


def _here(file: Path) -> Path:
    """A configuration that lies below this folder: a copy of one that ships and lies elsewhere."""
    from sharpflow.cli.changes import whole
    from sharpflow.config import load
    from sharpflow.config.home import HOME

    path = file.resolve()
    if path.is_relative_to(Path.cwd()) or not path.is_relative_to(HOME):
        return file
    load(file)
    return _written(whole(file))


def _written(result: Any) -> Path:
    """Write a configuration with the command that this is; its path."""
    from sharpflow.cli.changes import write

    words = [word for word in sys.argv[1:] if word not in ("-n", "--dry-run")]
    file = write(result, f"sharpflow {shlex.join(words)}")
    click.echo(f"Configuration: {file}")
    return file


def _refuse_without_experiment(given: Sequence[str | None]) -> None:
    """Refuse options that change one experiment where none is named.

    Raises:
        UsageError: one was given.
    """
    if any(given):
        raise click.UsageError("--set, --case and --name are for an experiment: name it too.")


def _make(
    file: Path,
    cores: int | None,
    dry: bool = False,
    changes: Mapping[str, Any] | None = None,
    before: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Run a configuration, and say what came out.

    Args:
        file: of the configuration.
        cores: as for Snakemake; by default all.
        dry: whether to say only what would be done.
        changes: keys of the configuration with other values.
        before: experiments whose cases are told, with those that they were made of.
    """
    from sharpflow.cli import runs
    from sharpflow.config import load, make_plan

    settings, used = load(file, changes), cores or runs.cores()
    plan, results = make_plan(settings), Path(settings.configuration.results)
    for experiment, were in (before or {}).items():
        _tell_cases(were, list(settings.cases[experiment]))
    click.echo(runs.estimate(settings, plan, used))
    given = [f"{key}={value}" for key, value in (changes or {}).items()]
    status = runs.snakemake(
        [
            *("--cores", str(used), "--configfile", str(file)),
            *(["--config", *given] if given else []),
            *(["-n"] if dry else []),
        ]
    )
    if status == 0 and not dry:
        click.echo("\n".join(["", *runs.verdicts(results, plan), ""]))
        click.echo(f"Open the page with `sharpflow open {results}`.")
    return status


class _PassedOn(click.Command):
    """A command that gets its words as they stand: click would take the first `--` away."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read nothing of the words."""
        ctx.params = {"arguments": tuple(args)}
        return []


@cli.command("snakemake", cls=_PassedOn)
def snakemake_(arguments: tuple[str, ...]) -> int:
    """Snakemake on the workflow that came with sharpflow, with all arguments of Snakemake's.

    As in `sharpflow snakemake --cores 8 --configfile mine.yaml -- report`.
    """
    from sharpflow.cli import runs

    return runs.snakemake(arguments)


KINDS = ("experiment", "claim", "figure", "part", "paper")


@cli.command("list")
@click.argument("kind", type=click.Choice([f"{kind}s" for kind in KINDS]), default="experiments")
@_config
def list_(kind: str, config: str | None) -> None:
    """What there is: experiments, claims, figures, parts or papers."""
    from sharpflow.cli.catalogue import catalogue, configuration_file, listed

    found = catalogue(configuration_file(config) if config else None)
    rows = list(listed(found, kind.removesuffix("s")))
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, home, text in rows:
        click.echo(f"{name.ljust(widths[0])}  {home.ljust(widths[1])}  {text}".rstrip())


@cli.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", shell_complete=_completer(_things))
@_config
def show(kind: str, name: str, config: str | None) -> None:
    """What is known of one experiment, claim, figure, part or paper.

    An experiment is shown as its file has it, and with --config as that configuration changes it.
    """
    from sharpflow.cli.catalogue import catalogue, configuration_file, shown
    from sharpflow.config.yaml_files import read_yaml

    file = configuration_file(config) if config else None
    changes = read_yaml(file).get("overrides", {}).get(name) if file else None
    click.echo(shown(catalogue(file), kind, name, changes))


@cli.group()
def new() -> None:
    """Write a commented, working file to begin with."""


_paper = click.option(
    "--in", "paper", type=click.Path(path_type=Path), metavar="FOLDER", help="The paper's folder."
)


@new.command("experiment")
@click.argument("name")
@_paper
def new_experiment(name: str, paper: Path | None) -> None:
    """An experiment made of existing parts: one YAML file."""
    from sharpflow.cli import skeletons

    _told(skeletons.new_experiment(name, paper))
    configuration = "" if paper is None else f" --config {paper / 'config.yaml'}"
    click.echo(f"Run it with `sharpflow run {name}{configuration}`.")


@new.command("paper")
@click.argument("name")
def new_paper(name: str) -> None:
    """A paper's folder: what it says, an experiment, a claim, a figure."""
    from sharpflow.cli import skeletons

    files = skeletons.new_paper(name)
    _told(files)
    click.echo(f"Run it with `sharpflow run --config {files[0].parent / 'config.yaml'}`.")


@new.command("part")
@click.argument("name")
@click.option("--kind", type=click.Choice(_PARTS.split()), required=True, help="What it is.")
@_paper
def new_part(name: str, kind: str, paper: Path | None) -> None:
    """A part of a paper: a source of data, a network, a loss, a claim or a figure, say."""
    from sharpflow.cli import skeletons

    _told(skeletons.new_part(name, kind, paper))
    click.echo("Name it in an experiment of its paper; docs/how-to/extending.md has examples.")


def _new_named(singular: str) -> None:
    """Add `new claim` or `new figure`: parts that the other commands have a word for."""

    @new.command(singular)
    @click.argument("name")
    @_paper
    def command(name: str, paper: Path | None) -> None:
        from sharpflow.cli import skeletons

        _told(skeletons.new_part(name, f"{singular}s", paper))
        click.echo(f"Name it under `{singular}s:` in an experiment of its paper.")

    command.help = f"A {singular} of a paper: one Python file."


for _singular in ("claim", "figure"):
    _new_named(_singular)


def _told(files: Sequence[Path]) -> None:
    for file in files:
        click.echo(f"wrote {file}")


_QUANTITY = "gauss_newton_sharpness"


@cli.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--quantity", default=_QUANTITY, show_default=True, help="Whose curves.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the curves into this file.")
def compare(a: Path, b: Path, quantity: str, figure: Path | None) -> None:
    """Two results folders: settings and verdicts that differ, and the ends of curves."""
    from sharpflow.cli.compare import Results, draw, report
    from sharpflow.cli.runs import finished

    both = Results(finished(a)), Results(finished(b))
    click.echo(report(*both, quantity))
    if figure is not None:
        draw(*both, quantity).savefig(figure)
        click.echo(f"\nwrote {figure}")


@cli.command("open")
@click.argument("results", type=click.Path(path_type=Path), required=False)
def open_(results: Path | None) -> None:
    """Open the page of a results folder, or the newest below results/, in the browser."""
    from sharpflow.cli import runs
    from sharpflow.storage.files import PAGE

    page = runs.newest(results or Path("results")) / PAGE
    click.echo(page)
    runs.browse(page)


@cli.command()
@click.argument("config", required=False, shell_complete=_completer(_configurations))
def check(config: str | None) -> None:
    """Validate a configuration, or an experiment's file, and count its jobs; nothing is run."""
    from sharpflow.cli.catalogue import configuration_file
    from sharpflow.config.__main__ import checked

    click.echo(checked(configuration_file(config) if config else None), nl=False)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--repair", is_flag=True, help="Delete what differs; the next run makes it again.")
def verify(path: Path | None, repair: bool) -> int:
    """Is a results folder, the newest below results/, or one file, what jobs wrote?"""
    from sharpflow.cli import runs
    from sharpflow.verify import told

    return int(told(path or runs.newest(), repair))


@cli.command()
@click.argument("target", metavar="FILE:BUILD")
@click.option("-k", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option("--tol", type=click.FloatRange(0, 1, min_open=True), default=1e-3, show_default=True)
@click.option("--only", metavar="PATTERN", help="Parameters that vary, such as 'blocks.3.*'.")
def measure(target: str, k: int, tol: float, only: str | None) -> int:
    """Sharpness of a module of yours: the top eigenvalues of the Hessian of its loss.

    BUILD is a function in FILE that returns (model, loss, batches) with loss(model, batch), or
    (model, loss, inputs, targets) with loss(outputs, targets). The status is 1 where a value has
    not converged.
    """
    from sharpflow.cli.measure import measure as measured

    found = measured(target, k, tol, only)
    for value, residual in zip(found.values, found.residuals, strict=True):
        click.echo(f"{value:.6g}  residual {residual:.2g}{_stable(value)}")
    click.echo(f"{found.parameters:,} parameters, {found.products} Hessian-vector products")
    if not found.converged:
        click.echo(f"Not converged to a relative residual of {tol:g}.", err=True)
    return int(not found.converged)


def _stable(value: float) -> str:
    """The learning rates that gradient descent is stable with, where there is a limit."""
    return f"; gradient descent is stable for η < {2 / value:.4g}" if value > 0 else ""


@cli.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion of a shell.

    For bash: eval "$(sharpflow completion bash)", in ~/.bashrc say.
    """
    found = get_completion_class(shell)
    assert found is not None  # click has the three
    click.echo(found(cli, {}, "sharpflow", "_SHARPFLOW_COMPLETE").source())


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command line for its exit status; a mistake ends in one paragraph."""

    def command() -> Any:
        try:
            return cli.main(arguments, prog_name="sharpflow", standalone_mode=False)
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.Abort:
            return 130
        except click.ClickException as error:
            error.show()
            return error.exit_code

    return exit_status(lambda: command() or 0)
