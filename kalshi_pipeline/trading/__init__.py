"""What happens when you act: actions, fills, accounts, and the environments over them."""
