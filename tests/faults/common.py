"""Helpers of the fault tests: data to prepare, error messages, and models to damage."""

import json
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import torch

from llmrec_cli.data.manifest import sha256
from llmrec_cli.encoders.folder_files import identity_of
from llmrec_cli.heads.base import Context

CONTEXT = Context(torch.device("cpu"), 1)
START = 1_600_000_000
ROWS = "user_id,item_id,value,timestamp\n" + "".join(f"u{n % 9},i{n % 7},1,{START + n}\n" for n in range(40))


def prepared_ids(llmrec, content, *settings, name="clicks.csv"):
    """Prepare a file with prepare's own command and return the user ids that came out."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = llmrec("prepare", "dataset=files", "dataset.name=fault", f"dataset.interactions={name}", "split=none",
                  *settings)
    assert done.code == 0, done.err
    return pq.read_table("data/prepared/fault/interactions.parquet")["user_id"].to_pylist()


def refused(llmrec, content, *settings, name="clicks.csv"):
    """Prepare a file that is to be refused with 3, and return the one sentence that says why."""
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    done = llmrec("prepare", "dataset=files", f"dataset.interactions={name}", "split=none", *settings)
    assert done.code == 3
    assert "Traceback" not in done.err
    assert not Path("data/prepared/data").exists()
    return textwrap.dedent(done.err.removeprefix("llmrec: data error: ")).strip()


def manifest_counts():
    """Return the counts in the manifest of the data that `prepared_ids` prepared."""
    return json.loads(Path("data/prepared/fault/manifest.json").read_text())["counts"]


def split_of(llmrec, content, split, *settings):
    """Prepare with a split, and return the split of each (user_id, item_id)."""
    prepared_ids(llmrec, content, f"split={split}", *settings)
    rows = pq.read_table("data/prepared/fault/interactions.parquet").to_pylist()
    return {(row["user_id"], row["item_id"]): row["split"] for row in rows}


def edit(model, name, change):
    """Change a file of the model and enter its new hashes into the manifest, as someone who means harm would."""
    file = model / name
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    manifest = json.loads((model / "manifest.json").read_text("utf-8"))
    manifest["files"][name] = sha256(file)
    manifest["encoders"] = {place: identity_of({str(each.relative_to(model / place)): sha256(each)
                                                for each in (model / place).rglob("*") if each.is_file()})
                            for place in manifest["encoders"]}
    (model / "manifest.json").write_text(json.dumps(manifest))
