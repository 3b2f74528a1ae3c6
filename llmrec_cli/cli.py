"""The command line: command table, dispatch, exit codes. Imports nothing heavy."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from llmrec_cli import __version__
from llmrec_cli.errors import ConfigError, LlmrecError, ResourceError, is_out_of_memory
from llmrec_cli.scoring import processes

SUMMARIES = {
    "prepare": "raw files -> prepared data: checked, split, numbered",
    "pretrain": "prepared data -> a text encoder trained on the domain's texts",
    "finetune": "prepared data -> a recommender",
    "evaluate": "a recommender -> metrics.json and report.html",
    "recommend": "a recommender -> lists for users, groups, histories and texts",
}
# Hydra's own options that make sense here, and whether each takes a value.
OPTIONS = {"--cfg": True, "-c": True, "--multirun": False, "-m": False, "--config-dir": True, "-cd": True,
           "--info": True, "-i": True, "--resolve": False, "--package": True, "-p": True, "--hydra-help": False}

USAGE = f"""llmrec {__version__}: recommendations from interaction logs, item text and a pretrained language model

usage: llmrec <command> [key=value ...]

commands, in the order they are run:
{chr(10).join(f"  {name:10} {summary}" for name, summary in SUMMARIES.items())}

options:
  llmrec <command> --help      what a command reads and writes, and the settings people change
  llmrec <command> --cfg job   print the composed configuration and stop
  llmrec <command> --multirun  run once for each of several values: seed=1,2,3
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
        print(USAGE, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"llmrec {__version__}")
        return 0
    if arguments[0] in ("-sc", "--shell-completion"):
        from llmrec_cli.completion import complete

        return complete(arguments[1:])
    command, rest = arguments[0], list(arguments[1:])
    if command not in SUMMARIES:
        from llmrec_cli.settings.base import nearest

        what = "option" if command.startswith("-") else "command"
        known = [*SUMMARIES, "--help", "--version"]
        raise ConfigError(f"{command}: no such {what}{nearest(command, known)}; there are {', '.join(known)}")
    if "-h" in rest or "--help" in rest:
        from llmrec_cli.help import help_text

        print(help_text(command, SUMMARIES[command]), end="")
        return 0
    options, typed = divide(rest)
    if {"--multirun", "-m", "--cfg", "-c", "--info", "-i", "--hydra-help"} & set(options):
        return run_hydra(command, options, typed)
    from llmrec_cli.config import compose

    run_stage(command, compose(command, typed, config_dir(options)))
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


def config_dir(options: Sequence[str]) -> str | None:
    """Return the folder given by --config-dir, or refuse one that is not there."""
    for n, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            folder = value if equals else options[n + 1]
            if not Path(folder).is_dir():
                raise ConfigError(f"{name} {folder}: no such folder; name one with config groups in it")
            return folder
    return None


def run_hydra(command: str, options: Sequence[str], typed: Sequence[str]) -> int:
    """Let Hydra do what it does well: several runs, printing the configuration."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from llmrec_cli import config
    from llmrec_cli.overrides import chosen_groups, configs_dir, to_hydra

    folder = config_dir(options)
    sweep = "--multirun" in options or "-m" in options
    overrides, problems = to_hydra(command, typed, folder, sweep)
    if problems:
        raise ConfigError(problems)
    chosen = chosen_groups(command, typed, folder)
    incomplete: ConfigError | None = None
    if not sweep:
        try:
            config.compose(command, typed, folder)
        except ConfigError as error:
            # What is missing from a configuration is best seen in it: it is printed first.
            incomplete = error
    config.register_schemas()
    runs: list[Path] = []

    def job(composed: Any) -> None:
        try:
            runs.append(run_stage(command, config.to_settings(command, composed, chosen), HydraConfig.get().job.num))
        except LlmrecError as error:
            print_error(error, debug="debug=true" in typed)
            # Hydra would swallow the exception's kind; SystemExit goes through it.
            raise SystemExit(error.exit_code) from error

    sys.argv = ["llmrec", *options, f"hydra.job.name=llmrec {command}", *overrides]
    job.__module__ = "__main__"
    hydra.main(version_base="1.3", config_path=str(configs_dir()), config_name=command)(job)()
    if incomplete is not None:
        sys.stdout.flush()
        raise incomplete
    if command == "finetune" and len(runs) > 1 and processes.is_first():
        from llmrec_cli.stages.comparison import print_comparison

        print_comparison(runs)
    return 0


def run_stage(command: str, settings: Any, job: int | None = None) -> Path:
    """Run a stage in a new run directory, which only the first of several processes has, and return it."""
    import yaml

    from llmrec_cli.run_dir import (
        CONFIG,
        LATEST,
        LOCK,
        RUNS,
        NoRunDir,
        RunDir,
        environment,
        lock,
        require_link,
        write_bytes,
        write_json,
    )
    from llmrec_cli.settings.base import to_plain

    signal.signal(signal.SIGTERM, _terminated)
    processes.join(command)
    resume = getattr(settings, "resume", "")
    if not processes.is_first():
        with suppress(processes.LeftToFirst):
            import_module(f"llmrec_cli.stages.{command}").run(settings, NoRunDir(Path(resume or os.devnull)))
        return Path(os.devnull)
    # Before the work: it would be in vain where the newest run cannot be named at the end.
    require_link(RUNS / command / LATEST)
    run_dir = RunDir(Path(resume)) if resume else RunDir.create(command, settings.run_dir, job)
    with lock(run_dir.file(LOCK), f"the run in {run_dir.path}"):
        run_dir.clear()
        if not resume:
            run_dir.refuse_other(command)
        elif run_dir.is_finished and not run_dir.is_closed:
            run_dir.close(command)
            run_dir.log("finished", command=command)
            print(f"{command}: {run_dir.path} had done its work when it was interrupted; it is closed", file=sys.stderr)
            return run_dir.path
        # Where the run is, is not its business: the folder may be moved, and is then gone on with from there.
        kept = to_plain(settings) | ({"run_dir": "", "resume": ""} if resume else {"run_dir": ""})
        saved = yaml.safe_dump(kept, allow_unicode=True, sort_keys=False)
        write_bytes(run_dir.file(CONFIG), saved.encode())
        write_json(run_dir.file("environment.json"), environment())
        run_dir.log("started", command=command)
        with tracked(settings, run_dir):
            import_module(f"llmrec_cli.stages.{command}").run(settings, run_dir)
        run_dir.log("finished", command=command)
    print(f"{command}: wrote {run_dir.path}", file=sys.stderr)
    return run_dir.path


def tracked(settings: Any, run_dir: Any) -> AbstractContextManager[None]:
    """Return what tells a tracker of the run while it lasts, where the command has one."""
    tracker = getattr(settings, "tracker", None)
    if tracker is None:
        return nullcontext()
    from llmrec_cli.stages import tracking

    return tracking.tracked(tracker, run_dir, settings)


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
