"""Conformance suites for heads, losses, encoders and adversaries, the built-in ones and those of plugins.

In a test of your own package:

    from llmrec_cli.testing import check_head

    def test_my_head_keeps_the_promises_of_heads(tmp_path):
        check_head(MyHeadSettings, tmp_path)

The suite checks the head in each of `MyHeadSettings.examples()` and reports all broken promises in one AssertionError.
It does not need pytest. `HEAD_CHECKS` and the other tuples contain plain functions, if you want one test per check.
"""

from pathlib import Path

from llmrec_cli.plugins import registration
from llmrec_cli.settings.adversarial import AdversarialSettings
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.head import HeadSettings
from llmrec_cli.settings.loss import LossSettings
from llmrec_cli.testing.adversaries import ADVERSARY_CHECKS, AdversaryCase
from llmrec_cli.testing.encoders import ENCODER_CHECKS, EncoderCase
from llmrec_cli.testing.groups import GROUP_CHECKS
from llmrec_cli.testing.heads import HEAD_CHECKS, HeadCase
from llmrec_cli.testing.losses import LOSS_CHECKS, LossCase
from llmrec_cli.testing.shop import Shop, make_shop
from llmrec_cli.testing.suite import examples_of, head_config, option_settings, require_all

__all__ = ["ADVERSARY_CHECKS", "ENCODER_CHECKS", "GROUP_CHECKS", "HEAD_CHECKS", "LOSS_CHECKS", "AdversaryCase",
           "EncoderCase", "HeadCase", "LossCase", "Shop", "check_adversary", "check_encoder", "check_head",
           "check_loss", "make_shop"]


def check_head(settings: type[HeadSettings], folder: Path, encoder: str | Path | None = None) -> None:
    """Raise AssertionError with every promise that a head breaks in any of its examples.

    `folder` is an empty folder for a tiny shop, such as pytest's tmp_path. `encoder` is the folder of a small Hugging
    Face model that replaces TF-IDF, for a head that trains its layers.
    """
    with registration(settings):
        (folder / "groups").mkdir(parents=True)
        club = make_shop(folder / "groups", encoder, groups=True)
        cases = {name: HeadCase(club, head_config(settings.kind, typed, club))
                 for name, (_, typed) in examples_of("head", [settings.kind]).items()}
        require_all(cases, [*HEAD_CHECKS, *GROUP_CHECKS])


def check_loss(settings: type[LossSettings]) -> None:
    """Raise AssertionError with every promise that a loss breaks in any of its examples."""
    with registration(settings):
        require_all({name: LossCase(option_settings(settings, typed))
                     for name, (_, typed) in examples_of("loss", [settings.kind]).items()}, LOSS_CHECKS)


def check_encoder(settings: type[EncoderSettings], encoder: str | Path = "") -> None:
    """Raise AssertionError with every promise that an encoder breaks in any of its examples.

    `encoder` replaces `{encoder}` in the examples.
    """
    with registration(settings):
        require_all({name: EncoderCase(option_settings(settings, typed, str(encoder)))
                     for name, (_, typed) in examples_of("encoder", [settings.kind]).items()}, ENCODER_CHECKS)


def check_adversary(settings: type[AdversarialSettings]) -> None:
    """Raise AssertionError with every promise that an adversary breaks in any of its examples."""
    with registration(settings):
        require_all({name: AdversaryCase(option_settings(settings, typed))
                     for name, (_, typed) in examples_of("adversarial", [settings.kind]).items()}, ADVERSARY_CHECKS)
