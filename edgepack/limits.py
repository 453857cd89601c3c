"""How much is read at once, and how much at most: the sizes and limits of contract, packager, converters and agent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes are in bytes, as their names say; the others are counts. ``LIMITS`` has what holds everywhere."""

    # What is read, hashed or sent at once of a file, blob or connection.
    chunk_bytes: int = 1 << 20
    # What a compressor is given at once. It may cut its output by how its input arrives, so this and the length of a
    # gzip member decide the bytes of layers: they never change. Members of 16 MiB would save 0.2 percent.
    compressor_piece_bytes: int = 1 << 20
    gzip_member_bytes: int = 1 << 20

    # Registries are asked to take manifests of 4 MiB (distribution-spec); more is not a manifest.
    manifest_bytes: int = 4 << 20
    # What an interrupted download left is kept for the next try; after this time nobody tries any more.
    partial_seconds: int = 24 * 3600
    # A descriptor's size is an int64; a blob beyond this is a mistake or an attack.
    blob_bytes: int = 1 << 40
    # Two levels exist in the field (an index of images); deeper ones are only made to exhaust a reader.
    index_depth: int = 8
    # The kernel's overlay file system and Docker stop here.
    image_layers: int = 127

    # How deep a file may lie in a layer, a model or a source directory, and how long its path may be. Linux takes paths
    # up to 4096 bytes, and what is unpacked lies below a folder of the engine; Debian's longest has some 250.
    path_depth: int = 256
    path_bytes: int = 3072
    # A header for one name that is larger than this is an attack on memory.
    tar_extension_bytes: int = 1 << 20
    # An image has at most 127 layers and a few documents for each; a tag or platform adds as many again.
    archive_members: int = 100_000
    # What a compressed archive may unpack to: more than any image, less than what a small file of zeros can ask for.
    archive_unpacked_bytes: int = 64 << 30
    # Links to links exist in no archive that we know of; a few are allowed, a circle is not.
    archive_link_hops: int = 8
    # For a layer that does not say how large it is: the heaviest framework wheels stay below.
    layer_unpacked_bytes: int = 16 << 30
    # One call of ``unpack_layer`` when its caller sets no limits.
    unpacked_bytes: int = 32 << 30
    unpacked_entries: int = 500_000

    # A PEM of one Ed25519 key has some 120 bytes; a file beyond this is something else.
    key_file_bytes: int = 16 << 10
    envelope_bytes: int = 16 << 20
    # An SBOM with ten thousand files in it has some 5 MB. How many artifacts of one image a pull takes along.
    attachment_bytes: int = 64 << 20
    referrers: int = 1000
    # What is held in memory while a bundle is verified: its list, each document, and all documents.
    bundle_list_bytes: int = 16 << 20
    bundle_document_bytes: int = 4 << 20
    bundle_head_bytes: int = 32 << 20
    # What an import writes beside blobs: the index and the referrers.
    import_margin_bytes: int = 1 << 20

    # A delta: its description, which is held in memory with so much for each of its segments; what one segment makes;
    # what zstd looks back over, which sets its memory on a device; how much applying may take, all in all, and how much
    # of that a Python takes which has only been started.
    delta_description_bytes: int = 1 << 20
    delta_segment_memory: int = 512
    delta_segment_bytes: int = 4 << 20
    delta_window_bytes: int = 8 << 20
    delta_memory_bytes: int = 64 << 20
    delta_python_bytes: int = 24 << 20

    # A document by which a package in an image says what it is; those of a whole distribution have a few megabytes.
    package_document_bytes: int = 32 << 20

    # A wheel's METADATA: of a longer one only the fields at its head are read; a description follows them.
    metadata_bytes: int = 1 << 20
    # A script that installers write anew; a larger one is a program.
    script_bytes: int = 64 << 10
    # A lock of a user's: one of a few hundred packages has a tenth of this.
    lock_bytes: int = 8 << 20

    # What the snapshot archive answers about one version of a package.
    snapshot_listing_bytes: int = 1 << 20

    # More is not a password; a token of a cloud has a few thousand.
    password_bytes: int = 64 << 10
    # Of a registry: a token, an error, the unread rest of a body for which a connection is kept, manifests remembered.
    token_bytes: int = 1 << 20
    error_bytes: int = 64 << 10
    drained_bytes: int = 64 << 10
    kept_manifest_bytes: int = 8 << 20
    # A listing that goes on for longer is a mistake or an attack.
    listing_pages: int = 1000
    redirects: int = 5

    # A file of example inputs, and the head of a C library in which its version is looked for.
    sample_bytes: int = 1 << 30
    library_bytes: int = 64 << 20

    # Protobuf reads no message of this size or more, so no ONNX file is larger.
    protobuf_bytes: int = 2 << 30
    # What the sandbox of a conversion answers besides the model: its response, manifest, report and golden answers.
    conversion_document_bytes: int = 64 << 20
    # A report as it is stored, with how the sandbox was isolated.
    report_bytes: int = 256 << 20
    # The description in a skops file, in which the version of scikit-learn is looked for.
    skops_schema_bytes: int = 64 << 20

    # A conda or pip file; the longest locks with hashes have half of this.
    environment_file_bytes: int = 4 << 20
    # What a YAML file may hold, aliases counted as often as they are used, and how deep.
    yaml_nodes: int = 20_000
    yaml_depth: int = 32
    yaml_key_chars: int = 1000
    # Files that name each other by -r and -c, and their lines; a line with its hashes, of which large packages have a
    # hundred; a requirement, address, or package of conda's alone: what parsers of other people's are given.
    requirement_files: int = 100
    requirement_lines: int = 10_000
    requirement_line_chars: int = 64 << 10
    requirement_chars: int = 4096
    # Of a file with more violations, the others are counted: it is something else.
    shown_violations: int = 50

    # A source directory above the first is remarked on, above one of the others refused: it is a home folder, or has
    # data and models in it.
    large_source_bytes: int = 100 << 20
    source_bytes: int = 2 << 30
    source_files: int = 50_000

    # How far a serial may be above the last one: enough for a clock's microseconds, and no one document takes all.
    serial_step: int = 1 << 53
    # A desired state for a thousand services is a tenth of this.
    desired_state_bytes: int = 4 << 20
    desired_services: int = 1000
    # What a device reports of why it refused a document: its violations may be many, and hold what was sent.
    reason_chars: int = 2000
    # The file by which a device tells who it is: a key, a name, groups.
    identity_bytes: int = 64 << 10
    # Around a document that comes by a broker, topic and properties; and any other packet, which has some sentences.
    broker_packet_bytes: int = 256 << 10
    # A document that was refused is kept up to this length, to be judged again; a longer one comes again by itself.
    kept_refused_bytes: int = 256 << 10
    # A command to a device has a tenth of this, in its envelope. Its answer may carry lines of a log, and what is said
    # around them.
    command_bytes: int = 16 << 10
    answer_bytes: int = 64 << 10
    answer_margin_bytes: int = 8 << 10
    # A line by which a job of the agent tells one thing.
    job_line_bytes: int = 1 << 20
    # A service's log is set aside at this length; one older log is kept.
    log_bytes: int = 10 << 20
    # What is left of a device's memory to everything else while two versions of a service run.
    switch_reserve_bytes: int = 32 << 20
    log_tail_bytes: int = 1 << 20
    # A secret of a service: a key or a chain of certificates has a hundredth of this.
    secret_bytes: int = 1 << 20
    health_answer_bytes: int = 64 << 10


LIMITS = Limits()


def path_excess(path: str) -> str | None:
    """What is too much about a path in a layer, such as ``is more than 256 folders deep``; else ``None``."""
    if path.count("/") > LIMITS.path_depth:
        return f"is more than {LIMITS.path_depth} folders deep"
    if len(path.encode("utf-8", "surrogateescape")) > LIMITS.path_bytes:
        return f"is a path of more than {LIMITS.path_bytes} bytes"
    return None
