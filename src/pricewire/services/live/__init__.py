"""The live streams: what stands on the topics, to whoever reads along."""
