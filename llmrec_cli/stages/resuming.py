"""Inputs of a training run that must be unchanged when it is resumed."""

from collections.abc import Mapping

from llmrec_cli import distributed as processes
from llmrec_cli.atomic_files import read_json, write_json
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.run_dir import INPUTS, RunDir


def same_inputs(run_dir: RunDir, data: PreparedData, encoders: Mapping[str, str], resumed: bool) -> None:
    """Note the data and the encoders (identity by place) that the run was started on; refuse to go on with others.

    Refuses to go on with a run that has finished. One that was killed before it had noted anything begins here.
    """
    file, now = run_dir.file(INPUTS), {"data_fingerprint": data.manifest["fingerprint"], "encoders": dict(encoders)}
    if resumed and run_dir.is_finished:
        raise ConfigError(f"resume={run_dir.path}: this run has finished, so there is nothing to go on with; use what "
                          f"it made, or start a new run without resume=")
    if not resumed or not file.exists():
        if processes.is_first():
            write_json(file, now)
        return
    then = read_json(file)
    if then["data_fingerprint"] != now["data_fingerprint"]:
        raise ArtifactError(f"resume={run_dir.path}: the prepared data in {data.path} is not what the run was started "
                            f"on; prepare the same data again, or start a new run without resume=")
    # Runs of an older llmrec noted no encoders.
    if then.get("encoders", now["encoders"]) != now["encoders"]:
        raise ArtifactError(f"resume={run_dir.path}: the encoder is not the one that the run was started on; put that "
                            f"one back, or start a new run without resume=")
