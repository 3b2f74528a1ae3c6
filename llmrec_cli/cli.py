"""The command line: command table, dispatch, exit codes. Imports nothing heavy."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec_cli import __version__
from llmrec_cli import distributed as processes
from llmrec_cli.errors import ConfigError, LlmrecError, is_out_of_memory, out_of_memory
from llmrec_cli.log_lines import time_lines

if TYPE_CHECKING:
    pass

SUMMARIES = {
    "prepare": "raw files -> prepared data: checked, filtered and split",
    "pretrain": "prepared data -> a text encoder trained on the domain's texts",
    "finetune": "prepared data -> a recommender",
    "evaluate": "a recommender -> metrics and a report",
    "recommend": "a recommender -> recommendation lists for users, groups, histories and texts",
    "publish": "a recommender -> lists in a folder that others read, if it passes the gate; `rollback=true` goes back",
    "retrain": "a night: prepare, finetune, refit and publish, under one lock",
    "runs": "the runs so far: results, state, size; `runs prune` removes old ones",
    "init": "your files -> a settings file for prepare, drafted from their first rows",
}
SHORT_FORMS = {"runs": {"prune": "prune=true", "--best": "best=true"}}
"""Words of a command that stand for a setting."""
# Words that other tools use for a command.
_SYNONYMS = {"train": "finetune", "fit": "finetune", "tune": "finetune", "test": "evaluate", "predict": "recommend",
             "rank": "recommend", "import": "prepare", "load": "prepare", "preprocess": "prepare"}
# Options of every command, and whether each takes a value.
OPTIONS = {"--cfg": True, "-c": True, "--multirun": False, "-m": False, "--config-dir": True, "-cd": True}

_HELP = ("-h", "--help", "help")

_USAGE = f"""llmrec {__version__}: recommendations from interaction logs, item text and a pretrained language model

usage: llmrec <command> [key=value ...]

commands, the first five in the order of use:
{chr(10).join(f"  {name:10} {summary}" for name, summary in SUMMARIES.items())}

options:
  llmrec <command> --help      print the inputs, outputs and main settings of a command
  llmrec <command> --help head list the options of a setting
  llmrec <command> --help head=ease
                               print the settings of an option, with defaults and ranges for tuning
  llmrec <command> --cfg job   print the complete configuration and stop
  llmrec <command> --multirun  run once per value, for example seed=1,2,3, and compare the runs
  llmrec <command> settings=<file>.yaml
                               use the settings in a YAML file, below those of the command line; one file for all
                               commands, each takes its own
  llmrec <command> --config-dir=<folder>
                               use your own options and experiments in YAML files, <folder>/head/<name>.yaml,
                               <folder>/experiment/<name>.yaml, ... (runs no code)
  llmrec <command> plugins=[<package>]
                               use heads, losses, encoders, ... of your own Python package (runs its code)
  llmrec --version             print the version
  llmrec -sc install=bash      print shell completion: eval "$(llmrec -sc install=bash)", zsh likewise;
                               in fish llmrec -sc install=fish | source

example:
  llmrec prepare dataset=movielens_100k && llmrec finetune && llmrec evaluate
"""


def main() -> None:
    """Run `llmrec` with the arguments of the process; exit with 0, or with the exit code of the error's class."""
    arguments = sys.argv[1:]
    # Before torch is loaded: spinning threads take the cores from working threads, which is 3 to 4 times slower on a
    # shared machine (docs/experiments.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.stdout is None or sys.stderr is None:
        # Closed by the caller (`>&-`): discard the output instead of failing.
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    time_lines()
    try:
        with processes.only_first_prints():
            code = run(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of stdout is gone: discard the rest, so that Python does not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except KeyboardInterrupt as error:
        print_notes(error, "interrupted")
        code = 128 + signal.SIGINT
    except SystemExit as error:
        print_notes(error)
        raise
    except LlmrecError as error:
        code = report_error(error, arguments)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        code = report_error(out_of_memory(arguments[0], error), arguments)
    # The process ends: the garbage collector need not go through all modules, which takes a third of a second.
    gc.freeze()
    sys.exit(code)


def print_notes(error: BaseException, otherwise: str = "") -> None:
    """Print the notes of an interruption to stderr, or the text `otherwise`."""
    text = "\n".join(getattr(error, "__notes__", [])) or otherwise
    if text and processes.is_first():
        print(text, file=sys.stderr)


def report_error(error: LlmrecError, arguments: Sequence[str]) -> int:
    """Print an error, unless another process has printed one, and return its exit code."""
    if processes.is_first_to_report():
        print_error(error, debug="debug=true" in arguments)
    return error.exit_code


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    if not arguments or arguments[0] in _HELP:
        if arguments[1:] and arguments[1] in SUMMARIES:
            return run([*arguments[1:], "--help"])
        print(_USAGE, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"llmrec {__version__}")
        return 0
    if arguments[0] in ("-sc", "--shell-completion"):
        from llmrec_cli.completion import complete

        return complete(arguments[1:], [*OPTIONS, "--help"])
    command, rest = arguments[0], expand_short_forms(arguments[0], arguments[1:])
    if command not in SUMMARIES:
        from llmrec_cli.settings.base import nearest

        if command.partition("=")[0] in OPTIONS:
            raise ConfigError(f"{command}: the command comes first, llmrec <command> {' '.join(arguments[:2])}")
        kind = "option" if command.startswith("-") else "command"
        names = [*SUMMARIES, "--help", "--version"]
        meant = f" (did you mean '{_SYNONYMS[command]}'?)" if command in _SYNONYMS else nearest(command, names)
        first = "; the command comes first: llmrec <command> key=value" if "=" in command else ""
        raise ConfigError(f"{command}: no such {kind}{meant}; choose one of {', '.join(names)}{first}")
    if any(word.startswith("plugins=") for word in rest):
        # Before anything reads the tables of options: help, name completion and composing.
        from llmrec_cli.plugins import load_plugins

        rest = load_plugins(rest)
    if set(_HELP) & set(rest):
        from llmrec_cli.help import help_text, options_help

        options, typed = divide([word for word in rest if word not in _HELP])
        print(options_help(command, typed, config_dir(options)) or help_text(command, SUMMARIES[command]), end="")
        return 0
    options, typed = divide(rest)
    folder = config_dir(options)
    several = bool({"--multirun", "-m"} & set(options))
    if (printed := option(options, "--cfg", "-c")) is not None:
        return print_config(command, typed, folder, printed, several)
    signal.signal(signal.SIGTERM, _terminated)
    from llmrec_cli.config import compose
    from llmrec_cli.stage_runs import run_several, run_stage

    if several:
        run_several(command, typed, folder)
    else:
        run_stage(command, compose(command, typed, folder))
    return 0


def expand_short_forms(command: str, words: Sequence[str]) -> list[str]:
    """Return the words after a command, with those that stand for a setting replaced by it."""
    return [SHORT_FORMS.get(command, {}).get(word, word) for word in words]


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options (with their values) and the settings; raise ConfigError for an unknown option."""
    options, settings, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("-"):
            settings.append(word)
            continue
        if name not in OPTIONS:
            raise ConfigError(f"{word}: no such option{_meant(word, rest)}")
        options.append(word)
        if OPTIONS[name] and "=" not in word:
            if not rest:
                raise ConfigError(f"{word}: expects a value")
            options.append(rest.pop(0))
    return options, settings


def _meant(word: str, after: Sequence[str]) -> str:
    """Return what was probably meant by an option that does not exist: a setting with dashes, or the nearest option."""
    from llmrec_cli.keys import names_of, parse_key
    from llmrec_cli.settings.base import nearest

    key = parse_key(word.lstrip("-").replace("-", "_"))
    if any(key.path[0] in names_of(command) for command in SUMMARIES):
        value = key.value or next((value for value in after[:1] if "=" not in value and key.value is None), "<value>")
        return f"; settings have no dashes, write {key.text}={value}"
    return nearest(word.partition("=")[0], [*OPTIONS, "--help"])


def option(options: Sequence[str], *names: str) -> str | None:
    """Return the value of the last of these options on the command line, or None."""
    result = None
    for n, word in enumerate(options):
        name, equals, value = word.partition("=")
        if name in names:
            result = value if equals else options[n + 1]
    return result


def config_dir(options: Sequence[str]) -> str | None:
    """Return the folder of --config-dir; raise ConfigError if it does not exist."""
    folder = option(options, "--config-dir", "-cd")
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder}: no such folder; give a folder that contains config groups")
    return folder


def print_config(command: str, typed: Sequence[str], folder: str | None, what: str, several: bool) -> int:
    """Print the composed configuration as YAML, even if incomplete, and then raise ConfigError with its problems.

    Settings that are only missing, such as the input files, are a note: the configuration is printed to see them.
    """
    from llmrec_cli.config import compose, compose_runs, describe

    if what != "job":
        raise ConfigError(f"--cfg {what}: not supported; write --cfg job")
    print(describe(command, typed, folder, several), end="", flush=True)
    try:
        (compose_runs if several else compose)(command, typed, folder)
    except ConfigError as error:
        if not all(": missing; " in problem for problem in error.problems):
            raise
        print(f"note: `llmrec {command}` would stop: {'; '.join(error.problems)}", file=sys.stderr)
    return 0


def print_error(error: LlmrecError, debug: bool) -> None:
    """Print an error to stderr, one line per problem, with control characters escaped."""
    if debug:
        traceback.print_exception(error)
    lines = str(error).split("\n")
    printable = ["".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines]
    first = f"llmrec: {error.kind}: "
    print(first + ("\n  ".join(["", *printable]) if len(lines) > 1 else printable[0]), file=sys.stderr)


def _terminated(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)
