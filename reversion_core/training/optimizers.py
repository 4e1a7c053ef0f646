"""Optimizers of R, by the name that the settings use."""

import torch


class TangentSGD(torch.optim.Optimizer):
    """Steps along the sphere: R turns and keeps its norm.

    Riemannian gradient descent as in Directional Textual Inversion (arXiv 2512.13672): the gradient's part that is
    tangent to the sphere, divided by a running mean of its own size, so that the learning rate is an angle in units
    of R's norm / norm of a CLIP token.
    """

    RELATIVE = True  # its steps are in units of R's own size, so that the rate needs no other unit
    UNIT, WIDTH = 0.4, 768  # norm of an ordinary CLIP token, for which learning rates are stated, and its numbers

    def __init__(self, params, lr=5e-3, weight_decay=0.0, decay=0.99):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for r in group["params"]:
                if r.grad is None:
                    continue
                norm = r.norm(dim=-1, keepdim=True)
                unit = r / norm
                tangent = r.grad - (r.grad * unit).sum(-1, keepdim=True) * unit
                state = self.state[r]
                if not state:
                    state["step"], state["square"] = torch.zeros(()), torch.zeros_like(norm)
                state["step"] += 1
                state["square"].lerp_(tangent.square().sum(-1, keepdim=True), 1 - group["decay"])
                size = (state["square"] / (1 - group["decay"] ** state["step"])).sqrt().clamp(min=1e-20)
                # AdamW moves each number of a CLIP token by lr: the same share of its norm here, whatever the width.
                turned = unit - group["lr"] * self.WIDTH**0.5 / self.UNIT * tangent / size
                r.copy_(turned / turned.norm(dim=-1, keepdim=True) * norm)


OPTIMIZERS = {"adamw": torch.optim.AdamW, "tangent": TangentSGD}
