"""`python -m sharpflow.launch ARGUMENTS`: Snakemake, once an ownerless lock is out of the way.

A Ctrl-C ends it in a sentence, at whatever stage.

The configuration is checked first: Snakemake parses the file that it is given before any code of
ours can see how large or how deep it is.

A killed Snakemake leaves its lock behind. Here each start also holds an operating-system lock,
which dies with its process, and writes into it who it is: see `refusal`.
"""

import os
import shlex
import signal
import sys
from importlib.util import find_spec
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import Any

import yaml

from sharpflow.config import load
from sharpflow.config.writable import STATE, check_writable_results, check_writable_state
from sharpflow.errors import ConfigError, exit_status
from sharpflow.forkserver import hear_sigint
from sharpflow.storage.owner import Owner, read_owner, this_process, try_flock, write_owner

LOCK = "sharpflow.lock"
_BUILT_IN = ("local", "dryrun", "touch")
"""Executors that come with Snakemake."""


def heads() -> list[int]:
    """Process numbers of Snakemakes that run this folder's workflow, started in whatever way.

    The Snakemake inside a job of a cluster, which outlives a killed head, is none; nor is one of
    this module's, which holds the lock.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            same = (process / "cwd").resolve() == Path.cwd()
        except OSError:
            continue
        named = any(word.split(b"/")[-1] == b"snakemake" for word in words[:2])
        named = named or (b"-m", b"snakemake") in pairwise(words[:5])
        inner = {b"--mode", b"--target-jobs"} & {word.partition(b"=")[0] for word in words}
        if same and named and not inner and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def refusal(handle: int, here: Owner) -> str:
    """Take the folder's lock, or say in one paragraph why it cannot be taken.

    Where the file system has locks, one that is free on the machine that its owner ran on is proof
    that it is gone; everywhere else the record in the file decides.
    """
    owner, taken = read_owner(handle), try_flock(handle)
    if taken is False and owner is None:
        return "another run is at work in this folder; wait for it to end."
    locks = sorted((STATE / "locks").glob("*.lock"))
    if owner is None:
        state = "unknown" if locks else "gone"
    elif taken and (owner.host, owner.boot) == (here.host, here.boot):
        state = "alive" if owner.state(here) == "alive" else "gone"
    else:
        state = "alive" if taken is False else owner.state(here)
    if state == "unknown" and not locks:  # a run that ended takes its locks with it
        state = "gone"
    if state == "gone" and locks and (working := heads()):
        return f"Snakemake is at work in this folder (process {working[0]}); wait for it to end."
    if state == "gone":
        for lock in locks:
            lock.unlink(missing_ok=True)
        write_owner(handle, here)
        return ""
    if owner is None:
        return (
            f"{STATE / 'locks'} holds a lock, and nothing says whose. If no Snakemake works in "
            "this folder, here or on another machine, delete it with `snakemake --unlock`."
        )
    who = f"process {owner.process} of {owner.user} on {owner.host}"
    if state == "alive":
        return f"another run is at work in this folder ({who}); wait for it to end."
    return (
        f"another run has this folder ({who}), and whether it lives cannot be seen from "
        f"{here.host}. See there with `ps -p {owner.process}`; if it is gone, delete "
        f"{STATE / LOCK} and {STATE / 'locks'} and start again."
    )


def values(arguments: list[str], *options: str) -> list[str]:
    """What Snakemake's arguments give for options, each of which is one by any of its names."""
    found = []
    for at, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option in options:
            following = takewhile(lambda text: not text.startswith("-"), arguments[at + 1 :])
            found += [value] if value else list(following)
    return found


def _settings(file: Path) -> dict[str, Any]:
    """What a profile says; nothing of one that Snakemake will refuse itself."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def refuse_missing_plugins(arguments: list[str]) -> None:
    """Refuse a profile that is not there, and one that needs a plugin which is not installed.

    Snakemake goes on without the profile, on this machine.

    Raises:
        ConfigError: one paragraph that says what to install.
    """
    wanted = {
        "executor": values(arguments, "--executor", "-e"),
        "storage": values(arguments, "--default-storage-provider"),
    }
    for profile in values(arguments, "--workflow-profile"):
        files = sorted(Path(profile).glob("config*.yaml"))
        if profile != "none" and not files:
            raise ConfigError(
                f"--workflow-profile {profile}: there is no such profile, a folder that holds a "
                f"config.yaml; there are {', '.join(sorted(map(str, Path('profiles').glob('*'))))}."
            )
        for settings in map(_settings, files):
            for kind, key in (("executor", "executor"), ("storage", "default-storage-provider")):
                wanted[kind] += [settings[key]] if settings.get(key) else []
    for kind, names in wanted.items():
        for name in names:
            package = f"snakemake-{kind}-plugin-{name}"
            if name not in _BUILT_IN and find_spec(package.replace("-", "_")) is None:
                raise ConfigError(
                    f"Snakemake's {kind} {name!r} is asked for and is not installed: "
                    f"python -m pip install {package}; requirements.txt names the versions of "
                    "those that the profiles here use."
                )


def refuse_swallowed(arguments: list[str]) -> None:
    """Refuse targets that Snakemake would read as values of the option before them.

    Raises:
        ConfigError: one paragraph with the command as it was meant.
    """
    for at, argument in enumerate(arguments):
        words = list(takewhile(lambda text: not text.startswith("-"), arguments[at + 1 :]))
        if argument in ("--configfile", "--configfiles"):
            kept, lost = words[:1], words[1:]
            if all(word.endswith((".yaml", ".yml", ".json")) for word in lost):
                continue  # several files, which the Snakefile has a sentence for
        elif argument in ("--config", "-C"):
            lost = list(dropwhile(lambda word: "=" in word, words))
            kept = words[: len(words) - len(lost)]
        else:
            continue
        if lost:
            before = [*arguments[:at], argument, *kept, *arguments[at + 1 + len(words) :]]
            raise ConfigError(
                f"{argument} takes every word up to the next option, so {lost[0]!r} is read as one "
                "of its values and not as a target. Write -- before targets: "
                f"{shlex.join([*before, '--', *lost])}"
            )


def check(arguments: list[str]) -> None:
    """Refuse a configuration that is wrong, and results or records that could not be written.

    Raises:
        SharpflowError: one paragraph that names the file or the folder.
    """
    refuse_swallowed(arguments)
    refuse_missing_plugins(arguments)
    for file in values(arguments, "--configfile", "--configfiles"):
        check_writable_results(load(file).configuration.results, file)
    check_writable_state()


def main(arguments: list[str]) -> int:
    """Check the configuration, take the lock, clear what a killed run left, be Snakemake."""
    try:
        hear_sigint(signal.default_int_handler)
        return _started(arguments)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGINT)  # without waiting for threads of Snakemake's


def _started(arguments: list[str]) -> int:
    """The status of what `main` does."""
    if status := exit_status(lambda: check(arguments)):
        return status
    try:
        STATE.mkdir(exist_ok=True)
        handle = os.open(STATE / LOCK, os.O_RDWR | os.O_CREAT)  # held to the end, and not by jobs
    except OSError as error:
        print(f"Error: {STATE.absolute()} cannot be written: {error.strerror}.", file=sys.stderr)
        return 1
    if message := refusal(handle, this_process()):
        print(f"Error: {message}", file=sys.stderr)
        return 1
    from snakemake import cli

    sys.argv[:] = ["snakemake", *arguments]  # which its log begins with
    cli.main(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
