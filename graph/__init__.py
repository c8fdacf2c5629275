"""Workflows and prompts: parse, validate, convert, find the interface, bind values. Imports catalogue only (for lint)."""
