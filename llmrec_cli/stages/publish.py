"""publish: a recommender to a version of lists and model that others read, if it passes the gate."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from llmrec_cli.atomic_files import read_json, temporary_folder, write_bytes, write_json
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.device import choose_device
from llmrec_cli.errors import ConfigError, GateRefused, in_time
from llmrec_cli.evaluation.models import LoadedModel, build_baseline, fitted_on, load_models
from llmrec_cli.heads.artifact import Recommender, model_folder, read_facts
from llmrec_cli.heads.base import Context
from llmrec_cli.plain_text import columns
from llmrec_cli.publishing.checks import Finding, judge
from llmrec_cli.publishing.facts import data_facts, folder_gib, list_facts, quality_facts
from llmrec_cli.publishing.folder import SWITCHED, PublishFolder
from llmrec_cli.run_dir import InnerRunDir, RunDir
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.gate import IGNORE
from llmrec_cli.settings.publish import PublishConfig
from llmrec_cli.settings.recommend import ListOutputSettings, RecommendConfig
from llmrec_cli.stages import evaluate, recommend

MODEL, EVALUATED, LISTS, GATE = "model", "evaluated", "recommendations.parquet", "gate.json"
OURS, THEIRS, POPULARITY = "candidate", "current", "popularity"
_QUALITY = ("regression", "popularity", "floor", "slices")
_SAMPLE = 50
"""Lists that a new process makes again."""


def run(cfg: PublishConfig, run_dir: RunDir) -> None:
    """Publish a version, or do what else is asked for."""
    folder = PublishFolder(Path(cfg.to))
    if cfg.history:
        print_history(folder)
        return
    with folder.writing():
        if cfg.asks_for:
            change(cfg, folder)
        else:
            publish(cfg, folder, run_dir)
    run_dir.finish("publish", {"to": str(folder.path.resolve()), "current": folder.current,
                               "models": [] if cfg.asks_for else [str(model_folder(cfg.model).resolve())]})


def publish(cfg: PublishConfig, folder: PublishFolder, run_dir: RunDir) -> None:
    """Make a version, let the gate judge it, and switch to it; raise GateRefused with all that failed."""
    model = model_folder(cfg.model)
    evaluated = model_folder(cfg.evaluated, "evaluated") if cfg.evaluated else model
    data = read_prepared(cfg.prepared or read_facts(model)["data"]["path"])
    if folder.current is not None:
        folder.check(folder.current)
    before = current_facts(folder)
    print(f"publish: {'no current version yet' if folder.current is None else f'current version {folder.current}'}",
          file=sys.stderr)
    facts = dict(data_facts(data))
    facts |= measure_quality(cfg, folder, evaluated, data, run_dir)
    with folder.building() as content:
        facts |= make_lists(cfg, folder, model, data, content, run_dir)
        shutil.copytree(model, content / MODEL)
        if evaluated != model:
            shutil.copytree(evaluated, content / EVALUATED)
        for name in ("metrics.json", "report.html"):
            file = run_dir.file("evaluate") / name
            if file.exists():
                shutil.copy(file, content / name)
        facts |= check_in_new_process(content, cfg.k) | {"gib": folder_gib(content)}
        findings = judge(cfg.gate, facts, before, numbers_of(folder))
        gate = gate_content(folder, facts, findings)
        write_json(content / GATE, gate)
        write_json(run_dir.file(GATE), gate)
        refused = [one for one in findings if one.refuses]
        for one in findings:
            if one.warns or (one.passed is None and folder.current is not None):
                print(f"warning: {one.sentence()}", file=sys.stderr)
        if refused:
            refuse(folder, content, facts, refused, run_dir)
        name = folder.add(content)
    told = {"metrics": {"metric": facts["metric"]}, "numbers": {one.check: one.value for one in findings},
            "data": data.manifest["fingerprint"], "warnings": [one.check for one in findings if one.warns]}
    if cfg.gate.review:
        folder.offer(name, told)
        print(f"candidate: {folder.path / 'candidate'} -> {name}; `llmrec publish to={folder.path} promote=true` makes "
              f"it current", file=sys.stderr)
    else:
        folder.switch(name, "published", told)
        print(f"published: {folder.path / 'current'} -> {name}", file=sys.stderr)
    for old in folder.prune(cfg.keep, cfg.keep_days):
        print(f"removed: version {old}", file=sys.stderr)


def measure_quality(cfg: PublishConfig, folder: PublishFolder, evaluated: Path, data: PreparedData,
                    run_dir: RunDir) -> dict[str, float | None]:
    """Ask this version's evaluated model, the current one's and popularity the same held-out queries of tonight."""
    if all(getattr(cfg.gate, name).level == IGNORE for name in _QUALITY):
        return {"metric": None}
    if "test" in read_facts(evaluated).get("fitted_on", []):
        ignored = " ".join(f"gate.{name}=ignore" for name in _QUALITY)
        raise ConfigError(f"evaluated: the model in {evaluated} was fitted on the held-out interactions too "
                          f"(refit=all), so its quality cannot be measured; give the run before the refit, "
                          f"evaluated=<run>, or leave quality out: {ignored}")
    asked = EvaluateConfig(model=str(evaluated), prepared=str(data.path), baselines=[POPULARITY], seed=cfg.seed,
                           language=cfg.language, device=cfg.device, cache=cfg.cache)
    context = Context(choose_device(cfg.device), cfg.seed, log=run_dir.log, cache=cfg.cache_folder)
    models: dict[str, Sequence[LoadedModel]] = {OURS: load_models([str(evaluated)], context)}
    unfair = np.zeros(0, object)
    if folder.current is not None:
        version = folder.version(folder.current)
        theirs = next(path for name in (EVALUATED, MODEL) if (path := version / name).is_dir())
        current = load_models([str(theirs)], context)
        unfair = users_fitted_on(current[0].recommender, data)
        if len(unfair) < len(np.unique(data.part("test").user)):
            models[THEIRS] = current
    inner = InnerRunDir(run_dir.file("evaluate"))
    inner.path.mkdir(parents=True, exist_ok=True)
    baselines = {POPULARITY: build_baseline(POPULARITY)}
    results = evaluate.compare(asked, inner, models, baselines, data, None, context, OURS)
    metric = cfg.gate.metric or results.ranking.metric
    if metric not in results.models[OURS].values:
        raise ConfigError(f"gate.metric={metric}: is not measured; choose one of "
                          f"{', '.join(results.models[OURS].values)}")
    is_fair_Q = ~np.isin(results.task.owners, unfair)
    facts = quality_facts(metric, results.models[OURS], results.models.get(THEIRS),
                          next(iter(results.baselines.values()), None), cfg.gate.slice_names, is_fair_Q)
    return facts | {"compared_queries": float(is_fair_Q.sum()) if THEIRS in models else 0.0}


def users_fitted_on(recommender: Recommender, data: PreparedData) -> np.ndarray:
    """Return the ids of the users with a held-out item that the current version's model was fitted on; say how many.

    A split that draws anew each night holds out what was training the night before.
    """
    held_out = data.part("test")
    users = np.unique(held_out.user[fitted_on(recommender, data, held_out)])
    if len(users):
        print(f"warning: {len(users):,} of {len(np.unique(held_out.user)):,} users with held-out interactions are not "
              f"compared with the current version, whose model was fitted on these; split=leave_last_out or temporal "
              f"holds out what is new", file=sys.stderr)
    ids: np.ndarray = data.users.ids[users]
    return ids


def make_lists(cfg: PublishConfig, folder: PublishFolder, model: Path, data: PreparedData, content: Path,
               run_dir: RunDir) -> dict[str, float | None]:
    """Write lists of all users, or groups, and return their numbers."""
    lists, started = content / LISTS, time.monotonic()
    inner = InnerRunDir(run_dir.file("recommend"))
    inner.path.mkdir(parents=True, exist_ok=True)
    recommend.run(RecommendConfig(model=str(model), queries="all", k=cfg.k, output=ListOutputSettings(path=str(lists)),
                                  device=cfg.device, cache=cfg.cache), inner)
    seconds, counts = time.monotonic() - started, inner.manifest()
    num_queries = int(counts["queries"])
    current = None if folder.current is None else folder.version(folder.current) / LISTS
    listed = data.items.ids if data.listed is None else data.items.ids[data.listed]
    facts = list_facts(lists, min(cfg.k, len(listed)), listed, num_queries, current)
    print(f"lists of {num_queries:,} in {in_time(seconds)}", file=sys.stderr)
    return facts | {"seconds_per_list": seconds / max(1, num_queries)}


def check_in_new_process(content: Path, k: int) -> dict[str, float | None]:
    """Let a new process load the version's model, and return the shares of a sample's lists that it gave, and gave
    otherwise."""
    rows = pq.read_table(content / LISTS, columns=["query_id", "user_id", "rank", "item_id", "score"])
    ids = list(dict.fromkeys(rows["query_id"].to_pylist()))
    step = max(1, len(ids) // _SAMPLE)
    sample = ids[::step][:_SAMPLE]
    with temporary_folder() as scratch:
        users = {query: user for query, user in zip(rows["query_id"].to_pylist(), rows["user_id"].to_pylist(),
                                                   strict=True) if query in set(sample)}
        key = "user_id" if any(users.values()) else "group_id"
        write_bytes(scratch / "sample.jsonl", "".join(
            json.dumps({"query_id": query, key: users.get(query) or query}, ensure_ascii=False) + "\n"
            for query in sample).encode())
        done = subprocess.run([sys.executable, "-m", "llmrec_cli", "recommend", f"model={(content / MODEL).resolve()}",
                               "queries=sample.jsonl", f"k={k}", "output=lists.parquet", "run_dir=run"], cwd=scratch,
                              capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"publish: the model of this version gave no lists: {done.stderr.strip()[-500:]}", file=sys.stderr)
            return {"loads": 0.0, "other_share": None}
        again = _lists_of(pq.read_table(scratch / "lists.parquet"), sample)
    ours = _lists_of(rows, sample)
    other = sum(ours[query] != again.get(query) for query in sample)
    return {"loads": len(again) / max(1, len(sample)), "other_share": other / max(1, len(sample))}


def _lists_of(rows: Any, queries: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    lists: dict[str, list[tuple[str, float]]] = {}
    wanted = set(queries)
    for query, item, score in zip(*(rows[name].to_pylist() for name in ("query_id", "item_id", "score")), strict=True):
        if query in wanted:
            lists.setdefault(query, []).append((item, score))
    return lists


def refuse(folder: PublishFolder, content: Path, facts: Mapping[str, float | None], refused: Sequence[Finding],
           run_dir: RunDir) -> None:
    """Keep what the gate saw, record the refusal, and raise GateRefused."""
    kept = folder.new_refused()
    for file in (GATE, "metrics.json", "report.html"):
        if (content / file).exists():
            shutil.copy(content / file, kept / file)
    folder.record("refused", kept.name, {"metrics": {"metric": facts["metric"]},
                                         "checks": [one.check for one in refused]})
    current = "nothing is published yet" if folder.current is None else f"{folder.current} stays current"
    raise GateRefused("\n".join([f"{len(refused)} checks refuse this version, so {current}; see {kept / GATE}",
                                 *(str(one.sentence()) for one in refused)]))


def gate_content(folder: PublishFolder, facts: Mapping[str, float | None],
                 findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the content of gate.json."""
    return {"format": 1, "current": folder.current, "passed": not any(one.refuses for one in findings),
            "facts": dict(facts), "checks": [one.to_dict() | {"sentence": str(one.sentence())} for one in findings]}


def current_facts(folder: PublishFolder) -> dict[str, float | None]:
    """Return the facts of the current version; empty without one."""
    return {} if folder.current is None else read_json(folder.version(folder.current) / GATE)["facts"]


def numbers_of(folder: PublishFolder) -> list[dict[str, float | None]]:
    """Return the numbers of each check in the published versions, oldest first."""
    return [event.facts["numbers"] for event in folder.history() if event.kind == "published" and "numbers" in
            event.facts]


def change(cfg: PublishConfig, folder: PublishFolder) -> None:
    """Go back, promote the candidate, pin or unpin."""
    if cfg.rollback:
        name = folder.previous() if cfg.rollback == "true" else cfg.rollback
        folder.check(name)
        folder.switch(name, "rolled_back")
        print(f"rolled back: {folder.path / 'current'} -> {name}", file=sys.stderr)
    elif cfg.promote:
        if (candidate := folder.candidate) is None:
            raise ConfigError(f"promote=true: {folder.path} has no candidate; publish one with gate.review=true")
        folder.switch(candidate, "promoted")
        print(f"promoted: {folder.path / 'current'} -> {candidate}", file=sys.stderr)
    else:
        name = cfg.pin or cfg.unpin
        folder.version(name)
        folder.record("pinned" if cfg.pin else "unpinned", name, {})


def print_history(folder: PublishFolder) -> None:
    """Print what happened, newest first, to stdout."""
    rows, current = [], folder.current
    for event in reversed(folder.history()):
        metric = (event.facts.get("metrics") or {}).get("metric")
        notes = [*(["supersedes " + str(event.facts["supersedes"])] if event.facts.get("supersedes") else []),
                 *([f"failed: {', '.join(event.facts['checks'])}"] if event.facts.get("checks") else [])]
        mark = "current" if event.version == current and event.kind in SWITCHED else ""
        current = None if mark else current  # Only the newest line of it.
        rows.append([event.time.replace("+00:00", "Z"), event.kind.replace("_", " "), event.version,
                     "" if metric is None else f"{metric:.4f}", mark, "; ".join(notes)])
    print(columns(["time", "event", "version", "metric", "", "notes"], rows, align="llllll"))
