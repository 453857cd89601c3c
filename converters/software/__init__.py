"""The software that a conversion runs in: installed beside edgepack, or an environment made from a lock."""
