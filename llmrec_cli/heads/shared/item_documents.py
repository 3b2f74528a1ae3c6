"""Documents about items as one vector an item.

Shapes: N items, C pieces of documents, D = the encoder's embedding_size.
"""

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.documents import Documents
from llmrec_cli.encoders.base import open_encoder
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import fit_whitening
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context
from llmrec_cli.settings.encoder import EncoderSettings


def document_vectors(documents: Documents, num_items: int, settings: EncoderSettings, in_training: np.ndarray,
                     device: torch.device, context: Context) -> np.ndarray:
    """Return the mean of the vectors of all pieces of an item's documents, float32 (N, D).

    Centred, whitened where the encoder's settings say so, and of length 1, as vectors of item texts are. The encoder is
    frozen; `in_training` (bool, N) marks the items that it learns from, where it learns from texts, and that vectors
    are centred by. An item without documents has zeros. A long document has more pieces, so it counts for more than a
    short one.
    """
    encoder = open_encoder(settings, device, context.cache)
    pieces = [encoder.pieces(text) for text in documents.texts]
    item_C = np.repeat(documents.item, [len(parts) for parts in pieces])
    texts_C = np.array([piece for parts in pieces for piece in parts] + [None], object)[:-1]
    own_C = in_training[item_C]
    if not own_C.any():
        raise DataError("features.documents: no item in training has a document; prepare with documents of more items, "
                        "or set it to 0")
    encoder.fit(list(texts_C[own_C]))
    vectors_CD = encode_cached(encoder, list(texts_C), context.cache, context.log)
    counts_N = np.bincount(item_C, minlength=num_items)
    said_N = counts_N > 0
    pooled_NC = sp.csr_array((np.ones(len(item_C), np.float32), (item_C, np.arange(len(item_C)))),
                             (num_items, len(item_C)))
    means_ND = (pooled_NC @ vectors_CD) / np.maximum(counts_N, 1).astype(np.float32)[:, None]
    whitening = fit_whitening(settings, means_ND, said_N & in_training)
    centred_ND = whitening.apply(means_ND) * said_N[:, None]
    lengths_N1 = np.linalg.norm(centred_ND, axis=1, keepdims=True)
    context.log("documents", items=int(said_N.sum()), documents=len(documents.texts), pieces=len(item_C))
    return (centred_ND / np.where(lengths_N1 > 0, lengths_N1, 1)).astype(np.float32)
