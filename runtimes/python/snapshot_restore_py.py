"""Runtime hooks of SnapStart functions, with the interface of Lambda's library of this name.

Hooks run before the snapshot in the reverse order of their registration, and after every restore in order. Both
functions register `func` with its arguments, and return it, so that they serve as decorators too.
"""

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return _before_snapshot


def get_after_restore():
    return _after_restore
