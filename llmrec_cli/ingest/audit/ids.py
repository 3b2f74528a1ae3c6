"""Ids that are suspicious: placeholders, outsized users, and ids of two files that would match if written alike.

Ids are never normalised: '104.0' and '104' may be two items. But if one file has the first form and another file has
the second, the user should know before training, since the catalogue may contain every item twice.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
from ibis.expr.types import StringColumn, Table

from llmrec_cli.ingest.audit.folder import Folder
from llmrec_cli.ingest.contents import Contents, Preparation
from llmrec_cli.ingest.engine import collect, materialised, size
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.interactions.id_codes import Coded
from llmrec_cli.ingest.knowledge.links import Graph
from llmrec_cli.ingest.texts.catalogue import Described
from llmrec_cli.ingest.texts.column_checks import list_warnings
from llmrec_cli.ingest.texts.documents import Documents
from llmrec_cli.settings.typed_lists import list_setting

_NAMES = ("nan", "null", "none", "nil", "na", "n/a", "undefined", "unknown", "unk", "anonymous", "anon", "guest",
          "visitor", "not set", "notset", "missing", "-1")
"""Ids that exports write for nobody, without what surrounds them and in lower case."""
_LARGE, _TIMES, _ENOUGH = 0.05, 3, 100
"""Share of the interactions above which a user is outsized, if also this many times the mean, from this many rows."""
_ZERO_TIMES = 10
_AROUND = r"[\s\"'()<>\[\]{}._?-]+"
_SHOWN = 5


def warnings(folder: Folder, per_user: Table, per_item: Table) -> list[str]:
    """Return what is likely to be wrong; `per_user` and `per_item` have the interactions of each split."""
    found = []
    for kind, table in (("user", per_user), ("item", per_item)):
        sized = table.select(kind, size=table.train + table.valid + table.test)
        rows = _placeholders(folder, kind, sized)
        if rows:
            named = ", ".join(f"'{row['id']}' ({row['size']:,})" for row in rows[:_SHOWN])
            setting = list_setting(f"dataset.drop_{kind}s", [row["id"] for row in rows])
            found.append(f"{len(rows)} {kind} id{'s' if rows[1:] else ''} may stand for unknown {kind}s, each counted "
                         f"as one {kind} ({sum(row['size'] for row in rows):,} interactions in all): {named}"
                         f"{', ...' if rows[_SHOWN:] else ''}; {setting} leaves {'them' if rows[1:] else 'it'} out")
    return found + _outsized(folder, per_user)


def _placeholders(folder: Folder, kind: str, sized: Table) -> list[dict[str, Any]]:
    """Return id and number of interactions of the users or items whose id is a placeholder, most first."""
    named = folder.table(f"{kind}s").select(kind, id=f"{kind}_id").inner_join(sized, kind)
    # What is around a word, blanks and quotes say, is no part of it; of "-1" the sign is.
    bare = named.id.lower().re_replace(r"^" + _AROUND, "").re_replace(_AROUND + "$", "")
    plain = named.id.lower().strip()
    suspect = named.filter(bare.isin(list(_NAMES)) | plain.isin(list(_NAMES)) | (bare == ""))
    rows = collect(suspect.order_by(ibis.desc("size"), "id").select("id", "size")).to_pylist()
    return rows + _zero(named, kind)


def _zero(named: Table, kind: str) -> list[dict[str, Any]]:
    """Return the id 0 where it is no number like the others: they are words, or it is a user of many times the mean.

    An item may well have many times the mean: popular ones do.
    """
    zero = collect(named.filter(named.id.isin(["0", "0.0"])).select("id", "size")).to_pylist()
    if not zero:
        return []
    others = named.filter(~named.id.isin(["0", "0.0"]))
    [about] = collect(others.agg(num=others.count(), numbers=others.count(where=others.id.re_search("^-?[0-9.]+$")),
                                 mean=others["size"].mean())).to_pylist()
    words = about["num"] and about["numbers"] < about["num"]
    outsized = _ZERO_TIMES * about["mean"] if kind == "user" and about["mean"] else math.inf
    return [row for row in zero if words or row["size"] > outsized]


def _outsized(folder: Folder, per_user: Table) -> list[str]:
    sized = per_user.select("user", size=per_user.train + per_user.valid + per_user.test)
    [all_] = collect(sized.agg(num=sized.count(), total=sized["size"].sum())).to_pylist()
    total = int(all_["total"] or 0)  # DuckDB's sums are decimals.
    if total < _ENOUGH:
        return []
    least = max(_LARGE * total, _TIMES * total / all_["num"])
    rows = collect(sized.filter(sized["size"] > least).order_by(ibis.desc("size"), "user")).to_pylist()
    names = folder.entities("user", [row["user"] for row in rows[:_SHOWN]])
    shown = [(names[row["user"]]["user_id"], row["size"]) for row in rows[:_SHOWN]]
    return [f"user '{user}' has {size / total:.0%} of the interactions ({size:,} of {total:,}); if it is not one "
            f"person, {list_setting('dataset.drop_users', [user])} leaves it out" for user, size in shown]


_FEW = 0.1
"""Share of ids in common below which two files are probably of different data sets."""
_LEAST = 0.01
"""Share of ids that would meet from which on it is a warning."""
_NFC = "write ids in NFC"
_MOST = 200_000
"""Ids outside ASCII that are compared after Unicode's normalisation."""
_EDGES = r"^[\s\x{00A0}\x{FEFF}]+|[\s\x{00A0}\x{FEFF}]+$"


@dataclass(frozen=True)
class IdPair:
    """Ids of one file that another should have.

    Attributes
    ----------
    what, ids : what they are called, and a table with `id`
    where, known : likewise, those that they should be among
    few : whether having few in common is wrong by itself
    """

    what: str
    ids: Table
    where: str
    known: Table
    few: bool = True


@dataclass(frozen=True)
class Cause:
    """A way in which ids differ: how many would meet without it, and an example of each side."""

    words: str
    remedy: str
    count: int
    example: tuple[str, str]


def _without_zero(text: StringColumn) -> StringColumn:
    return text.re_replace(r"\.0+$", "")


def _without_blanks(text: StringColumn) -> StringColumn:
    return text.re_replace(_EDGES, "")


def _without_zeros(text: StringColumn) -> StringColumn:
    return text.re_replace("^0+", "")


_FORMS: tuple[tuple[str, str, Callable[[StringColumn], StringColumn]], ...] = (
    ("without '.0' at the end", "export ids as text or as whole numbers: a column with gaps became floating point",
     _without_zero),
    ("in lower case", "write ids in the same case in all files", lambda text: text.lower()),
    ("without blanks at the ends", "remove the blanks", _without_blanks),
    ("without leading zeros", "export ids as text: as numbers they lose leading zeros", _without_zeros),
    ("without '.0', case, blanks and leading zeros", "export ids as text, the same in all files",
     lambda text: _without_zeros(_without_zero(_without_blanks(text))).lower()))


def id_warnings(pairs: Iterable[IdPair]) -> Iterator[str]:
    """Yield a sentence for each pair whose ids probably should have met and do not."""
    for pair in pairs:
        ids = materialised(pair.ids.select("id").distinct())
        missing = materialised(ids.anti_join(pair.known.select("id"), "id"))
        num, num_missing = size(ids), size(missing)
        least = max(1, _LEAST * num)
        if num_missing < least:
            continue
        known = materialised(pair.known.select("id").distinct())
        # A cause explains more than all together only if the rest is chance.
        causes = sorted([cause for cause in _causes(missing, known) if cause.count >= least],
                        key=lambda cause: -cause.count)
        if causes:
            yield _of_cause(pair, num, num_missing, causes[0])
        elif pair.few and num - num_missing < _FEW * num:
            yield _of_few(pair, num, num - num_missing, missing, known)


def doubled_ids(what: str, ids: Table, codes: str) -> Iterator[str]:
    """Yield a sentence when ids of one table, the column `codes`, would be the same but for '.0', case or blanks.

    Such ids come of one file that was exported in another way than the rest.
    """
    ids = ids.select(id=codes)
    if not _collisions(ids, _alike)[0]:
        return
    num = size(ids)
    found = [(*_collisions(ids, form), words, remedy) for words, remedy, form in
             (*_FORMS[:3], ("without '.0', case and blanks", "export ids as text, the same in all files", _alike))]
    collisions, example, words, remedy = max(found, key=lambda one: one[0])
    if collisions >= max(1, _LEAST * num):
        first, second = map(shown_id, example)
        yield (f"{collisions:,} of the {num:,} {what} of the interactions would equal others {words} "
               f"('{first}' and '{second}'), so they may be the same {what}; {remedy}")


def _alike(text: StringColumn) -> StringColumn:
    return _without_zero(_without_blanks(text)).lower()


def _collisions(ids: Table, form: Callable[[StringColumn], StringColumn]) -> tuple[int, tuple[str, str]]:
    """Return how many ids are another one in a form, and the first two that are the same."""
    alike = ids.group_by(form=form(ids.id)).agg(num=ids.count(), first=ids.id.min(), second=ids.id.max())
    alike = alike.filter((alike.num > 1) & (alike.form != ""))
    [found] = collect(alike.agg(num=(alike.num - 1).sum(), first=alike["first"].min(),
                                second=alike.second.argmin(alike["first"]))).to_pylist()
    return int(found["num"] or 0), (found["first"] or "", found["second"] or "")


def _causes(missing: Table, known: Table) -> Iterator[Cause]:
    """Yield the causes in the order in which they are to be named when they explain as much."""
    for words, remedy, form in _FORMS:
        ours = missing.select(ours="id", form=form(missing.id))
        theirs = known.select(theirs="id", form=form(known.id))
        met = ours.filter(ours.form != "").inner_join(theirs, "form")
        first = met.group_by("ours").agg(theirs=met.theirs.min())
        [found] = collect(first.agg(count=first.count(), ours=first.ours.min(),
                                    theirs=first.theirs.argmin(first.ours))).to_pylist()
        if found["count"]:
            yield Cause(words, remedy, found["count"], (found["ours"], found["theirs"]))
    by_form = {unicodedata.normalize("NFC", text): text for text in _beyond_ascii(known)}
    normalised = [(text, unicodedata.normalize("NFC", text)) for text in _beyond_ascii(missing)]
    met_ids = [(text, by_form[composed]) for text, composed in normalised if composed in by_form]
    if met_ids:
        yield Cause("in one of Unicode's normal forms", _NFC, len(met_ids), min(met_ids))


def _beyond_ascii(ids: Table) -> list[str]:
    chosen = ids.filter(ids.id.re_search(r"[^\x00-\x7F]")).order_by("id").limit(_MOST)
    found: list[str] = collect(chosen.select("id"))["id"].to_pylist()
    return found


def _of_cause(pair: IdPair, num: int, num_missing: int, cause: Cause) -> str:
    ours, theirs = map(ascii_id if cause.remedy == _NFC else shown_id, cause.example)
    return (f"{num_missing:,} of {num:,} {pair.what} are not in {pair.where}, but {cause.count:,} of these would match "
            f"{cause.words} ('{ours}' and '{theirs}'); ids are never normalised, so they do not match; {cause.remedy}")


def shown_id(text: str) -> str:
    """Return an id as it is printed, with what cannot be seen escaped."""
    return "".join(char if char.isprintable() else ascii_id(char) for char in text)


def ascii_id(text: str) -> str:
    """Return an id with all outside ASCII escaped: Unicode's normal forms look alike."""
    return ascii(text)[1:-1]


def _of_few(pair: IdPair, num: int, shared: int, missing: Table, known: Table) -> str:
    ours, theirs = (collect(table.order_by("id").limit(1))["id"].to_pylist() for table in (missing, known))
    some = f"only {shared:,}" if shared else "none"
    return (f"{some} of the {num:,} {pair.what} {'are' if shared > 1 else 'is'} in {pair.where} ('{ours[0]}' here, "
            f"'{theirs[0] if theirs else ''}' there); is it a file of another data set, or are the ids written "
            f"differently?")


def warnings_of_ids(run: Preparation, contents: Contents, rows: Table, groups: Groups | None) -> list[str]:
    """Return what is likely to be wrong with the ids that files join by; `rows` are the interactions, divided."""
    coded, sources = contents.kept.coded, run.interactions.sources
    return [*id_warnings(id_pairs(coded, rows, run.cfg.split.is_given, contents.described, groups, contents.graph,
                                  contents.documents)),
            *doubled_ids("users", coded.users, "user_id"), *doubled_ids("items", coded.items, "item_id"),
            *list_warnings("users", coded.users, "user_id", sources),
            *list_warnings("items", coded.items, "item_id", sources)]


def id_pairs(coded: Coded, rows: Table, is_given: bool, described: Mapping[str, Described], groups: Groups | None,
             graph: Graph | None, documents: Documents | None) -> Iterator[IdPair]:
    """Yield the ids that files join by. `rows` are the interactions with their split, 0 for training."""
    logged = {"item": coded.items.select(id="item_id"), "user": coded.users.select(id="user_id")}
    told = {kind: None if about.rows is None else about.rows.select(id=f"{kind}_id")
            for kind, about in described.items()}
    all_of = {kind: logged[kind] if (also := told[kind]) is None else logged[kind].union(also) for kind in logged}
    for kind, ids in logged.items():
        known = told[kind]
        if known is not None:
            yield IdPair(f"{kind}s of the interactions", ids, f"dataset.{kind}s", known)
    for kind, codes in (("item", coded.items), ("user", coded.users)) if is_given else ():
        trained, held = (rows.filter(part).select(kind).distinct().inner_join(codes, kind).select(id=f"{kind}_id")
                         for part in (rows.split == 0, rows.split > 0))
        yield IdPair(f"held-out {kind}s", held, "training", trained, few=False)
    if groups is not None:
        members = groups.members.select(id="group_id")
        yield IdPair("members of groups", groups.members.select(id="user_id"), "the users", all_of["user"])
        if groups.rows is not None:
            yield IdPair("items of group interactions", groups.rows.select(id="item_id"), "the items", all_of["item"])
            yield IdPair("groups that have interactions", groups.rows.select(id="group_id"), "dataset.groups", members,
                         few=False)
        group_info = told.get("group")
        if group_info is not None:
            yield IdPair("groups of dataset.groups", members, "dataset.group_info", group_info)
    if graph is not None and graph.links is not None:
        entities = graph.triples.select(id="head").union(graph.triples.select(id="tail"))
        yield IdPair("items of dataset.links", graph.links.select(id="item_id"), "the items", all_of["item"], few=False)
        yield IdPair("entities of dataset.links", graph.links.select(id="entity_id"), "dataset.knowledge", entities,
                     few=False)
    if documents is not None:
        about = documents.rows.filter(documents.rows.item_id != "").select(id="item_id")
        yield IdPair("items of dataset.documents", about, "the items", all_of["item"], few=False)
