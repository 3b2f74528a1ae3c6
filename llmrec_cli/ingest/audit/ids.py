"""Suspicious ids: ids that two files write differently, or one file in two spellings, and ids that a file lacks.

Ids are never normalised: '104.0' and '104' may be two items. But if one file has the first form and another file has
the second, the user should know before training, since the catalogue may contain every item twice.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ibis.expr.types import StringColumn, Table

from llmrec_cli.ingest.contents import Contents, Preparation
from llmrec_cli.ingest.engine import collect, materialise, scalar, size
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.knowledge.links import Graph
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.texts.catalogue import Descriptions
from llmrec_cli.ingest.texts.column_checks import list_warnings
from llmrec_cli.ingest.texts.documents import Documents
from llmrec_cli.language.phrases import Joined, Phrase
from llmrec_cli.pace import still_working

_NUM_PAIRS = 3
_FEW = 0.1
"""Share of common ids below which two files probably belong to different data sets."""
_LEAST = 0.01
"""Smallest share of ids that would match in another form for a warning."""
_NFC = Phrase("write ids in NFC")
_MOST = 200_000
"""Most non-ASCII ids that are compared after Unicode normalisation."""
_CASE, _BLANKS = Phrase("in lower case"), Phrase("without blanks at the ends")
_SURE = (_CASE, _BLANKS, Phrase("without '.0', case and blanks"))
"""Forms in which any two equal ids are probably one: the warning needs no smallest share of the ids."""
_EDGES = r"^[\s\x{00A0}\x{FEFF}]+|[\s\x{00A0}\x{FEFF}]+$"


@dataclass(frozen=True)
class IdPair:
    """Ids of one file that another file should contain.

    Attributes
    ----------
    what, ids : name of the first file's ids, and a table with `id`
    where, expected : name of the ids of the other file (a setting or words), and a table with `id`
    few : whether few common ids are a fault by themselves
    whole : whether the other file should have all ids, so that missing ones are worth a caution
    """

    what: Phrase
    ids: Table
    where: str
    expected: Table
    few: bool = True
    whole: bool = False


@dataclass(frozen=True)
class Cause:
    """A way in which ids differ: how many ids would match without it, and an example from each file."""

    words: Phrase
    remedy: Phrase
    count: int
    example: tuple[str, str]


def _without_zero(text: StringColumn) -> StringColumn:
    return text.re_replace(r"\.0+$", "")


def _without_blanks(text: StringColumn) -> StringColumn:
    return text.re_replace(_EDGES, "")


def _without_zeros(text: StringColumn) -> StringColumn:
    return text.re_replace("^0+", "")


_AS_TEXT = Phrase("export ids as text, the same in all files")
_FORMS: tuple[tuple[Phrase, Phrase, Callable[[StringColumn], StringColumn]], ...] = (
    (Phrase("without '.0' at the end"),
     Phrase("export ids as text or as whole numbers: a column with gaps became floating point"), _without_zero),
    (_CASE, Phrase("write ids in the same case in all files"), lambda text: text.lower()),
    (_BLANKS, Phrase("remove the blanks"), _without_blanks),
    (Phrase("without leading zeros"), Phrase("export ids as text: as numbers they lose leading zeros"),
     _without_zeros),
    (Phrase("without '.0', case, blanks and leading zeros"), _AS_TEXT,
     lambda text: _without_zeros(_without_zero(_without_blanks(text))).lower()))


def warn_of_pairs(pairs: Iterable[IdPair], account: Account) -> None:
    """Add a warning for each pair of files whose ids probably should match and do not."""
    for pair in pairs:
        ids = materialise(pair.ids.select("id").distinct())
        missing = materialise(ids.anti_join(pair.expected.select("id"), "id"))
        num, num_missing = size(ids), size(missing)
        least = max(1, _LEAST * num)
        if not num_missing:
            continue
        expected = materialise(pair.expected.select("id").distinct())
        # The cause that makes most ids match is reported.
        causes = sorted([cause for cause in _causes(missing, expected, only_sure=num_missing < least)
                         if cause.count >= least or cause.words in _SURE], key=lambda cause: -cause.count)
        if causes:
            account.warnings.append(_cause_sentence(pair, num, num_missing, causes[0]))
        elif num_missing < least:
            continue
        elif pair.few and num - num_missing < _FEW * num:
            account.warnings.append(_few_sentence(pair, num, num - num_missing, missing, expected))
        elif pair.whole:
            account.caution(_unknown_sentence(pair, num, num_missing, missing))


def doubled_ids(kind: str, ids: Table, codes: str, where: str) -> Iterator[Phrase]:
    """Yield a warning when ids in the column `codes` of one table, of `where`, differ only by '.0', case or blanks.

    `kind` is user | item. This happens when one of several files was exported in another way than the rest, or ids were
    typed.
    """
    ids = ids.select(id=codes)
    if not _collisions(ids, _normalise)[0]:
        return
    num = size(ids)
    candidates = [(*_collisions(ids, form), words, remedy) for words, remedy, form in
             (*_FORMS[:3], (_SURE[-1], _AS_TEXT, _normalise))]
    collisions, examples, words, remedy = max(candidates, key=lambda one: one[0])
    if collisions >= (1 if words in _SURE else max(1, _LEAST * num)):
        listed = [Joined([f"'{shown_id(first)}'", f"'{shown_id(second)}'"], " and ") for first, second in examples]
        yield Phrase("{num:,} of the {total:,} {kind} ids of {where} would equal another one {words} ({examples}), so "
                     "they may be the same {kinds}; {remedy}", num=collisions, total=num, kind=Phrase(kind),
                     where=where, words=words,
                     examples=Joined([*listed, *(["..."] if collisions > len(examples) else [])]),
                     kinds=Phrase(f"{kind}s"), remedy=remedy)


def _normalise(text: StringColumn) -> StringColumn:
    return _without_zero(_without_blanks(text)).lower()


def _collisions(ids: Table, form: Callable[[StringColumn], StringColumn]) -> tuple[int, list[tuple[str, str]]]:
    """Return how many ids become equal to another id in a form, and the first pairs that do.

    Ids that differ in letter case count only if one of them has letters of one case: random codes such as 'aB3x' and
    'Ab3X' are different ids.
    """
    plain = (ids.id == ids.id.lower()) | (ids.id == ids.id.upper())
    alike = ids.group_by(form=form(ids.id)).agg(num=ids.count(), first=ids.id.min(), second=ids.id.max(),
                                                plain=plain.any())
    alike = alike.filter((alike.num > 1) & (alike.form != "") & alike.plain)
    total = scalar((alike.num - 1).sum()) or 0
    pairs = collect(alike.order_by("first").limit(_NUM_PAIRS)).to_pylist() if total else []
    return int(total), [(row["first"], row["second"]) for row in pairs]


def _causes(missing: Table, expected: Table, only_sure: bool) -> Iterator[Cause]:
    """Yield the causes; of causes that explain equally many ids, the one to report comes first."""
    for words, remedy, form in _FORMS:
        if only_sure and words not in _SURE:
            continue
        ours = missing.select(ours="id", form=form(missing.id))
        theirs = expected.select(theirs="id", form=form(expected.id))
        met = ours.filter(ours.form != "").inner_join(theirs, "form")
        first = met.group_by("ours").agg(theirs=met.theirs.min())
        [matches] = collect(first.agg(count=first.count(), ours=first.ours.min(),
                                    theirs=first.theirs.argmin(first.ours))).to_pylist()
        if matches["count"]:
            yield Cause(words, remedy, matches["count"], (matches["ours"], matches["theirs"]))
    if only_sure:
        return
    by_form = {unicodedata.normalize("NFC", text): text for text in _beyond_ascii(expected)}
    normalised = [(text, unicodedata.normalize("NFC", text)) for text in _beyond_ascii(missing)]
    met_ids = [(text, by_form[composed]) for text, composed in normalised if composed in by_form]
    if met_ids:
        yield Cause(Phrase("in one of Unicode's normal forms"), _NFC, len(met_ids), min(met_ids))


def _beyond_ascii(ids: Table) -> list[str]:
    non_ascii = ids.filter(ids.id.re_search(r"[^\x00-\x7F]")).order_by("id").limit(_MOST)
    texts: list[str] = collect(non_ascii.select("id"))["id"].to_pylist()
    return texts


def _cause_sentence(pair: IdPair, num: int, num_missing: int, cause: Cause) -> Phrase:
    ours, theirs = map(ascii_id if cause.remedy == _NFC else shown_id, cause.example)
    return Phrase("{num:,} of {total:,} {what} are not in {where}, but {count:,} of these would match {words} "
                  "('{ours}' and '{theirs}'); ids are compared character by character, so {remedy}", num=num_missing,
                  total=num, what=pair.what, where=pair.where, count=cause.count, words=cause.words, ours=ours,
                  theirs=theirs, remedy=cause.remedy)


def shown_id(text: str) -> str:
    """Return an id for printing, with invisible characters escaped."""
    return "".join(char if char.isprintable() else ascii_id(char) for char in text)


def ascii_id(text: str) -> str:
    """Return an id with all non-ASCII characters escaped, since Unicode normal forms look the same."""
    return ascii(text)[1:-1]


def _few_sentence(pair: IdPair, num: int, shared: int, missing: Table, expected: Table) -> Phrase:
    ours, theirs = (collect(table.order_by("id").limit(1))["id"].to_pylist() for table in (missing, expected))
    values = {"total": num, "what": pair.what, "where": pair.where}
    some = (Phrase("only {num:,} of the {total:,} {what} are in {where}", num=shared, **values) if shared > 1 else
            Phrase("only 1 of the {total:,} {what} is in {where}", **values) if shared else
            Phrase("none of the {total:,} {what} is in {where}", **values))
    return Phrase("{some} ('{ours}' here, '{theirs}' there); is it a file of another data set, or are the ids written "
                  "differently?", some=some, ours=ours[0], theirs=theirs[0] if theirs else "")


def _unknown_sentence(pair: IdPair, num: int, num_missing: int, missing: Table) -> Phrase:
    ids = collect(missing.order_by("id").limit(_NUM_PAIRS))["id"].to_pylist()
    listed = ", ".join(f"'{shown_id(text)}'" for text in ids)
    return Phrase("{num:,} of {total:,} {what} have no row in {where} ({ids}), so they have no text; is the file "
                  "complete, and as new as the interactions?", num=num_missing, total=num, what=pair.what,
                  where=pair.where, ids=f"{listed}{', ...' if num_missing > len(ids) else ''}")


@still_working("checking ids")
def check_ids(run: Preparation, contents: Contents, rows: Table, groups: Groups | None) -> None:
    """Add warnings about ids that two files share; `rows` are the split interactions."""
    coded, sources = contents.interactions.coded, run.interactions.sources
    warn_of_pairs(id_pairs(coded, rows, run.cfg.split.is_given, contents.described, groups, contents.graph,
                           contents.documents), run.account)
    run.account.warnings += [*_all_doubled("user", coded.users, contents), *_all_doubled("item", coded.items, contents),
                             *list_warnings("users", coded.users, "user_id", sources),
                             *list_warnings("items", coded.items, "item_id", sources)]


def _all_doubled(kind: str, ids: Table, contents: Contents) -> Iterator[Phrase]:
    """Yield a warning about ids of the interactions that are doubled, or else about those of the file of the kind."""
    warned = list(doubled_ids(kind, ids, f"{kind}_id", Phrase("the interactions")))
    rows = contents.described[kind].rows
    yield from warned
    if not warned and rows is not None:
        yield from doubled_ids(kind, rows, f"{kind}_id", f"dataset.{kind}s")


def id_pairs(coded: CodedRows, rows: Table, is_given: bool, described: Mapping[str, Descriptions],
             groups: Groups | None, graph: Graph | None, documents: Documents | None) -> Iterator[IdPair]:
    """Yield the pairs of files that share ids. `rows` are the interactions with their split, 0 for training."""
    logged = {"item": coded.items.select(id="item_id"), "user": coded.users.select(id="user_id")}
    described_ids = {kind: None if about.rows is None else about.rows.select(id=f"{kind}_id")
                     for kind, about in described.items()}
    all_of = {kind: ids if (also := described_ids[kind]) is None else ids.union(also) for kind, ids in logged.items()}
    for kind, ids in logged.items():
        file_ids = described_ids[kind]
        if file_ids is not None:
            yield IdPair(Phrase("{kinds} of the interactions", kinds=Phrase(f"{kind}s")), ids, f"dataset.{kind}s",
                         file_ids, whole=kind == "item")
    for kind, codes in (("item", coded.items), ("user", coded.users)) if is_given else ():
        trained, held = (rows.filter(part).select(kind).distinct().inner_join(codes, kind).select(id=f"{kind}_id")
                         for part in (rows.split == 0, rows.split > 0))
        yield IdPair(Phrase("held-out {kinds}", kinds=Phrase(f"{kind}s")), held, Phrase("training"), trained, few=False)
    the_items = Phrase("the items")
    if groups is not None:
        members = groups.members.select(id="group_id")
        yield IdPair(Phrase("members of groups"), groups.members.select(id="user_id"), Phrase("the users"),
                     all_of["user"])
        if groups.rows is not None:
            yield IdPair(Phrase("items of group interactions"), groups.rows.select(id="item_id"), the_items,
                         all_of["item"])
            yield IdPair(Phrase("groups that have interactions"), groups.rows.select(id="group_id"), "dataset.groups",
                         members, few=False)
        group_info = described_ids.get("group")
        if group_info is not None:
            yield IdPair(Phrase("groups of dataset.groups"), members, "dataset.group_info", group_info)
    if graph is not None and graph.links is not None:
        entities = graph.triples.select(id="head").union(graph.triples.select(id="tail"))
        yield IdPair(Phrase("items of dataset.links"), graph.links.select(id="item_id"), the_items, all_of["item"],
                     few=False)
        yield IdPair(Phrase("entities of dataset.links"), graph.links.select(id="entity_id"), "dataset.knowledge",
                     entities, few=False)
    if documents is not None:
        about = documents.rows.filter(documents.rows.item_id != "").select(id="item_id")
        yield IdPair(Phrase("items of dataset.documents"), about, the_items, all_of["item"], few=False)
