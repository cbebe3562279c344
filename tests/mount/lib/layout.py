#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""layout.py DIR TAR...: makes an OCI layout of one image, app; every other layer is compressed. Called by test scripts."""

import gzip, hashlib, json, os, sys

directory, *tars = sys.argv[1:]
media_type = "application/vnd.oci.image."
os.makedirs(directory + "/blobs/sha256", exist_ok=True)

def put(kind, data, **more):
    digest = hashlib.sha256(data).hexdigest()
    with open(directory + "/blobs/sha256/" + digest, "wb") as blob:
        blob.write(data)
    return {"mediaType": media_type + kind, "digest": "sha256:" + digest, "size": len(data), **more}

def document(**members):
    return json.dumps(members).encode()

layers, ids = [], []
for number, name in enumerate(tars):
    with open(name, "rb") as tar:
        data = tar.read()
    ids.append("sha256:" + hashlib.sha256(data).hexdigest())
    if number % 2:
        layers.append(put("layer.v1.tar+gzip", gzip.compress(data, 1)))
    else:
        layers.append(put("layer.v1.tar", data))
rootfs = {"type": "layers", "diff_ids": ids}
config = put("config.v1+json", document(os="linux", architecture="any", rootfs=rootfs))
name = {"org.opencontainers.image.ref.name": "app"}
image = put("manifest.v1+json", document(config=config, layers=layers), annotations=name)
with open(directory + "/index.json", "wb") as index:
    index.write(document(schemaVersion=2, manifests=[image]))
with open(directory + "/oci-layout", "w") as layout:
    layout.write('{"imageLayoutVersion":"1.0.0"}')
