"""Defaults that depend on other settings: members of a fusion, the loss of a head, parts of an encoder.

A member of a fusion has the defaults of its head, and takes encoder, optimiser and the like from the top level.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from llmrec_cli.keys import MODEL_CONFIG_GROUPS
from llmrec_cli.option_files import choices, merge, option_values
from llmrec_cli.overrides import unknown
from llmrec_cli.settings.base import Builder
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import HEADS, HeadSettings
from llmrec_cli.settings.search import flat_search


def complete(builder: Builder, plain: dict[str, Any], options: Collection[str]) -> None:
    """Complete a composed config in place, and add what is wrong in it to the problems of `builder`.

    `options` are the config groups whose option must have an effect; loss and adversary are replaced only if they are
    none of these.
    """
    head = plain.get("head")
    if isinstance(head, dict) and isinstance(head.get("members"), dict):
        members = {name: _member(builder, name, member, plain)
                   for name, member in head["members"].items() if member is not None}
        head["members"] = {name: member for name, member in members.items() if member is not None}
    elif isinstance(head, dict):
        kind = str(head.get("kind"))
        if "loss" not in options:
            plain["loss"] = _fitting_loss(builder, kind, plain.get("loss"), untouched_only=True)
        if "adversarial" not in options:
            plain["adversarial"] = _fitting_adversary(builder, kind, plain.get("adversarial"), "adversarial")
    for config in (plain, *_model_configs(head)):
        _complete_parts(config.get("encoder"))
    for each in _heads(head):
        if isinstance(each.get("search"), dict):
            each["search"] = flat_search(each["search"])


def as_typed(problems: Sequence[str]) -> list[str]:
    """Return the problems under command-line keys, without those that members inherit from the top level."""
    # An unknown option is reported when it is looked up; the builder reports it a second time.
    problems = [p for p in problems if not re.match(r"head\.members\.[^=]+\.kind=", p)]
    inherited = re.compile(rf"head\.members\.[^.=]+\.((?:{'|'.join(MODEL_CONFIG_GROUPS)})\b.*)", re.DOTALL)
    own = [p for p in problems if not ((m := inherited.match(p)) and m[1] in problems)]
    return [re.sub(r"(head\.members\.[^.=]+)\.head\.", r"\1.", problem) for problem in own]


def _member(builder: Builder, name: str, member: Any, top: Mapping[str, Any]) -> Any:
    """Return a fusion's member as a complete model config: its own settings over its head's defaults, the rest from the
    top."""
    where = f"head.members.{name}"
    if not isinstance(member, Mapping) or not isinstance(member.get("head"), str):
        builder.problems.append(f"{where}.head: missing; set {where}.head=<{'|'.join(choices('head'))}>")
        return None
    if HEADS.get(member["head"], HeadSettings).combines:
        builder.problems.append(f"{where}.head={member['head']}: a fusion cannot be a member of a fusion")
        return None
    own = {key: value for key, value in member.items() if key not in (*MODEL_CONFIG_GROUPS, "head")}
    config: dict[str, Any] = {"head": merge(_option(builder, "head", member["head"], where), own)}
    for group in MODEL_CONFIG_GROUPS:
        value = member.get(group)
        if isinstance(value, str):
            config[group] = _option(builder, group, value, where)
        elif not isinstance(value, Mapping):
            config[group] = top.get(group) if value is None else value
        elif "kind" in value:
            config[group] = merge(_option(builder, group, str(value["kind"]), where), value)
        else:
            config[group] = merge(top.get(group) or {}, value)
    if member.get("loss") is None:
        config["loss"] = _fitting_loss(builder, member["head"], config["loss"])
    if member.get("adversarial") is None:
        # Not an error, like a config group that a head does not use.
        config["adversarial"] = _fitting_adversary(builder, member["head"], config["adversarial"], where)
    return config


def _fitting_adversary(builder: Builder, head: str, adversarial: Any, where: str) -> Any:
    """Return an adversary for a head without one of its own: `adversarial` if it has an effect on the head, else none.

    An adversary of texts is only for heads that read texts.
    """
    fits = head not in HEADS or not isinstance(adversarial, Mapping) or adversarial.get("kind") in HEADS[
        head].adversaries()
    return adversarial if fits else _option(builder, "adversarial", "none", where)


def _fitting_loss(builder: Builder, head: str, loss: Any, untouched_only: bool = False) -> Any:
    """Return a loss for a head without a loss of its own: `loss` if it can train the head, else the head's default.

    With `untouched_only`, a loss with changed settings is returned as it is, since it was set on purpose.
    """
    losses = HEADS[head].losses() if head in HEADS else []
    if not isinstance(loss, Mapping) or not losses or loss.get("kind") in losses:
        return loss
    if untouched_only and dict(loss) != _option(builder, "loss", str(loss.get("kind")), "loss"):
        return loss
    return _option(builder, "loss", losses[0], "loss")


def _option(builder: Builder, group: str, name: str, where: str) -> dict[str, Any]:
    """Return an option's values: the defaults of its dataclass, updated by its YAML file."""
    if name not in CONFIG_GROUPS[group]:
        builder.problems.append(f"{where}.{unknown(group, name, choices(group))}")
        return {"kind": name}
    return option_values(group, name)


def _model_configs(head: Any) -> Iterator[dict[str, Any]]:
    """Yield the model configs of a composed fusion's members."""
    members = head.get("members") if isinstance(head, dict) else None
    yield from members.values() if isinstance(members, dict) else ()


def _complete_parts(encoder: Any) -> None:
    """Accept the option's name alone for a part of encoder=concat: encoder.parts.words.encoder=tfidf."""
    parts = encoder.get("parts") if isinstance(encoder, dict) else None
    for part in parts.values() if isinstance(parts, dict) else ():
        if isinstance(part, dict) and isinstance(part.get("encoder"), str):
            part["encoder"] = {"kind": part["encoder"]}


def _heads(head: Any) -> Iterator[dict[str, Any]]:
    """Yield a composed head and, for a fusion, the heads of its members."""
    if isinstance(head, dict):
        yield head
        members = head.get("members")
        for member in members.values() if isinstance(members, dict) else ():
            yield from _heads(member.get("head"))
