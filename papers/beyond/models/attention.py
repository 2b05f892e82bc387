"""A single layer of attention with several heads (Vaswani et al. 2017), without biases."""

import math
from typing import Annotated, Any

import torch
from pydantic import Field

from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.models.base import Model
from sharpflow.parts.options import ModelOptions, PartOf


class Options(ModelOptions):
    """One layer of attention; the run's width is that of all heads together.

    Inputs are the tokens of a sequence one after another, and so are the outputs.
    """

    tokens: Annotated[int, Field(ge=2, le=1024)] = 8
    """Number of tokens in a sequence."""
    heads: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of heads."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "default"
    """Distribution of the initial weights."""
    imbalance: Annotated[float, Field(gt=0, le=100)] = 1.0
    """What initial queries and outputs are multiplied by, and keys and values divided by: the same
    function, with other charges."""

    def check(self, form, width):
        """Inputs and outputs are whole tokens, and heads share the width."""
        for name, size in (("inputs", form.size), ("outputs", form.outputs)):
            if size is not None and size % self.tokens:
                raise ValueError(f"{size} {name} are not {self.tokens} tokens of one size")
        if width % self.heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {self.heads}")

    def parameter_count(self, form, width):
        """Queries, keys, values and outputs."""
        if form.size is None or form.outputs is None:
            return None
        return (3 * form.size + form.outputs) // self.tokens * width

    def multiplications(self, form, width):
        """Those of the maps, and of the scores and the mixture of each token."""
        count = self.parameter_count(form, width)
        return None if count is None else self.tokens * (count + 2 * self.tokens * width)

    def units(self, form, width):
        """Queries, keys, values, mixtures and scores."""
        return self.tokens * (4 * width + 2 * self.heads * self.tokens) + (form.outputs or 1)


def attend(weights, tokens, heads):
    """Outputs (..., T, k) of tokens (..., T, d), for weights query, key, value and output."""

    def split(name):
        return (tokens @ weights[name].mT).unflatten(-1, (heads, -1)).transpose(-3, -2)

    query, key, value = split("query"), split("key"), split("value")
    mixed = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1) @ value
    return mixed.transpose(-3, -2).flatten(-2) @ weights["output"].mT


class Attention(Model):
    """`query`, `key` and `value` (R, width, d) and `output` (R, k, width)."""

    def __init__(self, setting, tokens: int, heads: int, imbalance: float, initialisation):
        self.layers = [["query"], ["key"], ["value"], ["output"]]
        self.tokens, self.heads, self.initialisation = tokens, heads, initialisation
        self.imbalance = imbalance
        self.sizes = setting.input_shape[0] // tokens, setting.width, setting.outputs // tokens

    def initialise(self, dataset, generator):
        """One run's parameters, float64."""
        inputs, width, outputs = self.sizes
        wanted = [
            Weight(name, (width, inputs), inputs, width) for name in ("query", "key", "value")
        ]
        wanted.append(Weight("output", (outputs, width), width, outputs))
        drawn = draw_weights(self.initialisation, wanted, dataset, generator)
        powers = {"query": 1, "key": -1, "value": -1, "output": 1}
        return {name: self.imbalance ** powers[name] * t for name, t in drawn.items()}

    def __call__(self, parameters, inputs):
        """Outputs (R, n, T·k) for inputs (n, T·d) or (R, n, T·d)."""
        weights = {name: weight.unsqueeze(-3) for name, weight in parameters.items()}
        return attend(weights, inputs.unflatten(-1, (self.tokens, -1)), self.heads).flatten(-2)


def build(options, setting):
    """The network of `{kind: attention, tokens, heads, imbalance, initialisation}`."""
    names = ("tokens", "heads", "imbalance", "initialisation")
    return Attention(setting, *(options[name] for name in names))
