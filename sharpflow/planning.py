"""What Snakemake works out and keeps anew for each job of a sweep, worked out and kept once.

Nothing here changes what is planned. Of the time that 1,000 shards took to plan, a quarter went
into the signatures of the same few functions and into the parts of the same few file names; of
what the plan of a shard holds, a third is copies of the same few empty things.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

_OTHERWISE = (ImportError, AttributeError, KeyError)
Function = TypeVar("Function", bound=Callable[..., Any])
_SETS = (
    *("temp_output", "protected_output", "touch_output", "pipe_or_service_output"),
    "_queue_input",
)
"""Of a job, which Snakemake fills when it makes the job."""
_WHY = ("updated_input", "missing_output", "updated_input_run")
"""Sets of a reason, each of which is made when it is first looked at."""
_EMPTY: frozenset[Any] = frozenset()
_NAMES = "_allowed_overrides"
"""Of a list of files: the same two words."""


def signed(function: Function) -> Function:
    """A function that has its signature at hand, where `inspect.signature` looks first."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def prepare() -> None:
    """Let Snakemake remember what it asks of every job, and keep what is the same for all once.

    A release that is made otherwise is left alone.
    """
    with suppress(*_OTHERWISE):
        import smart_open

        # a class is made at each call
        smart_open.parse_uri = cache(smart_open.parse_uri)
    with suppress(*_OTHERWISE):
        from snakemake.resources import Resource

        signed(Resource.evaluate)
    with suppress(*_OTHERWISE):
        from snakemake.iocontainers import AttributeGuard, Namedlist

        _one_for_each_name(AttributeGuard)
        setattr(Namedlist, _NAMES, _one_for_all(getattr(Namedlist(), _NAMES)))
    with suppress(*_OTHERWISE):
        from snakemake.io import _IOFile

        _IOFile.clone_flags = _flags_where_there_are_any(_IOFile.clone_flags)
    with suppress(*_OTHERWISE):
        from snakemake.jobs import Job, Reason

        truth: Any = _without_making_sets(Reason.__bool__)
        Reason.__bool__ = truth
        Job.__init__ = _without_empty_sets(Job.__init__)
        after = ("_wildcards", "_input", "_output")
        Job.__init__ = _with_names_of_likes(Job.__init__, after)
        Job._expand_params = _with_names_of_likes(Job._expand_params, ("_params",))
        # a table of a few files, which is asked for once
        job: Any = Job
        job.output_by_path = property(vars(Job)["output_by_path"].method)


def _one_for_each_name(guard: type) -> None:
    """Have a class with a name as its only argument make one object a name: two a list of files."""
    made: dict[Any, Any] = {}

    def new(cls: type, name: Any = None) -> Any:
        if name is None or cls is not guard:
            return object.__new__(cls)  # which is unpickled
        if name not in made:
            made[name] = object.__new__(cls)
        return made[name]

    guard.__new__ = new  # type: ignore[method-assign]


def _flags_where_there_are_any(clone: Callable[..., None]) -> Callable[..., None]:
    """A file is a string; one that can be flagged takes three objects more."""

    def cloned(self: Any, other: Any, skip_storage_object: bool = False) -> None:
        if skip_storage_object or other.flags or self.flags:
            clone(self, other, skip_storage_object)

    return cloned


def _without_empty_sets(make: Callable[..., None]) -> Callable[..., None]:
    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        for name in _SETS:
            if getattr(self, name, None) == _EMPTY:
                setattr(self, name, _EMPTY)

    return made


def _one_for_all(value: Any) -> property:
    """An attribute that is `value` in each object, whatever it is set to."""
    return property(lambda _: value, lambda *_: None)


def _without_making_sets(truth: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether there is a reason, without making the sets that nobody has put anything into."""

    def found(self: Any) -> bool:
        absent = [name for name in _WHY if getattr(self, f"_{name}", None) is None]
        for name in absent:
            setattr(self, f"_{name}", _EMPTY)
        try:
            return truth(self)
        finally:
            for name in absent:
                setattr(self, f"_{name}", None)

    return found


def _with_names_of_likes(make: Callable[..., None], lists: tuple[str, ...]) -> Callable[..., None]:
    """Lists of files of one rule have their names at the same places: one table for all."""
    tables: dict[Any, dict[str, Any]] = {}

    def made(self: Any, *arguments: Any, **named: Any) -> None:
        make(self, *arguments, **named)
        for name in lists:
            files = getattr(self, name)
            files._names = tables.setdefault(tuple(files._names.items()), files._names)

    return made
