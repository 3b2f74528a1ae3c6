"""Rules by which `prepare` read the files of a role. They are kept in prepared data and in models, for later files."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llmrec_cli.settings.dataset import COLUMNS, EXPLODABLE
from llmrec_cli.settings.formats import FormatSettings
from llmrec_cli.settings.time_format import format_problems

ROLES = ("interactions", "items", "users")
TIME_UNITS = ("s", "ms", "us", "ns", "iso", "excel", "order")


@dataclass(frozen=True)
class FileRules:
    """Rules for reading the files of a role.

    Attributes
    ----------
    columns : our name of a column -> its name in the files, where they differ
    header : column names of files without a header; empty if they have one
    all_columns : names of all columns in the files
    explode : our columns whose arrays turn each entry into a row
    separator : separates the entries of an array in a field that is not JSON
    format : what was given or detected about the format of text files
    nulls : column -> texts that were detected to mean a missing value
    time : unit or pattern of timestamps if the settings give it, else ""
    """

    columns: dict[str, str] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    all_columns: tuple[str, ...] = ()
    explode: tuple[str, ...] = ()
    separator: str = ""
    format: FormatSettings = field(default_factory=FormatSettings)
    nulls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    time: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the rules for a manifest, without what is usual."""
        usual, plain = asdict(FileRules()), asdict(self)
        plain["format"] = {key: value for key, value in plain["format"].items() if value != usual["format"][key]}
        return {key: value for key, value in plain.items() if value and value != usual[key]}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "FileRules":
        """Return the rules of an entry of a manifest that `are_file_rules` accepts."""
        lists = {key: tuple(entry.get(key, ())) for key in ("header", "all_columns", "explode")}
        return cls(columns=dict(entry.get("columns", {})), separator=entry.get("separator", ""),
                   format=FormatSettings(**entry.get("format", {})), time=entry.get("time", ""),
                   nulls={name: tuple(texts) for name, texts in entry.get("nulls", {}).items()}, **lists)


def file_rules_of(manifest: Mapping[str, Any]) -> dict[str, FileRules]:
    """Return the rules by role from a manifest of prepared data or of a model; none from an older llmrec."""
    return {role: FileRules.from_dict(entry) for role, entry in (manifest.get("file_rules") or {}).items()}


def rules_for(rules: Mapping[str, FileRules] | None, *roles: str) -> list[FileRules]:
    """Return the rules of some roles, as far as there are any, in this order."""
    return [rules[role] for role in roles if role in rules] if rules else []


def prepared_columns(rules: Iterable[FileRules]) -> tuple[str, ...]:
    """Return the names of all columns in the prepared files; a part of these files has them too, also without effect.
    """
    return tuple(dict.fromkeys(name for one in rules for name in one.all_columns))


def are_file_rules(value: Any) -> bool:
    """Return True if a value of a manifest is a mapping of roles to rules."""
    return isinstance(value, dict) and all(role in ROLES and _is_entry(entry) for role, entry in value.items())


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not set(entry) <= {one.name for one in fields(FileRules)}:
        return False
    columns, nulls, time = entry.get("columns", {}), entry.get("nulls", {}), entry.get("time", "")
    return (isinstance(columns, dict) and set(columns) <= set(COLUMNS) and _are_names(list(columns.values()))
            and all(_are_names(entry.get(key, [])) for key in ("header", "all_columns", "explode"))
            and set(entry.get("explode", ())) <= set(EXPLODABLE) and isinstance(entry.get("separator", ""), str)
            and isinstance(nulls, dict) and all(map(_are_names, nulls.values())) and _is_format(entry.get("format", {}))
            and isinstance(time, str) and (time in ("", *TIME_UNITS) or ("%" in time and not list(
                format_problems(time)))))


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name and "\0" not in name for name in value)


def _is_format(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {one.name for one in fields(FormatSettings)}:
        return False
    texts = [value.get(key, "") for key in ("delimiter", "encoding", "quote", "escape", "decimal")]
    skip_rows, null = value.get("skip_rows"), value.get("null")
    typed = (all(isinstance(text, str) and "\0" not in text for text in texts) and (null is None or _are_names(null))
             and (skip_rows is None or (isinstance(skip_rows, int) and not isinstance(skip_rows, bool))))
    return typed and not list(FormatSettings(**value).problems())
