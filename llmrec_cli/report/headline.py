"""Headline of the evaluation report: title, main sentences, warnings and cards."""

from dataclasses import dataclass
from typing import Any

from llmrec_cli.report.candidates import query_count
from llmrec_cli.report.content import EvaluationReport

_MANY_TIES, _MANY_CONSTANT = 0.5, 0.01
"""Shares of lists with ties, and of queries whose scores are all equal, from which the report warns."""
_MANY_TIME_TIES = 0.1
"""Share of interactions, or of users with tied held-out interactions, above which the report warns."""
_NAMES = {"item_knn": "item kNN", "user_knn": "user kNN", "ease": "EASE", "ials": "iALS", "mf": "MF"}
"""Names of heads whose spelling in text differs from the setting."""
_KNOWN_ITEMS = ("item:head", "item:mid", "item:tail")
"""Slices of queries with held-out items that are in training."""


@dataclass(frozen=True)
class Card:
    """A number with its label and a note."""

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


def headline(content: EvaluationReport) -> Headline:
    """Return the headline of an evaluation."""
    metrics, k = content.metrics, content.cutoff
    ours, protocol, audience = metrics["metrics"], metrics["protocol"], audience_of(metrics)
    best = strongest_baseline(metrics, k)
    rows = "Rows" if "num_rows" in protocol else audience.title()
    cards = [_card(f"ndcg@{k}", "how high held-out items are ranked", ours, f"ndcg@{k}", "{:.3f}"),
             _card(f"{rows} with a hit", f"at least one held-out item among {k}", ours, f"hit@{k}", "{:.0%}"),
             _card(f"Hits in a list of {k}", f"held-out items of the {audience[:-1]} on the list", ours,
                   f"precision@{k}", "{:.2f}", k),
             _card("Held-out items found", f"recall@{k}", ours, f"recall@{k}", "{:.1%}")]
    catalogue = (f"The lists of {k} cover {ours[f'coverage@{k}']['mean']:.0%} of the catalogue"
                 + (f"; {_of(ours, f'tail_share@{k}'):.0%} of their places go to the 80% least popular items."
                    if f"tail_share@{k}" in ours else "."))
    several = len(metrics.get("models", {})) > 1
    title = _winner(metrics) if several else _title(metrics, content.model, best, k)
    return Headline(title, str(dict(content.facts["Data"])["Name"]),
                    [*(_standings(metrics) if several else []), *_sentences(content, best)],
                    warnings(metrics, k), cards, catalogue,
                    f"{metrics['tie_rate']:.1%} of the lists contain equal scores. "
                    f"{protocol['num_skipped']:,} {audience} with held-out interactions were not evaluated."
                    f"{time_ties(metrics)}")


def time_ties(metrics: dict[str, Any]) -> str:
    """Return a sentence on interactions with equal timestamps, with a leading space; "" without times."""
    ties, audience = metrics["protocol"].get("time_ties"), audience_of(metrics)
    if not ties:
        return ""
    return (f" {ties['share']:.1%} of the interactions have the same {audience[:-1]} and time as another interaction. "
            f"This affects a held-out interaction of {ties['held_out_share']:.1%} of the {audience} with held-out "
            f"interactions. A salted hash orders equal times.")


def audience_of(metrics: dict[str, Any]) -> str:
    """Return the audience of the content of metrics.json: users or groups."""
    return str(metrics["protocol"].get("audience", "users"))


def strongest_baseline(metrics: dict[str, Any], k: int) -> str | None:
    """Return the baseline with the highest ndcg@k."""
    return max(metrics["baselines"], key=lambda name: _of(metrics["baselines"][name], f"ndcg@{k}"), default=None)


def warnings(metrics: dict[str, Any], k: int) -> list[str]:
    """Return the warnings for the content of metrics.json."""
    sentences, tie_rate = [], metrics["tie_rate"]
    if tie_rate >= _MANY_TIES:
        sentences.append(f"{tie_rate:.0%} of the lists{_of_first(metrics)} contain items with equal scores, ordered by "
                         f"a hash of the item id. With this many ties, check whether the model has learned anything.")
    if metrics["degenerate_rate"] >= _MANY_CONSTANT:
        sentences.append(f"For {metrics['degenerate_rate']:.0%} of the {audience_of(metrics)} every item has the same "
                         f"score{_of_first(metrics)}, so their lists are random.")
    ties = metrics["protocol"].get("time_ties", {"share": 0, "held_out_share": 0})
    if max(ties["share"], ties["held_out_share"]) > _MANY_TIME_TIES:
        sentences.append(f"Timestamps are coarse:{time_ties(metrics)} The order of interactions is therefore partly "
                         f"random, and a held-out interaction may not be the latest.")
    if metrics["protocol"]["candidates"].startswith("sampled"):
        sentences.append(f"Only a few candidates per list are ranked ({metrics['protocol']['candidates']}). Do not "
                         f"compare these metrics with metrics on the whole catalogue, where the order of models can "
                         f"differ.")
    if synthetic := metrics["protocol"].get("synthetic_groups"):
        sentences.append(f"The groups are synthetic ({synthetic}): built from users, with interactions derived from "
                         f"theirs. The metrics do not show how well real groups would be served.")
    problems = {"": metrics["suspicious"], **{f"{name}: ": one["suspicious"] for name, one in
                                              list(metrics.get("models", {}).items())[1:]}}
    sentences += [f"Possible leak, the result is too good to be true: {who}{reason}. Check whether the model's input "
                  f"contains the held-out interactions before you trust these metrics."
                  for who, reasons in problems.items() for reason in reasons]
    filled_slices = {name for name, number in metrics["protocol"]["slice_queries"].items() if number}
    if filled_slices.isdisjoint(_KNOWN_ITEMS) and _of(metrics["metrics"], f"hit@{k}") == 0:
        sentences.append("No held-out item is in training, and none was recommended: heads that use only interactions "
                         "rank such items last. Use a head that reads attributes or texts: content, two_tower, or ease "
                         "with head.features.attributes=3.")
    return sentences


def _of_first(metrics: dict[str, Any]) -> str:
    """Return ` of <model>` if several models are compared, since tie_rate and degenerate_rate are of the first."""
    return f" of {next(iter(metrics['models']))}" if metrics.get("models") else ""


def readable(name: str) -> str:
    """Return the name of a recommender as written in a sentence: the head, then its distinguishing settings."""
    head, space, rest = name.partition(" ")
    return _NAMES.get(head, head.replace("_", " ")) + space + rest


def _capital(name: str) -> str:
    """Capitalise the name for the beginning of a sentence; iALS stays as it is."""
    return name[:1].upper() + name[1:] if name.partition(" ")[0].islower() else name


def _winner(metrics: dict[str, Any]) -> str:
    """Return the title: the best recommender, with those that do not differ significantly from it."""
    rows = metrics["leaderboard"]["rows"]
    top = [row["name"] for n, row in enumerate(rows) if n == 0 or set(row["letters"]) & set(rows[0]["letters"])]
    name = _capital(readable(top[0]))
    if len(top) == 1:
        return f"{name} ranks best of {len(rows)} recommenders"
    *others, last = map(readable, top[1:])
    ties = f"{', '.join(others)} or {last}" if others else last
    return f"{name} ranks first of {len(rows)} recommenders, but is not significantly better than {ties}"


def _standings(metrics: dict[str, Any]) -> list[str]:
    """Return a sentence with the main metric of the first, second and last recommender."""
    board = metrics["leaderboard"]
    first, second, *others = board["rows"]
    last = f", {readable(others[-1]['name'])} {others[-1]['mean']:.3f} (last)" if others else ""
    return [f"{board['metric']}: {readable(first['name'])} {first['mean']:.3f} (first), {readable(second['name'])} "
            f"{second['mean']:.3f} (second){last}."]


def _title(metrics: dict[str, Any], model: str, best: str | None, k: int) -> str:
    name = _capital(readable(model))
    if best is None:
        return f"{name} reaches an ndcg@{k} of {_of(metrics['metrics'], f'ndcg@{k}'):.3f}"
    low, high = metrics["comparisons"][best][f"ndcg@{k}"]["ci95"]
    if low > 0:
        return f"{name} ranks better than {readable(best)}"
    return (f"{name} ranks worse than {readable(best)}" if high < 0 else
            f"{name} does not differ significantly from {readable(best)}")


def _sentences(content: EvaluationReport, best: str | None) -> list[str]:
    metrics, k = content.metrics, content.cutoff
    ours, protocol, audience = metrics["metrics"], metrics["protocol"], audience_of(metrics)
    hit_low, hit_high = ours[f"hit@{k}"]["ci95"]
    among = "a few sampled" if protocol["candidates"].startswith("sampled") else f"{protocol['num_candidates']:,}"
    name = readable(content.model)
    first = (f"{_capital(name)} recommends {k} of {among} items for each of {query_count(protocol)}. "
             f"{_of(ours, f'hit@{k}'):.0%} of the lists contain at least one held-out item of the {audience[:-1]} (95% "
             f"interval {hit_low:.0%} to {hit_high:.0%})")
    rest = [*_by_query(metrics, content.model, k), *_prediction_errors(ours)]
    if best is None:
        return [f"{first}.", *rest]
    theirs, compared = metrics["baselines"][best], metrics["comparisons"][best][f"ndcg@{k}"]
    low, high = compared["ci95"]
    base = _of(theirs, f"ndcg@{k}")
    relative = f" ({compared['difference'] / base:+.0%})" if base > 0 else ""
    zero = "excludes zero" if low > 0 or high < 0 else "includes zero"
    return [f"{first}; for {readable(best)}, the strongest baseline, {_of(theirs, f'hit@{k}'):.0%} do.",
            f"ndcg@{k} is {_of(ours, f'ndcg@{k}'):.3f} for {name} and {base:.3f} for {readable(best)}{relative}. The "
            f"difference is {compared['difference']:+.3f}; its 95% interval from {low:+.3f} to {high:+.3f} {zero}.",
            *rest]


def _by_query(metrics: dict[str, Any], model: str, k: int) -> list[str]:
    """Return a sentence with the means over users or groups, if the other means are over rows of a candidate file."""
    if "by_query" not in metrics:
        return []
    ours, audience = metrics["by_query"][model], audience_of(metrics)
    return [f"These are means over rows. With equal weight for every {audience[:-1]}, ndcg@{k} is "
            f"{_of(ours, f'ndcg@{k}'):.3f} and hit@{k} {_of(ours, f'hit@{k}'):.3f}. All intervals are over {audience}."]


def _prediction_errors(ours: dict[str, Any]) -> list[str]:
    """Return a sentence on scores as predictions; none if the scores predict neither values nor likes."""
    if "rmse" in ours:
        return [f"The scores predict values; their error on held-out interactions is {_of(ours, 'rmse'):.3f} (rmse) "
                f"and {_of(ours, 'mae'):.3f} (mae)."]
    if "logloss" in ours:
        return [f"The scores predict likes; on held-out likes and dislikes the accuracy is "
                f"{_of(ours, 'accuracy'):.0%}, the logloss {_of(ours, 'logloss'):.3f} and the AUC "
                f"{_of(ours, 'auc_pairs'):.3f} (auc_pairs)."]
    return []


def _card(label: str, note: str, metrics: dict[str, Any], name: str, style: str, times: float = 1) -> Card:
    mean, (low, high) = metrics[name]["mean"] * times, metrics[name]["ci95"]
    return Card(label, style.format(mean), f"{style.format(low * times)} to {style.format(high * times)}; {note}")


def _of(metrics: dict[str, Any], name: str) -> float:
    return float(metrics[name]["mean"])
