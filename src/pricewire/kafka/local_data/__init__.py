"""The files that the local Kafka needs, and how it is put together from them."""
