"""Sides that run in the peers' own environment; nothing here may import the product."""
