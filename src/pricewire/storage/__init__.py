"""The database: tables, migrations, what services ask of it; only here a column is named."""
