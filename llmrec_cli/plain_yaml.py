"""YAML from untrusted authors, read as plain data with limits on size, depth, aliases and number of values.

A file is refused before it takes more than a second or a few megabytes, and each problem is reported with its line.
Tags are refused, so the result contains only texts, numbers, true, false, null, lists and mappings.
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
    """A message about a line, counted from 1."""

    line: int
    message: str


class YamlError(ValueError):
    """The text cannot be read; the message has a line per problem with file, line and reason."""


def read_yaml(file: Path, check: Check | None = None) -> Any:
    """Return the content of a YAML file, or raise YamlError or OSError.

    `check` yields further problems, given the root of the tree and the text.
    """
    return parse_yaml(read_bytes(file), str(file), check)


def parse_yaml(content: bytes | str, name: str, check: Check | None = None) -> Any:
    """Return the content of a YAML text; messages call it `name`."""
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
        raise YamlError(f"{name}{where}: is not YAML ({error.problem or error.context}){_wide_colon(text)}") from error
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(f"{name}: is not YAML ({' '.join(str(error).split())[:200]})") from error


def _wide_colon(text: str) -> str:
    """Return the advice on the first line with the full-width colon of Chinese keyboards after its key; "" if none."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match("[^:#'\"]*：", line):
            return f"; line {number} has the character '：', write the ASCII character ':' and a blank"
    return ""


def dump_yaml(content: Any) -> str:
    """Return plain data as YAML that this module reads back unchanged: texts that look like numbers are quoted."""
    return yaml.dump(content, Dumper=_dumper(), allow_unicode=True, sort_keys=False, width=10**6)


def text_of(node: yaml.Node) -> str | None:
    """Return the source text of a scalar of any type, or None for a list or mapping."""
    return node.value if isinstance(node, yaml.ScalarNode) else None


def value_of(node: yaml.Node) -> Any:
    """Return the value of a node that `check` was given."""
    loader: Any = _loader()("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def line_of(node: yaml.Node) -> int:
    """Return the first line of a node, counted from 1."""
    return node.start_mark.line + 1


def nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once, even if aliases refer to it."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            stack += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            stack += reversed(node.value)


def read_bytes(file: Path) -> bytes:
    """Return the bytes of a regular file within the limit, or raise YamlError or OSError."""
    # Non-blocking: opening a pipe without a writer would never return.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise YamlError(f"{file}: is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise YamlError(f"{file}: is larger than {MAX_BYTES // 1024} KiB, the limit for a config; shorten it")
    return content


def _within_bounds(text: str, name: str) -> None:
    """Refuse a text above the limits, by its parser events, before anything is built from it."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"{name}: is larger than {MAX_BYTES // 1024} KiB, the limit for a config; shorten it")
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
            raise YamlError(f"{name}, line {line}: has the tag {tag[:60]}, and tags are not supported; write "
                            f"only the value, texts in quotes")


def _tree_problems(root: yaml.Node) -> Iterator[Problem]:
    """Yield the problems of keys that are not text or occur twice, of long numbers, and of aliases that multiply a
    small file."""
    for node in nodes(root):
        if node.tag in (f"{_TAG}int", f"{_TAG}float") and len(node.value) > _MAX_DIGITS:
            yield Problem(line_of(node), f"{node.value[:_MAX_DIGITS]}...: a number has at most {_MAX_DIGITS} digits")
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                text = text_of(key)
                yield Problem(line_of(key), f"the key {'that is a list or mapping' if text is None else text[:60]} "
                                            f"is not text; put it in quotes")
            elif key.value in seen:
                yield Problem(line_of(key), f"{key.value[:60]}: occurs twice; remove one of them")
            else:
                seen.add(key.value)
    if _weight(root, {}) > MAX_BYTES:
        yield Problem(line_of(root), f"its aliases expand to more than {MAX_BYTES // 1024} KiB; write the values out")


def _weight(node: yaml.Node, weights: dict[int, int | None]) -> int:
    """Return the number of characters and values of a node with its aliases expanded."""
    if id(node) in weights:
        weight = weights[id(node)]
        if weight is None:
            raise YamlError(f"line {line_of(node)}: an alias refers to a value that contains it")
        return weight
    weights[id(node)] = None
    if isinstance(node, yaml.ScalarNode):
        weight = 1 + len(node.value)
    else:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        weight = 1 + sum(_weight(part, weights) for part in parts)
    weights[id(node)] = weight
    return weight


def _refuse(name: str, problems: Iterator[Problem]) -> None:
    try:
        messages = [f"{name}, line {problem.line}: {problem.message}" for problem in problems]
    except YamlError as error:
        raise YamlError(f"{name}, {error}") from error
    if messages:
        raise YamlError("\n".join(messages[:20]))


@cache
def _dumper() -> Any:
    """Return a dumper that quotes texts which this loader reads as numbers or other loaders as dates."""
    class Dumper(yaml.SafeDumper):
        yaml_implicit_resolvers = {start: [*_loader().yaml_implicit_resolvers.get(start, []), *rules]
                                   for start, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()}

        def ignore_aliases(self, data: Any) -> bool:
            """Write repeated values in full, without aliases."""
            return True

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        # Without double quotes these line ends would be read back as other characters.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return dumper.represent_scalar(f"{_TAG}str", text, style)

    Dumper.add_representer(str, quoted)
    return Dumper


@cache
def _loader() -> Any:
    """Return libyaml's loader if installed, else PyYAML's, with decimal numbers only.

    1e-4 and 0x1f are numbers. Dates, 12:30 (750 in YAML 1.1), 007 and 010 (8 in YAML 1.1) are texts.
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
