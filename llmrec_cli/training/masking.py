"""Which tokens a masked language model has to predict, and what it sees in their place.

Shapes: R texts of a batch, T tokens of the longest of them.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a tokenizer: its mask, its special tokens and its other tokens."""

    mask: int
    special: torch.Tensor
    ordinary: torch.Tensor

    @classmethod
    def of(cls, tokenizer: object, size: int, device: torch.device) -> "Vocabulary":
        """Return the vocabulary of a transformers tokenizer with ids below `size`."""
        special = sorted(set(tokenizer.all_special_ids))  # type: ignore[attr-defined]
        ordinary = np.setdiff1d(np.arange(size), special)
        return cls(int(tokenizer.mask_token_id),  # type: ignore[attr-defined]
                   torch.tensor(special, device=device), torch.from_numpy(ordinary).to(device))


def mask_tokens(ids_RT: torch.Tensor, mask_RT: torch.Tensor, share: float, vocabulary: Vocabulary, seed: int,
                first_RT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids to show (R, T) and which tokens to predict, bool (R, T) (Devlin et al. 2019, section 3.1).

    Each token is chosen with chance `share`; of the chosen 80% are shown as the mask, 10% as another token drawn
    evenly, 10% as they are. With `first_RT` (int64, the place of the first token of each token's word) that is decided
    for whole words, so that no piece is guessed from its neighbours; their replacements are still drawn one by one.
    Padding and special tokens are never chosen, replaced or counted. Differs: a text in which chance chose none gets
    one, so that short titles all count. The same `seed` gives the same masks on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    chance_RT, what_RT = torch.rand(2, *ids_RT.shape, generator=generator).to(ids_RT.device)
    other_RT = torch.randint(len(vocabulary.ordinary), tuple(ids_RT.shape), generator=generator).to(ids_RT.device)
    if first_RT is not None:
        chance_RT, what_RT = chance_RT.gather(1, first_RT), what_RT.gather(1, first_RT)
    allowed_RT = mask_RT & ~torch.isin(ids_RT, vocabulary.special)
    chance_RT = chance_RT.masked_fill(~allowed_RT, 2.0)
    chosen_RT = (chance_RT < share) | (chance_RT == chance_RT.amin(1, keepdim=True))
    chosen_RT &= allowed_RT
    shown_RT = torch.where(chosen_RT & (what_RT < 0.8), vocabulary.mask, ids_RT)
    return torch.where(chosen_RT & (what_RT >= 0.9), vocabulary.ordinary[other_RT], shown_RT), chosen_RT
