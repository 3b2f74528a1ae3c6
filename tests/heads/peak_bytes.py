"""Peak memory by counting allocations, which no load of the machine and no state of the allocator changes."""

import tracemalloc
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of arrays, Python objects and tensors allocated inside `with`; `peak` is the most at a time.

    Not counted: memory that libraries allocate and free inside one operation.
    """

    def __enter__(self) -> "PeakBytes":
        self.peak = 0
        self._tensors: dict[int, tuple[StorageWeakRef, int]] = {}
        tracemalloc.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._count()
        tracemalloc.stop()

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self._count()
        result = operation(*arguments, **(options or {}))
        given = {storage.data_ptr() for storage in _storages((arguments, options))}
        for storage in _storages(result):
            # A tensor over a numpy array has the memory of the array, which tracemalloc counts.
            if storage.data_ptr() not in given:
                self._tensors[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        return result

    def _count(self) -> None:
        """Update the peak by the numpy arrays since the last operation, together with the tensors alive since then."""
        size = sum(size for _, size in self._tensors.values())
        self.peak = max(self.peak, tracemalloc.get_traced_memory()[1] + size)
        tracemalloc.reset_peak()
        self._tensors = {key: kept for key, kept in self._tensors.items() if not kept[0].expired()}


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
