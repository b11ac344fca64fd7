"""Interventions: reading one model through another, taking concepts out, and adding a model to finished concepts.

Stages `interventions` and `onboarding`. What the metrics of `usae.metrics` only observe is put to use here.
"""
