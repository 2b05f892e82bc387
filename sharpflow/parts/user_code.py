"""Functions of a user's Python file, with the arguments that a configuration gives them."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sharpflow.errors import PartError
from sharpflow.parts.loading import load_file
from sharpflow.parts.words import nearest


def user_function(
    file: str,
    name: str,
    options: Mapping[str, Any],
    offered: Mapping[str, Any],
    key: str,
) -> Callable[[], Any]:
    """A function of a file, ready to be called.

    Args:
        file: path of a Python file.
        name: of the function.
        options: keyword arguments from the configuration.
        offered: further ones, of which it gets those that it has parameters for.
        key: where the options stand in the configuration, for messages.

    Raises:
        PartError: the file cannot be imported or has no such function, or the function does not
            take the options, or needs others.
    """
    found = load_file(file)
    function = getattr(found, name, None)
    if not callable(function):
        known = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
        raise PartError(f"{file} has no function {name!r}.{nearest(name, known)}")
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in parameters and not open_ended:
            raise PartError(
                f"{key}.{option}: the function {name!r} of {file} has no parameter of this "
                f"name; it has {', '.join(parameters) or 'none'}.{nearest(option, parameters)}"
            )
    arguments = {k: v for k, v in offered.items() if k in parameters} | dict(options)
    for need, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and need not in arguments:
            others = f" nor one of {', '.join(offered)}" if offered else ""
            raise PartError(
                f"{key}: the function {name!r} of {file} needs {need!r}, which is neither given"
                f"{others or ' nor has a default'}.{nearest(need, options)}"
            )
    return partial(function, **arguments)
