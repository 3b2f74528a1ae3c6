"""Long texts in pieces: nothing is lost, nothing is read twice, and every piece is read whole."""

from itertools import pairwise

import pytest
import torch

from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.encoders.tfidf import TfIdfEncoder
from llmrec_cli.settings.encoder import ConcatSettings, HuggingFaceSettings, PartSettings, TfIdfSettings

WORDS = ["alien", "planet", "a", "quiet", "ship", "and", "the", "crew", "of", "seven", "looks", "for", "home"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return open_encoder(HuggingFaceSettings(path=str(tiny_encoder), max_length=12), torch.device("cpu"))


@pytest.mark.parametrize("length", [1, 9, 10, 11, 200])
def test_the_pieces_of_a_text_are_its_words_in_order(encoder, length):
    text = " ".join((WORDS * 20)[:length])
    pieces = encoder.pieces(text)
    assert " ".join(pieces).split() == text.split()


def test_every_piece_is_read_whole_and_no_piece_is_smaller_than_it_must_be(encoder):
    text = " ".join(WORDS * 10)
    pieces = encoder.pieces(text)
    lengths = [len(encoder.tokenizer(piece)["input_ids"]) for piece in pieces]
    assert max(lengths) <= 12
    for piece, following in pairwise(pieces):
        longer = f"{piece} {following.split()[0]}"
        assert len(encoder.tokenizer(longer)["input_ids"]) > 12


def test_a_text_without_spaces_is_cut_all_the_same(encoder):
    pieces = encoder.pieces("静水" * 100)
    assert "".join(pieces) == "静水" * 100
    assert len(pieces) > 1


def test_an_empty_text_has_no_pieces(encoder):
    assert encoder.pieces("") == encoder.pieces("  \n") == []


def test_an_encoder_without_a_length_limit_reads_a_text_as_one_piece(encoder, tiny_encoder):
    text = " ".join(WORDS * 10)
    words = TfIdfEncoder(TfIdfSettings())
    assert (words.pieces(text), words.pieces(" "), words.room) == ([text], [], None)
    parts = {"own": PartSettings(encoder=HuggingFaceSettings(path=str(tiny_encoder), max_length=12)),
             "words": PartSettings(encoder=TfIdfSettings())}
    both = open_encoder(ConcatSettings(parts=parts), torch.device("cpu"))
    assert both.pieces(text) == encoder.pieces(text)
    assert both.room == encoder.room
