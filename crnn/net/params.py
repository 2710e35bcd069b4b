"""Parameters of a net: rates, and blobs shared by name. Caffe: Net::AppendParam in src/caffe/net.cpp."""

from dataclasses import dataclass

from torch import nn

from crnn.layers import Layer
from crnn.proto import pb


@dataclass
class Param:
    """A blob with its multipliers; where several layers share it, the first of them is its owner."""

    owner: Layer
    index: int
    name: str  # the shared name, or ""
    lr_mult: float | None  # None while no sharer has stated it
    decay_mult: float | None
    uses: int = 1  # layers that share it, each unrolled step of a recurrent layer counted
    statistics: bool = False  # what the layer's own forward moves, as BatchNorm's sums

    @property
    def layer(self) -> str:
        return self.owner.name

    @property
    def parameter(self) -> nn.Parameter:
        return self.owner.blobs.parameter(self.index)


class Sharing:
    """Collects the layers in their order, replaces the blobs of sharers by their owner's."""

    def __init__(self):
        self.params: list[Param] = []
        self.owners: dict[str, Param] = {}

    def add(self, layer: Layer, definition) -> None:
        """Raises ValueError for more `param` entries than blobs, or a sharer that does not fit its owner."""
        specs = list(definition.param)
        if len(specs) > len(layer.blobs):
            raise ValueError(f"has {len(layer.blobs)} blobs, but {len(specs)} param entries")
        specs += [pb.ParamSpec()] * (len(layer.blobs) - len(specs))
        for index, spec in enumerate(specs):
            owner = self.owners.get(spec.name) if spec.name else None
            if owner is not None:
                self.share(layer, index, spec, owner)
                continue
            lr_mult = spec.lr_mult if spec.HasField("lr_mult") else None
            statistics = not layer.blobs[index].requires_grad
            if statistics:
                lr_mult = 0.0  # no solver may touch them
            decay_mult = spec.decay_mult if spec.HasField("decay_mult") else None
            uses = layer.uses(index)
            param = Param(layer, index, spec.name, lr_mult, decay_mult, uses, statistics)
            self.params.append(param)
            if spec.name:
                self.owners[spec.name] = param

    def share(self, layer: Layer, index: int, spec, owner: Param) -> None:
        mine, theirs = tuple(layer.blobs[index].shape), tuple(owner.owner.blobs[owner.index].shape)
        permissive = spec.share_mode == pb.ParamSpec.PERMISSIVE
        count = layer.blobs[index].numel()
        if (count != owner.parameter.numel()) if permissive else (mine != theirs):
            raise ValueError(
                f"blob {index} {list(mine)} cannot share param {spec.name!r} of layer {owner.layer!r}, "
                f"{list(theirs)}"
                + ("" if permissive else " (share_mode: PERMISSIVE needs equal counts only)")
            )
        for field in ("lr_mult", "decay_mult"):
            if not spec.HasField(field):
                continue
            stated, value = getattr(owner, field), getattr(spec, field)
            if stated is not None and stated != value:
                raise ValueError(
                    f"param {spec.name!r} has {field} {value:g} here and {stated:g} in layer {owner.layer!r}"
                )
            setattr(owner, field, value)
        layer.blobs.share(index, owner.parameter)
        owner.uses += layer.uses(index)

    def finish(self) -> list[Param]:
        """All owners; multipliers that nobody stated are 1, and lr_mult 0 stops the gradient."""
        for param in self.params:
            param.lr_mult = 1.0 if param.lr_mult is None else param.lr_mult
            param.decay_mult = 1.0 if param.decay_mult is None else param.decay_mult
            if param.lr_mult == 0:
                param.parameter.requires_grad_(False)
        return self.params
