#!/usr/bin/env python3
"""Runs the examples of docs/python.md on a database.

    python3 scripts/check_python_docs.py docs/python.md results/SWEEP/sweep.db

Where pandas is there, every block runs in turn, those that draw only where matplotlib is there too; each frame that a block makes must
have rows and columns. Without pandas the questions in the blocks are put to sqlite3, and each must be answered with rows. Exit code 1
at the first that fails.
"""

import importlib.util
import re
import sqlite3
import sys


def blocks_of(path):
    with open(path, encoding="utf-8") as file:
        return re.findall(r"^```python\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)


def run_with_pandas(blocks, database):
    drawing = importlib.util.find_spec("matplotlib") is not None
    if drawing:
        import matplotlib

        matplotlib.use("Agg")
    names, ran = {}, 0
    for block in blocks:
        if not drawing and re.search(r"matplotlib|\.plot\(", block):
            continue
        before = dict(names)
        exec(compile(block.replace("results/demo/sweep.db", database), "docs/python.md", "exec"), names)
        for name, value in names.items():
            if before.get(name) is not value and hasattr(value, "columns") and value.shape[0] * value.shape[1] == 0:
                raise SystemExit(f"FAIL: `{name}` is empty after\n{block}")
        ran += 1
    print(f"{ran} of {len(blocks)} examples run{'' if drawing else ' (no matplotlib)'}")


def run_without_pandas(blocks, database):
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    questions = re.findall(r'read_sql\("(?:"")?(.*?)"(?:"")?, db\)', "\n".join(blocks), re.DOTALL)
    for question in questions:
        if not db.execute(question).fetchall():
            raise SystemExit(f"FAIL: no rows from\n{question}")
    print(f"{len(questions)} questions answered (no pandas)")


def main():
    path, database = sys.argv[1:]
    blocks = blocks_of(path)
    (run_with_pandas if importlib.util.find_spec("pandas") else run_without_pandas)(blocks, database)


if __name__ == "__main__":
    main()
