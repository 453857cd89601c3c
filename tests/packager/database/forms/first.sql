BEGIN TRANSACTION;
CREATE TABLE model_names (
	name VARCHAR(255) NOT NULL, 
	last_version INTEGER NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "model_names" VALUES('iris',2);
INSERT INTO "model_names" VALUES('plain',1);
CREATE TABLE models (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	version INTEGER NOT NULL, 
	framework VARCHAR(32) NOT NULL, 
	framework_version VARCHAR(64), 
	created VARCHAR(32) NOT NULL, 
	tags JSON NOT NULL, 
	files JSON NOT NULL, 
	layers JSON NOT NULL, 
	sample JSON, 
	conversion JSON, 
	PRIMARY KEY (id), 
	UNIQUE (name, version)
);
INSERT INTO "models" VALUES(2,'iris',2,'ScikitLearn','1.5.2','2026-11-30T09:15:09Z','{"team": "blue"}','[["iris/columns.bin", 12, "710cbdf730d1902fbab34cbee9f3ad21072828eec4b3b2275ee4e7ad7898f4fe"], ["iris/iris.joblib", 900, "2309ecdd32c45f3b6a744cf99c76d203823a5a80836616b34c828d40bf623655"]]','[{"descriptor": {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:8a6b8735c16c5831f6bc1d00fba4e0059df500c4090cce86cae9ce2d05439da4", "size": 233, "annotations": {"io.edgepack.layer.compressor": "libdeflate by deflate 0.9.0 level 6", "io.edgepack.layer.kind": "model", "io.edgepack.layer.unpacked-size": "6656", "org.opencontainers.image.title": "iris:2"}}, "diff_id": "sha256:56e14da8653a83a175a8f49b9b53e54594d20bc7085cce4cba247211b76c524a", "unpacked_size": 6656}]','{"filename": "rows.json", "blob": {"mediaType": "application/octet-stream", "digest": "sha256:369350026714e7f8b42f5204ee53445100b7056ac35bf0ebe6478f8b665954e7", "size": 15}}','{"key": "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", "layers": [{"descriptor": {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:8a6b8735c16c5831f6bc1d00fba4e0059df500c4090cce86cae9ce2d05439da4", "size": 233, "annotations": {"io.edgepack.layer.compressor": "libdeflate by deflate 0.9.0 level 6", "io.edgepack.layer.kind": "model", "io.edgepack.layer.unpacked-size": "6656", "org.opencontainers.image.title": "iris:2"}}, "diff_id": "sha256:56e14da8653a83a175a8f49b9b53e54594d20bc7085cce4cba247211b76c524a", "unpacked_size": 6656}], "report": {"mediaType": "application/json", "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2}, "file": "model.onnx", "options": {"opset": 18}, "sample": null}');
INSERT INTO "models" VALUES(3,'plain',1,'Custom',NULL,'2026-11-30T09:15:09Z','{}','[["plain.bin", 5, "a116c9ed46d6207734a43317d30fd88f52ac8634c37d904bbf4e41d865f90475"]]','[{"descriptor": {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:7ba7efe926b002590450fa81ea3a994f9ce1dccd5f356e67825dbf49173c45f0", "size": 184, "annotations": {"io.edgepack.layer.compressor": "libdeflate by deflate 0.9.0 level 6", "io.edgepack.layer.kind": "model", "io.edgepack.layer.unpacked-size": "4608", "org.opencontainers.image.title": "plain:1"}}, "diff_id": "sha256:bdfb4887a8e1abf215554f684f89d070644286b2dd409ab00e226c410bdcfa14", "unpacked_size": 4608}]','null',NULL);
COMMIT;
