"""Errors that a user can act on: one paragraph, shown without a traceback."""

import os
import sys
from collections.abc import Callable


class SharpflowError(Exception):
    """A mistake in what sharpflow was given: configuration, parts, data or files."""


class ConfigError(SharpflowError):
    """The configuration asks for something that does not exist or cannot be."""


class PartError(SharpflowError):
    """The file of a part cannot be loaded, or what it gives is not what its kind must give."""


class DataError(SharpflowError):
    """A dataset is missing, malformed or too small."""


class IntegrityError(SharpflowError):
    """A file is not what was written: truncated, altered or of another job."""


class ResourceError(SharpflowError):
    """The machine has not what the work takes."""


class FlowError(SharpflowError):
    """A flow that runs beside training is not defined, or cannot be followed any further."""


class ClusterError(SharpflowError):
    """The batch system is not there, or refuses what it would be asked for."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def exit_status(command: Callable[[], int | None], *also: type[Exception]) -> int:
    """Run a command for its exit status: 1, with the message in one line, for a mistake.

    Where nobody reads on what it prints (`| head`) it ends quietly, with status 1 too.

    Args:
        command: prints what it has to say; it may return a status of its own.
        also: exceptions that are told like a SharpflowError.
    """
    try:
        status = command() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes what it still holds there
        return 1
    except (SharpflowError, *also) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
