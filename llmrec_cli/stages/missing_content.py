"""Item features that the prepared data lacks: their weights become 0, and what then has no features is left out."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.settings.head import HeadSettings
from llmrec_cli.settings.heads.features import KINDS, FeatureWeightsSettings

_NOUNS = {"text": "a text", "words": "a text", "attributes": "an attribute"}
"""Kinds of features that data may lack without an error -> what an item would need to have."""


def without_missing_content(head: HeadSettings, data: TrainingData, log: Callable[..., None]) -> HeadSettings:
    """Return the settings of a head without features that no item in training has; each is named on stderr.

    A member of a fusion that would have no features at all is left out. Raise DataError if such a head is alone, if a
    fusion has no member left or has a fixed weight for one that is left out, or if missing texts would be trained.
    """
    missing = _missing_kinds(data)
    return _without(head, "head", missing, log) if missing else head


def _missing_kinds(data: TrainingData) -> set[str]:
    trained_N = data.interactions.item_counts > 0
    texts = set() if any(data.items.texts[trained_N]) else {"text", "words"}
    return texts if data.items.attributes[trained_N].nnz else {*texts, "attributes"}


def _without(head: HeadSettings, key: str, missing: set[str], log: Callable[..., None]) -> HeadSettings:
    if head.combines:
        return _without_members(head, key, missing, log)
    if "text" in missing and (plain := head.without_texts()) != head:
        _say(f"{key}={head.kind} uses ids only, since {_none_has(['text'])}", log)
        return plain
    weights = _weights(head)
    unused = [kind for kind in KINDS if kind in missing and getattr(weights, kind) > 0]
    if not unused:
        return head
    if weights.tuned and "text" in unused:
        raise DataError(f"{key}.features.tuned=true: {_none_has(unused)}; prepare with dataset.item_text=..., or leave "
                        f"it out")
    if _has_nothing_else(head, missing):
        raise DataError(f"{key}={head.kind}: {_none_has(unused)}, and the head uses nothing else; prepare with "
                        f"dataset.item_text=... or dataset.attributes=..., or choose another head")
    settings = " and ".join(f"{key}.features.{kind}={getattr(weights, kind):g}" for kind in unused)
    _say(f"{settings}: no effect, since {_none_has(unused)}", log)
    changes: dict[str, Any] = {"features": weights.without(unused)}
    return replace(head, **changes)


def _without_members(head: HeadSettings, key: str, missing: set[str], log: Callable[..., None]) -> HeadSettings:
    members = {}
    for name, member in head.member_configs().items():
        if _has_nothing_else(member.head, missing) and getattr(head, "weights", "") == "learned":
            _say(f"{key}.members.{name} is left out, since {_none_has(missing)}", log)
        else:
            members[name] = replace(member, head=_without(member.head, f"{key}.members.{name}", missing, log))
    for name, member in head.member_configs().items() if getattr(head, "weights", "") == "learned" else ():
        twin = next((other for other in members if other != name and members[other] == members.get(name)), None)
        if twin is not None and members[name] != member:
            del members[name]
            _say(f"{key}.members.{name} is left out, since it is then the same as {key}.members.{twin}", log)
    if not members:
        raise DataError(f"{key}={head.kind}: {_none_has(missing)}, and no member uses anything else; choose another, "
                        f"such as {key}.members.ease.head=ease")
    return head.with_members(members)


def _weights(head: HeadSettings) -> FeatureWeightsSettings:
    weights = getattr(head, "features", None)
    return weights if isinstance(weights, FeatureWeightsSettings) else FeatureWeightsSettings()


def _has_nothing_else(head: HeadSettings, missing: set[str]) -> bool:
    return head.needs_features and not _weights(head).without(missing).used


def _none_has(kinds: Iterable[str]) -> str:
    nouns = sorted({_NOUNS[kind] for kind in kinds})
    return f"no item in training has {' or '.join(nouns)}"


def _say(text: str, log: Callable[..., None]) -> None:
    log("content_missing", text=text)
    print(f"note: {text}", file=sys.stderr)
