"""Two results folders beside each other: settings, verdicts, curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sharpflow.config.scale import differing
from sharpflow.errors import ConfigError, IntegrityError
from sharpflow.report.text import flatten, number
from sharpflow.results.tables import of_training
from sharpflow.storage.parts import read_parts
from sharpflow.storage.seal import read_json
from sharpflow.storage.tables import read_table

CURVE = ["experiment", "case", "width", "learning_rate"]
"""What a curve is of."""
BESIDE = ("loss", "diverged_step")
"""What tells how long runs were, and which diverged."""
END = 1 / 3
"""Share of the steps, at the end, over which a curve's level is the mean."""


@dataclass(frozen=True)
class Results:
    """A finished results folder.

    Attributes:
        root: the folder.
        names: what to call the only case of an experiment instead, by the experiment's name.
    """

    root: Path
    names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings of every experiment by dotted key, those of a set-up in its cases.

        Raises:
            IntegrityError: there is no manifest, it was altered, or has no settings yet.
        """
        path = self.root / "manifest.json"
        experiments = read_json(path).get("experiments")
        if experiments is None:
            raise IntegrityError(
                f"{path} is of an older version, without settings; run the configuration again."
            )
        kept = {}
        for name, settings in experiments.items():
            shared = {key for case in settings["cases"].values() for key in case}
            kept[name] = {key: value for key, value in settings.items() if key not in shared}
            if name in self.names:
                kept[name]["cases"] = {self.names[name]: next(iter(settings["cases"].values()))}
        return dict(flatten(kept))

    @property
    def cases(self) -> dict[str, list[str]]:
        """Names of each experiment's cases.

        Raises:
            IntegrityError: as for `settings`.
        """
        found: dict[str, dict[str, None]] = {}
        for key in self.settings:
            experiment, _, case = _setup(key).partition("/")
            if case:
                found.setdefault(experiment, {})[case] = None
        return {experiment: list(names) for experiment, names in found.items()}

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Verdicts by experiment, claim and case.

        Raises:
            IntegrityError: the table is missing or was altered.
        """
        table = read_table(self.root / "claims.parquet")
        return self._named(table).set_index(["experiment", "claim", "case"])[
            ["verdict", "statistic"]
        ]

    def summary(self, quantity: str) -> pd.DataFrame:
        """Summary rows of a quantity, and of what tells how long runs were and which diverged.

        Columns of `CURVE`, step, quantity, index, mean, seeds.

        Raises:
            IntegrityError: a table was altered.
        """
        found = [
            of_training(
                read_parts(sorted(map(str, folder.glob("*.parquet"))), [quantity, *BESIDE])
            ).assign(experiment=folder.parent.name)
            for folder in sorted(self.root.glob("tables/*/summary"))
        ]
        columns = [*CURVE, "step", "quantity", "index", "mean", "seeds"]
        whole = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
        return self._named(whole[columns])

    def _named(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with cases called as `names` has them; a claim on all cases keeps its `all`."""
        rows = zip(table["experiment"], table["case"], strict=True)
        new = [case if case == "all" else self.names.get(name, case) for name, case in rows]
        return table.assign(case=new)


def paired(a: Results, b: Results) -> tuple[Results, Results]:
    """Two results, in which the only cases of an experiment have one name, such as `tanh→gelu`."""
    ours, theirs = a.cases, b.cases
    names = {
        experiment: f"{ours[experiment][0]}→{theirs[experiment][0]}"
        for experiment in ours
        if len(ours[experiment]) == len(theirs.get(experiment, ())) == 1
        and ours[experiment] != theirs[experiment]
    }
    return Results(a.root, names), Results(b.root, names)


def curves(summary: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Mean over seeds of a quantity: columns of `CURVE`, step, mean; its leading index only."""
    table = summary[summary["quantity"] == quantity]
    leading = table.groupby("experiment")["index"].transform("min")
    return table[table["index"] == leading][[*CURVE, "step", "mean"]]


def levels(summary: pd.DataFrame, quantity: str) -> pd.Series:
    """Mean of each curve over the last third of its run's steps, by the columns of `CURVE`.

    NaN where nothing was measured so late, as of runs that all diverged before.
    """
    own = curves(summary, quantity)
    ends = summary.groupby(CURVE)["step"].max().rename("last").reset_index()
    timed = own.merge(ends, on=CURVE)
    timed["mean"] = timed["mean"].where(timed["step"] >= (1 - END) * timed["last"])
    return timed.groupby(CURVE)["mean"].mean()


def diverged(summary: pd.DataFrame) -> dict[Any, str]:
    """How many of a network's runs diverged, and when, by the columns of `CURVE`."""
    marks = summary[summary["quantity"] == "diverged_step"]
    whole = summary.groupby(CURVE)["seeds"].max().to_dict()
    found = {}
    for key, rows in marks.groupby(CURVE):
        first, last = rows["step"].min(), rows["step"].max()
        when = f"step {first}" if first == last else f"steps {first} to {last}"
        found[key] = f"{rows['seeds'].sum()} of {whole.get(key)} diverged at {when}"
    return found


def common(
    a: Mapping[str, str], b: Mapping[str, str]
) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    """Settings of the set-ups that two results share, and those of one side alone, as `dense/tanh`.

    Args:
        a: settings by dotted key, as `Results.settings` has them.
        b: the same, of the other side.
    """
    setups = [dict.fromkeys(name for key in side if (name := _setup(key))) for side in (a, b)]
    alone = {
        side: [name for name in own if name not in other]
        for side, own, other in (("A", *setups), ("B", *setups[::-1]))
    }
    of_experiments = [{name.partition("/")[0] for name in names} for names in setups]
    kept = of_experiments[0] & of_experiments[1]
    shared = [
        {
            key: value
            for key, value in side.items()
            if key.partition(".")[0] in kept and _setup(key) not in [*alone["A"], *alone["B"]]
        }
        for side in (a, b)
    ]
    return shared, alone


def _setup(key: str) -> str:
    """Experiment and case of a setting; empty where it is of all cases."""
    experiment, _, rest = key.partition(".cases.")
    return f"{experiment}/{rest.partition('.')[0]}" if rest else ""


def report(a: Results, b: Results, quantity: str) -> str:
    """Both folders as text.

    Raises:
        ConfigError: neither folder has the quantity.
        IntegrityError: a file is missing or was altered.
    """
    a, b = paired(a, b)
    lines = [f"A  {a.root}", f"B  {b.root}", "", "Settings"]
    lines += [
        f"  {experiment}/{name}: the only case of A beside the only one of B"
        for experiment, name in a.names.items()
    ]
    (here, there), alone = common(a.settings, b.settings)
    lines += [f"  only in {side}: {', '.join(names)}" for side, names in alone.items() if names]
    both = list(differing(here, there, "–"))
    if both or not any(alone.values()):
        lines += _table(["", "A", "B"], both) if both else ["  the same"]
    lines += ["", "Verdicts", *_verdicts(a.verdicts, b.verdicts)]
    lines += ["", f"Curves: {quantity}, mean over seeds and the last third of the steps"]
    summaries = [each.summary(quantity) for each in (a, b)]
    ends = [levels(each, quantity) for each in summaries]
    if all(each.empty for each in ends):
        raise ConfigError(f"Neither folder has the quantity {quantity!r} in its tables.")
    joined = pd.concat(ends, axis=1, keys=["A", "B"]).sort_index()
    joined["B/A"] = joined["B"] / joined["A"]
    names = [_curve_name(key) for key in joined.index]
    rows = [(n, *map(number, row)) for n, row in zip(names, joined.to_numpy(), strict=True)]
    lines += _table(["", "A", "B", "B/A"], rows)
    marks = [
        f"  {side}  {_curve_name(key)}: {said}"
        for side, summary in zip("AB", summaries, strict=True)
        for key, said in diverged(summary).items()
        if key in joined.index
    ]
    if marks:
        lines += ["", "Diverged (a mean past that step is of the other runs)", *marks]
    return "\n".join(lines)


def _curve_name(key: Any) -> str:
    experiment, case, width, rate = key
    return f"{experiment}/{case}, width {width}, learning rate {number(rate)}"


def _verdicts(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    joined = a.merge(
        b, how="outer", left_index=True, right_index=True, suffixes=(" A", " B")
    ).astype(object)
    both = joined.dropna(subset=["verdict A", "verdict B"])
    same = both[both["verdict A"] == both["verdict B"]]
    other = both.drop(same.index)
    rows = [
        (" ".join(map(str, key)), _verdict(row, "A"), _verdict(row, "B"))
        for key, row in zip(other.index, other.to_dict("records"), strict=True)
    ]
    alone = [
        f", {len(joined) - missing} in {side} alone"
        for side, missing in (
            ("A", joined["verdict B"].notna().sum()),
            ("B", joined["verdict A"].notna().sum()),
        )
        if len(joined) > missing
    ]
    return [
        f"  {len(same)} the same, {len(other)} not{''.join(alone)}",
        *(_table(["", "A", "B"], rows) if rows else []),
    ]


def _verdict(row: Mapping[Any, Any], side: str) -> str:
    return f"{row[f'verdict {side}']} ({number(row[f'statistic {side}'])})"


def _table(heads: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of text below heads, in columns; long cells are cut."""
    cut = [[cell if len(cell) <= 60 else f"{cell[:59]}…" for cell in row] for row in [heads, *rows]]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cut
    ]


def draw(a: Results, b: Results, quantity: str) -> Figure:
    """One panel an experiment: curves of A as lines, of B dashed, one colour a network."""
    a, b = paired(a, b)
    summaries = {"A": a.summary(quantity), "B": b.summary(quantity)}
    tables = {side: curves(summary, quantity) for side, summary in summaries.items()}
    lost = {side: diverged(summary) for side, summary in summaries.items()}
    experiments = sorted({name for t in tables.values() for name in t["experiment"].unique()})
    figure = Figure(figsize=(7.0, 3.2 * len(experiments)), layout="constrained")
    panels = figure.subplots(len(experiments), 1, squeeze=False)[:, 0]
    for axes, experiment in zip(panels, experiments, strict=True):
        colours: dict[Any, str] = {}
        for side, table in tables.items():
            own = table[table["experiment"] == experiment]
            for key, curve in own.groupby(CURVE):
                colour = colours.setdefault(key, f"C{len(colours) % 10}")
                style = "-" if side == "A" else "--"
                label = f"{side}: {_curve_name(key).partition('/')[2]}"
                label += f" ({lost[side][key]})" if key in lost[side] else ""
                axes.plot(curve["step"], curve["mean"], style, color=colour, lw=1.2, label=label)
        axes.set(title=experiment, xlabel="step", ylabel=quantity.replace("_", " "))
        axes.legend(fontsize="x-small", ncols=2)
    return figure
