"""All stages one after the other, within one budget; what became of each is on disk the moment it ends."""

import json
import time

from .stage import BEFORE, PASSED, run


class Record:
    """stages.json and stages.txt of a folder: what became of each stage, for whoever reads, and for the next run."""

    def __init__(self, folder, key):
        self.folder, self.path, self.key = folder, folder / "stages.json", key
        try:
            earlier = json.loads(self.path.read_text(encoding="utf-8"))
            rows = {row["name"]: row for row in earlier["stages"]}
            self.earlier = rows if {name: earlier[name] for name in key} == key else {}
        except (OSError, ValueError, KeyError, TypeError):  # none, or one that was cut off while it was written
            self.earlier = {}

    def done(self, stage):
        """Whether it has passed before, for the same key, and what it made is still there."""
        return self.earlier.get(stage.name, {}).get("status") in (PASSED, BEFORE) and stage.made()

    def write(self, stages, **about):
        rows = [stage.record() for stage in stages]
        whole = {**self.key, **about, "stages": rows}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)
        (self.folder / "stages.txt").write_text(summary(stages) + "\n", encoding="utf-8")


def summary(stages):
    width = max(len(stage.name) for stage in stages)
    return "\n".join(f"{stage.name:<{width}}  {stage.took:6.1f} s  {stage.status}" for stage in stages)


def limit_of(stages, i, left):
    """Seconds that stage i may take of those that are left: the stages after it keep their shares."""
    kept = sum(stage.seconds for stage in stages[i + 1 :] if stage.status == "not run")
    share = min(stages[i].seconds, left)
    return max(share, left - kept) if stages[i].grows else share


def shoot(stages, record, deadline, again=False, **about):
    """Runs what has not passed before. Returns None, or the sentence that says what went wrong first."""
    for stage in stages:
        if not again and record.done(stage):
            stage.status, stage.took = BEFORE, record.earlier[stage.name]["seconds"]
    wrong = None
    for i, stage in enumerate(stages):
        left = deadline - time.monotonic()
        limit = limit_of(stages, i, left)
        if stage.status == "not run" and limit < 1:
            stage.status = "not run: no time was left"
        elif stage.status == "not run":
            print(
                f"\n== {i + 1}/{len(stages)} {stage.name}, at most {limit:.0f} s of the {left:.0f} s left", flush=True
            )
            run(stage, record.folder, limit)
            print(f"== {stage.name}: {stage.status}, {stage.took:.0f} s", flush=True)
        if not stage.passed and wrong is None:
            wrong = f"{stage.name} {stage.status}" + (f": {stage.said}" if stage.said else "")
        if stage.needed and not stage.passed:
            for other in stages[i + 1 :]:
                if other.status.startswith("not run"):
                    other.status = f"not run: {stage.name} has not passed"
            wrong += f" ({max(0, deadline - time.monotonic()):.0f} s are left for another try)"
            break
        record.write(stages, **about)
    record.write(stages, **about)
    print(f"\n{summary(stages)}\neverything is in {record.folder}", flush=True)
    return wrong
