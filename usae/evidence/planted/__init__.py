"""Planted concepts: does the recipe find what is known to be there? (stage `planted`)"""
