"""Speed beside peers and floors, measured side by side in one run."""
