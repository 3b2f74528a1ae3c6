"""Out of memory: the step is split, its loss stays the same, and the event is logged (fault case 54)."""

import numpy as np
import pytest
import torch
from torch import nn

from llmrec_cli.errors import ResourceError, is_out_of_memory
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.loop import Length, TrainContext, train

CPU = torch.device("cpu")
INPUTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -2.0, 0.5])
OUT_OF_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MemoryError()]


class Model(nn.Module):
    """A regression that runs out of memory above `room` rows; each `shrink` doubles the number of rows that fit."""

    def __init__(self, room=10**9, error=OUT_OF_MEMORY[0]):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        self.register_buffer("noise", torch.zeros(2))
        self.room, self.error, self.at_a_time, self.tried = room, error, 1.0, []

    def forward(self, rows):
        self.tried.append(len(rows))
        # The random stream advances before memory runs out, and must be restored.
        self.noise += torch.rand(2) * 0
        value = (self.body(INPUTS[rows]).squeeze(-1) - TARGETS[rows]).square().mean()
        if len(rows) * self.at_a_time > self.room:
            raise self.error
        return value

    def shrink(self):
        if self.at_a_time <= 0.25:
            return False
        self.at_a_time /= 2
        return True


def split(rows, parts):
    return [(part, len(part) / len(rows)) for part in np.array_split(rows, parts) if len(part)]


def fit(model, events=None, dropout=0.0, **how):
    model.body[2].p = dropout
    settings = AdamWSettings(learning_rate=0.01, epochs=3, batch_size=8, checkpoint_every=3)
    train_context = TrainContext(CPU, 1, lambda event, **values: events is None or events.append((event, values)),
                                 **{key: how.pop(key) for key in ("checkpoints", "resume_from") if key in how})
    return train(model, lambda epoch, generator: generator.permutation(40).reshape(5, 8), model,
                 [(model, 0.01)], settings, Length(3, 5, 3), train_context, **how)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_54_where_memory_runs_out_the_batch_is_halved_and_the_steps_stay_the_same(error):
    whole, small, events = Model(), Model(room=3, error=error), []
    expected = fit(whole)
    result = fit(small, events, split=split)
    assert result.losses == pytest.approx(expected.losses, rel=1e-6)
    torch.testing.assert_close(weights(small), weights(whole), rtol=1e-5, atol=1e-7)
    assert small.tried[:4] == [8, 4, 2, 2]
    assert set(small.tried[2:]) == {2}
    logged = [values for event, values in events if event == "out_of_memory"]
    assert [(one["step"], one["parts"]) for one in logged] == [(1, 2), (1, 4)]


def test_54_a_step_of_one_row_that_does_not_fit_ends_with_a_resource_error():
    with pytest.raises(ResourceError, match=r"out of memory at step 1, and the step cannot be made smaller .*lower "
                                            r"optim.batch_size"):
        fit(Model(room=0), split=split)
    with pytest.raises(ResourceError, match="step 1"):
        fit(Model(room=7))


def test_54_a_model_reduces_its_own_memory_before_its_batch_is_split():
    whole, small, events = Model(), Model(room=2), []
    fit(whole, dropout=0.5)
    fit(small, events, dropout=0.5, shrink=small.shrink)
    assert torch.equal(weights(small), weights(whole))  # Dropout's random stream was restored, too.
    assert [values["shrunk"] for event, values in events if event == "out_of_memory"] == [1, 2]
    tighter = Model(room=1)
    fit(tighter, shrink=tighter.shrink, split=split)
    assert tighter.tried[:5] == [8, 8, 8, 4, 4]


def test_54_a_resumed_run_goes_on_in_the_parts_that_fitted_and_ends_with_the_same_bits(tmp_path):
    class Killed(BaseException):
        pass

    whole, cut, resumed = Model(room=3), Model(room=3), Model(room=3)
    expected = fit(whole, split=split, dropout=0.5)

    def killed(rows):
        if len(cut.tried) > 25:
            raise Killed
        return cut(rows)

    cut.body[2].p = 0.5
    settings = AdamWSettings(learning_rate=0.01, epochs=3, batch_size=8, checkpoint_every=3)
    with pytest.raises(Killed):
        train(cut, lambda epoch, generator: generator.permutation(40).reshape(5, 8), killed, [(cut, 0.01)], settings,
              Length(3, 5, 3), TrainContext(CPU, 1, checkpoints=tmp_path), split=split)
    assert fit(resumed, split=split, dropout=0.5, resume_from=tmp_path) == expected
    assert set(resumed.tried) == {2}
    assert torch.equal(weights(resumed), weights(whole))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="of its own"):
        fit(Model(room=0, error=RuntimeError("of its own")), split=split)
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_torchs_out_of_memory_messages_are_recognised():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(of_torch.value)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, np.uint8)
    assert is_out_of_memory(of_numpy.value)
