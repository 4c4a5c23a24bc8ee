"""Made-up run records with chosen numbers."""

import copy
import json

BASE = {
    "schema": 1,
    "command": "train",
    "status": "finished",
    "sample": False,
    "dataset": "toy",
    "tags": [],
    "config_hash": "0123456789abcdef",
    "overrides": ["dataset.raw_dir=/home/me/raw"],
    "dataset_fingerprint": "f" * 64,
    "dataset_manifest": {"rows": {"train": 8, "valid": 1, "test": 1}, "raw": {"path": "/home/me/raw/rows.txt"}},
    "code": {"version": "0.1.0", "git_commit": None, "git_dirty": None},
    "packages": {"torch": "2"},
    "hardware": {"cpu": "some CPU", "threads": 2, "platform": "me"},
    "parameters": {"dense": 1000, "embedding": 2000},
    "time": {"started": "2026-11-20T10:00:00+00:00", "wall_s": 3.0, "fit_s": 2.0},
    "throughput": {"train_samples_per_s": 5000.4, "eval_samples_per_s": 9000.0},
    "memory": {"peak_rss_bytes": 1},
    "best": {"epoch": 1, "monitor": "val/auc", "value": 0.8, "checkpoint": "checkpoints/best.ckpt"},
    "epochs_run": 2,
    "warnings": ["something about /home/me"],
}


def record(model="stem", seed=1, task=None, lr=0.001, auc=(0.7, 0.8), conflict=None, **changes):
    """Return a record; ``auc`` holds the test AUC of finish and like."""
    made = copy.deepcopy(BASE)
    dataset = {
        "name": "toy",
        "tasks": ["finish", "like"],
        "raw_dir": "/home/me/raw",
        "data_dir": "/home/me",
        "seed": seed,
    }
    if conflict is not None:
        dataset["sample"] = {"conflict": conflict}
    made["config"] = {
        "model": {"name": model, "task": task, "net": {"embedding_dim": 4}},
        "dataset": dataset,
        "optim": {"name": "adam", "lr": lr},
        "paths": {"data_dir": "/home/me"},
        "seed": seed,
        "tags": [],
    }
    made |= {"model": model, "seed": seed}
    trained = [task] if task else ["finish", "like"]
    numbers = dict(zip(("finish", "like"), auc, strict=True))
    made["metrics"] = {f"test/auc/{name}": numbers[name] for name in trained}
    made["metrics"] |= {f"test/logloss/{name}": 1 - numbers[name] for name in trained}
    return made | changes


def sequence_record(model="timirec", seed=1, ndcg=0.3, **changes):
    """Return a record of a dataset without tasks; HR@5 is NDCG@5 + 0.1, MRR is undefined."""
    made = record(model, seed)
    del made["config"]["dataset"]["tasks"], made["config"]["model"]["task"]
    made["dataset"] = made["config"]["dataset"]["name"] = "grocery"
    made["metrics"] = {"test/ndcg@5": ndcg, "test/hr@5": ndcg + 0.1, "test/mrr": None, "val/ndcg@5": 0.9}
    return made | changes


def write(folder, *records):
    """Write each record into its own run directory below the folder; return the folder."""
    for i, made in enumerate(records):
        path = folder / f"run{i}" / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(made))
    return folder
