"""category_encoders and feature_engine: what their fitted steps keep of a data frame's columns."""
