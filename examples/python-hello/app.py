"""The smallest function in Python: what is measured with it is the interpreter's start, and thaw's own cost."""


def handler(event, context):
    return None
