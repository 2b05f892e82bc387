"""Functions of a user's Python file, with the arguments that a configuration gives them."""

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sharpflow.errors import PartError
from sharpflow.parts.loading import load_file, parse
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
    _check_arguments(file, name, parameters, options, offered, key)
    given = {k: v for k, v in offered.items() if k in parameters} | dict(options)
    return partial(function, **given)


def check_function(
    file: str, name: str, options: Collection[str], offered: Collection[str], key: str
) -> None:
    """Refuse what `user_function` would refuse, as far as the file's text shows it: it is not run.

    Raises:
        PartError: the file cannot be read, or is not Python; it defines no such name, and cannot
            define it as it runs; or its function does not take the options, or needs others.
    """
    tree = parse(Path(file))
    nodes = list(_outer(tree))
    known = {name for node in nodes for name in _defined(node)}
    if "*" in known or "__getattr__" in known:
        return
    if name not in known:
        functions = [n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
        raise PartError(f"{file} has no function {name!r}.{nearest(name, functions)}")
    ours = [node for node in nodes if name in _defined(node)]
    if len(ours) == 1 and isinstance(ours[0], ast.FunctionDef) and not ours[0].decorator_list:
        parameters = _parameters(ours[0].args)
        _check_arguments(file, name, parameters, options, offered, key)


def _outer(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything of a module that is not inside a function or class; those themselves are."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _outer(node)


def _defined(node: ast.AST) -> list[str]:
    """Names that a statement may define; `*` where its text does not tell."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.alias):
        return [(node.asname or node.name).partition(".")[0]]
    dynamic = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("globals", "exec")
    return ["*"] if dynamic else []


def _parameters(arguments: ast.arguments) -> dict[str, inspect.Parameter]:
    """The parameters of a function as `inspect.signature` has them, defaults unread."""
    ordered = [*arguments.posonlyargs, *arguments.args]
    optional = {one.arg for one in ordered[len(ordered) - len(arguments.defaults) :]}
    optional |= {
        one.arg
        for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    kinds = inspect.Parameter
    of_kind = [
        (kinds.POSITIONAL_ONLY, arguments.posonlyargs),
        (kinds.POSITIONAL_OR_KEYWORD, arguments.args),
        (kinds.VAR_POSITIONAL, [arguments.vararg] if arguments.vararg else []),
        (kinds.KEYWORD_ONLY, arguments.kwonlyargs),
        (kinds.VAR_KEYWORD, [arguments.kwarg] if arguments.kwarg else []),
    ]
    return {
        one.arg: kinds(one.arg, kind, default=None if one.arg in optional else kinds.empty)
        for kind, ones in of_kind
        for one in ones
    }


def _check_arguments(
    file: str,
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    options: Collection[str],
    offered: Collection[str],
    key: str,
) -> None:
    """Refuse options that a function does not take, and a function that needs others.

    Raises:
        PartError: it is so.
    """
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for option in options:
        if option not in parameters and not open_ended:
            raise PartError(
                f"{key}.{option}: the function {name!r} of {file} has no parameter of this "
                f"name; it has {', '.join(parameters) or 'none'}.{nearest(option, parameters)}"
            )
    arguments = {*options, *(name for name in offered if name in parameters)}
    for need, parameter in parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and need not in arguments:
            others = f" nor one of {', '.join(offered)}" if offered else ""
            raise PartError(
                f"{key}: the function {name!r} of {file} needs {need!r}, which is neither given"
                f"{others or ' nor has a default'}.{nearest(need, options)}"
            )
