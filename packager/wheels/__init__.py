"""Wheels: resolved for a target by uv, fetched by pip, laid out by installer, trimmed by named rules, made layers."""
