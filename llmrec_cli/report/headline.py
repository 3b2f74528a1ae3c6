"""Headline of the evaluation report: title, main sentences, warnings and cards."""

from dataclasses import dataclass
from typing import Any

from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase
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
    rows = Phrase("Rows") if "num_rows" in protocol else Phrase(audience.title())
    cards = [_card(f"ndcg@{k}", Phrase("how high held-out items are ranked"), ours, f"ndcg@{k}", "{:.3f}"),
             _card(Phrase("{rows} with a hit", rows=rows), Phrase("at least one held-out item among {k}", k=k), ours,
                   f"hit@{k}", "{:.0%}"),
             _card(Phrase("Hits in a list of {k}", k=k),
                   Phrase("held-out items of the {owner} on the list", owner=Phrase(audience[:-1])), ours,
                   f"precision@{k}", "{:.2f}", k),
             _card(Phrase("Held-out items found"), f"recall@{k}", ours, f"recall@{k}", "{:.1%}")]
    several = len(metrics.get("models", {})) > 1
    title = _winner(metrics) if several else _title(metrics, content.model, best, k)
    return Headline(title, str(dict(content.facts["Data"])["Name"]),
                    [*(_standings(content) if several else []), *_sentences(content, best)],
                    warnings(metrics, k), cards, _catalogue(content.model, ours, k),
                    Joined([Phrase("{share:.1%} of the lists of {model} contain equal scores.",
                                   share=metrics["tie_rate"], model=content.model),
                            Phrase("{num:,} {audience} with held-out interactions were not evaluated.",
                                   num=protocol["num_skipped"], audience=Phrase(audience)),
                            *time_ties(metrics)], " "))


def _catalogue(model: str, ours: dict[str, Any], k: int) -> str:
    """Return a sentence on the coverage of the catalogue, and of its tail if it is measured."""
    coverage = ours[f"coverage@{k}"]["mean"]
    if f"tail_share@{k}" not in ours:
        return Phrase("The lists of {k} by {model} cover {coverage:.0%} of the catalogue.", k=k, model=readable(model),
                      coverage=coverage)
    return Phrase("The lists of {k} by {model} cover {coverage:.0%} of the catalogue; {tail:.0%} of their places go to "
                  "the 80% least popular items.", k=k, model=readable(model), coverage=coverage,
                  tail=_of(ours, f"tail_share@{k}"))


def time_ties(metrics: dict[str, Any]) -> list[str]:
    """Return sentences on interactions with equal timestamps; none without times."""
    ties, audience = metrics["protocol"].get("time_ties"), audience_of(metrics)
    if not ties:
        return []
    return [Phrase("{share:.1%} of the interactions have the same {owner} and time as another interaction.",
                   share=ties["share"], owner=Phrase(audience[:-1])),
            Phrase("This affects a held-out interaction of {share:.1%} of the {audience} with held-out interactions.",
                   share=ties["held_out_share"], audience=Phrase(audience)),
            Phrase("A salted hash orders equal times.")]


def audience_of(metrics: dict[str, Any]) -> str:
    """Return the audience of the content of metrics.json: users or groups."""
    return str(metrics["protocol"].get("audience", "users"))


def strongest_baseline(metrics: dict[str, Any], k: int) -> str | None:
    """Return the baseline with the highest ndcg@k."""
    return max(metrics["baselines"], key=lambda name: _of(metrics["baselines"][name], f"ndcg@{k}"), default=None)


def warnings(metrics: dict[str, Any], k: int) -> list[str]:
    """Return the warnings for the content of metrics.json; with several models, each names its model."""
    sentences = [sentence for model, one in _by_model(metrics).items()
                 for sentence in _list_warnings(model, one, audience_of(metrics))]
    ties = metrics["protocol"].get("time_ties", {"share": 0, "held_out_share": 0})
    if max(ties["share"], ties["held_out_share"]) > _MANY_TIME_TIES:
        sentences.append(Joined([Phrase("Timestamps are coarse:"), *time_ties(metrics),
                                 Phrase("The order of interactions is therefore partly random, and a held-out "
                                        "interaction may not be the latest.")], " "))
    if metrics["protocol"]["candidates"].startswith("sampled"):
        sentences.append(Phrase("Only a few candidates per list are ranked ({candidates}). Do not compare these "
                                "metrics with metrics on the whole catalogue, where the order of models can differ.",
                                candidates=metrics["protocol"]["candidates"]))
    if synthetic := metrics["protocol"].get("synthetic_groups"):
        sentences.append(Phrase("The groups are synthetic ({how}): built from users, with interactions derived from "
                                "theirs. The metrics do not show how well real groups would be served.",
                                how=fixed_phrase(synthetic)))
    sentences += [_leak_warning(model, reason) for model, one in _by_model(metrics).items()
                  for reason in one["suspicious"]]
    filled_slices = {name for name, number in metrics["protocol"]["slice_queries"].items() if number}
    if filled_slices.isdisjoint(_KNOWN_ITEMS) and _of(metrics["metrics"], f"hit@{k}") == 0:
        sentences.append(Phrase("No held-out item is in training, and none was recommended: heads that use only "
                                "interactions rank such items last. Use a head that reads attributes or texts: "
                                "content, two_tower, or ease with head.features.attributes=3."))
    return sentences


def _by_model(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return model -> its part of metrics.json; a single model has the name ""."""
    models: dict[str, dict[str, Any]] = metrics.get("models", {})
    return models or {"": metrics}


def _list_warnings(model: str, one: dict[str, Any], audience: str) -> list[str]:
    """Return warnings about ties in the lists of a model."""
    sentences: list[str] = []
    if one["tie_rate"] >= _MANY_TIES:
        whose = Phrase("the lists of {model}", model=model) if model else Phrase("the lists")
        sentences.append(Phrase("{share:.0%} of {lists} contain items with equal scores, ordered by a hash of the item "
                                "id. With this many ties, check whether the model has learned anything.",
                                share=one["tie_rate"], lists=whose))
    if one["degenerate_rate"] >= _MANY_CONSTANT:
        by = Phrase("the same score by {model}", model=model) if model else Phrase("the same score")
        sentences.append(Phrase("For {share:.0%} of the {audience} every item has {score}, so their lists are random.",
                                share=one["degenerate_rate"], audience=Phrase(audience), score=by))
    return sentences


def _leak_warning(model: str, reason: str) -> str:
    what = Phrase("{model}: {reason}", model=model, reason=reason) if model else reason
    return Phrase("Possible leak: {what}. Check whether the model's input contains "
                  "the held-out interactions before you trust these metrics.", what=what)


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
        return Phrase("{model} ranks best of {num} recommenders", model=name, num=len(rows))
    *others, last = map(readable, top[1:])
    ties = Phrase("{others} or {last}", others=Joined(others), last=last) if others else last
    return Phrase("{model} ranks first of {num} recommenders, but is not significantly better than {others}",
                  model=name, num=len(rows), others=ties)


def _standings(content: EvaluationReport) -> list[str]:
    """Return sentences with the main metric of the best and the last recommender, and on the model of the details."""
    board = content.metrics["leaderboard"]
    first, second, *others = board["rows"]
    places = [Phrase("{model} {mean:.3f} (first)", model=readable(first["name"]), mean=first["mean"]),
              Phrase("{model} {mean:.3f} (second)", model=readable(second["name"]), mean=second["mean"]),
              *(Phrase("{model} {mean:.3f} (last)", model=readable(row["name"]), mean=row["mean"])
                for row in others[-1:])]
    return [Phrase("{metric}: {places}.", metric=board["metric"], places=Joined(places)),
            Joined([_about(content), *_equal_models(content)], " ")]


def _about(content: EvaluationReport) -> str:
    if content.is_named:
        return Phrase("Sentences and details below are about {model}, which about= names.",
                      model=readable(content.model))
    return Phrase("Sentences and details below are about {model}, the best model by {metric}.",
                  model=readable(content.model), metric=content.metrics["leaderboard"]["metric"])


def _equal_models(content: EvaluationReport) -> list[str]:
    """Return a sentence on the models with exactly the same main metric; none without such models."""
    rows = [row for row in content.metrics["leaderboard"]["rows"] if not row["baseline"]]
    mean = next(row["mean"] for row in rows if row["name"] == content.model)
    equal = [readable(row["name"]) for row in rows if row["mean"] == mean and row["name"] != content.model]
    return [Phrase("The same {metric} is reached by {models}.", metric=content.metrics["leaderboard"]["metric"],
                   models=Joined(equal))] if equal else []


def _title(metrics: dict[str, Any], model: str, best: str | None, k: int) -> str:
    name = _capital(readable(model))
    if best is None:
        return Phrase("{model} reaches an ndcg@{k} of {mean:.3f}", model=name, k=k,
                      mean=_of(metrics["metrics"], f"ndcg@{k}"))
    low, high = metrics["comparisons"][best][f"ndcg@{k}"]["ci95"]
    if low > 0:
        return Phrase("{model} ranks better than {other}", model=name, other=readable(best))
    return (Phrase("{model} ranks worse than {other}", model=name, other=readable(best)) if high < 0 else
            Phrase("{model} does not differ significantly from {other}", model=name, other=readable(best)))


def _sentences(content: EvaluationReport, best: str | None) -> list[str]:
    metrics, k = content.metrics, content.cutoff
    ours, protocol, audience = metrics["metrics"], metrics["protocol"], audience_of(metrics)
    hit_low, hit_high = ours[f"hit@{k}"]["ci95"]
    among = (Phrase("a few sampled") if protocol["candidates"].startswith("sampled") else
             Phrase("{num:,}", num=protocol["num_candidates"]))
    name = readable(content.model)
    first = Phrase("{model} recommends {k} of {among} items for each of {queries}. {share:.0%} of the lists contain at "
                   "least one held-out item of the {owner} (95% interval {low:.0%} to {high:.0%})",
                   model=_capital(name), k=k, among=among, queries=query_count(protocol), share=_of(ours, f"hit@{k}"),
                   owner=Phrase(audience[:-1]), low=hit_low, high=hit_high)
    rest = [*_by_query(metrics, content.model, k), *_prediction_errors(content.model, ours)]
    if best is None:
        return [Phrase("{sentence}.", sentence=first), *rest]
    theirs, compared = metrics["baselines"][best], metrics["comparisons"][best][f"ndcg@{k}"]
    low, high = compared["ci95"]
    base = _of(theirs, f"ndcg@{k}")
    relative = f" ({compared['difference'] / base:+.0%})" if base > 0 else ""
    zero = Phrase("excludes zero") if low > 0 or high < 0 else Phrase("includes zero")
    return [Phrase("{sentence}; for {baseline}, the strongest baseline, {share:.0%} do.", sentence=first,
                   baseline=readable(best), share=_of(theirs, f"hit@{k}")),
            Phrase("ndcg@{k} is {ours:.3f} for {model} and {base:.3f} for {baseline}{relative}. The difference is "
                   "{difference:+.3f}; its 95% interval from {low:+.3f} to {high:+.3f} {zero}.", k=k,
                   ours=_of(ours, f"ndcg@{k}"), model=name, base=base, baseline=readable(best), relative=relative,
                   difference=compared["difference"], low=low, high=high, zero=zero),
            *rest]


def _by_query(metrics: dict[str, Any], model: str, k: int) -> list[str]:
    """Return a sentence with the means over users or groups, if the other means are over rows of a candidate file."""
    if "by_query" not in metrics:
        return []
    ours, audience = metrics["by_query"][model], audience_of(metrics)
    return [Phrase("These are means over rows. With equal weight for every {owner}, ndcg@{k} of {model} is {ndcg:.3f} "
                   "and hit@{k} {hit:.3f}. All intervals are over {audience}.", owner=Phrase(audience[:-1]), k=k,
                   model=readable(model), ndcg=_of(ours, f"ndcg@{k}"), hit=_of(ours, f"hit@{k}"),
                   audience=Phrase(audience))]


def _prediction_errors(model: str, ours: dict[str, Any]) -> list[str]:
    """Return a sentence on scores as predictions; none if the scores predict neither values nor likes."""
    name = readable(model)
    if "rmse" in ours:
        return [Phrase("The scores of {model} predict values; their error on held-out interactions is {rmse:.3f} "
                       "(rmse) and {mae:.3f} (mae).", model=name, rmse=_of(ours, "rmse"), mae=_of(ours, "mae"))]
    if "logloss" in ours:
        return [Phrase("The scores of {model} predict likes; on held-out likes and dislikes the accuracy is "
                       "{accuracy:.0%}, the logloss {logloss:.3f} and the AUC {auc:.3f} (auc_pairs).", model=name,
                       accuracy=_of(ours, "accuracy"), logloss=_of(ours, "logloss"), auc=_of(ours, "auc_pairs"))]
    return []


def _card(label: str, note: str, metrics: dict[str, Any], name: str, style: str, times: float = 1) -> Card:
    mean, (low, high) = metrics[name]["mean"] * times, metrics[name]["ci95"]
    return Card(label, style.format(mean), Phrase("{low} to {high}; {note}", low=style.format(low * times),
                                                  high=style.format(high * times), note=note))


def _of(metrics: dict[str, Any], name: str) -> float:
    return float(metrics[name]["mean"])
