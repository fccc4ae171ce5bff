#!/usr/bin/env python3
"""What can be frozen, as the engine's tests say it: the table of docs/SNAPSHOT.md is made of the lines

    conformance: AREA | OBJECT | kept, noted or refused | NOTE

in the comment at the head of each test program. Without an argument it says what is wrong (a test without a line, a line
that cannot be understood, a table that is not up to date) and exits 1; with --write it writes the table anew."""
import pathlib
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
DOCUMENT = FOLDER.parents[1] / "docs/SNAPSHOT.md"
BEGIN = "<!-- The table is made by ./run conformance: change the heads of tests/engine/*.c instead. -->"
END = "<!-- The end of the table. -->"
NO_TESTS = {"harness.c", "arena.c", "pages.c", "engine.c", "look.c", "table.py"}
AREAS = ["memory", "shared memory", "threads", "registers", "system calls", "futexes", "signals", "timers and clocks",
         "process", "descriptors", "files", "pipes", "sockets", "other processes", "whole programs"]
STATES = ["kept", "noted", "refused"]
LINE = re.compile(r"^(?: \*|/\*|#)? ?conformance:(.*?)(?:\*/)?$")


def read_lines(path):
    """The (area, object, state, note) of one test, and what is wrong with it."""
    rows, wrong = [], []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        found = LINE.match(text)
        if not found:
            continue
        row = [part.strip() for part in found[1].split("|")]
        if len(row) != 4 or row[0] not in AREAS or not row[1] or row[2] not in STATES:
            wrong.append(f"tests/engine/{path.name}:{number}: not \"AREA | OBJECT | STATE | NOTE\": {text.strip()}")
        elif row[2] != "kept" and not row[3]:
            wrong.append(f"tests/engine/{path.name}:{number}: what is {row[2]} needs a note")
        else:
            rows.append(row)
    if not rows and not wrong:
        wrong.append(f"tests/engine/{path.name}: no line \"conformance: AREA | OBJECT | STATE | NOTE\" at its head")
    return rows, wrong


def read_all():
    rows, wrong = [], []
    tests = [path for path in sorted(FOLDER.iterdir()) if path.suffix in (".c", ".py") and path.name not in NO_TESTS]
    for path in tests:
        found, faults = read_lines(path)
        rows += [row + [path.name] for row in found]
        wrong += faults
    rows.sort(key=lambda row: (AREAS.index(row[0]), STATES.index(row[2]), row[4]))
    return rows, wrong, len(tests)


def make_table(rows, tests):
    counts = {state: sum(row[2] == state for row in rows) for state in STATES}
    out = [f"{len(rows)} objects in {tests} programs: {counts['kept']} kept, {counts['noted']} kept with a note, "
           f"{counts['refused']} refused."]
    for area in AREAS:
        mine = [row for row in rows if row[0] == area]
        if not mine:
            continue
        out += ["", f"### {area[0].upper()}{area[1:]}", "", "| object | | | test |", "| --- | --- | --- | --- |"]
        for _, name, state, note, test in mine:
            mark = {"kept": "kept", "noted": "kept, noted", "refused": "**refused**"}[state]
            out.append(f"| {name} | {mark} | {note} | `{test}` |")
    return "\n".join(out)


def main():
    rows, wrong, tests = read_all()
    text = DOCUMENT.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"docs/SNAPSHOT.md has not got the two lines that the table stands between:\n{BEGIN}\n{END}")
    head, rest = text.split(BEGIN)
    now = f"{head}{BEGIN}\n\n{make_table(rows, tests)}\n\n{END}{rest.split(END)[1]}"
    if sys.argv[1:] == ["--write"] and not wrong:
        DOCUMENT.write_text(now)
    elif text != now:
        wrong.append("docs/SNAPSHOT.md: its table is not what the heads of tests/engine say (./run conformance mends it)")
    if wrong:
        sys.exit("\n".join(wrong))


main()
