"""Tiny Hugging Face models with random weights and a tokenizer of a few words: no network, a few kilobytes."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SENTENCES = ("the robot and the moon", "a love letter from Paris", "a sheriff rides the desert", "clowns laugh and run",
             "太空 机器人 爱情", "café at night, 1994")
SPECIAL = {"bert": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"),
           "roberta": ("<s>", "</s>", "<pad>", "<unk>", "<mask>")}
SHAPE = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
         "max_position_embeddings": 48}
ARCHITECTURES = {
    "bert": (transformers.BertConfig, SHAPE), "roberta": (transformers.RobertaConfig, SHAPE),
    "xlm-roberta": (transformers.XLMRobertaConfig, SHAPE), "gpt2": (transformers.GPT2Config, {
        "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 48}),
    "distilbert": (transformers.DistilBertConfig, {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 24,
                                                   "max_position_embeddings": 48}),
}


GROUPED = {**SHAPE, "num_key_value_heads": 1}
MORE = {
    "llama": (transformers.LlamaConfig, GROUPED), "qwen2": (transformers.Qwen2Config, GROUPED),
    "modernbert": (transformers.ModernBertConfig, SHAPE),
    "t5": (transformers.T5Config, {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}),
}
"""Architectures whose layers cannot be run separately."""


def byte_tokenizer():
    """Return a tokenizer like GPT-2's before it learned any merge: one token for each byte, none added, no padding."""
    pieces = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48,
                                                bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def tiny_tokenizer(family: str = "bert"):
    """Return a WordPiece tokenizer of the words and letters of SENTENCES, with the special tokens of bert or roberta.

    Written down rather than trained: the trainer numbers equally frequent pieces differently in every process.
    """
    cls, sep, pad, unk, mask = special = SPECIAL[family]
    order = [pad, unk, cls, sep, mask] if family == "bert" else [cls, pad, sep, unk, mask]
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {word for text in SENTENCES for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = {letter for word in words for letter in word} | {*"abcdefghijklmnopqrstuvwxyz0123456789"}
    pieces = [*order, *sorted(letters), *(f"##{letter}" for letter in sorted(letters)), *sorted(words - letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token=unk))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(t, tokenizer.token_to_id(t)) for t in (cls, sep)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=48,
        **dict(zip(("cls_token", "sep_token", "pad_token", "unk_token", "mask_token"), special, strict=True)))


def save_tiny(folder: Path, architecture: str = "bert", tokenizer=None) -> Path:
    """Write a tiny model of the architecture with its tokenizer to `folder` and return it."""
    tokenizer = tokenizer or tiny_tokenizer("roberta" if "roberta" in architecture else "bert")
    config_class, shape = (ARCHITECTURES | MORE)[architecture]
    config = config_class(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModel.from_config(config)
        for parameter in model.parameters():  # Layers that start at almost nothing would make any order look right.
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
