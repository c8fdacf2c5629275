"""The HTTP service of one bundle: jobs, dispatch, routes, events, artifacts. Imports engines, packer, graph."""
