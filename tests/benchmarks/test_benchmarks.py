"""Every script in benchmarks/ runs at toy size and prints what it promises."""

import csv
import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.config import compose
from tests.conftest import own_sigterm

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(str(path.relative_to(BENCHMARKS)) for path in BENCHMARKS.rglob("*.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
NUMBER = r"[+-]?[\d.,]+"
HAS_PEER = find_spec("sentence_transformers") is not None


@dataclass(frozen=True)
class Toy:
    """A toy run of a script: arguments, and patterns that lines of its output begin with.

    `<prepared>`, `<graph>`, `<cold>`, `<movielens>` and `<folder>` in the arguments stand for the tiny shop, the same
    with a knowledge graph, the same with cold items in test, the same as a folder of MovieLens-1M, and an empty folder.
    """

    script: str
    arguments: list[str]
    lines: list[str]


EASE = "{ease: {head: ease, l2: 20}, neighbours: {head: user_knn}}"
RUNS = [
    Toy("content.py", ["<folder>", "150", "60", "1000"],
        [r"120 of 150 items in training, 60 users", rf"{NUMBER} CPU seconds, .* peak memory",
         rf"recall@20 on cold items, \d+ users: {NUMBER}"]),
    Toy("encoders.py", ["<prepared>", "20"],
        [r"20 distinct texts", *(rf"{name} +\d+ +{NUMBER} +{NUMBER} +{NUMBER}x" for name in (
            "minilm", "static", "tfidf", "lsa", r"concat \(minilm, lsa\)", "minilm in bfloat16")),
         r"cache, first run +20 encoded +0 read", r"cache, again, unchanged +0 encoded +20 read"]),
    Toy("entity_vectors.py", ["<graph>"],
        [rf"ours {name} +{NUMBER} triples/s, .*'mrr'" for name in ("transe", "complex", "rotate")]
        + [r"PyKEEN is not installed"] * (find_spec("pykeen") is None)),
    Toy("entity_vectors.py", ["300"], [r"300 triples, 60 entities", rf"ours transe +{NUMBER} triples/s"]),
    Toy("evaluate.py", ["<prepared>", "1"],
        [r"60 users, 44 items", *(rf"(ease|popularity): {what} +{NUMBER} +{NUMBER} x" for what in (
            "scores, torch.topk", "the same and AUC, GAUC", "ties in expectation", "the same, bootstrap, intervals")),
         rf"paired comparison +{NUMBER}"]),
    Toy("fusion.py", ["<prepared>", "--halves", "2", "head=fusion", "~head.members", f"head.members={EASE}"],
        [rf"{rule} +{half} +{NUMBER}" for rule in ("any gain", "held out") for half in ("other half", "test")]),
    Toy("groups.py", ["group_attention", "--groups", "30", "--members", "3", "--items", "100"],
        [rf"group_attention +{NUMBER} s +{NUMBER} CPU s .* 30 lists"]),
    Toy("knowledge.py", ["2000", "200"],
        [rf"prepare of 2,000 triples: {NUMBER} s", r"one hop: .* features, .* two hops: .* features"]),
    Toy("memory.py", ["<prepared>", "mf", "recommend one user", "steps=1"],
        [rf"{line} +{NUMBER} \w+ +{NUMBER} \w+" for line in ("mf", "recommend one user")]),
    Toy("prepare.py", ["sort", "movielens", "--rows", "4000", "--repeats", "1", "--path", "<movielens>"],
        [rf"4,000 rows of Parquet, integer ids: prepare {NUMBER} s .* sort {NUMBER} s",
         rf"4,000 rows of Parquet, text ids: prepare {NUMBER} s",
         rf"MovieLens-1M, from .*: {NUMBER} s"]),
    Toy("recency.py", ["<prepared>", "--trials", "1", "--head", "item_knn"],
        [rf"\| item_knn \| none \| {NUMBER}",
         rf"\| item_knn \| place 10 \| {NUMBER} .* {NUMBER} \[{NUMBER}, {NUMBER}\]"]),
    Toy("recipe.py", ["<prepared>", "--recipe", "popularity", "--test"],
        [rf"popularity +ndcg@10 {NUMBER} +\d+ +\d+ +{NUMBER}"]),
    Toy("scaling.py", ["grow", "rows", "head=item_knn", "size=base", "scale=0.01"],
        [rf"item_knn +base( +{NUMBER}){{4}}", r"scaling\.svg",
         *(rf"{step} {setting} +{NUMBER} s, +{NUMBER} processor s, +{NUMBER} GiB" for step, setting in (
             ("prepare", r"dataset\.name=bench"), ("finetune", "head=item_knn"), ("evaluate", r"baselines=\S+")))]),
    Toy("startup.py", ["1"], [rf"{name}( +{NUMBER}){{4}}" for name in ("llmrec --help", "composing .*", "a typo .*",
                                                                    "ten items .*")]),
    Toy("table.py", ["movielens_1m", "<folder>", "dataset.path=<movielens>", "--model", "ease"],
        [r"movielens_1m: test, mean over splits \[42\]", rf"ease +{NUMBER} +{NUMBER}"]),
    Toy("tuned_texts.py", ["<folder>", "<cold>", "peft.num_layers=1", "optim.epochs=1"],
        [r"1 splits, test, cold items; peft.num_layers=1 optim.epochs=1; tuning took \[\d+\] CPU seconds",
         *(rf"{head} {version} +{NUMBER} +{gain}" for head in ("kNN", "ridge") for version, gain in (
             ("frozen", NUMBER), ("tuned", rf"{NUMBER}% {NUMBER} \[{NUMBER}, {NUMBER}\]"), ("both", NUMBER)))]),
    Toy("finetune/run.py", ["<prepared>", "0.01", "seeds' recipe: pairs, padded to 128, batch 16",
                            "sentence-transformers, batch 64, lora", "LoRA, whole catalogue a step"],
        [rf"bfloat16 runs at {NUMBER} times", rf"seeds' recipe.* batch 16 +{NUMBER} +{NUMBER}",
         rf"sentence-transformers, batch 64, lora +{NUMBER}" if HAS_PEER else "sentence-transformers is not installed",
         rf"ours, LoRA, whole catalogue a step +{NUMBER} +{NUMBER}"]),
    Toy("heads/run.py", ["<folder>", "1", "--prepared", "<prepared>", "--no-install"],
        [*(rf"{peer} is not installed in .* and is left out" for peer in ("implicit", "lenskit", "recbole")),
         *(rf"{what} +{NUMBER} s .*left out" for what in (
             "iALS, longest fit", "item-kNN fit, BM25", "EASE fit", "EASE, lists of 100 and metrics")),
         rf"EASE fit +{NUMBER} s .*; ratio {NUMBER}", rf"everything evaluate measures, .*: {NUMBER} s"]),
    Toy("sequential/run.py", ["<folder>", "1", "--prepared", "<prepared>", "--no-install"],
        [r"rectools is not installed in .* and is left out",
         *(rf"sequential, {name} +{NUMBER} CPU s per epoch, .* ndcg@10 {NUMBER}"
           for name in ("softmax", "sampled_softmax", "gbce", "ligr"))]),
    Toy("sequential/curves.py", ["<prepared>", "1", "<folder>", "--variant", "ligr, gbce", "--no-install"],
        [r"rectools is not installed in .* and is left out",
         rf"llmrec ligr, gbce +best {NUMBER} within {NUMBER} CPU s"]),
    Toy("sequential/curve.py", ["<prepared>", "1", "optim.epochs=2", "loss=gbce"],
        [rf'\{{"epoch": {epoch}, "seconds": {NUMBER}, "ndcg@10": {NUMBER}' for epoch in (1, 2)]
        + [rf'\{{"settings": .*"seconds_per_epoch": {NUMBER}']),
]
PARTS = {"made_shop.py": "content.py", "finetune/common.py": "finetune/ours.py", "finetune/ours.py": "finetune/run.py",
         "finetune/peer_sentence_transformers.py": "finetune/run.py", "finetune/precisions.py": "finetune/run.py",
         "finetune/seeds_recipe.py": "finetune/run.py", "heads/environments.py": "heads/run.py",
         "heads/export.py": "heads/run.py", "heads/ours.py": "heads/run.py", "sequential/ours.py": "sequential/run.py"}
"""Script or module -> the script that runs or imports it."""
PEERS = {"heads/peer_implicit.py": "heads/run.py", "heads/peer_lenskit.py": "heads/run.py",
         "heads/peer_recbole.py": "heads/run.py", "sequential/peer_rectools.py": "sequential/run.py",
         "sequential/peer_curve.py": "sequential/curves.py"}
"""Script of a peer that has an environment of its own, so that no test can run it -> the script that runs it."""


def test_every_script_has_a_toy_run_or_is_part_of_one():
    assert sorted({*(toy.script for toy in RUNS), *PARTS, *PEERS}) == SCRIPTS
    for part, script in (PARTS | PEERS).items():
        path = Path(part)
        assert re.search(rf'"{path.name}"|^from {path.stem} import', (BENCHMARKS / script).read_text("utf-8"), re.M)


def test_prepare_at_other_sizes_and_with_spark_runs_commands_that_compose(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module, commands = importlib.import_module("prepare"), []

    def composed(command, folder):
        settings = compose(command[1], command[2:])
        commands.append(settings.engine.kind)
        (folder / settings.output).mkdir(exist_ok=True)
        pq.write_table(pa.table({"user": [1]}), folder / settings.output / "interactions.parquet")
        return 1.0, 1.0, 1.0

    monkeypatch.setattr(module, "timed", composed)
    monkeypatch.setattr(module, "sort", lambda path, folder: 1.0)
    monkeypatch.setattr(sys, "argv", ["prepare.py", "flat", "csv", "spark", "--rows", "80000"])
    module.main()
    assert commands == ["duckdb"] * 4 + ["duckdb", "spark"] * 2
    printed = capsys.readouterr().out
    assert "80,000 rows of gzipped CSV: prepare 1.0 s" in printed
    assert printed.count("rows in only one of them: [0, 0]") == 2


def test_a_model_of_a_table_reads_an_encoder_pretrained_once_on_the_data_of_its_split(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module, commands = importlib.import_module("table"), []

    def recorded(folder, command, *arguments):
        commands.append((command, *arguments))
        run = Path(next(word for word in arguments if word.startswith("run_dir=")).removeprefix("run_dir="))
        run.mkdir()
        (run / "manifest.json").write_text("{}")

    monkeypatch.setattr(module, "llmrec", recorded)
    for name in ("first", "second"):
        module.fit_model(tmp_path, "mafengwo_s_cold", tmp_path / "prepared-42", name,
                         ["encoder=pretrained", "encoder.path={pretrained}"])
    assert [command[0] for command in commands] == ["pretrain", "finetune", "finetune"]
    pretrained = tmp_path / "prepared-42-pretrained"
    assert f"run_dir={pretrained}" in commands[0]
    assert f"prepared={tmp_path / 'prepared-42'}" in commands[0]
    assert all(f"encoder.path={pretrained}" in commands[n] for n in (1, 2))


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_files, tiny_prepared, prepare_tiny):
    """Return the folders that the names in the arguments stand for."""
    from llmrec_cli import cli

    folder = tmp_path_factory.mktemp("toys")
    (folder / "triples.csv").write_text("head,relation,tail\n" + "".join(
        f"e{n},directed_by,d{n % 5}\ne{n},genre,g{n % 4}\n" for n in range(40)))
    (folder / "links.csv").write_text("item_id,entity_id\n" + "".join(f"i{n},e{n}\n" for n in range(40)))
    with own_sigterm():
        assert cli.run(["prepare", *prepare_tiny, f"dataset.knowledge={folder / 'triples.csv'}",
                        f"dataset.links={folder / 'links.csv'}", f"output={folder / 'graph'}",
                        f"run_dir={folder / 'run'}"]) == 0
        assert cli.run(["prepare", *prepare_tiny, "split=cold_items",
                        f"output={folder / 'cold'}", f"run_dir={folder / 'cold-run'}"]) == 0
    write_movielens_1m(folder / "ml-1m", tiny_files)
    return {"<prepared>": tiny_prepared, "<graph>": folder / "graph", "<cold>": folder / "cold",
            "<movielens>": folder / "ml-1m"}


def write_movielens_1m(folder, tiny):
    """Write the tiny shop in the format of MovieLens-1M."""
    folder.mkdir()
    with (tiny / "interactions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    with (tiny / "items.csv").open(encoding="utf-8") as stream:
        films = list(csv.DictReader(stream))
    number = {film["item_id"]: n + 1 for n, film in enumerate(films)}
    (folder / "ratings.dat").write_text("".join(
        f"{row['user_id'][1:]}::{number[row['item_id']]}::{row['value']}::{row['timestamp']}\n" for row in rows))
    (folder / "movies.dat").write_text("".join(
        f"{number[film['item_id']]}::Film {film['item_id']} ({film['year']})::{film['genres']}\n" for film in films))
    (folder / "users.dat").write_text("".join(
        f"{user}::F::1::10::48067\n" for user in sorted({row["user_id"][1:] for row in rows}, key=int)))


@pytest.mark.slow
@pytest.mark.parametrize("toy", [pytest.param(toy, id=f"{toy.script} {toy.arguments[0]}") for toy in RUNS])
def test_a_script_runs_at_toy_size_and_prints_its_figures(toy, places, tmp_path):
    (tmp_path / "folder").mkdir()
    named = places | {"<folder>": tmp_path / "folder"}
    words = [re.sub(r"<\w+>", lambda match: str(named[match[0]]), word) for word in toy.arguments]
    done = subprocess.run([sys.executable, BENCHMARKS / toy.script, *words], cwd=tmp_path, capture_output=True,
                          env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in toy.lines:
        assert re.search(rf"^ *{line}", done.stdout, re.MULTILINE), f"no line {line!r} in:\n{done.stdout}"
