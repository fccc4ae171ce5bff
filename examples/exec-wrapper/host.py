"""A host of one's own in front of the Python runtime: it keeps a list of the files that are opened, then runs the
runtime's program inside itself. Its arguments are that program's command line."""

import runpy
import sys

opened = []


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.append(arguments[0])


if __name__ == "__main__":
    sys.modules["host"] = sys.modules["__main__"]  # so that the function's "import host" finds this one
    sys.addaudithook(watch)
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
