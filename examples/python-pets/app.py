"""A pet shop's search, with an initialisation that one would rather not wait for twice.

At import it makes a catalogue of pets, an index over their names and a database. On a request it only looks things up.
With SnapStart that import happens once, when a version is published; every environment after that is thawed with all
of it in memory.
"""

import array
import collections
import json
import random
import sqlite3
import time
import uuid

started = time.monotonic()

FIRST = "Ada Bella Caspar Daisy Emil Freya Gus Hazel Ivo Juno Kiki Luna Milo Nala Otis Poppy Quinn Rex Suki Tom".split()
SECOND = "of-the-Hill the-Brave Whiskers Longtail the-Quiet Brightpaw Snow von-Bark Pepper the-Second".split()
KINDS = {"dog": 15, "cat": 12, "parrot": 30, "rabbit": 8, "tortoise": 120, "hamster": 3}


def make_catalogue(count):
    chooser = random.Random(2026)  # a generator of its own: the shop's stock is no secret, and the same everywhere
    kinds = list(KINDS)
    pets = []
    for number in range(count):
        kind = chooser.choice(kinds)
        pets.append({
            "id": number,
            "name": f"{chooser.choice(FIRST)} {chooser.choice(SECOND)}",
            "kind": kind,
            "age": chooser.randrange(KINDS[kind]),
            "price": chooser.randrange(1000, 50000) / 100,
        })
    return pets


def make_index(pets):
    """The ids of the pets of each name, cheapest first."""
    index = collections.defaultdict(lambda: array.array("I"))
    for pet in sorted(pets, key=lambda pet: pet["price"]):
        index[pet["name"].lower()].append(pet["id"])
    return dict(index)


def make_database(pets):
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, kind TEXT, price REAL)")
    database.executemany("INSERT INTO pets VALUES (?, ?, ?)", ((p["id"], p["kind"], p["price"]) for p in pets))
    database.execute("CREATE INDEX by_kind ON pets (kind, price)")
    return database


pets = make_catalogue(80_000)
index = make_index(pets)
database = make_database(pets)
initialised_in = time.monotonic() - started
print(f"initialised {len(pets)} pets in {initialised_in:.2f} s")


def search(name):
    """How many pets have that name, and the three cheapest of them."""
    ids = index.get(name.lower(), ())
    return len(ids), [pets[i] for i in ids[:3]]


def cheapest(kind):
    row = database.execute("SELECT id FROM pets WHERE kind = ? ORDER BY price LIMIT 1", (kind,)).fetchone()
    return pets[row[0]] if row else None


def handler(event, context):
    event = event or {}
    answer = {"order": str(uuid.uuid4())}  # unique in every environment, thawed or not
    if "name" in event:
        answer["found"], answer["first"] = search(str(event["name"]))
    if "kind" in event:
        answer["cheapest"] = cheapest(str(event["kind"]))
    return answer


if __name__ == "__main__":
    print(json.dumps(handler({"name": "rex the-brave", "kind": "parrot"}, None), indent=2))
    print(f"{initialised_in:.2f} s")
