"""Frames of the shapes that vendors' feeds send, beside what is to be heard in them."""
