"""The ``edgepack`` command: nouns in ``main``, one module a verb."""
