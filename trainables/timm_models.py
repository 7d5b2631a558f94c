"""Any classifier of timm by its name, "timm/NAME": input size, normalisation and options, from timm and the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.later import Later
from trainables.names import suggestion

if TYPE_CHECKING:
    import timm
    import torch
else:  # only for a name that begins with "timm/", or that nobody knows
    timm, torch = Later("timm"), Later("torch")

PREFIX = "timm/"

# ViT keeps its position embedding at the pretrained size and resamples it in each forward pass, so its weights fit at
# any picture size.
ANY_SIZE = (("dynamic_img_size", True), ("dynamic_img_pad", True))


@cache
def timm_fields(name: str) -> Mapping[str, Any]:
    """The fields of a trainables.backbones.Backbone for "timm/NAME". NAME may have a tag ("resnet18.a1_in1k").

    Raises ValueError, in one line, for a name that timm does not have, and for a model that is not a classifier of
    square RGB pictures.
    """
    cfg = _pretrained_cfg(name)
    heads = [cfg.classifier] if isinstance(cfg.classifier, str) else list(cfg.classifier or [])
    head = os.path.commonprefix(heads)  # noqa: RUF071  of names such as "head" and "head_dist"
    if not head:
        what = f"several classifiers ({', '.join(heads)})" if any(heads) else "no classifier"
        raise ValueError(f"{name} has {what} in timm's pretrained_cfg: expected a model with one")
    channels, height, width = cfg.input_size
    if channels != 3 or height != width:
        raise ValueError(f"{name} takes {channels} channels of {width} x {height} px: expected a model for square RGB")
    library_name = name.removeprefix(PREFIX)
    any_size = cfg.fixed_input_size and _takes(library_name, **dict(ANY_SIZE))
    return {
        "library": "timm",
        "library_name": library_name,
        "px": height,
        "head": head,
        "mean": tuple(cfg.mean),
        "std": tuple(cfg.std),
        "least_px": cfg.min_input_size[1] if cfg.min_input_size else 1,
        "drop_path": _takes(library_name, drop_path_rate=0.1),
        "dropout": float(getattr(build_shapes(library_name), "drop_rate", 0.0)),
        "options": ANY_SIZE if any_size else (),
        "img_size": cfg.fixed_input_size and not any_size and _takes(library_name, img_size=height),
    }


def build_shapes(library_name: str, **options: Any) -> torch.nn.Module:
    """timm's network with shapes only (torch's meta device). The global random generator keeps its state."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return timm.create_model(library_name, **options)


def is_timm_model(library_name: str) -> bool:
    """Whether timm has a network of this name. timm takes seconds to import: only where its sources define the name."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return False
    words = f"def {library_name.partition('.')[0]}("
    sources = Path(spec.origin).parent.glob("models/**/*.py")
    return any(words in source.read_text(encoding="utf-8") for source in sources) and timm.is_model(library_name)


@cache
def refusal(library_name: str, *, px: int, classes: int, img_size: bool, options: tuple[tuple[str, Any], ...]) -> str:
    """Why a network of timm does not take a picture size, found by a forward pass of shapes only; "" where it does."""
    more: dict[str, Any] = {**dict(options), **({"img_size": px} if img_size else {})}
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            network = timm.create_model(library_name, num_classes=classes, **more)
            output = network.eval()(torch.empty(1, 3, px, px))
    except Exception as error:  # whatever the network raises
        return " ".join(str(error).split())[:90] or type(error).__name__
    fits = isinstance(output, torch.Tensor) and output.shape == (1, classes)
    return "" if fits else "its output is not one row of scores"


def _takes(library_name: str, **options: Any) -> bool:
    try:
        build_shapes(library_name, **options)
    except TypeError:  # an unexpected keyword
        return False
    return True


def _pretrained_cfg(name: str) -> timm.models.PretrainedCfg:
    library_name = name.removeprefix(PREFIX)
    architecture, _, tag = library_name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
    elif tag and library_name not in (known := timm.list_models(f"{architecture}.*", pretrained=True)):
        pass
    else:
        found = timm.get_pretrained_cfg(library_name)
        if found is None:
            raise ValueError(
                f"{name} has no pretrained_cfg in timm, which names its classifier: expected a model with one"
            )
        return found
    guess = suggestion(name, [f"{PREFIX}{other}" for other in known])
    raise ValueError(f"unknown backbone {name[:80]!r}: timm {version('timm')} does not have it.{guess}")
