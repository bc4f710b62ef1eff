"""One file a migration, named by its number and what it does."""
