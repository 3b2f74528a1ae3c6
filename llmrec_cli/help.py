"""`llmrec <command> --help`: inputs, outputs and the main settings of a command; with `head=ease`, those of an option.

The help is generated from the docstrings under the fields, the defaults in dataclasses and YAML, and the tables of
options and metrics, so that it cannot contradict the code.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from llmrec_cli.config import compose_defaults
from llmrec_cli.errors import ConfigError
from llmrec_cli.keys import config_groups_of
from llmrec_cli.metrics.table import METRICS, sentence
from llmrec_cli.option_files import choices, choices_of, merge, option_values, values_over_options
from llmrec_cli.overrides import to_changes
from llmrec_cli.settings.base import Settings
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.search import flat_search
from llmrec_cli.settings.stages import COMMANDS

ABOUT = {
    "prepare": ("interaction, item and user files (CSV, TSV, JSONL, Parquet; .gz, .zst), or a public data set",
                "data/prepared/<dataset.name>: interactions, items, users, rejects (Parquet) and manifest.json",
                ["dataset", "dataset.interactions", "dataset.items", "dataset.columns", "dataset.formats",
                 "dataset.item_text",
                 "dataset.attributes", "dataset.min_value", "dataset.min_user_interactions",
                 "dataset.min_item_interactions", "dataset.duplicates", "dataset.drop_users", "dataset.newest",
                 "dataset.timestamp_unit", "dataset.name",
                 "dataset.feedback", "dataset.audit", "dataset.groups", "dataset.knowledge", "split", "engine",
                 "output", "mode", "force", "language"],
                ["llmrec prepare dataset=movielens_100k dataset.min_value=4",
                 "llmrec prepare dataset=files dataset.name=shop dataset.interactions=clicks.csv "
                 "dataset.items=items.jsonl dataset.columns.item_id=sku split=leave_last_out"]),
    "pretrain": ("prepared data",
                 "<run>/encoder (a Hugging Face folder), metrics.json (held-out loss and accuracy, before and after)",
                 ["prepared", "encoder", "objective", "optim.epochs", "optim.encoder_learning_rate",
                  "optim.learning_rate", "optim.batch_size", "tracker", "language", "device", "seed", "resume"],
                 ["llmrec pretrain encoder=minilm objective=mlm", "llmrec finetune encoder=pretrained"]),
    "finetune": ("prepared data, and the text encoder of encoder=",
                 "<run>/model (complete, can be copied), log.jsonl, TensorBoard events; with tuning: trials.csv",
                 ["prepared", "head", "encoder", "peft", "adversarial", "loss", "optim.learning_rate", "optim.epochs",
                  "optim.batch_size", "optim.precision", "entities", "monitor", "audience", "validation", "refit",
                  "tune.trials", "tune.budget", "tune.timeout_s", "head.search", "tracker", "device", "seed", "resume"],
                 ["llmrec finetune head=two_tower encoder=minilm peft=lora adversarial=fgm",
                  "llmrec finetune head=fusion head.members.ease.features.text=4",
                  "llmrec finetune head=two_tower peft=frozen tune.trials=30 head.search.dropout.high=0.5",
                  "llmrec finetune head=content head.features.tuned=true peft=embedding_adapter",
                  "llmrec finetune head=ease head.l2=100,200,400 --multirun",
                  "llmrec finetune experiment=peft_comparison --multirun"]),
    "evaluate": ("a model and the prepared data it was trained on",
                 "<run>/metrics.json, per_user.parquet, recommendations.parquet, report.html",
                 ["model", "models", "about", "prepared", "protocol", "split", "queries", "audience", "history", "k",
                  "candidates", "exclude_seen", "baselines", "slices", "exposure", "graded", "ties", "propensity",
                  "num_bootstrap", "robustness", "knowledge", "cold_users", "language", "device", "seed"],
                 ["llmrec evaluate", "llmrec evaluate model=runs/finetune/latest k=[10,100]",
                  "llmrec evaluate models=[runs/finetune/a,runs/finetune/b] slices=[item:genres,user:history:4]",
                  "llmrec evaluate candidates=sampled:99 k=[10]", "llmrec evaluate queries=rows.jsonl"]),
    "recommend": ("a model; queries: all users or groups, a file, or one query on the command line",
                  "lists to output= (.parquet, .jsonl, .csv), or a table on the terminal",
                  ["model", "queries", "query.user_id", "query.history", "query.text", "query.group_id",
                   "query.members", "history", "interactions", "items", "users", "candidates", "on_unknown",
                   "delisted", "k", "exclude_seen", "reasons", "output", "output.escape_formulas", "device"],
                  ["llmrec recommend queries=all k=100 output=recs.parquet",
                   "llmrec recommend query.text='slow science fiction, about memory'",
                   "llmrec recommend query.history=[50,172,181]",
                   "llmrec recommend query.members=[13,181,655] reasons=true"]),
    "publish": ("a model, the prepared data it was trained on, and the version that is current",
                "<to>/current: recommendations.parquet, model, metrics.json, report.html, gate.json",
                ["to", "model", "evaluated", "prepared", "k", "gate.metric", "gate.regression", "gate.slice_names",
                 "gate.review", "rollback", "promote", "history", "keep", "keep_days", "pin", "unpin", "language",
                 "device", "seed"],
                ["llmrec publish to=published", "llmrec publish to=published gate.rows=warn gate.floor.limit=0.1",
                 "llmrec publish to=published rollback=true",
                 "llmrec publish to=published history=true"]),
    "retrain": ("raw files, by a settings file", "<publish>/current, if the gate lets it; runs/retrain/<night>",
                ["publish", "with_prepare", "with_pretrain", "with_finetune", "refit", "k", "gate.metric",
                 "gate.regression", "gate.slice_names", "gate.review", "keep", "keep_days", "language", "device",
                 "seed"],
                ["llmrec retrain publish=published 'with_prepare=[dataset.interactions=clicks.csv]'",
                 "llmrec retrain 'with_prepare=[mode=append,dataset.interactions=today.csv]'"]),
    "runs": ("runs/<command>/<run>: logs and manifests",
             "a table of the runs, newest first, or output=; with prune=true it removes run folders",
             ["command", "data", "best", "output", "prune", "keep", "dry_run", "published"],
             ["llmrec runs command=finetune data=shop --best", "llmrec runs output=runs.csv",
              "llmrec runs prune keep=20 dry_run=false"]),
    "init": ("the first rows of files of interactions, items, users and groups, in any format and language",
             "a settings file (output=) with roles, columns, formats, times, events, texts and attributes",
             ["files", "output", "name"],
             ["llmrec init orders.csv products.csv", "llmrec init events.jsonl output=events.yaml"]),
}


def help_text(command: str, summary: str) -> str:
    """Return the help of a command."""
    reads, writes, keys, examples = ABOUT[command]
    composed, settings = compose_defaults(command), COMMANDS[command]
    lines = [f"llmrec {command}: {summary}", "", f"reads:   {reads}", f"writes:  {writes}", "", "settings:"]
    for key in keys:
        lines += _setting(command, key, composed)
    if command == "evaluate":
        lines += ["", *_metrics()]
    if "seed" in keys:
        lines += ["", "several seeds: seed=1,2,3 --multirun"]
    lines += ["", "settings of every command:",
              *(_entry("run_dir=", "Folder of the run; empty for runs/<command>/<time>_<head>-<data>.", 34)
                if settings.has_run_dir else ()),
              *_entry("settings=", f"{field_doc(COMMANDS[command], 'settings')}", 34),
              *_entry("debug=false", "true: print a traceback with every error.", 34),
              *_entry("plugins=[]", "Your own Python packages that add options, for example plugins=[my_package].", 34),
              *_entry("experiment=", f"Saved settings of an experiment: {', '.join(choices('experiment'))}.", 34),
              "", f"all settings and their values: llmrec {command} --cfg job",
              *_about_options(command), "", "examples:"]
    return "\n".join([*lines, *(f"  {example}" for example in examples)]) + "\n"


def _about_options(command: str) -> Iterator[str]:
    """Yield how to print the settings of one option, with the command's first config group as the example."""
    for group in list(config_groups_of(command))[:1]:
        yield f"settings of one option: llmrec {command} --help {group}={compose_defaults(command)[group]['kind']}"


def options_help(command: str, typed: Sequence[str], config_dir: str | None = None) -> str:
    """Return the help of each option that a command line chooses, such as head=ease; empty if it chooses none.

    For the name of a config group alone, such as head, it lists the options. Raises ConfigError for settings and
    options that the command does not have.
    """
    groups = config_groups_of(command)
    named, typed = [word for word in typed if word in groups], [word for word in typed if word not in groups]
    if problems := to_changes(command, typed, config_dir)[1]:
        raise ConfigError(problems)
    lists = [_list_of_options(command, group, config_dir) for group in named]
    chosen = [word.partition("=")[::2] for word in typed if "=" in word and word.partition("=")[0] in groups]
    return "\n".join([*lists, *(_option_help(command, group, name, config_dir) for group, name in chosen)])


def _list_of_options(command: str, group: str, config_dir: str | None) -> str:
    """Return the options of a config group that the command can use, each with a sentence."""
    lines = [f"llmrec {command} {group}=<name>:", ""]
    for name in choices_of(command, group, config_dir):
        cls = CONFIG_GROUPS[group][str(option_values(group, name, config_dir)["kind"])]
        lines += _entry(name, " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split()), 24)
    return "\n".join([*lines, "", f"settings of one option: llmrec {command} --help {group}=<name>"]) + "\n"


def _option_help(command: str, group: str, name: str, config_dir: str | None) -> str:
    """Return the settings of an option with defaults and meaning, and its ranges for tuning."""
    values = merge(option_values(group, name, config_dir), values_over_options(command).get(group, {}))
    cls = CONFIG_GROUPS[group][str(values["kind"])]
    lines = [*textwrap.wrap(f"llmrec {command} {group}={name}: {' '.join((inspect.getdoc(cls) or '').split())}", 118,
                            subsequent_indent="  "), "", "settings:"]
    settings = [line for key, value, meaning in nested_settings(cls, values, f"{group}.")
                for line in _entry(f"{key}={brief(value)}", meaning, 34)]
    lines += settings or ["  none"]
    ranges = flat_search(values.get("search") or {})
    if ranges:
        lines += ["", f"ranges for tuning, with tune.trials=<number>; {group}.search.<setting>=<range> changes them:"]
        for key, limits in ranges.items():
            lines += _entry(key, range_of(limits), 34)
    return "\n".join(lines) + "\n"


def nested_settings(cls: type[Settings], values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and meaning of each setting of a dataclass, nested ones too.

    Config groups, `kind` and the search space are left out.
    """
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, value = hints[field.name], values.get(field.name)
        if field.name in ("kind", "search") or "group" in field.metadata or not cls.has_setting(field.name):
            continue
        if isinstance(hint, type) and issubclass(hint, Settings) and isinstance(value, Mapping):
            yield from nested_settings(hint, value, f"{prefix}{field.name}.")
        else:
            # The class of a plugin may have fields without a docstring.
            yield f"{prefix}{field.name}", value, _find_field_doc(cls, field.name) or "(no description)"


def brief(value: Any) -> str:
    """Return a value as text: of a mapping of mappings only the keys, of a long text the beginning."""
    if isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values()):
        return "{" + ",".join(f"{key}:..." for key in value) + "}"
    return textwrap.shorten(value, 60, placeholder=" ...") if isinstance(value, str) else _printed(value)


def range_of(limits: Mapping[str, Any]) -> str:
    """Return a range for tuning as text."""
    if limits.get("choices") is not None:
        return f"one of {', '.join(map(_printed, limits['choices']))}"
    return f"{limits['low']:g} to {limits['high']:g}{', on a logarithmic scale' * bool(limits.get('log'))}"


def _metrics() -> Iterator[str]:
    yield "metrics (@k: one value for each list length; *: can be the setting monitor=<metric>@<k> of finetune):"
    for metric in METRICS.values():
        yield from _entry(metric.column("k") + " *" * metric.monitored, sentence(metric), 21)


def _setting(command: str, key: str, composed: dict[str, Any]) -> Iterator[str]:
    if key in config_groups_of(command):
        value = composed[key]["kind"]
        meaning = f"{_meaning(command, key, composed)} Choose one of {', '.join(choices_of(command, key))}."
    else:
        value = composed
        for part in key.split("."):
            value = value[part]
        meaning = _meaning(command, key, composed)
        if (hint := _hint(command, key, composed)) and hint.shorthand:
            value = value[hint.shorthand]
    yield from _entry(f"{key}={_printed(value)}", meaning, 34)


def _entry(name: str, meaning: str, width: int) -> Iterator[str]:
    """Yield the lines of a name with its meaning next to it, or below if the name is too long."""
    first, *more = textwrap.wrap(meaning, 116 - width)
    indent = " " * (width + 3)
    yield from [f"  {name:<{width}} {first}"] if len(name) <= width else [f"  {name}", indent + first]
    yield from (indent + line for line in more)


def _printed(value: Any) -> str:
    if value is None or value == "" or value == {}:
        return "null" if value is None else ""
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def _meaning(command: str, key: str, composed: dict[str, Any]) -> str:
    return field_doc(_holder(command, key, composed), key.rpartition(".")[2])


def _hint(command: str, key: str, composed: dict[str, Any]) -> type[Settings] | None:
    """Return the dataclass of a setting that is itself a mapping of settings, else None."""
    hint = get_type_hints(_holder(command, key, composed))[key.rpartition(".")[2]]
    return hint if isinstance(hint, type) and issubclass(hint, Settings) else None


def _holder(command: str, key: str, composed: dict[str, Any]) -> Any:
    """Return the dataclass that has the setting as a field."""
    cls: Any = COMMANDS[command]
    for part in key.split(".")[:-1]:
        grouped = part in config_groups_of(command)
        cls = CONFIG_GROUPS[part][composed[part]["kind"]] if grouped else get_type_hints(cls)[part]
    return cls


def field_doc(cls: type, name: str) -> str:
    """Return the docstring written under a field of a dataclass or of one of its bases."""
    doc = _find_field_doc(cls, name)
    assert doc, f"{cls.__name__}.{name} has no docstring"
    return doc


def _find_field_doc(cls: type, name: str) -> str:
    """Return the docstring under a field, or "" if there is none."""
    return next((_own_field_docs(base)[name] for base in cls.__mro__[:-1] if name in _own_field_docs(base)), "")


@functools.cache
def _own_field_docs(cls: type) -> dict[str, str]:
    """Return the docstrings under the fields that a class itself declares, by field name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr) \
                and isinstance(after.value, ast.Constant):
            docs[field.target.id] = " ".join(str(after.value.value).split())
    return docs
