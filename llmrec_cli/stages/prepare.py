"""prepare: raw files to prepared data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec_cli.atomic_files import clear_leftovers, lock, point, require_link, scratch_folder, whole_folder, write_json
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.output.rerun import input_signature, print_unchanged, read_unchanged
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.run_dir import LATEST, PREPARED, RunDir
from llmrec_cli.settings.base import implementation_of
from llmrec_cli.settings.stages import PrepareConfig

if TYPE_CHECKING:  # A run with nothing to do must not import it.
    from llmrec_cli.ingest.contents import Preparation
    from llmrec_cli.ingest.groups.groups import Groups


def run(cfg: PrepareConfig, run_dir: RunDir) -> None:
    """Write prepared data and point data/prepared/latest at it; on an error the old data stays."""
    output = Path(cfg.output) if cfg.output else PREPARED / cfg.dataset.name
    refuse_to_replace(output)
    require_link(PREPARED / LATEST)
    with lock(output.parent / f".{output.name}.lock", f"the prepared data {output}"):
        clear_leftovers(output)
        with scratch_folder(output) as scratch:
            sources = find_sources(cfg, scratch)
            inputs = input_signature(cfg, sources, scratch)
            manifest = None if cfg.force else read_unchanged(output, inputs)
            if manifest is not None:
                print_unchanged(output)
            else:
                run_dir.log("reading", files=[str(source.path) for source in sources.all()])
                manifest = write(cfg, sources, inputs, output, scratch)
    point(PREPARED / LATEST, output)
    run_dir.finish("prepare", {"prepared": str(output), "fingerprint": manifest["fingerprint"],
                               "counts": manifest["counts"]})


def write(cfg: PrepareConfig, sources: Sources, inputs: dict[str, Any], output: Path, scratch: Path) -> dict[str, Any]:
    """Prepare the files, replace `output` with the result, and return its manifest."""
    # Imported only when needed: they take a second.
    from llmrec_cli.ingest.build import build_tables, complete
    from llmrec_cli.ingest.contents import prepared_from
    from llmrec_cli.ingest.output.append import all_hashes, new_files, note_lost_files, read_earlier, refuse_shrunk
    from llmrec_cli.ingest.output.file_rules import file_rules
    from llmrec_cli.ingest.output.manifest import with_files
    from llmrec_cli.ingest.output.row_accounting import Account, print_sentence, print_summary, refuse_warnings
    from llmrec_cli.report.audit import write_audit

    if sources.terms:
        print_sentence(sources.terms)
    account = Account()
    earlier = read_earlier(cfg, output)
    if earlier is not None:
        sources, account.notes = new_files(sources, earlier, cfg.force)
        if not sources.all():
            for sentence in [*account.notes, f"{output} stays as it is"]:
                print_sentence(sentence)
            return earlier.manifest
    with whole_folder(output) as folder:
        with prepared_from(cfg, sources, earlier, folder, scratch, account) as run:
            tables = build_tables(run)
            groups = cluster(run) if cfg.dataset.cluster_users.on else tables.groups
            manifest, audit = complete(run, tables, groups)
            manifest["file_rules"] = file_rules(run, sources)
        refuse_warnings(account, cfg.dataset.audit == "strict")
        if earlier is None and not cfg.force:
            refuse_shrunk(output, manifest)
        manifest |= {"inputs": inputs, "contents": all_hashes(sources, earlier)}
        if earlier is None:
            account.notes += note_lost_files(output, sources)
        manifest |= {"chain": earlier.chain()} if earlier else {}
        write_audit(folder, audit, manifest, cfg.language)
        manifest = with_files(manifest, folder)
        write_json(folder / "manifest.json", manifest)
    print_summary(account, manifest, str(output))
    return manifest


def cluster(run: "Preparation") -> "Groups":
    """Return clusters of users as groups, from the users, items and interactions already written."""
    # Imported here, since torch takes seconds and the rest of prepare does not need it.
    from llmrec_cli.heads.clusters.user_clusters import cluster_users
    from llmrec_cli.ingest.groups.synthetic import clustered_groups

    settings = run.cfg.dataset.cluster_users
    return clustered_groups(run.connection, run.folder, cluster_users(settings, run.folder), settings.share,
                            run.scratch)


def find_sources(cfg: PrepareConfig, scratch: Path) -> Sources:
    """Return the files of the data set, downloaded if needed."""
    sources: Sources = implementation_of(cfg.dataset)(cfg.dataset, cfg.split.kind, scratch)
    return sources


def refuse_to_replace(output: Path) -> None:
    """Raise ConfigError if the output folder holds something other than prepared data, which would be lost."""
    if output.is_symlink() or output.name in ("", "..", LATEST):
        raise ConfigError(f"output={output}: must be a folder of its own, not a link or {LATEST}")
    strange = output.exists() and (not output.is_dir() or any(output.iterdir()))
    if strange and not (output / "manifest.json").is_file():
        raise ConfigError(f"output={output}: holds something other than prepared data, which would be lost; choose "
                          f"another folder or empty it")
