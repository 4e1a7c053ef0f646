"""Fingerprints of values that hide their state, and of weights stored in other ways."""

import inspect
import threading
from types import SimpleNamespace

import pytest
import torch


def counting(count=0):
    def patch(x):
        nonlocal count
        count += 1
        return x

    return patch


CANNOT_FINGERPRINT = {
    "a lock": lambda: threading.Lock().acquire,
    "a closure over a lock": lambda: (lambda lock: lambda x: lock)(threading.Lock()),
    "a generator": lambda: iter(x for x in ()).__next__,
    "a count of calls": counting,
    "a tensor without numbers": lambda: SimpleNamespace(x=torch.zeros(3, device="meta")),
}


@pytest.mark.parametrize("kind", CANNOT_FINGERPRINT)
def test_what_cannot_be_seen_is_told(core, loaded, kind):
    model = loaded.model.clone()
    model.set_model_attn1_patch(CANNOT_FINGERPRINT[kind]())
    (told,) = core.host.model_identity(model, loaded.clip, loaded.vae).unidentified
    assert told.startswith("model options: ") and "0x" not in told


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("shape", [(7,), (320, 768), (768, 768), (773, 768), (640, 16), (32, 4, 3, 3)], ids=str)
def test_a_row_or_a_column_that_changes_is_seen(reversion, shape, dtype):
    from reversion_pack.reversion_core.host.fingerprint import tensor_digest

    numbers = torch.zeros(shape)
    columns = numbers.flatten(1) if len(shape) > 1 else numbers[:, None]
    digests = [tensor_digest(numbers.to(dtype), sampled=True)]
    for lines in (columns, columns.t()):
        for place in {0, len(lines) // 2, len(lines) - 1}:
            lines[place] = 1.0
            digests.append(tensor_digest(numbers.to(dtype), sampled=True))
            lines[place] = 0.0
    assert len({*digests}) == len(digests)


def test_of_more_rows_than_any_table_has_some_are_read(reversion, monkeypatch):
    from reversion_pack.reversion_core.host import fingerprint

    monkeypatch.setattr(fingerprint, "LONGEST", 16)
    packed = torch.zeros(1000, 1)
    changed = packed.clone()
    changed[500:600] = 1.0
    digests = {fingerprint.tensor_digest(numbers, sampled=True) for numbers in (packed, changed)}
    assert len(digests) == 2 and fingerprint._of_rows_and_columns(packed).numel() <= 16 + 1


class Stored(torch.Tensor):
    """As GGUF's: a subclass over the stored bytes that reports another shape."""

    @property
    def shape(self):
        return torch.Size((2, 8))


def test_quantised_weights_are_known_by_their_stored_numbers(core):
    from comfy.quant_ops import QuantizedTensor
    from reversion_pack.reversion_core.host import fingerprint

    def digests(values):
        stored = torch.tensor(values, dtype=torch.uint8)
        kinds = [stored.clone().as_subclass(Stored), stored.view(torch.float8_e4m3fn)]
        if hasattr(QuantizedTensor, "__tensor_flatten__"):
            if "layout_params" in inspect.signature(QuantizedTensor).parameters:
                scale = {"scale": torch.tensor(0.5), "orig_dtype": torch.bfloat16}
                kinds.append(QuantizedTensor(stored.view(torch.float8_e4m3fn), "TensorCoreFP8Layout", scale))
            else:
                big = torch.tensor(values).float().reshape(1, 4)
                kinds.append(QuantizedTensor.from_float(big, "TensorCoreFP8Layout"))
        return [fingerprint.tensor_digest(kind, sampled) for kind in kinds for sampled in (False, True)]

    first, same, other = digests([1, 2, 3, 4]), digests([1, 2, 3, 4]), digests([1, 2, 3, 5])
    assert first == same and not {*first} & {*other}
