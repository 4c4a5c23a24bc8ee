"""Hints for unknown keys: the same name elsewhere, names of other libraries, misspellings."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from stemlab.errors import nearest

# docs/methods/timirec.md#settings: argument of the released command line -> our keys, the first that exists is named.
_RELEASED_NAMES: dict[str, tuple[str, ...]] = {
    "K": ("model.net.num_interests",),
    "temp": ("model.net.temperature",),
    "n_layers": ("model.net.projection_layers", "model.net.num_layers"),
    "add_pos": ("model.net.position_embedding",),
    "add_trm": ("model.net.transformer",),
    "emb_size": ("model.net.embedding_dim",),
    "attn_size": ("model.net.attention_dim",),
    "stage": ("model.stage",),
    "optimizer": ("optim.name",),
    "epoch": ("trainer.max_epochs",),
    "early_stop": ("callbacks.early_stop.window", "callbacks.early_stop.patience"),
    "num_neg": ("dataset.num_negatives",),
    "test_all": ("dataset.evaluation.candidates",),
    "metric": ("callbacks.checkpoint.monitor",),
    "random_seed": ("seed",),
    "load": ("ckpt_path",),
    "path": ("dataset.raw_dir",),
    # FuxiCTR, RecBole, MTReclib and others: docs/migrating.md
    "learning_rate": ("optim.lr",),
    "weight_decay": ("optim.l2", "model.embedding_regularizer"),
    "epochs": ("trainer.max_epochs",),
    "train_batch_size": ("dataset.batch_size",),
    "early_stop_patience": ("callbacks.early_stop.patience",),
    "stopping_step": ("callbacks.early_stop.patience",),
    "valid_metric": ("callbacks.checkpoint.monitor",),
    "eval_steps": ("trainer.val_check_interval",),
    "max_gradient_norm": ("optim.clip_norm",),
    "reduce_lr_on_plateau": ("optim.plateau.enabled",),
    "min_categr_count": ("dataset.min_count",),
    "share_embedding": ("dataset.shared",),
    "label_col": ("dataset.tasks",),
    "MAX_ITEM_LIST_LENGTH": ("dataset.history_max",),
    "embedding_size": ("model.net.embedding_dim",),
    "embed_dim": ("model.net.embedding_dim",),
    "expert_num": ("model.net.num_experts",),
    "dim": ("model.net.embedding_dim",),
    "gpus": ("trainer.devices",),
}
_WITHOUT_KEY = {
    "regenerate": "a prepared dataset is never stale: it is identified by its raw files and settings; delete its "
    "directory to prepare it again.",
    "gpu": "set trainer=gpu or trainer=cpu.",
    "train": "to test only, run python -m stemlab.evaluate ckpt=<checkpoint>.",
    "buffer": "batches are read from memory-mapped files.",
    "num_workers": "batches are gathered in the training process.",
    "pin_memory": "batches are pinned whenever they are copied to a GPU.",
    "check_epoch": "every epoch is logged.",
    "test_epoch": "the best epoch is tested at the end.",
}
_SHOWN = 3


def key_hint(name: str, siblings: Sequence[str], keys: Sequence[str]) -> str:
    """Return what an unknown key may have meant, as the end of a message; empty if nothing is close.

    Args:
        name: last part of the key.
        siblings: names that are known in its place.
        keys: all full keys of the config.
    """
    same = [key for key in keys if key.rpartition(".")[2] == name]
    counterpart = _counterpart(name, keys)
    # learning_rate means optim.lr, not the more deeply nested model.balancing_options.learning_rate
    if same and not (counterpart and all(key.count(".") > counterpart.count(".") for key in same)):
        return _did_you_mean(same)
    released = released_name_hint(name, keys)
    if released:
        return released
    close = get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return _did_you_mean(close)
    ends = list(dict.fromkeys(key.rpartition(".")[2] for key in keys))
    close = get_close_matches(name, ends, n=1, cutoff=0.7)
    return _did_you_mean([key for key in keys if key.rpartition(".")[2] in close]) if close else ""


def released_name_hint(name: str, keys: Sequence[str]) -> str:
    """Return the counterpart of a setting of another library that is among the keys; empty if none is."""
    found = _counterpart(name, keys)
    if found is not None:
        return f" Its name here is {found!r}."
    return f" There is no such setting: {_WITHOUT_KEY[name]}" if name in _WITHOUT_KEY else ""


def _counterpart(name: str, keys: Sequence[str]) -> str | None:
    """Return the first key that is a counterpart of a setting of another library."""
    return next((key for key in _RELEASED_NAMES.get(name, ()) if key in keys), None)


def sibling_hint(full: str, siblings: Sequence[str]) -> str:
    """Return the hint for an unknown key where only the names in its place are known, those names if none is close."""
    parent, _, name = full.rpartition(".")
    known = [f"{parent}.{sibling}" if parent else sibling for sibling in siblings]
    return (
        released_name_hint(name, known)
        or nearest(name, list(siblings))
        or (f" Known settings: {', '.join(sorted(siblings))}." if siblings else "")
    )


def _did_you_mean(keys: Sequence[str]) -> str:
    *first, last = (repr(key) for key in keys[:_SHOWN])
    return f" Did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
