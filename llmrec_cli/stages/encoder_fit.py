"""Check that the text encoder knows the script of the texts."""

import sys

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.scripts import encoder_warning
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.head import ModelConfig


def encoders_in(config: ModelConfig) -> list[EncoderSettings]:
    """Return the encoders that a model config uses, each kind once."""
    encoders: dict[str, EncoderSettings] = {}

    def add(part: ModelConfig) -> ModelConfig:
        if part.encoder is not None and "encoder" in part.head.uses():
            encoders.setdefault(part.encoder.kind, part.encoder)
        return part

    config.mapped(add)
    return list(encoders.values())


def warn_foreign_script(encoders: list[EncoderSettings], data: PreparedData, run_dir: RunDir) -> None:
    """Print and log a warning for each encoder that was trained on texts in another script than the item texts."""
    for encoder in encoders:
        if text := encoder_warning(data.items.texts, encoder.kind, encoder.scripts):
            run_dir.log("warning", text=text)
            print(f"warning: {text}", file=sys.stderr)
