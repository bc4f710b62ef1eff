"""Bodies of the shapes that each stock vendor answers with; made up, by vendor."""
