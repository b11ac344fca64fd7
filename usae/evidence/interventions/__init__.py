"""Interventions: reading one model through another, and taking concepts out (stage `interventions`).

What the metrics only observe is put to use here.
"""
