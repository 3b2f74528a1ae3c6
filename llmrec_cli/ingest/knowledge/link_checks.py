"""Plausibility checks of links between items and entities.

With the link file of another data set all ids may look right, and nothing fails: the model just learns from knowledge
about other things. Two checks detect it: columns of linked entities contradict the columns of their items; and, if
entities have only ids, similar items are no more similar as entities than under shuffled links.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from ibis.expr.types import Table

from llmrec_cli.ingest.engine import collect, materialise
from llmrec_cli.ingest.knowledge.links import Counterpart, Graph, entity_values, item_values, normalised_forms
from llmrec_cli.ingest.texts.catalogue import Descriptions
from llmrec_cli.ingest.texts.templates import values_of
from llmrec_cli.settings.dataset import DatasetSettings

_MOST_ITEMS = 2000
"""Size of the sample of linked items."""
_MOST_VALUES = 500
"""Most values, and most neighbours, of an entity that are compared."""
FEWEST = 100
"""Fewest links for the shuffle test."""
_SHUFFLES = 200
LEAST_Z = 3.0
"""Right links of a hundred films give a z of 10 and more, of 1,500 films 70; wrong links stay between -2 and 2."""
_MOST_DIFFERENT = 0.2
"""Share of pairs that may differ, since spellings and years differ a little between sources."""
_LEAST_IN_COMMON = 0.1
_EXAMPLES = 3


@dataclass(frozen=True)
class Difference:
    """Comparison of a column of items with its counterpart in the graph.

    Attributes
    ----------
    num_pairs : number of links where item and entity have a value
    num_different : number of these links without a common value
    examples : (item_id, the item's value, entity_id, the entity's value)
    """

    of: Counterpart
    num_pairs: int
    num_different: int
    examples: list[tuple[str, str, str, str]]

    @property
    def contradicts(self) -> bool:
        """True if more pairs differ than right links would explain."""
        return self.num_different > _MOST_DIFFERENT * self.num_pairs


@dataclass(frozen=True)
class Association:
    """Result of the shuffle test: do items that share attributes share neighbours in the graph more than by chance?

    `z` is the score of the links in standard deviations above the mean of shuffled links, `ratio` the score over that
    mean.
    """

    num_items: int
    z: float
    ratio: float


def sample_links(links: Table) -> Table:
    """Return a sample of at most _MOST_ITEMS links (item_id, entity_id), by a hash of the item id."""
    ordered = links.select("item_id", "entity_id").order_by(links.item_id.hexdigest("md5"), links.item_id)
    return materialise(ordered.limit(_MOST_ITEMS))


def compare_columns(graph: Graph, items: Descriptions, links: Table, compared: Sequence[Counterpart],
                settings: DatasetSettings) -> list[Difference]:
    """Compare each item column of `compared` with its counterpart over `links`, a sample.

    Skips a counterpart whose values hardly occur among the items' values, unless the settings name it: it probably has
    the same name by chance, or its relation leads to mere ids.
    """
    attributes = {items.aliases.get(name, name): what for name, what in settings.attributes.items()}
    results = []
    for of in compared:
        separator = settings.list_separator if attributes.get(of.column) == "list" else ""
        ours = _values(item_values(items, links, of.column), "item_id", separator)
        theirs = _values(_bounded(entity_values(graph, of).semi_join(links, "entity_id"), "value"), "entity_id",
                         separator)
        item_values_, entity_values_ = ({v for values in side.values() for v in values} for side in (ours, theirs))
        if not of.by_settings and len(item_values_ & entity_values_) <= _LEAST_IN_COMMON * len(entity_values_):
            continue
        pairs = [(i, e) for i, e in _pairs(links) if ours.get(i) and theirs.get(e)]
        different = [(i, e) for i, e in pairs if not _agree(ours[i], theirs[e])]
        examples = [(i, ", ".join(ours[i].values()), e, ", ".join(theirs[e].values()))
                    for i, e in different[:_EXAMPLES]]
        results.append(Difference(of, len(pairs), len(different), examples))
    return results


def _pairs(links: Table) -> list[tuple[str, str]]:
    rows = collect(links.order_by("item_id"))
    return list(zip(rows["item_id"].to_pylist(), rows["entity_id"].to_pylist(), strict=True))


def _values(table: Table, key: str, separator: str) -> dict[str, dict[str, str]]:
    """Return id -> {normalised value: original value}; `separator` splits lists, "" for columns that are no lists."""
    values_by_id: dict[str, dict[str, str]] = {}
    rows = collect(table.filter(table.value.notnull()).order_by(key, "value"))
    for name, text in zip(rows[key].to_pylist(), rows["value"].to_pylist(), strict=True):
        for value in values_of(text, separator) if separator else [text]:
            forms = normalised_forms(value, without_year=True)
            values_by_id.setdefault(name, {}).update((form, value) for form in forms)
    return values_by_id


def _agree(ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Return True if two values are equal, or all words of one are in the other, like 1972 and 1972-03-24."""
    if not ours.keys().isdisjoint(theirs):
        return True
    words = [[set(value.split()) for value in side] for side in (ours, theirs)]
    return any(a <= b or b <= a for a in words[0] for b in words[1])


def _bounded(rows: Table, by: str) -> Table:
    """Return at most _MOST_VALUES rows of each entity."""
    place = ibis.row_number().over(group_by="entity_id", order_by=[rows[by].hexdigest("md5"), rows[by]])
    return rows.mutate(place=place).filter(lambda t: t.place < _MOST_VALUES).drop("place")


def shuffle_test(graph: Graph, items: Descriptions, links: Table, settings: DatasetSettings) -> Association | None:
    """Test the links (a sample) against shuffled links; None if too few items have attributes and neighbours.

    Attributes are the categories, lists and numbers of the settings, and all columns of the items.
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
    return _permutation_test(_weights([a for a, _ in both]), _weights([n for _, n in both]))


def _neighbours(graph: Graph, links: Table) -> dict[str, list[str]]:
    """Return entity_id -> its neighbours, each as relation, direction and neighbour id."""
    triples = graph.triples
    ends = [triples.semi_join(links.select(**{end: "entity_id"}), end).select(
        entity_id=end, neighbour=triples.relation + f"\x1f{end}\x1f" + triples[other])
        for end, other in (("head", "tail"), ("tail", "head"))]
    rows = collect(_bounded(ends[0].union(ends[1]), "neighbour").order_by("entity_id", "neighbour"))
    neighbours: dict[str, list[str]] = {}
    for entity, neighbour in zip(rows["entity_id"].to_pylist(), rows["neighbour"].to_pylist(), strict=True):
        neighbours.setdefault(entity, []).append(neighbour)
    return neighbours


def _weights(rows: list[list[str]]) -> sp.csr_array:
    """Return IDF weights of the values, CSR (num_rows, num_values), each row of length 1 (or 0 without shared values).

    Values of a single row get weight 0. All rows have the same length, so that shuffling does not change the total
    weight.
    """
    codes = pa.array([value for row in rows for value in row]).dictionary_encode()
    matrix = sp.csr_array((np.ones(len(codes)), codes.indices.to_numpy(),
                          np.cumsum([0, *map(len, rows)])), shape=(len(rows), len(codes.dictionary)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    times = matrix.sum(axis=0)
    matrix = matrix @ sp.diags_array(np.where(times > 1, np.log(len(rows) / np.maximum(times, 1)), 0.0))
    lengths = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    return sp.csr_array(sp.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ matrix)


def _permutation_test(attributes: sp.csr_array, neighbours: sp.csr_array) -> Association | None:
    """Run a permutation test of sum_ij (A A')_ij (N N')_ij over rows i, j, which is the squared norm of A'N."""
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
    score = shared(np.arange(len(rows)))
    return Association(len(rows), float((score - shuffled.mean()) / shuffled.std()), float(score / shuffled.mean()))
