"""Bundles: manifest, models, environment, archive, restore, export of a service. Imports graph and catalogue."""
