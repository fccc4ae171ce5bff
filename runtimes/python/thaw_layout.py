"""Keeps what a version's modules allocate where it was in the version before, though their code has changed a bit.

Versions of a function that are frozen have the same addresses and the same hash seed, so that most of what they make is the
same, byte by byte, and stored once. But reading and compiling a module's source takes memory, more or less of it by the
source's length, and leaves gaps that what the module makes then fills: one line more, and all of it lies elsewhere.

So the code of the function's modules is loaded apart, into a region of its own (thaw_region):

  - Compiling takes memory in the region's second part, which is given back in the end.
  - The code itself lies in the first part, that of each module from the next multiple of 16 KiB on.
  - Constants and names, which data refers to, lie ahead of it, where their contents say: in a table, by their hash. So a constant
    more moves no other one, but for those whose place it takes.
  - The interpreter's free lists are emptied before and after, and when a module has been executed; its collector then counts from
    zero; and the number that every change of a dict draws, and keeps in the dict, is rounded up, also at every new arena of memory,
    as a line more at a module's own level draws one.

What the load left behind elsewhere is then the same, and so is what the module makes. Code that cannot be loaded so is loaded
as ever, which reports what is wrong with it."""

import gc
import marshal
import sys
from _thread import allocate_lock
from _tracemalloc import is_tracing
from importlib._bootstrap_external import SourceFileLoader
from operator import is_not
from types import CodeType

import thaw_region

# From 3.12 on, interned texts live for ever: those of the compiler would stay where it had them, in megabytes.
VERSIONS_KNOWN = ((3, 8), (3, 9), (3, 10), (3, 11))
ALIGN_BYTES = 16384  # of a module's code: what a module grows by shifts the next ones only once in a while
ROOM_BYTES = 1 << 20  # less than that is not begun with
VERSIONS = 4096  # of dicts: far more than a changed line draws
NAMES = 8192  # that come and go before the table of names moves again, or more
HEAD_BYTES = GRAIN_BYTES = 16  # of an allocation in the region
TABLE_GRAINS = 1024  # at least
SHORT_GRAINS = 5  # texts of up to 15 letters, and numbers
CONSTANTS = (str, bytes, int, float, complex)  # exactly these: what marshal makes without anything else
CONSTANT_MAX = 512  # bytes; many objects that refer to one longer are rare

load_plainly = SourceFileLoader.get_code
execute_plainly = SourceFileLoader.exec_module
busy = allocate_lock()
roots = ()
place = scratch = scratch_begin = region_at = region_end = 0  # all but region_at count from there


def start(*folders):
    """From now on, modules below these folders are loaded apart. False when this interpreter cannot do that."""
    global roots, scratch, scratch_begin, region_at, region_end
    if sys.version_info[:2] not in VERSIONS_KNOWN:
        return False
    if is_tracing():
        return False  # when that stops, it puts the allocators back that were there before
    region_at, scratch_begin, region_end = thaw_region.reserve()
    scratch = scratch_begin
    make_room_for_names()
    thaw_region.keep_versions(VERSIONS)
    roots = tuple(folder.rstrip("/") + "/" for folder in folders)
    SourceFileLoader.get_code = get_code
    SourceFileLoader.exec_module = exec_module
    return True


def stop():
    global roots
    if not roots:
        return
    roots = ()
    thaw_region.keep_versions(0)
    thaw_region.drop(round_up(scratch))
    for wrapper in (get_code, exec_module):
        if vars(SourceFileLoader).get(wrapper.__name__) is wrapper:
            delattr(SourceFileLoader, wrapper.__name__)  # it inherits its own


def get_code(self, fullname):
    code = None
    if roots and self.path.startswith(roots) and busy.acquire(False):
        try:
            code = load_apart(self, fullname)
        except Exception:
            pass  # the same is to come again, without this
        finally:
            busy.release()
    return load_plainly(self, fullname) if code is None else code


def exec_module(self, module):
    execute_plainly(self, module)
    if roots and self.path.startswith(roots):
        clear_free_lists()
        thaw_region.align_versions()


# Frames of files of this name are the import system's own, which it leaves out of tracebacks.
for wrapper in (get_code, exec_module):
    wrapper.__code__ = wrapper.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")


def load_apart(loader, fullname):
    """The module's code; None when the region is full. What was begun is not used again by a later load, however this one ends."""
    global place, scratch
    if scratch_begin - place < ROOM_BYTES or region_end - scratch < ROOM_BYTES:
        return None
    begin = place
    if gc.isenabled():
        gc.collect(1)  # what is garbage already leaves its gap now, whenever the collector would have run
    text = plan = placed = table_bytes = compiled = None
    clear_free_lists()
    thaw_region.begin(scratch, scratch)
    try:
        code = load_plainly(loader, fullname)
        plan, table_bytes = plan_table(code)
        if scratch_begin - place - table_bytes < ROOM_BYTES:
            return None
        text = marshal.dumps(code)
        code = None
        clear_free_lists()
        []  # which leaves a list for marshal's use: what it allocates is to be the constant alone
        placed = {form: thaw_region.place(begin + offset, size, marshal.loads, form) for form, offset, size in plan}
        clear_free_lists()
        compiled = thaw_region.end()[1]
        place += table_bytes
        thaw_region.begin(place, compiled)
        code = with_placed(marshal.loads(text), placed)
    finally:
        text = plan = placed = table_bytes = None
        clear_free_lists()
        ends = thaw_region.end()
        place = round_up(max(place, ends[0]))
        compiling, end = scratch, max(scratch, ends[1], compiled or 0)
        scratch = round_up(end)
    thaw_region.tidy(begin, place, True)
    living = thaw_region.tidy(compiling, end, False)
    if living > compiling:
        thaw_region.tidy(compiling, living, True)
    scratch = round_up(living)
    thaw_region.align_versions()
    return code


def round_up(size):
    return (size + ALIGN_BYTES - 1) // ALIGN_BYTES * ALIGN_BYTES


def make_room_for_names():
    """The interpreter's table of interned texts moves when it is full, by as many as have come and gone. Let it move now."""
    global scratch
    thaw_region.begin(scratch, scratch)
    texts = ["thaw %d" % number for number in range(NAMES)]
    end = thaw_region.end()[1]
    for text in texts:
        sys.intern(text)
    text = texts = None
    scratch = round_up(thaw_region.tidy(scratch, end, False))


def clear_free_lists():
    """Only a full collection does that. It is to find nothing else to do: that would take its time at every load."""
    if gc.get_freeze_count() == 0 and not gc.callbacks:
        gc.freeze()
        gc.collect()
        gc.unfreeze()


def form_of(value):
    """A constant as marshal writes it, without the bit that says whether it is referred to again."""
    form = marshal.dumps(value)
    return bytes((form[0] & 0x7F,)) + form[1:]


def find_constants(code, constants, names):
    """Puts the constants in `code`, and in the code within it, into `constants`, by their addresses and in the order in which they come
    there, and global names into `names`. The first constant is its text of documentation, if it has one. (The interpreter caches
    attributes by the addresses of their names.)"""
    for name in code.co_names:
        find_constant(name, names, names)
    for index, value in enumerate(code.co_consts):
        if index > 0 or type(value) is not str:
            find_constant(value, constants, names)


def find_constant(value, found, names):
    """Texts are interned, so that the code as it is then loaded has them from where they are placed."""
    kind = type(value)
    if kind is CodeType:
        find_constants(value, found, names)
    elif kind is tuple:
        for element in value:
            find_constant(element, found, names)
    elif kind in CONSTANTS and id(value) not in found and sys.getsizeof(value) <= CONSTANT_MAX:
        if kind is str:
            value = sys.intern(value)
        if region_at + scratch_begin <= id(value) < region_at + region_end:  # else it was there before
            found[id(value)] = value


def room_of(value):
    """What marshal takes for it. A text of other letters than ASCII is made in a buffer first."""
    size = (HEAD_BYTES + sys.getsizeof(value) + GRAIN_BYTES - 1) // GRAIN_BYTES * GRAIN_BYTES
    return size if type(value) is not str or value.isascii() else 4 * size


def plan_table(code):
    """([(form, offset, bytes)], bytes of the table) for the constants in `code`. It is at most half full. Who comes to a place
    first has it, so a constant more or less can move only those behind it in the order: first texts of one word, to which most data
    refers; then other short texts, numbers, and what is long, such as messages; last the names; of each kind as they come in the
    code, which mostly ends with the handler. What is short begins at multiples of one length, so that none is in the way of two."""
    constants, names = {}, {}
    find_constants(code, constants, names)
    ranks, grains = {}, {}
    for found in constants, names:
        for value in found.values():
            form, count = form_of(value), max(room_of(value) // GRAIN_BYTES, SHORT_GRAINS)
            is_word = type(value) is str and value.isidentifier()
            order = 0 if is_word else 3 if count > SHORT_GRAINS else 1 if type(value) is str else 2
            ranks.setdefault(form, (found is names, order))
            grains[form] = count
    wanted = max(TABLE_GRAINS, 2 * sum(grains.values()))
    slots = 1 << (wanted - 1).bit_length()
    taken = bytearray(slots + slots // 2)
    plan = []
    for form in sorted(ranks, key=ranks.get):
        count = grains[form]
        slot = taken.index(bytes(count), hash(form) % (slots // SHORT_GRAINS) * SHORT_GRAINS)
        taken[slot : slot + count] = b"\1" * count
        plan.append((form, slot * GRAIN_BYTES, count * GRAIN_BYTES))
    return plan, len(taken) * GRAIN_BYTES


def with_placed(value, placed):
    """`value` with those constants that were placed and cannot be interned."""
    kind = type(value)
    if kind is CodeType:
        constants = with_placed(value.co_consts, placed)
        return value if constants is value.co_consts else value.replace(co_consts=constants)
    if kind is tuple:
        elements = [with_placed(element, placed) for element in value]
        return tuple(elements) if any(map(is_not, elements, value)) else value
    if kind in CONSTANTS and kind is not str:
        return placed.get(form_of(value), value)
    return value
