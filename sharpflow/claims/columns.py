"""The tables of verdicts, column by column, and which of several verdicts is the worst.

It imports nothing, so that the console can read the tables without pandas.
"""

from collections.abc import Iterable

COLUMNS = {
    "claim": "the claim's name, that of its function",
    "paper": "key of the paper that it belongs to",
    "figure": "figure of the experiment that draws what it reads; may be empty",
    "experiment": "the experiment that was judged",
    "case": "the case, with width and learning rate where it has several; `all` for all together",
    "control": "true for a control, on which the claim must fail: it counts as no measurement",
    "statement": "the claim as a sentence",
    "source": "where it comes from: `paper: …` with the place there, or `drawn here: …` from what",
    "estimand": "what the sentence is about: `runs`, every run; `mean`, a level",
    "statistic": "share of runs in the band, or mean over seeds, as `estimand` says",
    "low": "lower end of the interval for `statistic`",
    "high": "its upper end",
    "confidence": "level of the interval",
    "median": "median over seeds of each seed's value, of those that have one",
    "least": "the least of these values",
    "largest": "the largest of them",
    "band_low": "lower end of the band; may be infinite",
    "band_high": "its upper end",
    "origin": "where the band comes from: `stated: …`, `derived: …` or `chosen: …`",
    "revised": "how the band was changed after verdicts had been seen; empty where it was not",
    "verdict": "`supported`, `not supported`, `straddles` (the seeds allow both) or `undefined`",
    "reason": "what a reader should know of the verdict; may be empty",
    "seeds": "number of seeds",
    "inside": "how many of them have a value in the band",
    "undefined": "how many have no value, which could decide",
    "failed": "how many failed outright: outside every band, with no value either",
    "diverged": "how many of those that failed diverged",
    "p_value": "two-sided, of the hypothesis that the claim holds",
    "size": "largest chance of a `not supported` by chance where the claim holds",
    "noticed": "the failure that these seeds would have noticed four times in five",
    "method": "how a seed's value is made; how the interval is",
}
"""Columns of `claims.csv`, a row a measurement, each with what it holds."""

SEED_COLUMNS = {
    "paper": "as in `claims.csv`, as the next four",
    "experiment": "the experiment that was judged",
    "claim": "the claim's name",
    "case": "the case, or `all`",
    "control": "true for a control",
    "seed": "the seed",
    "value": "the statistic of its run, or of its runs; empty where there is none",
    "inside": "whether it lies in the band",
    "reason": "why there is no value: `undefined: …` or `failed: …`",
}
"""Columns of `claims_by_seed.csv`, a row a seed of each row of `claims.csv`."""

WORST_FIRST = ("not supported", "undefined", "straddles", "supported")


def worst(verdicts: Iterable[str]) -> str:
    """The verdict on a claim from those on its measurements: it must hold in every one."""
    return min(verdicts, key=WORST_FIRST.index)
