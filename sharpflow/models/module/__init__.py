"""A network of the user's own: a `torch.nn.Module` that a function of their file builds."""

import inspect
from collections.abc import Mapping
from typing import Any

from sharpflow.errors import PartError
from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel
from sharpflow.parts.loading import load_file
from sharpflow.parts.words import nearest


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: module, file, build, options}`.

    Raises:
        PartError: the file cannot be imported or has no such function, or the function does not
            take the options, needs others, or gives no network that can be trained.
    """
    file, name = options["file"], options["build"]
    found = load_file(file)
    function = getattr(found, name, None)
    if not callable(function):
        known = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
        raise PartError(f"{file} has no function {name!r}.{nearest(name, known)}")
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in options["options"]:
        if key not in parameters and not open_ended:
            raise PartError(
                f"model.options.{key}: the function {name!r} of {file} has no parameter of this "
                f"name; it has {', '.join(parameters) or 'none'}.{nearest(key, parameters)}"
            )
    given = {
        "width": setting.width,
        "input_shape": setting.input_shape,
        "outputs": setting.outputs,
        "vocabulary": setting.vocabulary,
    }
    arguments = {k: v for k, v in given.items() if k in parameters} | dict(options["options"])
    for key, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and key not in arguments:
            raise PartError(
                f"model.options: the function {name!r} of {file} needs {key!r}, which is neither "
                f"given nor one of {', '.join(given)}.{nearest(key, options['options'])}"
            )
    return ModuleModel(lambda: function(**arguments), setting)
