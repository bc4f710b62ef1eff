"""Pricewire: fetch a price, keep its raw answer, publish an exact event to Kafka."""

__version__ = "0.1.0"
