"""The public names of inference-schema 1.8, written for speed: frames and arrays are made directly from parsed JSON.

Schemas are those of the original, except that ours have examples that work when they are posted: booleans are
booleans, moments are ISO 8601, NaN is null, and a null says nothing about a column's type. Values are converted as
by the original, except that

- text is not cut to the length of the sample's text, and a boolean's text must say true or false;
- whole numbers that do not fit their type are refused instead of wrapped, as are rows of unequal length;
- columns that came by name are put in the sample's order;
- a date or a tuple in a standard type can be read at all.

What cannot be converted raises ``errors.InvalidInput``, which is a ValueError.
"""
