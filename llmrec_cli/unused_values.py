"""Values without effect: options are refused where they are typed; other values are named in a note.

A file or an experiment serves several heads: with a head from elsewhere, what that head does not use is left out.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrec_cli.keys import MODEL_CONFIG_GROUPS, Change
from llmrec_cli.settings.loss import SIMILARITIES


def last_choices(changes: Sequence[Change]) -> dict[str, Change]:
    """Return the choice of an option that counts, the last one, by config group."""
    return {change.path[0]: change for change in changes if change.action in ("choose", "replace")}


def has_effect(change: Change, choices: Mapping[str, Change]) -> bool:
    """Return False for a value of a file or an experiment that belongs to an option other than the one in use."""
    chosen = choices.get(change.path[0])
    return change.action != "unused" and (not change.option or chosen is None or chosen.choice == change.option)


def options_to_check(changes: Sequence[Change]) -> dict[str, str]:
    """Return the options, by config group, that must have an effect: typed ones, those with a typed value, and those
    from the source of the head. The encoder of a file may have none: it is chosen for the language of the data."""
    choices, typed = last_choices(changes), {change.path[0] for change in changes if not change.origin}
    head = choices.get("head")
    return {group: change.choice for group, change in choices.items()
            if group in typed or head is None
            or (change.source == head.source and (group != "encoder" or not change.source))}


def notes_on_unused(settings: Any, changes: Sequence[Change]) -> Iterator[str]:
    """Yield a sentence for each source (command line, experiment, line of a settings file) of values without effect."""
    choices = last_choices(changes)
    unused = [(change, choices[change.path[0]].text) for change in changes if not has_effect(change, choices)]
    of_others = {group: change.choice for group, change in choices.items() if change.origin}
    groups = set(without_effect(settings, of_others))
    # Replaced by the default of the head, since it does not fit the head.
    groups |= {group for group in of_others if group in ("loss", "adversarial") and choices[group].action == "choose"
               and getattr(settings, group).kind != of_others[group]}
    unused += [(choices[group], choices["head"].text) for group in of_others if group in groups]
    if (head := getattr(settings, "head", None)) is not None:
        unused += [(change, f"head={head.kind}") for change in changes
                   if change.action == "set" and change.path[0] in MODEL_CONFIG_GROUPS
                   and has_effect(change, choices) and not head.has_effect(change.path[0])]
    for origin in dict.fromkeys(change.origin for change, _ in unused):
        values = [change.text for change, _ in unused if change.origin == origin]
        instead = dict.fromkeys(text for change, text in unused if change.origin == origin)
        yield f"{origin or 'command line'}: no effect with {' '.join(instead)}: {', '.join(dict.fromkeys(values))}"


def without_effect(settings: Any, options: Mapping[str, str]) -> dict[str, str]:
    """Return a problem for each of these options, by config group, that the head does not use."""
    head = getattr(settings, "head", None)
    if head is None:
        return {}
    unused = [group for group in MODEL_CONFIG_GROUPS if group in options and options[group] != "none"]
    # Heads with features use these config groups only if the feature settings require them.
    of_features = head.learns_from == SIMILARITIES
    instead = dict.fromkeys(unused, "set head.features.tuned=true with head.features.text above 0, " * of_features)
    if head.combines:
        instead = dict.fromkeys(unused, "add a member that is trained, head.members.tower.head=two_tower, ")
    instead["encoder"] = "set head.features.text above 0, " * of_features
    instead["entities"] = "set head.features.entities above 0, " * of_features
    if "entity_gate" in {f.name for f in dataclasses.fields(head)}:
        instead["entities"] = "set head.entity_gate=true, "
    return {group: f"{group}={options[group]}: has no effect, since head={head.kind} does not use it; leave it out, "
                   f"{instead[group]}or choose another head" for group in unused
            # peft=frozen is accepted: vectors that nothing trains are frozen.
            if not head.has_effect(group)
            and not (group == "peft" and not settings.peft.trains and "encoder" in head.uses())}
