import os
import sys

import host

at_init = list(host.opened)


def handler(event, context):
    before = len(host.opened)
    if isinstance(event, dict) and "read" in event:
        with open(event["read"], encoding="utf-8") as file:
            file.readline()
    return {
        "greeting": f"{os.environ['GREETING']}, {context.function_name}",
        "wrapper_ran_at": os.environ["STARTED_AT"],
        "utf8_mode": bool(sys.flags.utf8_mode),
        "files_opened_at_init": len(at_init),
        "files_opened_now": host.opened[before:],
    }
