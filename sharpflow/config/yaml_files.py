"""Strict YAML: no duplicate keys, no anchors, no surprises with numbers."""

import re
from pathlib import Path
from typing import Any

import yaml

from sharpflow.errors import ConfigError, first_line

_LARGEST = 2**20


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, f"the alias *{event.anchor} is not supported here", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except (LookupError, AttributeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is not a {kind}", node.start_mark
            ) from error

    def construct_yaml_int(self, node):
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9]*)", str(node.value)):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is not a decimal number", node.start_mark
            )
        return int(node.value)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

# YAML 1.1 reads 5e-3 as text; here it is a number, as in YAML 1.2
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, where: str | Path) -> Any:
    """What a YAML text holds.

    Args:
        text: the YAML.
        where: what messages call it.

    Raises:
        ConfigError: it is not YAML, or nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        if "\\t" in problem:
            problem = "a tab stands where YAML wants spaces"
        raise ConfigError(f"{where}: {at}{problem}.") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is missing, over 1 MiB, not UTF-8, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path} is larger than 1 MiB: it is not a configuration file.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    document = parse_yaml(text, path)
    if not isinstance(document, dict):
        what = "nothing" if document is None else f"{document!r:.60}"
        raise ConfigError(f"{path} holds {what}; it must hold keys with values, `key: value`.")
    return document
