"""Facts of the report about data, model and evaluation, as labels and values."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.models import LoadedModel
from llmrec_cli.language.phrases import Joined, Phrase, fixed_phrase
from llmrec_cli.report.candidates import candidate_notes, query_count
from llmrec_cli.report.query_rows import query_row_notes
from llmrec_cli.report.terminal import printable
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.settings.command import LATEST
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.protocols import PROTOCOLS
from llmrec_cli.settings.split import describe_split

Facts = list[tuple[str, str]]


def report_facts(seed_runs: Sequence[LoadedModel], task: HeldOut, baselines: Sequence[str], metrics: Mapping[str, Any],
                 data: PreparedData, cfg: EvaluateConfig) -> dict[str, Facts]:
    """Return groups of facts; `metrics` is the content of metrics.json."""
    facts = {Phrase("Data"): _data_facts(data, cfg), Phrase("Model"): _model_facts(seed_runs, data),
             Phrase("Evaluation"): _evaluation_facts(task, baselines, metrics["protocol"], cfg)}
    return {name: [(label, safe(value)) for label, value in rows] for name, rows in facts.items()}


def safe(value: str) -> str:
    """Return a value with control characters escaped; a phrase without any stays a phrase."""
    printed = printable(str(value))
    return value if printed == value else printed


def _data_facts(data: PreparedData, cfg: EvaluateConfig) -> Facts:
    manifest, counts = data.manifest, data.manifest["counts"]
    synthetic = manifest.get("groups", {}).get("synthetic")
    number = f"{counts.get('groups', 0):,}"
    groups = Phrase("{num}, synthetic ({how})", num=number, how=fixed_phrase(synthetic)) if synthetic else number
    return [(Phrase("Name"), manifest["name"]), (Phrase("Users"), f"{counts['users']:,}"),
            (Phrase("Items"), f"{counts['items']:,}"),
            *([(Phrase("Groups"), groups)] if cfg.audience == "groups" else []),
            (Phrase("Interactions"), Phrase("{train:,} train, {valid:,} valid, {test:,} test",
                                            **{split: counts[split] for split in ("train", "valid", "test")})),
            (Phrase("Split"), describe_split(manifest["split"], manifest.get("timestamp_unit", ""))),
            (Phrase("Fingerprint"), manifest["fingerprint"][:16])]


def _model_facts(seed_runs: Sequence[LoadedModel], data: PreparedData) -> Facts:
    recommender = seed_runs[0].recommender
    manifest = recommender.manifest
    seeds = ", ".join("–" if model.seed is None else str(model.seed) for model in seed_runs)
    same = data.manifest["fingerprint"] == manifest["data_fingerprint"]
    return [(Phrase("Head"), manifest["head"]),
            (Phrase("Fitted on"), Joined(map(fixed_phrase, manifest["fitted_on"]), " + ")),
            (Phrase("Interactions"), Phrase("{num:,} of {users:,} users", num=recommender.history.nnz,
                                            users=recommender.history.shape[0])),
            (Phrase("Encoders"), ", ".join(manifest["encoders"]) or Phrase("none")),
            (Phrase("Seeds") if seed_runs[1:] else Phrase("Seed"), seeds),
            (Phrase("Trained on"), Phrase("the data above") if same else
             Phrase("other data: {fingerprint}", fingerprint=manifest["data_fingerprint"][:16]))]


def _evaluation_facts(task: HeldOut, baselines: Sequence[str], protocol: Mapping[str, Any],
                      cfg: EvaluateConfig) -> Facts:
    audience, rows = Phrase(cfg.audience), protocol.get("queries")
    held_out = [(Phrase("Split"), Phrase("{split}, {num:,} interactions", split=Phrase(cfg.split),
                                         num=task.relevant_QN.nnz)),
                (Phrase(cfg.audience.title()), Phrase("{num:,} of the {total:,} with held-out interactions",
                                                      num=task.num_owners, total=task.num_owners + task.num_skipped))]
    if rows:
        held_out = [(Phrase("Queries"), Phrase("{queries} in {file}, with {num:,} relevant items",
                                               queries=query_count(dict(protocol)), file=rows["file"],
                                               num=task.relevant_QN.nnz))]
    published = [(Phrase("Protocol"), Phrase(PROTOCOLS[cfg.protocol].title))] if cfg.protocol else []
    return [*published, *held_out,
            *([] if task.owner_Q is None else
              [(Phrase("Rows"), Phrase("{num:,}, each with a list of its own", num=len(task.queries)))]),
            *((Phrase("Queries"), note) for note in query_row_notes(dict(protocol))),
            *history_facts(protocol),
            (Phrase("Candidates"), _candidates(task, protocol, cfg)),
            *((Phrase("Candidate file"), note) for note in candidate_notes(dict(protocol))),
            (Phrase("Intervals"), Phrase("95%, bootstrap with {num:,} resamples of the {audience}",
                                         num=cfg.num_bootstrap, audience=audience)),
            (Phrase("Diversity"), Phrase("based on {vectors}", vectors=protocol["diversity"])
             if protocol["diversity"] else Phrase("not measured")),
            (Phrase("Baselines"), ", ".join(baselines) or Phrase("none"))]


def _candidates(task: HeldOut, protocol: Mapping[str, Any], cfg: EvaluateConfig) -> Phrase:
    """Return the ranked items in words."""
    num = int(task.candidates_N.sum())
    ranked = {"all": Phrase("all {num:,} items", num=num),
              "cold": Phrase("{num:,} items without training interactions", num=num)}
    items = ranked.get(protocol["candidates"], protocol["candidates"])
    return Phrase("{items}, without items that the {owner} has seen", items=items,
                  owner=Phrase(cfg.audience[:-1])) if cfg.exclude_seen else items


def history_facts(protocol: Mapping[str, Any]) -> Facts:
    """Return the fact about histories for the report; none for cold-start users."""
    if "history" not in protocol:
        return []
    source = (Phrase("all interactions before the split; {num:,} of {total:,} histories have interactions newer than "
                     "the fit", num=protocol["num_newer_histories"], total=protocol["num_queries"])
              if protocol["history"] == LATEST else Phrase("interactions that the model was fitted on"))
    fixed = [f"{name} ({', '.join(parts)})" if parts != [name] else name
             for name, parts in protocol["without_fold_in"].items()]
    return [(Phrase("Histories"), Phrase("{source}; known users scored from learned vectors: {models}", source=source,
                                         models=Joined(fixed)) if fixed else source)]
