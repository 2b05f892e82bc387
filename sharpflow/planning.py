"""What Snakemake works out anew for each job of a sweep, worked out once.

Nothing here changes what is planned. Of the time that 1,000 shards took to plan, a quarter went
into the signatures of the same few functions and into the parts of the same few file names.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def signed(function: Function) -> Function:
    """A function that has its signature at hand, where `inspect.signature` looks first."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def prepare() -> None:
    """Let Snakemake remember what it asks of every job; a release that does not is left alone."""
    with suppress(ImportError, AttributeError):
        import smart_open

        # a class is made at each call
        smart_open.parse_uri = cache(smart_open.parse_uri)
    with suppress(ImportError, AttributeError):
        from snakemake.resources import Resource

        signed(Resource.evaluate)
