"""What a relation's vectors are like, beside the words of the vocabulary."""

import torch
import torch.nn.functional as F


def nearest(vectors: torch.Tensor, table: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` rows of a table [v, d] that point most like each vector [k, d]: (cosines, numbers), [k, count]."""
    with torch.no_grad():
        unit = F.normalize(vectors.float(), dim=-1).to(table.device)
        # In parts, because the table in float32 would be a copy of it.
        parts = [unit @ F.normalize(part.float(), dim=-1).T for part in table.split(8192)]
        return torch.cat(parts, 1).cpu().topk(count, dim=1)


def plane(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The plane in which words differ most (PCA of normalised rows [n, d], n >= 3): (centre [d], directions [2, d])."""
    unit = F.normalize(rows.float(), dim=-1)
    centre = unit.mean(0)
    return centre, torch.linalg.svd(unit - centre, full_matrices=False)[2][:2]


def on_plane(rows: torch.Tensor, centre: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Places of rows [n, d] on a plane from `plane`: [n, 2]."""
    return (F.normalize(rows.float(), dim=-1) - centre) @ directions.T
