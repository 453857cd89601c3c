"""Documents that people write, in YAML or JSON: as trees that know their lines, held to a JSON Schema."""
