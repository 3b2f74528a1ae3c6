"""retrain: one night, from raw files to a published version, under one lock."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from llmrec_cli.atomic_files import lock
from llmrec_cli.errors import CommandFailedError
from llmrec_cli.folders import remove
from llmrec_cli.publishing.folder import PublishFolder
from llmrec_cli.run_dir import RUNS, InnerRunDir, RunDir
from llmrec_cli.settings.publish import PublishConfig
from llmrec_cli.settings.retrain import RetrainConfig

_LOCK = ".retrain.lock"
_DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG."""


def run(cfg: RetrainConfig, run_dir: RunDir) -> None:
    """Run the commands of a night one after the other; what was published stays if one of them fails."""
    folder = PublishFolder(Path(cfg.publish))
    with lock(folder.path / _LOCK, f"a night into {folder.path}"):
        # First, so that nights that are refused one after the other do not fill the disk either.
        remove_old_nights(run_dir, cfg.keep)
        run_dir.log("night", publish=str(folder.path.resolve()))
        command(cfg, run_dir, "prepare", cfg.with_prepare)
        prepared = Path(RunDir(run_dir.file("prepare")).manifest()["prepared"]).resolve()
        encoder = []
        if cfg.with_pretrain:
            command(cfg, run_dir, "pretrain", [*cfg.with_pretrain, f"prepared={prepared}", f"device={cfg.device}"])
            encoder = ["encoder=pretrained", f"encoder.path={run_dir.file('pretrain')}"]
        trained = [*cfg.with_finetune, *encoder, f"prepared={prepared}", f"device={cfg.device}", f"seed={cfg.seed}",
                   f"cache={cfg.cache}"]
        command(cfg, run_dir, "finetune", [*trained, "refit=train_valid"])
        model = evaluated = run_dir.file("finetune")
        if cfg.refit == "all":
            model = run_dir.file("refit")
            command(cfg, run_dir, "finetune", [*trained, "refit=all"], "refit")
        publish(cfg, run_dir, model, evaluated, prepared)
    run_dir.finish("retrain", {"publish": str(folder.path.resolve()), "current": folder.current,
                               "models": [str(model.resolve())]})


def command(cfg: RetrainConfig, run_dir: RunDir, name: str, settings: Sequence[str], inside: str = "") -> None:
    """Run a command of llmrec in a process of its own, so that its memory is free afterwards.

    Raises CommandFailedError if it does not end with 0.
    """
    print(f"retrain: {inside or name}", file=sys.stderr)
    files = [f"settings=[{','.join(cfg.settings)}]"] if cfg.settings else []
    words = [sys.executable, "-m", "llmrec_cli", name, *files, *settings, f"run_dir={run_dir.file(inside or name)}"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)
    try:
        code = process.wait()
    except BaseException:
        # A signal: the command ends first, so that its files are whole when the lock is given back.
        process.terminate()
        process.wait()
        raise
    run_dir.log("command", command=inside or name, code=code)
    if code:
        raise CommandFailedError(inside or name, code)


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed, where the kernel can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def publish(cfg: RetrainConfig, run_dir: RunDir, model: Path, evaluated: Path, prepared: Path) -> None:
    """Publish the model of this night, if the gate lets it."""
    from llmrec_cli.stages import publish as stage

    print("retrain: publish", file=sys.stderr)
    inner = InnerRunDir(run_dir.file("publish"))
    inner.path.mkdir(parents=True, exist_ok=True)
    stage.run(PublishConfig(to=cfg.publish, model=str(model), evaluated="" if evaluated == model else str(evaluated),
                            prepared=str(prepared), k=cfg.k, gate=cfg.gate, keep=cfg.keep, keep_days=cfg.keep_days,
                            language=cfg.language, device=cfg.device, cache=cfg.cache, seed=cfg.seed), inner)


def remove_old_nights(run_dir: RunDir, keep: int) -> None:
    """Remove the oldest nights in runs/retrain beyond `keep`, by name; a night with a folder of its own stays."""
    nights = sorted(path for path in (RUNS / "retrain").glob("*")
                    if path.is_dir() and not path.is_symlink() and RunDir(path).has_own_name)
    for old in nights[:-keep]:
        if old.resolve() != run_dir.path.resolve():
            print(f"removed: {old}", file=sys.stderr)
            remove(old)
