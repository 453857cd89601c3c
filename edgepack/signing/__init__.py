"""Signatures: Ed25519 keys, DSSE envelopes, statements on images, and the rules by which an image is trusted."""
