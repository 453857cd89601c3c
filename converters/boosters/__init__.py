"""XGBoost, LightGBM and CatBoost: read from their own files, and their trees taken over as they compare and add."""
