"""Tests of the honest part."""
