"""Inputs of a training run that must be unchanged when it is resumed."""

from collections.abc import Mapping

from llmrec_cli import distributed as processes
from llmrec_cli.atomic_files import read_json, write_json
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.requests.relevant_rows import QueryRows
from llmrec_cli.run_dir import INPUTS, RunDir


def same_inputs(run_dir: RunDir, data: PreparedData, encoders: Mapping[str, str], rows: QueryRows | None = None, *,
                resumed: bool) -> None:
    """Record the data, the encoders (identity by position) and the validation rows of a new run; refuse to resume with
    different ones.

    Raises ConfigError for a finished run. A run that was killed before it recorded its inputs records them now.
    """
    file, now = run_dir.file(INPUTS), {"data_fingerprint": data.manifest["fingerprint"], "encoders": dict(encoders),
                                       "validation_sha256": None if rows is None else rows.sha256}
    if resumed and run_dir.is_finished:
        raise ConfigError(f"resume={run_dir.path}: this run has finished and cannot be resumed; use its "
                          f"output, or start a new run without resume=")
    if not resumed or not file.exists():
        if processes.is_first():
            write_json(file, now)
        return
    then = read_json(file)
    if then["data_fingerprint"] != now["data_fingerprint"]:
        raise ArtifactError(f"resume={run_dir.path}: the prepared data in {data.path} has changed since the run "
                            f"started; prepare the same data again, or start a new run without resume=")
    # Runs of an older llmrec recorded no encoders.
    if then.get("encoders", now["encoders"]) != now["encoders"]:
        raise ArtifactError(f"resume={run_dir.path}: the encoder has changed since the run started; restore the "
                            f"previous encoder, or start a new run without resume=")
    if then.get("validation_sha256", now["validation_sha256"]) != now["validation_sha256"]:
        raise ArtifactError(f"resume={run_dir.path}: the file of validation has changed since the run started; restore "
                            f"it, or start a new run without resume=")
