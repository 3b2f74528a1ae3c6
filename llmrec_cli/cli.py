"""The command line: command table, dispatch, exit codes. Imports nothing heavy."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from llmrec_cli import __version__
from llmrec_cli import distributed as processes
from llmrec_cli.errors import ConfigError, LlmrecError, ResourceError, is_out_of_memory

SUMMARIES = {
    "prepare": "raw files -> prepared data: checked, split, numbered",
    "pretrain": "prepared data -> a text encoder trained on the domain's texts",
    "finetune": "prepared data -> a recommender",
    "evaluate": "a recommender -> metrics.json and report.html",
    "recommend": "a recommender -> lists for users, groups, histories and texts",
}
# Options of every command, and whether each takes a value.
OPTIONS = {"--cfg": True, "-c": True, "--multirun": False, "-m": False, "--config-dir": True, "-cd": True}

_USAGE = f"""llmrec {__version__}: recommendations from interaction logs, item text and a pretrained language model

usage: llmrec <command> [key=value ...]

commands, in the order they are run:
{chr(10).join(f"  {name:10} {summary}" for name, summary in SUMMARIES.items())}

options:
  llmrec <command> --help      what a command reads and writes, and the settings people change
  llmrec <command> --cfg job   print the composed configuration and stop
  llmrec <command> --multirun  run once for each of several values, seed=1,2,3, and compare the runs
  llmrec <command> --config-dir=<folder>
                               options and experiments of your own, <folder>/<group>/<name>.yaml; they are data
  llmrec <command> plugins=[<package>]
                               heads, losses, encoders ... of a package of your own; they are code
  llmrec --version             print the version
  llmrec -sc install=bash      print shell completion: eval "$(llmrec -sc install=bash)"; fish and zsh likewise

example:
  llmrec prepare dataset=movielens_100k && llmrec finetune && llmrec evaluate
"""


def main() -> None:
    """Run `llmrec` with the arguments of the process and exit with the code of the fault matrix."""
    arguments = sys.argv[1:]
    # Before torch is loaded: threads that wait by spinning take the cores from those that work, 3 to 4 times slower
    # where the machine is shared (docs/experiments.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.stdout is None or sys.stderr is None:
        # Closed by the caller (`>&-`): what is printed goes nowhere, and nothing must fail for it.
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    try:
        with processes.only_first_prints():
            code = run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read stdout has left; what is unwritten goes nowhere, and Python must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        if processes.is_first():
            print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except LlmrecError as error:
        code = told(error, arguments)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = " ".join(str(error).split())[:200] or type(error).__name__
        code = told(ResourceError(f"{arguments[0]}: out of memory ({what}); choose smaller settings, smaller data, or "
                                  f"a machine with more memory"), arguments)
    sys.exit(code)


def told(error: LlmrecError, arguments: Sequence[str]) -> int:
    """Print an error, unless another process has, and return its exit code."""
    if processes.is_first_to_tell():
        print_error(error, debug="debug=true" in arguments)
    return error.exit_code


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"llmrec {__version__}")
        return 0
    if arguments[0] in ("-sc", "--shell-completion"):
        from llmrec_cli.help import complete

        return complete(arguments[1:])
    command, rest = arguments[0], list(arguments[1:])
    if command not in SUMMARIES:
        from llmrec_cli.settings.base import nearest

        what = "option" if command.startswith("-") else "command"
        known = [*SUMMARIES, "--help", "--version"]
        raise ConfigError(f"{command}: no such {what}{nearest(command, known)}; there are {', '.join(known)}")
    if any(word.startswith("plugins=") for word in rest):
        # Before anything looks at the tables of options: help, completion of names and composing.
        from llmrec_cli.plugins import take_plugins

        rest = take_plugins(rest)
    if "-h" in rest or "--help" in rest:
        from llmrec_cli.help import help_text

        print(help_text(command, SUMMARIES[command]), end="")
        return 0
    options, typed = divide(rest)
    folder = config_dir(options)
    several = bool({"--multirun", "-m"} & set(options))
    if (printed := option(options, "--cfg", "-c")) is not None:
        return print_config(command, typed, folder, printed, several)
    if several:
        return run_several(command, typed, folder)
    from llmrec_cli.config import compose

    run_stage(command, compose(command, typed, folder))
    return 0


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's options (with their values) and the settings, or refuse an unknown option."""
    options, settings, waiting = [], [], list(arguments)
    while waiting:
        word = waiting.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("-"):
            settings.append(word)
            continue
        if name not in OPTIONS:
            from llmrec_cli.settings.base import nearest

            raise ConfigError(f"{word}: no such option{nearest(name, [*OPTIONS, '--help'])}")
        options.append(word)
        if OPTIONS[name] and "=" not in word:
            if not waiting:
                raise ConfigError(f"{word}: expects a value")
            options.append(waiting.pop(0))
    return options, settings


def option(options: Sequence[str], *names: str) -> str | None:
    """Return the value of the last of these options that was given, or None."""
    found = None
    for n, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else options[n + 1]
    return found


def config_dir(options: Sequence[str]) -> str | None:
    """Return the folder given by --config-dir, or refuse one that is not there."""
    folder = option(options, "--config-dir", "-cd")
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder}: no such folder; name one with config groups in it")
    return folder


def print_config(command: str, typed: Sequence[str], folder: str | None, what: str, several: bool) -> int:
    """Print the composed configuration as YAML, also an incomplete one, and then refuse what is wrong with it."""
    from llmrec_cli.config import compose, compose_runs, describe

    if what != "job":
        raise ConfigError(f"--cfg {what}: write --cfg job; nothing else is configured by YAML")
    print(describe(command, typed, folder, several), end="", flush=True)
    if several:
        compose_runs(command, typed, folder)
    else:
        compose(command, typed, folder)
    return 0


def run_several(command: str, typed: Sequence[str], folder: str | None) -> int:
    """Run a command once for every combination of values, each in a run directory of its own, and compare the runs.

    All are composed before the first runs. The first that fails ends it, after a table of those before it.
    """
    from llmrec_cli.config import compose_runs

    planned = compose_runs(command, typed, folder)
    done: list[Path] = []
    try:
        for number, run in enumerate(planned):
            if processes.is_first():
                print(f"{command}: run {number + 1} of {len(planned)}{': ' * bool(run.shown)}{run.shown}",
                      file=sys.stderr)
            done.append(run_stage(command, run.settings, number))
    finally:
        if len(done) > 1 and processes.is_first():
            from llmrec_cli.report.multirun import print_comparison

            print_comparison(command, done)
    return 0


def run_stage(command: str, settings: Any, job: int | None = None) -> Path:
    """Run a stage in a new run directory, which only the first of several processes has, and return it."""
    from llmrec_cli.run_dir import NoRunDir, RunDir

    signal.signal(signal.SIGTERM, _terminated)
    processes.join(command)
    resume = getattr(settings, "resume", "")
    if not processes.is_first():
        # What remains of a run that has done its work, or is wrong with resuming it, is for the first alone.
        if not (resume and RunDir(Path(resume)).is_finished):
            with suppress(processes.LeftToFirst):
                run_in(NoRunDir(Path(resume or os.devnull)), command, settings)
        return Path(os.devnull)
    if resume and close_run(command, Path(resume)):
        return Path(resume)
    with ExitStack() as stack:
        try:
            run_dir = stack.enter_context(opened_run(command, settings, job))
        except ResourceError as error:
            if not settings.only_prints:
                raise
            print(f"note: this run is not recorded: {error}", file=sys.stderr)
            run_in(NoRunDir(), command, settings)
            return Path(os.devnull)
        with tracked(settings, run_dir):
            run_in(run_dir, command, settings)
        run_dir.log("finished", command=command)
    print(f"{command}: wrote {run_dir.path}", file=sys.stderr)
    return run_dir.path


def close_run(command: str, folder: Path) -> bool:
    """Put in order a run that was killed after its work, and return True; False for any other."""
    from llmrec_cli.atomic_files import lock
    from llmrec_cli.run_dir import LOCK, RunDir

    run_dir = RunDir(folder)
    with lock(run_dir.file(LOCK), f"the run in {folder}"):
        if not run_dir.is_finished or run_dir.is_closed:
            return False
        run_dir.clear()
        run_dir.close(command)
        run_dir.log("finished", command=command)
    print(f"{command}: {folder} had done its work when it was interrupted; nothing was left to train", file=sys.stderr)
    return True


def run_in(run_dir: Any, command: str, settings: Any) -> None:
    """Run a stage; only now it is imported, for that takes seconds and what is refused before is refused at once."""
    import_module(f"llmrec_cli.stages.{command}").run(settings, run_dir)


@contextmanager
def opened_run(command: str, settings: Any, job: int | None) -> Iterator[Any]:
    """Yield the run directory, locked, with the configuration and the environment written into it."""
    from llmrec_cli.atomic_files import lock, require_link, write_bytes, write_json
    from llmrec_cli.plain_yaml import dump_yaml
    from llmrec_cli.plugins import packages_of
    from llmrec_cli.run_dir import CONFIG, ENVIRONMENT, LATEST, LOCK, RUNS, RunDir, environment
    from llmrec_cli.settings.base import to_plain

    resume = getattr(settings, "resume", "")
    # Before the work: it would be in vain where the newest run cannot be named at the end.
    require_link(RUNS / command / LATEST)
    run_dir = RunDir(Path(resume)) if resume else RunDir.create(command, settings.run_dir, job)
    with lock(run_dir.file(LOCK), f"the run in {run_dir.path}"):
        run_dir.clear()
        if not resume:
            run_dir.refuse_other(command)
        # Where the run is, is not its business: the folder may be moved, and is then gone on with from there.
        kept = to_plain(settings) | ({"run_dir": "", "resume": ""} if resume else {"run_dir": ""})
        write_bytes(run_dir.file(CONFIG), dump_yaml(kept).encode())
        packages = packages_of(settings)
        write_json(run_dir.file(ENVIRONMENT), environment() | ({"plugins": packages} if packages else {}))
        run_dir.log("started", command=command)
        yield run_dir


def tracked(settings: Any, run_dir: Any) -> AbstractContextManager[None]:
    """Return what tells a tracker of the run while it lasts, where the command has one."""
    tracker = getattr(settings, "tracker", None)
    if tracker is None:
        return nullcontext()
    from llmrec_cli.training import tracking

    return tracking.track_run(tracker, run_dir, settings)


def print_error(error: LlmrecError, debug: bool) -> None:
    """Print an error to stderr, each problem on a line, without control codes from what it quotes."""
    if debug:
        traceback.print_exception(error)
    lines = str(error).split("\n")
    printable = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines]
    first = f"llmrec: {error.kind}: "
    print(first + ("\n  ".join(["", *printable]) if len(lines) > 1 else printable[0]), file=sys.stderr)


def _terminated(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)
