"""YAML that other people wrote, read as plain data within bounds of size, depth, aliases and numbers of values.

A file is refused before it costs more than a second or a few megabytes, and each problem is reported with its line.
Tags are refused, so the result holds only text, numbers, true, false, null, lists and mappings.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**18
MAX_DEPTH = 32
MAX_VALUES = 10_000
_MAX_DIGITS = 40
_TAG = "tag:yaml.org,2002:"
Check = Callable[[yaml.Node, str], Iterator["Problem"]]


@dataclass(frozen=True)
class Problem:
    """A sentence about what is wrong in a line, counted from 1."""

    line: int
    message: str


class YamlError(ValueError):
    """The text is not YAML that is read here; says the file, the line and why, a problem a line."""


def read_yaml(file: Path, check: Check | None = None) -> Any:
    """Return the content of a YAML file, or raise YamlError or OSError.

    `check` yields what else is wrong with it, given the root of its tree and its text.
    """
    return parse_yaml(_content(file), str(file), check)


def parse_yaml(content: bytes | str, name: str, check: Check | None = None) -> Any:
    """Return the content of a YAML text that messages call `name`."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        line = error.object[:error.start].count(b"\n") + 1
        raise YamlError(f"{name}, line {line}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    try:
        _within_bounds(text, name)
        loader: Any = _loader()(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise YamlError(f"{name}: is empty")
            _refuse(name, _tree_problems(root))
            _refuse(name, check(root, text) if check else iter(()))
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise YamlError(f"{name}{where}: is not YAML ({error.problem or error.context})") from error
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(f"{name}: is not YAML ({' '.join(str(error).split())[:200]})") from error


def dump_yaml(content: Any) -> str:
    """Return plain data as YAML that this module reads back the same: text that it takes for a number is in quotes."""
    return yaml.dump(content, Dumper=_dumper(), allow_unicode=True, sort_keys=False, width=10**6)


def text_of(node: yaml.Node) -> str | None:
    """Return what a scalar of any type is written as, or None for a list or mapping."""
    return node.value if isinstance(node, yaml.ScalarNode) else None


def line_of(node: yaml.Node) -> int:
    """Return the line a node begins in, from 1."""
    return node.start_mark.line + 1


def nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once, however often aliases name it."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _content(file: Path) -> bytes:
    # Without waiting: a pipe that nobody writes to would be waited for forever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise YamlError(f"{file}: is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise YamlError(f"{file}: is larger than {MAX_BYTES // 1024} KiB, which no config needs")
    return content


def _within_bounds(text: str, name: str) -> None:
    """Refuse a text by its events, which are read without recursion and before anything is built of them."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"{name}: is larger than {MAX_BYTES // 1024} KiB, which no config needs")
    depth = count = 0
    for event in yaml.parse(text, Loader=_loader()):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        count += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            raise YamlError(f"{name}, line {line}: is nested more than {MAX_DEPTH} deep")
        if count > MAX_VALUES:
            raise YamlError(f"{name}, line {line}: holds more than {MAX_VALUES:,} values")
        if (tag := getattr(event, "tag", None)) is not None:
            raise YamlError(f"{name}, line {line}: has the tag {tag[:60]}, and tags are not read; write the value "
                            f"alone, text in quotes")


def _tree_problems(root: yaml.Node) -> Iterator[Problem]:
    """Yield keys that are no text or come twice, and aliases that make too much of a small file."""
    for node in nodes(root):
        if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(node.value) > _MAX_DIGITS:
            yield Problem(line_of(node), f"{node.value[:_MAX_DIGITS]}...: a number has at most {_MAX_DIGITS} digits")
        found: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                shown = text_of(key)
                yield Problem(line_of(key), f"the key {'that is a list or mapping' if shown is None else shown[:60]} "
                                            f"is not text; put it in quotes")
            elif key.value in found:
                yield Problem(line_of(key), f"{key.value[:60]}: is there twice")
            else:
                found.add(key.value)
    if _weight(root, {}) > MAX_BYTES:
        yield Problem(line_of(root), f"its aliases make more than {MAX_BYTES // 1024} KiB of it; write the values out")


def _weight(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many characters and values a node stands for, with its aliases written out."""
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            raise YamlError(f"line {line_of(node)}: an alias is inside of what it names")
        return weight
    known[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        weight = 1 + len(node.value)
    else:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        weight = 1 + sum(_weight(part, known) for part in parts)
    known[id(node)] = weight
    return weight


def _refuse(name: str, problems: Iterator[Problem]) -> None:
    try:
        found = [f"{name}, line {problem.line}: {problem.message}" for problem in problems]
    except YamlError as error:
        raise YamlError(f"{name}, {error}") from error
    if found:
        raise YamlError("\n".join(found[:20]))


@cache
def _dumper() -> Any:
    """Return a dumper that knows what our loader takes for a number, and what others take for a date."""
    class Dumper(yaml.SafeDumper):
        yaml_implicit_resolvers = {start: [*_loader().yaml_implicit_resolvers.get(start, []), *rules]
                                   for start, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()}

        def ignore_aliases(self, data: Any) -> bool:
            """Write what comes twice out twice."""
            return True

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        # Outside of double quotes these ends of lines would come back as others.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return dumper.represent_scalar(f"{_TAG}str", text, style)

    Dumper.add_representer(str, quoted)
    return Dumper


@cache
def _loader() -> Any:
    """Return libyaml's loader where there is one, for which numbers are decimal.

    1e-4 is one, and so is 0x1f; a date, 12:30 (750 to YAML 1.1), 007 and 010 (8 to it) are text.
    """
    number = re.compile(r"""[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)|[-+]?[0-9][0-9_]*\.[0-9_]*
                        |[-+]?\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)""", re.VERBOSE)
    others = {start: [(tag, rule) for tag,
                      rule in rules if tag not in (f"{_TAG}timestamp", f"{_TAG}float", f"{_TAG}int")]
              for start, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    of_all = re.compile(f"({number.pattern})$", re.VERBOSE)
    whole = re.compile("[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
    for start in "-+0123456789.":
        others[start] = [(f"{_TAG}float", of_all), (f"{_TAG}int", whole), *others.get(start, [])]
    return type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {"yaml_implicit_resolvers": others})
