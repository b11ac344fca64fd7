"""Interventions: reading one model through another, and taking concepts out (stage `interventions`).

The metrics observe which concepts fire. Here codes are set to 0, or decoded into another model, and label scores
are compared before and after.
"""
