"""Settings of MMFI that contradict each other or the released code (docs/methods/mmfi.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stemlab.errors import StemlabError

_RELEASED = {
    "bn_all_rows": (True,),
    "share_gates": (True,),
    "use_pair_out_weight": (True,),
    "activation": ("none",),
    "numeric": ("grouped",),
    "sparse": ("tanh_relu", "softmax_t"),
    "tau_pair": (1.0,),
    "tau_field": (1.0,),
}


def check_mmfi_settings(settings: Mapping[str, object]) -> None:
    """Raise StemlabError if settings contradict each other or the released code; needs no data."""
    if settings["sparse"] == "tanh_relu" and settings["tau_pair"] != 1:
        raise StemlabError(
            f"model.net.tau_pair={settings['tau_pair']} has no effect with model.net.sparse=tanh_relu, "
            "which has no temperature: set model.net.tau_pair=1.0 or model.net.sparse=softmax_t."
        )
    if not settings["published"]:
        return
    half = int(str(settings["num_shared_experts"])) // 2
    for name, allowed in {**_RELEASED, "num_specific_experts": (half,)}.items():
        value = settings[name]
        if value is not None and value not in allowed:
            raise StemlabError(
                f"model.net.published=true, but the released code has {name}={_typed(allowed)}, not "
                f"{_typed((value,))}: set model.net.{name}={_typed(allowed[:1])} or model.net.published=false."
            )


def _typed(values: Sequence[object]) -> str:
    """Return values as they are written on the command line."""
    return " or ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
