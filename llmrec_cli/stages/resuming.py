"""What a training run must find again when it is gone on with."""

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.run_dir import RunDir, read_json, write_json
from llmrec_cli.scoring import processes


def same_data(run_dir: RunDir, data: PreparedData, resumed: bool) -> None:
    """Note which data the run was started on; refuse to go on with other data, or with a run that has finished."""
    file, now = run_dir.file("inputs.json"), {"data_fingerprint": data.manifest["fingerprint"]}
    if not resumed:
        if processes.is_first():
            write_json(file, now)
        return
    if run_dir.file("manifest.json").exists():
        raise ConfigError(f"resume={run_dir.path}: this run has finished, so there is nothing to go on with; use what "
                          f"it made, or start a new run without resume=")
    if read_json(file) != now:
        raise ArtifactError(f"resume={run_dir.path}: the prepared data in {data.path} is not what the run was started "
                            f"on; prepare the same data again, or start a new run without resume=")
