"""Kafka: client configuration, codec, producer, topic, and the local broker."""
