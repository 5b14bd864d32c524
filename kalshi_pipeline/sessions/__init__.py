"""What people are told of the sessions: lists, reports and roles, in the terminal."""
