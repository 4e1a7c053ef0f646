"""Layers whose weights are quantised, lent to autograd: by the host's own ways and by the GGUF loader's."""

import json

import pytest
import torch

IN, OUT = 64, 48


class GGMLTensor(torch.Tensor):
    """As the one of ComfyUI-GGUF: bytes with the shape and type of what they stand for."""

    def __new__(cls, *args, tensor_type, tensor_shape, **kwargs):
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args, tensor_type, tensor_shape, **kwargs):
        super().__init__()
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    def detach(self):
        return self

    @property
    def shape(self):
        return self.tensor_shape


class GGUFLinear(torch.nn.Module):
    bias = None

    def __init__(self):
        super().__init__()
        data = torch.randint(0, 255, (OUT * IN,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        weight = GGMLTensor(data, tensor_type="Q8_0", tensor_shape=torch.Size((OUT, IN)))
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        assert self.weight.tensor_type == "Q8_0"
        numbers = self.weight.as_subclass(torch.Tensor).view(torch.int8).to(x.dtype)
        return torch.nn.functional.linear(x, numbers.reshape(self.weight.shape) / 512)


def plain(operations, dtype):
    """A layer of the host's that casts its weight at each use."""

    def make():
        import comfy.ops

        layer = getattr(comfy.ops, operations).Linear(IN, OUT, bias=True, device="cpu", dtype=dtype)
        layer.load_state_dict({"weight": (torch.randn(OUT, IN) / 8).to(dtype), "bias": torch.randn(OUT).to(dtype)})
        return layer

    return make


def scaled(number_format, full_precision):
    """A layer of the host's with integers or fp8 and a scale, as its `comfy_quant` files have them."""

    def make():
        import comfy.ops

        old = hasattr(comfy.ops, "scaled_fp8_ops")  # as 0.3.75
        if number_format == "int8_tensorwise" and old:
            pytest.skip("this ComfyUI has no int8 layers")
        about = {"lin": {"format": number_format}} if old else {"mixed_ops": True}
        operations = comfy.ops.mixed_precision_ops(about, torch.bfloat16, full_precision_mm=full_precision)

        class Holder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.lin = operations.Linear(IN, OUT, bias=True, device="cpu", dtype=torch.bfloat16)

        weight = torch.randn(OUT, IN) / 8
        state = {"lin.bias": torch.randn(OUT).to(torch.bfloat16)}
        if number_format == "float8_e4m3fn":
            state["lin.weight_scale"] = scale = weight.abs().max() / 448
            state["lin.weight"] = (weight / scale).to(torch.float8_e4m3fn)
        else:
            state["lin.weight_scale"] = scale = weight.abs().amax(1, keepdim=True) / 127
            state["lin.weight"] = (weight / scale).round().to(torch.int8)
        if not old:
            told = json.dumps({"format": number_format}).encode()
            state["lin.comfy_quant"] = torch.tensor(list(told), dtype=torch.uint8)
        holder = Holder()
        holder.load_state_dict(state, strict=False)
        return holder.lin

    return make


def with_an_input_scale(make):
    """The same with a scale for what goes in, as files have it that are for products in fp8."""

    def made():
        layer = make()
        layer.input_scale = torch.nn.Parameter(torch.tensor(0.02), requires_grad=False)
        return layer

    return made


def scaled_in_old_files():
    """A layer of the hosts up to ComfyUI 0.3.75 for fp8 files with a marker."""
    import comfy.ops

    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("this ComfyUI reads such files as the others")
    operations = comfy.ops.scaled_fp8_ops(True, True, torch.float8_e4m3fn)
    layer = operations.Linear(IN, OUT, bias=True, device="cpu")
    weight = torch.randn(OUT, IN) / 8
    layer.load_state_dict(
        {
            "weight": (weight * 10).to(torch.float8_e4m3fn),
            "bias": torch.randn(OUT).to(torch.float8_e4m3fn),
            "scale_weight": torch.tensor(0.1),
            "scale_input": torch.tensor(0.02),
        }
    )
    return layer


LAYERS = {
    "bf16": plain("disable_weight_init", torch.bfloat16),
    "fp16 cast": plain("manual_cast", torch.float16),
    "fp8 cast": plain("manual_cast", torch.float8_e4m3fn),
    "fp8 matrix product": plain("fp8_ops", torch.float8_e4m3fn),
    "scaled fp8": scaled("float8_e4m3fn", True),
    "scaled fp8, quantised product": scaled("float8_e4m3fn", False),
    "scaled fp8, quantised product, input scale": with_an_input_scale(scaled("float8_e4m3fn", False)),
    "fp8 of old files": scaled_in_old_files,
    "int8": scaled("int8_tensorwise", True),
    "GGUF": GGUFLinear,
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_through_a_quantised_layer_is_that_of_its_weight(core, name, caplog):
    import comfy.ops
    from reversion_pack.reversion_core.host.borrowing import alias, borrowed
    from reversion_pack.reversion_core.host.gradients import full_precision_products, training_mode

    product = comfy.ops.fp8_linear
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(0)
        layer = LAYERS[name]()
    held = layer.weight
    assert hasattr(held, "_qdata") == name.startswith(("scaled", "int8"))
    generator = torch.Generator().manual_seed(1)
    with caplog.at_level("INFO"), training_mode(), borrowed([(layer, alias)]), full_precision_products(layer):
        x = torch.randn(1, 5, IN, generator=generator).to(torch.bfloat16).requires_grad_()
        output = layer(x)
        weights = torch.randn(output.shape, generator=generator)
        (found,) = torch.autograd.grad((output.float() * weights).sum(), x)
        with torch.no_grad():
            columns = layer(torch.eye(IN, dtype=torch.bfloat16)[None])[0].float()
            if layer.bias is not None:
                columns = columns - layer.bias.float()
    expected = weights @ columns.T
    assert torch.nn.functional.cosine_similarity(found.float().flatten(), expected.flatten(), dim=0) > 0.999
    assert layer.weight is held and comfy.ops.fp8_linear is product and "Exception" not in caplog.text
