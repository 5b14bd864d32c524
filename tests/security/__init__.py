"""Every rule about security is a test; `test_rules.py` says which."""
