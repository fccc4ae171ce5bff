"""Prints what was promised beside what was measured. usage: goals.py FOLDER, with thaw bench's report of FUNCTION in
FOLDER/FUNCTION.txt; what has no report was not measured, and the table says so."""

import os
import re
import sys

# example, function, thaw until the event is delivered (ms), end to end (ms), cold start / thaw end to end
GOALS = [
    ("python-pets", "pets", 1.5, 3, 100),
    ("node-api", "node-api", 3, 8, 60),
    ("spring-petstore, unprimed", "petstore", 8, 60, 50),
    ("spring-petstore, primed", "petstore-primed", 8, 20, 150),
    ("dotnet-pets", "dotnet-pets", 5, 20, 30),
    ("c-hello", "empty-c", 0.8, 1.5, None),
    ("big-model, 1 GiB", "big-model", 3, 6, None),
    ("big-model, 10 GiB", "big-model-10", 10, 20, None),
]
COLUMN_OF_THAW = 2  # after cold start and first thaw


def read(path):
    """(event, end to end, ratio) of the thaws in a report."""
    with open(path, encoding="utf-8") as file:
        report = file.read()
    event = re.search(r"^event((?: +[\d.-]+)+)$", report, re.M)[1].split()[COLUMN_OF_THAW]
    total = re.search(r"^thaw +\d+ +([\d.]+)", report, re.M)[1]
    cold = re.search(r"^cold start +\d+ +([\d.]+)", report, re.M)[1]
    return float(event), float(total), float(cold) / float(total)


def cell(goal, value, digits, is_met):
    if goal is None:
        return f"- | {value:.{digits}f}"
    text = f"{value:.{digits}f}"
    return f"{goal:g} | " + (text if is_met else f"**{text}**")


def main(folder):
    print("| example | event, promised | measured | end to end, promised | measured | cold / thaw, promised | measured |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for example, function, event_goal, total_goal, ratio_goal in GOALS:
        path = os.path.join(folder, function + ".txt")
        if not os.path.exists(path):
            print(f"| {example} | {event_goal:g} | not measured | {total_goal:g} | | {ratio_goal or '-'} | |")
            continue
        event, total, ratio = read(path)
        print(f"| {example} | {cell(event_goal, event, 1, event <= event_goal)} | "
              f"{cell(total_goal, total, 1, total <= total_goal)} | "
              f"{cell(ratio_goal, ratio, 0, ratio_goal is None or ratio >= ratio_goal)} |")


main(sys.argv[1])
