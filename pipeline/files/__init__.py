"""Users' files: names, types, blobs and images. Metadata and quotas are in ``pipeline.store.files``; no HTTP here.

Whoever has bytes to keep (an upload, a replica that made an image) gives them to ``FileStore.put``.
"""
