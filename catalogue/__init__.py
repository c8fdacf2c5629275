"""The model catalogue: families, variants, files, licences. The ground floor: imports no room."""
