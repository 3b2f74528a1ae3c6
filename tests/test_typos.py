"""The likely typos and mistakes of README and quickstart: each ends with exit 2 or 3 and a sentence that fixes it."""

import shlex

import pytest

# Mistakes in words and values: the command line, and the sentence or a part of it.
WORDS = [
    ("finetun", "no such command (did you mean 'finetune'?)"),
    ("fine-tune", "no such command (did you mean 'finetune'?)"),
    ("Finetune head=ease", "no such command (did you mean 'finetune'?)"),
    ("train", "no such command (did you mean 'finetune'?)"),
    ("predict queries=all", "no such command (did you mean 'recommend'?)"),
    ("eval", "no such command (did you mean 'evaluate'?)"),
    ("head=ease finetune", "the command comes first: llmrec <command> key=value"),
    ("finetune --head ease", "--head: no such option; settings have no dashes, write head=ease"),
    ("finetune --head=ease", "settings have no dashes, write head=ease"),
    ("recommend --output recs.csv", "settings have no dashes, write output=recs.csv"),
    ("finetune --multi-run seed=1,2", "no such option (did you mean '--multirun'?)"),
    ("finetune head ease", "head ease: write head=ease, without blanks around the equals sign"),
    ("finetune head = ease", "head = ease: write head=ease, without blanks around the equals sign"),
    ("finetune head= ease", "write head=ease, without blanks around the equals sign"),
    ("finetune head =ease", "write head=ease, without blanks around the equals sign"),
    ("finetune =ease", "=ease: expected a setting, key=value"),
    ("init =a.csv", "=a.csv: expected a setting, key=value"),
    ("finetune ease", "ease: expected a setting, key=value; write head=ease"),
    ("finetune head:ease", "write head=ease"),
    ("finetune prepared:x", "write prepared=x"),
    ("prepare clicks.csv", "write dataset.interactions=clicks.csv"),
    ("prepare shop.yaml", "write settings=shop.yaml"),
    ("evaluate runs/finetune/latest", "write model=runs/finetune/latest"),
    ("recommend all", "write queries=all"),
    ("prepare dataset.interactions=a.csv dataset.item_text={title} {genres}",
     "quote a value with blanks: dataset.item_text='{title} {genres}'"),
    ("recommend query.text=slow science fiction", "quote a value with blanks: query.text='slow science fiction'"),
    ("prepare dataset.interaction=x.csv", "dataset.interaction: unknown key (did you mean 'interactions'?)"),
    ("prepare interactions=x.csv", "(did you mean 'dataset.interactions'?)"),
    ("prepare columns.item_id=sku", "(did you mean 'dataset.columns.item_id'?)"),
    ("prepare dataset.interactions=x.csv dataset.columns.item=sku", "no such column (did you mean 'item_id'?)"),
    ("prepare dataset.event_weights={view: 1, buy: 5}",
     "quote a value with blanks: dataset.event_weights='{view: 1, buy: 5}'"),
    ("prepare dataset.columns=item_id:sku dataset.columns=user_id:uid",
     "expected a mapping; write 'dataset.columns={<name>: <value>, <name>: <value>}', in quotes"),
    ("prepare dataset.interactions=[a.csv, b.csv]", "quote a value with blanks: dataset.interactions='[a.csv, b.csv]'"),
    ("prepare dataset=movielens-100k", "(did you mean 'movielens_100k'?)"),
    ("prepare dataset=shop.yaml", "to use a file of settings write settings=shop.yaml"),
    ("prepare dataset.interactions=x.csv split=leave-last-out", "(did you mean 'leave_last_out'?)"),
    ("prepare dataset.interactions=x.csv split=loo", "choose one of cold_items, cold_users, given, leave_last_out"),
    ("prepare dataset.interactions=x.csv split.test=20%", "split.test=20%: expected a number"),
    ("finetune dataset=shop", "dataset: `llmrec finetune` has no such setting; it reads prepared data: run `llmrec "
                              "prepare dataset=...` first, then set prepared=data/prepared/<name>"),
    ("finetune dataset.name=shop", "then set prepared=data/prepared/<name>"),
    ("finetune l2=100", "(did you mean 'head.l2', with head=ease"),
    ("finetune head=ease l2=100", "(did you mean 'head.l2'?)"),
    ("finetune head=ease features.text=4", "(did you mean 'head.features.text'?)"),
    ("finetune epochs=3", "(did you mean 'optim.epochs'?)"),
    ("finetune lr=0.1", "(did you mean 'optim.learning_rate'?)"),
    ("finetune trials=30", "(did you mean 'tune.trials'?)"),
    ("finetune tune=30", "write tune.<setting>=<value> with one of trials, budget, timeout_s"),
    ("finetune queries=all", "(did you mean 'validation.queries'?)"),
    ("finetune on_unknown=error", "it is a setting of `llmrec recommend`"),
    ("finetune HEAD=ease", "(did you mean 'head'?)"),
    ("finetune head=EASE", "(did you mean 'ease'?)"),
    ("finetune encoder=MiniLM", "(did you mean 'minilm'?)"),
    ("finetune peft=LoRA", "(did you mean 'lora'?)"),
    ("finetune device=gpu", "choose one of auto, cpu, cuda, cuda:N"),
    ("finetune monitor=NDCG@10", "(did you mean 'ndcg'?)"),
    ("finetune seed=1,2,3", "several values; add --multirun to run each of them\n"),
    ("recommend queries=all k=ten", "k=ten: expected a whole number"),
    ("evaluate k=ten", "k=ten: expected whole numbers, 10 or [5,10]"),
    ("evaluate k=5,10", "add --multirun to run each of them, or write a list, k=[5,10]"),
    ("evaluate models=a,b", "write models=[a,b]"),
    ("recommend query.history=50,172", "write query.history=[50,172]"),
    ("recommend text=x", "(did you mean 'query.text'?)"),
    ("recommend user_id=5", "(did you mean 'query.user_id'?)"),
    ("recommend", "queries: missing; set queries=all, queries=<file>, query.user_id=<id>"),
    ("recommend queries=all output=recs", "the name must end in .parquet, .jsonl or .csv"),
    ("recommend queries=all output=recs.xlsx", "the name must end in .parquet, .jsonl or .csv"),
    ("finetune settings=shop.yml", "settings=shop.yml: cannot be read (No such file or directory)"),
    ("finetune experiment=movielens", "no such experiment (did you mean"),
]


@pytest.mark.parametrize(("line", "expected"), WORDS, ids=[line for line, _ in WORDS])
def test_a_likely_typo_ends_with_2_and_the_words_to_write_instead(llmrec, line, expected):
    done = llmrec(*shlex.split(line))
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


# Mistakes in names of files and folders: what is there is a prepared shop, a raw file clicks.csv and a folder exports.
FILES = [
    ("prepare dataset.interactions=click.csv", 3, "no such file, and no file matches it as a pattern (did you mean "
                                                  "'clicks.csv'?)"),
    ("prepare dataset.interactions=a.csv,b.csv", 3, "several files are a list, dataset.interactions=[a.csv,b.csv]"),
    ("prepare dataset.interactions=exports", 2, "is a folder; name its files, for example exports/*.csv"),
    ("finetune prepared=clicks.csv", 2, "prepare it first, `llmrec prepare dataset.interactions=clicks.csv`"),
    ("finetune prepared=shop", 2, "prepared=shop: no such folder"),
    ("evaluate model=PREPARED", 2, "is prepared data, not a model; give it with prepared="),
    ("recommend model=PREPARED queries=all", 2, "is prepared data, not a model"),
    ("recommend model=shop queries=all", 2, "model=shop: no such folder; run `llmrec finetune` first"),
    ("evaluate", 2, "model=runs/finetune/latest: no such folder; run `llmrec finetune` first"),
    ("recommend queries=everyone MODEL", 3, "queries=everyone: no such file, and no file matches it as a pattern; name "
                                            "a file, or write queries=all"),
]


@pytest.mark.parametrize(("line", "code", "expected"), FILES, ids=[line for line, _, _ in FILES])
def test_a_wrong_file_or_folder_ends_with_2_or_3_and_the_next_step(llmrec, tmp_path, tiny_prepared, line, code,
                                                                   expected):
    (tmp_path / "clicks.csv").write_text("user_id,item_id\nu,i\n")
    (tmp_path / "exports").mkdir()
    words = shlex.split(line.replace("PREPARED", str(tiny_prepared)))
    if "MODEL" in words:
        assert llmrec("finetune", f"prepared={tiny_prepared}", "head=popularity").code == 0
        words.remove("MODEL")
    done = llmrec(*words)
    assert (done.code, done.out) == (code, "")
    assert expected in done.err


@pytest.mark.parametrize("line", ["help finetune", "finetune help", "finetune -h", "finetune head=ease help"])
def test_help_is_given_however_it_is_asked_for(llmrec, line):
    done = llmrec(*shlex.split(line))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("llmrec finetune")
