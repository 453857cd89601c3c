"""OCI image layout, distribution client, layers and archives.

Nouns: a *descriptor* names a blob by digest, size and media type; a *manifest* names a configuration and layers; a
*store* is an image layout on disk; a *place* yields or takes blobs. The verb between places is ``copy``.
"""
