"""Fakes and makers shared by tests."""
