"""The trainings that an analysis asks for."""

from pathlib import Path

from stemlab.analysis.train_missing import plan_trainings
from stemlab.config.compose import compose


def test_names_of_tasks_may_be_any_text(tmp_path: Path) -> None:
    tasks = ["click[1]", "é", "7 days"]
    (tmp_path / "rows.csv").write_text(f"u,{','.join(tasks)}\n" + "1,0,1,0\n" * 5)
    columns = [f"dataset.path={tmp_path / 'rows.csv'}", f"dataset.tasks={tasks}", "dataset.fields=[u]"]
    words = ["analysis=transfer", "dataset=table", *columns, "models=[ple]", f"paths.root_dir={tmp_path}"]
    plan = plan_trainings(compose("analyze", words))
    assert [(name, job["model"].get("task")) for name, _, job in plan] == [
        *((f"single_task_{task}", task) for task in tasks),
        ("ple", None),
    ]
