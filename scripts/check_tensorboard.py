#!/usr/bin/env python3
"""Reads what `equisweep export tensorboard SWEEP DIR` wrote with TensorBoard's own reader and compares it with the database.

    python scripts/check_tensorboard.py results/SWEEP/sweep.db DIR

For each run: every event (checksums included), its step and wall time, the value of every scalar, bit for bit the float nearest
to the number in the database, and nothing but these; the config and the settings. What must be there is worked out here, from
the tables, by rules of its own. Exit code 1 if anything differs. Needs tensorboard from PyPI; without it this says so and exits 0,
as nothing was found to be wrong.
"""

import argparse
import collections
import csv
import datetime
import json
import math
import os
import sqlite3
import struct
import sys

STEPS = {
    "loss": "train/loss",
    "lr": "train/lr",
    "grad_norm": "train/grad_norm",
    "seconds": "time/seconds",
    "step_seconds": "time/step_seconds",
    "optimizer_seconds": "time/optimizer_seconds",
    "diagnostics_seconds": "time/diagnostics_seconds",
}


def nearest_float(value):
    """The bits of the float nearest to a double; one bit pattern for every NaN."""
    if math.isnan(value):
        return "nan"
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def seconds_since_1970(text):
    try:
        time = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        return float(int(time.timestamp()))
    except ValueError:
        return 0.0


class Run:
    """What the database says of one run: for each tag the (step, value, wall time) that count."""

    def __init__(self, db, run):
        self.db, self.run = db, run
        self.scalars = collections.defaultdict(list)
        attempts = db.execute(
            "SELECT attempt, resume_step, started_at FROM attempts WHERE run = ? ORDER BY attempt", (run,)
        ).fetchall()
        # Step s counts in the newest attempt that resumed before it.
        self.owner = lambda step: max((a for a, resumed, _ in attempts if resumed < step), default=None)
        self.started = {a: seconds_since_1970(at) for a, _, at in attempts}
        self.before = {}  # training time at which an attempt began
        for attempt, resumed, _ in attempts:
            owner = max((a for a, r, _ in attempts if r < resumed and a < attempt), default=None)
            row = db.execute(
                "SELECT seconds FROM steps WHERE run = ? AND attempt = ? AND step = ?", (run, owner, resumed)
            ).fetchone()
            self.before[attempt] = row[0] if row else 0.0
        self.times = {
            (attempt, step): seconds
            for attempt, step, seconds in db.execute("SELECT attempt, step, seconds FROM steps WHERE run = ?", (run,))
        }
        self.read("steps", lambda row, column: STEPS[column])
        self.read("evals", lambda row, column: "eval/" + column, skip={"seconds"}, evaluations=True)
        self.read("logit_stats", lambda row, column: "logits/" + column)
        names = dict(db.execute("SELECT block, name FROM blocks WHERE run = ?", (run,)))
        self.read("block_stats", lambda row, column: f"{column}/{names[row['block']]}")
        self.read("equivariance", lambda row, column: f"equivariance_{column}/{names[row['block']]} {row['group']}")
        self.read("router_stats", lambda row, column: f"router_{column}/layer {row['layer']}")
        self.read("attention_stats", lambda row, column: f"attention_{column}/layer {row['layer']} head {row['head']}")

    def read(self, table, tag, skip=(), evaluations=False):
        reals = [name for _, name, kind, *_ in self.db.execute(f"PRAGMA table_info({table})") if kind == "REAL"]
        rows = [dict(row) for row in self.db.execute(f"SELECT * FROM {table} WHERE run = ? ORDER BY step", (self.run,))]
        if evaluations:  # of each step the newest attempt that has one and had not resumed after it
            attempts = {a: r for a, r in self.db.execute("SELECT attempt, resume_step FROM attempts WHERE run = ?", (self.run,))}
            newest = {}
            for row in rows:
                later = [r for a, r in attempts.items() if a > row["attempt"]]
                if attempts[row["attempt"]] <= row["step"] and all(row["step"] <= r for r in later):
                    if row["attempt"] >= newest.get(row["step"], row)["attempt"]:
                        newest[row["step"]] = row
            rows = [newest[step] for step in sorted(newest)]
        for row in rows:
            if not evaluations and self.owner(row["step"]) != row["attempt"]:
                continue
            start, before = self.started[row["attempt"]], self.before[row["attempt"]]
            seconds = row["seconds"] if table in ("steps", "evals") else self.times.get((row["attempt"], row["step"]))
            wall = start if seconds is None or not math.isfinite(seconds) else start + (seconds - before)
            for k, column in enumerate(reals):
                value = row[column]
                if value is None and row["nonfinite"] >> k & 1:
                    value = math.nan
                if value is not None and column not in skip:
                    self.scalars[tag(row, column)].append((row["step"], nearest_float(value), wall))


def read_events(path, loader):
    """The scalars of a file by tag as Run has them, and the values of plugins by tag."""
    scalars, plugins, events = collections.defaultdict(list), {}, 0
    for event in loader(path).Load():
        events += 1
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars[value.tag].append((event.step, nearest_float(value.simple_value), event.wall_time))
            else:
                plugins[value.tag] = value
    return scalars, plugins, events


def differences(expected, found):
    for tag in sorted(set(expected) | set(found)):
        if tag not in found or tag not in expected:
            yield f"{tag}: {'missing' if tag not in found else 'is not in the database'}"
        elif expected[tag] != found[tag]:
            first = next((i for i, (a, b) in enumerate(zip(expected[tag], found[tag])) if a != b), None)
            yield f"{tag}: {len(expected[tag])} values expected, {len(found[tag])} found, first difference at {first}"


def check_plugins(db, row, plugins, hparams_pb, tensor_util):
    problems = []
    config = json.loads(db.execute("SELECT config FROM runs WHERE run = ?", (row["run"],)).fetchone()[0])
    text = tensor_util.make_ndarray(plugins["config"].tensor).item().decode()
    lines = [line[4:] for line in text.splitlines()]
    shown = "\n".join(lines[lines.index("") + 1 :])
    if json.loads(shown) != config:
        problems.append("config: not the config of the run")
    data = hparams_pb.HParamsPluginData.FromString(
        plugins["_hparams_/session_start_info"].metadata.plugin_data.content
    ).session_start_info.hparams
    if data["stack"].string_value != row["stack"] or data["lr_scale"].number_value != float(row["lr_scale"]):
        problems.append("settings: not those of the run")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database")
    parser.add_argument("folder")
    arguments = parser.parse_args()
    try:
        import tensorboard
        from tensorboard.backend.event_processing import event_accumulator
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
        from tensorboard.plugins.hparams import plugin_data_pb2
        from tensorboard.util import tensor_util
    except ImportError as error:
        print(f"skipped: {error}; pip install tensorboard")
        return 0
    print(f"tensorboard {tensorboard.__version__}")

    db = sqlite3.connect(f"file:{arguments.database}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    with open(os.path.join(arguments.folder, "runs.csv"), newline="", encoding="utf-8") as file:
        runs = list(csv.DictReader(file))
    wanted = {
        row[0]
        for row in db.execute(
            "SELECT DISTINCT r.run FROM runs r JOIN cells c USING (job) JOIN attempts a ON a.run = r.run WHERE c.retired = 0"
        )
    }
    bad = 0
    if wanted != {int(row["run"]) for row in runs}:
        print(f"FAIL: the database has the runs {sorted(wanted)}, the folder {[row['run'] for row in runs]}")
        bad += 1
    values = 0
    for row in runs:
        folder = os.path.join(arguments.folder, row["folder"])
        (name,) = os.listdir(folder)
        expected = Run(db, int(row["run"])).scalars
        found, plugins, events = read_events(os.path.join(folder, name), LegacyEventFileLoader)
        problems = list(differences(expected, found)) + check_plugins(db, row, plugins, plugin_data_pb2, tensor_util)
        accumulator = event_accumulator.EventAccumulator(folder, size_guidance={event_accumulator.SCALARS: 0})
        accumulator.Reload()
        if set(accumulator.Tags()["scalars"]) != set(expected):
            problems.append("TensorBoard lists other tags")
        count = sum(len(v) for v in found.values())
        values += count
        print(f"{row['folder']}: {events} events, {len(found)} tags, {count} values: {'; '.join(problems) or 'ok'}")
        bad += bool(problems)
    print(f"{len(runs)} runs, {values} values: {'FAIL' if bad else 'all as in the database'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
