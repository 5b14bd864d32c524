"""Where raw messages come from: recording folders, (later) PostgreSQL, generated sessions."""
