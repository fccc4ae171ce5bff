"""Orders of a shop, 300 MB of them in a data frame, made when the function is loaded. See README.md."""

import os

import numpy
import pandas
from snapshot_restore_py import register_before_snapshot

PRODUCTS = 5000
BYTES_PER_ORDER = 24
ORDERS = int(os.environ.get("DATA_MB", "300")) * 1_000_000 // BYTES_PER_ORDER


def load():
    """A data frame sorted by product, and for each product where its orders begin."""
    generator = numpy.random.default_rng(1)
    begins = numpy.sort(generator.integers(0, ORDERS, PRODUCTS + 1))
    begins[0], begins[-1] = 0, ORDERS
    frame = pandas.DataFrame({
        "day": generator.integers(0, 365, ORDERS, dtype=numpy.int32),
        "customer": generator.integers(0, 1_000_000, ORDERS, dtype=numpy.int32),
        "amount": generator.gamma(2.0, 20.0, ORDERS),
        "weight": generator.random(ORDERS),
    })
    return frame, begins


orders, begins = load()


def handler(event, context):
    """What was earned with one product, month by month, and its best customers."""
    product = int(event.get("product", 0)) % PRODUCTS
    mine = orders.iloc[begins[product]:begins[product + 1]]
    months = mine["amount"].groupby(mine["day"] // 31).sum().round(2)
    best = mine.groupby("customer")["amount"].sum().nlargest(3).round(2)
    return {
        "product": product,
        "orders": len(mine),
        "of": len(orders),
        "megabytes": round(orders.memory_usage().sum() / 1e6),
        "months": [float(earned) for earned in months],
        "best": [{"customer": int(customer), "amount": float(amount)} for customer, amount in best.items()],
    }


@register_before_snapshot
def prime():
    """Whatever pandas loads and caches at its first use, each clone has."""
    handler({"product": 0}, None)
