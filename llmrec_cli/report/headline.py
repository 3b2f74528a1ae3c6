"""The headline: what a reader who reads nothing else should know, in plain sentences."""

from dataclasses import dataclass
from typing import Any

from llmrec_cli.report.candidates import measured_on
from llmrec_cli.report.content import Content

_MANY_TIES, _MANY_CONSTANT = 0.5, 0.01
"""From these shares of lists on, ties say more about the scores than the scores about the items, and scores that are
all the same are more than an accident."""
_MANY_TIMES = 0.1
"""Share of interactions, or of users' held-out ones, above which ties in time are a warning."""
_SAMPLED = "Sampled candidates: a few items each were ranked"
_NAMES = {"item_knn": "item kNN", "user_knn": "user kNN", "ease": "EASE", "ials": "iALS", "mf": "MF"}
"""Names of heads that are written otherwise than their settings."""
_KNOWN_ITEMS = ("item:head", "item:mid", "item:tail")
"""Slices of queries by the items to be found that are in training."""


@dataclass(frozen=True)
class Card:
    """A number with what it is."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Headline:
    """Title, sentences, warnings and cards at the top of the report."""

    title: str
    data: str
    sentences: list[str]
    warnings: list[str]
    cards: list[Card]
    catalogue: str
    tie_note: str


def headline(content: Content) -> Headline:
    """Return the headline of an evaluation."""
    metrics, k = content.metrics, content.cutoff
    ours, protocol, whom = metrics["metrics"], metrics["protocol"], audience(metrics)
    best = strongest_baseline(metrics, k)
    rows = "Rows" if "num_rows" in protocol else whom.title()
    cards = [_card(f"ndcg@{k}", "how high on the list the liked items are", ours, f"ndcg@{k}", "{:.3f}"),
             _card(f"{rows} with a hit", f"find something they liked among {k}", ours, f"hit@{k}", "{:.0%}"),
             _card(f"Hits in a list of {k}", f"items the {whom[:-1]} went on to like", ours, f"precision@{k}", "{:.2f}",
                   k),
             _card("Liked items found", f"recall@{k}", ours, f"recall@{k}", "{:.1%}")]
    shown = (f"The lists of {k} show {ours[f'coverage@{k}']['mean']:.0%} of the catalogue"
             + (f"; {_of(ours, f'tail_share@{k}'):.0%} of the places go to the 80% least popular items."
                if f"tail_share@{k}" in ours else "."))
    several = len(metrics.get("models", {})) > 1
    title = _winner(metrics) if several else _title(metrics, content.model, best, k)
    return Headline(title, str(dict(content.facts["Data"])["Name"]),
                    [*(_standings(metrics) if several else []), *_sentences(content, best)],
                    warnings(metrics, k), cards, shown,
                    f"{metrics['tie_rate']:.1%} of the lists have ties in them. "
                    f"{protocol['num_skipped']:,} {whom} were skipped.{time_ties(metrics)}")


def time_ties(metrics: dict[str, Any]) -> str:
    """Return how many interactions share their time with another, as a sentence after others; "" without times."""
    ties, whom = metrics["protocol"].get("time_ties"), audience(metrics)
    if not ties:
        return ""
    return (f" {ties['share']:.1%} of the interactions share {whom[:-1]} and time with another, and "
            f"{ties['held_out_share']:.1%} of the {whom} with held-out interactions have a tied one; a salted hash "
            f"orders ties.")


def audience(metrics: dict[str, Any]) -> str:
    """Return users or groups: whom the content of metrics.json is about."""
    return str(metrics["protocol"].get("audience", "users"))


def strongest_baseline(metrics: dict[str, Any], k: int) -> str | None:
    """Return the baseline with the highest ndcg@k."""
    return max(metrics["baselines"], key=lambda name: _of(metrics["baselines"][name], f"ndcg@{k}"), default=None)


def warnings(metrics: dict[str, Any], k: int) -> list[str]:
    """Return what a reader of the content of metrics.json must be warned of."""
    found, tie_rate = [], metrics["tie_rate"]
    if tie_rate >= _MANY_TIES:
        found.append(f"{tie_rate:.0%} of the lists have ties in them: the scores hardly tell items apart, and a hash "
                     f"of the item id decides instead. A model that has learned nothing looks like this.")
    if metrics["degenerate_rate"] >= _MANY_CONSTANT:
        found.append(f"For {metrics['degenerate_rate']:.0%} of the {audience(metrics)} every item has the same score: "
                     f"there the model says nothing, and its lists are those of chance.")
    ties = metrics["protocol"].get("time_ties", {"share": 0, "held_out_share": 0})
    if max(ties["share"], ties["held_out_share"]) > _MANY_TIMES:
        found.append(f"The clock of the data is coarse:{time_ties(metrics)} So their order is partly chance, and what "
                     f"is held out last may not be what happened last.")
    if metrics["protocol"]["candidates"].startswith("sampled"):
        found.append(f"{_SAMPLED} ({metrics['protocol']['candidates']}): not to be compared with metrics of the whole "
                     f"catalogue, and models may come in another order there.")
    if synthetic := metrics["protocol"].get("synthetic_groups"):
        found.append(f"The groups are synthetic ({synthetic}): made of users, with interactions made of theirs. These "
                     f"figures show that things work, not how well groups of people would be served.")
    traces = {"": metrics["suspicious"], **{f"{name}: ": one["suspicious"] for name, one in
                                            list(metrics.get("models", {}).items())[1:]}}
    found += [f"Suspicious, too good to be true: {who}{reason}. Look for what tells the model the answers before "
              f"believing any figure here." for who, reasons in traces.items() for reason in reasons]
    asked = {name for name, number in metrics["protocol"]["slice_queries"].items() if number}
    if asked.isdisjoint(_KNOWN_ITEMS) and _of(metrics["metrics"], f"hit@{k}") == 0:
        found.append("Nothing of what was to be found is in training, and nothing of it was found: a head that knows "
                     "items by interactions alone ranks such items last. Heads that read attributes or texts can find "
                     "them: content, two_tower, ease with head.features.attributes=3.")
    return found


def readable(name: str) -> str:
    """Return the name of a recommender, a head's with what tells it apart, as it is written in a sentence."""
    head, space, rest = name.partition(" ")
    return _NAMES.get(head, head.replace("_", " ")) + space + rest


def _capital(name: str) -> str:
    """Return the name as it begins a sentence: iALS stays as it is."""
    return name[:1].upper() + name[1:] if name.partition(" ")[0].islower() else name


def _winner(metrics: dict[str, Any]) -> str:
    """Return who is at the top, with all that cannot be told from it."""
    rows = metrics["leaderboard"]["rows"]
    top = [row["name"] for n, row in enumerate(rows) if n == 0 or set(row["letters"]) & set(rows[0]["letters"])]
    name = _capital(readable(top[0]))
    if len(top) == 1:
        return f"{name} ranks best of {len(rows)} recommenders"
    rivals = " and ".join(map(readable, top[1:]))
    return f"{name} comes first of {len(rows)} recommenders, and cannot be told from {rivals}"


def _standings(metrics: dict[str, Any]) -> list[str]:
    """Return how far the first is from the second and the last, in a sentence."""
    board = metrics["leaderboard"]
    first, second, *others = board["rows"]
    said = (f"By {board['metric']} {readable(first['name'])} has {first['mean']:.3f}, {readable(second['name'])} "
            f"{second['mean']:.3f}")
    last = f", and the last, {readable(others[-1]['name'])}, {others[-1]['mean']:.3f}" if others else ""
    return [f"{said}{last}."]


def _title(metrics: dict[str, Any], model: str, best: str | None, k: int) -> str:
    name = _capital(readable(model))
    if best is None:
        return f"{name} reaches an ndcg@{k} of {_of(metrics['metrics'], f'ndcg@{k}'):.3f}"
    low, high = metrics["comparisons"][best][f"ndcg@{k}"]["ci95"]
    if low > 0:
        return f"{name} ranks better than {readable(best)}"
    return f"{name} ranks worse than {readable(best)}" if high < 0 else f"{name} cannot be told from {readable(best)}"


def _sentences(content: Content, best: str | None) -> list[str]:
    metrics, k = content.metrics, content.cutoff
    ours, protocol, whom = metrics["metrics"], metrics["protocol"], audience(metrics)
    hit_low, hit_high = ours[f"hit@{k}"]["ci95"]
    among = "a few sampled" if protocol["candidates"].startswith("sampled") else f"{protocol['num_candidates']:,}"
    first = (f"Asked for {k} out of {among} items for each of {measured_on(protocol)}, "
             f"{readable(content.model)} puts at least one that the {whom[:-1]} went on to like on "
             f"{_of(ours, f'hit@{k}'):.0%} of the lists (95% interval {hit_low:.0%} to {hit_high:.0%})")
    rest = [*_by_query(metrics, content.model, k), *_predictions(ours)]
    if best is None:
        return [f"{first}.", *rest]
    theirs, compared = metrics["baselines"][best], metrics["comparisons"][best][f"ndcg@{k}"]
    low, high = compared["ci95"]
    base = _of(theirs, f"ndcg@{k}")
    relative = f", {compared['difference'] / base:+.0%}" if base > 0 else ""
    sure = "an interval that excludes zero" if low > 0 or high < 0 else "an interval that includes zero"
    return [f"{first}; {readable(best)}, the strongest baseline, on {_of(theirs, f'hit@{k}'):.0%}.",
            f"Its ndcg@{k} is {_of(ours, f'ndcg@{k}'):.3f} against {base:.3f}{relative}. The difference of "
            f"{compared['difference']:+.3f} has a 95% interval from {low:+.3f} to {high:+.3f}, {sure}.",
            *rest]


def _by_query(metrics: dict[str, Any], model: str, k: int) -> list[str]:
    """Return what the means are over users or groups where the others are over rows of a file of candidates."""
    if "by_query" not in metrics:
        return []
    ours, whom = metrics["by_query"][model], audience(metrics)
    return [f"These are means over rows. If every {whom[:-1]} counts by the mean of its rows, ndcg@{k} is "
            f"{_of(ours, f'ndcg@{k}'):.3f} and hit@{k} {_of(ours, f'hit@{k}'):.3f}. Both have intervals over {whom}."]


def _predictions(ours: dict[str, Any]) -> list[str]:
    """Return how good scores are as predictions, where they are any."""
    if "rmse" in ours:
        return [f"Its scores predict values: of what was held out they are off by {_of(ours, 'rmse'):.3f} (rmse), "
                f"{_of(ours, 'mae'):.3f} on average (mae)."]
    if "logloss" in ours:
        return [f"Its scores predict likes: of held-out likes and dislikes they tell {_of(ours, 'accuracy'):.0%} "
                f"right (accuracy), with a logloss of {_of(ours, 'logloss'):.3f} and an AUC of "
                f"{_of(ours, 'auc_pairs'):.3f} (auc_pairs)."]
    return []


def _card(label: str, note: str, metrics: dict[str, Any], name: str, style: str, times: float = 1) -> Card:
    mean, (low, high) = metrics[name]["mean"] * times, metrics[name]["ci95"]
    return Card(label, style.format(mean), f"{style.format(low * times)} to {style.format(high * times)}; {note}")


def _of(metrics: dict[str, Any], name: str) -> float:
    return float(metrics[name]["mean"])
