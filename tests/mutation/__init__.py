"""Small wrong changes to the modules that money and promises rest on: do the tests notice?"""
