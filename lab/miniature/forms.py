"""The families that the miniature is a member of, a row each."""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent
SHARED = _FOLDER / "weights.safetensors"  # SD 1.x whole; its text encoder is that of the other forms too


@dataclass(frozen=True)
class Form:
    """One form of the miniature.

    checkpoint: its file name for the host; weights: the compact files it is assembled from; scale: side of its pictures
    in 64 pixels; channels: of its latents; latent_scale, latent_shift: the family's, for its first stage; text: prefix
    of the text encoder's keys; layers: of the text encoder that are not the identity, and those the host leaves out;
    cfg: guidance that its pictures are drawn with; shown: the relation of its demo.
    """

    checkpoint: str
    weights: tuple[Path, ...]
    scale: int
    channels: int
    latent_scale: float
    latent_shift: float
    text: str
    layers: int
    cfg: float
    shown: str

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        return 64 * self.scale


FORMS = {
    "sd1": Form(
        "reversion-micro.safetensors",
        (SHARED,),
        scale=1,
        channels=4,
        latent_scale=0.18215,
        latent_shift=0.0,
        text="cond_stage_model.transformer.text_model",
        layers=2,
        cfg=2.5,
        shown="descending",
    ),
    "sd3": Form(
        "reversion-micro-sd3.safetensors",
        (SHARED, _FOLDER / "weights_sd3.safetensors"),
        scale=2,
        channels=16,
        latent_scale=1.5305,
        latent_shift=0.0609,
        text="text_encoders.clip_l.transformer.text_model",
        layers=3,
        cfg=2.5,
        shown="above",
    ),
}
