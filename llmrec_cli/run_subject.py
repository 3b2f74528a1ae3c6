"""Subject of a run: what names its folder and describes it in the list of runs."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RunSubject:
    """Head or encoder and data of a run, given by name or by the folders that contain the names.

    Attributes
    ----------
    option : head or encoder that the run trains; empty for none
    data : name of the data; empty if the other folders name it
    prepared : folder of prepared data; empty for the newest
    models : run directories or model folders that the run reads, empty text for the newest model
    """

    option: str = ""
    data: str = ""
    prepared: str = ""
    models: Sequence[str] = ()
