"""The tests; `tests.kafka_tools` and `tests.postgres_tools` start the real servers."""
