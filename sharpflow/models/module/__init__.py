"""A network of the user's own: a `torch.nn.Module` that a function of their file builds."""

from collections.abc import Mapping
from typing import Any

from sharpflow.models.base import Setting
from sharpflow.models.functional import ModuleModel
from sharpflow.models.offered import OFFERED
from sharpflow.parts.user_code import user_function


def build(options: Mapping[str, Any], setting: Setting) -> ModuleModel:
    """The network of `{kind: module, file, build, options}`.

    Raises:
        PartError: the file cannot be imported or has no such function, or the function does not
            take the options, needs others, or gives no network that can be trained.
    """
    offered = {name: getattr(setting, name) for name in OFFERED}
    make = user_function(
        options["file"], options["build"], options["options"], offered, "model.options"
    )
    return ModuleModel(make, setting, f"{options['file']}:{options['build']}")
