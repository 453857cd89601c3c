"""The workspace's database: SQLite beside the store, or a team's PostgreSQL, behind one SQL layer."""
