"""A virtual environment for each peer, so that no peer is a dependency of the project."""

import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
PEERS = {
    "implicit": [["implicit==0.7.3", "numpy==2.4.*", "scipy==1.17.*"]],
    "lenskit": [[TORCH], ["lenskit==2025.8.1"]],
    "rectools": [[TORCH], ["rectools==0.19.0", "pytorch-lightning==2.6.6"]],
    # RecBole pins versions that no longer install, so it is installed without dependencies and these are listed.
    "recbole": [[TORCH], ["numpy==1.26.4", "pandas==2.1.4", "scipy==1.12.0", "pyyaml", "colorama", "colorlog",
                          "tabulate", "tqdm", "scikit-learn", "psutil", "tensorboard", "thop", "texttable", "plotly"],
                ["--no-deps", "recbole==1.2.1"]],
}


def python_of(peer: str, folder: Path, install: bool = True) -> str | None:
    """Return the Python of a peer's environment in `folder`, created at first use.

    Without `install`, print that a peer without an environment is left out, and return None.
    """
    python = folder / peer / "bin" / "python"
    if not (folder / peer / "installed").exists():
        if not install:
            print(f"{peer} is not installed in {folder} and is left out", flush=True)
            return None
        subprocess.run([sys.executable, "-m", "venv", folder / peer], check=True)
        for packages in PEERS[peer]:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / peer / "installed").touch()
    return str(python)
