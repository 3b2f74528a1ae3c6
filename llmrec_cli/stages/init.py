"""init: a settings file drafted from the first rows of files."""

import re
import shlex
from pathlib import Path

from llmrec_cli.atomic_files import write_bytes
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.drafts.draft import draft_settings, found_sentences
from llmrec_cli.ingest.drafts.roles import assign_roles
from llmrec_cli.ingest.drafts.samples import read_sample
from llmrec_cli.ingest.output.row_accounting import print_sentence
from llmrec_cli.ingest.readers.sniffing import print_detected
from llmrec_cli.ingest.readers.sources import find
from llmrec_cli.run_dir import LATEST, RunDir
from llmrec_cli.settings.stages import InitConfig


def run(cfg: InitConfig, run_dir: RunDir) -> None:
    """Write the settings file, and print the commands that use it on stdout."""
    if not cfg.files:
        raise ConfigError("files: missing; name your files, llmrec init <interactions file> <items file>")
    output = Path(cfg.output)
    refuse_to_overwrite(output)
    samples = [read_sample(path) for path in find(cfg.files, "files")]
    for sample in samples:
        print_detected(sample.source)
    roles = assign_roles(samples)
    settings = f"settings={shlex.quote(str(output))}"
    name = cfg.name or re.sub(r"[^\w.-]", "_", output.stem).strip("._") or "data"
    draft = draft_settings("data" if name == LATEST else name, roles)
    write_bytes(output, draft.to_yaml(f"llmrec prepare {settings}").encode())
    for sentence in found_sentences(roles):
        print_sentence(sentence)
    num_unsure = draft.to_yaml("").count("# unsure: ")
    print_sentence(f"wrote {output}; {num_unsure} settings are unsure: look for '# unsure' in it" if num_unsure
                   else f"wrote {output}; check it, then run")
    # The draft has nothing for evaluate yet, but what is added to it later must count there too.
    # The second finetune is of all interactions, for lists to publish.
    for words in ("prepare", "finetune", "evaluate", "finetune refit=all",
                  "recommend queries=all k=20 output=lists.csv"):
        command, *rest = words.split()
        print(" ".join(["llmrec", command, settings, *rest]))


def refuse_to_overwrite(output: Path) -> None:
    """Raise ConfigError if the output exists, or its folder does not."""
    if output.exists() or output.is_symlink():
        raise ConfigError(f"output={output}: exists already and is not written over; name another file, "
                          f"output=<name>.yaml, or remove it first")
    if not output.parent.is_dir():
        raise ConfigError(f"output={output}: there is no folder {output.parent}; make it, or name another file")
