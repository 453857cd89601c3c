"""What is in an image, as an SBOM says it: CycloneDX 1.6."""
