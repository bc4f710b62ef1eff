"""A vendor's live feed: from what jobs want to ticks at the door."""
