"""Checks that links between items and entities can be right.

A link file of another data set has ids that look right, and nothing fails: a model learns from the knowledge about
other things. Two signs give it away: what linked entities have differs from what the items have, and, where entities
are mere ids, items that are alike are no more alike as entities than they would be by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, materialised
from llmrec_cli.ingest.knowledge.links import Counterpart, Graph, alike, entity_values, item_values
from llmrec_cli.ingest.texts.catalogue import Described
from llmrec_cli.ingest.texts.templates import values_of
from llmrec_cli.settings.dataset import DatasetSettings

_MOST_ITEMS = 2000
"""Linked items that are looked at, whatever number there is."""
_MOST_VALUES = 500
"""Values and neighbours of one entity that are looked at."""
FEWEST = 100
"""Fewest links to judge by."""
_SHUFFLES = 200
LEAST_Z = 3.0
"""Right links of a hundred films give a z of 10 and more, of 1,500 films 70; wrong ones stay between -2 and 2."""
_MOST_DIFFERENT = 0.2
"""Share of pairs that may differ: spellings and years differ a little between sources."""
_LEAST_IN_COMMON = 0.1
_EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """Difference between a column of items and its counterpart in the graph.

    Attributes
    ----------
    num_pairs : linked pairs where both have a value
    num_different : those without any value in common
    examples : (item_id, the item's value, entity_id, the entity's)
    """

    of: Counterpart
    num_pairs: int
    num_different: int
    examples: list[tuple[str, str, str, str]]

    @property
    def contradicts(self) -> bool:
        """True if the pairs differ more than right links would."""
        return self.num_different > _MOST_DIFFERENT * self.num_pairs


@dataclass(frozen=True)
class Association:
    """Shared neighbours of items that share an attribute, against the same links shuffled.

    `z` is how many standard deviations the right order is above shuffled ones, `ratio` how many times their mean.
    """

    num_items: int
    z: float
    ratio: float


def sampled(links: Table) -> Table:
    """Return at most _MOST_ITEMS of the links (item_id, entity_id), by a hash of the item's id."""
    chosen = links.select("item_id", "entity_id").order_by(links.item_id.hexdigest("md5"), links.item_id)
    return materialised(chosen.limit(_MOST_ITEMS))


def differences(graph: Graph, items: Described, links: Table, compared: Sequence[Counterpart],
                settings: DatasetSettings) -> list[Difference]:
    """Compare each item column of `compared` with its counterpart over `links`, a sample.

    A column that only has the same name by chance, or whose relation leads to mere ids, is left out: one whose values
    hardly occur among the items', unless the settings say that it is the same.
    """
    attributes = {items.aliases.get(name, name): what for name, what in settings.attributes.items()}
    found = []
    for of in compared:
        separator = settings.list_separator if attributes.get(of.column) == "list" else ""
        ours = _values(item_values(items, links, of.column), "item_id", separator)
        theirs = _values(_bounded(entity_values(graph, of).semi_join(links, "entity_id"), "value"), "entity_id",
                         separator)
        known, told = ({v for values in side.values() for v in values} for side in (ours, theirs))
        if not of.by_settings and len(known & told) <= _LEAST_IN_COMMON * len(told):
            continue
        pairs = [(i, e) for i, e in _pairs(links) if ours.get(i) and theirs.get(e)]
        different = [(i, e) for i, e in pairs if not _agree(ours[i], theirs[e])]
        examples = [(i, ", ".join(ours[i].values()), e, ", ".join(theirs[e].values()))
                    for i, e in different[:_EXAMPLES]]
        found.append(Difference(of, len(pairs), len(different), examples))
    return found


def _pairs(links: Table) -> list[tuple[str, str]]:
    rows = collect(links.order_by("item_id"))
    return list(zip(rows["item_id"].to_pylist(), rows["entity_id"].to_pylist(), strict=True))


def _values(table: Table, key: str, separator: str) -> dict[str, dict[str, str]]:
    """Return id -> {value as it is compared: value as it is written}; `separator` divides lists, "" what is none."""
    found: dict[str, dict[str, str]] = {}
    rows = collect(table.filter(table.value.notnull()).order_by(key, "value"))
    for name, text in zip(rows[key].to_pylist(), rows["value"].to_pylist(), strict=True):
        for value in values_of(text, separator) if separator else [text]:
            found.setdefault(name, {}).update((form, value) for form in alike(value, without_year=True))
    return found


def _agree(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Return whether two values are equal, or all words of one are in the other: 1972 and 1972-03-24."""
    if not ours.keys().isdisjoint(theirs):
        return True
    words = [[set(value.split()) for value in side] for side in (ours, theirs)]
    return any(a <= b or b <= a for a in words[0] for b in words[1])


def _bounded(rows: Table, by: str) -> Table:
    """Return at most _MOST_VALUES rows of an entity."""
    place = ibis.row_number().over(group_by="entity_id", order_by=[rows[by].hexdigest("md5"), rows[by]])
    return rows.mutate(place=place).filter(lambda t: t.place < _MOST_VALUES).drop("place")


def association(graph: Graph, items: Described, links: Table, settings: DatasetSettings) -> Association | None:
    """Test the links (a sample) against shuffled ones; None when too few have attributes and neighbours to tell.

    Attributes are those that the settings declare, else all columns of the items.
    """
    pairs = _pairs(links)
    columns = {items.aliases.get(name, name) for name, what in settings.attributes.items()
               if what in ("category", "list", "number")} or set(items.names)
    attributes: dict[str, list[str]] = {}
    for column in sorted(columns & set(items.names)):
        values = item_values(items, links, column)
        rows = collect(values.filter(values.value.notnull()).order_by("item_id"))
        for item, text in zip(rows["item_id"].to_pylist(), rows["value"].to_pylist(), strict=True):
            attributes.setdefault(item, []).extend(f"{column}={v}" for v in values_of(text, settings.list_separator))
    neighbours = _neighbours(graph, links)
    both = [(attributes[i], neighbours[e]) for i, e in pairs if attributes.get(i) and neighbours.get(e)]
    if len(both) < FEWEST:
        return None
    return _associated(_weights([a for a, _ in both]), _weights([n for _, n in both]))


def _neighbours(graph: Graph, links: Table) -> dict[str, list[str]]:
    """Return entity_id -> its neighbours, each as relation, direction and the other entity."""
    triples = graph.triples
    ends = [triples.semi_join(links.select(**{end: "entity_id"}), end).select(
        entity_id=end, neighbour=triples.relation + f"\x1f{end}\x1f" + triples[other])
        for end, other in (("head", "tail"), ("tail", "head"))]
    rows = collect(_bounded(ends[0].union(ends[1]), "neighbour").order_by("entity_id", "neighbour"))
    found: dict[str, list[str]] = {}
    for entity, neighbour in zip(rows["entity_id"].to_pylist(), rows["neighbour"].to_pylist(), strict=True):
        found.setdefault(entity, []).append(neighbour)
    return found


def _weights(rows: list[list[str]]) -> sp.csr_array:
    """Return (num_rows, num_values): rows of length 1 or 0, a value the heavier the rarer; one of a single row is none.

    Row by row alike, whatever its number of values, so that shuffling cannot change how much there is to share.
    """
    codes = pa.array([value for row in rows for value in row]).dictionary_encode()
    found = sp.csr_array((np.ones(len(codes)), codes.indices.to_numpy(),
                          np.cumsum([0, *map(len, rows)])), shape=(len(rows), len(codes.dictionary)))
    found.sum_duplicates()
    found.data[:] = 1
    times = found.sum(axis=0)
    found = found @ sp.diags_array(np.where(times > 1, np.log(len(rows) / np.maximum(times, 1)), 0.0))
    lengths = np.sqrt(found.multiply(found).sum(axis=1))
    return sp.csr_array(sp.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ found)


def _associated(attributes: sp.csr_array, neighbours: sp.csr_array) -> Association | None:
    """Return the permutation test of sum_ij (A A')_ij (N N')_ij over rows i, j, which is the squared norm of A'N."""
    rows = np.flatnonzero((attributes.sum(axis=1) > 0) & (neighbours.sum(axis=1) > 0))
    if len(rows) < FEWEST:
        return None
    transposed, neighbours = sp.csr_array(attributes[rows].T), neighbours[rows]
    generator = np.random.default_rng(0)

    def shared(order: np.ndarray) -> float:
        return float((sp.csr_array(transposed @ neighbours[order]).data ** 2).sum())

    shuffled = np.array([shared(generator.permutation(len(rows))) for _ in range(_SHUFFLES)])
    if shuffled.std() <= 1e-9 * shuffled.mean():
        return None
    found = shared(np.arange(len(rows)))
    return Association(len(rows), float((found - shuffled.mean()) / shuffled.std()), float(found / shuffled.mean()))
